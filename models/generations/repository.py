"""A generation's artifact into Triton's model repository, as version `<number>` of the vocabulary, index and towers."""

import re
import shutil
import time
from contextlib import suppress
from functools import partial
from importlib.resources import files as resources
from pathlib import Path
from typing import Literal

from foretaste.kernel.errors import DamagedArtifact, ForetasteError
from foretaste.kernel.files import (
    AlreadyThere,
    hash_file,
    make_folder,
    naming_a_full_disk,
    remove_whole,
    sweep,
    verify,
    write_file,
    write_whole,
)
from foretaste.kernel.ports import Clock
from models.generations.manifest import read_manifest
from models.runtime import layout

VOCABULARY, RETRIEVAL, ZERO_SHOT_TOWER, RANKING_TOWER = "vocabulary", "retrieval", "zero_shot_tower", "ranking_tower"
"""The names of the models in Triton, in the order in which they are loaded."""
FILES = {
    VOCABULARY: layout.ENCODING,
    RETRIEVAL: layout.RETRIEVAL,
    ZERO_SHOT_TOWER: layout.ZERO_SHOT,
    RANKING_TOWER: layout.RANKING,
}
"""What each serves of a generation."""
CONFIG = "config.pbtxt"
CODE = {
    "foretaste": ("__init__.py",),
    "foretaste.kernel": ("__init__.py", "values.py"),
    "models": ("__init__.py",),
    "models.runtime": (
        "__init__.py",
        "acts.py",
        "digest.py",
        "layout.py",
        "packing.py",
        "priority.py",
        "refusals.py",
        "retrieval.py",
        "towers.py",
        "transitions.py",
    ),
}
"""Modules by package that travel with each version, so that old generations keep the code they were exported with."""
_OF_THIS_FORM = Path("models", "runtime", "digest.py")
"""What every version holds whose code reads the tensors that the configs name."""
BYTECODE = "__pycache__"
"""Where Python would keep bytecode there is an empty file, so that it keeps none: Triton takes a version into which
anything was written since for another one, and starts it anew at the next load of any version of its model."""


def write_version(
    folder: Path, repository: Path, device: Literal["cpu", "gpu"] = "cpu", clock: Clock = time.time
) -> int:
    """Write the generation in `folder` as a version of each model and return its number; loading it is Triton's.

    Each version appears whole, its files checked against the manifest; publishing a generation again changes nothing,
    and where it fails the repository is left without it. Where Triton then cannot load it, `withdraw` takes it back.
    Raises `DamagedArtifact` for files that are not what the manifest says, or as `check_versions`, `ForetasteError`
    where the repository already holds another generation of this number, and `Unavailable` when the disk is full.
    """
    number = read_manifest(folder).number
    check_versions(repository, besides=number)
    before = [model for model in FILES if (repository / model / str(number)).exists()]
    try:
        for model in FILES:
            _publish(folder, repository / model, number, device, clock)
    except (ForetasteError, OSError):
        if not before:
            withdraw(number, repository)
        raise
    return number


def _publish(folder: Path, home: Path, number: int, device: Literal["cpu", "gpu"], clock: Clock) -> None:
    """One model's version, and the config beside it."""
    model = home.name
    version = home / str(number)
    with naming_a_full_disk(home):
        make_folder(home)
        sweep(home, clock)
        if version.exists() and not (version / _OF_THIS_FORM).exists():
            remove_whole(version)  # of an earlier release: its code reads other tensors than the config now says
        if not version.exists():
            with suppress(AlreadyThere):  # by another publication of the same number
                write_whole(version, partial(_fill, folder, model, FILES[model]))
        _check_same(folder, version)
        _write_config(model, home, number, device)


def check_versions(repository: Path, besides: int | None = None) -> None:
    """Raises `DamagedArtifact` for the first version that no publication left so, that of `besides` passed over.

    An empty folder does: Triton then serves no version of the model, and says so in its log alone.
    """
    for model in FILES:
        for version in sorted((repository / model).glob("*")):
            if not version.name.isdecimal() or int(version.name) == besides:
                continue
            missing = [name for name in ("model.py", layout.MANIFEST) if not (version / name).is_file()]
            if missing:
                what = "is empty" if version.is_dir() and not any(version.iterdir()) else f"has no {missing[0]}"
                problem = f"Triton serves no version of {model} beside it. Remove it, or publish {version.name} again"
                raise DamagedArtifact(f"{version} {what}: {problem}")


def is_published(number: int, repository: Path) -> bool:
    """Whether the repository holds this generation, loaded or not."""
    return all((repository / model / str(number)).is_dir() for model in FILES)


def published(repository: Path) -> list[int]:
    """The numbers that have a version of any model in the repository, rising."""
    versions = [path.name for model in FILES for path in (repository / model).glob("*") if path.name.isdecimal()]
    return sorted(set(map(int, versions)))


def withdraw(number: int, repository: Path) -> None:
    """Take back what publishing this generation wrote: its version of each model, and what it made of their configs.

    For one that is retired, or that Triton could not load: one broken version keeps Triton from serving any version of
    its model once it starts again. Never for a generation that readers are pointed to. Versions that Triton has loaded
    go on answering until it loads the model again. Withdrawing what is not there changes nothing.
    """
    for model in FILES:
        home = repository / model
        if not home.is_dir():
            continue
        remove_whole(home / str(number))
        before = home / _before(number)
        if before.exists():
            before.replace(home / CONFIG)
        elif not any(path.name.isdecimal() for path in home.iterdir()):
            (home / CONFIG).unlink(missing_ok=True)


def _fill(folder: Path, model: str, served: str, version: Path) -> None:
    """Copy first, then compare the copies with the manifest; an index that was not exported is made."""
    _copy(folder, version, layout.MANIFEST)
    manifest = read_manifest(version)
    if served == layout.RETRIEVAL and served not in manifest.files:
        from models.generations.retrieval import write_retrieval  # noqa: PLC0415  # brings onnxruntime, rarely needed

        verify(folder, manifest.files)
        write_retrieval(folder, version / served, manifest.warm_after)
    else:
        _copy(folder, version, served)
        verify(version, {served: manifest.files[served]})
    (version / "model.py").write_text(_of_model(model, "model.py"), encoding="utf-8")
    for package, modules in CODE.items():
        copied = version.joinpath(*package.split("."))
        copied.mkdir()
        for name in modules:
            (copied / name).write_text((resources(package) / name).read_text(encoding="utf-8"), encoding="utf-8")
        (copied / BYTECODE).touch()
    (version / BYTECODE).touch()


def _copy(folder: Path, version: Path, name: str) -> None:
    try:
        shutil.copyfile(folder / name, version / name)
    except FileNotFoundError as error:
        raise DamagedArtifact(f"{folder / name} is missing") from error


def _check_same(folder: Path, version: Path) -> None:
    if hash_file(folder / layout.MANIFEST) != hash_file(version / layout.MANIFEST):
        raise ForetasteError(f"{version} already holds another generation of this number than {folder}")


def _write_config(model: str, home: Path, number: int, device: Literal["cpu", "gpu"]) -> None:
    """Put the committed config beside the versions, with this device's instance group; what it was is kept aside.

    It is left alone when it already says so: Triton reloads every version of a model whose config was touched.
    """
    path = home / CONFIG
    config = _of_model(model, CONFIG)
    if model not in (VOCABULARY, RETRIEVAL):
        config = re.sub(r"\bKIND_(CPU|GPU)\b", f"KIND_{device.upper()}", config)
    kept = path.read_text(encoding="utf-8") if path.exists() else None
    before = home / _before(number)
    for other in set(home.glob(_before("*"))) - {before}:
        other.unlink(missing_ok=True)
    if kept == config:
        return
    if kept is not None and not before.exists():
        write_file(before, kept)
    write_file(path, config)


def _before(number: int | str) -> str:
    """Name of the config as it was before this generation was published."""
    return f"{CONFIG}.before-{number}"


def _of_model(model: str, name: str) -> str:
    return (resources("triton_repo") / model / name).read_text(encoding="utf-8")
