"""Certificates of a private authority, of servers on this machine and of a client, as files."""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key


@dataclass(frozen=True)
class Certificates:
    """PEM files; `another_ca` is an authority that signed none of them."""

    ca: Path
    server_cert: Path
    server_key: Path
    server_both: Path
    client_cert: Path
    client_key: Path
    another_ca: Path


def make_certificates(folder: Path) -> Certificates:
    """A new authority and what it signed, in `folder`. Keys are PKCS #8, which Java reads too."""
    authority = trustme.CA()
    made = Certificates(**{name: folder / f"{name}.pem" for name in Certificates.__dataclass_fields__})
    authority.cert_pem.write_to_path(made.ca)
    trustme.CA().cert_pem.write_to_path(made.another_ca)
    server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("foretaste.client")
    for leaf, cert, key in ((server, made.server_cert, made.server_key), (client, made.client_cert, made.client_key)):
        leaf.cert_chain_pems[0].write_to_path(cert)
        private = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made.server_both.write_bytes(made.server_key.read_bytes() + made.server_cert.read_bytes())
    return made
