"""The gate on small towers and on the interactions that came after their split, as a held-out window."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from foretaste.kernel.errors import DamagedArtifact, ForetasteError, InvalidInput, Unavailable
from models.data.dataset import Dataset, read_dataset
from models.data.examples import Examples
from models.data.histories import Histories
from models.data.split import TimeSplit, split_by_time
from models.evaluation import gate
from models.evaluation.gate import GateConfig, judge
from models.evaluation.metrics import gauc
from models.evaluation.verdict import Figure, GroupVerdict, Verdict, read_verdict, write_verdict
from models.log.join import joined
from models.log.window import DrawnOrders
from models.runtime.encoding import Encoding, IndexArray
from models.training.cotrain import cotrain
from models.training.trained import Trained
from tests.data_factory import write_dataset
from tests.towers_factory import config, folder
from tests.window_factory import acted, logged, shown

QUICK = GateConfig(resamples=100)


def _no_orders() -> DrawnOrders:
    nothing = np.zeros(0, dtype=np.int64)
    return DrawnOrders(nothing, nothing, np.zeros(0))


@dataclass(frozen=True)
class Window:
    """Rows of a dataset as a held-out window; `merged` lets so many rows of users be one person."""

    data: Dataset
    frame: pd.DataFrame
    merged: int = 1
    order: Callable[[pd.DataFrame], pd.DataFrame] = field(default=lambda frame: frame)
    drawn_orders: DrawnOrders = field(default_factory=_no_orders)

    @property
    def user_of_row(self) -> IndexArray:
        return np.arange(len(self.data.users)) // self.merged

    def examples(self, encoding: Encoding) -> Examples:
        return Examples.of(self.data, self.order(self.frame), encoding, Histories.of(self.data, encoding))


@cache
def dataset() -> tuple[Dataset, TimeSplit]:
    """Enough users for each group: few rows of each are of the moments before the first behaviour."""
    data = read_dataset(write_dataset(folder() / "gate", users=400, interactions=12_000, labels=True))
    return data, split_by_time(data)


@cache
def towers() -> Trained:
    data, split = dataset()
    return cotrain(data, split, config(epochs=2, warm_after=4))


@cache
def window() -> Window:
    data, split = dataset()
    return Window(data, split.test)


def altered(change: Callable[[nn.Module], object]) -> Trained:
    """The same towers, one of whose parts was changed."""
    trained = replace(towers(), model=deepcopy(towers().model))
    with torch.no_grad():
        change(trained.model)
    return trained


def upside_down() -> Trained:
    return altered(lambda model: model.ranking.unit.weight.neg_())


def test_a_generation_is_no_worse_than_itself() -> None:
    verdict = judge(towers(), towers(), window(), QUICK, number=2, active_number=1)
    assert verdict.decision == "pass"
    assert verdict.admits
    assert (verdict.candidate, verdict.active) == (2, 1)
    assert [group.group for group in verdict.groups] == ["cold", "warming", "warm"]
    for group in verdict.groups:
        assert group.decision == "no_worse"
        assert group.difference == Figure(value=0, low=0, high=0)
        assert group.candidate == group.active
        assert group.users >= QUICK.least_users


def test_the_figures_are_those_of_each_group_as_served() -> None:
    verdict = judge(towers(), towers(), window(), QUICK)
    frame = window().frame
    assert verdict.impressions == len(frame) == sum(group.impressions for group in verdict.groups)
    assert (verdict.since_ms, verdict.until_ms) == (frame["time_ms"].min(), frame["time_ms"].max())
    rows = gate._rows(window(), towers().encoding)
    assert verdict.rankings == len(rows.examples.sizes)
    answers = gate._answers(towers(), rows.examples, replace(QUICK, batch=100))
    for group, own in zip(
        verdict.groups, (rows.seen == 0, (rows.seen > 0) & (rows.seen < 4), rows.seen >= 4), strict=True
    ):
        expected = gauc(rows.persons[own], rows.labels[own], answers.scores[own])
        assert group.candidate is not None
        assert group.candidate.value == pytest.approx(expected)
        assert group.candidate.low < expected < group.candidate.high
        assert group.impressions == own.sum()


def test_a_worse_candidate_fails_and_a_better_one_passes() -> None:
    worse = judge(upside_down(), towers(), window(), QUICK)
    assert worse.decision == "fail"
    assert not worse.admits
    assert [group.decision for group in worse.groups] == ["worse"] * 3
    assert all(group.difference is not None and group.difference.high < 0 for group in worse.groups)
    assert worse.reasons[0].startswith("cold: worse, GAUC ")
    assert judge(towers(), upside_down(), window(), QUICK).decision == "pass"


def test_one_group_that_is_worse_is_enough() -> None:
    """The v̂ of who has no behaviour, turned round: the warm do not notice."""

    def turn(model: nn.Module) -> None:
        forward = model.zero_shot.forward
        model.zero_shot.forward = lambda *arguments: -10 * forward(*arguments)

    verdict = judge(altered(turn), towers(), window(), QUICK)
    decisions = {group.group: group.decision for group in verdict.groups}
    assert decisions["cold"] == "worse"
    assert decisions["warm"] == "no_worse"
    assert verdict.decision == "fail"


def test_a_tolerance_forgives_a_small_loss() -> None:
    strict, patient = (
        judge(upside_down(), towers(), window(), replace(QUICK, tolerance=tolerance)) for tolerance in (0.0, 0.99)
    )
    assert strict.decision == "fail"
    assert patient.decision == "pass"
    assert patient.groups[0].difference == strict.groups[0].difference


@pytest.mark.parametrize(
    ("part", "told"),
    [("zero_shot", "virtual behaviour is not finite"), ("ranking", "scores are not finite")],
)
def test_an_output_that_is_not_finite_fails(part: str, told: str) -> None:
    def spoil(model: nn.Module) -> None:
        next(iter(getattr(model, part).parameters())).fill_(torch.nan)

    spoilt = altered(spoil)
    verdict = judge(spoilt, towers(), window(), QUICK)
    assert verdict.decision == "fail"
    assert told in verdict.reasons[0]
    assert judge(spoilt, None, window(), QUICK).decision == "fail"
    of_broken = judge(towers(), spoilt, window(), QUICK)
    assert of_broken.decision == "pass"
    assert "the active generation's" in of_broken.reasons[0]


def test_a_wrong_shape_fails() -> None:
    def narrow(model: nn.Module) -> None:
        forward = model.zero_shot.forward
        model.zero_shot.forward = lambda *arguments: forward(*arguments)[:, :1]

    verdict = judge(altered(narrow), towers(), window(), QUICK)
    assert verdict.decision == "fail"
    assert "zero-shot tower gave" in verdict.reasons[0]


def test_without_an_active_generation_finite_outputs_are_enough_and_it_says_so() -> None:
    verdict = judge(towers(), None, window(), QUICK, number=1)
    assert verdict.decision == "pass"
    assert "no generation is active" in verdict.reasons[0]
    assert verdict.active is None
    assert all(group.candidate and not group.active and group.decision == "no_decision" for group in verdict.groups)


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("label", [None, 0, 1])
def test_no_data_or_one_class_is_no_decision(label: int | None, active: bool) -> None:
    frame = window().frame
    one_class = frame.iloc[:0] if label is None else frame[frame["label"] == label]
    verdict = judge(towers(), towers() if active else None, replace(window(), frame=one_class), QUICK)
    assert verdict.decision == "no_decision"
    assert not verdict.admits
    assert (verdict.since_ms is None) == (label is None)
    assert verdict.model_copy(update={"forced": True}).admits


def test_too_few_users_are_no_decision_even_for_a_worse_candidate() -> None:
    verdict = judge(upside_down(), towers(), window(), replace(QUICK, least_users=10_000))
    assert verdict.decision == "no_decision"
    assert {group.decision for group in verdict.groups} == {"no_decision"}
    assert verdict.groups[0].difference is not None


def test_persons_are_resampled_and_not_their_rows() -> None:
    apart, together = (judge(towers(), towers(), replace(window(), merged=count), QUICK) for count in (1, 8))
    assert sum(group.users for group in together.groups) < sum(group.users for group in apart.groups) / 2


def test_of_many_users_some_are_drawn() -> None:
    verdict = judge(towers(), towers(), window(), replace(QUICK, most_users=15, least_users=5))
    assert all(0 < group.users <= 15 for group in verdict.groups)
    assert verdict == judge(towers(), towers(), window(), replace(QUICK, most_users=15, least_users=5))


def test_rows_of_another_order_are_refused() -> None:
    given: list[int] = []

    def other_each_time(frame: pd.DataFrame) -> pd.DataFrame:
        given.append(1)
        return frame if len(given) == 1 else frame.iloc[:-1]

    with pytest.raises(ForetasteError, match="different rows"):
        judge(towers(), towers(), replace(window(), order=other_each_time), QUICK)


def test_a_window_of_the_training_log_is_judged_by_the_behaviour_as_served() -> None:
    """All that a ranking saw of its user counts, whatever is known of that user by now."""
    items, rankings, acts = towers().encoding.items[:6], [], []
    for number in range(90):
        user, at_ms = f"u{number}", 1_700_000_000_000 + 1000 * number
        seen = items[: (0, 2, 5)[number % 3]]
        attributes = {"segment": ("cook", "gamer", "runner", "reader")[number % 4], "age": 30}
        rankings.append(shown(user, at_ms, items, done=seen, attributes=attributes, context={"device": "phone"}))
        acts.append(acted(user, at_ms + 10, items[number % 6]))
    log = joined(logged(rankings, acts), 60_000, 1_800_000_000_000)
    verdict = judge(towers(), towers(), log, QUICK)
    assert verdict.decision == "pass"
    assert (verdict.rankings, verdict.impressions) == (90, 540)
    assert [group.users for group in verdict.groups] == [30, 30, 30]


@pytest.mark.parametrize("wrong", [{"least_users": 0}, {"resamples": 0}, {"tolerance": -0.1}])
def test_a_config_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        GateConfig(**wrong)  # type: ignore[arg-type]


VERDICT = Verdict(
    decision="fail",
    reasons=("cold: worse",),
    groups=(
        GroupVerdict(
            group="cold",
            users=30,
            impressions=900,
            candidate=Figure(value=0.6, low=0.5, high=0.7),
            difference=Figure(value=-0.1, low=-0.2, high=-0.05),
            decision="worse",
        ),
    ),
    candidate=3,
    active=2,
    since_ms=1,
    until_ms=2,
    rankings=90,
    impressions=900,
    forced=True,
)


def test_a_verdict_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "verdicts" / "3.json"
    write_verdict(VERDICT.model_copy(update={"forced": False}), path)
    write_verdict(VERDICT, path)
    assert read_verdict(path) == VERDICT
    assert [found.name for found in path.parent.iterdir()] == ["3.json"]


def test_a_verdict_whose_writing_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "3.json"
    write_verdict(VERDICT, path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Unavailable, match=rf"disk is not available: no room is left in {tmp_path}"):
        write_verdict(VERDICT.model_copy(update={"decision": "pass"}), path)
    assert read_verdict(path) == VERDICT
    assert [found.name for found in tmp_path.iterdir()] == ["3.json"]


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"decision": "maybe", "reasons": []}'])
def test_a_verdict_that_cannot_be_read_is_said_to_be_damaged(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "3.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedArtifact, match=r"3\.json"):
        read_verdict(path)


def drawn_window() -> Window:
    """Every moment of two rows and more as a ranking whose order was drawn, each item as likely."""
    sizes = window().examples(towers().encoding).sizes
    first = np.cumsum(sizes) - sizes
    kept = sizes > 1
    return replace(window(), drawn_orders=DrawnOrders(first[kept], sizes[kept], 1 / sizes[kept]))


def test_drawn_orders_tell_what_the_first_items_are_worth_and_decide_nothing() -> None:
    verdict = judge(upside_down(), towers(), drawn_window(), QUICK)
    found = verdict.first_items
    assert found is not None
    assert found.rankings == len(drawn_window().drawn_orders.first)
    assert found.active is not None
    assert found.difference is not None
    assert found.candidate.value < found.active.value
    assert "doubly robust" in verdict.reasons[-1]
    assert judge(upside_down(), towers(), window(), QUICK).decision == verdict.decision


def test_without_an_active_generation_the_candidates_first_items_are_told_alone() -> None:
    found = judge(towers(), None, drawn_window(), QUICK).first_items
    assert found is not None
    assert (found.active, found.active_ips, found.difference) == (None, None, None)


def test_where_no_order_was_drawn_nothing_is_told_of_first_items() -> None:
    assert judge(towers(), towers(), window(), QUICK).first_items is None
