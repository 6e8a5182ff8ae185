"""`python -m benchmarks onboarding`: what five answers at sign-up tell of a new user's next ten events.

The towers learn what lies before a data set's split. Each user who first acts after it is asked whether the items are
liked that the generation asks about first; whatever the user acts on at any time is liked. The first ten other items
that the user acts on are then ranked, each among four that popularity draws, as of an account of one minute: by
attributes alone, and with the answers. Users with fewer than fifteen acts are left out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.machine import machine
from foretaste.settings import Settings
from models.data.dataset import read_dataset
from models.data.sources.public import fetch
from models.evaluation.bootstrap import Estimate, Resamples, mean
from models.rivals.towers import TowerMethod
from models.runtime.answers import AnswerPosterior, AskedItems
from models.runtime.encoding import PADDING, IndexArray
from models.study.fold import Fold, ProtocolName
from models.training.questions import ACTS, ASKED, FirstActs, KnownItems, logits_at_sign_up

Doubles = npt.NDArray[np.float64]
RESAMPLES = 1000
PROTOCOL: Mapping[str, ProtocolName] = {"complete-journey": "random_40"}
"""Of data sets that have no new users by themselves."""
ORDERS = ("best first", "most popular", "at random")
"""Which of a generation's questions are asked: the first ones, as in production, or others of them."""


class Answered(NamedTuple):
    """GAUC by attributes alone and with answers, and how many of them were yes; zeros where nothing is asked."""

    without: Estimate
    answered: Estimate
    liked: float


def onboarding(
    data: Annotated[str, typer.Option(help="ml-100k, ml-1m or complete-journey, or a dataset folder.")] = "ml-100k",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings.")] = 3,
    validation: Annotated[bool, typer.Option("--validation", help="Inside the training part alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Rank new users' first events by attributes alone, and with five answers."""
    facts = machine()
    fold, protocol = opened(data, validation=validation)
    trials = [_trial(fold, protocol, seed) for seed in range(1, seeds + 1)]
    found: dict[str, Any] = {"data": data, "seeds": seeds, "validation": validation, "orders": {}}
    for order in ORDERS:
        own = [trial[order] for trial in trials]
        base = mean([each.without for each in own])
        gain = mean([each.answered for each in own]).relative_to(base)
        found["orders"][order] = {
            "liked": round(float(np.mean([each.liked for each in own])), 2),
            "without": round(base.value, 4),
            "gain": [round(each, 4) for each in (gain.value, *gain.interval)],
        }
    typer.echo(json.dumps({"machine": facts, **found}) if as_json else text_of(found))


def opened(data: str, *, validation: bool) -> tuple[Fold, ProtocolName]:
    """The fold with new users that a data set is judged on, or the one inside its training part; and the protocol."""
    folder = Path(data) if Path(data).is_dir() else fetch(data, Settings().home / "data")
    protocol = PROTOCOL.get(data, "hidden")
    fold = Fold.of(read_dataset(folder)).under(protocol)
    return (fold.validation.under(protocol) if validation else fold), protocol


def _trial(fold: Fold, protocol: ProtocolName, seed: int) -> Mapping[str, Answered]:
    """One training, by the order of the questions."""
    trained = TowerMethod().fit(fold.material(protocol, seed)).trained
    asked = trained.asked
    after = KnownItems.of(trained, fold.dataset, [fold.split.test[fold.split.test["label"] == 1]])
    users, numbers = np.unique(after.users, return_counts=True)
    users = users[np.isin(users, fold.new_users) & (numbers >= ACTS + ASKED)]
    found = {}
    for order in ORDERS:
        places = np.zeros(0, dtype=np.int64) if asked is None else _places(asked.posterior, order, seed)
        named = [] if asked is None else [asked.posterior.items[place] for place in places]
        items = trained.encoding.encode_items(named)
        first = FirstActs.of(after, users, items, trained.popularity, np.random.default_rng(seed))
        base = logits_at_sign_up(trained, fold.dataset, first)
        moved = 0.0 if asked is None else _moved(asked, first, places)
        liked = float(first.answers.sum(axis=1).mean())
        without, answered = (_gauc(first, scores) for scores in (base, base + moved))
        found[order] = Answered(without, answered, liked)
    return found


def _places(asked: AnswerPosterior, order: str, seed: int) -> IndexArray:
    """Of the five questions among those of the generation."""
    if order == "best first":
        return np.arange(ASKED)
    if order == "most popular":
        return np.argsort(-asked.log_odds, kind="stable")[:ASKED]
    return np.random.default_rng(seed).permutation(len(asked.items))[:ASKED]


def _moved(asked: AskedItems, first: FirstActs, places: IndexArray) -> Doubles:
    """(R, K) what the answers of each act's user, to the questions at these places, add to the candidates."""
    taste = first.taste(asked.posterior, places.tolist())
    found: Doubles = np.einsum("rkt,rt->rk", asked.keys[first.candidates], taste, dtype=np.float64)
    return found


def _gauc(first: FirstActs, scores: Doubles) -> Estimate:
    """How often a user's act is above one of the others that are there, a tie being a half: the mean over users."""
    there = first.candidates[:, 1:] != PADDING
    above = (scores[:, :1] > scores[:, 1:]) + 0.5 * (scores[:, :1] == scores[:, 1:])
    others = np.bincount(first.owner, there.sum(axis=1))
    of_user = (np.bincount(first.owner, (above * there).sum(axis=1)) / others.clip(1))[others > 0]
    users = first.users[others > 0]
    draws = Resamples.drawn(users, RESAMPLES, 7)
    return Estimate(float(of_user.mean()), draws.sums(users, of_user) / draws.counts.sum(axis=1))


def text_of(found: Mapping[str, Any]) -> str:
    """For a person to read."""
    lines = [f"{found['data']}, {found['seeds']} trainings: GAUC of the next {ACTS} events"]
    for order, each in found["orders"].items():
        gain, low, high = (f"{100 * value:+.1f} %" for value in each["gain"])
        lines.append(
            f"  {order}: {each['without']} by attributes, {gain} ({low} to {high}) with {each['liked']} of five liked"
        )
    return "\n".join(lines)
