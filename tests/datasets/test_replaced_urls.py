"""Files at URLs that are replaced, cut or written on after a dataset has looked at them."""

from __future__ import annotations

import gzip
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError, UnexpectedEofError, _remote
from flatstream._remote import RemoteStatus
from support.dataset_files import EVENTS, event, write_events
from support.web import Web, serve

pyarrow = pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")

from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

NUMBERS = itertools.count()


class ListedFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A store that tells an ETag, and keeps what it has listed and told, as stores of objects do."""

    protocol = "listed"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    tags: dict[str, str] = {}  # noqa: RUF012
    fetched = 0

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return MemoryFileSystem._strip_protocol(str(path).replace("listed://", "memory://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"listed:/{name}"

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = [self._fresh(one) for one in super().ls(path, detail=True)]
        found = self.dircache[path]
        return found if detail else [one["name"] for one in found]

    def info(self, path: str, **options: Any) -> Any:
        path = self._strip_protocol(path)
        for one in self.dircache.get(self._parent(path), ()):
            if one["name"] == path:
                return one
        return self._fresh(super().info(path))

    def _fresh(self, known: dict[str, Any]) -> dict[str, Any]:
        return {**known, "created": None, "ETag": self.tags.get(known["name"])}

    def invalidate_cache(self, path: str | None = None) -> None:
        if path is None:
            self.dircache.clear()
        else:
            self.dircache.pop(self._strip_protocol(path), None)

    def put_object(self, name: str, data: bytes) -> None:
        """Puts an object, as another program would, so that nothing that is kept here changes."""
        MemoryFileSystem.pipe_file(self, name, data)
        self.tags[name] = f"version {next(NUMBERS)}"

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> Any:
        type(self).fetched += 1
        return super().cat_file(path, start, end, **options)


fsspec.register_implementation("listed", ListedFileSystem, clobber=True)

Put = Callable[[bytes], None]


@pytest.fixture
def web() -> Iterator[Web]:
    pytest.importorskip("aiohttp")
    with serve() as running:
        yield running


@pytest.fixture(params=["memory", "listed", "http with tags", "http"])
def place(request: pytest.FixtureRequest, web: Web) -> tuple[str, Put]:
    """A URL, and what puts bytes there."""
    if request.param.startswith("http"):

        def put(data: bytes) -> None:
            web.files["a.fs"] = data
            if request.param == "http with tags":
                web.tags["a.fs"] = f'"{next(NUMBERS)}"'

        return web.url("a.fs"), put
    folder = f"/replaced{next(NUMBERS)}"
    memory = fsspec.filesystem(request.param)
    if request.param == "listed":
        return f"listed:/{folder}/a.fs", lambda data: memory.put_object(f"{folder}/a.fs", data)
    return f"memory:/{folder}/a.fs", lambda data: memory.pipe_file(f"{folder}/a.fs", data)


def content(folder: Path, first: int, count: int, **options: Any) -> bytes:
    """The bytes of a file without a description, so that its first bytes say nothing of its end."""
    with flatstream.open(folder / "x.fs", "w", checksum="crc32", **options) as stream:
        records = flatstream.RecordWriter(stream, EVENTS.root)
        for number in (*range(200), *range(first, first + count)):
            records.write_record(event(number))
    return (folder / "x.fs").read_bytes()


def read_all_ways(found: Any, kind: type[Exception], text: str) -> None:
    for one in (found, pickle.loads(pickle.dumps(found))):
        for read in (
            one.count,
            lambda one=one: one.count(("value", ">", 3)),
            one.head,
            lambda one=one: list(one.records()),
            lambda one=one: one.splits(2),
        ):
            with pytest.raises(kind, match=text):
                read()


def test_a_replaced_object_is_an_error_until_refresh(tmp_path: Path, place: tuple[str, Put]) -> None:
    url, put = place
    contents = [content(tmp_path, 1000, 90), content(tmp_path, 5000, 90), content(tmp_path, 7000, 900)]
    assert len(contents[0]) == len(contents[1])
    put(contents[0])
    found = flatstream.dataset(url, table=EVENTS.root)
    assert found.files.column("bytes").to_pylist() == [len(contents[0])]
    splits = found.splits(1)
    for number, other in enumerate(contents[1:]):
        if number:
            assert found.count() == 290
        put(other)
        read_all_ways(found, FlatStreamError, r"a\.fs: the file was replaced .*refresh\(\)")
        for split in splits:
            with pytest.raises(FlatStreamError, match="was replaced"):
                list(flatstream.read_split(pickle.loads(pickle.dumps(split))))
        assert "replaced" in found.files.column("status").to_pylist()[0]
        found.refresh()
    assert found.count() == 1100
    assert found.files.column("bytes").to_pylist() == [len(contents[2])]


def test_an_object_that_grows_is_read_to_where_it_was(tmp_path: Path, place: tuple[str, Put]) -> None:
    url, put = place
    whole = content(tmp_path, 1000, 500)
    put(whole[: len(whole) // 2])
    found = flatstream.dataset(url, table=EVENTS.root)
    count, splits = found.count(), found.splits(2)
    assert 0 < count < 700
    put(whole)
    for _ in range(2):
        assert found.count() == len(found.columns(["value"])) == sum(1 for _ in found.records()) == count
        assert sum(batch.num_rows for split in splits for batch in flatstream.read_split(split)) == count
    found.refresh()
    assert found.count() == 700


def test_an_object_that_becomes_shorter_is_an_error(tmp_path: Path, place: tuple[str, Put]) -> None:
    url, put = place
    whole = content(tmp_path, 1000, 500)
    put(whole)
    found = flatstream.dataset(url, table=EVENTS.root)
    put(whole[:-1000])
    read_all_ways(found, UnexpectedEofError, r"a\.fs: the file has become shorter .*refresh\(\)")


def test_the_same_object_that_is_put_again_is_no_other(tmp_path: Path, place: tuple[str, Put]) -> None:
    url, put = place
    whole = content(tmp_path, 1000, 500)
    put(whole)
    found = flatstream.dataset(url, table=EVENTS.root)
    assert found.count() == 700
    put(bytes(bytearray(whole)))
    assert found.count() == 700


@pytest.mark.parametrize("begins_alike", [False, True])
def test_a_compressed_object_is_compared(tmp_path: Path, place: tuple[str, Put], begins_alike: bool) -> None:
    url, put = place
    plain = write_events(tmp_path / "a.fs", 0, 500).read_bytes()
    packed = gzip.compress(plain)
    put(packed)
    found = flatstream.dataset(url)
    assert found.count() == 500
    # Another member is appended: the rest of a longer stream.
    with flatstream.open(tmp_path / "a.fs", "a") as stream:
        flatstream.RecordWriter(stream, EVENTS.root).write_record(event(500))
    longer = (tmp_path / "a.fs").read_bytes()
    assert longer.startswith(plain)
    put(packed + gzip.compress(longer[len(plain) :]))
    assert found.count() == sum(1 for _ in found.records()) == 500
    other = write_events(tmp_path / "a.fs", 7000, 600).read_bytes()
    put(packed[: 5000 if begins_alike else 20] + gzip.compress(other))
    with pytest.raises(FlatStreamError, match="was replaced"):
        found.count()


@pytest.mark.parametrize("tags", [True, False])
def test_without_parts_an_object_that_was_changed_is_an_error(
    tmp_path: Path, web: Web, tags: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remote, "BLOCK", 8 << 10)
    monkeypatch.setattr(_remote, "_told", {})
    web.parts = "no"
    contents = [content(tmp_path, 1000, 90), content(tmp_path, 5000, 190), content(tmp_path, 1000, 200)]
    web.files["a.fs"], web.tags["a.fs"] = contents[0], '"1"'
    found = flatstream.dataset(web.url("a.fs"), table=EVENTS.root)
    assert found.count() == 290
    # Only its size, and its ETag, tell.
    for other in contents[1:]:
        web.files["a.fs"] = other
        if tags:
            web.tags["a.fs"] = '"2"'
        with pytest.raises(FlatStreamError, match=r"replaced or written on .*refresh\(\)"):
            found.count()
    found.refresh()
    assert found.count() == 400
    assert found.files.column("bytes").to_pylist() == [len(contents[2])]


def test_of_a_small_object_without_a_size_the_version_is_compared(tmp_path: Path, web: Web) -> None:
    web.parts, web.tells_size = "no", False
    for number in range(2):
        web.files["a.fs"] = write_events(tmp_path / "a.fs", 10 * number, 5).read_bytes()
        assert len(web.files["a.fs"]) < 4096
        web.tags["a.fs"] = f'"{number}"'
        if not number:
            found = flatstream.dataset(web.url("a.fs"))
            assert found.files.column("bytes").to_pylist() == [None]
            assert found.count() == found.count() == 5
    with pytest.raises(FlatStreamError, match="replaced or written on"):
        found.count()
    found.refresh()
    assert found.head(1).column("value").to_pylist() == [5.0]


def test_an_empty_object_that_grows_is_read_after_refresh(tmp_path: Path, place: tuple[str, Put]) -> None:
    url, put = place
    put(b"")
    found = flatstream.dataset([url, str(write_events(tmp_path / "a.fs", 0, 5))])
    assert found.count() == 5
    put(write_events(tmp_path / "b.fs", 0, 7).read_bytes())
    assert found.count() == 5
    found.refresh()
    assert found.count() == 12


def test_what_a_store_has_listed_before_is_listed_anew(tmp_path: Path) -> None:
    store = fsspec.filesystem("listed")
    one, two = (content(tmp_path, first, 90) for first in (1000, 3000))
    store.put_object("/kept/a.fs", one)
    found = flatstream.dataset("listed://kept/*.fs", table=EVENTS.root)
    assert found.count() == 290
    store.put_object("/kept/a.fs", two)
    with pytest.raises(FlatStreamError, match="was replaced"):
        found.count()
    store.put_object("/kept/b.fs", one)
    found.refresh()
    assert found.count() == 2 * 290


def test_an_object_of_a_certain_version_is_not_fetched_to_be_compared(tmp_path: Path) -> None:
    store = fsspec.filesystem("listed")
    store.put_object("/certain/a.fs", content(tmp_path, 1000, 90))
    found = flatstream.dataset("listed://certain/a.fs", table=EVENTS.root)
    ListedFileSystem.fetched = 0
    with found._parts[0].open() as file:
        assert file.limit == found._parts[0].size
    assert ListedFileSystem.fetched == 0
    store.tags["/certain/a.fs"] = "another"
    with found._parts[0].open():
        assert ListedFileSystem.fetched == 2


def test_an_object_that_is_gone_when_it_was_listed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flatstream.datasets import _parts

    store = fsspec.filesystem("memory")
    store.pipe_file("/gone/a.fs", content(tmp_path, 1000, 90))
    listed = ["memory://gone/a.fs", "memory://gone/b.fs"]
    monkeypatch.setattr(_parts, "list_urls", lambda *arguments: listed)
    assert flatstream.dataset("memory://gone/*.fs", table=EVENTS.root).count() == 290
    with pytest.raises(FileNotFoundError, match=r"gone/b\.fs"):
        flatstream.dataset(listed)


def test_what_a_store_tells_is_compared_as_far_as_it_is_certain() -> None:
    def of(**known: Any) -> RemoteStatus:
        return RemoteStatus.of(known)

    assert of(size=3) == RemoteStatus(3) == of(size=3, ETag="", created=None)
    assert of(size=3, ETag="x").version == of(size=3, ETag="x", LastModified="now").version != of(ETag="y").version
    assert of(ETag="x").version != of(etag="x").version
    assert of(ETag="x").is_certain
    assert of(generation=7).is_certain
    assert not of(ETag='W/"x"').is_certain
    assert not of(**{"Last-Modified": "Sun, 29 Nov 2026 19:40:00 GMT"}).is_certain
    assert of(size="3").size is None
