from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from models.evaluation.curves import by_step, draw_losses, loss_curves

LOSSES = [{"ranking": 0.7, "attributes": 90.0}, {"ranking": 0.6}, {"ranking": 0.5, "attributes": 1.0}]


def test_losses_by_step_have_a_column_each_and_gaps_where_a_step_had_none() -> None:
    names, table = by_step(LOSSES)
    assert names == ["attributes", "ranking"]
    np.testing.assert_array_equal(table, np.array([[90, 0.7], [np.nan, 0.6], [1, 0.5]], np.float32))
    assert by_step([])[1].shape == (0, 0)


def test_a_panel_a_loss_with_its_steps_and_their_means() -> None:
    figure = loss_curves(*by_step(LOSSES))
    attributes, ranking = figure.axes
    assert (attributes.get_title(), ranking.get_title()) == ("L_a", "L_rt")
    each, mean = ranking.lines
    assert each.get_xydata() == pytest.approx(np.array([[1, 0.7], [2, 0.6], [3, 0.5]]))
    assert mean.get_ydata() == pytest.approx([0.65, 0.6, 0.55])
    assert attributes.lines[0].get_xdata().tolist() == [1, 3], "a gap is no step"
    assert (attributes.get_yscale(), ranking.get_yscale()) == ("log", "linear")


def test_the_same_losses_are_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        draw_losses(LOSSES, tmp_path / f"{name}.svg")
    assert ElementTree.parse(tmp_path / "one.svg").getroot().tag.endswith("svg")  # noqa: S314  # our own
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    draw_losses([], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
