"""The house: sizes of folders and modules, names of classes, and what an import brings. Layers are import-linter's."""

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import foretaste

ROOT = Path(foretaste.__file__).parents[1]
PACKAGES = ("foretaste", "streams", "features", "models", "serving", "triton_repo", "benchmarks")
MOST_MODULES, MOST_LINES = 16, 320
NO_TORCH = (
    "foretaste.cli.main",
    "foretaste.client",
    "foretaste.compose",
    "models.generations.in_process",
    "models.generations.probes",
    "models.generations.publish",
    "models.generations.triton",
    "models.runtime.towers",
    "serving.api",
    "serving.rankings.ranking",
    "streams.pipelines",
)
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_no_folder_holds_too_many_modules() -> None:
    folders = Counter(path.parent.relative_to(ROOT) for path in MODULES if path.name != "__init__.py")
    assert {str(folder): count for folder, count in folders.items() if count > MOST_MODULES} == {}


def test_no_module_is_too_long() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_public_class_name_stands_twice() -> None:
    found = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "TritonPythonModel":
                found[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("module", NO_TORCH)
def test_importing_what_serves_brings_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
