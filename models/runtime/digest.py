"""A number that tells one vocabulary from another. Copied into Triton's environment: standard library alone."""


def digest_of(sha256: str) -> int:
    """The digest of a vocabulary, by the sha256 of its file in hexadecimal: it travels with each request to a tower."""
    return int(sha256[:14], 16)
