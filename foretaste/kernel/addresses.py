"""Addresses of parts as settings give them: whether they have the right form, and what of them may be shown."""

from urllib.parse import urlsplit

_FORMS = {
    "kafka": "host:port[,host:port]",
    "redis": "redis://[[user]:password@]host[:port][/db], or rediss:// for TLS",
    "triton": "host:port, or in-process",
    "url": "http://host[:port] or https://host[:port]",
}
_SCHEMES = {"redis": ("redis", "rediss"), "url": ("http", "https")}


def wrong_address(name: str, address: str | None) -> str | None:
    """What is wrong with the form of an address; it is not repeated, since it may hold a password."""
    if address is None or (name == "triton" and address == "in-process"):
        return None
    expected = _FORMS[name]
    for each in address.split(",") if name == "kafka" else [address]:
        try:
            parts = urlsplit(each.strip() if "://" in expected else f"//{each.strip()}")
            port, host = parts.port, parts.hostname
        except ValueError:
            return f"expected {expected}, its port a number up to 65535 and its password percent-encoded"
        has_scheme = "://" not in expected or parts.scheme in _SCHEMES[name]
        if not has_scheme or not host or ("://" not in expected and (port is None or "@" in each or parts.path)):
            return f"expected {expected}"
    return None


def without_secrets(address: str) -> str:
    """Without a user's name, a password and a query, whether or not it can be parsed."""
    scheme, mark, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if mark else address
