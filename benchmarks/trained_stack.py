"""An embedded stack of a benchmark's own, with towers trained for one epoch: how good they are does not matter here."""

import asyncio
import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.apache_kafka import ApacheKafka
from foretaste import compose, embedded
from foretaste.console import errors
from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.generations import Generation
from foretaste.kernel.ports import Report
from foretaste.kernel.values import Attributes
from foretaste.settings import Settings
from foretaste.stack.environment import TritonEnvironment, ensure_triton_environment
from foretaste.stack.progress import silent
from foretaste.stack.stack import Stack, plan
from models.data.sources.public import open_dataset
from models.towers.architecture import Architecture

Broker = Literal["tansu", "apache"]


@dataclass(frozen=True)
class TrainedStack:
    """What runs: settings that reach it, the active generation, and attributes of the data's users."""

    settings: Settings
    generation: Generation
    attributes: Sequence[Attributes]


@contextmanager
def trained_stack(settings: Settings, data: str, broker: Broker = "tansu") -> Iterator[TrainedStack]:
    """As `own_stack`, with generation 1 active."""
    attributes = train(settings, data, [1])
    environment = ensure_triton_environment(Settings().home, lambda step, *_: errors.print(step))
    with own_stack(settings, environment, broker) as (_, resolved):
        generation = asyncio.run(publish(resolved, [1]))
        gc.collect()
        gc.freeze()  # what training left is not walked again while something is timed
        yield TrainedStack(resolved, generation, attributes)


@contextmanager
def own_stack(
    settings: Settings, environment: TritonEnvironment, broker: Broker = "tansu", report: Report = silent
) -> Iterator[tuple[Stack, Settings]]:
    """A prepared stack in `settings.home`, around the Kafka that the settings name, if any; settings that reach it.

    Apache Kafka is started from KAFKA_HOME; raises `InvalidInput` where that names none, or the settings name another.
    """
    if broker == "apache" and settings.kafka:
        raise InvalidInput(
            "FORETASTE_KAFKA", settings.kafka, "unset it: the benchmark starts an Apache Kafka of its own"
        )
    own = {"kafka": settings.kafka} if settings.kafka else {}
    planned = plan(settings.home, own, triton_environment=environment, report=report)
    if broker == "apache":
        apache = ApacheKafka.found(settings.home / "kafka")
        planned = replace(planned, parts=[apache if each.name == "kafka" else each for each in planned.parts])
    with Stack(settings.home, planned, report=report) as stack:
        if broker == "apache":  # named, it is no embedded one, whose settings are those for Tansu
            settings = settings.model_copy(update={"kafka": stack.addresses["kafka"]})
        settings = compose.resolve(settings)
        embedded.prepare(settings)
        yield stack, settings


def train(settings: Settings, data: str, numbers: Sequence[int], zero_shot: str = "effects") -> list[Attributes]:
    """Generations of these numbers, of one training, unless they are there; the attributes of the data's users."""
    from models.data.split import split_by_time  # noqa: PLC0415
    from models.generations.export import export  # noqa: PLC0415
    from models.training.config import TrainingConfig  # noqa: PLC0415
    from models.training.cotrain import cotrain  # noqa: PLC0415  # torch, which no child process of a benchmark needs

    dataset = open_dataset(data, Settings().home / "data")
    missing = [number for number in numbers if not Path(settings.generations, str(number)).exists()]
    if missing:
        errors.print("training for one epoch")
        config = TrainingConfig(device="cpu", architecture=Architecture(zero_shot=zero_shot)).with_epochs(1)
        trained = cotrain(dataset, split_by_time(dataset), config, lambda _: None)
        for number in missing:
            export(trained, dataset, {}, settings.generations, lowest=number)
    known = dataset.users[list(dataset.description.users.attributes)].to_json(orient="records")
    rows: list[Attributes] = json.loads(known)
    return rows


async def publish(settings: Settings, numbers: Sequence[int]) -> Generation:
    """The generations in Triton and on record, the first of them active; that one."""
    from models.generations.manifest import generation_record  # noqa: PLC0415
    from models.generations.repository import write_version  # noqa: PLC0415

    towers, generations = compose.towers(settings), compose.generations(settings)
    for number in numbers:
        folder = settings.generations / str(number)
        await asyncio.to_thread(write_version, folder, settings.repository, "cpu")
        await towers.load(number)
        await generations.record(*generation_record(folder))
    await generations.activate(numbers[0], await _active(settings))
    found = await generations.get(numbers[0])
    await towers.close()
    await generations.close()
    assert found is not None
    return found


async def _active(settings: Settings) -> int | None:
    generations = compose.generations(settings)
    active = await generations.active()
    await generations.close()
    return None if active is None else active.number
