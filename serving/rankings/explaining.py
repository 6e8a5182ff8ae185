"""What moved the first items of a ranking: the same user is scored once more without each thing that is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Towers
from foretaste.kernel.ranking import RankingInput, Source
from foretaste.kernel.users import Behaviour, Stage
from foretaste.kernel.values import NO_ACTS, PASSED_OVER, FloatArray
from serving.rankings.tastes import UserTaste
from serving.requests import ExplainedItem, Influence, RankResponse

ITEMS = 10
"""Items that are explained, from the best on."""
BEHAVIOURS = 10
"""Behaviours that are left out one by one, from the newest on; none that says what was passed over."""
INFLUENCES = 5
"""Of an item, at most."""
_LEAST = 1e-7
"""A probability nearer to 0 or 1 is read as this near."""
_OF_ATTRIBUTES = {Source.VIRTUAL, Source.BLENDED, Source.READ_REPAIRED}
"""Where the virtual behaviour that was read is made of the user's attributes."""


@dataclass(frozen=True, slots=True)
class _Without:
    """The user without one thing, and what that is."""

    influence: Influence
    tower_input: RankingInput


async def explained(
    towers: Towers, tower_input: RankingInput, response: RankResponse, taste: UserTaste, generation: Generation
) -> list[ExplainedItem]:
    """Each of the first items with what moved its score most.

    An influence is the difference of the log odds between the user as known and the same one without an attribute or
    without one behaviour. Of a cold user under a tower that adds effects up, the differences are those effects.
    Raises what the towers raise.
    """
    first = [each["item_id"] for each in response.ranked[:ITEMS]]
    known = replace(tower_input, items=first)
    others = [*await _without_attributes(towers, known, taste, generation), *_without_behaviours(known, generation)]
    scores = await towers.score([known, *(each.tower_input for each in others)], generation.number)
    whole, *without = (log_odds(each) for each in scores)
    return [
        ExplainedItem(
            item_id=item,
            influences=_strongest(
                [
                    each.influence.model_copy(update={"effect": float(whole[place] - odds[place])})
                    for each, odds in zip(others, without, strict=True)
                ]
            ),
        )
        for place, item in enumerate(first)
    ]


async def _without_attributes(
    towers: Towers, known: RankingInput, taste: UserTaste, generation: Generation
) -> list[_Without]:
    attributes = [(name, value) for name, value in known.attributes.items() if name in generation.attributes]
    rest = [{name: value for name, value in known.attributes.items() if name != left} for left, _ in attributes]
    virtual: Sequence[FloatArray] = [taste.vectors] * len(rest)
    if rest and taste.served_by in _OF_ATTRIBUTES:
        virtual = list(await towers.virtual_behaviour(rest, generation.number))
    return [
        _Without(Influence(attribute=name, value=value, effect=0.0), replace(known, attributes=own, virtual=vectors))
        for (name, value), own, vectors in zip(attributes, rest, virtual, strict=True)
    ]


def _without_behaviours(known: RankingInput, generation: Generation) -> list[_Without]:
    behaviour = known.behaviour
    is_warm = generation.stage(len(behaviour.acts)) is Stage.WARM  # answers to questions move nothing any more
    untold = NO_ACTS if is_warm else {PASSED_OVER}
    places = [place for place, action in enumerate(behaviour.actions) if action not in untold]
    return [
        _Without(
            Influence(behaviour=behaviour.items[place], value=behaviour.actions[place], effect=0.0),
            replace(known, behaviour=_left_out(behaviour, place)),
        )
        for place in places[-BEHAVIOURS:]
    ]


def _left_out(behaviour: Behaviour, place: int) -> Behaviour:
    """Without the one at a place; that its item was passed over at another time tells nothing then either."""
    item = behaviour.items[place]
    rows = enumerate(behaviour.rows)
    return Behaviour.of(row for at, row in rows if at != place and row[:2] != (item, PASSED_OVER))


def log_odds(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    """The logarithm of p / (1 - p), of any shape."""
    held = np.clip(probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
    odds: npt.NDArray[np.float64] = np.log(held / (1 - held))
    return odds


def _strongest(influences: Sequence[Influence]) -> list[Influence]:
    return sorted(influences, key=lambda each: -abs(each.effect))[:INFLUENCES]
