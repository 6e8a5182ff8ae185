"""`foretaste up` without its servers: what it tells each of its processes."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from foretaste import embedded
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings
from foretaste.stack.parts import Kafka, Part
from foretaste.stack.stack import Stack, StackPlan


class StartedParts:
    """A stack that starts nothing and keeps each part's environment."""

    def __init__(self) -> None:
        self.environments: dict[str, Mapping[str, str]] = {}
        self.variables: Mapping[str, str] = {}

    def start(self, part: Part) -> str:
        self.environments[part.name] = part.env
        return ""


def test_each_process_has_a_metrics_port_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_METRICS_PORT", "9100")
    stack = StartedParts()
    embedded.start_processes(cast("Stack", stack), Settings())
    ports = {name: env["FORETASTE_METRICS_PORT"] for name, env in stack.environments.items() if name != "api"}
    assert ports == {"worker": "9100", "log": "9101", "watch": "9102"}


def test_without_the_setting_none_serves_any() -> None:
    stack = StartedParts()
    embedded.start_processes(cast("Stack", stack), Settings())
    assert not [name for name, env in stack.environments.items() if "FORETASTE_METRICS_PORT" in env]


def test_settings_for_tansu_are_not_given_to_processes_beside_another_kafka(tmp_path: Path) -> None:
    addresses = {"kafka": "broker:9092"}
    assert Stack(tmp_path, StackPlan([], addresses, [])).variables == {
        "FORETASTE_HOME": str(tmp_path.resolve()),
        "FORETASTE_KAFKA": "broker:9092",
    }
    embedded_one = StackPlan([Kafka(tmp_path)], addresses, [])
    assert "FORETASTE_KAFKA_SESSION_TIMEOUT" in Stack(tmp_path, embedded_one).variables


def test_ports_that_there_are_none_of_are_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidInput, match="FORETASTE_METRICS_PORT: the log and the watch need the next two ports"):
        embedded.up(Settings(metrics_port=65534))
