"""The profile of a generation: what it was trained on, as the training writes it and the watch reads it."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.users import Stage


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Shares(_Kept):
    """How often each value was met: known `values` by their canonical text, or bins between `edges`.

    `shares` are those of `values` in their order, of all other values together, and of missing ones; or those of the
    len(edges) + 1 bins (edges[i - 1] <= x < edges[i]), and of missing ones. Together 1.
    """

    values: tuple[str, ...] | None = None
    edges: tuple[float, ...] | None = None
    shares: tuple[float, ...]
    of_lists: bool = False
    """A user has any number of the values; other values are left out."""
    vector: tuple[int, float] | None = None
    """Of vectors: how long they are, and the most that a number of one may be; the one bin is that of such vectors."""

    @model_validator(mode="after")
    def _fits(self) -> "Shares":
        known = self.values if self.edges is None else self.edges
        if known is None or len(self.shares) != len(known) + 2:
            raise ValueError("shares must be as many as the values or edges, and two more")
        return self

    def places(self) -> dict[str, int]:
        """Of each of the `values`."""
        return {value: place for place, value in enumerate(self.values or ())}


class Calibration(_Kept):
    """Of the impressions of users of one stage: the mean probability that was predicted, and the rate of acts."""

    predicted: float
    observed: float
    impressions: int = 0


class Profile(_Kept):
    """`profile.json`. All shares are of moments (a user, a time, a context), as rankings will be."""

    format: int = 1
    moments: int = 0
    attributes: Mapping[str, Shares]
    left_out: int = 0
    """Attributes for which there was no room."""
    lengths: Shares
    """Of the numbers of behaviours seen."""
    items: Shares
    """Of what was acted on."""
    virtual_norm: float | None = None
    """Mean of ‖v̂‖ over all M·D floats; None where there is none."""
    behaviour_norm: float | None = None
    """Mean of ‖v‖ of users with some behaviour, pooled to M vectors as v̂ is."""
    calibration: Mapping[Stage, Calibration] = {}
    """Empty where the examples hold one class: there is nothing to compare."""


def read_profile(text: str) -> Profile | None:
    """None for an empty text: earlier generations have none. Raises `InvalidInput` for a malformed one."""
    if not text:
        return None
    try:
        return Profile.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput("profile", text, error.errors(include_url=False)[0]["msg"]) from error
