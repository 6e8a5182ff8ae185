"""Planted faults of the ranking service and of the training log."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from foretaste.kernel.errors import Unavailable
from foretaste.kernel.events import event_name
from foretaste.kernel.generations import Generation
from foretaste.kernel.users import ReenrichedUser
from serving.active import ActiveGeneration
from serving.rankings.breaker import PartBreaker
from serving.rankings.impressions import BufferedImpressions
from serving.rankings.joining import Joined
from serving.rankings.ranking import Ranking
from streams import training_log
from streams.training_log import BehaviourLog, Rankings
from tests.simulation.planted.fault import planted

_scored, _rankings, _behaved = Ranking._scored, Rankings.__call__, BehaviourLog.__call__


async def _over_filling(self: Any, made: Sequence[Any], generation: Any, began: float) -> None:
    with suppress(Unavailable):
        async with self._breakers.store.within(self._left(began)):
            await self._store.write_virtual([ReenrichedUser.after(user, virtual) for user, virtual in made])


async def _not_written_back(self: Any, made: Any, generation: Any, began: float) -> None:
    """The next request makes it again."""


def _of_any_generation(self: Generation, user: Any) -> Any:
    return user.virtual if user.virtual is not None and user.virtual_ms >= user.attributes_ms else None


def _of_any_time(self: Generation, user: Any) -> Any:
    held = user.virtual
    return held if held is not None and held.generation == self.number else None


async def _scored_by_newest(self: Any, requests: Any, users: Any, tastes: Any, generation: Any, began: float) -> Any:
    newest = await self._generations.active()
    return await _scored(self, requests, users, tastes, newest or generation, began)


async def _mixed(self: Any, group: Sequence[Any]) -> None:
    answers = await self._answer([each.request for each in group], min(each.asked_at for each in group))
    for each, answer in zip(group, reversed(answers), strict=True):
        if not each.answered.done():
            each.answered.set_result(answer)


def _never_tried(self: Any) -> None:
    raise Unavailable(self._part, "it did not answer in time, and is left alone for a moment")


async def _sent_once(self: Any, keyed: Sequence[Any]) -> None:
    with suppress(Unavailable):
        await self._events.send_all(self._topic, keyed)
    self._buffered -= len(keyed)


async def _rankings_dropped(self: Any, messages: Any) -> None:
    with suppress(Unavailable):
        await _rankings(self, messages)


async def _behaviours_dropped(self: Any, messages: Any) -> None:
    with suppress(Unavailable):
        await _behaved(self, messages)


def _as_it_came(event: Any, message: Any, now_ms: int) -> Any:
    return event.model_copy(update={"event_id": event_name(event.event_id, message.origin)})


SERVING = (
    planted("repair_over_filling", "a repair is written over what fills", (Ranking, "_write_back", _over_filling)),
    planted("repair_not_written", "a repair is not written back", (Ranking, "_write_back", _not_written_back)),
    planted(
        "any_generation_read",
        "virtual behaviour of another generation is read",
        (Generation, "virtual_of", _of_any_generation),
    ),
    planted(
        "outdated_read", "virtual behaviour older than the attributes is read", (Generation, "virtual_of", _of_any_time)
    ),
    planted(
        "not_pinned",
        "a ranking is scored by another generation than it was read for",
        (Ranking, "_scored", _scored_by_newest),
    ),
    planted("answers_mixed", "joined requests get each other's answers", (Joined, "_answered", _mixed)),
    planted("impressions_once", "impressions are sent once", (BufferedImpressions, "_send", _sent_once)),
    planted(
        "active_for_ever",
        "the first active generation serves for ever",
        (ActiveGeneration, "_is_fresh", lambda self: True),
        (ActiveGeneration, "_ask_ahead", lambda self: None),
    ),
    planted("breaker_for_ever", "a breaker stays open", (PartBreaker, "_begin_trial", _never_tried)),
)
LOG = (
    planted(
        "rankings_not_logged", "rankings are dropped while the log is away", (Rankings, "__call__", _rankings_dropped)
    ),
    planted(
        "behaviours_not_logged",
        "behaviours are dropped while the log is away",
        (BehaviourLog, "__call__", _behaviours_dropped),
    ),
    planted(
        "log_time_as_claimed",
        "a logged behaviour's time is what its sender claims",
        (training_log, "as_logged", _as_it_came),
    ),
)
