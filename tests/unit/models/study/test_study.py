import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from foretaste.kernel.errors import ForetasteError, InvalidInput
from models.rivals import methods
from models.rivals.methods import Material
from models.rivals.towers import Alike
from models.study import rows
from models.study.figures import draw
from models.study.fold import BY_STEPS, MAKES_NEW, OF_USERS, Fold
from models.study.page import file_name, page
from models.study.protocols import SEEN
from models.study.rows import ResultRow
from models.study.study import Result, Study, evaluate
from models.study.tuning import Trial, Tuned, write_tuned
from tests.study_parts import BACKWARDS, NOISY, POPULAR, Popular, fold
from tests.towers_factory import dataset

KEYS = {"protocol", "tower", "group", "metric", "value", "low", "high"}
PAIR = {"against", "relative", "relative_low", "relative_high"}


def _study(*towers: Any, **changes: Any) -> Study:
    return replace(Study(towers or (NOISY, POPULAR, BACKWARDS), seeds=(0, 1), resamples=50, against=()), **changes)


def _evaluated(home: Any, study: Any, **options: Any) -> Result:
    return evaluate(dataset()[0], study, home, home / "tuned.json", **options)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return _evaluated(tmp_path_factory.mktemp("home"), _study())


def test_every_tower_has_its_figures_and_the_first_is_held_against_each_other(result: Result) -> None:
    figures = [row for row in result.rows if row.against is None]
    groups = {("hidden", "new"), ("hidden", "warm"), ("random_40", "new"), ("random_40", "warm")}
    groups |= {(protocol, seen) for protocol in BY_STEPS for seen in SEEN}
    assert {(row.protocol, row.group) for row in figures} == groups
    assert len(figures) == len(groups) * 3 * 3
    pairs = {(row.tower, row.against) for row in result.rows if row.against is not None}
    assert pairs == {(NOISY, POPULAR), (NOISY, BACKWARDS)}
    assert all(row.low <= row.value <= row.high for row in figures)


def test_a_pair_is_the_relative_improvement_of_its_two_figures(result: Result) -> None:
    value = {(row.protocol, row.tower, row.group, row.metric): row.value for row in result.rows if row.against is None}
    for row in result.rows:
        if row.against is not None:
            base = value[row.protocol, row.against, row.group, row.metric]
            assert row.relative == pytest.approx((row.value - base) / base)
            assert row.relative_low <= row.relative_high


def test_users_are_made_new_where_none_are_by_themselves(tmp_path: Path) -> None:
    known = set(fold().split.train["user_id"])
    frame = fold().dataset.interactions
    nobody_new = _with(fold(), frame[frame["user_id"].isin(known)])
    of = Fold.of(nobody_new)
    assert Study((POPULAR,)).asked_of(fold()) == OF_USERS
    assert Study((POPULAR,)).asked_of(of) == MAKES_NEW
    assert Study((POPULAR,), protocols=("hidden",)).asked_of(of) == ("hidden",)
    found = evaluate(nobody_new, _study(POPULAR, protocols=None), tmp_path, tmp_path / "tuned.json")
    assert {row.protocol for row in found.rows} == set(MAKES_NEW)
    assert [file for file, _ in draw(found, tmp_path / "figures")] == ["gauc-by-seen-synthetic.svg"]


def test_figures_without_repeats_stand_beside_the_others(tmp_path: Path) -> None:
    frame = fold().dataset.interactions
    own = frame.groupby("user_id", observed=True)["item_id"].transform("first")
    repeated = _with(fold(), frame.assign(item_id=frame["item_id"].where(np.arange(len(frame)) % 3 > 0, own)))
    study = _study(POPULAR, BACKWARDS, protocols=("hidden",))
    found = evaluate(repeated, study, tmp_path, tmp_path / "tuned.json")
    of = {(row.metric, row.group, row.tower): row.value for row in found.rows if row.against is None}
    assert of["gauc", "new", POPULAR] != of["gauc_without_repeats", "new", POPULAR]
    assert of["ndcg@10", "new", POPULAR] != of["ndcg@10_without_repeats", "new", POPULAR]
    text = page(found, "so")
    assert "### GAUC without what a user had acted on before\n" in text
    assert f"### GAUC without what a user had acted on before, against {BACKWARDS}, %" in text


def test_what_can_rank_comes_out_above_its_opposite(result: Result) -> None:
    found = {
        row.tower: row
        for row in result.rows
        if (row.protocol, row.metric, row.group) == ("hidden", "gauc", "new") and row.against is None
    }
    assert found[POPULAR].value + found[BACKWARDS].value == pytest.approx(1, abs=0.02)  # the same order, backwards
    assert found[POPULAR].low != found[POPULAR].high


def test_rows_are_written_as_one_json_list_with_null_for_nan(result: Result, tmp_path: Path) -> None:
    empty = ResultRow("hidden", "a", "new", "auc", math.nan, math.nan, math.nan)
    path = tmp_path / "deep" / "towers.json"
    rows.write([*result.rows, empty], path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [row for row in found[:-1] if "against" not in row] == [
        row.to_dict() for row in result.rows if row.against is None
    ]
    assert all(set(row) == (KEYS | PAIR if "against" in row else KEYS) for row in found)
    assert found[-1] == {"protocol": "hidden", "tower": "a", "group": "new", "metric": "auc"} | dict.fromkeys(
        ("value", "low", "high")
    )


def test_the_same_study_gives_the_same_rows(result: Result, tmp_path: Path) -> None:
    assert _evaluated(tmp_path, _study()).rows == result.rows


def test_an_interrupted_study_goes_on_and_another_tower_trains_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"one": Popular(), "two": Popular(2.0), "three": Popular(3.0)}
    monkeypatch.setattr("models.study.study.by_name", lambda name, _: made[name])
    monkeypatch.setattr("models.study.tuning.by_name", made.get)
    material = type(fold()).material

    def until_the_third(self: Any, protocol: Any, seed: Any, *rest: Any) -> Material:
        if len(made["one"].fits) + len(made["two"].fits) == 5:
            raise KeyboardInterrupt
        return material(self, protocol, seed, *rest)

    with monkeypatch.context() as patched:
        patched.setattr("models.study.fold.Fold.material", until_the_third)
        with pytest.raises(KeyboardInterrupt):
            _evaluated(tmp_path, _study("one", "two"))
    assert (len(made["one"].fits), len(made["two"].fits)) == (4, 1), "two seeds under two kinds of material each"
    _evaluated(tmp_path, _study("one", "two"))
    assert (len(made["one"].fits), len(made["two"].fits)) == (4, 4)
    resumed = _evaluated(tmp_path, _study("one", "two", "three"))
    assert [len(one.fits) for one in made.values()] == [4, 4, 4]
    assert _evaluated(tmp_path / "fresh", _study("one", "two", "three")).rows == resumed.rows
    fits = len(made["one"].fits)
    _evaluated(tmp_path, _study("one"), fresh=True)
    assert len(made["one"].fits) == fits + 4


def test_other_settings_under_the_same_name_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (Popular(), Popular(2.0)):
        monkeypatch.setattr("models.study.study.by_name", lambda *_, method=method: method)
        monkeypatch.setattr("models.study.tuning.by_name", lambda _, method=method: method)
        _evaluated(tmp_path, _study("one", protocols=("hidden",)))
        assert method.fits == [0, 1]


@pytest.mark.parametrize("alike", [None, Alike(epochs=1, batch=64, rate=0.01, dropout=0.1)])
def test_a_study_takes_the_settings_that_tuning_chose(tmp_path: Path, alike: Alike | None) -> None:
    """Of what is no tower also where the towers are trained alike."""
    trials = tuple(
        Trial(repr(method), 0.5 + 0.1 * (place == 2), 0.5, 0.5) for place, method in enumerate(Popular().trials())
    )
    write_tuned({POPULAR: Tuned(trials)}, fold(), tmp_path / "tuned.json")
    found = _evaluated(tmp_path, _study(POPULAR, BACKWARDS, protocols=("hidden",), alike=alike))
    assert [(one.trial, one.method.power) for one in found.contenders] == [(2, -1.0), (None, -1.0)]
    by_tower = {row.tower: row.value for row in found.rows if row.against is None}
    assert by_tower[POPULAR] == by_tower[BACKWARDS]
    assert "3 of 5" in page(found, "made so")
    assert "not tuned" in page(found, "made so")


def test_the_page_says_how_it_was_made_and_shows_every_tower_and_group(result: Result) -> None:
    text = page(result, "foretaste evaluate --so", [("a.svg", "What it shows")])
    assert "    foretaste evaluate --so\n" in text
    assert "![What it shows](a.svg)" in text
    for row in result.rows:
        assert f"| {row.tower} |" in text
        shown = f"{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"
        assert row.against is not None or shown in text
    for seen in SEEN:
        assert f" {seen} |" in text
    assert "seeds 0, 1" in text
    whole, left = (len(fold().under(name).split.train) for name in ("hidden", "random_40"))
    assert f"Training: {whole:,} interactions" in text
    assert f"{left:,} of them where users are made new" in text


def test_figures_without_a_value_read_nan(result: Result) -> None:
    hollow = [replace(row, value=math.nan, relative=math.nan) for row in result.rows]
    assert "| nan |" in page(replace(result, rows=hollow), "so")


def test_progress_tells_of_every_fit(tmp_path: Path) -> None:
    heard: list[Any] = []
    study = _study(POPULAR, protocols=("hidden",))
    _evaluated(tmp_path, study, report=lambda *step: heard.append(step))
    how_long = "2 fits, 0 of them kept from before: about 1 s, and what 2 without steps of training take"
    fits = [(POPULAR, 100, 200), (POPULAR, 200, 200)]
    assert heard == [("questions", 0, 1), ("questions", 1, 1), (how_long, 0, None), *fits]
    heard.clear()
    _evaluated(tmp_path, study, report=lambda *step: heard.append(step))
    assert heard[2:] == [("2 fits, 2 of them kept from before: about 1 s", 0, None), *fits]


def test_a_method_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Popular):
        def fit(self, material: Any) -> Any:
            raise ForetasteError("it diverged")

    monkeypatch.setattr("models.study.tuning.by_name", lambda _: Failing())
    with pytest.raises(ForetasteError, match="popular, seed 0: it diverged"):
        _evaluated(tmp_path, _study(POPULAR))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"towers": ()}, "^towers: names none"),
        ({"towers": ("dmn",)}, r"^towers: expected one of .*dnn, .*\(got 'dmn'\)"),
        ({"towers": ("models.nowhere:dnn",)}, "^towers: cannot be imported"),
        ({"towers": ("models.rivals.towers:dmn",)}, "^towers: cannot be imported"),
        ({"towers": (POPULAR, POPULAR)}, "^towers: names one twice"),
        ({"seeds": ()}, "^seeds: names none"),
        ({"seeds": (1, -1)}, "^seeds: must not be negative"),
        ({"protocols": ()}, "^protocols: names none"),
        ({"protocols": ("seen",)}, r"^protocols\.0: Input should be .*hidden.*seen"),
        ({"jobs": 0}, "^jobs: "),
        ({"resamples": 0}, "^resamples: "),
    ],
)
def test_a_study_that_cannot_be_is_refused_by_field(changes: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Study(**({"towers": (POPULAR,)} | changes))


@pytest.mark.parametrize("side", ["before", "after"])
def test_data_of_one_class_are_refused(side: str, tmp_path: Path) -> None:
    data = fold(labels=True).dataset
    frame = data.interactions
    early = frame["time_ms"] < fold(labels=True).split.instant_ms
    of_side = early if side == "before" else ~early
    only = _with(fold(labels=True), frame[~of_side | (frame["label"] == 1)])
    with pytest.raises(InvalidInput, match=f"'acted'.*both kinds {side}"):
        evaluate(only, _study(POPULAR), tmp_path, tmp_path / "tuned.json")


def _with(of: Any, frame: Any) -> Any:
    """The data of a fold with other interactions, split at the same instant."""
    instant = datetime.fromtimestamp(of.split.instant_ms / 1000, UTC)
    description = of.dataset.description.model_copy(update={"split": instant})
    return replace(of.dataset, description=description, interactions=frame.reset_index(drop=True))


def test_a_catalogue_of_one_item_is_refused(tmp_path: Path) -> None:
    data = fold().dataset
    frame = data.interactions[data.interactions["item_id"] == data.interactions["item_id"].iloc[0]]
    with pytest.raises(InvalidInput, match="interactions: need two items"):
        evaluate(replace(data, interactions=frame), _study(POPULAR), tmp_path, tmp_path / "tuned.json")


def test_groups_of_nobody_are_nan(tmp_path: Path) -> None:
    frame = fold().dataset.interactions
    only = _with(fold(), frame[frame["user_id"].isin(fold().split.train["user_id"].unique())])
    study = _study(POPULAR, protocols=("hidden", "first_steps"))
    found = evaluate(only, study, tmp_path, tmp_path / "tuned.json")
    new = [row for row in found.rows if row.group in {"0", "1-2"} or (row.protocol, row.group) == ("hidden", "new")]
    assert new
    assert all(math.isnan(row.value) and row.to_dict()["high"] is None for row in new)
    assert "| nan |" in page(found, "so")


def test_every_registered_name_is_unlike_the_others() -> None:
    assert len(set(methods.FACTORIES.values())) == len(methods.FACTORIES)


@pytest.mark.parametrize(("name", "file"), [("ml-1m", "ml-1m"), ("../a b", "a-b"), ("«»", "data")])
def test_names_of_data_become_names_of_files(name: str, file: str) -> None:
    assert file_name(name) == file


def test_the_gauc_by_seen_is_drawn_whatever_the_towers(result: Result, tmp_path: Path) -> None:
    ((file, shown),) = draw(result, tmp_path / "figures")
    assert "behaviours seen" in shown
    drawn = (tmp_path / "figures" / file).read_text(encoding="utf-8")
    assert ElementTree.fromstring(drawn).tag.endswith("svg")  # noqa: S314  # our own file
    draw(result, tmp_path / "again")
    assert (tmp_path / "again" / file).read_text(encoding="utf-8") == drawn
