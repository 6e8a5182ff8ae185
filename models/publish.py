"""A generation's artifact into Triton's model repository, as version `<number>` of both towers."""

import re
import shutil
import tempfile
from functools import partial
from importlib.resources import files as resources
from pathlib import Path
from typing import Literal

from foretaste.errors import ForetasteError
from models import artifact, files

ZERO_SHOT_TOWER, RANKING_TOWER = "zero_shot_tower", "ranking_tower"
"""The names of the models in Triton."""
ONNX = {ZERO_SHOT_TOWER: files.ZERO_SHOT, RANKING_TOWER: files.RANKING}
CODE = ("__init__.py", "encoding.py", "files.py", "served.py")
"""Modules of `models` that travel with each version, so that old generations keep the code they were exported with."""


def publish(folder: Path, repository: Path, device: Literal["cpu", "gpu"] = "cpu") -> int:
    """Write the generation in `folder` as a version of both towers and return its number; loading it is Triton's.

    Each version appears whole, its files checked against the manifest; publishing a generation again changes nothing.
    Raises `DamagedArtifact` for files that are not what the manifest says, and `ForetasteError` where the repository
    already holds another generation of this number.
    """
    manifest = artifact.read_manifest(folder)
    for tower, onnx in ONNX.items():
        home = repository / tower
        home.mkdir(parents=True, exist_ok=True)
        version = home / str(manifest.number)
        if version.exists():
            _check_same(folder, version)
        else:
            artifact.write_whole(version, partial(_fill, folder, tower, onnx))
        _write_config(tower, home / "config.pbtxt", device)
    return manifest.number


def _fill(folder: Path, tower: str, onnx: str, version: Path) -> None:
    """Copy first, then compare the copies with the manifest."""
    for name in (files.MANIFEST, files.ENCODING, onnx):
        try:
            shutil.copyfile(folder / name, version / name)
        except FileNotFoundError as error:
            raise artifact.DamagedArtifact(f"{folder / name} is missing") from error
    manifest = artifact.read_manifest(version)
    artifact.verify(version, {name: manifest.files[name] for name in (files.ENCODING, onnx)})
    (version / "model.py").write_text(_of_tower(tower, "model.py"), encoding="utf-8")
    package = version / "models"
    package.mkdir()
    for name in CODE:
        (package / name).write_text((resources("models") / name).read_text(encoding="utf-8"), encoding="utf-8")


def _check_same(folder: Path, version: Path) -> None:
    if artifact.hash_file(folder / files.MANIFEST) != artifact.hash_file(version / files.MANIFEST):
        raise ForetasteError(f"{version} already holds another generation of this number than {folder}")


def _write_config(tower: str, path: Path, device: Literal["cpu", "gpu"]) -> None:
    """Put the committed config beside the versions, with this device's instance group.

    It is left alone when it already says so: Triton reloads every version of a model whose config was touched.
    """
    config = re.sub(r"\bKIND_(CPU|GPU)\b", f"KIND_{device.upper()}", _of_tower(tower, "config.pbtxt"))
    if path.exists() and path.read_text(encoding="utf-8") == config:
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".config.", encoding="utf-8", delete=False) as file:
        file.write(config)
    unfinished = Path(file.name)
    unfinished.chmod(0o644)
    unfinished.replace(path)


def _of_tower(tower: str, name: str) -> str:
    return (resources("triton_repo") / tower / name).read_text(encoding="utf-8")
