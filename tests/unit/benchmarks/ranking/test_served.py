"""The floor of the ranking benchmark reads the graph as it is exported today."""

import numpy as np

from benchmarks.ranking.served import RankingSession
from tests.towers_factory import artifacts, expected_scores, requests, trained


def test_the_graph_alone_scores_as_the_towers_do() -> None:
    folder, _ = artifacts()
    session, asked = RankingSession(folder), requests(4)
    for feed, scores in zip(session.feeds(asked), expected_scores(trained(0), asked), strict=True):
        np.testing.assert_allclose(session.run(feed), scores, atol=1e-4)
