"""Files of TLS: what is wrong with one is told with its setting."""

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.running.tls import TlsFiles
from tests.integration.certificates import make_certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    return TlsFiles("redis", made.ca, made.client_cert, made.client_key)


def test_a_context_checks_the_servers_certificate_and_name(files: TlsFiles) -> None:
    context = files.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1, "the given authority alone"


def test_without_files_the_systems_authorities_count() -> None:
    assert TlsFiles("redis").context().verify_mode is ssl.CERT_REQUIRED
    assert TlsFiles("redis").paths() == {}


def test_redis_has_names_of_its_own(files: TlsFiles) -> None:
    assert files.redis_options() == {
        "ssl_ca_certs": str(files.ca),
        "ssl_certfile": str(files.cert),
        "ssl_keyfile": str(files.key),
    }


@pytest.mark.parametrize("missing", ["ca", "cert", "key"])
def test_a_file_that_is_not_there_is_named_with_its_setting(files: TlsFiles, missing: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    with pytest.raises(InvalidInput, match=r"gone\.pem") as caught:
        {
            "ca": replace(files, ca=gone),
            "cert": replace(files, cert=gone),
            "key": replace(files, key=gone),
        }[missing].context()
    assert caught.value.field == ("FORETASTE_REDIS_CA_FILE" if missing == "ca" else "FORETASTE_REDIS_CERT_FILE")


def test_a_file_without_pem_is_refused(files: TlsFiles, tmp_path: Path) -> None:
    (tmp_path / "odd.pem").write_text("no certificate")
    with pytest.raises(InvalidInput, match="FORETASTE_REDIS_CA_FILE: holds no certificates"):
        replace(files, ca=tmp_path / "odd.pem").context()


def test_a_key_without_its_certificate_is_refused(files: TlsFiles) -> None:
    with pytest.raises(InvalidInput, match="needs FORETASTE_REDIS_CERT_FILE"):
        replace(files, cert=None).context()


def test_anothers_key_is_refused(files: TlsFiles, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    with pytest.raises(InvalidInput, match="encrypted or another's"):
        replace(files, key=other.client_key).context()


def test_an_encrypted_key_is_refused_and_not_asked_for_on_the_terminal(files: TlsFiles, tmp_path: Path) -> None:
    assert files.key is not None
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")))
    with pytest.raises(InvalidInput, match="encrypted or another's"):
        replace(files, key=locked).context()
