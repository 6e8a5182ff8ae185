"""`python -m benchmarks passed-over`: what the items that new users pass over tell of what they choose next.

The towers learn what lies before a data set's split. Each of the first twenty acts of a user who first acts after it
is a choice from a list: the item acted on, among nineteen that popularity draws and the user never meets, in the order
of the ranking tower. What stands above the choice is passed over. Each list is ranked by the towers without first acts,
with them, and with what was passed over in the lists before. Items that were passed over are no candidates later: the
draw alone would tell that they are not chosen.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import typer

from benchmarks.machine import machine
from benchmarks.zero_shot.onboarding import RESAMPLES, opened
from foretaste.kernel.values import MAX_PASSED_OVER, IndexArray
from models.data.examples import Batch, Examples
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.vocabulary import item_counts
from models.evaluation.bootstrap import Estimate, Resamples, mean
from models.rivals.towers import TowerMethod
from models.runtime.encoding import PADDING
from models.study.fold import Fold, ProtocolName
from models.study.protocols import SEEN, STEPS
from models.towers.forms import ranking_arguments
from models.towers.ranking.experts import Experts
from models.training.trained import Trained

Doubles = npt.NDArray[np.float64]
OTHERS = 19
"""Of a list, beside the item that is acted on."""
WITHOUT, ACTS, PASSED_OVER = "without", "acts", "passed over"
WAYS = (WITHOUT, ACTS, PASSED_OVER)
"""What the towers read beside what training shows them: nothing, first acts, and those with what was passed over."""


class Chosen(NamedTuple):
    """One choice from a list: its user, how many acts came before, and the share of others below it, by the way."""

    user: int
    seen: int
    aucs: Mapping[str, float]


def passed_over(
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m or complete-journey, or a dataset folder.")] = "ml-100k",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings.")] = 3,
    validation: Annotated[bool, typer.Option("--validation", help="Inside the training part alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Rank new users' first lists without first acts, with them, and with what was passed over."""
    facts = machine()
    fold, protocol = opened(data, validation=validation)
    trials = [_trial(fold, protocol, seed) for seed in range(1, seeds + 1)]
    found: dict[str, Any] = {"data": data, "seeds": seeds, "validation": validation, "seen": {}}
    for group, (fewest, most) in SEEN.items():
        own = [[each for each in trial if fewest <= each.seen <= most] for trial in trials]
        if fewest and all(own):
            base, acts, both = (mean([_gauc(each, way) for each in own]) for way in WAYS)
            found["seen"][group] = {
                WITHOUT: round(base.value, 4),
                ACTS: _rounded(acts.relative_to(base)),
                PASSED_OVER: _rounded(both.relative_to(acts)),
            }
    typer.echo(json.dumps({"machine": facts, **found}) if as_json else text_of(found))


def _trial(fold: Fold, protocol: ProtocolName, seed: int) -> Sequence[Chosen]:
    """One training, and the choices of all new users."""
    trained = TowerMethod().fit(fold.material(protocol, seed)).trained
    frame = fold.split.test[fold.split.test["user_id"].isin(fold.split.cold_users)]
    first = frame[frame["label"] == 1].groupby("user_id", observed=True).head(STEPS)
    examples = Examples.of(fold.dataset, first, trained.encoding, Histories.of(fold.dataset, trained.encoding))
    counts = item_counts(fold.learning, trained.encoding, fold.split.instant_ms)
    sampler = NegativeSampler(fold.dataset, trained.encoding, counts, np.random.default_rng(seed))
    passed: dict[int, list[int]] = {}
    found: list[Chosen] = []
    towers = _without_acts(trained), trained
    for moments in _by_step(examples):
        found += _choices(towers, examples.batch(moments, sampler, OTHERS), passed)
    return found


def _without_acts(trained: Trained) -> Trained:
    """The served towers without what first acts tell."""
    model = copy.deepcopy(trained.model)
    if isinstance(model.ranking, Experts):
        model.ranking.acts = None
    return replace(trained, model=model)


def _by_step(examples: Examples) -> list[IndexArray]:
    """Moments: the first of each user, then the second of each, and so on."""
    order = np.lexsort((examples.times_ms, examples.users))
    users = examples.users[order]
    firsts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
    step = np.arange(len(order)) - np.repeat(firsts, np.diff(np.r_[firsts, len(order)]))
    return [order[step == number] for number in range(int(step.max(initial=-1)) + 1)]


def _choices(towers: tuple[Trained, Trained], batch: Batch, passed: dict[int, list[int]]) -> list[Chosen]:
    """One moment of each user; what is passed over then is put to `passed`, by user, the newest last."""
    known = np.full((len(batch.users), MAX_PASSED_OVER), PADDING, dtype=np.int64)
    for row, user, items in zip(known, batch.users.tolist(), batch.items, strict=True):
        newest = [item for item in passed.get(user, ()) if item not in items][-MAX_PASSED_OVER:]
        row[: len(newest)] = newest
    scores = dict(zip(WAYS, _scored(towers, batch, known), strict=True))
    found = []
    for moment, user in enumerate(batch.users.tolist()):
        own = np.flatnonzero(batch.owner == moment)
        items, acted = batch.candidates[own], batch.labels[own] == 1
        shown = acted | ~np.isin(items, passed.get(user, ()))
        if not shown[~acted].any():
            continue
        aucs = {way: _share_below(each[own][shown], acted[shown]) for way, each in scores.items()}
        found.append(Chosen(user, int(batch.seen[moment]), aucs))
        served = scores[PASSED_OVER][own]
        above = np.flatnonzero(shown & ~acted & (served > served[acted].max()))
        last = items[above[np.argsort(-served[above])]].tolist()
        passed[user] = [*(item for item in passed.get(user, ()) if item not in last), *last]
    return found


def _scored(towers: tuple[Trained, Trained], batch: Batch, known: IndexArray) -> Sequence[Doubles]:
    """(R,) logits of the candidates by each of `WAYS`, with what each user passed over before, `known` (U, P)."""
    without, served = towers
    nothing = np.full_like(known, PADDING)
    found = []
    with torch.inference_mode():
        virtual = served.zero_shot(torch.from_numpy(batch.attributes))
        arguments = ranking_arguments(batch, virtual, virtual.device)
        for asked, items in ((without, nothing), (served, nothing), (served, known)):
            logits: Doubles = asked.ranking.logits(*arguments, passed_over=torch.from_numpy(items)).double().numpy()
            found.append(logits)
    return found


def _share_below(scores: Doubles, acted: npt.NDArray[np.bool_]) -> float:
    """Of the others, how many stand below what is acted on, a tie being a half."""
    own, others = scores[acted][:, None], scores[~acted]
    return float(((own > others) + 0.5 * (own == others)).mean())


def _gauc(chosen: Sequence[Chosen], way: str) -> Estimate:
    """The mean over users of the mean over each one's choices."""
    users, place = np.unique([each.user for each in chosen], return_inverse=True)
    of_user = np.bincount(place, [each.aucs[way] for each in chosen]) / np.bincount(place)
    draws = Resamples.drawn(users, RESAMPLES, 7)
    return Estimate(float(of_user.mean()), draws.sums(users, of_user) / draws.counts.sum(axis=1))


def _rounded(gain: Estimate) -> list[float]:
    return [round(each, 4) for each in (gain.value, *gain.interval)]


def text_of(found: Mapping[str, Any]) -> str:
    """For a person to read."""
    lines = [f"{found['data']}, {found['seeds']} trainings: GAUC of the first lists, by behaviours seen"]
    for group, each in found["seen"].items():
        acts, both = ("{:+.2f} % ({:+.2f} to {:+.2f})".format(*(100 * one for one in each[way])) for way in WAYS[1:])
        lines.append(
            f"  {group}: {each[WITHOUT]} without, {acts} with first acts, {both} more with what was passed over"
        )
    return "\n".join(lines)
