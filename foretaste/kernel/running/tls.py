"""What a client brings to TLS: files in PEM, read once and refused in one line."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretaste.kernel.errors import InvalidInput

CLOSED = "so a server ends it that misses a client certificate"
"""What may be meant when a connection over TLS is closed at its beginning: TLS 1.3 refuses no sooner."""
_REDIS_OPTIONS = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of one client's TLS to `part` (kafka, redis, triton), which names the settings in errors.

    `ca`: authorities to trust, the system's where absent. `cert` and `key`: this client's certificate and its private
    key, where the server asks for one; a key in the certificate's file needs no `key`.
    """

    part: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A context that checks the server's certificate and name.

        Raises `InvalidInput` naming the setting where a file cannot be read, holds no PEM, or a key is encrypted or
        another certificate's.
        """
        if self.key is not None and self.cert is None:
            raise InvalidInput(self._setting("key"), str(self.key), f"needs {self._setting('cert')}, its certificate")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # an `SSLError` is one
            problem = f"holds no certificates in PEM that can be read ({error.strerror})"
            raise InvalidInput(self._setting("ca"), str(self.ca), problem) from error
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key, password=_no_password)
            except (OSError, ValueError) as error:
                key = f"the private key in {self.key}" if self.key else "the private key in it"
                problem = f"holds no certificate in PEM that can be read, or {key} is encrypted or another's"
                raise InvalidInput(self._setting("cert"), str(self.cert), problem) from error
        return context

    def paths(self) -> dict[str, str]:
        """The files that are given, by `ca`, `cert` and `key`."""
        found = {"ca": self.ca, "cert": self.cert, "key": self.key}
        return {name: str(path) for name, path in found.items() if path is not None}

    def redis_options(self) -> dict[str, Any]:
        """The files that are given, by redis-py's names."""
        return {_REDIS_OPTIONS[name]: path for name, path in self.paths().items()}

    def _setting(self, name: str) -> str:
        return f"FORETASTE_{self.part.upper()}_{name.upper()}_FILE"


def _no_password() -> str:
    """Of a private key: else OpenSSL would ask for it on the terminal, and wait."""
    raise ValueError("the private key is encrypted")
