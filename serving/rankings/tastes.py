"""What stands for a user's behaviour in a ranking, and why where it is not the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from foretaste.kernel.errors import BadTowerOutput, ForetasteError, InvalidInput
from foretaste.kernel.generations import Generation
from foretaste.kernel.ranking import Cause, Fallback, Source
from foretaste.kernel.users import Stage, UserFeatures
from foretaste.kernel.values import FloatArray
from serving.problems import public_detail


@dataclass(frozen=True, slots=True)
class FallbackReason:
    """Why an answer fell back or was repaired: for machines, and for people."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class UserTaste:
    """The virtual behaviour (M, D) that goes to the ranking tower, and what the answer says of it.

    `generation` is None where the vectors are nobody's own: a warm user's are not read, the mean is everyone's.
    """

    vectors: FloatArray
    served_by: Source
    generation: int | None = None
    fallback: Fallback | None = None
    why: FallbackReason | None = None


@dataclass(frozen=True, slots=True)
class KnownUsers:
    """Users as one read found them, with what stands for their behaviour; all of it of one generation."""

    generation: Generation
    users: Sequence[UserFeatures]
    tastes: Sequence[UserTaste]
    began: float
    """When the first request of them came, by the clock of the ranking."""


UNKNOWN = FallbackReason(Cause.ATTRIBUTES_UNKNOWN, "the attributes of this user are not known")


def known_taste(features: UserFeatures, away: FallbackReason | None, generation: Generation) -> UserTaste | None:
    """What stands for the behaviour without asking a tower; None where the zero-shot tower is to be asked."""
    stage, stored = generation.stage(len(features.behaviour.acts)), generation.virtual_of(features)
    if stage is Stage.WARM:
        return UserTaste(generation.mean_virtual, Source.REAL)
    if stored is not None:
        return UserTaste(stored.vectors, Source.VIRTUAL if stage is Stage.COLD else Source.BLENDED, generation.number)
    return mean_taste(generation, away or UNKNOWN) if features.attributes is None else None


def reason_of_tower(error: ForetasteError, tower: str, causes: tuple[Cause, Cause, Cause]) -> FallbackReason:
    """Why a tower gave no answer; `causes` are of one that is away, answered in another shape, or refused."""
    away, wrong_shape, refused = causes
    match error:
        case BadTowerOutput():
            cause = wrong_shape
        case InvalidInput():
            cause = refused
        case _:
            cause = away
    return FallbackReason(cause, public_detail(error, tower))


def reason_to_repair(features: UserFeatures, generation: Generation) -> FallbackReason:
    """Why the stored virtual behaviour was not read."""
    stored = features.virtual
    if stored is None:
        return FallbackReason(Cause.VIRTUAL_MISSING, "no virtual behaviour was stored")
    if stored.generation != generation.number:
        reason = f"the stored virtual behaviour was of generation {stored.generation}"
        return FallbackReason(Cause.VIRTUAL_OF_ANOTHER_GENERATION, reason)
    if stored.vectors.shape != generation.virtual_shape:
        reason = f"the stored virtual behaviour was of another shape, {stored.vectors.shape}"
        return FallbackReason(Cause.VIRTUAL_OF_ANOTHER_SHAPE, reason)
    return FallbackReason(Cause.VIRTUAL_OUTDATED, "the stored virtual behaviour was older than the attributes")


def mean_taste(generation: Generation, why: FallbackReason) -> UserTaste:
    return UserTaste(generation.mean_virtual, Source.FALLBACK, None, fallback=Fallback.MEAN_BEHAVIOUR, why=why)
