"""Who may import what: the arrows between the packages, read from the source of every module."""

import ast
import importlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import foretaste

ROOT = Path(foretaste.__file__).parents[1]
PACKAGES = ("foretaste", "streams", "features", "models", "serving", "triton_repo", "benchmarks")
KERNEL = {"foretaste.contracts", "foretaste.ports", "foretaste.errors"}
READ_SETTINGS = {
    "foretaste.settings",
    "foretaste.compose",
    "foretaste.cli",
    "foretaste.jobs",
    "foretaste.embedded",
    "foretaste.demo.run",
    "foretaste.studying",
    "foretaste.publishing",
    "foretaste.generation_jobs",
    "foretaste.generation_commands",
    "foretaste.learning",
    "foretaste.refresh",
    "foretaste.refreshing",
    "foretaste.upkeep",
}
"""`compose` wires what the settings say; the others take them from the command line to it."""
CARRIED_TO_TRITON = {"models.encoding", "models.served", "models.files"}
TRAINING = {
    "models.checkpoint",
    "models.cotrain",
    "models.counting",
    "models.distributed",
    "models.evaluation",
    "models.execution",
    "models.export",
    "models.growth",
    "models.losses",
    "models.low_rank",
    "models.parity",
    "models.restore",
    "models.run",
    "models.saved_counts",
    "models.tally",
    "models.tensors",
    "models.trainer",
    "models.training",
}
TRAINING_ROOMS = ("models.towers.", "models.rivals.", "models.study.", "benchmarks.")
"""What trains or judges; all else runs without torch."""
CORE = (
    "models.gate",
    "serving.ranking",
    "streams.batching",
    "streams.behaving",
    "streams.decoding",
    "streams.drift",
    "streams.enrichment",
    "streams.filling",
    "streams.keeping",
    "streams.reenrichment",
    "streams.regime",
    "streams.rollback",
    "streams.watching",
)
MACHINERY = {"faust", "redis", "feast", "tritonclient", "aiokafka"}


def _top(name: str) -> str:
    return name.partition(".")[0]


@cache
def _modules() -> dict[str, Path]:
    """Every module of the project by its dotted name; Triton's model.py files are scripts, not modules."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _at_start(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported: neither function bodies nor `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from (each for part in child.orelse for each in (part, *_at_start(part)))
            continue
        yield child
        yield from _at_start(child)


def _named(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names that import statements bring; `from a import b` is `a.b` where that is a module, else `a`."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inner & set(_modules())
            names |= modules | ({str(node.module)} if inner - modules else set())
    return names


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_modules()[name].read_text(encoding="utf-8"))


@cache
def imports(name: str) -> frozenset[str]:
    """Everything that a module imports, anywhere in it."""
    return frozenset(_named(ast.walk(_tree(name))))


@cache
def imports_at_start(name: str) -> frozenset[str]:
    """What importing the module imports, the packages above it among them."""
    above = {".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)}
    return frozenset(_named(_at_start(_tree(name))) | above)


def _ways(start: str) -> dict[str, tuple[str, ...]]:
    """All that importing `start` brings, each with the chain of the project's modules that leads to it."""
    found: dict[str, tuple[str, ...]] = {start: (start,)}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for imported in imports_at_start(name) - set(found):
            found[imported] = (*found[name], imported)
            if imported in _modules():
                waiting.append(imported)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_those_of_this_project(package: str) -> None:
    origin = importlib.import_module(package).__file__
    assert origin is not None
    assert Path(origin).parent == ROOT / package


def test_the_walk_sees_what_there_is_to_see() -> None:
    assert len(_modules()) > 60
    assert "models.encoding" in imports("models.served")
    assert "foretaste.contracts" in imports("streams.batching") | imports("serving.ranking")
    assert "tritonclient.grpc" in _ways("models.triton")
    assert "faust" in {_top(name) for name in _ways("streams.worker")}
    assert "torch" not in imports_at_start("foretaste.jobs")
    assert "models.cotrain" in imports("foretaste.jobs")
    assert "models.cotrain" not in imports_at_start("foretaste.jobs")


@pytest.mark.parametrize("package", ["streams", "features", "models", "serving"])
def test_a_package_knows_the_kernel_and_itself_alone(package: str) -> None:
    strays = {
        name: sorted(stray)
        for name in _modules()
        if _top(name) == package
        and (stray := {each for each in imports(name) - KERNEL if _top(each) in PACKAGES and _top(each) != package})
    }
    assert strays == {}


def test_the_kernel_knows_no_package() -> None:
    for name in KERNEL:
        assert {_top(each) for each in imports(name)} & set(PACKAGES) <= {"foretaste"}, name


@pytest.mark.parametrize("name", sorted(CARRIED_TO_TRITON))
def test_what_is_carried_to_triton_needs_numpy_and_onnxruntime_alone(name: str) -> None:
    allowed = {*sys.stdlib_module_names, "numpy", "onnxruntime"}
    assert {each for each in imports(name) - CARRIED_TO_TRITON if _top(each) not in allowed} == set()


def test_torch_is_imported_by_the_training_modules_alone() -> None:
    with_torch = {name for name in _modules() if "torch" in {_top(each) for each in imports(name)}}
    assert {name for name in with_torch if not name.startswith(TRAINING_ROOMS)} == TRAINING


@pytest.mark.parametrize(
    "name", ["models.served", "models.publish", "models.triton", "models.in_process", "models.probing"]
)
def test_serving_forms_need_no_torch(name: str) -> None:
    assert "torch" not in {_top(each) for each in _ways(name)}


def test_settings_are_read_by_the_composition_root_and_the_commands_alone() -> None:
    readers = {name for name in _modules() if "foretaste.settings" in imports(name)}
    assert {name for name in readers if not name.startswith("benchmarks.")} <= READ_SETTINGS  # each is a command


@pytest.mark.parametrize("name", CORE)
def test_the_core_needs_no_machinery_however_far_away(name: str) -> None:
    ways = _ways(name)
    assert {each: way for each, way in ways.items() if _top(each) in MACHINERY} == {}
    assert not {_top(each) for each in imports(name)} & MACHINERY
