from typing import Any

import pytest

from models.towers.registry import RANKING
from tests.ranking_checks import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("ranking", RANKING)
def test_every_ranking_tower(ranking: Any, check: Any) -> None:
    check(ranking)
