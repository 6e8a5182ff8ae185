"""`foretaste up` without its servers: which port each of its processes serves metrics on."""

from collections.abc import Mapping
from typing import cast

import pytest

from foretaste import embedded
from foretaste.kernel.errors import InvalidInput
from foretaste.settings import Settings
from foretaste.stack.parts import Part
from foretaste.stack.stack import Stack


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


def test_the_processes_reach_the_kafka_that_the_settings_name_though_no_variable_does() -> None:
    stack = StartedParts()
    embedded.start_processes(cast("Stack", stack), Settings(kafka="broker:9092"))
    assert {env["FORETASTE_KAFKA"] for env in stack.environments.values()} == {"broker:9092"}


def test_ports_that_there_are_none_of_are_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidInput, match="FORETASTE_METRICS_PORT: the log and the watch need the next two ports"):
        embedded.up(Settings(metrics_port=65534))
