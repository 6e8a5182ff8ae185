"""What the container files say, as far as it can be read: one place for names, no secret shown, no needless rights."""

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from tests import images

COMPOSE: dict[str, Any] = yaml.safe_load((images.ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = [name for name, service in SERVICES.items() if "build" in service]


def test_images_are_named_in_one_place() -> None:
    found = images.composed()
    assert list(found) == ["kafka", "redis", "python", "triton"]
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+", image) for image in found.values())
    for name in ("Makefile", "tests/conftest.py", "tests/containers/test_compose.py"):
        text = (images.ROOT / name).read_text(encoding="utf-8")
        assert [image for image in (*found.values(), images.TEST_KAFKA) if image in text] == []


def test_images_are_printed_as_pairs_with_nothing_installed() -> None:
    command = [sys.executable, "-I", "-S", str(images.ROOT / "tests" / "images.py")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert dict(zip(said[::2], said[1::2], strict=True)) == images.composed()


def test_every_image_that_is_built_has_a_build_of_its_own() -> None:
    builds = {name: (SERVICES[name]["image"], SERVICES[name]["build"]) for name in OWN}
    for name, (image, build) in builds.items():
        assert [each for each, other in builds.items() if other[0] == image and other[1] != build] == [], name
    assert builds["triton"][0] != builds["triton-gpu"][0]


def test_a_gpu_brings_the_onnx_runtime_that_can_use_it() -> None:
    assert "args" not in SERVICES["triton"]["build"]
    wanted = SERVICES["triton-gpu"]["build"]["args"]["ONNXRUNTIME"]
    assert re.fullmatch(r"onnxruntime-gpu==[\d.]+", wanted)
    dockerfile = (images.ROOT / "Dockerfile").read_text(encoding="utf-8")
    triton = dockerfile[dockerfile.index(" AS triton\n") :]
    assert re.search(r"^ARG ONNXRUNTIME=onnxruntime$", triton, re.MULTILINE)
    assert '"${ONNXRUNTIME}"' in triton
    assert triton.index("PIP_BREAK_SYSTEM_PACKAGES=1") < triton.index("pip install"), "NVIDIA's Python is Ubuntu's"


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_is_on_a_command_line(name: str) -> None:
    assert "PASSWORD" not in str(SERVICES[name].get("command", ""))


def test_the_api_asks_for_tokens_and_for_its_name() -> None:
    environment = SERVICES["api"]["environment"]
    assert environment["FORETASTE_API_HOST"] == "0.0.0.0"  # noqa: S104  # inside its container
    assert environment["FORETASTE_API_TOKENS"].startswith("${FORETASTE_API_TOKENS:?")
    assert environment["FORETASTE_API_ALLOWED_HOSTS"] == "${FORETASTE_API_ALLOWED_HOSTS:-api}"
    others = [service.get("environment", {}) for name, service in SERVICES.items() if name != "api"]
    assert not any("FORETASTE_API_TOKENS" in each for each in others)


@pytest.mark.parametrize("name", OWN)
def test_services_of_this_project_have_no_rights_to_spare(name: str) -> None:
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_folder_of_data_sets_is_not_a_part_of_the_repository() -> None:
    assert SERVICES["trainer"]["volumes"][-1] == "${FORETASTE_DATASETS:-./datasets}:/datasets:ro"
    assert "/datasets/" in (images.ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_every_package_reaches_the_images() -> None:
    project = tomllib.loads((images.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    kept = (images.ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert [name for name in packages if f"!{name}" not in kept] == []
    listed = (images.ROOT / "Dockerfile").read_text(encoding="utf-8").partition("for package in ")[2].partition(";")[0]
    assert listed.split() == packages
