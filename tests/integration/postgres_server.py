"""A real PostgreSQL for tests, of the distribution's package: a child on a loopback port, of a user without rights."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

USER = "nobody"
"""Who runs the server where the tests run as root, which it refuses."""


@dataclass
class Postgres:
    """A server that trusts who comes over the loopback."""

    folder: Path
    binaries: Path
    port: int
    user: str
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once the server answers."""
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self.binaries / "postgres",
                    *("-D", self.folder / "data", "-p", str(self.port), "-k", self.folder),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                ],
                stdout=log,
                stderr=log,
                user=self.user if os.getuid() == 0 else None,
                cwd=self.folder,
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no PostgreSQL: {(self.folder / 'postgres.log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """At once: whoever is connected is cut off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(20)
            self._process = None

    def _answers(self) -> bool:
        try:
            psycopg.connect(host="127.0.0.1", port=self.port, user=self.user, dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True


def not_installed() -> str | None:
    """Why there is no PostgreSQL to start; None where there is."""
    return None if _binaries() else "the package postgresql is not installed"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server with an empty database of its own, both gone afterwards."""
    binaries = _binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = USER if os.getuid() == 0 else Path.home().name
    try:
        if os.getuid() == 0:
            shutil.chown(folder, USER)
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", user, "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
            user=user if os.getuid() == 0 else None,
            cwd=folder,
        )
        server = Postgres(folder, binaries, _free_port(), user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path | None:
    """The folder of the newest version: Debian keeps `initdb` out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
