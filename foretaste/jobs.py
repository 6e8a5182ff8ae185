"""What each command does, on the wired parts. The command line and the demo call these; nothing here prints."""

import asyncio
import gc
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretaste import compose
from foretaste.console import Report
from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.events import DeadLetter, UserBehaved, UserRegistered
from foretaste.settings import Settings
from foretaste.stack.health import Health
from serving.requests import RankRequest, RankResponse

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from features.log.convert import ConvertedLog
    from models.data.dataset import Dataset
    from models.training.config import TrainingConfig
    from streams.parts import Parts
    from streams.worker.runner import StreamWorker

PUBLIC_DATA = ("ml-1m", "ml-100k", "alimama")


def fetch(settings: Settings, name: str, source: Path | None, report: Report) -> Path:
    """The folder of a public data set, fetched where it is not cached yet."""
    from models.data.sources.alimama import fetch_alimama
    from models.data.sources.movielens import fetch_movielens

    if name == "alimama":
        return fetch_alimama(settings.home / "data", source=source, progress=report)
    return fetch_movielens(name, settings.home / "data", source=source, progress=report)


def open_dataset(settings: Settings, data: str, report: Report) -> "Dataset":
    """A data set by its public name or its folder. Raises `InvalidInput` for one that is neither, or is malformed."""
    from models.data.dataset import read_dataset

    folder = fetch(settings, data, None, report) if data in PUBLIC_DATA else Path(data)
    if not folder.is_dir():
        raise InvalidInput("data", data, f"expected {', '.join(PUBLIC_DATA)}, or a folder with a dataset.yaml")
    report(f"read {folder.name}", 0, 1)
    dataset = read_dataset(folder)
    report(f"read {folder.name}", 1, 1)
    return dataset


def describe(settings: Settings, data: str, report: Report) -> dict[str, Any]:
    """What a data set holds, and how training would split it."""
    from models.data.split import split_by_time

    dataset = open_dataset(settings, data, report)
    split = split_by_time(dataset)
    return {
        "name": dataset.description.name,
        "users": len(dataset.users),
        "items": len(dataset.items),
        "interactions": len(dataset.interactions),
        "attributes": {name: kind.value for name, kind in dataset.description.users.attributes.items()},
        "labels": dataset.has_labels,
        "split_ms": split.instant_ms,
        "before_the_split": len(split.train),
        "cold_users": len(split.cold_users),
        "warm_users": len(split.warm_users),
        "fingerprint": dataset.fingerprint,
    }


def training_config(options: Mapping[str, Any], towers: Mapping[str, Any] | None = None) -> "TrainingConfig":
    """`options` are fields of `TrainingConfig`, `towers` of its `Architecture`.

    Raises `InvalidInput` naming the one that is wrong.
    """
    from models.towers.architecture import Architecture
    from models.training.config import TrainingConfig

    return TrainingConfig(**{"architecture": Architecture(**(towers or {})), **options})


def train(settings: Settings, dataset: "Dataset", config: "TrainingConfig", report: Report) -> Path:
    """Co-train, evaluate, export; the folder of the next generation."""
    from models.data.split import split_by_time
    from models.evaluation.offline import evaluate
    from models.evaluation.profile import profile_of
    from models.generations.export import export
    from models.training.cotrain import cotrain
    from models.training.data import Lessons

    split = split_by_time(dataset)
    trained = cotrain(dataset, split, config, lambda step: report("co-train", step.number, step.total))
    metrics = evaluate(dataset, split, trained, progress=lambda done, total: report("evaluate", done, total))
    report("export", 0, 1)
    rng = np.random.default_rng(config.seed)
    lessons = Lessons.of(dataset, split, trained.encoding)
    sampler = None if lessons.sampler is None else lessons.sampler(rng)
    profile = profile_of(trained, lessons.examples, rng, sampler=sampler, negatives=config.negatives)
    lowest, active = asyncio.run(first_free_number(settings))
    folder = export(
        trained,
        dataset,
        metrics,
        settings.generations,
        lowest=lowest,
        unlike=active,
        profile=profile.model_dump_json(),
    )
    report("export", 1, 1)
    return folder


async def first_free_number(settings: Settings) -> tuple[int, int | None]:
    """The number above every generation that Redis has recorded, and the active one; 1 and None where none answers."""
    try:
        generations = compose.generations(compose.resolve(settings))
    except Unavailable:
        return 1, None
    try:
        active = await generations.active()
        return await generations.highest() + 1, None if active is None else active.number
    except Unavailable:
        return 1, None
    finally:
        await generations.close()


async def create_topics(settings: Settings) -> None:
    """All topics, explicitly, with their partitions."""
    from streams.topics import TopicNames
    from streams.worker.topic_admin import create_topics

    names = TopicNames(settings.topic_prefix)
    await create_topics(
        compose.kafka_connection(settings), names, partitions=settings.partitions, replication=settings.replication
    )


def apply_features(settings: Settings) -> None:
    """`feast apply` of the feature repository."""
    from features.repo_config import apply_features

    apply_features(compose.feast_config(settings))


async def rank(settings: Settings, request: RankRequest) -> RankResponse:
    """One ranking request, without the HTTP service."""
    from prometheus_client import CollectorRegistry

    from serving.metrics import RankingMetrics

    async with compose.parts(settings) as parts:
        way, _ = compose.ranking(settings, parts, RankingMetrics(CollectorRegistry()))
        return await way.rank(request)


async def send(settings: Settings, topic: str, values: Sequence[UserRegistered | UserBehaved]) -> None:
    """Produce events to `topic`, keyed by user id; all durable on return."""
    events = compose.events(settings)
    try:
        keyed = [(event.user_id.encode(), event.model_dump_json().encode()) for event in values]
        await events.send_all(f"{settings.topic_prefix}{topic}", keyed)
    finally:
        await events.close()


async def dead_letters(settings: Settings, limit: int) -> list[DeadLetter]:
    """The newest dead letters, oldest first, at most `limit` a partition."""
    from streams.topics import TopicNames
    from streams.worker.dead_letter_reader import newest_dead_letters

    topic = TopicNames(settings.topic_prefix).dead_letters
    return await newest_dead_letters(compose.kafka_connection(settings), topic, limit)


async def health(settings: Settings) -> list[Health]:
    """Each part's health, the user's own and the embedded ones alike."""
    from foretaste.stack import health as checks
    from foretaste.stack.record import running_stack

    record = running_stack(settings.home)
    connection = compose.kafka_connection(settings)
    options = {name: value for name, value in connection.client_arguments().items() if name != "bootstrap_servers"}
    asked = [
        checks.kafka(connection.bootstrap, options),
        checks.redis(settings.redis or ""),
        checks.triton(settings.triton or "", ssl=settings.triton_ssl),
    ]
    if record is not None and "api" in record.addresses:
        asked.append(checks.api(record.addresses["api"]))
    if record is not None:
        own = ("worker", "log", "watch")
        asked += [checks.process(name, part.pid) for name, part in record.parts.items() if name.startswith(own)]
    return list(await asyncio.gather(*asked))


def generation_for(
    settings: Settings, dataset: "Dataset", spent: Container[int], report: Report, *, retrain: bool = False
) -> Path:
    """The newest generation that was trained on just these data with the default settings, or one trained now.

    Numbers in `spent` (`publishing.spent`) are passed over.
    """
    from models.generations.manifest import DamagedArtifact, fingerprint, read_manifest

    config = training_config({})
    wanted = (dataset.fingerprint, fingerprint(config.to_dict()))
    there = settings.generations.iterdir() if settings.generations.is_dir() and not retrain else ()
    numbers = {int(each.name): each for each in there if each.name.isdecimal() and int(each.name) not in spent}
    for _, folder in sorted(numbers.items(), reverse=True):
        try:
            manifest = read_manifest(folder)
        except DamagedArtifact as damage:
            report(f"passed over: {damage}", 1, 1)
            continue
        if (manifest.dataset_fingerprint, manifest.training_fingerprint) == wanted:
            report(f"generation {folder.name} was trained on just this", 1, 1)
            return folder
    return train(settings, dataset, config, report)


async def serve_worker(settings: Settings) -> None:
    """One worker of the users' ways, until SIGTERM or SIGINT."""
    await _serve(settings, compose.worker)


async def serve_watch(settings: Settings) -> None:
    """The watch over what is served, until SIGTERM or SIGINT."""
    await _serve(settings, compose.watch_worker)


async def serve_log(settings: Settings) -> None:
    """One writer of the training log, until SIGTERM or SIGINT; the log is compacted and expired meanwhile.

    What goes wrong with either for good ends both, and is raised.
    """
    from features.log.upkeep import UpkeepConfig, keep_up

    config = UpkeepConfig(settings.log_days, settings.log_compact_hours * 3600, settings.lease_seconds)
    lease = partial(compose.lease, settings, "log")
    try:
        async with asyncio.TaskGroup() as group:
            upkeep = group.create_task(keep_up(compose.training_log(settings), lease, config))
            await _serve(settings, compose.log_worker)
            upkeep.cancel()
    except ExceptionGroup as several:
        raise several.exceptions[0] from several


def convert_log(settings: Settings, old: Path, report: Report) -> "ConvertedLog":
    """Bring the training log of an earlier version, in the folder `old`, into today's tables."""
    from features.log.convert import convert

    return convert(old, settings.training_log, lambda done, total: report("convert", done, total))


async def _serve(settings: Settings, make: "Callable[[Settings, Parts, CollectorRegistry], StreamWorker]") -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    from streams.worker.runner import run_worker

    registry = CollectorRegistry()
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=registry)
    async with compose.parts(settings) as parts:
        worker = make(settings, parts, registry)
        _settle_memory()
        await run_worker(worker)


async def serve_api(settings: Settings) -> None:
    """The ranking service, until SIGTERM or SIGINT."""
    import uvicorn
    from prometheus_client import CollectorRegistry

    async with compose.parts(settings) as parts, compose.api(settings, parts, CollectorRegistry()) as app:
        _settle_memory()
        config = uvicorn.Config(app, host=settings.api_host, port=settings.api_port, log_level="warning")
        await uvicorn.Server(config).serve()


def _settle_memory() -> None:
    """What is imported stays: the collector need not walk it again, which is what the slowest requests waited for."""
    gc.collect()
    gc.freeze()
