"""The profile of a generation: what it was trained on, as the training writes it and the watch reads it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from foretaste.kernel.users import Stage


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Shares(_Kept):
    """How often each value was met: known `values` by their canonical text, or bins between `edges`.

    `shares` are those of `values` in their order, of all other values together, and of missing ones; or those of the
    len(edges) + 1 bins (edges[i - 1] <= x < edges[i]), and of missing ones. Together 1.
    """

    values: tuple[str, ...] | None = None
    edges: tuple[float, ...] | None = None
    shares: tuple[float, ...]


class Calibration(_Kept):
    """Of a group's impressions: the mean probability that was predicted, and the rate of what was acted on."""

    predicted: float
    observed: float
    impressions: int


class Profile(_Kept):
    """`profile.json`. All shares are of moments (a user, a time, a context), as rankings will be."""

    format: Literal[1] = 1
    moments: int
    attributes: dict[str, Shares]
    left_out: int = 0
    """Attributes for which there was no room."""
    lengths: Shares
    """Of the numbers of behaviours seen."""
    items: Shares
    """Of what was acted on."""
    virtual_norm: float | None
    """Mean of ‖v̂‖ over all M·D floats; None where there is none."""
    behaviour_norm: float | None
    """Mean of ‖v‖ of who had some behaviour, pooled to M vectors as v̂ is."""
    calibration: dict[Stage, Calibration]
    """Empty where the examples hold one class: there is nothing to compare."""
