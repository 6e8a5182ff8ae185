"""Trained towers to a generation's artifact: ONNX and weights, compared with the towers before anything is kept."""

import json
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from foretaste.errors import ForetasteError
from foretaste.ports import Clock
from models import artifact, files, parity
from models.artifact import Manifest
from models.cotrain import Trained
from models.dataset import Dataset
from models.encoding import FIRST_KNOWN, MAX_BEHAVIOUR


def export(
    trained: Trained,
    dataset: Dataset,
    metrics: Mapping[str, float],
    generations: Path,
    clock: Clock = time.time,
    *,
    lowest: int = 1,
) -> Path:
    """Write the next generation under `generations` and return its folder, which appears whole or not at all.

    Its number is 1 + the highest there, and at least `lowest`. Of two exports that end at once, one takes the number
    and the other the next. Raises `ParityError` when the exported towers, fed raw values, answer differently from the
    trained ones.
    """
    artifact.sweep(generations, clock)
    while True:
        folder = generations / str(max(artifact.next_number(generations), lowest))
        try:
            _write(trained, dataset, metrics, folder, clock)
        except artifact.AlreadyThere:
            continue
        return folder


def _write(trained: Trained, dataset: Dataset, metrics: Mapping[str, float], folder: Path, clock: Clock) -> None:
    def fill(unfinished: Path) -> None:
        (unfinished / files.ENCODING).write_text(trained.encoding.to_json(), encoding="utf-8")
        (unfinished / files.POPULARITY).write_text(json.dumps(_popularity(trained)), encoding="utf-8")
        save_file(trained.model.state_dict(), unfinished / files.WEIGHTS)
        export_towers(trained, unfinished)
        difference = parity.compare(trained, unfinished)
        hashes = {path.name: artifact.hash_file(path) for path in sorted(unfinished.iterdir())}
        training = trained.config.to_dict()
        manifest = Manifest(
            number=int(folder.name),
            created_at=datetime.fromtimestamp(clock(), UTC).isoformat(timespec="seconds"),
            dataset=dataset.description.name,
            dataset_fingerprint=dataset.fingerprint,
            split_ms=trained.split_ms,
            training=training,
            training_fingerprint=artifact.fingerprint(training),
            warm_after=trained.config.warm_after,
            attributes={name: field.kind for name, field in trained.encoding.attributes.items()},
            context={name: field.kind for name, field in trained.encoding.context.items()},
            sizes=_sizes(trained),
            mean_virtual=trained.mean_virtual.tolist(),
            metrics=dict(metrics),
            parity=difference,
            files=hashes,
        )
        (unfinished / files.MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")

    artifact.write_whole(folder, fill)


def export_towers(trained: Trained, folder: Path) -> None:
    """Write both serving forms as ONNX: any number of users and of candidates, all else fixed."""
    tried = parity.probes(trained, 3, np.random.default_rng(0))
    _to_onnx(
        trained.zero_shot,
        {"attributes": parity.attribute_tensor(trained.encoding, tried)},
        "virtual_behaviour",
        folder / files.ZERO_SHOT,
    )
    names = ("attributes", "context", "items", "actions", "virtual", "candidates", "owner")
    inputs = dict(zip(names, parity.ranking_tensors(trained.encoding, tried), strict=True))
    _to_onnx(trained.ranking, inputs, "scores", folder / files.RANKING)


def _to_onnx(form: nn.Module, inputs: Mapping[str, Tensor], output: str, path: Path) -> None:
    with _quiet():
        program = torch.onnx.export(
            form,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=[{0: torch.export.Dim.DYNAMIC}] * len(inputs),
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
        "attributes": len(encoding.attributes),
        "context": len(encoding.context),
        "behaviour": MAX_BEHAVIOUR,
        "virtual_vectors": architecture.virtual_vectors,
        "dimension": architecture.dimension,
        "items": encoding.item_count,
        "actions": encoding.action_count,
    }
