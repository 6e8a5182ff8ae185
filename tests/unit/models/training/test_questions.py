"""What a generation asks new users about, and what it makes of the answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foretaste.kernel.ranking import RankingInput
from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour
from foretaste.kernel.values import FIRST_ACTS, FloatArray
from models.data.split import split_by_time
from models.effects.by_gradient.factors import DescentConfig
from models.effects.fit import EffectsConfig
from models.generations.load import restore
from models.generations.manifest import read_manifest
from models.generations.parity import attribute_tensor, probes, ranking_tensors
from models.runtime import layout
from models.runtime.answers import AskedItems
from models.runtime.local import LocalTowers
from models.runtime.refusals import BadRequest
from models.runtime.towers import ServedRanking
from models.training.cotrain import cotrain
from models.training.item_kinds import as_served
from models.training.questions import KnownItems, asked_items, with_questions
from models.training.trained import Trained
from tests.questions_factory import ITEMS, answers, asking, is_even, questions_of, trained_on, two_tastes
from tests.towers_factory import SMALL, TINY, config
from tests.towers_factory import trained as knows_few

EVERY = [f"i{item}" for item in range(ITEMS)]
CITY = {"city": "north"}
NO_FILTER = np.array([[-1, -2, 0]])


def scores(towers: LocalTowers, behaviour: Behaviour) -> FloatArray:
    virtual = towers.virtual_behaviour([CITY])[0]
    (found,) = towers.score([RankingInput(CITY, {}, behaviour, virtual, EVERY)])
    return found


@pytest.fixture(scope="module")
def towers() -> LocalTowers:
    return LocalTowers.of(asking()[2])


@pytest.fixture(scope="module")
def asked() -> AskedItems:
    found = asked_items(*asking()[:2])
    assert found is not None
    return found


def test_answers_tell_the_tastes_apart(towers: LocalTowers) -> None:
    left = np.array([item not in questions_of(asking()[2])[:5] for item in EVERY])
    even = np.array([is_even(item) for item in EVERY])
    for likes_even in (True, False):
        moved = scores(towers, answers(even=likes_even)) - scores(towers, Behaviour())
        of_taste, of_other = moved[left & (even == likes_even)], moved[left & (even != likes_even)]
        assert np.median(of_taste) > 0 > np.median(of_other)


def test_an_answer_is_no_act(towers: LocalTowers) -> None:
    """It stands nowhere in behaviour, and takes nobody's virtual behaviour away."""
    trained, _, _ = asking()
    acted = Behaviour(["i4"], [trained.encoding.actions[0]], [9])
    said = answers(even=True)
    both = said.then(acted.items[0], acted.actions[0], acted.times[0])
    asked = [RankingInput(CITY, {}, each, np.zeros((3, 8), np.float32), EVERY) for each in (acted, both)]
    np.testing.assert_array_equal(*towers.encoding.encode_users(asked))
    assert (scores(towers, both) != scores(towers, acted)).any(), "a user who is warming is known by them too"


def test_the_first_questions_are_of_both_tastes_and_of_items_that_are_known() -> None:
    trained, data, folder = asking()
    asked = questions_of(folder)
    assert len(asked) == len(set(asked)) == ITEMS
    assert {is_even(item) for item in asked[:5]} == {True, False}
    counts = np.bincount(KnownItems.before(trained, data).items)
    first = [counts[trained.encoding.items.index(item) + 2] for item in asked[:5]]
    assert np.mean(first) > np.median(counts[2:]), "an answer about an item that few know tells little"


def test_the_candidates_follow_the_answers(towers: LocalTowers) -> None:
    """Of a catalogue without attributes."""
    virtual = towers.virtual_behaviour([CITY])[0]
    for likes_even in (True, False):
        request = CandidateRequest(answers(even=likes_even), virtual, nearest=8, popular=0, exploratory=0, seed=0)
        (found,) = towers.candidates([request])
        assert np.mean([is_even(item) == likes_even for item in found]) > 0.7


def acted(items: Sequence[str], asked: AskedItems, passed_over: Sequence[str] = ()) -> FloatArray:
    """What acts on `items` add to the log-odds of every item, beside what the towers make of them alone."""
    trained = asking()[0]
    actions = [*["passed_over"] * len(passed_over), *[trained.encoding.actions[0]] * len(items)]
    behaviour = Behaviour([*passed_over, *items], actions, range(len(actions)))
    request = RankingInput(CITY, {}, behaviour, np.zeros((3, 8), np.float32), EVERY)
    served, alone = (with_questions(replace(trained, asked=each)) for each in (asked, replace(asked, acts=None)))
    found: FloatArray = np.subtract(
        *(each.ranking.logits(**ranking_tensors(each.encoding, [request])).detach().numpy() for each in (served, alone))
    )
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_acts_move_the_taste(asked: AskedItems, count: int) -> None:
    even = np.array([is_even(item) for item in EVERY])
    for likes_even in (True, False):
        own = [item for item in EVERY if is_even(item) == likes_even]
        added = acted(own[:count], asked)
        assert added[even == likes_even].mean() > added[even != likes_even].mean()


def test_what_was_passed_over_moves_the_taste_away(asked: AskedItems, towers: LocalTowers) -> None:
    even, others = np.array([is_even(item) for item in EVERY]), ["i3", "i5", "i7"]
    alone, against = acted(["i2"], asked), acted(["i2"], asked, others)
    assert (against - alone)[even].mean() > 0 > (against - alone)[~even].mean()
    unknown = acted(["i2"], asked, ["strange", *others])
    np.testing.assert_allclose(unknown, against, atol=1e-5)
    assert not acted([], asked, others).any(), "who chose nothing yet"
    columns, index = asked.posterior.columns, towers.retrieval
    own, shown = (towers.encoding.encode_items(each) for each in (["i2"], [*others, "strange"]))
    found = index.query(own, np.zeros((3, 8), np.float32), passed_over=shown)[columns]
    assert asked.acts is not None
    expected = asked.acts.steps[1] @ (asked.keys[own].sum(axis=0) - asked.keys[shown].sum(axis=0) / 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_caller_of_an_earlier_version_sends_nothing_that_was_passed_over(towers: LocalTowers) -> None:
    encoding, virtual = towers.encoding, np.zeros((1, 3, 8), np.float32)
    request = RankingInput(CITY, {}, Behaviour(["i2"], [encoding.actions[0]], [1]), virtual[0], EVERY)
    (expected,) = towers.score([request])
    today = encoding.encode_users([request])
    assert today.shape[1] == replace(encoding, reads_passed_over=False).encode_users([request]).shape[1] + 20
    tower = ServedRanking(asking()[2])
    for sent in (today, today[:, :-20], today[:, :-21]):
        rows = tower.checked(sent, virtual)
        assert rows.shape == today.shape
    index, wanted = towers.retrieval, np.array([[ITEMS, 0, 0, 0]])
    (acted, _) = encoding.encode_behaviour(["i2"], encoding.actions[:1])
    sent_earlier, sent = acted[None], np.pad(acted[None], ((0, 0), (0, 21)))
    for behaviour in (sent_earlier, sent[:, :-20], sent):
        index.check(behaviour, virtual, wanted, NO_FILTER)
        found = index.run(behaviour, virtual, wanted, NO_FILTER)
        np.testing.assert_array_equal(found, index.run(sent, virtual, wanted, NO_FILTER))
    sent[0, -1] = encoding.item_count
    with pytest.raises(BadRequest, match="behaviour"):
        index.check(sent, virtual, wanted, NO_FILTER)
    items, owner = encoding.encode_items(EVERY), np.zeros(ITEMS, dtype=np.int64)
    for sent in (today, today[:, :-20]):
        np.testing.assert_array_equal(tower.run(tower.checked(sent, virtual), virtual, items, owner), expected)
    for sent in (today[:, :-19], np.pad(today, ((0, 0), (0, 1)))):
        with pytest.raises(BadRequest, match="users"):
            tower.checked(sent, virtual)


def test_of_many_acts_the_towers_know_enough(asked: AskedItems) -> None:
    assert acted(EVERY[:1] * (FIRST_ACTS - 1), asked).any()
    assert not acted(EVERY[:1] * FIRST_ACTS, asked).any()


def test_an_act_moves_the_candidates(towers: LocalTowers, asked: AskedItems) -> None:
    assert asked.acts is not None
    columns, index = asked.posterior.columns, towers.retrieval
    for acts in (0, 1, 3):
        items = towers.encoding.encode_items(EVERY[:acts])
        found = index.query(items, np.zeros((3, 8), np.float32))[columns]
        np.testing.assert_allclose(found, asked.acts.steps[acts] @ asked.keys[items].sum(axis=0), rtol=1e-4)
        assert bool(found.any()) == bool(acts)


def test_an_act_on_a_new_item_is_one_on_its_kind(asked: AskedItems) -> None:
    """The keys of kinds are foretold from those of items; an item that is neither known nor new tells nothing."""
    served = as_served(asking()[0], {"new": {}})
    columns, behaviour = asked.posterior.columns, [served.encoding.actions[0]]
    keys = served.model.ranking.keys[served.encoding.encode_items(["new"])][:, columns]
    assert keys.any()
    index = LocalTowers.of(asking()[2])
    index.encoding.add_items({"new": {}})
    for item, told in (("new", True), ("strange", False)):
        request = RankingInput(CITY, {}, Behaviour([item], behaviour, [0]), np.zeros((3, 8), np.float32), EVERY)
        inputs = served.ranking.inputs(**ranking_tensors(served.encoding, [request]))
        assert bool(served.model.ranking.acts(inputs, served.model.ranking.keys).any()) == told
        query = index.retrieval.query(index.encoding.encode_items([item]), np.zeros((3, 8), np.float32))
        assert bool(query[columns].any()) == told


def test_an_unknown_item_is_no_act(asked: AskedItems) -> None:
    np.testing.assert_allclose(acted([EVERY[0], "strange", "stranger"], asked), acted(EVERY[:1], asked), atol=1e-5)


def test_who_neither_answers_nor_acts_is_ranked_as_before(asked: AskedItems) -> None:
    trained, _, _ = asking()
    after = with_questions(trained)
    tried = [replace(each, behaviour=Behaviour()) for each in probes(trained, 40, np.random.default_rng(0))]
    virtual = trained.zero_shot(attribute_tensor(trained.encoding, tried)).detach().numpy()
    columns = asked.posterior.columns
    assert not virtual.reshape(len(virtual), -1)[:, columns].any(), "attributes leave these numbers free"
    users = ranking_tensors(
        trained.encoding, [replace(each, virtual=own) for each, own in zip(tried, virtual, strict=True)]
    )
    assert torch.equal(after.ranking(**users), trained.ranking(**users))
    assert not trained.model.ranking.keys[:, columns].any(), "training goes on from these"
    assert after.model.ranking.keys[:, columns].any()


def test_a_tower_with_a_perceptron_leaves_numbers_free_too(tmp_path: Path) -> None:
    data = two_tastes(tmp_path / "data")
    architecture = replace(SMALL, zero_shot="trained-effects", dimension=16)
    effects = EffectsConfig(descent=DescentConfig(epochs=1, least_steps=20))
    trained = cotrain(data, split_by_time(data), config(architecture=architecture, effects=effects, epochs=1))
    found = asked_items(trained, data)
    assert found is not None
    cities = torch.arange(trained.encoding.attributes["city"].sizes[0])[:, None]
    virtual = trained.zero_shot(cities).detach().flatten(1)
    assert virtual.any()
    assert not virtual[:, found.posterior.columns].any()


def test_the_towers_share_the_tables_that_do_not_change(asked: AskedItems) -> None:
    trained, _, _ = asking()
    after = with_questions(trained)
    assert after.model.embeddings.items.weight is trained.model.embeddings.items.weight


def test_training_goes_on_from_towers_without_questions() -> None:
    trained, _, folder = asking()
    restored = restore(folder)
    assert restored.encoding.to_json() == trained.encoding.to_json()
    np.testing.assert_array_equal(restored.model.ranking.keys, trained.model.ranking.keys)
    assert not restored.encoding.questions.items


def test_where_answers_tell_nothing_nothing_is_asked(tmp_path: Path) -> None:
    data = two_tastes(tmp_path / "data", liked=0.5)
    assert asked_items(trained_on(data), data) is None


def test_where_data_have_labels_answers_must_tell_what_is_chosen_of_what_is_shown(tmp_path: Path) -> None:
    """Who is shown items of one's own taste alone, and acts on any of them, is told nothing by answers."""
    rng, data = np.random.default_rng(0), two_tastes(tmp_path / "data")
    trained, shown = trained_on(data), data.interactions
    even = shown["item_id"].astype(str).map(is_even)
    likes_even = even.groupby(shown["user_id"].astype(str)).transform("mean") > 0.5
    for of_taste, asks in ((True, False), (False, True)):
        kept = shown[(even == likes_even) | (not of_taste)]
        chosen = rng.random(len(kept)) < 0.5 if of_taste else (even == likes_even).to_numpy()
        labelled = replace(data, interactions=kept.assign(label=chosen.astype("int8")).reset_index(drop=True))
        says = data.description.model_copy(
            update={"interactions": data.description.interactions.model_copy(update={"label": "label"})}
        )
        labelled = replace(labelled, description=says)
        assert labelled.has_labels
        assert (asked_items(trained, labelled) is not None) == asks


def test_of_few_users_what_was_asked_before_is_asked(asked: AskedItems, tmp_path: Path) -> None:
    """Indices of items never move; of those that came since, nothing is known."""
    data = two_tastes(tmp_path / "data", users=150)
    trained = trained_on(data)
    assert asked_items(trained, data) is None
    fewer = replace(asked, keys=asked.keys[:-3])
    found = asked_items(trained, data, fewer)
    assert found is not None
    assert found.posterior.items == asked.posterior.items
    np.testing.assert_array_equal(found.posterior.columns, asked.posterior.columns)
    np.testing.assert_array_equal(found.keys[:-3], fewer.keys)
    assert not found.keys[-3:].any()
    moved = replace(fewer, posterior=replace(fewer.posterior, columns=np.arange(3)))
    again = asked_items(trained, data, moved)
    assert again is not None
    np.testing.assert_array_equal(again.posterior.columns, asked.posterior.columns)
    taken = with_questions(replace(trained, asked=found))
    assert asked_items(taken, data, asked) is None, "attributes need these numbers"
    wider = replace(asked, keys=np.pad(asked.keys, ((0, 0), (0, 9))))
    assert asked_items(trained, data, wider) is None


def test_a_restored_generation_tells_what_it_asks(asked: AskedItems) -> None:
    restored = restore(asking()[2]).asked
    assert restored is not None
    assert restored.posterior.items == asked.posterior.items
    np.testing.assert_array_equal(restored.keys, asked.keys)
    assert restored.acts is not None
    assert asked.acts is not None
    for found, expected in zip(restored.acts, asked.acts, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_generation_of_an_earlier_version_reads_acts_as_it_did(asked: AskedItems, tmp_path: Path) -> None:
    replace(asked, acts=None).write(tmp_path / "questions.npz")
    assert AskedItems.read(tmp_path / "questions.npz", asked.posterior).acts is None


def _without_keys(trained: Trained) -> Trained:
    return replace(trained, model=knows_few().model, config=config(architecture=TINY))


def _with_codes_that_are_no_sums(trained: Trained) -> Trained:
    return replace(trained, config=replace(trained.config, architecture=replace(TINY, ranking="recency")))


def _with_full_keys(trained: Trained) -> Trained:
    found = asked_items(*asking()[:2])
    assert found is not None
    model = with_questions(replace(trained, asked=found)).model
    model.ranking.keys[:] = 1.0
    return replace(trained, model=model)


@pytest.mark.parametrize("other", [_without_keys, _with_codes_that_are_no_sums, _with_full_keys])
def test_towers_with_no_place_for_answers_ask_nothing(other: object) -> None:
    trained, data, _ = asking()
    assert callable(other)
    assert asked_items(other(trained), data) is None


def test_the_file_is_named_by_the_manifest() -> None:
    assert layout.QUESTIONS in read_manifest(asking()[2]).files
