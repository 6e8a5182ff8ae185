"""Rivals small enough to be fitted within a second or two, and the material that they learn from."""

from dataclasses import replace
from functools import cache

import numpy as np

from models.data.dataset import Dataset
from models.data.examples import Batch, Examples
from models.data.histories import Histories
from models.data.sampling import NegativeSampler
from models.data.split import TimeSplit
from models.data.vocabulary import fit_encoding, item_counts
from models.rivals.cmclrec import CMCLRec
from models.rivals.dropoutnet import DropoutNet
from models.rivals.item_attribute import ItemAttribute
from models.rivals.linear import LLAE, EmbLR
from models.rivals.mean_behaviour import MeanBehaviour
from models.rivals.metaemb import MetaEmb
from models.rivals.methods import Material, Method, Ranker
from models.rivals.neighbours import Neighbours
from models.rivals.popularity import Popularity
from models.rivals.recent_popularity import RecentPopularity
from models.runtime.encoding import IndexArray
from models.training.config import TrainingConfig
from tests import towers_factory


def base() -> TrainingConfig:
    """A small BaseDNN."""
    config = towers_factory.config(masked="nobody", epochs=3)
    return replace(
        config, architecture=replace(config.architecture, ranking="dnn", zero_shot="absent", virtual_vectors=2)
    )


def rivals() -> dict[str, Method]:
    """One of each by its name in the comparison, small."""
    return {
        "popularity": Popularity(),
        "recent-popularity": RecentPopularity(days=20.0),
        "item-attribute": ItemAttribute(shrinkage=3.0),
        "neighbours": Neighbours(neighbours=40),
        "mean-behaviour": MeanBehaviour(base=base()),
        "emblr": EmbLR(base=base()),
        "llae": LLAE(rank=3, base=base()),
        "dropoutnet": DropoutNet(factors=8, hidden=32, items=64, batch=64, epochs=60),
        "metaemb": MetaEmb(hidden=16, base=base(), epochs=3),
        "cmclrec": CMCLRec(hidden=16, base=base(), epochs=10),
    }


def material_of(dataset: Dataset, split: TimeSplit, *, seed: int = 0) -> Material:
    """As the evaluation makes it: nothing at or after the instant."""
    learning = replace(dataset, interactions=split.train)
    encoding = fit_encoding(learning, split.instant_ms)
    return Material(
        dataset=learning,
        split=replace(split, test=split.test.iloc[:0], cold_users=(), warm_users=()),
        encoding=encoding,
        histories=Histories.of(learning, encoding),
        seed=seed,
        threads=1,
        device="cpu",
    )


@cache
def material(seed: int = 0) -> Material:
    return material_of(*towers_factory.dataset(), seed=seed)


@cache
def fitted(name: str, seed: int = 0) -> Ranker:
    return rivals()[name].fit(material(seed))


@cache
def questions(*, cold: bool = True) -> Batch:
    """Events of the new users after the split with behaviour hidden, or those of the warm ones with theirs, and four
    sampled negatives each."""
    data, split = towers_factory.dataset()
    encoding = material().encoding
    counts = item_counts(data, encoding, split.instant_ms)
    users = split.cold_users if cold else split.warm_users
    examples = Examples.of(data, split.test[split.test["user_id"].isin(users)], encoding, Histories.of(data, encoding))
    sampler = NegativeSampler(data, encoding, counts, np.random.default_rng(1))
    batch = examples.batch(np.arange(len(examples.sizes)), sampler)
    return batch.hidden(np.full(len(batch.users), cold))


def with_attributes(batch: Batch, attributes: IndexArray) -> Batch:
    return replace(batch, attributes=attributes)


def in_one_context(batch: Batch) -> Batch:
    """Every moment in the context of the first."""
    return replace(batch, context=np.repeat(batch.context[:1], len(batch.users), axis=0))
