import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foretaste.kernel.errors import InvalidInput
from models.rivals.methods import by_name
from models.study.fold import Fold
from models.study.tuning import BY_THEMSELVES, MADE, Trial, Tuned, judged_by, tune, tuned_methods, write_tuned
from tests.study_parts import BACKWARDS, LAME, POPULAR, fold, with_garbage


def _named(*names: str) -> Any:
    return {name: by_name(name) for name in names}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tune(fold(), _named(POPULAR, BACKWARDS), tmp_path_factory.mktemp("home"))


def test_the_best_trial_is_chosen_and_the_earlier_of_two_alike(tuned: Any) -> None:
    for one in tuned.values():
        best = max(trial.criterion for trial in one.trials)
        assert one.trials[one.chosen].criterion == best
    even = Trial("a", 0.5, 0.6, 0.7)
    assert even.criterion == pytest.approx(0.6)
    assert Tuned((replace(even, warm=0.1), even, even)).chosen == 1
    assert tuned[POPULAR].trials[tuned[POPULAR].chosen].settings == repr_of(POPULAR, tuned[POPULAR].chosen)


def repr_of(name: Any, place: Any) -> Any:
    return repr(by_name(name).trials()[place])


def test_users_are_made_new_for_the_trials_where_the_study_or_the_data_want_it(tuned: Any, tmp_path: Path) -> None:
    assert judged_by(fold()) == BY_THEMSELVES
    assert judged_by(fold(), ("random_40", "first_steps")) == BY_THEMSELVES
    assert judged_by(fold(), ("random_40",)) == MADE
    learning, late = fold().learning.interactions, fold().split.test
    in_turns = learning.iloc[learning.groupby("user_id", observed=True).cumcount().argsort(kind="stable")]
    early = in_turns.assign(time_ms=np.sort(learning["time_ms"]))  # all users begin before any goes on
    frame = pd.concat([early, late], ignore_index=True)
    assert judged_by(Fold.of(replace(fold().dataset, interactions=frame), fold().split.instant_ms)) == MADE
    made = tune(fold(), _named(POPULAR), tmp_path, judged=MADE)[POPULAR]
    assert all(0 < trial.hidden_new < 1 and 0 < trial.first_steps < 1 and 0 < trial.warm < 1 for trial in made.trials)
    assert made != tuned[POPULAR]
    write_tuned({POPULAR: made}, fold(), tmp_path / "tuned.json", MADE)
    assert json.loads((tmp_path / "tuned.json").read_text(encoding="utf-8"))["judged_by"] == list(MADE)
    write_tuned({BACKWARDS: tuned[BACKWARDS]}, fold(), tmp_path / "tuned.json")
    whole = json.loads((tmp_path / "tuned.json").read_text(encoding="utf-8"))
    assert list(whole["towers"]) == [BACKWARDS], "trials that others were judged by do not stand beside these"


def test_a_group_of_nobody_does_not_count() -> None:
    assert Trial("a", math.nan, 0.6, 0.7).criterion == pytest.approx(0.65)
    nothing = Trial("a", math.nan, math.nan, math.nan)
    assert math.isnan(nothing.criterion)
    assert Tuned((nothing, Trial("b", 0.1, math.nan, math.nan))).chosen == 1


def test_what_comes_after_the_split_changes_no_trial(tuned: Any, tmp_path: Path) -> None:
    other = with_garbage(fold())
    assert not other.split.test["item_id"].astype(str).equals(fold().split.test["item_id"].astype(str))
    assert tune(other, _named(POPULAR, BACKWARDS), tmp_path) == tuned


def test_trials_are_kept_and_all_told_of(tmp_path: Path) -> None:
    heard = []
    first = tune(fold(), _named(POPULAR), tmp_path, report=lambda *step: heard.append(step))
    assert heard[0][0].startswith("5 fits, 0 of them kept from before: about ")
    assert heard[1:] == [(f"tune {POPULAR}", 100 * number, 500) for number in range(1, 6)]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(kept) == 10
    assert tune(fold(), _named(POPULAR), tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} == kept


def test_the_choice_is_written_with_every_trials_figures_and_read_again(tuned: Any, tmp_path: Path) -> None:
    path = tmp_path / "results" / "tuned.json"
    write_tuned({POPULAR: tuned[POPULAR]}, fold(), path)
    write_tuned({BACKWARDS: tuned[BACKWARDS]}, fold(), path)
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert whole["validation_split_ms"] < whole["split_ms"] == fold().split.instant_ms
    assert list(whole["towers"]) == sorted([POPULAR, BACKWARDS])
    written = whole["towers"][POPULAR]
    assert written["chosen"] == tuned[POPULAR].chosen
    assert [trial["criterion"] for trial in written["trials"]] == [one.criterion for one in tuned[POPULAR].trials]
    found = tuned_methods((POPULAR, BACKWARDS, LAME), fold(), path)
    assert {name: place for name, (_, place) in found.items()} == {
        POPULAR: tuned[POPULAR].chosen,
        BACKWARDS: tuned[BACKWARDS].chosen,
        LAME: None,
    }
    method, place = found[POPULAR]
    assert repr(method) == tuned[POPULAR].trials[place].settings


def test_no_record_leaves_every_method_as_it_is(tmp_path: Path) -> None:
    assert tuned_methods((POPULAR,), fold(), tmp_path / "none.json")[POPULAR][1] is None


def _change(key: Any, value: Any) -> Callable[..., Any]:
    def changed(whole: Any) -> Any:
        return whole | {key: value}

    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_change("fingerprint", "other"), "other data"),
        (_change("split_ms", 1), "another split"),
        (lambda whole: {"towers": whole["towers"]}, "no record of tuning"),
        (lambda _: [], "no record of tuning"),
    ],
)
def test_a_record_of_something_else_is_refused(change: Any, said: str, tuned: Any, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    write_tuned({POPULAR: tuned[POPULAR]}, fold(), path)
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(InvalidInput, match=f"^tuned: .*{said}"):
        tuned_methods((POPULAR,), fold(), path)


def test_a_record_of_settings_that_have_changed_since_is_refused(tuned: Any, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    stale = replace(tuned[POPULAR].trials[0], settings="Popular(power=7)")
    write_tuned({POPULAR: Tuned((stale, *tuned[POPULAR].trials[1:]))}, fold(), path)
    with pytest.raises(InvalidInput, match=r"other settings of .*popular.*--tune"):
        tuned_methods((POPULAR,), fold(), path)


def test_a_method_with_fewer_trials_than_the_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^towers: has 1 trials; every method has 5"):
        tune(fold(), _named(LAME), tmp_path)
