"""Datasets at a server of HTTP: one that gives parts of files, and such as send all of a file whatever is asked for."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
import flatstream._ranges
from flatstream import FlatStreamError, _remote
from support.dataset_files import BEGIN, MILLISECOND, SIZES, write_events, write_records
from support.logs import log_lines
from support.sealed import sealed
from support.web import Web, serve

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("aiohttp")

# A file of so many events is larger than a block.
BLOCK = 16 << 10
COUNT = 2000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remote, "BLOCK", BLOCK)
    monkeypatch.setattr(_remote, "_told", {})


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        yield running


def put_events(web: Web, folder: Path, name: str, first: int = 0, count: int = COUNT, **options: Any) -> bytes:
    """Puts a file at the server, with its index if it gets one."""
    path = write_events(folder / name, first, count, **options)
    web.files[name] = path.read_bytes()
    if options.get("index"):
        web.files[f"{name}.idx"] = Path(f"{path}.idx").read_bytes()
    return web.files[name]


ANSWERS = [("no", True), ("no", False), ("refused", True), ("refused", False)]


@pytest.mark.parametrize(("parts", "tells_size"), ANSWERS)
def test_a_server_without_parts_gives_the_same_rows(tmp_path: Path, web: Web, parts: Any, tells_size: bool) -> None:
    data = put_events(web, tmp_path, "a.fs", index=True)
    put_events(web, tmp_path, "small.fs", COUNT, 20)
    web.files["packed.fs.gz"] = gzip.compress(data)
    web.files["sealed.fs.zst"] = sealed([data[:30_000], data[30_000:]])
    assert len(data) > 5 * BLOCK
    for name in ("packed.fs.gz", "sealed.fs.zst"):
        (tmp_path / name).write_bytes(web.files[name])
    names = ["a.fs", "small.fs", "packed.fs.gz", "sealed.fs.zst"]
    web.parts, web.tells_size = parts, tells_size
    here = flatstream.dataset([tmp_path / name for name in names])
    there = flatstream.dataset([web.url(name) for name in names])
    assert there.arrow_schema == here.arrow_schema
    late = ("time_ns", ">=", BEGIN + (COUNT - 5) * MILLISECOND)
    for where in (None, late, ("value", "<", 3)):
        assert there.columns(where=where) == here.columns(where=where)
    assert there.head(3) == here.head(3)
    assert [one.value for one in there.records(late)] == [one.value for one in here.records(late)]
    rows = [
        row for split in there.splits(3, late) for batch in flatstream.read_split(split) for row in batch.to_pylist()
    ]
    assert rows == here.columns(where=late).to_pylist()
    assert there.time_range == here.time_range


def test_a_scan_of_a_whole_object_is_one_request_that_is_read_to_its_end(tmp_path: Path, web: Web) -> None:
    data = put_events(web, tmp_path, "a.fs")
    web.parts = "no"
    found = flatstream.dataset(web.url("a.fs"))
    assert found.arrow_schema.names[0] == "time_ns"
    before = found.bytes_read
    assert found.count() == COUNT
    assert found.bytes_read - before == len(data)


def test_the_memory_for_a_scan_is_bounded(tmp_path: Path, web: Web) -> None:
    path = tmp_path / "a.fs"
    write_records(path, SIZES, ({"n": number, "v": bytes(1 << 20)} for number in range(40)))
    web.files["a.fs"] = path.read_bytes()
    web.parts = "no"
    found = flatstream.dataset(web.url("a.fs"))
    tracemalloc.start()
    try:
        assert [batch.num_rows for batch in found.batches(["n"], batch_rows=4)] == [4] * 10
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize(("parts", "tells_size"), ANSWERS)
def test_it_is_said_once_for_a_server(tmp_path: Path, web: Web, parts: Any, tells_size: bool) -> None:
    for name in ("a.fs", "b.fs"):
        put_events(web, tmp_path, name)
    urls = [web.url("a.fs"), web.url("b.fs")]
    with log_lines("flatstream.remote") as lines:
        assert flatstream.dataset(urls).count() == 2 * COUNT
        assert lines == []
        web.parts, web.tells_size = parts, tells_size
        for _ in range(2):
            assert flatstream.dataset(urls).count() == 2 * COUNT
    assert len(lines) == 1
    assert lines[0].startswith(f"WARNING {web.address} gives no parts of files")


def test_with_parts_an_index_is_used(tmp_path: Path, web: Web) -> None:
    data = put_events(web, tmp_path, "a.fs", count=20_000, index=True)
    found = flatstream.dataset(web.url("a.fs"))
    assert found.count(("time_ns", "<", BEGIN + 5 * MILLISECOND)) == 5
    assert found.bytes_read < len(data) / 4
    assert found.count() == 20_000


def test_a_small_object_is_not_fetched_again_part_by_part(tmp_path: Path, web: Web) -> None:
    put_events(web, tmp_path, "a.fs", count=50)
    with flatstream._ranges.open_ranges(web.url("a.fs")) as file:
        web.requests.clear()
        data = web.files["a.fs"]
        file.announce([(0, 100), (2000, 2100)])
        assert file.read_at(0, 100) == data[:100]
        assert [piece for _, piece in file.read_ranges([(500, 900), (7, 7)])] == [data[500:900], b""]
    assert not web.requests


def test_an_answer_that_ends_too_early_is_an_error(tmp_path: Path, web: Web) -> None:
    put_events(web, tmp_path, "a.fs")
    put_events(web, tmp_path, "small.fs", count=50)
    for web.parts in ("no", "yes"):
        # Of parts, each answer is a block.
        for name, cut in (("a.fs", 3 * BLOCK if web.parts == "no" else BLOCK - 1), ("a.fs", 100), ("small.fs", 1000)):
            web.cut = None
            found = flatstream.dataset(web.url(name))
            assert found.count()
            web.cut = cut
            with pytest.raises(OSError, match=name):
                found.count()


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("parts", ["yes", "no"])
def test_damage_and_torn_ends_are_told_apart_as_in_a_local_file(
    tmp_path: Path, web: Web, parts: Any, ending: str
) -> None:
    """A wrong length leads behind the end, with intact frames behind it; and an end that is torn, or zeros."""
    data = put_events(web, tmp_path, "a.fs")
    with flatstream.open(tmp_path / "a.fs") as reader:
        reader.read_batch(COUNT // 2)
        middle = reader.offset
    wrong = bytearray(data)
    wrong[middle : middle + 4] = (len(data)).to_bytes(4, "little")
    web.parts = parts
    pack = gzip.compress if ending else bytes
    for name, content in (("wrong", bytes(wrong)), ("torn", data[:-7]), ("zeros", data[:-500] + bytes(500))):
        path = tmp_path / f"{name}.fs"
        path.write_bytes(content)
        web.files[f"{name}.fs{ending}"] = pack(content)
        for on_error in ("raise", "skip", "stop", "resync"):
            told = []
            for one in (path, web.url(f"{name}.fs{ending}")):
                found = flatstream.dataset(one, on_error=on_error)
                try:
                    told.append(found.columns().num_rows)
                except FlatStreamError as error:
                    told.append((type(error), error.offset, error.frame))
                # A status is cut off behind so many characters, of which the path takes some.
                told.append([status.replace(str(one), "")[:60] for status in found.files.column("status").to_pylist()])
            assert told[:2] == told[2:], (name, on_error)
