"""Where a key lies: the same partition for one that is sent alone and for one of a batch."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from streams.worker.producer import partitions_of

ONE_BY_ONE = DefaultPartitioner()


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 300))
def test_a_key_of_a_batch_lies_where_it_lies_alone(keys: list[bytes], count: int) -> None:
    partitions = list(range(count))
    assert partitions_of(keys, count) == [ONE_BY_ONE(key, partitions, partitions) for key in keys]
