"""What a generation asks new users about, and what it makes of the answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import Attributes, FloatArray
from models.generations.load import restore
from models.generations.manifest import read_manifest
from models.runtime import layout
from models.runtime.local import LocalTowers
from models.runtime.refusals import BadRequest
from models.runtime.towers import ServedZeroShot
from models.training.questions import KnownItems, asked_items, with_questions
from tests.questions_factory import ITEMS, asking, questions_of, trained_on, two_tastes
from tests.towers_factory import TINY, config
from tests.towers_factory import trained as knows_few

EVERY = [f"i{item}" for item in range(ITEMS)]


def is_even(item: str) -> bool:
    return int(item[1:]) % 2 == 0


def answers(*, even: bool, count: int = 5) -> Attributes:
    """Those of a user who likes even items, or odd ones, to the first questions."""
    asked = questions_of(asking()[2])[:count]
    return {
        "city": "north",
        "answered_yes": [item for item in asked if is_even(item) == even],
        "answered_no": [item for item in asked if is_even(item) != even],
    }


def scores(towers: LocalTowers, attributes: Attributes) -> FloatArray:
    virtual = towers.virtual_behaviour([attributes])[0]
    (found,) = towers.score([RankingInput({"city": "north"}, {}, Behaviour(), virtual, EVERY)])
    return found


@pytest.fixture(scope="module")
def towers() -> LocalTowers:
    return LocalTowers.of(asking()[2])


def test_answers_tell_the_tastes_apart(towers: LocalTowers) -> None:
    asked = questions_of(asking()[2])
    left = np.array([item not in asked[:5] for item in EVERY])
    even = np.array([is_even(item) for item in EVERY])
    for likes_even in (True, False):
        moved = scores(towers, answers(even=likes_even)) - scores(towers, {"city": "north"})
        of_taste, of_other = moved[left & (even == likes_even)], moved[left & (even != likes_even)]
        assert np.median(of_taste) > 0 > np.median(of_other)


def test_the_first_questions_are_of_both_tastes_and_all_are_of_the_items_that_are_known_most() -> None:
    trained, data, folder = asking()
    asked = questions_of(folder)
    assert len(asked) == len(set(asked)) == ITEMS
    assert {is_even(item) for item in asked[:5]} == {True, False}
    counts = np.bincount(KnownItems.before(trained, data).items)
    first = [counts[trained.encoding.items.index(item) + 2] for item in asked[:5]]
    assert np.mean(first) > np.median(counts[2:]), "an answer about an item that few know tells little"


def test_the_candidates_follow_the_answers(towers: LocalTowers) -> None:
    """Of a catalogue without attributes."""
    for likes_even in (True, False):
        virtual = towers.virtual_behaviour([answers(even=likes_even)])[0]
        (found,) = towers.candidates(
            [CandidateRequest(Behaviour(), virtual, nearest=8, popular=0, exploratory=0, seed=0)]
        )
        assert np.mean([is_even(item) == likes_even for item in found]) > 0.7


def test_who_answers_nothing_is_ranked_as_before() -> None:
    trained, data, _ = asking()
    questions = asked_items(trained, data)
    assert questions is not None
    after = with_questions(trained, questions).model.state_dict()
    columns = questions.posterior.columns
    for name, before in trained.model.state_dict().items():
        if name == "ranking.keys":
            assert not before[:, columns].any()
            assert after[name][:, columns].any()
            kept = np.setdiff1d(np.arange(before.shape[1]), columns)
            np.testing.assert_array_equal(after[name][:, kept], before[:, kept])
        else:
            np.testing.assert_array_equal(after[name], before)


def test_training_goes_on_from_towers_without_questions() -> None:
    trained, _, folder = asking()
    restored = restore(folder)
    assert restored.encoding.to_json() == trained.encoding.to_json()
    np.testing.assert_array_equal(restored.model.ranking.keys, trained.model.ranking.keys)
    assert not restored.answers.asks


def test_where_answers_tell_nothing_nothing_is_asked(tmp_path: Path) -> None:
    data = two_tastes(tmp_path / "data", liked=0.5)
    assert asked_items(trained_on(data), data) is None


def test_of_few_users_nothing_is_asked(tmp_path: Path) -> None:
    data = two_tastes(tmp_path / "data", users=150)
    assert asked_items(trained_on(data), data) is None


@pytest.mark.parametrize("tower", ["no keys", "codes that are no sums"])
def test_towers_with_no_place_for_answers_ask_nothing(tower: str) -> None:
    trained, data, _ = asking()
    if tower == "no keys":
        other = replace(trained, model=knows_few().model, config=config(architecture=TINY))
    else:
        other = replace(trained, config=replace(trained.config, architecture=replace(TINY, ranking="recency")))
    assert asked_items(other, data) is None


def test_where_attributes_leave_no_number_free_nothing_is_asked() -> None:
    trained, data, _ = asking()
    model = with_questions(trained, asked_items(trained, data)).model  # type: ignore[arg-type]
    model.ranking.keys[:] = 1.0
    assert asked_items(replace(trained, model=model), data) is None


def test_the_file_is_named_by_the_manifest() -> None:
    assert layout.QUESTIONS in read_manifest(asking()[2]).files


def test_rows_of_a_caller_of_an_earlier_version_have_no_answers(towers: LocalTowers) -> None:
    folder = asking()[2]
    served = ServedZeroShot(folder)
    encoded = towers.encoding.encode_sign_ups([answers(even=True), {"city": "north"}])
    without = served.run(served.checked(encoded[:, :1]))
    np.testing.assert_array_equal(without[0], without[1])
    np.testing.assert_array_equal(without[1], served.run(served.checked(encoded))[1])


@pytest.mark.parametrize("wrong", ["width", "question"])
def test_rows_that_no_encoding_makes_are_refused(towers: LocalTowers, wrong: str) -> None:
    encoded = towers.encoding.encode_sign_ups([answers(even=True)])
    if wrong == "width":
        encoded = encoded[:, :-1]
    else:
        encoded[0, -1] = 2 * ITEMS + 1
    with pytest.raises(BadRequest, match="attributes: "):
        ServedZeroShot(asking()[2]).checked(encoded)
