"""Tokens, their lines, and the file that is read again when it changes."""

import os
from pathlib import Path

import pytest

from foretaste.kernel.errors import InvalidInput
from serving.access.token_file import LOOK_EVERY, KnownTokens
from serving.access.tokens import Scope, Token, find_token, new_token, parse_tokens

SHOP, KEPT = new_token("shop", [Scope.WRITE, Scope.RANK])
OTHER, OTHER_KEPT = new_token("other", [Scope.OPERATE])


def test_a_token_has_256_random_bits_and_its_line_none_of_them() -> None:
    again, _ = new_token("shop", [Scope.RANK])
    assert again != SHOP
    assert len(SHOP.removeprefix("ft_shop_")) == 43
    assert SHOP.removeprefix("ft_shop_") not in KEPT.line


def test_a_line_reads_as_the_token_that_it_was_made_of() -> None:
    text = f"# tokens\n\n{KEPT.line}\n  {OTHER_KEPT.line}  \n"
    assert parse_tokens("file", text) == {"shop": KEPT, "other": OTHER_KEPT}
    assert parse_tokens("setting", f"{KEPT.line};{OTHER_KEPT.line}") == {"shop": KEPT, "other": OTHER_KEPT}


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "ft_",
        "ft_shop",
        "ft_shop_",
        SHOP[:-1],
        SHOP + "x",
        SHOP.replace("shop", "other"),
        "shop",
        "ü" * 50,
        "\udc00",
    ],
)
def test_what_is_not_the_token_is_not_found(presented: str) -> None:
    tokens = {"shop": KEPT, "other": OTHER_KEPT}
    assert find_token(tokens, presented) is None
    assert find_token(tokens, SHOP) is KEPT


@pytest.mark.parametrize(
    "line",
    [
        "shop",
        "shop rank",
        f"shop admin sha256:{'a' * 64}",
        f"shop rank, sha256:{'a' * 64}",
        f"shop rank sha256:{'a' * 63}",
        f"shop rank md5:{'a' * 64}",
        f"SHOP rank sha256:{'a' * 64}",
        f"shop rank sha256:{'a' * 64} more",
        SHOP,
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_not_shown(line: str) -> None:
    with pytest.raises(InvalidInput, match="tokens, line 2: expected") as caught:
        parse_tokens("tokens", f"{OTHER_KEPT.line}\n{line}")
    assert SHOP not in str(caught.value)
    assert "a" * 20 not in str(caught.value)


def test_a_name_stands_once() -> None:
    with pytest.raises(InvalidInput, match="line 2: expected each name once"):
        parse_tokens("tokens", f"{KEPT.line}\n{KEPT.line}")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(file: Path, *tokens: Token, at: int) -> None:
    file.write_text("\n".join(token.line for token in tokens))
    os.utime(file, ns=(at, at))


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file, clock = tmp_path / "tokens", Clock()
    write(file, KEPT, at=1)
    known = KnownTokens(file=file, clock=clock)
    write(file, OTHER_KEPT, at=2)
    assert known.find(SHOP) is not None, "it is looked at once a second"
    clock.now += LOOK_EVERY
    assert known.find(SHOP) is None
    assert known.find(OTHER) == OTHER_KEPT


@pytest.mark.parametrize("damage", ["wrong", "gone", "not UTF-8"])
def test_a_file_that_goes_wrong_leaves_what_was_read(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "tokens", Clock()
    write(file, KEPT, at=1)
    known = KnownTokens(file=file, clock=clock)
    match damage:
        case "wrong":
            file.write_text("shop rank")
        case "gone":
            file.unlink()
        case _:
            file.write_bytes(b"\xff")
    clock.now += LOOK_EVERY
    assert known.find(SHOP) == KEPT
    assert "those that were read before hold on" in caplog.text
    write(file, OTHER_KEPT, at=3)
    clock.now += LOOK_EVERY
    assert (known.find(SHOP), known.find(OTHER)) == (None, OTHER_KEPT)


def test_a_setting_and_a_file_hold_together(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    write(file, KEPT, at=1)
    known = KnownTokens(OTHER_KEPT.line, file)
    assert (known.find(SHOP), known.find(OTHER)) == (KEPT, OTHER_KEPT)


@pytest.mark.parametrize("content", ["", "# none\n"])
def test_a_start_without_a_single_token_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(content)
    with pytest.raises(InvalidInput, match="FORETASTE_API_TOKEN_FILE: holds no token"):
        KnownTokens(file=file)
    with pytest.raises(InvalidInput, match="FORETASTE_API_TOKENS: holds no token"):
        KnownTokens(content)


def test_a_start_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        KnownTokens(file=tmp_path / "none")
