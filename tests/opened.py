"""Publishing and refreshing on parts that are opened for one call, as each command does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretaste import compose
from foretaste.cli.train import next_number
from foretaste.kernel.ports import Report, no_report
from foretaste.settings import Settings
from models.data.dataset import Dataset
from models.generations import publish as publishing
from models.refresh.parts import RefreshRequest
from models.refresh.records import RefreshRecord
from models.refresh.refresh import refresh as refresh_parts
from models.refresh.train import train as train_generation
from models.training.config import TrainingConfig


async def load(settings: Settings, number: int, reached: Callable[[int], None] = lambda _: None) -> None:
    async with compose.publish_parts(settings) as parts:
        await publishing.load(parts, number, reached)


async def activate(settings: Settings, number: int, expected: int | None, reason: str, **options: Any) -> None:
    async with compose.publish_parts(settings) as parts:
        await publishing.activate(parts, number, expected, reason, **options)


async def publish(settings: Settings, number: int | None) -> int:
    async with compose.publish_parts(settings) as parts:
        return await publishing.publish(parts, number)


async def republish(settings: Settings) -> int | None:
    async with compose.publish_parts(settings) as parts:
        return await publishing.republish(parts)


async def rollback(settings: Settings) -> tuple[int, int]:
    async with compose.publish_parts(settings) as parts:
        return await publishing.rollback(parts, "rollback by hand")


async def retire(settings: Settings, number: int, *, delete: bool) -> None:
    async with compose.publish_parts(settings) as parts:
        await publishing.retire(parts, number, delete=delete)


async def retire_old(settings: Settings) -> None:
    async with compose.publish_parts(settings) as parts:
        await publishing.retire_old(parts, settings.keep, lambda _done, _total: None)


async def take_back(settings: Settings, number: int) -> None:
    async with compose.publish_parts(settings) as parts:
        await publishing.take_back(parts, number)


async def active_number(settings: Settings) -> int | None:
    async with compose.publish_parts(settings) as parts:
        return await publishing.active_number(parts.generations)


async def refresh(settings: Settings, request: RefreshRequest, report: Report = no_report) -> RefreshRecord:
    async with compose.refresh_parts(settings) as parts:
        return await refresh_parts(parts, request, report)


async def train(settings: Settings, dataset: Dataset, config: TrainingConfig) -> Path:
    numbers = await next_number(settings)
    return train_generation(dataset, config, settings.generations, lambda: numbers)
