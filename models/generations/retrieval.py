"""The index over the items of a generation, made from its files: see `models.runtime.retrieval` for what it holds."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import MAX_BEHAVIOUR, FloatArray
from models.effects.age_bias import age_stages
from models.effects.item_kinds import KindRows
from models.effects.seen_bias import SEEN_BINS
from models.effects.transitions import READ_DECAY
from models.generations.probes import read_probes
from models.runtime import layout
from models.runtime.acts import StoredActs
from models.runtime.answers import AskedItems
from models.runtime.encoding import FIRST_KNOWN, Encoding
from models.runtime.local import LocalTowers
from models.runtime.transitions import StoredTransitions
from models.towers.ranking.transitions import SCALE

EXACT = 50_000
"""Items up to which every one is compared: an index would be no faster."""
LISTS = 1024
"""Of an inverted file at a million items; their number goes with the root of the items'."""
COMPARED, SHARE = 1 << 15, 16
"""Items that a request compares, about: those of the nearest lists. Never fewer than every 16th of the lists."""
DECAY = 0.9
"""Weight of a behaviour against the one after it."""
GAIN, GAIN_WITHOUT_KEYS = 2.0, 0.5
"""Of likeness to the items acted on: log-odds between none and the same item. Measured: decision 40."""
REFERENCES = 32
"""Users over whom the tower's answers are averaged to an item's bias, where the tower holds none itself: as they are
without behaviour, as they are while warming and as they are when warm."""
_TABLES = {
    "embeddings.items.weight": 0,
    "ranking.keys": 0,
    "ranking.biases": 1,
    "ranking.age_biases": 1,
    "ranking.transitions.sources": 0,
    "ranking.transitions.targets": 0,
}
"""Tables of items by the axis of their items."""
_CHUNK = 10_000
_TOGETHER = 16
"""Columns that a processor multiplies at once: with a width that is no multiple of them, faiss takes one by one."""


class BiasPlaces(NamedTuple):
    """Which of an item's biases count for a user."""

    seen: npt.NDArray[np.int64]
    """(L + 1,): for each number of behaviours seen."""
    ages: npt.NDArray[np.int64] | None = None
    """(L + 1, 1 + A): for each number seen and bin of age, from 1, 0 for none; None where no age is read."""


class ItemVectors(NamedTuple):
    """The items as vectors, and what makes a user's vector beside them; see `models.runtime.retrieval`."""

    values: FloatArray
    """(items + 2 + kinds, H)."""
    effects: int
    """Columns of keys."""
    gain: float
    places: BiasPlaces
    transitions: StoredTransitions | None = None
    acts: StoredActs | None = None


def write_retrieval(folder: Path, path: Path, warm_after: int) -> None:
    """Write the index of the generation in `folder`, which holds its weights, vocabulary, towers and probes."""
    encoding = Encoding.from_json((folder / layout.ENCODING).read_text(encoding="utf-8"))
    write_index(
        path,
        item_vectors(folder, encoding, warm_after),
        warm_after=warm_after,
        features=encoding.features_by_index,
        popular=_by_popularity(folder, encoding),
        kinds=len(encoding.kinds),
    )


def item_vectors(folder: Path, encoding: Encoding, warm_after: int) -> ItemVectors:
    """Those of the generation in `folder`, whose vocabulary is `encoding`."""
    asked = AskedItems.read(folder / layout.QUESTIONS, encoding.questions) if encoding.questions.items else None
    weights = _with_kinds(folder, encoding, _with_questions(load_file(folder / layout.WEIGHTS), asked))
    taste = _of_length_one(weights["embeddings.items.weight"])
    if "ranking.keys" in weights:
        keys, biases, gain, seen_bins = weights["ranking.keys"], weights["ranking.biases"].T, GAIN, SEEN_BINS
    else:
        keys, gain = np.zeros((len(taste), 0)), GAIN_WITHOUT_KEYS
        biases = np.stack([_mean_logits(folder, encoding, seen) for seen in (0, warm_after // 2, warm_after)], axis=1)
        seen_bins = np.searchsorted((1, warm_after), np.arange(MAX_BEHAVIOUR + 1), side="right")
    of_ages, stages = _of_ages(weights, encoding)
    columns = [keys, biases, of_ages, taste]
    targets, transitions = _following(weights, sum(each.shape[1] for each in columns))
    values = np.hstack([*columns, targets]).astype(np.float32)
    acts = None if asked is None or asked.acts is None else StoredActs(asked.acts.steps, asked.posterior.columns)
    return ItemVectors(values, keys.shape[1], gain, BiasPlaces(seen_bins, stages), transitions, acts)


def _with_questions(
    weights: Mapping[str, npt.NDArray[Any]], asked: AskedItems | None
) -> Mapping[str, npt.NDArray[Any]]:
    """The weights, with the keys of what answers to questions and first acts put into virtual behaviour."""
    if asked is not None:
        weights["ranking.keys"][:, asked.posterior.columns] = asked.keys
    return weights


def _with_kinds(
    folder: Path, encoding: Encoding, weights: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The weights, with rows of the kinds of items behind those of the items in each table that the index reads."""
    if not len(encoding.kinds):
        return dict(weights)
    rows, found = KindRows.of(encoding, _shares(folder, encoding)), dict(weights)
    for name, axis in _TABLES.items():
        if name in found:
            table = np.moveaxis(found[name], axis, 0)
            found[name] = np.moveaxis(np.concatenate([table, rows.of_table(table).astype(table.dtype)]), 0, axis)
    return found


def _following(
    weights: Mapping[str, npt.NDArray[Any]], begins: int
) -> tuple[npt.NDArray[Any], StoredTransitions | None]:
    """(items, H): targets of item-to-item transitions, and what makes a user's vector for them; none without any."""
    sources = weights.get("ranking.transitions.sources")
    if sources is None or not sources.any():
        return np.zeros((len(weights["embeddings.items.weight"]), 0)), None
    of_seen = (SCALE * weights["ranking.transitions.weights"]).astype(np.float32)
    stored = StoredTransitions(sources.astype(np.float16), of_seen, READ_DECAY, begins)
    return weights["ranking.transitions.targets"], stored


def _of_ages(
    weights: Mapping[str, npt.NDArray[Any]], encoding: Encoding
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None]:
    """(items, 2 A): what each age adds to the biases, and which of them counts; none where no age is read."""
    if "ranking.age_biases" not in weights:
        return np.zeros((encoding.item_count, 0)), None
    return weights["ranking.age_biases"][1:].T, age_stages(len(encoding.age_bounds))


def write_index(
    path: Path,
    vectors: ItemVectors,
    *,
    warm_after: int,
    features: npt.NDArray[np.int64],
    popular: npt.NDArray[np.int32],
    kinds: int = 0,
) -> None:
    """Write an index over the vectors of items, the last `kinds` of which are kinds; see `ServedRetrieval`."""
    values, effects, gain, places, transitions, acts = vectors
    values[:FIRST_KNOWN] = 0
    lists = 2 ** round(np.log2(LISTS * np.sqrt(len(values) / 1e6)))
    probed = min(lists, max(-(-lists // SHARE), -(-COMPARED * lists // len(values))))
    form = np.array([effects, warm_after, DECAY, gain, probed], dtype=np.float64)
    members: dict[str, Any] = {"form": form, "seen_bins": places.seen, "features": features.astype(np.int32)}
    members |= {"popular": popular, "kinds": np.array(kinds)}
    if places.ages is not None:
        members["age_stages"] = places.ages
    if transitions is not None:
        members |= {"sources": transitions.sources, "transition_weights": transitions.weights}
        members["transition_form"] = np.array([transitions.decay, transitions.begins], dtype=np.float64)
    if acts is not None:
        members |= {"act_steps": acts.steps, "act_columns": acts.columns}
    if len(values) <= EXACT:
        members["vectors"] = values
    else:
        members["index"] = _inverted_file(values, lists)
    with path.open("wb") as file:
        np.savez(file, **members)


def _inverted_file(vectors: FloatArray, lists: int) -> npt.NDArray[np.uint8]:
    """The numbers are kept in 16 bits: half of the memory, which is what a search waits for."""
    import faiss  # noqa: PLC0415  # a small catalogue needs none

    padded = np.pad(vectors, ((0, 0), (0, -vectors.shape[1] % _TOGETHER)))
    width = padded.shape[1]
    half, by_residual = faiss.ScalarQuantizer.QT_fp16, False  # what is left of a centre would be added again to each
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(width), width, lists, half, metric, by_residual)
    index.train(padded)  # on a sample of its own, the same each time
    index.add(padded)
    stored: npt.NDArray[np.uint8] = faiss.serialize_index(index)
    return stored


def _of_length_one(vectors: FloatArray) -> FloatArray:
    found: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
    return found


def _by_popularity(folder: Path, encoding: Encoding) -> npt.NDArray[np.int32]:
    """The index of each item, the most popular first."""
    return (np.argsort(-_shares(folder, encoding), kind="stable") + FIRST_KNOWN).astype(np.int32)


def _shares(folder: Path, encoding: Encoding) -> npt.NDArray[np.float64]:
    """Each item's share of the training interactions, in the order of the vocabulary."""
    shares: dict[str, float] = json.loads((folder / layout.POPULARITY).read_text(encoding="utf-8"))
    return np.array([shares.get(item, 0.0) for item in encoding.items])


def _mean_logits(folder: Path, encoding: Encoding, seen: int) -> FloatArray:
    """(items,): the log-odds that the ranking tower gives each item, in the mean of users with `seen` behaviours.

    Each acted on popular items, drawn by their shares.
    """
    towers, rng = LocalTowers.of(folder), np.random.default_rng(seen)
    attributes = [probe.request.attributes for probe in read_probes(folder)[:REFERENCES]] or [{}]
    shares = _shares(folder, encoding) + 1e-9
    drawn = rng.choice(encoding.items, (len(attributes), seen), p=shares / shares.sum())
    users = [
        RankingInput(own, {}, Behaviour(items, encoding.actions[:1] * seen, range(seen)), virtual, ())
        for own, items, virtual in zip(attributes, drawn.tolist(), towers.virtual_behaviour(attributes), strict=True)
    ]
    mean = np.zeros(encoding.item_count, dtype=np.float32)
    for start, items in _chunks(encoding.items):
        scores = np.stack(towers.score([replace(user, items=items) for user in users])).clip(1e-7, 1 - 1e-7)
        mean[start : start + len(items)] = np.log(scores / (1 - scores)).mean(axis=0)
    if len(encoding.kinds):
        mean[encoding.first_kind :] = KindRows.of(encoding, _shares(folder, encoding)).of_table(
            mean[: encoding.first_kind]
        )
    return mean


def _chunks(items: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Stretches of the items, each with the index of its first."""
    return ((FIRST_KNOWN + at, items[at : at + _CHUNK]) for at in range(0, len(items), _CHUNK))
