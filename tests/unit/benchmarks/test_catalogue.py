"""Towers for a catalogue of more items than they learned of."""

import numpy as np

from benchmarks.recommend.catalogue import enlarged
from models.training.questions import with_questions
from tests.questions_factory import asking


def test_an_enlarged_catalogue_asks_nothing() -> None:
    """What acts and answers tell is of the items that were learned of."""
    found = enlarged(asking()[0], 100, np.random.default_rng(0))
    assert found.encoding.item_count == 102
    assert with_questions(found) is found
