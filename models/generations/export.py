"""Trained towers to a generation's artifact: ONNX and weights, compared with the towers before anything is kept."""

import errno
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from foretaste.kernel.errors import ForetasteError
from foretaste.kernel.files import AlreadyThere, hash_file, sweep, write_whole
from foretaste.kernel.ports import Clock
from foretaste.kernel.values import MAX_BEHAVIOUR
from models.data.dataset import Dataset
from models.generations import parity
from models.generations.behaviour_map import write_map
from models.generations.counted import CountedUsers
from models.generations.manifest import Manifest, hash_json, next_free, next_number
from models.generations.probes import write_probes
from models.generations.retrieval import write_retrieval
from models.runtime import layout
from models.runtime.encoding import FIRST_KNOWN, sizes_of
from models.training.item_kinds import with_kinds
from models.training.questions import with_questions
from models.training.trained import Trained


@dataclass(frozen=True, slots=True)
class _Extras:
    """What a generation takes along beside its towers."""

    profile: str | None
    base: int | None
    counted: CountedUsers | None


def export(  # noqa: PLR0913  # flat, each an option of the artifact
    trained: Trained,
    dataset: Dataset,
    metrics: Mapping[str, float],
    generations: Path,
    clock: Clock = time.time,
    *,
    lowest: int = 1,
    unlike: int | None = None,
    base: int | None = None,
    profile: str | None = None,
    counted: CountedUsers | None = None,
) -> Path:
    """Write the next generation under `generations` and return its folder, which appears whole or not at all.

    Its number is 1 + the highest there, and at least `lowest`; never in the slot of generation `unlike`, the active
    one. Of two exports that end at once, one takes the number and the other the next. `base` is the generation whose
    weights the training started from, `profile` the JSON that tells drift, `counted` whose interactions are in its
    counts. Raises `ParityError` when the exported towers, fed raw values, answer differently from those in torch, and
    `Unavailable` when the disk is full.
    """
    sweep(generations, clock)
    extras = _Extras(profile, base, counted)
    while True:
        number = next_free(lowest - 1, next_number(generations) - 1, unlike)
        folder = generations / str(number)
        try:
            _write(trained, dataset, metrics, folder, clock, extras)
        except AlreadyThere:
            continue
        return folder


def _write(
    trained: Trained, dataset: Dataset, metrics: Mapping[str, float], folder: Path, clock: Clock, extras: _Extras
) -> None:
    def fill(unfinished: Path) -> None:
        difference = _fill(trained, dataset, unfinished, extras)
        write_map(trained, dataset, unfinished / layout.MAP)
        if extras.counted is not None:
            extras.counted.write(unfinished)
        training = trained.config.to_dict()
        manifest = Manifest(
            number=int(folder.name),
            created_at=datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds"),
            dataset=dataset.description.name,
            dataset_fingerprint=dataset.fingerprint,
            split_ms=trained.split_ms,
            training=training,
            training_fingerprint=hash_json(training),
            warm_after=trained.config.warm_after,
            attributes={name: field.kind for name, field in trained.encoding.attributes.items()},
            context={name: field.kind for name, field in trained.encoding.context.items()},
            sizes=_sizes(trained),
            mean_virtual=trained.mean_virtual.tolist(),
            metrics=dict(metrics),
            base=extras.base,
            parity=difference,
            files={path.name: hash_file(path) for path in sorted(unfinished.iterdir())},
        )
        (unfinished / layout.MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")

    write_whole(folder, fill)


def _fill(trained: Trained, dataset: Dataset, folder: Path, extras: _Extras) -> float:
    """Write all files but the manifest; the greatest difference of the exported towers from those in torch."""
    asking = with_questions(trained)
    served = with_kinds(asking)
    (folder / layout.ENCODING).write_text(served.encoding.to_json(), encoding="utf-8")
    (folder / layout.POPULARITY).write_text(json.dumps(_popularity(trained)), encoding="utf-8")
    _save_weights(trained, folder / layout.WEIGHTS)
    if trained.counts is not None:
        trained.counts.save(folder / layout.COUNTS)
    if extras.profile is not None:
        (folder / layout.PROFILE).write_text(extras.profile, encoding="utf-8")
    export_towers(served, folder)
    if trained.asked is not None:
        trained.asked.write(folder / layout.QUESTIONS)
    probed = parity.answered(asking)
    difference = max(parity.compare(probed, folder), parity.compare_kinds(served, folder))
    write_probes(folder / layout.PROBES, probed)
    write_retrieval(folder, folder / layout.RETRIEVAL, trained.config.warm_after)
    return difference


def _save_weights(trained: Trained, path: Path) -> None:
    """Raises `OSError` as the other writers do when the disk is full: safetensors says it in words alone."""
    try:
        save_file(trained.model.state_dict(), path)
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def export_towers(trained: Trained, folder: Path) -> None:
    """Write both serving forms as ONNX: any number of users and of candidates, all else fixed."""
    tried = parity.probes(trained, 3, np.random.default_rng(0))
    _to_onnx(
        trained.zero_shot,
        {"attributes": parity.attribute_tensor(trained.encoding, tried)},
        "virtual_behaviour",
        folder / layout.ZERO_SHOT,
    )
    _to_onnx(trained.ranking, parity.ranking_tensors(trained.encoding, tried), "scores", folder / layout.RANKING)


def _to_onnx(form: nn.Module, inputs: Mapping[str, Tensor], output: str, path: Path) -> None:
    with _quiet():
        program = torch.onnx.export(
            form,
            kwargs=dict(inputs),
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC} for name in inputs},
            verbose=False,
        )
    if program is None:
        raise ForetasteError(f"torch exported nothing for {path.name}")
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself: torch's use of its own deprecated class, and a missing torchvision."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            yield
    finally:
        log.setLevel(level)


def _popularity(trained: Trained) -> dict[str, float]:
    shares = trained.popularity[FIRST_KNOWN:].tolist()
    return dict(zip(trained.encoding.items, shares, strict=True))


def _sizes(trained: Trained) -> dict[str, int]:
    architecture, encoding = trained.config.architecture, trained.encoding
    return {
        "attributes": len(sizes_of(encoding.attributes)),
        "context": len(sizes_of(encoding.context)),
        "behaviour": MAX_BEHAVIOUR,
        "virtual_vectors": architecture.virtual_vectors,
        "dimension": architecture.dimension,
        "items": encoding.item_count,
        "actions": encoding.action_count,
    }
