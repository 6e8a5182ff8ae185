"""Whether towers answer as they did in torch: probes that travel with a generation, compared wherever it is served.

A probe is a raw request and what the towers as served answered to it in torch. No torch is needed to ask it again.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foretaste.kernel.errors import BadTowerOutput, ForetasteError
from foretaste.kernel.ports import Towers
from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import FloatArray
from models.runtime import layout

TOLERANCE = 1e-4
"""Greatest absolute difference allowed."""


class ParityError(ForetasteError):
    """Towers answer differently from those that were trained."""

    def __init__(self, form: str, tower: str, difference: float) -> None:
        self.difference = difference
        problem = f"the {form} {tower} tower differs by {difference:.3g} from the trained"
        super().__init__(f"{problem}; {TOLERANCE} may be")


@dataclass(frozen=True, eq=False)
class Probe:
    """A raw request with the answers of the served towers in torch: `virtual` (M, D) of eq. 8, `scores` (K,) of eq. 12.

    The scores are for the virtual behaviour in the request, not for `virtual`.
    """

    request: RankingInput
    virtual: FloatArray
    scores: FloatArray


def write_probes(path: Path, probes: Sequence[Probe]) -> None:
    """Write probes as JSON; float32 numbers survive it bit for bit."""
    path.write_text(json.dumps([_to_json(probe) for probe in probes]), encoding="utf-8")


def read_probes(folder: Path) -> list[Probe]:
    """The probes of the generation in a folder; none for one that was exported before there were any."""
    path = folder / layout.PROBES
    return [_from_json(stored) for stored in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def difference(form: str, tower: str, found: FloatArray, expected: FloatArray) -> float:
    """The greatest absolute difference. Raises `ParityError` above `TOLERANCE`; `form` says which towers answered."""
    greatest = float(np.abs(found - expected).max(initial=0.0))
    if not greatest <= TOLERANCE:  # nan is no parity either
        raise ParityError(form, tower, greatest)
    return greatest


async def check_served(towers: Towers, folder: Path, number: int) -> float:
    """Ask both towers of generation `number` as served all probes in `folder`, which warms them; 0 without probes.

    The greatest absolute difference from the answers of training. Raises `ParityError` above `TOLERANCE`, and
    `BadTowerOutput` for an answer of another shape or one that is not finite.
    """
    probes = await asyncio.to_thread(read_probes, folder)
    if not probes:
        return 0.0
    virtual = await towers.virtual_behaviour([probe.request.attributes for probe in probes], number)
    expected = np.stack([probe.virtual for probe in probes])
    _check_output(number, "zero-shot", virtual, expected)
    # one after the other: all at once would hold up the requests that other generations answer meanwhile
    scores = [each for probe in probes for each in await towers.score([probe.request], number)]
    for found, probe in zip(scores, probes, strict=True):
        _check_output(number, "ranking", found, probe.scores)
    wanted = np.concatenate([probe.scores for probe in probes])
    return max(
        difference("served", "zero-shot", virtual, expected),
        difference("served", "ranking", np.concatenate(scores), wanted),
    )


def _check_output(number: int, tower: str, found: FloatArray, expected: FloatArray) -> None:
    if found.shape != expected.shape:
        raise BadTowerOutput(f"generation {number}: the {tower} tower answered {found.shape}, not {expected.shape}")
    if not np.isfinite(found).all():
        raise BadTowerOutput(f"generation {number}: the {tower} tower gave numbers that are not finite")


def _to_json(probe: Probe) -> dict[str, object]:
    request = probe.request
    return {
        "attributes": dict(request.attributes),
        "context": dict(request.context),
        "items": list(request.behaviour.items),
        "actions": list(request.behaviour.actions),
        "virtual": request.virtual.tolist(),
        "candidates": list(request.items),
        "age_ms": request.age_ms,
        "answers": {"virtual": probe.virtual.tolist(), "scores": probe.scores.tolist()},
    }


def _from_json(stored: dict[str, Any]) -> Probe:
    request = RankingInput(
        attributes=stored["attributes"],
        context=stored["context"],
        behaviour=Behaviour(stored["items"], stored["actions"], range(len(stored["items"]))),
        virtual=np.array(stored["virtual"], dtype=np.float32),
        items=stored["candidates"],
        age_ms=stored.get("age_ms"),  # none of an earlier version
    )
    return Probe(request, *(np.array(stored["answers"][name], dtype=np.float32) for name in ("virtual", "scores")))
