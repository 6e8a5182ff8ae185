"""Feast is imported without what makes that slow, and nothing of the trick stays behind."""

import os
import sys

import typeguard
from prometheus_client import CollectorRegistry, Counter

import features.feast_api  # noqa: F401  imported for what it does


def test_nothing_stays_changed_after_the_import() -> None:
    for name in ("torch", "scipy"):
        assert sys.modules.get(name, "not imported") is not None
    assert typeguard.typechecked.__module__.startswith("typeguard")


def test_metrics_stay_in_this_process_and_in_their_registry() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    Counter("same", "the same name in two registries", registry=one).inc()
    Counter("same", "the same name in two registries", registry=other)
    assert (one.get_sample_value("same_total"), other.get_sample_value("same_total")) == (1.0, 0.0)
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert "PROMETHEUS_MULTIPROCESS_DIR" not in os.environ
