"""What `foretaste cotrain` refuses before anything runs."""

import pytest
from typer.testing import CliRunner

from foretaste.cli.main import app
from foretaste.kernel.errors import InvalidInput


@pytest.mark.parametrize("days", ["0", "-1"])
def test_a_window_without_days_is_refused(days: str) -> None:
    with pytest.raises(InvalidInput, match="days: must be above 0"):
        CliRunner().invoke(app, ["cotrain", "--once", "--days", days], catch_exceptions=False)
