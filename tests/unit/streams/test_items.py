"""The way of a new item: the registry keeps it, bad ones become dead letters."""

from collections.abc import Sequence

import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import Message, Reason
from foretaste.kernel.running.registered_items import ItemRegistered, RegisteredItem, every_item
from foretaste.kernel.values import Attributes
from streams.behaviours import Behaviours
from streams.intake import TopicIntake
from streams.items import Items
from streams.pipelines import PipelinesConfig, user_pipelines
from tests.stream_parts import NOW, NOW_MS, ChosenDisk, World, message

DRAMA: Attributes = {"genre": "drama", "year": 2024, "tags": ["a", "b"]}


def registration(
    item_id: str = "i1", *, at_ms: int = NOW_MS - 1000, key: bytes | None = b"", **fields: object
) -> Message:
    value = {"item_id": item_id, "attributes": DRAMA, **fields}
    own = item_id.encode() if key == b"" else key
    return message(value, key=own, topic="item-registered", timestamp_ms=at_ms)


class Way:
    def __init__(self, disk: ChosenDisk | None = None) -> None:
        self.world = World()
        limit = {"max_event_bytes": 2000, "now": lambda: NOW}
        self.handle = Items(self.world.items, disk, self.world.dead_letters, self.world.metrics, **limit)  # type: ignore[arg-type]

    async def kept(self) -> list[RegisteredItem]:
        return await every_item(self.world.items)

    def letters(self) -> Sequence[bytes | None]:
        return [sent.key for sent in self.world.events.of(self.world.names.dead_letters)]


async def test_items_are_kept_as_of_when_they_happened() -> None:
    way = Way()
    claimed = registration("i2", registered_at=(NOW_MS - 5000) / 1000)
    await way.handle([registration("i1"), claimed, registration("i3", registered_at=NOW_MS / 1000 + 60)])
    assert await way.kept() == [
        RegisteredItem("i1", DRAMA, NOW_MS - 1000),
        RegisteredItem("i2", DRAMA, NOW_MS - 5000),
        RegisteredItem("i3", DRAMA, NOW_MS - 1000),
    ]
    assert way.letters() == []


async def test_of_two_registrations_the_later_stands_though_it_is_read_first() -> None:
    way = Way()
    await way.handle([registration(attributes={"genre": "later"}), registration(at_ms=NOW_MS - 2000)])
    assert [each.attributes for each in await way.kept()] == [{"genre": "later"}]


async def test_a_null_value_takes_the_item_out_as_of_its_record() -> None:
    way = Way()
    gone = message(None, key=b"i1", topic="item-registered", timestamp_ms=NOW_MS - 500)
    await way.handle([registration("i1"), registration("i2"), gone])
    assert [each.item_id for each in await way.kept()] == ["i2"]
    await way.handle([registration("i1", at_ms=NOW_MS - 600)])
    assert [each.item_id for each in await way.kept()] == ["i2"], "it was there before"
    assert way.letters() == []


@pytest.mark.parametrize(
    "bad",
    [
        message(b"{", topic="item-registered"),
        registration(""),
        registration("i" * 257),
        registration(attributes=None),
        registration(attributes={"genre": {"a": 1}}),
        registration(attributes={"tags": [["a"]]}),
        registration(attributes={"tags": ["a"] * 10_000}),
        registration(attributes={"year": 2**70}),
        registration(attributes={"text": "x" * 3000}),
        registration(registered_at="1969-01-01T00:00:00Z"),
        registration(registered_at=NOW_MS / 1000 + 10 * 86_400),
        registration(key=b"other"),
        registration(key=None),
        message(None, key=None, topic="item-registered"),
        message(None, key=b"\xff", topic="item-registered"),
        message(None, key=b"i" * 257, topic="item-registered"),
        message(b"", key=b"i1", topic="item-registered"),
    ],
)
async def test_a_bad_one_is_a_dead_letter_and_the_others_are_kept(bad: Message) -> None:
    way = Way()
    await way.handle([registration("before"), bad, registration("after")])
    assert [each.item_id for each in await way.kept()] == ["before", "after"]
    assert len(way.letters()) == 1


async def test_nothing_is_acknowledged_while_the_registry_or_the_disk_is_away() -> None:
    way = Way()
    way.world.items.outage = Unavailable("redis", "away")
    with pytest.raises(Unavailable):
        await way.handle([registration()])
    disk = ChosenDisk(Unavailable("redis", "no disk"))
    with pytest.raises(Unavailable, match="no disk"):
        await Way(disk).handle([registration()])
    assert disk.waits == 1


async def test_a_worker_reads_the_topic() -> None:
    world = World()
    ways = user_pipelines(world.parts, world.metrics, PipelinesConfig())
    assert "item-registered" in ways


async def test_behaviour_towards_a_registered_item_is_no_dead_letter() -> None:
    world = await World().activate()
    await world.items.register([RegisteredItem("new", DRAMA, NOW_MS)])
    way = Behaviours(
        world.parts,
        world.dead_letters,
        world.metrics,
        unknown_items="dead_letter",
        max_event_bytes=2000,
        now=lambda: NOW,
    )

    def act(item: str) -> Message:
        value = {"user_id": "u1", "item_id": item, "at": (NOW_MS - 1000) / 1000}
        return message(value, key=b"u1", topic="user-behaved", timestamp_ms=NOW_MS)

    await way([act("known"), act("new"), act("nobody")])
    (user,) = await world.store.read(["u1"], 1)
    assert list(user.behaviour.items) == ["known", "new"]
    (letter,) = world.events.of(world.names.dead_letters)
    assert any(value == Reason.UNKNOWN_ITEM.value.encode() for _, value in letter.headers)


async def test_the_intake_holds_items_to_the_same_rules() -> None:
    world = World()
    intake = TopicIntake(world.events, world.names, max_event_bytes=500, now=lambda: NOW)
    await intake.register_items([ItemRegistered(item_id="i1", attributes=DRAMA)])
    (sent,) = world.events.of("item-registered")
    assert sent.key == b"i1"
    for attributes, field in (({"year": 2**70}, r"1\.attributes\.year"), ({"text": "x" * 600}, "^1:")):
        with pytest.raises(InvalidInput, match=field):
            await intake.register_items(
                [ItemRegistered(item_id="i2", attributes={}), ItemRegistered(item_id="i3", attributes=attributes)]
            )
    assert len(world.events.of("item-registered")) == 1
