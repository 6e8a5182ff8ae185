"""A generation from a dataset: trained, evaluated and exported, or found among those that were trained on it."""

from collections.abc import Callable, Container
from pathlib import Path

import numpy as np

from foretaste.kernel.errors import DamagedArtifact
from foretaste.kernel.ports import Report, no_report, reported
from models.data.dataset import Dataset
from models.data.split import split_by_time
from models.evaluation.offline import evaluate
from models.evaluation.profile import profile_of
from models.generations.counted import CountedUsers
from models.generations.export import export
from models.generations.manifest import hash_json, read_manifest
from models.training.config import TrainingConfig
from models.training.cotrain import cotrain
from models.training.data import TrainingData


def train(
    dataset: Dataset,
    config: TrainingConfig,
    artifacts: Path,
    numbers: Callable[[], tuple[int, int | None]] = lambda: (1, None),
    report: Report = no_report,
) -> Path:
    """Co-train on what lies before the split, evaluate on the rest, export; the new generation's folder in `artifacts`.

    `numbers` tells, once it is trained, from which number on one is free, and the active generation's, whose slot it
    does not take.
    """
    split = split_by_time(dataset)
    trained = cotrain(dataset, split, config, lambda step: report("co-train", step.number, step.total))
    metrics = evaluate(dataset, split, trained, progress=lambda done, total: report("evaluate", done, total))
    with reported(report, "export"):
        rng = np.random.default_rng(config.seed)
        data = TrainingData.of(dataset, split, trained.encoding)
        sampler = None if data.sampler is None else data.sampler(rng)
        profile = profile_of(trained, data.examples, rng, sampler=sampler, negatives=config.negatives)
        lowest, active = numbers()
        return export(
            trained,
            dataset,
            metrics,
            artifacts,
            lowest=lowest,
            unlike=active,
            profile=profile.model_dump_json(),
            counted=CountedUsers.of(map(str, dataset.users["user_id"])),
        )


def trained_before(
    dataset: Dataset, config: TrainingConfig, artifacts: Path, spent: Container[int], report: Report = no_report
) -> Path | None:
    """The newest generation in `artifacts` that was trained on just these data with this configuration, or None.

    Numbers in `spent` are passed over, and so are damaged generations, which is reported.
    """
    wanted = (dataset.fingerprint, hash_json(config.to_dict()))
    folders = artifacts.iterdir() if artifacts.is_dir() else ()
    numbers = {int(each.name): each for each in folders if each.name.isdecimal() and int(each.name) not in spent}
    for _, folder in sorted(numbers.items(), reverse=True):
        try:
            manifest = read_manifest(folder)
        except DamagedArtifact as damage:
            report(f"passed over: {damage}", 1, 1)
            continue
        if (manifest.dataset_fingerprint, manifest.training_fingerprint) == wanted:
            return folder
    return None
