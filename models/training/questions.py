"""Questions to new users about items: which are asked, and what their answers tell of taste.

Who acted on an item stands for who would say yes to it. How much likelier a user of asked item q acts on item i is

    lift(q, i) = log[(C(q, i) + κ) / (E(q, i) + κ)],    C(q, i) = Σ_u x_uq x_ui / n_u,

where x_ui says whether user u acted on i, n_u counts these items, and E is what popularity alone would give. If taste
is u ~ N(0, I) and log-odds are k · u, lifts are k(q) · k(i): the greatest eigenvalues of the asked items' lifts among
themselves give their k, and each other item's k is the one that fits its lifts to all of them (Nyström). How much of
it counts is what tells other users' first acts best; where that is surely nothing, a generation asks nothing. In these
directions first acts are read too (`models.runtime.acts`).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from numpy.random import Generator
from scipy import sparse

from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.dataset import Dataset
from models.data.examples import Batch, encode_users
from models.data.indices import item_indices
from models.effects.codes import reserved
from models.runtime.account_age import age_bins
from models.runtime.acts import ActPosterior
from models.runtime.answers import ACTIVITY, AnswerPosterior, AskedItems
from models.runtime.encoding import FIRST_KNOWN, PADDING, IndexArray
from models.towers.forms import ranking_arguments
from models.towers.ranking.acts import ActTerm
from models.towers.ranking.experts import Experts
from models.towers.registry import FITTED
from models.training.trained import Trained

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
QUESTIONS = 64
"""Q, at most: the items that most users acted on, which a new one may know."""
SHRINKAGE = 0.3
"""κ, users of one item that are added to what is counted and to what is expected."""
LEAST_USERS = 200
"""Who acted on two items: of fewer, chance tells more than taste."""
ASKED = 5
"""Questions whose answers the weight is chosen for."""
WEIGHTS = (0.5, 1.0, 1.5, 2.0)
"""Of what answers tell, against the lifts."""
JUDGED, ACTS, OTHERS = 1000, 10, 4
"""Users whose first acts the weight is chosen by, acts of each, and items that each act is told from."""
AT_SIGN_UP_MS = 60_000
"""Age of an account whose user has answered."""
_CHUNK = 65_536
"""Items whose lifts are found at once."""


class KnownItems(NamedTuple):
    """Who acted on what: `users` (R,) rows of users and `items` (R,) indices, each pair once.

    In order of users and, of each, of time.
    """

    users: IndexArray
    items: IndexArray

    @classmethod
    def before(cls, trained: Trained, dataset: Dataset) -> "KnownItems":
        """What the towers could learn of: interactions that were acted on before their split, and behaviours."""
        acted = dataset.interactions[dataset.interactions["label"] == 1]
        frames = [each for each in (dataset.behaviours, acted) if each is not None]  # of one time, what was seen before
        return cls.of(trained, dataset, [each[each["time_ms"] < trained.split_ms] for each in frames])

    @classmethod
    def not_chosen(cls, trained: Trained, dataset: Dataset) -> "KnownItems | None":
        """What users were shown before the split and did not act on; None where the data do not tell."""
        if not dataset.has_labels:
            return None
        passed = dataset.interactions[dataset.interactions["label"] == 0]
        return cls.of(trained, dataset, [passed[passed["time_ms"] < trained.split_ms]])

    @classmethod
    def of(cls, trained: Trained, dataset: Dataset, frames: Sequence[pd.DataFrame]) -> "KnownItems":
        """Of tables whose rows are of one kind."""
        users = np.concatenate([dataset.user_rows(each["user_id"]) for each in frames]).astype(np.int64)
        items = np.concatenate([item_indices(dataset, trained.encoding, each["item_id"]) for each in frames])
        times = np.concatenate([each["time_ms"].to_numpy(dtype=np.int64) for each in frames])
        order = np.lexsort((times, users))
        users, items = users[order], items[order].astype(np.int64)
        _, first = np.unique(users * trained.encoding.item_count + items, return_index=True)
        kept = np.sort(first[(items[first] >= FIRST_KNOWN) & (users[first] >= 0)])
        return cls(users[kept], items[kept])

    def of_each(self, users: IndexArray) -> list[IndexArray]:
        """The items of each of `users`, in order of time."""
        starts, ends = (np.searchsorted(self.users, users, side=side).tolist() for side in ("left", "right"))
        return [self.items[start:end] for start, end in zip(starts, ends, strict=True)]

    def only(self, users: IndexArray) -> "KnownItems":
        """Those of `users`."""
        kept = np.isin(self.users, users)
        return KnownItems(self.users[kept], self.items[kept])


def with_questions(trained: Trained) -> Trained:
    """The towers as they are served: what answers put into virtual behaviour has its keys, and first acts count.

    Nothing else changes, and training goes on from the towers without. The other tables are those of `trained`. Towers
    that are served so already stay as they are.
    """
    asked = trained.asked
    if asked is None or trained.encoding.questions.items:
        return trained
    keys = trained.model.ranking.get_buffer("keys")
    others = [each for each in (*trained.model.parameters(), *trained.model.buffers()) if each is not keys]
    model = copy.deepcopy(trained.model, {id(each): each for each in others})
    model.ranking.get_buffer("keys")[:, torch.from_numpy(asked.posterior.columns)] = torch.from_numpy(asked.keys)
    if asked.acts is not None:
        model.ranking.acts = ActTerm(asked.posterior.columns, asked.acts)
    encoding = trained.encoding.with_questions(asked.posterior, reads_passed_over=asked.acts is not None)
    return replace(trained, model=model, encoding=encoding)


def asked_items(trained: Trained, dataset: Dataset, before: AskedItems | None = None) -> AskedItems | None:
    """What a generation asks; None where it asks nothing: its ranking tower has no keys, attributes leave no number of
    virtual behaviour free, too few users are known, or their acts bear out that answers tell nothing.

    Of too few users it asks what the generation `before` it did, whose vocabulary it continues.
    """
    tower = trained.model.ranking
    if not isinstance(tower, Experts) or trained.config.architecture.zero_shot not in FITTED:
        return None
    width = tower.keys.shape[1]
    columns = np.arange(width - reserved(width), width)
    acts = KnownItems.before(trained, dataset)
    users, numbers = np.unique(acts.users, return_counts=True)
    users = users[numbers > 1]
    if not len(columns) or tower.keys[:, torch.from_numpy(columns)].any():
        return None
    if len(users) < LEAST_USERS:
        if before is None or before.keys.shape[1] > len(columns):
            return None
        return before.grown(trained.encoding.item_count, columns)
    rng = np.random.default_rng(trained.config.seed)
    shuffled = rng.permutation(users)
    half = len(users) // 2
    tried = _fitted(acts.only(shuffled[:half]), trained, columns)
    first_asked = trained.encoding.encode_items(tried.posterior.items[:ASKED])
    not_chosen = KnownItems.not_chosen(trained, dataset)
    first = FirstActs.of(acts, shuffled[half:][:JUDGED], first_asked, trained.popularity, rng, not_chosen)
    weight = _weight(trained, dataset, tried, first)
    return _fitted(acts, trained, columns).weighted(weight) if weight else None


def _fitted(acts: KnownItems, trained: Trained, columns: IndexArray) -> AskedItems:
    users, rows = np.unique(acts.users, return_inverse=True)
    shape = len(users), trained.encoding.item_count
    acted = sparse.csr_array((np.ones(len(rows)), (rows, acts.items)), shape=shape)
    by_user = np.asarray(acted.sum(axis=1)).ravel()
    by_item = np.asarray(acted.sum(axis=0)).ravel()
    asked = np.argsort(-by_item, kind="stable")[:QUESTIONS]
    asked = asked[by_item[asked] > 0]
    share = acted.T @ (1 - 1 / by_user)
    keys = _keys(acted, by_user, share, asked, len(columns))
    rates = np.clip(by_item[asked] / len(users), 1e-3, 1 - 1e-3)
    spread = keys.T @ (share[:, None] / share.sum() * keys)
    order = _best_first(keys[asked], rates, spread)
    asked, rates = asked[order], rates[order]
    log_odds = np.log(rates / (1 - rates))
    items = tuple(trained.encoding.items[index - FIRST_KNOWN] for index in asked.tolist())
    posterior = AnswerPosterior(items, keys[asked], log_odds.astype(np.float32), columns[: keys.shape[1]])
    return AskedItems(posterior, keys, ActPosterior.of(spread))


def _keys(acted: sparse.csr_array, by_user: Doubles, share: Doubles, asked: IndexArray, most: int) -> Floats:
    """(items, T): k of each item, centred over what everybody acts on, in `most` directions at most."""
    of_asked = sparse.csc_array(acted[:, asked]).multiply(1 / by_user[:, None]).T.tocsr()
    expected = share[asked] / share.sum()

    def lifts(start: int, stop: int) -> Floats:
        counted = (of_asked @ acted[:, start:stop]).toarray().astype(np.float32)
        found: Floats = np.log(
            (counted + SHRINKAGE) / (np.outer(expected, share[start:stop]).astype(np.float32) + SHRINKAGE)
        )
        return found

    items = acted.shape[1]
    every = [lifts(at, min(at + _CHUNK, items)) for at in range(0, items, _CHUNK)]
    whole = np.concatenate(every, axis=1)
    whole[np.arange(len(asked)), asked] = 0.0  # an item's lift to itself is no taste
    values, vectors = np.linalg.eigh(whole[:, asked])
    greatest = np.argsort(-values)[:most]
    greatest = greatest[values[greatest] > 0]
    keys: Doubles = whole.T @ (vectors[:, greatest] / np.sqrt(values[greatest]))
    keys -= share @ keys / share.sum()
    keys[share == 0] = 0.0  # padding, unknown and whatever nobody acted on
    return keys.astype(np.float32)


def _best_first(keys: Floats, rates: Doubles, spread: Doubles) -> IndexArray:
    """The places of the questions, by how much each narrows what is expected of the items, given those before it.

    Greedy in the trace of `spread` (T, T), the items' second moments, times the posterior covariance of taste.
    """
    directions = keys.shape[1]
    keys = np.hstack([keys, np.ones((len(keys), 1))])
    covariance = np.diag([*np.ones(directions), ACTIVITY])
    spread = np.pad(spread, (0, 1))  # how much a user does moves no ranking
    variances = 1 / (rates * (1 - rates))
    left, order = list(range(len(keys))), []
    while left:
        moved = keys[left] @ covariance
        gains = np.einsum("qs,st,qt->q", moved, spread, moved)
        gains /= np.einsum("qt,qt->q", moved, keys[left]) + variances[left]
        best = int(gains.argmax())
        own = moved[best]
        covariance -= np.outer(own, own) / (own @ keys[left[best]] + variances[left[best]])
        order.append(left.pop(best))
    return np.array(order, dtype=np.int64)


class FirstActs(NamedTuple):
    """What users did first, beside other items, and what they answer."""

    users: IndexArray
    """(U,) rows of users."""
    answers: npt.NDArray[np.bool_]
    """(U, A): whether each says yes to the items that are asked about."""
    owner: IndexArray
    """(R,) the place of the user of each act."""
    candidates: IndexArray
    """(R, 1 + `OTHERS`): the item acted on, and others that the user was shown, or where the data do not tell of such,
    drawn by popularity; `PADDING` for one that the user acted on, and where there is none."""

    @classmethod
    def of(
        cls,
        acts: KnownItems,
        users: IndexArray,
        asked: IndexArray,
        popularity: Doubles,
        rng: Generator,
        not_chosen: KnownItems | None = None,
    ) -> Self:
        """Of `users` who acted on something that is not asked about."""
        every = acts.of_each(users)
        firsts = [own[~np.isin(own, asked)][:ACTS] for own in every]
        kept = np.flatnonzero([len(each) > 0 for each in firsts])
        owner = np.repeat(np.arange(len(kept)), [len(firsts[place]) for place in kept])
        acted = np.concatenate([np.zeros(0, dtype=np.int64), *(firsts[place] for place in kept)])
        others = np.full((len(owner), OTHERS), PADDING, dtype=np.int64)
        if not_chosen is None:
            others[:] = rng.choice(len(popularity), others.shape, p=popularity / popularity.sum())
        shown = [acts.items[:0]] * len(kept) if not_chosen is None else not_chosen.of_each(users[kept])
        answers = np.zeros((len(kept), len(asked)), dtype=np.bool_)
        for user, place in enumerate(kept):
            answers[user] = np.isin(asked, every[place])
            own = others[owner == user]
            if len(shown[user]):
                own[:] = rng.choice(shown[user], own.shape)
            own[np.isin(own, every[place]) | np.isin(own, asked)] = PADDING
            others[owner == user] = own
        return cls(users[kept], answers, owner, np.concatenate([acted[:, None], others], axis=1))

    def taste(self, posterior: AnswerPosterior, places: Sequence[int]) -> Floats:
        """(R, T) û of each act's user, by the answers to the questions at these places."""
        found = [posterior.taste(dict(zip(places, row, strict=True))) for row in self.answers.tolist()]
        return np.array(found, dtype=np.float32)[self.owner]


def _weight(trained: Trained, dataset: Dataset, fitted: AskedItems, first: FirstActs) -> float:
    """Of what answers tell: with which the acts are likeliest among the others; 0 where they are no likelier than
    without answers, by two standard errors over users."""
    if not len(first.users):
        return 0.0
    base = logits_at_sign_up(trained, dataset, first)
    taste = first.taste(fitted.posterior, range(first.answers.shape[1]))
    moved = np.einsum("rkt,rt->rk", fitted.keys[first.candidates], taste)

    def likelihood(weight: float) -> Doubles:
        logits = np.where(first.candidates == PADDING, -np.inf, base + weight * moved)
        own = logits[:, 0] - np.logaddexp.reduce(logits, axis=1)
        found: Doubles = np.bincount(first.owner, own) / np.bincount(first.owner)
        return found

    without = likelihood(0.0)
    gains = {weight: likelihood(weight) - without for weight in WEIGHTS}
    best = max(gains, key=lambda weight: gains[weight].mean())
    error = gains[best].std() / np.sqrt(len(without))
    return best if gains[best].mean() > 2 * error else 0.0


def logits_at_sign_up(trained: Trained, dataset: Dataset, first: FirstActs) -> Doubles:
    """(R, K) for the candidates of users without behaviour, as they sign up; `dataset` has their attributes."""
    users, encoding = len(first.users), trained.encoding
    attributes = encode_users(replace(dataset, users=dataset.users.iloc[first.users]), encoding)
    nothing = np.full((users, MAX_BEHAVIOUR), PADDING, dtype=np.int64)
    zeros = np.zeros(users, dtype=np.int64)
    batch = Batch(
        users=zeros,
        attributes=attributes,
        context=encoding.encode_context([{}] * users),
        items=nothing,
        actions=nothing,
        candidates=first.candidates.ravel(),
        labels=np.zeros(first.candidates.size, dtype=np.float32),
        owner=np.repeat(first.owner, first.candidates.shape[1]),
        times_ms=zeros,
        seen=zeros,
        ages=age_bins(zeros, zeros + AT_SIGN_UP_MS, encoding.age_bounds),
    )
    with torch.inference_mode():
        virtual = trained.zero_shot(torch.from_numpy(attributes))
        logits = trained.ranking.logits(*ranking_arguments(batch, virtual, virtual.device))
    found: Doubles = logits.double().numpy().reshape(first.candidates.shape)
    return found
