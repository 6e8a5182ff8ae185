"""Bearer tokens: what one is allowed to do, how it is kept, and how one that is presented is found.

A token is `ft_<name>_<secret>`. Kept is a line, `<name> <scope>[,<scope>] sha256:<of the whole token>`: a secret of 256
random bits needs no slow hash. The name finds the line, the hashes are compared in constant time.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from foretaste.kernel.errors import InvalidInput

_PREFIX = "ft_"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


class Scope(StrEnum):
    """What a token may be good for."""

    RANK = "rank"
    """Rankings, which training learns from."""
    WRITE = "write"
    """Sign-ups and behaviours, and what is stored of a user."""
    OPERATE = "operate"
    """Generations, health of the parts, metrics."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: without its secret."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes
    """sha256 of the whole token."""

    @property
    def line(self) -> str:
        return f"{self.name} {','.join(sorted(self.scopes))} sha256:{self.digest.hex()}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as the service knows."""

    name: str
    scopes: frozenset[Scope]


STRANGER = Caller("stranger", frozenset())
LOCAL = Caller("local", frozenset(Scope))
"""Anybody on this machine, where no tokens are set."""


def new_token(name: str, scopes: Iterable[Scope]) -> tuple[str, Token]:
    """The token to hand out, which nobody can find again, and what is kept of it.

    Raises `InvalidInput` for a name that is none, and without a scope.
    """
    granted = frozenset(scopes)
    if not _NAME.fullmatch(name):
        raise InvalidInput("name", name, "expected at most 32 of a-z, 0-9 and -, and none of - at first")
    if not granted:
        raise InvalidInput("scope", [], f"expected one or more of {', '.join(Scope)}")
    token = f"{_PREFIX}{name}_{secrets.token_urlsafe(32)}"
    return token, Token(name, granted, _digest(token))


def parse_tokens(source: str, text: str) -> dict[str, Token]:
    """Tokens by name, a line each (or apart by `;`); empty lines and those that begin with # are passed over.

    Raises `InvalidInput` naming `source` and the line, without its text: somebody may have put a token there.
    """
    found: dict[str, Token] = {}
    for number, line in enumerate(re.split(r"[\n;]", text), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        token = _parsed(words)
        if token is None:
            problem = "expected `<name> <scope>[,<scope>] sha256:<64 hexadecimal digits>`, as `foretaste token` prints"
            raise InvalidInput(f"{source}, line {number}", f"{len(words)} words", problem)
        if token.name in found:
            raise InvalidInput(f"{source}, line {number}", token.name, "expected each name once")
        found[token.name] = token
    return found


def find_token(tokens: Mapping[str, Token], presented: str) -> Token | None:
    """The token that was presented; None for one that is not known."""
    if not presented.startswith(_PREFIX):
        return None
    known = tokens.get(presented[len(_PREFIX) :].partition("_")[0])
    if known is None or not hmac.compare_digest(known.digest, _digest(presented)):
        return None
    return known


def _parsed(words: list[str]) -> Token | None:
    if len(words) != 3 or not _NAME.fullmatch(words[0]):  # noqa: PLR2004  # name, scopes, hash
        return None
    scopes, hashed = set(words[1].split(",")), _HASH.fullmatch(words[2])
    if hashed is None or not scopes <= set(Scope):
        return None
    return Token(words[0], frozenset(map(Scope, scopes)), bytes.fromhex(hashed[1]))


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="backslashreplace")).digest()
