"""The gate: may a candidate generation take over from the active one?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pydantic.dataclasses
from pydantic import NonNegativeInt, PositiveInt

from foretaste.kernel.configuration import NO_OTHER_FIELDS, NonNegativeFloat, raises_invalid_input
from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.users import STAGES
from models.data.examples import Batch, Examples, batches
from models.data.stages import stages_of
from models.evaluation.bootstrap import Estimate, Resamples
from models.evaluation.metrics import user_auc
from models.evaluation.off_policy import DrawnRankings, off_policy
from models.evaluation.offline import Scores, probabilities, virtual_behaviour
from models.evaluation.scores import measure
from models.evaluation.verdict import Comparison, Decision, Figure, FirstItems, GroupVerdict, Verdict
from models.log.window import DrawnOrders
from models.runtime.encoding import Encoding, IndexArray
from models.training.trained import Trained


class HeldOutRankings(Protocol):
    """Rankings that neither generation learned from, as they were served, with their outcome."""

    @property
    def user_of_row(self) -> IndexArray:
        """The person of each row of users that `Examples.users` names: one may have signed up with other attributes."""
        ...

    @property
    def drawn_orders(self) -> DrawnOrders:
        """The rankings whose order was drawn, by their rows in `examples`."""
        ...

    def examples(self, encoding: Encoding) -> Examples:
        """The same rankings and rows in the same order, whatever the encoding; the histories are those as served."""
        ...


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class GateConfig:
    """When the gate takes a candidate for worse, and how much it reads."""

    tolerance: NonNegativeFloat = 0.0
    """A group is worse when its interval of the relative difference lies below minus this share."""
    least_users: PositiveInt = 20
    """With both classes, that a group needs for a decision."""
    most_users: PositiveInt = 20_000
    """Of a group, drawn at random where there are more: what the bootstrap holds in memory grows with them."""
    resamples: PositiveInt = 1000
    """Of the users, for each 95 % interval."""
    batch: PositiveInt = 16_384
    """Rows scored at once."""
    seed: NonNegativeInt = 1


@dataclass(frozen=True, eq=False, slots=True)
class _Rows:
    """The window's R impressions: (R,) persons, labels, and behaviours seen at serving; `examples` as they came."""

    examples: Examples
    persons: IndexArray
    labels: npt.NDArray[np.float32]
    seen: IndexArray


@dataclass(frozen=True, eq=False, slots=True)
class _Answers:
    """(R,) scores of one generation, and what is the matter with its outputs, if anything."""

    scores: Scores
    trouble: str | None


def judge(
    candidate: Trained,
    active: Trained | None,
    window: HeldOutRankings,
    config: GateConfig | None = None,
    *,
    number: int | None = None,
    active_number: int | None = None,
) -> Verdict:
    """Compare both generations on the newest held-out `window`; the same arguments give the same verdict.

    Each scores every ranking's shown items from the behaviour as served and from v̂ that its own zero-shot tower makes
    of the attributes, with its own encoding and `warm_after`. Cold, warming and warm are told apart by the active
    generation's. A group is worse when the 95 % interval of the relative difference in GAUC, paired by a bootstrap of
    its users, lies below 0 (less `tolerance`).

    In this order: without rankings there is no decision; a candidate with an output that is not finite, or of the wrong
    shape, fails; outcomes of one class give no decision; without an active generation the candidate passes; it fails
    when a group is worse; it passes when a group is not, and where no group has enough users there is no decision.

    Raises `ForetasteError` when the window gives the two generations different rows.
    """
    config = config or GateConfig()
    rows = _rows(window, candidate.encoding)
    answers = _answers(candidate, rows.examples, config)
    found = Verdict(
        decision="no_decision",
        reasons=("the window holds no rankings",),
        candidate=number,
        active=active_number,
        since_ms=int(rows.examples.times_ms.min()) if len(rows.labels) else None,
        until_ms=int(rows.examples.times_ms.max()) if len(rows.labels) else None,
        rankings=len(rows.examples.sizes),
        impressions=len(rows.labels),
    )
    if not len(rows.labels):
        return found
    if answers.trouble is not None:
        return _decided(found, "fail", f"the candidate's {answers.trouble}")
    if rows.labels.min() == rows.labels.max():
        return _decided(found, "no_decision", f"every outcome in the window is {int(rows.labels[0])}")
    drawn = window.drawn_orders
    if active is None:
        found = found.model_copy(update={"first_items": _first_items(drawn, rows, answers, None, config)})
        groups = tuple(_groups(rows, answers, None, candidate.config.warm_after, config))
        return _decided(
            found, "pass", "no generation is active: all outputs are finite, nothing to compare", groups=groups
        )
    theirs = _rows(window, active.encoding)
    _check_same(rows, theirs)
    base = _answers(active, theirs.examples, config)
    if base.trouble is not None:
        groups = tuple(_groups(rows, answers, None, active.config.warm_after, config))
        reason = f"all outputs are finite, nothing to compare: the active generation's {base.trouble}"
        return _decided(found, "pass", reason, groups=groups)
    found = found.model_copy(update={"first_items": _first_items(drawn, rows, answers, base, config)})
    return _compared(found, tuple(_groups(rows, answers, base, active.config.warm_after, config)))


def _rows(window: HeldOutRankings, encoding: Encoding) -> _Rows:
    examples = window.examples(encoding)
    seen = examples.histories.seen(examples.users.astype(np.int64), examples.times_ms)
    persons = window.user_of_row[examples.users]
    sizes = examples.sizes
    return _Rows(examples, np.repeat(persons, sizes), examples.labels, np.repeat(seen, sizes))


def _check_same(ours: _Rows, theirs: _Rows) -> None:
    pairs = ((ours.persons, theirs.persons), (ours.labels, theirs.labels), (ours.seen, theirs.seen))
    if not all(np.array_equal(one, other) for one, other in pairs):
        raise ForetasteError("the window gives the two generations different rows; they cannot be compared")


def _answers(trained: Trained, examples: Examples, config: GateConfig) -> _Answers:
    scores = np.empty(len(examples.labels))
    for moments in batches(examples.sizes, config.batch):  # in order: without a generator nothing is shuffled
        batch = examples.batch(moments)
        answer = _answer(trained, batch)
        if isinstance(answer, str):
            return _Answers(scores, answer)
        first = int(examples.starts[moments[0]])
        scores[first : first + len(answer)] = answer
    return _Answers(scores, None)


def _answer(trained: Trained, batch: Batch) -> Scores | str:
    """(R,) scores, or what is wrong with an output of either tower."""
    virtual = virtual_behaviour(trained, batch)
    shape = trained.config.architecture
    expected = (len(batch.users), shape.virtual_vectors, shape.dimension)
    if tuple(virtual.shape) != expected:
        return f"zero-shot tower gave {tuple(virtual.shape)}, expected {expected}"
    bad = int((~virtual.isfinite()).flatten(1).any(dim=1).sum())
    if bad:
        return f"virtual behaviour is not finite for {bad} of {len(batch.users)} rankings of a batch"
    scores = probabilities(trained, batch, virtual)
    if scores.shape != batch.candidates.shape:
        return f"ranking tower gave {scores.shape}, expected {batch.candidates.shape}"
    bad = int((~np.isfinite(scores)).sum())
    return f"scores are not finite for {bad} of {len(scores)} items of a batch" if bad else scores


def _groups(
    rows: _Rows, ours: _Answers, theirs: _Answers | None, warm_after: int, config: GateConfig
) -> Iterator[GroupVerdict]:
    stages = stages_of(rows.seen, warm_after)
    for place, stage in enumerate(STAGES):
        own = np.flatnonzero(stages == place)
        drawn = _drawn(own, rows.persons, config)
        persons, labels = rows.persons[drawn], rows.labels[drawn]
        users = int((~np.isnan(user_auc(persons, labels, ours.scores[drawn])[0])).sum())
        if not users:
            yield GroupVerdict(group=stage, users=0, impressions=len(own))
            continue
        resamples = Resamples.drawn(persons, config.resamples, config.seed)
        new = measure(persons, labels, ours.scores[drawn], resamples)["gauc"]
        old = None if theirs is None else measure(persons, labels, theirs.scores[drawn], resamples)["gauc"]
        difference = None if old is None else _figure(new.relative_to(old))
        yield GroupVerdict(
            group=stage,
            users=users,
            impressions=len(own),
            candidate=_figure(new),
            active=None if old is None else _figure(old),
            difference=difference,
            decision=_comparison(difference, users, config),
        )


def _first_items(
    drawn: DrawnOrders, rows: _Rows, ours: _Answers, theirs: _Answers | None, config: GateConfig
) -> FirstItems | None:
    """What the rankings tell whose order was drawn; what the active generation expects stands for q of both."""
    kept = np.isin(drawn.first, _drawn(drawn.first, rows.persons, config))
    first, sizes = drawn.first[kept], drawn.sizes[kept]
    if not len(first):
        return None
    places = np.arange(sizes.sum()) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    rewards = rows.labels[first].astype(np.float64)
    rankings = DrawnRankings(rows.persons[first], rewards, drawn.probabilities[kept], sizes)
    resamples = Resamples.drawn(rankings.persons, config.resamples, config.seed)
    expected = (theirs or ours).scores[places]
    new = off_policy(rankings, ours.scores[places], expected, resamples)
    found: dict[str, Estimate] = {
        "logged": new.logged,
        "candidate": new.doubly_robust,
        "candidate_ips": new.inverse_propensity,
    }
    if theirs is not None:
        old = off_policy(rankings, expected, expected, resamples)
        found |= {"active": old.doubly_robust, "active_ips": old.inverse_propensity}
        found["difference"] = new.doubly_robust.relative_to(old.doubly_robust)
    figures = {name: _figure(estimate) for name, estimate in found.items()}
    if None in (figures["logged"], figures["candidate"], figures["candidate_ips"]):
        return None
    return FirstItems.model_validate({"rankings": len(first), "matched": new.matched, **figures})


def _drawn(rows: IndexArray, persons: IndexArray, config: GateConfig) -> IndexArray:
    """The rows of at most `most_users` persons."""
    distinct = np.unique(persons[rows])
    if len(distinct) <= config.most_users:
        return rows
    kept = np.random.default_rng(config.seed).choice(distinct, config.most_users, replace=False)
    return rows[np.isin(persons[rows], kept)]


def _comparison(difference: Figure | None, users: int, config: GateConfig) -> Comparison:
    if difference is None or users < config.least_users:
        return "no_decision"
    return "worse" if difference.high < -config.tolerance else "no_worse"


def _figure(estimate: Estimate) -> Figure | None:
    low, high = estimate.interval
    values = (estimate.value, low, high)
    return Figure(value=values[0], low=low, high=high) if np.isfinite(values).all() else None


def _compared(found: Verdict, groups: tuple[GroupVerdict, ...]) -> Verdict:
    decisions = {group.decision for group in groups}
    decision: Decision = "fail" if "worse" in decisions else "pass" if "no_worse" in decisions else "no_decision"
    reasons = [*map(_told, groups), *([] if found.first_items is None else [_told_first(found.first_items)])]
    return _decided(found, decision, *reasons, groups=groups)


def _decided(found: Verdict, decision: Decision, *reasons: str, groups: tuple[GroupVerdict, ...] = ()) -> Verdict:
    return found.model_copy(update={"decision": decision, "reasons": reasons, "groups": groups})


def _told(group: GroupVerdict) -> str:
    if group.decision == "no_decision" or group.difference is None:
        return f"{group.group}: no decision, {group.users} users can be judged"
    low, high = (f"{100 * bound:+.2f}" for bound in (group.difference.low, group.difference.high))
    return (
        f"{group.group}: {group.decision.replace('_', ' ')}, GAUC {group.candidate} against {group.active}, "
        f"{100 * group.difference.value:+.2f} % [{low}, {high}] over {group.users} users"
    )


def _told_first(first: FirstItems) -> str:
    return (
        f"the item at the top is acted on in {first.candidate} of rankings, {first.active} by the active generation "
        f"(doubly robust, from {first.rankings} rankings whose order was drawn; as served {first.logged})"
    )
