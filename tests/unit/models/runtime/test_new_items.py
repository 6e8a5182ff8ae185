"""Items that were registered after a generation had learned, read as kinds of items."""

import json
from dataclasses import replace

import numpy as np

from foretaste.kernel.retrieval import CandidateRequest
from foretaste.kernel.users import Behaviour
from models.runtime.candidates import OF_A_KIND, encode_requests, items_of, matching
from models.runtime.encoding import NO_KINDS, UNKNOWN, Encoding
from models.runtime.fields import CategoricalEncoder
from models.runtime.new_items import NEWEST, NewItems, nearest_kinds
from models.runtime.packing import packed, unpacked
from models.runtime.retrieval import ALLOW, DENY, KIND

KINDS = np.array([[0, 0], [1, 0], [0, 2], [1, 1], [2, 2]])


def encoding() -> Encoding:
    fields = {
        "genre": CategoricalEncoder(("drama", "comedy")),
        "country": CategoricalEncoder(("fr", "us")),
    }
    features = np.array([[0, 0], [0, 0], [1, 1], [2, 2]])
    return Encoding({}, {}, fields, ("i0", "i1"), ("acted",), features, kinds=KINDS)


def request(**changes: object) -> CandidateRequest:
    asked = CandidateRequest(Behaviour(), np.zeros((1, 2), np.float32), nearest=3, popular=1, exploratory=0, seed=0)
    return replace(asked, **changes)  # type: ignore[arg-type]


def test_the_nearest_kind_has_most_values_in_common() -> None:
    features = np.array([[1, 1], [1, 2], [2, 2], [2, 0], [0, 0], [2, 1]])
    assert nearest_kinds(features, KINDS).tolist() == [3, 1, 4, 4, 0, 3]


def test_of_no_items_there_are_no_kinds() -> None:
    assert nearest_kinds(np.zeros((0, 2), dtype=np.int64), KINDS).shape == (0,)


def test_a_new_item_has_the_index_of_its_kind_and_is_not_unknown() -> None:
    found = encoding()
    found.add_items({"new": {"genre": "drama", "country": "fr"}, "odd": {"genre": "opera"}, "i0": {"genre": "comedy"}})
    assert found.encode_items(["new", "odd", "i0", "i1", "nobody"]).tolist() == [7, 4, 2, 3, UNKNOWN]
    assert found.unknown_items(["new", "odd", "i0", "nobody"]) == ["nobody"]
    assert found.first_kind == 4
    assert found.item_count == 9


def test_behaviour_towards_a_new_item_is_towards_its_kind() -> None:
    found = encoding()
    found.add_items({"new": {"genre": "drama"}})
    assert found.encode_behaviour(["i0", "new"], ["acted"] * 2)[0][:2].tolist() == [2, 5]


def test_registered_again_with_other_attributes_it_is_of_another_kind() -> None:
    found = encoding()
    found.add_items({"new": {"genre": "drama"}})
    found.add_items({"new": {"genre": "comedy", "country": "us"}, "other": {"genre": "drama"}})
    assert found.encode_items(["new", "other"]).tolist() == [8, 5]
    assert found.new_items.of_kind(5) == ("other",)
    found.add_items({"other": {"country": "us"}})
    assert found.new_items.of_kind(5) == ()
    assert sorted(found.new_items.kinds()) == [6, 8]


def test_the_newest_items_of_a_kind_may_be_candidates() -> None:
    new = NewItems()
    names = [f"n{number}" for number in range(NEWEST + 10)]
    new.put(names, np.full(len(names), 5), np.zeros((len(names), 2), dtype=np.int64))
    assert new.of_kind(5) == tuple(names[: -NEWEST - 1 : -1])
    assert len(new) == len(names)
    assert new.get(names[0], UNKNOWN) == 5, "it is ranked all the same"


def test_a_generation_of_an_earlier_version_has_no_kinds_and_takes_none_in() -> None:
    stored = json.loads(encoding().to_json())
    del stored["kinds"]
    found = Encoding.from_json(json.dumps(stored))
    found.add_items({"new": {"genre": "drama"}})
    assert found.unknown_items(["new"]) == ["new"]
    assert found.item_count == 4


def test_kinds_come_through_both_forms_of_the_vocabulary() -> None:
    again = Encoding.from_json(encoding().to_json())
    assert again.kinds.tolist() == KINDS.tolist()
    brought = Encoding.from_json(unpacked(packed(encoding().to_json(), 7)).without_items)
    assert brought.kinds.tolist() == KINDS.tolist()


def test_an_older_reader_finds_the_rows_of_items_alone_among_them() -> None:
    assert json.loads(encoding().to_json())["item_features"] == encoding().item_features.tolist()


def test_training_goes_on_without_kinds() -> None:
    found = encoding().with_kinds(NO_KINDS)
    assert (found.item_count, found.features_by_index.shape) == (4, (4, 2))


def test_the_index_is_told_of_the_kinds_that_stand_for_an_item_that_may_be_a_candidate() -> None:
    found = encoding()
    found.add_items({"new": {"genre": "drama", "country": "fr"}, "odd": {"genre": "opera"}})
    asked = [request(deny=["odd", "i0"]), request(allow=["new", "i1"]), request(attributes={"genre": ["comedy"]})]
    _of_nobody, *filters = encode_requests(found, asked).filters.tolist()
    assert [row for row in filters if row[1] == KIND] == [[0, KIND, 7], [1, KIND, 7]]
    assert [row for row in filters if row[1] == DENY] == [[0, DENY, 2]], "a kind stands for others too"
    assert [row for row in filters if row[1] == ALLOW] == [[1, ALLOW, 0], [1, ALLOW, 7], [1, ALLOW, 3]]


def test_a_kind_among_the_candidates_is_its_newest_items() -> None:
    found = encoding()
    found.add_items({f"n{number}": {"genre": "drama", "country": "fr"} for number in range(OF_A_KIND + 2)})
    candidates = np.array([[3, 7, 2, 0], [7, 0, 0, 0]])
    asked = [request(), request(deny=["n4"])]
    nearest, denied = items_of(found, candidates, asked)
    assert nearest == ["i1", "n4", "n3"], "as many as were asked for"
    assert denied == ["n3", "n2", "n1"]


def test_an_allow_list_reaches_every_new_item_of_a_kind() -> None:
    found = encoding()
    names = [f"n{number}" for number in range(NEWEST + 5)]
    found.add_items({name: {"genre": "drama", "country": "fr"} for name in names})
    asked = request(allow=[*names[:5], "nobody"], nearest=10)
    assert [0, KIND, 7] in encode_requests(found, [asked]).filters.tolist()
    assert items_of(found, np.array([[7]]), [asked]) == [names[:5]]


def test_a_kind_whose_newest_items_are_all_denied_is_no_candidate() -> None:
    found = encoding()
    found.add_items({"n0": {"genre": "drama", "country": "fr"}, "n1": {"genre": "drama", "country": "fr"}})
    some, none = encode_requests(found, [request(deny=["n0"]), request(deny=["n0", "n1"])]).filters[1:], KIND
    assert [row for row in some.tolist() if row[1] == none] == [[0, KIND, 7]]


def test_a_kind_whose_items_were_taken_out_meanwhile_is_nothing() -> None:
    found = encoding()
    found.add_items({"n0": {"genre": "drama", "country": "fr"}})
    found.add_items({"n0": None})
    assert items_of(found, np.array([[7, 3, 0]]), [request()]) == [["i1"]]
    assert len(found.new_items) == 0


def test_what_follows_the_nearest_stays() -> None:
    found = encoding()
    found.add_items({"n0": {"genre": "drama", "country": "fr"}, "n1": {"genre": "drama", "country": "fr"}})
    assert items_of(found, np.array([[7, 3, 2]]), [request(nearest=2)]) == [["n1", "n0", "i0"]]


def test_new_items_match_by_their_own_attributes() -> None:
    found = encoding()
    found.add_items({"new": {"genre": "comedy", "country": "fr"}})
    assert found.encode_items(["new"]).tolist() == [7], "of a kind of dramas"
    wished = {"genre": ["comedy"]}
    assert matching(found, ["new", "i0", "i1", "nobody"], wished) == ["new", "i1"]
    assert matching(found, ["new", "i0"], {"genre": ["drama"]}) == ["i0"]
