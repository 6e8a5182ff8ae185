"""Whether towers as exported answer as the towers that were trained, when both are fed the same raw values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import ANSWERS, MAX_BEHAVIOUR, PASSED_OVER, FloatArray, Value
from models.generations.probes import Probe, difference
from models.runtime.encoding import Encoding, FieldEncoder, IndexArray
from models.runtime.local import LocalTowers
from models.training.trained import Trained

PROBES = 64
STRANGE = "never seen in training"
LENGTHS = (0, 1, 2, 5, 20, MAX_BEHAVIOUR, MAX_BEHAVIOUR + 7)
"""Of the behaviours that are tried: cold, warming, warm, and more than fits."""

NONE_STORED = 5
"""One of so many probes has no virtual behaviour: zeros."""


def answered(trained: Trained, seed: int = 0) -> list[Probe]:
    """Raw requests of every kind with what the trained towers answer to them."""
    tried = probes(trained, PROBES, np.random.default_rng(seed))
    with torch.inference_mode():
        scores: FloatArray = trained.ranking(**ranking_tensors(trained.encoding, tried)).numpy()
        virtual: FloatArray = trained.zero_shot(attribute_tensor(trained.encoding, tried)).numpy()
    of_each = np.split(scores, np.cumsum([len(request.items) for request in tried])[:-1])
    return [Probe(*answer) for answer in zip(tried, virtual, of_each, strict=True)]


def compare(probed: Sequence[Probe], folder: Path) -> float:
    """The greatest absolute difference over both towers as exported in `folder`. Raises `ParityError` above 1e-4."""
    towers = LocalTowers.of(folder)
    scores = towers.score([probe.request for probe in probed])
    virtual = towers.virtual_behaviour([probe.request.attributes for probe in probed])
    expected = np.stack([probe.virtual for probe in probed]), np.concatenate([probe.scores for probe in probed])
    return max(
        difference("exported", "zero-shot", virtual, expected[0]),
        difference("exported", "ranking", np.concatenate(scores), expected[1]),
    )


def compare_kinds(served: Trained, folder: Path) -> float:
    """The greatest difference for new items, one of each of `PROBES` kinds at most; raises as `compare` does.

    No probe travels along for them: what was registered is not the generation's.
    """
    towers, kinds = LocalTowers.of(folder), served.encoding.kinds[:PROBES]
    items = [f"of kind {place}" for place in range(len(kinds))]
    indices = served.encoding.first_kind + np.arange(len(kinds))
    for encoding in (served.encoding, towers.encoding):
        encoding.new_items.put(items, indices, kinds)
    tried = [
        replace(each, items=[*items, *each.items]) for each in probes(served, len(LENGTHS), np.random.default_rng(0))
    ]
    with torch.inference_mode():
        expected: FloatArray = served.ranking(**ranking_tensors(served.encoding, tried)).numpy()
    return difference("exported", "ranking", np.concatenate(towers.score(tried)), expected)


def probes(trained: Trained, count: int, rng: np.random.Generator) -> list[RankingInput]:
    """Raw requests of every kind: known, unknown and missing values, every stage from cold to more than L seen."""
    encoding = trained.encoding
    architecture = trained.config.architecture
    shape = (architecture.virtual_vectors, architecture.dimension)
    items, actions = [*encoding.items, STRANGE], [*encoding.actions, STRANGE]
    if encoding.questions.items:
        actions += ANSWERS
    if encoding.reads_passed_over:
        actions.append(PASSED_OVER)

    def draw(values: Sequence[str], size: int) -> list[str]:
        return [values[index] for index in rng.integers(0, len(values), size)]

    return [
        RankingInput(
            attributes=_raw(encoding.attributes, rng),
            context=_raw(encoding.context, rng),
            behaviour=_behaviour(draw, items, actions, LENGTHS[position % len(LENGTHS)], encoding.questions.items),
            virtual=rng.normal(size=shape).astype(np.float32) * (position % NONE_STORED > 0),
            items=draw(items, int(rng.integers(1, 20))),
            age_ms=_age(encoding, position),
        )
        for position in range(count)
    ]


def attribute_tensor(encoding: Encoding, requests: Sequence[RankingInput]) -> Tensor:
    """(U, N), what `ZeroShotForm` reads."""
    return torch.from_numpy(encoding.encode_attributes([request.attributes for request in requests]))


def ranking_tensors(encoding: Encoding, requests: Sequence[RankingInput]) -> dict[str, Tensor]:
    """What `RankingForm` reads, in its order and by its names; what the towers do not read is left out."""
    acts = [request.behaviour.acts for request in requests]
    behaviour = [encoding.encode_behaviour(each.items, each.actions) for each in acts]
    counts = [len(request.items) for request in requests]
    arrays: dict[str, IndexArray | FloatArray] = {
        "attributes": encoding.encode_attributes([request.attributes for request in requests]),
        "context": encoding.encode_context([request.context for request in requests]),
        "items": np.stack([items for items, _ in behaviour]),
        "actions": np.stack([actions for _, actions in behaviour]),
        "virtual": encoding.virtual_of(requests),
        "candidates": encoding.encode_items([item for request in requests for item in request.items]),
        "owner": np.repeat(np.arange(len(requests)), counts),
    }
    if encoding.age_bounds:
        arrays["age"] = encoding.encode_ages([request.age_ms for request in requests])
    if encoding.reads_passed_over:
        arrays["passed_over"] = encoding.encode_passed_over([request.behaviour for request in requests])
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def _age(encoding: Encoding, position: int) -> int | None:
    """Each bin of the account's age by turns, the unknown one among them; None for a generation without."""
    ages = [None, *encoding.age_bounds]
    return ages[position // len(LENGTHS) % len(ages)]


def _behaviour(
    draw: Callable[[Sequence[str], int], list[str]],
    items: Sequence[str],
    actions: Sequence[str],
    length: int,
    asked: Sequence[str],
) -> Behaviour:
    """Answers among it are about items that are asked about."""
    acted, did = draw(items, length), draw(actions, length)
    if asked:
        acted = [
            other if action in ANSWERS else item
            for item, action, other in zip(acted, did, draw(asked, length), strict=True)
        ]
    return Behaviour(acted, did, range(length))


def _raw(fields: Mapping[str, FieldEncoder], rng: np.random.Generator) -> dict[str, Value]:
    """A value for each field: most often a known one, else a strange one, else none at all."""
    drawn: dict[str, Value] = {}
    for name, field in fields.items():
        values: Sequence[Value] = (*field.probes, STRANGE)
        if rng.random() < 0.9:  # noqa: PLR2004  # one in ten is missing
            drawn[name] = values[int(rng.integers(0, len(values)))]
    return drawn
