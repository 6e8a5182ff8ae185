"""Who may do what, by the settings."""

from pathlib import Path

import pytest

from foretaste import compose
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings
from serving.access.tokens import Scope, new_token

TOKEN, KEPT = new_token("shop", [Scope.RANK])


def settings(**given: object) -> Settings:
    return Settings.model_validate(given)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_without_tokens_it_is_for_loopback_and_its_names(host: str) -> None:
    policy = compose.access_policy(settings(api_host=host))
    assert policy.find_token is None
    assert {"localhost", "127.0.0.1", "[::1]", host} == policy.hosts


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "shop.example", "localhost.example"])  # noqa: S104
def test_without_tokens_another_address_is_refused_by_the_names_of_the_settings(host: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"FORETASTE_API_HOST: without tokens .* FORETASTE_API_TOKENS or FORETASTE_API_TOKEN_FILE"
    ):
        compose.access_policy(settings(api_host=host))


def test_an_empty_address_is_the_default_one() -> None:
    assert compose.access_policy(settings(api_host="")).hosts == {"localhost", "127.0.0.1", "[::1]"}


def test_with_tokens_it_answers_to_any_name_that_is_not_narrowed(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(KEPT.line)
    for given in ({"api_tokens": KEPT.line}, {"api_token_file": file}):
        policy = compose.access_policy(settings(api_host="0.0.0.0", **given))  # noqa: S104
        assert policy.find_token is not None
        assert policy.find_token(TOKEN) == KEPT
        assert (policy.hosts, policy.requests_per_second) == (frozenset(), 2000.0)


def test_names_may_be_set(tmp_path: Path) -> None:
    policy = compose.access_policy(settings(api_allowed_hosts="Shop.example, localhost,", api_rate=None))
    assert policy.hosts == {"shop.example", "localhost", "127.0.0.1", "[::1]"}
    assert policy.requests_per_second is None


def test_tokens_are_no_part_of_what_is_shown() -> None:
    shown = Settings.model_validate({"api_tokens": KEPT.line, "api_log_key": "secret", "token": TOKEN})
    assert KEPT.digest.hex() not in repr(shown)
    assert TOKEN not in repr(shown)
