"""What a generation was trained on, small enough to travel with its record: what drift is told by."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pydantic.dataclasses
from pydantic import NonNegativeInt, PositiveInt

from foretaste.kernel.configuration import NO_OTHER_FIELDS, raises_invalid_input
from foretaste.kernel.profile import Calibration, Profile, Shares
from foretaste.kernel.users import STAGES, Stage
from models.data.examples import Examples, batches
from models.data.sampling import NegativeSampler
from models.data.stages import stages_of
from models.effects.seen_bias import FIRST_OF_SEEN_BIN
from models.evaluation.offline import pooled_behaviour, probabilities, virtual_behaviour
from models.runtime.encoding import FIRST_KNOWN, IndexArray, columns_of
from models.runtime.fields.base import FieldShares, shares_of_values
from models.training.questions import with_questions
from models.training.trained import Trained

LENGTHS = FIRST_OF_SEEN_BIN[1:]
"""Edges between numbers of behaviours seen."""


MOST_BYTES = 32 * 1024
"""Of the JSON text, which is part of a record that readers hold."""
_DIGITS = 6


@raises_invalid_input
@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=NO_OTHER_FIELDS)
class ProfileConfig:
    """How much a profile keeps."""

    values: NonNegativeInt = 50
    """Of each categorical attribute, the most frequent."""
    items: NonNegativeInt = 200
    """The most popular."""
    moments: NonNegativeInt = 20_000
    """Drawn at random for the norms and for calibration, at most."""
    batch: PositiveInt = 16_384
    """Rows scored at once."""


def profile_of(
    trained: Trained,
    examples: Examples,
    rng: np.random.Generator,
    *,
    sampler: NegativeSampler | None = None,
    negatives: int = 4,
    config: ProfileConfig | None = None,
) -> Profile:
    """The profile of the `examples` that `trained` learned from, with the towers as served.

    With a `sampler`, calibration is against so many `negatives` a row.

    Where the JSON text would be longer than `MOST_BYTES`, fewer values and items are kept, and then fewer attributes.
    """
    config = config or ProfileConfig()
    trained = with_questions(trained)
    users = examples.users.astype(np.int64)
    columns = examples.attributes[users]
    fields = trained.encoding.attributes
    counts = {
        name: [np.bincount(each, minlength=size) for each, size in zip(columns[:, own].T, field.sizes, strict=True)]
        for name, field, own in columns_of(fields)
    }
    seen = examples.histories.seen(users, examples.times_ms)
    lengths = np.bincount(np.searchsorted(LENGTHS, seen, side="right"), minlength=len(LENGTHS) + 1)
    virtual_norm, behaviour_norm, calibration = _measured(trained, examples, rng, sampler, negatives, config)
    whole = Profile(
        moments=len(users),
        attributes={name: _shares(field.shares(counts[name], config.values)) for name, field in fields.items()},
        lengths=_shares(FieldShares((*lengths.tolist(), 0.0), edges=LENGTHS)),
        items=_shares(shares_of_values(trained.encoding.items, trained.popularity[FIRST_KNOWN:], 0.0, config.items)),
        virtual_norm=virtual_norm,
        behaviour_norm=behaviour_norm,
        calibration=calibration,
    )
    return _within(whole, MOST_BYTES)


def _measured(
    trained: Trained,
    examples: Examples,
    rng: np.random.Generator,
    sampler: NegativeSampler | None,
    negatives: int,
    config: ProfileConfig,
) -> tuple[float | None, float | None, dict[Stage, Calibration]]:
    """The mean norms of v̂ and of v, and calibration."""
    total = len(examples.sizes)
    drawn = np.sort(rng.choice(total, min(config.moments, total), replace=False)) if total else np.zeros(0, np.int64)
    virtual, real, rows = _Mean(), _Mean(), []
    for part in batches(examples.sizes[drawn], config.batch):
        batch = examples.batch(drawn[part], sampler, negatives)
        made = virtual_behaviour(trained, batch)
        virtual.add(_norms(made.numpy()))
        real.add(_norms(pooled_behaviour(trained, batch, made.shape[1]).numpy())[batch.seen > 0])
        rows.append(
            (
                stages_of(batch.seen, trained.config.warm_after)[batch.owner],
                batch.labels,
                probabilities(trained, batch, made),
            )
        )
    if not rows:
        return None, None, {}
    stages, labels, scores = (np.concatenate(column) for column in zip(*rows, strict=True))
    return virtual.value, real.value, _calibration(stages, labels, scores)


class _Mean:
    """Of finite numbers that come in parts; None of none."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, numbers: npt.NDArray[np.float64]) -> None:
        finite = numbers[np.isfinite(numbers)]
        self._total, self._count = self._total + float(finite.sum()), self._count + len(finite)

    @property
    def value(self) -> float | None:
        return round(self._total / self._count, _DIGITS) if self._count else None


def _norms(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(U,) of (U, M, D)."""
    found: npt.NDArray[np.float64] = np.linalg.norm(vectors.reshape(len(vectors), -1).astype(np.float64), axis=1)
    return found


def _calibration(
    stages: IndexArray, labels: npt.NDArray[np.float32], scores: npt.NDArray[np.float64]
) -> dict[Stage, Calibration]:
    if labels.min() == labels.max() or not np.isfinite(scores).all():
        return {}
    return {
        stage: Calibration(
            predicted=round(float(scores[own].mean()), _DIGITS),
            observed=round(float(labels[own].mean()), _DIGITS),
            impressions=int(own.sum()),
        )
        for place, stage in enumerate(STAGES)
        if (own := stages == place).any()
    }


def _shares(met: FieldShares) -> Shares:
    total = sum(met.weights) or 1.0
    shares = tuple(round(weight / total, _DIGITS) for weight in met.weights)
    return Shares(values=met.values, edges=met.edges, shares=shares, of_lists=met.of_lists, vector=met.vector)


def _within(profile: Profile, most_bytes: int) -> Profile:
    """The same with fewer values of each, halved until the text is short enough, and then with fewer attributes."""
    while _length(profile) > most_bytes:
        longest = max(map(_known, (*profile.attributes.values(), profile.items)), default=0)
        if longest:
            profile = _shortened(profile, longest // 2)
        else:
            *kept, _ = profile.attributes
            left_out = profile.left_out + 1
            attributes: Mapping[str, Shares] = {name: profile.attributes[name] for name in kept}
            profile = profile.model_copy(update={"attributes": attributes, "left_out": left_out})
    return profile


def _length(profile: Profile) -> int:
    return len(profile.model_dump_json().encode())


def _known(shares: Shares) -> int:
    return len(shares.values or ())


def _shortened(profile: Profile, most: int) -> Profile:
    attributes = {name: _fewer(shares, most) for name, shares in profile.attributes.items()}
    return profile.model_copy(update={"attributes": attributes, "items": _fewer(profile.items, most)})


def _fewer(shares: Shares, most: int) -> Shares:
    """At most so many values; what the others had is added to the other ones'."""
    if shares.values is None or len(shares.values) <= most:
        return shares
    *known, other, missing = shares.shares
    if shares.of_lists:
        total = sum(known[:most]) + missing or 1.0
        kept = [round(each / total, _DIGITS) for each in (*known[:most], 0.0, missing)]
        return shares.model_copy(update={"values": shares.values[:most], "shares": tuple(kept)})
    rest = round(other + sum(known[most:]), _DIGITS)
    return shares.model_copy(update={"values": shares.values[:most], "shares": (*known[:most], rest, missing)})
