"""Dead letters sent to their topics again, once what made them dead was mended."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.events import Reason
from foretaste.kernel.ports import Events
from streams.worker.dead_letter_reader import REPLAYED, KeptLetter
from streams.worker.dead_letters import replay_headers


class Kept(StrEnum):
    """Why a letter was not replayed."""

    REPLAYED_BEFORE = "replayed before"
    ATTEMPTS_REACHED = "as many attempts as are allowed"
    WITHOUT_VALUE = "its value was too large to be kept"
    FOREIGN = "no event of these topics"


@dataclass(frozen=True, slots=True)
class ReplayChoice:
    """Which letters are replayed."""

    reasons: Collection[Reason] = ()
    """All where there is none."""
    places: Collection[str] = ()
    """`partition@offset` of letters; all where there is none."""
    attempts: int = 3
    """A letter that was replayed so often is left alone: it would come back for ever."""

    def chosen(self, letters: Iterable[KeptLetter]) -> list[KeptLetter]:
        """Raises `InvalidInput` for a place where no letter lies."""
        found = list(letters)
        for place in self.places:
            if all(each.place != place for each in found):
                raise InvalidInput("place", place, "no dead letter lies there")
        return [
            each
            for each in found
            if (not self.reasons or each.letter.reason in self.reasons)
            and (not self.places or each.place in self.places)
        ]


async def replay(
    events: Events, letters: Sequence[KeptLetter], replays: str, origins: Collection[str], attempts: int
) -> tuple[int, dict[Kept, int]]:
    """Send dead letters to their own topics, which must be among `origins`; how many were sent, and how many were not
    by why.

    1. The event is sent, with the headers that keep its origin and count its attempts. 2. A record on topic `replays`
    says that it was replayed. Killed between the two, the letter is replayed once more, which changes nothing: what is
    stored is keyed by the origin. In order of the letters, which is that of a user's events. What dies again meanwhile
    is another letter, and not of this replay.

    Raises `Unavailable` when no broker answers; what was sent by then is not sent again.
    """
    sent, left = 0, dict.fromkeys(Kept, 0)
    for each in letters:
        why = _why_kept(each, origins, attempts)
        if why is not None:
            left[why] += 1
            continue
        message = each.letter.message
        await events.send(message.origin.topic, message.key, message.value, replay_headers(each.letter))  # 1
        await events.send(replays, None, None, [(REPLAYED, each.place.encode())])  # 2
        sent += 1
    return sent, {why: count for why, count in left.items() if count}


def _why_kept(each: KeptLetter, origins: Collection[str], attempts: int) -> Kept | None:
    if each.replayed:
        return Kept.REPLAYED_BEFORE
    if each.letter.reason is Reason.FOREIGN or each.letter.message.origin.topic not in origins:
        return Kept.FOREIGN
    if not each.whole:
        return Kept.WITHOUT_VALUE
    return Kept.ATTEMPTS_REACHED if each.letter.message.attempts >= attempts else None
