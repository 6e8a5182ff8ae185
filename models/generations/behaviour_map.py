"""`map.json`: real and virtual behaviour of some users on one plane, made at export, read by the console.

A virtual behaviour v̂ is M·D numbers. The real one of the same width is what the ranking tower sets v̂ against: the mean
of the keys of the items acted on where the tower holds keys (v̂ · key is what v̂ says of an item), else the summed
embeddings of the behaviour in M stretches. Both are taken as directions from the mean of their kind, since their
lengths are no tastes, and t-SNE lays all of them out together.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from models.data.dataset import Dataset
from models.data.examples import encode_users
from models.data.histories import Histories
from models.runtime.encoding import PADDING, IndexArray
from models.towers.behaviour import condense
from models.towers.ranking.experts import Experts
from models.training.trained import Trained

MOST_USERS = 300
"""Whose behaviour is drawn: at most twice as many points, which take two to three seconds of one core."""
COMPONENTS = 24
"""Principal components that are kept of a virtual behaviour, at most: what places a new one is that small."""
PERPLEXITY = 30.0
ITERATIONS = 500
_DIGITS = 5

Floats = npt.NDArray[np.float64]


def write_map(trained: Trained, dataset: Dataset, path: Path, seed: int = 0) -> None:
    """Write the map of at most `MOST_USERS` users with behaviour before the split; nothing where they are too few."""
    users, items, actions = _sample(trained, dataset, np.random.default_rng(seed))
    if len(users) < 2:  # noqa: PLR2004  # of a single one no distances can be told
        return
    virtual = _virtual(trained, encode_users(dataset, trained.encoding)[users])
    distinct = np.unique(virtual.round(_DIGITS), axis=0)
    if len(distinct) < 2:  # noqa: PLR2004  # likewise
        return
    plane = _on_a_plane(_directions(_real(trained, items, actions)), _directions(distinct))
    fitted = PCA(n_components=min(COMPONENTS, *distinct.shape), svd_solver="full").fit(distinct)
    content = {
        "format": 1,
        "shape": list(trained.mean_virtual.shape),
        "real": plane[: len(users)].round(4).tolist(),
        "virtual": plane[len(users) :].round(4).tolist(),
        "mean": fitted.mean_.round(_DIGITS).tolist(),
        "components": fitted.components_.round(_DIGITS).tolist(),
        "known": fitted.transform(distinct).round(_DIGITS).tolist(),
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def _sample(trained: Trained, dataset: Dataset, rng: np.random.Generator) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Rows of users who acted before the split (U,), and their items and actions (U, L)."""
    histories = Histories.of(dataset, trained.encoding)
    everybody = np.arange(len(dataset.users))
    seen = histories.seen(everybody, np.full(len(everybody), trained.split_ms))
    users = np.sort(rng.permutation(np.flatnonzero(seen))[:MOST_USERS])
    items, actions, _ = histories.before(users, np.full(len(users), trained.split_ms))
    return users, items, actions


def _virtual(trained: Trained, attributes: IndexArray) -> Floats:
    """(U, M·D)."""
    with torch.inference_mode():
        made = trained.zero_shot(torch.from_numpy(attributes)).flatten(1)
    found: Floats = made.numpy().astype(np.float64)
    return found


def _real(trained: Trained, items: IndexArray, actions: IndexArray) -> Floats:
    """(U, M·D)."""
    known, tower = torch.from_numpy(items), trained.model.ranking
    with torch.inference_mode():
        if isinstance(tower, Experts):
            there = (known != PADDING).unsqueeze(2)
            made = (tower.keys[known] * there).sum(dim=1) / there.sum(dim=1)
        else:
            behaviour, valid = trained.model.embeddings.behaviour(known, torch.from_numpy(actions))
            made = condense(behaviour, valid, trained.config.architecture.virtual_vectors).flatten(1)
    found: Floats = made.numpy().astype(np.float64)
    return found


def _directions(vectors: Floats) -> Floats:
    """From the mean, each of length one; zeros where there is none."""
    found: Floats = vectors - vectors.mean(axis=0)
    found /= np.linalg.norm(found, axis=1, keepdims=True).clip(1e-12)
    return found


def _on_a_plane(*groups: Floats) -> Floats:
    """(all points, 2) in [0, 1]²."""
    together = np.concatenate(groups)
    perplexity = min(PERPLEXITY, (len(together) - 1) / 3)
    with threadpool_limits(1):  # its threads spin while they wait for each other
        plane = TSNE(
            n_components=2, perplexity=perplexity, init="random", random_state=0, max_iter=ITERATIONS
        ).fit_transform(together)
    low, high = plane.min(axis=0), plane.max(axis=0)
    found: Floats = ((plane - low) / np.maximum(high - low, 1e-12)).astype(np.float64)
    return found
