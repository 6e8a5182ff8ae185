"""A generation's artifact into Triton's model repository, as version `<number>` of both towers."""

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

ZERO_SHOT_TOWER, RANKING_TOWER = "zero_shot_tower", "ranking_tower"
"""The names of the models in Triton."""
ONNX = {ZERO_SHOT_TOWER: layout.ZERO_SHOT, RANKING_TOWER: layout.RANKING}
CONFIG = "config.pbtxt"
CODE = {
    "foretaste": ("__init__.py",),
    "foretaste.kernel": ("__init__.py", "values.py"),
    "models": ("__init__.py",),
    **{
        package: tuple(sorted(each.name for each in resources(package).iterdir() if each.name.endswith(".py")))
        for package in ("models.runtime", "models.runtime.fields")
    },
}
"""Modules by package that travel with each version, so that old generations keep the code they were exported with."""
BYTECODE = "__pycache__"
"""Where Python would keep bytecode there is an empty file, so that it keeps none: Triton takes a version into which
anything was written since for another one, and starts it anew at the next load of any version of its model."""


def write_version(
    folder: Path, repository: Path, device: Literal["cpu", "gpu"] = "cpu", clock: Clock = time.time
) -> int:
    """Write the generation in `folder` as a version of both towers and return its number; loading it is Triton's.

    Each version appears whole, its files checked against the manifest; publishing a generation again changes nothing,
    and where it fails the repository is left without it. Where Triton then cannot load it, `withdraw` takes it back.
    Raises `DamagedArtifact` for files that are not what the manifest says, `ForetasteError` where the repository
    already holds another generation of this number, and `Unavailable` when the disk is full.
    """
    number = read_manifest(folder).number
    before = [tower for tower in ONNX if (repository / tower / str(number)).exists()]
    try:
        for tower in ONNX:
            _publish(folder, repository / tower, number, device, clock)
    except (ForetasteError, OSError):
        if not before:
            withdraw(number, repository)
        raise
    return number


def _publish(folder: Path, home: Path, number: int, device: Literal["cpu", "gpu"], clock: Clock) -> None:
    """One tower's version, and the config beside it."""
    tower = home.name
    version = home / str(number)
    with naming_a_full_disk(home):
        home.mkdir(parents=True, exist_ok=True)
        sweep(home, clock)
        if not version.exists():
            with suppress(AlreadyThere):  # by another publication of the same number
                write_whole(version, partial(_fill, folder, tower, ONNX[tower]))
        _check_same(folder, version)
        _write_config(tower, home, number, device)


def is_published(number: int, repository: Path) -> bool:
    """Whether the repository holds this generation of both towers, loaded or not."""
    return all((repository / tower / str(number)).is_dir() for tower in ONNX)


def published(repository: Path) -> list[int]:
    """The numbers that have a version of either tower in the repository, rising."""
    versions = [path.name for tower in ONNX for path in (repository / tower).glob("*") if path.name.isdecimal()]
    return sorted(set(map(int, versions)))


def withdraw(number: int, repository: Path) -> None:
    """Take back what publishing this generation wrote: its version of both towers, and what it made of their configs.

    For one that is retired, or that Triton could not load: one broken version keeps Triton from serving any version of
    its model once it starts again. Never for a generation that readers are pointed to. Versions that Triton has loaded
    go on answering until it loads the model again. Withdrawing what is not there changes nothing.
    """
    for tower in ONNX:
        home = repository / tower
        if not home.is_dir():
            continue
        remove_whole(home / str(number))
        before = home / _before(number)
        if before.exists():
            before.replace(home / CONFIG)
        elif not any(path.name.isdecimal() for path in home.iterdir()):
            (home / CONFIG).unlink(missing_ok=True)


def _fill(folder: Path, tower: str, onnx: str, version: Path) -> None:
    """Copy first, then compare the copies with the manifest."""
    for name in (layout.MANIFEST, layout.ENCODING, onnx):
        try:
            shutil.copyfile(folder / name, version / name)
        except FileNotFoundError as error:
            raise DamagedArtifact(f"{folder / name} is missing") from error
    manifest = read_manifest(version)
    verify(version, {name: manifest.files[name] for name in (layout.ENCODING, onnx)})
    (version / "model.py").write_text(_of_tower(tower, "model.py"), encoding="utf-8")
    for package, modules in CODE.items():
        copied = version.joinpath(*package.split("."))
        copied.mkdir()
        for name in modules:
            (copied / name).write_text((resources(package) / name).read_text(encoding="utf-8"), encoding="utf-8")
        (copied / BYTECODE).touch()
    (version / BYTECODE).touch()


def _check_same(folder: Path, version: Path) -> None:
    if hash_file(folder / layout.MANIFEST) != hash_file(version / layout.MANIFEST):
        raise ForetasteError(f"{version} already holds another generation of this number than {folder}")


def _write_config(tower: str, home: Path, number: int, device: Literal["cpu", "gpu"]) -> None:
    """Put the committed config beside the versions, with this device's instance group; what it was is kept aside.

    It is left alone when it already says so: Triton reloads every version of a model whose config was touched.
    """
    path = home / CONFIG
    config = re.sub(r"\bKIND_(CPU|GPU)\b", f"KIND_{device.upper()}", _of_tower(tower, CONFIG))
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


def _of_tower(tower: str, name: str) -> str:
    return (resources("triton_repo") / tower / name).read_text(encoding="utf-8")
