"""Alimama's four files in small, invented, with the traps of the real ones."""

from pathlib import Path

import numpy as np
import pandas as pd

MIDNIGHT = 1_494_604_800
"""Seconds: 2017-05-13 00:00 in China, when the last day begins."""
DAY = 86_400
DAYS = 8
"""Of impressions; the log of behaviour begins 14 days earlier."""
CATEGORIES = 6


def write_alimama(folder: Path, *, users: int = 40, ads: int = 30, impressions: int = 800, seed: int = 0) -> Path:
    """Writes the files into `folder`, the same for the same arguments, and returns it.

    User 1 has no profile; the last of the file's users has no impression; some brands are NULL and some attributes
    empty; the last column of the profiles has a blank after its name.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    catalogue = _ads(ads, rng)
    _users(users, rng).to_csv(folder / "user_profile.csv", index=False)
    catalogue.to_csv(folder / "ad_feature.csv", index=False, na_rep="NULL")
    _sample(users, ads, impressions, rng).to_csv(folder / "raw_sample.csv", index=False)
    _log(users, 4 * impressions, rng).to_csv(folder / "behavior_log.csv", index=False)
    return folder


def _users(count: int, rng: np.random.Generator) -> pd.DataFrame:
    ids = np.arange(2, count + 2)
    return pd.DataFrame(
        {
            "userid": ids,
            "cms_segid": rng.integers(0, 97, count),
            "cms_group_id": rng.integers(0, 13, count),
            "final_gender_code": rng.integers(1, 3, count),
            "age_level": rng.integers(0, 7, count),
            "pvalue_level": pd.array([None, 2] * (count // 2) + [1] * (count % 2), dtype="Int64"),
            "shopping_level": rng.integers(1, 4, count),
            "occupation": rng.integers(0, 2, count),
            "new_user_class_level ": pd.array([None, *rng.integers(1, 5, count - 1)], dtype="Int64"),
        }
    )


def _ads(count: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "adgroup_id": rng.permutation(count) + 1000,
            "cate_id": rng.integers(1, CATEGORIES, count),
            "campaign_id": rng.integers(0, 9, count),
            "customer": rng.integers(0, 5, count),
            "brand": pd.array([None, *rng.integers(100, 110, count - 1)], dtype="Int64"),
            "price": rng.lognormal(4, 1, count).round(2),
        }
    )


def _sample(users: int, ads: int, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    clicked = (rng.random(rows) < 0.3).astype(int)
    clicked[:2] = 0, 1
    times = MIDNIGHT + DAY - 1 - rng.integers(0, DAYS * DAY, rows)
    times[0] = MIDNIGHT + DAY - 1
    return pd.DataFrame(
        {
            "user": rng.integers(1, users + 1, rows),
            "time_stamp": times,
            "adgroup_id": rng.integers(1000, 1000 + ads, rows),
            "pid": rng.choice(["430548_1007", "430539_1007"], rows),
            "nonclk": 1 - clicked,
            "clk": clicked,
        }
    )


def _log(users: int, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user": rng.integers(1, users + 2, rows),
            "time_stamp": MIDNIGHT + DAY - 1 - rng.integers(0, 22 * DAY, rows),
            "btag": rng.choice(["pv", "cart", "fav", "buy"], rows, p=[0.7, 0.1, 0.1, 0.1]),
            "cate": rng.integers(1, CATEGORIES + 2, rows),
            "brand": rng.integers(100, 110, rows),
        }
    )
