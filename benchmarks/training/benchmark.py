"""Training speed of Foretaste's towers beside torch-rechub's and DeepCTR-Torch's, in one run on the same rows."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from benchmarks.timing import WARM_UP, Clock, Lap, Stopwatch, now
from benchmarks.training.peer_rows import PeerRows, RowSample, peer_rows
from benchmarks.training.peers import PeerModel, PeerSettings
from benchmarks.training.peers import train as train_peer
from benchmarks.training.rounds import Contestant, run_rounds
from foretaste.kernel.errors import InvalidInput
from models.data.dataset import Dataset
from models.data.split import TimeSplit, split_by_time
from models.data.vocabulary import fit_encoding
from models.runtime.encoding import Encoding
from models.towers.ranking.din import UNIT
from models.training.config import TrainingConfig, precision_of
from models.training.cotrain import cotrain
from models.training.loop import Step

OURS = "foretaste"
DEFAULT, WITHOUT_ZERO_SHOT = "default towers", "default ranking tower alone"
MODELS: tuple[PeerModel, ...] = ("din", "dnn")
WIDTHS = (512, 256)
"""Of the perceptron of every model that the peers have too, where the default towers name none: the paper's eq. 12."""
ATTENTION = (UNIT,)
"""Widths of the activation unit of the peers' DIN: Foretaste's, which is the paper's, and torch-rechub's default."""


@dataclass(frozen=True, slots=True)
class TrainingBenchmarkPlan:
    """What is timed, and how often. Raises `InvalidInput` naming a field that is out of bounds."""

    rows: int | None
    """Rows of an epoch, about; None: all."""
    seconds: float
    """Counted seconds after which a run ends, if its epoch has not ended; inf: never."""
    rounds: int
    threads: int
    peers: tuple[str, ...]
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Of the default towers; rows, threads, epochs and device are replaced by those of the plan."""

    def __post_init__(self) -> None:
        least = self.training.batch * (WARM_UP + 2)
        if self.rows is not None and self.rows < least:
            raise InvalidInput(
                "rows", self.rows, f"must be at least {least}: {WARM_UP + 2} batches, {WARM_UP} uncounted"
            )
        if not self.seconds > 0:
            raise InvalidInput("seconds", self.seconds, "must be positive")
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                raise InvalidInput(name, getattr(self, name), "must be at least 1")


@dataclass(frozen=True, eq=False, slots=True)
class TrainingBenchmarkResult:
    """The laps of all contestants, and which of them are compared."""

    config: TrainingConfig
    """Of Foretaste's default towers."""
    precision: str
    """Of Foretaste's products; the peers' are float32."""
    rows: int
    """Rows of a timed epoch."""
    every_row: int
    """Rows of an epoch over all the data."""
    contestants: tuple[Contestant, ...]
    laps: dict[str, list[Lap]]
    pairs: tuple[tuple[str, str], ...]
    """Names of two contestants that are compared: Foretaste's and the peer's."""
    zero_shot: tuple[str, str]
    """The default towers, and their ranking tower alone."""


def default_threads() -> int:
    """The number of threads that co-training chooses."""
    return TrainingConfig().threads or max((os.cpu_count() or 2) // 2, 1)


def train_benchmark(
    dataset: Dataset,
    plan: TrainingBenchmarkPlan,
    *,
    clock: Clock = now,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainingBenchmarkResult:
    """Run every contestant `plan.rounds` times, interleaved. Raises `InvalidInput` for data too small to time."""
    config = replace(plan.training, rows=plan.rows, threads=plan.threads, device="cpu").with_epochs(1)
    split = split_by_time(dataset)
    encoding = fit_encoding(dataset, split.instant_ms)
    total = _rows(dataset, split, config)
    contestants = [*_ours(dataset, split, encoding, config, total)]
    if plan.peers:
        progress("rows for the peers")
        rows = peer_rows(dataset, split, encoding, RowSample(plan.rows, config.negatives, config.batch, config.seed))
        contestants += [_peer(library, model, config, rows) for library in plan.peers for model in MODELS]
    laps = run_rounds(
        contestants,
        plan.rounds,
        clock=clock,
        limit=plan.seconds,
        progress=lambda name, turn: progress(f"round {turn} of {plan.rounds}: {name}"),
    )
    return TrainingBenchmarkResult(
        config=config,
        precision=str(precision_of(config.precision, torch.device("cpu"))).removeprefix("torch."),
        rows=total,
        every_row=_rows(dataset, split, replace(config, rows=None)),
        contestants=tuple(contestants),
        laps=laps,
        pairs=_pairs(plan.peers),
        zero_shot=(f"{OURS} {DEFAULT}", f"{OURS} {WITHOUT_ZERO_SHOT}"),
    )


def _pairs(libraries: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The same kind of model first, then the default towers with each of the peers' models."""
    theirs = [(model, f"{library} {model}") for model in MODELS for library in libraries]
    return (
        *((f"{OURS} {model}", name) for model, name in theirs),
        *((f"{OURS} {DEFAULT}", name) for _, name in theirs),
    )


def _rows(dataset: Dataset, split: TimeSplit, config: TrainingConfig) -> int:
    every = len(split.train) * (1 if dataset.has_labels else 1 + config.negatives)
    return every if config.rows is None else min(config.rows, every)


def _ours(
    dataset: Dataset, split: TimeSplit, encoding: Encoding, config: TrainingConfig, rows: int
) -> Iterator[Contestant]:
    """The default towers with and without the zero-shot tower, and the plain models that the peers have too."""
    shape = config.architecture
    alone = replace(config, architecture=replace(shape, zero_shot="absent"))
    configs: dict[str, TrainingConfig] = {DEFAULT: config, WITHOUT_ZERO_SHOT: alone}
    for plain in MODELS:
        as_theirs = replace(shape, ranking=plain, zero_shot="absent", hidden=shape.hidden or WIDTHS)
        configs[plain] = replace(config, masked="nobody", architecture=as_theirs)
    for model, each in configs.items():

        def train(watch: Stopwatch, each: TrainingConfig = each) -> None:
            def mark(step: Step) -> None:
                watch.mark(step.number, rows * step.number / step.total)

            cotrain(dataset, split, each, mark, encoding)

        yield Contestant(OURS, model, train)


def _peer(library: str, model: PeerModel, config: TrainingConfig, rows: PeerRows) -> Contestant:
    shape = config.architecture
    settings = PeerSettings(
        model=model,
        dimension=shape.dimension,
        hidden=shape.hidden or WIDTHS,
        attention=ATTENTION,
        dropout=shape.dropout,
        batch=config.batch,
        rate=config.ranking_rate,
        seed=config.seed,
    )

    def train(watch: Stopwatch) -> None:
        with _threads(config.threads or default_threads()):
            train_peer(library, settings, rows, watch)

    return Contestant(library, model, train)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Train with so many threads; restore torch's threads and random generator on leaving."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
