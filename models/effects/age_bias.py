"""What distinguishes users by how long they have been one: a correction of each item's bias for each bin of age.

A user of whom nothing was seen is at the very first moments, or came back without having acted, or is one whose
behaviour did not get here: only the account's age tells them apart. With b(i) the bias of an item and s(i) what the
number of behaviours seen adds to it (`models.effects.seen_bias`), the bias of a user of age bin k is

    b(i) + s(i) + a_k(i)    with behaviour,    a_k from all that users of that age did;
    b(i) + h_k(i) + f_k(i)  without any,       h_k from all that users of that age did, whatever was seen of them,
                                               and f_k from those of whom nothing was seen then.

Each has a Gaussian prior about 0 whose precision the evidence finds: where nobody of an age was without behaviour, f_k
is 0, and what users of that age do at all is the best that is known. A user of unknown age has b + s alone.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from models.effects.counts import InteractionRows
from models.effects.low_rank import Doubles
from models.effects.seen_bias import FIRST_OF_SEEN_BIN, SEEN_BINS, Evidence, Judgements, correction
from models.runtime.account_age import UNKNOWN_AGE
from models.runtime.encoding import IndexArray

Floats = npt.NDArray[np.float32]
Judge = Callable[[IndexArray], tuple[IndexArray, Judgements]]
"""Of rows (R,): the place in them of each judgement, and the judgements, whose offsets are what attributes say."""
PARTS = 3
"""Bins of evidence of an age: with behaviour, whatever was seen, without any."""


def evidence_bins(ages: int) -> int:
    """How many bins the evidence has: those of behaviours seen, and `PARTS` of each of A known ages."""
    return len(FIRST_OF_SEEN_BIN) + PARTS * ages


def age_stages(ages: int) -> IndexArray:
    """(1 + L, 1 + A): the row of `age_biases` for a number of behaviours seen and a bin of age."""
    of_age = np.arange(1 + ages)
    stages = np.tile(of_age, (len(SEEN_BINS), 1))
    stages[0] = np.where(of_age == UNKNOWN_AGE, 0, of_age + ages)
    return stages


def age_biases(
    base: Doubles,
    biases: Floats,
    rows: InteractionRows,
    judge: Judge,
    most: int,
    rng: Generator,
    evidence: Evidence,
) -> Floats:
    """(1 + 2 A, items): what is to be added to `biases` (S, items) of the bins of behaviours seen; zeros for unknown.

    `base` (items,) is b. Of each age at most `most` rows are read. `evidence`, of `evidence_bins`, is that of
    earlier windows, and is given that of these rows.
    """
    ages = (len(evidence.rows) - len(FIRST_OF_SEEN_BIN)) // PARTS
    found = np.zeros((1 + 2 * ages, biases.shape[1]), dtype=np.float32)
    of_seen = biases.astype(np.float64)
    seen_bins, nothing = SEEN_BINS[rows.seen], np.zeros((len(biases), len(base)))

    def corrected(part: int, age: int, own: IndexArray, start: Doubles, offsets: Doubles) -> Doubles:
        """`start` (items,) after what these rows say, beside `offsets` (S, items) by behaviours seen."""
        number = len(FIRST_OF_SEEN_BIN) + part * ages + age - 1
        read, share = evidence.room(number, len(own), most)
        evidence.rows[number] += len(own)
        evidence.read[number] = share * evidence.read[number] + read
        if read < len(own):
            own = rng.choice(own, read, replace=False)
        if not evidence.read[number]:
            return start
        owner, judged = judge(own)
        given = judged.offsets + offsets[seen_bins[own][owner], judged.items] + start[judged.items]
        added, evidence.slope[number], evidence.curvature[number] = correction(
            judged._replace(offsets=given),
            start,
            share * evidence.slope[number],
            share * evidence.curvature[number],
            None,
        )
        return start + added

    for age in range(1, 1 + ages):
        of_age = rows.ages == age
        acted = rows.seen > 0
        found[age] = corrected(0, age, np.flatnonzero(of_age & acted), np.zeros(len(base)), of_seen)
        whatever = corrected(1, age, np.flatnonzero(of_age), base, nothing)
        first = corrected(2, age, np.flatnonzero(of_age & ~acted), whatever, nothing)
        read_whatever_was_seen = evidence.read[len(FIRST_OF_SEEN_BIN) + ages + age - 1]
        if read_whatever_was_seen:  # else nothing is known of this age: as of an unknown one
            found[ages + age] = first - of_seen[0]
    return found
