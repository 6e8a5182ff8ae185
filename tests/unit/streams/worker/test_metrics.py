"""A histogram that takes a batch at once shows what the library's own would."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from streams.worker.metrics import SECONDS, DurableSeconds

WAYS = ("sign-up", "behaviour")


def shown(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if not line.startswith("#") and "_created" not in line)


@given(st.lists(st.tuples(st.sampled_from(WAYS), st.lists(st.sampled_from([0.0, 0.004, *SECONDS, 61.0])))))
def test_it_shows_what_the_librarys_own_would(batches: list[tuple[str, list[float]]]) -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    own = DurableSeconds()
    registry.register(own)
    name, text = "foretaste_event_durable_seconds", "Seconds"
    librarys = Histogram(name, text, ["way"], buckets=SECONDS, registry=other)
    for way, seconds in batches:
        own.observe(way, seconds)
        for each in seconds:
            librarys.labels(way).observe(each)
        librarys.labels(way)
    found, expected = shown(registry), shown(other)
    assert [line.rpartition(" ")[0] for line in found] == [line.rpartition(" ")[0] for line in expected]
    for line, of_library in zip(found, expected, strict=True):
        assert abs(float(line.rpartition(" ")[2]) - float(of_library.rpartition(" ")[2])) < 1e-6
