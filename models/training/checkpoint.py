"""What a killed run resumes from: each checkpoint written whole, and told from those of other runs.

`folder/<fingerprint of the run>/<steps done>/`: state.pt (tensors), state.json (all else, and the hash of state.pt);
`folder/<fingerprint of the run>/effects/`: what was fitted before the first step.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from foretaste.kernel.errors import DamagedArtifact, Unavailable
from foretaste.kernel.files import AlreadyThere, hash_file, remove_whole, verify, write_whole
from foretaste.kernel.ports import Clock
from models.effects.codes import Combinations
from models.effects.decayed_popularity import DecayedPopularity
from models.effects.fit import Effects
from models.effects.state import SavedCounts
from models.effects.transitions import Transitions
from models.runtime.layout import COUNTS

KEPT = 2
"""Newest checkpoints of a run: one that turns out to be damaged is passed over for the one before."""
_TENSORS, _STATE, _EFFECTS, _ARRAYS = "state.pt", "state.json", "effects", "effects.npz"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run after `step` steps of about `batch` rows.

    `planned` and `drawn` are states of numpy's generator: when the steps were planned, and after this one. `losses` are
    those of each step so far. `tensors`: the towers, both optimisers, and the state of torch's generators.
    """

    step: int
    batch: int
    planned: Mapping[str, Any]
    drawn: Mapping[str, Any]
    losses: Sequence[Mapping[str, float]]
    tensors: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where checkpoints are kept, and how often one is written. One run at a time may use a folder."""

    folder: Path
    every_seconds: float = 300.0
    clock: Clock = time.monotonic

    def of(self, fingerprint: str, notice: Callable[[str], None]) -> "RunCheckpoints":
        """The checkpoints of the run that has this `fingerprint`; `notice` hears of what is passed over."""
        return RunCheckpoints(self, self.folder / fingerprint, notice)


class ResumePoint(NamedTuple):
    """A checkpoint to resume from, and the effects that were fitted before the first step."""

    checkpoint: Checkpoint
    effects: Effects | None


class RunCheckpoints:
    """The checkpoints of one run."""

    def __init__(self, settings: Checkpoints, folder: Path, notice: Callable[[str], None]) -> None:
        self._settings = settings
        self._folder = folder
        self._notice = notice
        self._written = settings.clock()

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self._settings.clock() - self._written >= self._settings.every_seconds

    def latest(self, most_batch: int) -> "ResumePoint | None":
        """The newest whole checkpoint of steps of at most `most_batch` rows; None: begin anew."""
        for other in _folders(self._settings.folder):
            if other != self._folder:
                self._notice(f"{other} is the checkpoint of another run, of other data or settings: not read")
        for path in self._steps():
            try:
                found = _read(path)
                if found.batch <= most_batch:
                    return ResumePoint(found, _read_effects(self._folder / _EFFECTS))
            except DamagedArtifact as error:
                self._notice(f"a checkpoint is damaged and passed over: {error}")
        return None

    def save(self, checkpoint: Checkpoint, effects: Effects | None) -> None:
        """Write a checkpoint, and before a run's first one what was fitted. A full disk ends no run.

        1. it is written whole under another name, and flushed; 2. renamed; 3. those before the last `KEPT` are removed,
        and those of other runs.
        """
        if checkpoint.step == 0:
            self._write(_EFFECTS, lambda folder: _write_effects(folder, effects))
        if self._write(f"{checkpoint.step:09d}", lambda folder: _write(folder, checkpoint)):
            kept = {self._folder / _EFFECTS, *self._steps()[:KEPT]}
            for path in (*_folders(self._folder), *_folders(self._settings.folder)):
                if path not in kept and path != self._folder:
                    remove_whole(path)
        self._written = self._settings.clock()

    def _steps(self) -> list[Path]:
        """The folders of the checkpoints, the newest first."""
        return sorted((path for path in _folders(self._folder) if path.name.isdecimal()), reverse=True)

    def _write(self, name: str, fill: Callable[[Path], None]) -> bool:
        target = self._folder / name
        if target.exists():
            remove_whole(target)
        try:
            write_whole(target, fill)
        except (OSError, RuntimeError, Unavailable, AlreadyThere) as error:  # torch tells a full disk by the second
            self._notice(f"no checkpoint could be written, training goes on: {error}")
            return False
        return True


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    torch.save(checkpoint.tensors, folder / _TENSORS)
    state = {one.name: getattr(checkpoint, one.name) for one in fields(checkpoint) if one.name != "tensors"}
    text = json.dumps({**state, "sha256": hash_file(folder / _TENSORS)})
    (folder / _STATE).write_text(text, encoding="utf-8")


def _read(folder: Path) -> Checkpoint:
    """Raises `DamagedArtifact`."""
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        verify(folder, {_TENSORS: state.pop("sha256")})
        tensors = torch.load(folder / _TENSORS, map_location="cpu", weights_only=True)
        return Checkpoint(**state, tensors=tensors)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedArtifact(f"{folder / _STATE} cannot be read: {error}") from error


def _write_effects(folder: Path, effects: Effects | None) -> None:
    """Write what was fitted; None is kept too, so that it differs from a file that was lost."""
    if effects is not None:
        named = ("codes", "fold", "keys", "biases", "age_biases")
        arrays = {name: found for name in named if (found := getattr(effects, name)) is not None}
        if effects.popularity is not None:
            popularity = effects.popularity
            arrays |= {f"popularity_{one.name}": getattr(popularity, one.name) for one in fields(popularity)}
        if effects.transitions is not None:
            arrays |= {f"transition_{one.name}": getattr(effects.transitions, one.name) for one in fields(Transitions)}
        if effects.combinations is not None:
            combinations = effects.combinations
            arrays |= {f"combination_{one.name}": getattr(combinations, one.name) for one in fields(combinations)}
        np.savez(folder / _ARRAYS, **arrays)
        if effects.counts is not None:
            effects.counts.save(folder / COUNTS)
    hashes = {path.name: hash_file(path) for path in folder.iterdir()}
    (folder / _STATE).write_text(json.dumps(hashes), encoding="utf-8")


def _transitions(arrays: dict[str, Any]) -> Transitions | None:
    """Taken out of the arrays. Raises `KeyError` for those of an earlier version, which lack some."""
    if "transition_sources" not in arrays:
        return None
    return Transitions(**{one.name: arrays.pop(f"transition_{one.name}") for one in fields(Transitions)})


def _read_effects(folder: Path) -> Effects | None:
    """Raises `DamagedArtifact`."""
    try:
        hashes = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        verify(folder, hashes)
        if _ARRAYS not in hashes:
            return None
        counts = SavedCounts.load(folder / COUNTS) if COUNTS in hashes else None
        with np.load(folder / _ARRAYS, allow_pickle=False) as file:
            arrays = dict(file)
        popularity = {one.name: arrays.pop(f"popularity_{one.name}", None) for one in fields(DecayedPopularity)}
        transitions = _transitions(arrays)
        combinations = {one.name: arrays.pop(f"combination_{one.name}", None) for one in fields(Combinations)}
        return Effects(
            **arrays,
            counts=counts,
            combinations=None if combinations["values"] is None else Combinations(**combinations),
            popularity=None if popularity["lifts"] is None else DecayedPopularity(**popularity),
            transitions=transitions,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedArtifact(f"{folder} cannot be read: {error}") from error


def fingerprint(*parts: object) -> str:
    """A hash of all that a run depends on: arrays, tensors, texts, numbers, dataclasses and mappings of them.

    Raises `TypeError` for anything else, whose text might not tell two apart.
    """
    digest = hashlib.blake2b(digest_size=16)
    for piece in _pieces(parts):
        digest.update(f"{len(piece)}:".encode())
        digest.update(piece)
    return digest.hexdigest()


def _pieces(part: object) -> Iterator[bytes]:
    if part is None or isinstance(part, str | bytes | int | float):
        yield repr(part).encode()
    elif isinstance(part, np.ndarray) and not part.dtype.hasobject:
        yield f"{part.dtype}{part.shape}".encode()
        yield np.ascontiguousarray(part).tobytes()
    else:
        for inner in _parts(part):
            yield from _pieces(inner)


def _parts(part: object) -> Sequence[object]:
    if isinstance(part, Tensor):
        return [part.detach().cpu().numpy()]
    if isinstance(part, np.generic):
        return [part.item()]
    if isinstance(part, Mapping):
        return [f"{len(part)} pairs", *(each for pair in part.items() for each in pair)]
    if isinstance(part, list | tuple):
        return [f"{len(part)} in all", *part]
    if is_dataclass(part):
        return [type(part).__name__, *(getattr(part, one.name) for one in fields(part))]
    raise TypeError(f"nothing to tell a run by: {type(part).__name__}")
