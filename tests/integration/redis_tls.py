"""A Redis that speaks TLS alone and asks clients for a certificate: an installed one, since the wheel has no TLS."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from foretaste.stack.processes import free_ports, spawn
from tests.integration.certificates import Certificates


@dataclass(frozen=True)
class RedisTls:
    """A running server: its port, and the password of its default user."""

    port: int
    password: str
    certificates: Certificates

    def client(self) -> redis.Redis:
        """An administrator's."""
        files = self.certificates
        return redis.Redis(
            port=self.port,
            password=self.password,
            ssl=True,
            ssl_ca_certs=str(files.ca),
            ssl_certfile=str(files.client_cert),
            ssl_keyfile=str(files.client_key),
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )


def not_installed() -> str | None:
    """Why there is none here; None where there is one."""
    binary = _binary()
    if binary is None:
        return "no redis-server is installed"
    linked = subprocess.run(["ldd", binary], capture_output=True, check=False).stdout  # noqa: S607
    return None if b"libssl" in linked else "redis-server is built without TLS"


@contextmanager
def redis_over_tls(folder: Path, certificates: Certificates, password: str) -> Iterator[RedisTls]:
    """A running one, its files in `folder`."""
    (port,) = free_ports(1)
    settings = {
        "bind": "127.0.0.1",
        "port": 0,
        "tls-port": port,
        "tls-cert-file": certificates.server_cert,
        "tls-key-file": certificates.server_key,
        "tls-ca-cert-file": certificates.ca,
        "tls-auth-clients": "yes",
        "requirepass": password,
        "save": '""',
        "dir": folder,
    }
    written, named = folder / "redis.conf", folder / "redis-server"
    written.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    named.symlink_to(str(_binary()))
    with (folder / "redis.log").open("wb") as log:
        child = spawn([str(named), str(written)], env={}, cwd=folder, output=log)
    try:
        server = RedisTls(port, password, certificates)
        _until_it_answers(server)
        yield server
    finally:
        child.stop()
        child.wait(5)


def _binary() -> str | None:
    """Debian's `redis-tools` bring the server too: it is one program, and does what its name says."""
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


def _until_it_answers(server: RedisTls) -> None:
    deadline = time.monotonic() + 10
    with server.client() as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return
