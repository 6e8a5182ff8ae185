"""The public images that the containers stand on, read from where they are named: docker-compose.yml and Dockerfile.

Run as a file it prints them as `kind image` pairs, with nothing installed.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST_KAFKA = "confluentinc/cp-kafka:8.0.0"
"""The one that the tests alone use: testcontainers starts a broker of this kind."""


def composed() -> dict[str, str]:
    """Each kind of image, and its name and tag: kafka, redis, python, triton."""
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = [
        *re.findall(r"image: \$\{FORETASTE_([A-Z]+)_IMAGE:-([^}]+)\}", compose),
        *re.findall(r"^ARG ([A-Z]+)_IMAGE=(\S+)$", dockerfile, re.MULTILINE),
    ]
    return {kind.lower(): image for kind, image in found}


if __name__ == "__main__":
    print(*(word for pair in composed().items() for word in pair))
