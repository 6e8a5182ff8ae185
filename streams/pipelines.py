"""Which collector handles which topic: the ways that a worker serves."""

import time
from dataclasses import dataclass, field, replace
from functools import partial

from foretaste.kernel.batching import BatchPolicy
from foretaste.kernel.ports import Clock
from streams.behaviours import Behaviours, UnknownItems
from streams.erasures.user_erasures import Erasures
from streams.items import Items
from streams.parts import SignUpParts
from streams.reenrich_worker import LARGEST_SHARE, SHARE, Pages, pace_of
from streams.sign_ups import SignUps
from streams.sign_ups.attribute_check import AttributeCheck
from streams.topics import TopicNames
from streams.worker.collector import Collector, CollectorConfig
from streams.worker.dead_letters import DeadLetters
from streams.worker.health.store_progress import StoreProgress
from streams.worker.metrics import Metrics
from streams.zero_shot import AttributeVocabulary

MAX_PAGES = 16
"""Pages of users in a batch: they are acknowledged together, and a worker that is killed leaves as many to do again."""
BATCH_SECONDS = 2.0
"""For which a batch of pages may wait for its pace, since whoever gives partitions up waits for the batch at work."""


@dataclass(frozen=True, slots=True)
class PipelinesConfig:
    """What a deployment decides of its workers."""

    topics: TopicNames = field(default_factory=TopicNames)
    collector: CollectorConfig = field(default_factory=CollectorConfig)
    max_event_bytes: int = 65536
    unknown_items: UnknownItems = "keep"
    reenrich_rate: float | None = None
    """Users a second that re-enrichment takes at most; None: as many as it can, a few hundred at a time."""


def user_pipelines(
    parts: SignUpParts,
    metrics: Metrics,
    config: PipelinesConfig,
    now: Clock = time.time,
    progress: StoreProgress | None = None,
    monotonic: Clock = time.monotonic,
) -> dict[str, Collector]:
    """The ways of sign-ups, behaviours, erasures, re-enrichment and items, by topic. Their maker closes the parts.

    `now` is in seconds since the epoch, `monotonic` counts the ages of batches.
    """
    names = config.topics
    dead_letters = DeadLetters(parts.events, names.dead_letters, metrics)
    sign_ups = SignUps(
        parts,
        dead_letters,
        metrics,
        enriched_topic=names.enriched,
        profiles_topic=names.profiles,
        max_event_bytes=config.max_event_bytes,
        now=now,
        check=AttributeCheck(metrics, parts.towers if isinstance(parts.towers, AttributeVocabulary) else None),
    )
    behaviours = Behaviours(
        parts,
        dead_letters,
        metrics,
        unknown_items=config.unknown_items,
        max_event_bytes=config.max_event_bytes,
        now=now,
    )
    erasures = Erasures(parts, dead_letters, metrics, names, max_event_bytes=config.max_event_bytes, now=now)
    pace = None if config.reenrich_rate is None else pace_of(config.reenrich_rate)
    pages = Pages(parts, dead_letters, metrics, pace=pace)
    batch = _page_batches(config.reenrich_rate)
    longest = batch.size * LARGEST_SHARE / config.reenrich_rate if config.reenrich_rate else 0.0
    of_pages = CollectorConfig(batch, capacity=2 * MAX_PAGES, longest_batch=longest, progress=progress)
    of_events = replace(config.collector, progress=progress)
    collector = partial(Collector, monotonic=monotonic, now=now)
    ways = {
        names.reenrich: collector("re-enrichment", pages, dead_letters.keep, metrics, of_pages),
        names.registered: collector("sign-up", sign_ups, dead_letters.keep, metrics, of_events),
        names.behaved: collector("behaviour", behaviours, dead_letters.keep, metrics, of_events),
        names.erased: collector("erasure", erasures, dead_letters.keep, metrics, of_events),
    }
    if parts.items is not None:
        limit = config.max_event_bytes
        items = Items(parts.items, parts.synced, dead_letters, metrics, max_event_bytes=limit, now=now)
        ways[names.item_registered] = collector("item", items, dead_letters.keep, metrics, of_events)
    return ways


def _page_batches(rate: float | None) -> BatchPolicy:
    """Batches that are done within `BATCH_SECONDS`, as far as their pace decides."""
    pages = MAX_PAGES if rate is None else int(BATCH_SECONDS * rate / SHARE)
    return BatchPolicy(size=min(max(pages, 1), MAX_PAGES), at_once=True)
