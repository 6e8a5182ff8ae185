"""When the next run is due."""

from datetime import UTC, datetime, timedelta

import pytest

from foretaste.kernel.errors import InvalidInput
from models.refresh.schedule import Cron, Every

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21600), (" 1d ", 86400)])
def test_every_so_often_counts_from_the_beginning_of_the_last_run(text: str, seconds: int) -> None:
    begun, now = MIDNIGHT, MIDNIGHT + timedelta(seconds=10)
    assert Every.parse(text).after(begun, now) == MIDNIGHT + timedelta(seconds=seconds)


def test_a_run_that_took_longer_is_followed_at_once() -> None:
    now = MIDNIGHT + timedelta(hours=7)
    assert Every.parse("6h").after(MIDNIGHT, now) == now


@pytest.mark.parametrize("text", ["", "6", "h", "0h", "-1h", "6 hours", "1.5h"])
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="every: expected a number of s, m, h or d"):
        Every.parse(text)


def test_cron_names_the_next_minute_that_fits_and_skips_what_was_missed() -> None:
    at_six = Cron.parse("0 */6 * * *")
    assert at_six.after(MIDNIGHT, MIDNIGHT + timedelta(minutes=5)) == MIDNIGHT + timedelta(hours=6)
    assert at_six.after(MIDNIGHT, MIDNIGHT + timedelta(hours=13)) == MIDNIGHT + timedelta(hours=18)


@pytest.mark.parametrize("text", ["", "every day", "61 * * * *"])
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cron: expected a cron expression"):
        Cron.parse(text)
