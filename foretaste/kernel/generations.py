"""Generations: what readers need to know of one, and which ones are in use."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypeAlias

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.users import Stage, UserFeatures, VirtualBehaviour, stage_of
from foretaste.kernel.values import FloatArray


@dataclass(frozen=True, slots=True)
class Generation:
    """What every reader needs to know of a generation, small enough to be read whole.

    `attributes` and `context` map each field that the towers read to "categorical" or "numeric".
    `mean_virtual` (M, D) is the mean virtual behaviour over the training users, the third step of degradation.
    """

    number: int
    warm_after: int
    attributes: Mapping[str, str]
    context: Mapping[str, str]
    mean_virtual: FloatArray
    created_at: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    profile: str = ""
    """What it was trained on, as JSON that `foretaste watch` compares with what is served; empty where absent."""

    @property
    def virtual_shape(self) -> tuple[int, int]:
        """(M, D)."""
        rows, columns = self.mean_virtual.shape
        return rows, columns

    def stage(self, seen: int) -> Stage:
        """The stage of a user of whom `seen` behaviours are known."""
        return stage_of(seen, self.warm_after)

    def virtual_of(self, user: UserFeatures) -> VirtualBehaviour | None:
        """The user's virtual behaviour if this generation can read it and it is no older than the attributes.

        The shape tells a generation from one of the same number before everything was trained anew. What is older than
        the attributes was made from others: they were written alone since, or somebody wrote over what belongs to them.
        """
        held = user.virtual
        if held is None or held.generation != self.number or held.vectors.shape != self.virtual_shape:
            return None
        return held if user.virtual_ms >= user.attributes_ms else None

    def lacks(self, user: UserFeatures) -> bool:
        """Whether a user whose attributes are known is cold or warming and has no current virtual behaviour."""
        if user.attributes is None or self.stage(len(user.behaviour.acts)) is Stage.WARM:
            return False
        return self.virtual_of(user) is None

    @property
    def digest(self) -> str:
        """sha256 over all fields but the profile, in hexadecimal: it tells two trainings under one number apart.

        A number that was recorded without its profile, by an earlier version, stands for the same training with it.
        """
        plain = asdict(replace(self, profile="")) | {"mean_virtual": self.mean_virtual.tolist()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


Use: TypeAlias = Literal["active", "filling", "kept for rollback"]


@dataclass(frozen=True, slots=True)
class Serving:
    """Which generations are in use, read at one instant."""

    active: Generation | None = None
    """The one that readers use."""
    filling: Generation | None = None
    """The next one, while virtual behaviour is made for it: sign-ups get both."""
    previous: int | None = None
    """Active before this one, and kept for `rollback`."""

    def use_of(self, number: int) -> "Use | None":
        """What a generation is in use for; None for one that may be retired."""
        filling = self.filling.number if self.filling is not None else None
        return use_of(number, self.active.number if self.active is not None else None, filling, self.previous)

    @property
    def in_use(self) -> Mapping[int, Generation]:
        """By number, the generations whose virtual behaviour is read, or will be: the active and the filling one."""
        return {each.number: each for each in (self.active, self.filling) if each is not None}


@dataclass(frozen=True, slots=True)
class Move:
    """One move of the pointer."""

    number: int
    came_from: int | None
    at: str
    """ISO 8601, UTC."""
    reason: str
    filled: bool = False
    """Whether every cold or warming user had been re-enriched for `number`."""


SLOTS = ("virtual_behaviour_even", "virtual_behaviour_odd")
"""The feature views that hold virtual behaviour."""


def slot(generation: int) -> str:
    """The feature view that holds the virtual behaviour of `generation`: it shares it with every second one."""
    return SLOTS[generation % 2]


def use_of(number: int, active: int | None, filling: int | None, previous: int | None) -> Use | None:
    """What a generation is in use for, told by the numbers of those that are; None for one that may be retired."""
    uses: dict[int | None, Use] = {previous: "kept for rollback", filling: "filling", active: "active"}
    return uses.get(number)


def check_same(new: Generation, stored: Generation) -> None:
    """Raises `InvalidInput` unless `new` is the record that its number was given to."""
    if new.digest != stored.digest:
        problem = f"is taken by another training, of {stored.created_at}; this one is of {new.created_at}"
        raise InvalidInput("generation", new.number, problem)
