"""Nearest-neighbour users: what the users most like this one, by their attributes, act on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydantic.dataclasses
import scipy.sparse
from pydantic import PositiveInt
from sklearn.neighbors import NearestNeighbors

from foretaste.kernel.configuration import NO_OTHER_FIELDS, PositiveFloat, raises_invalid_input
from models.data.examples import Batch
from models.rivals.events import Numbers, TrainingBehaviour
from models.rivals.methods import Material
from models.runtime.encoding import IndexArray


@dataclass(frozen=True, eq=False)
class NeighbourRanker:
    """`index` finds the nearest of T kinds of training users, a kind being all with the same attributes."""

    method: "Neighbours"
    index: NearestNeighbors
    sizes: IndexArray
    """(T,) users of each kind."""
    matrix: scipy.sparse.csr_matrix
    """(T, item_count): their actions."""
    rates: Numbers
    """(item_count,): p, each item's share of all actions, one more of each item added."""

    def scores(self, batch: Batch) -> Numbers:
        tuples, which = np.unique(batch.attributes, axis=0, return_inverse=True)
        actions = (self.chosen(tuples) @ self.matrix).tocsr()
        totals = np.asarray(actions.sum(axis=1)).ravel()
        owners = which.ravel()[batch.owner]
        acted = np.asarray(actions[owners, batch.candidates]).ravel()
        rate = self.rates[batch.candidates]
        shrunk = (acted + self.method.shrinkage) / (totals[owners] * rate + self.method.shrinkage)
        found: Numbers = np.log(shrunk if self.method.relative else shrunk * rate)
        return found

    def chosen(self, attributes: IndexArray) -> scipy.sparse.csr_matrix:
        """(B, T): 1 for the kinds nearest to each of `attributes` (B, N), as many as hold k users together."""
        near = self.index.kneighbors(attributes, return_distance=False)
        sizes = self.sizes[near]
        wanted = np.cumsum(sizes, axis=1) - sizes < self.method.neighbours
        shape = (len(near), len(self.sizes))
        return scipy.sparse.csr_matrix((np.ones(wanted.sum()), (np.nonzero(wanted)[0], near[wanted])), shape)


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, config=NO_OTHER_FIELDS)
class Neighbours:
    """User-based nearest neighbours (Herlocker et al., SIGIR 1999) over attributes: scikit-learn's `NearestNeighbors`.

    The k users nearest by the number of attributes that differ (Hamming distance; users alike in all attributes are in
    or out together, so that they may be a few more) acted n times on item i and T times on anything. With p the item's
    share of all actions and c pseudo-actions,

        score = log[p (n + c) / (T p + c)],

    the log of the neighbours' rate, shrunk towards p. What the user asked about has done is not read.
    """

    neighbours: PositiveInt = 200
    """k, at most the training users that there are."""
    shrinkage: PositiveFloat = 10.0
    """c: pseudo-actions; an item's own share is not shrunk by them."""
    relative: bool = True
    """Leave the factor p out: only what the neighbours do more than everybody counts."""

    def fit(self, material: Material) -> NeighbourRanker:
        behaviour = TrainingBehaviour.of(material)
        kinds, which, sizes = np.unique(behaviour.attributes, axis=0, return_inverse=True, return_counts=True)
        members = (np.ones(len(which)), (which.ravel(), np.arange(len(which))))
        matrix = (scipy.sparse.csr_matrix(members, (len(kinds), len(which))) @ behaviour.matrix).tocsr()
        index = NearestNeighbors(
            n_neighbors=min(self.neighbours, len(kinds)), algorithm="brute", metric="hamming", n_jobs=material.threads
        ).fit(kinds)
        actions = np.asarray(behaviour.matrix.sum(axis=0)).ravel()
        rates = (actions + 1) / (actions.sum() + len(actions))
        return NeighbourRanker(self, index, sizes, matrix, rates)

    def trials(self) -> Sequence["Neighbours"]:
        return (
            self,
            replace(self, neighbours=4 * self.neighbours),
            replace(self, neighbours=max(self.neighbours // 4, 1)),
            replace(self, relative=not self.relative),
            replace(self, shrinkage=self.shrinkage / 5),
        )
