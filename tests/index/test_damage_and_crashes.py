"""Indexes of damaged streams, and after crashes: of a process, of the machine, of the index alone."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Lz4Compressor, RecordWriter, StreamReader
from flatstream._ranges import open_ranges
from flatstream.framing import framer_for
from flatstream.index import FileIndex, FileIndexer, UnusableIndex, build_index, load_index
from flatstream.index._file import IndexFile
from flatstream.index._writing import WriterIndex
from support.index_messages import MESSAGE, assert_right, loaded, record
from support.interrupts import Interrupted, Interruption
from support.logs import log_lines


def write(path: Path, numbers: range, mode: str = "w", index: bool = True, **options: Any) -> Any:
    with flatstream.open(path, mode, describe=MESSAGE, index=index, **options) as writer:  # type: ignore[call-overload]
        RecordWriter(writer, MESSAGE).write_records(map(record, numbers))
    return writer.index_report


def count_of(path: Path) -> int:
    with flatstream.open(path) as reader:
        return sum(1 for _ in reader)


def load(path: Path) -> FileIndex | UnusableIndex:
    with open_ranges(path) as stream:
        return load_index(path, stream, table=MESSAGE)


def gaps_and_tail(path: Path) -> list[tuple[int, int]]:
    """The ranges of a file that its index does not have."""
    index = loaded(path)
    size = path.stat().st_size
    return index.gaps + ([(index.covered, size)] if index.covered < size else [])


def lost(path: Path) -> list[tuple[int, int]]:
    with flatstream.open(path, on_error="resync") as reader:
        for _ in reader:
            pass
        return reader.lost_ranges


# Damage


@pytest.mark.parametrize("checksum", ["none", "crc16", "xxhash64"])
def test_damage_lies_in_gaps_and_blocks_are_right(tmp_path: Path, checksum: str) -> None:
    path = tmp_path / "a.fs"
    rnd = random.Random(checksum)
    write(path, range(4000), checksum=checksum, index=False)
    good = path.read_bytes()
    for _ in range(4):
        data = bytearray(good)
        for _ in range(rnd.choice([1, 2, 12])):
            place = rnd.randrange(5000, len(data))
            if checksum != "none":
                data[place : place + rnd.choice([1, 9, 4000])] = rnd.randbytes(rnd.choice([0, 1, 9, 3000]))
        path.write_bytes(data)
        Path(f"{path}.idx").unlink(missing_ok=True)
        report = build_index(path, checksum=checksum)
        index = loaded(path)
        assert list(report.gaps) == index.gaps
        open_ranges_of = gaps_and_tail(path)
        for begin, end in lost(path):
            assert any(first <= begin and end <= last for first, last in open_ranges_of)
        assert sum(index.ends - index.offsets) + sum(end - begin for begin, end in open_ranges_of) == (
            len(data) - index.begin
        )
        assert_right(path, index, on_error="resync")
        assert build_index(path, checksum=checksum).action == "unchanged"


def test_dense_damage_leaves_a_small_index(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, range(8000), checksum="xxhash64", index=False)
    data = bytearray(path.read_bytes())
    for place in range(6000, len(data), 1500):
        data[place] ^= 255
    path.write_bytes(data)
    report = build_index(path)
    # The end of the file.
    assert report.blocks <= 1
    assert report.size < 4000


def test_zeros_at_the_end_are_not_covered(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    for checksum in ("none", "xxhash64"):
        write(path, range(1000), checksum=checksum, index=False)
        size = path.stat().st_size
        with path.open("ab") as file:
            file.write(bytes(300_000))
        assert build_index(path, checksum=checksum).covered == size


def test_torn_end_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, range(1000), checksum="xxhash64", index=False)
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    first = build_index(path)
    assert first.rows == 999
    path.write_bytes(data)
    second = build_index(path)
    assert (second.action, second.rows, second.covered, second.gaps) == ("continued", 1000, len(data), ())
    assert_right(path, loaded(path))


# Crashes


def test_killed_writer_leaves_an_index_that_is_behind_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
import flatstream
from support.logs import log_lines
from support.index_messages import MESSAGE, record
writer = flatstream.open({str(path)!r}, "w", checksum="xxhash64", describe=MESSAGE, index=True)
records = flatstream.RecordWriter(writer, MESSAGE)
text = "z" * 20_000
records.write_records(record(n) | dict(text=text) for n in range(1500))
writer.flush()
records.write_records(map(record, range(1500, 1600)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == -signal.SIGKILL
    index = loaded(path)
    assert 0 < index.covered <= path.stat().st_size
    report = write(path, range(50), "a", recover=True)
    assert (report.gaps, report.covered) == ((), path.stat().st_size)
    assert loaded(path).frames.sum() == report.frames == count_of(path)


def test_file_that_lost_its_end_keeps_the_messages_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    ends = []
    for part in range(4):
        write(path, range(part * 700, part * 700 + 700), "a" if part else "w", checksum="crc32")
        ends.append(path.stat().st_size)
    data = path.read_bytes()
    for size in (ends[-1] - 1, ends[2] + 100, ends[2], ends[1] + 1, ends[0], ends[0] - 1, 5000):
        path.write_bytes(data[:size])
        with open_ranges(path) as stream:
            found = load_index(path, stream, table=MESSAGE)
        assert not isinstance(found, UnusableIndex)
        # Not the blocks of a message that reaches behind the end: what is there may have been written anew.
        assert found.covered == max([end for end in ends if end <= size], default=0)


def test_other_messages_behind_a_lost_end_are_not_what_the_index_says(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, range(700), checksum="crc32")
    first = path.stat().st_size
    write(path, range(700, 2400), "a")
    data = path.read_bytes()
    # The machine crashed, and the file system had written the whole index and a part of the file.
    with flatstream.open(path) as reader:
        cut = [reader.message_offset for _ in reader][1000]
    path.write_bytes(data[:cut])
    write(path, range(5000, 7500), "a", index=False)
    assert path.stat().st_size > len(data)
    index = loaded(path)
    assert index.covered == first
    assert_right(path, index)
    report = build_index(path)
    assert (report.action, report.rows, report.gaps) == ("continued", 3500, ())
    assert_right(path, loaded(path))
    # The same, and the writer itself goes on.
    path.write_bytes(data[: cut + 3])
    report = write(path, range(5000, 7500), "a", recover=True)
    assert (report.rows, report.gaps, report.covered) == (3500, (), path.stat().st_size)
    assert_right(path, loaded(path))


def test_new_file_of_the_same_name_has_a_new_index(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, range(3000), checksum="crc32")
    write(path, range(2000, 3000), index=False, checksum="crc32")
    with open_ranges(path) as stream:
        found = load_index(path, stream, table=MESSAGE)
    assert isinstance(found, UnusableIndex)
    assert "another stream" in found.reason
    report = build_index(path)
    assert (report.action, report.rows) == ("replaced", 1000)
    assert report.replaced_because is not None
    write(path, range(10), checksum="crc32")
    assert loaded(path).rows.sum() == 10


# Errors of the index


def fail(*args: object) -> Any:
    raise OSError(28, "No space left on device")


def test_error_of_the_index_does_not_stop_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE, index=True) as writer:
        records = RecordWriter(writer, MESSAGE)
        records.write_records(record(n) | {"text": "z" * 20_000} for n in range(100))
        writer.flush()
        covered = writer.index_report.covered
        assert covered > 0
        monkeypatch.setattr(IndexFile, "write_blocks", fail)
        with log_lines("flatstream.index") as lines:
            records.write_records(record(n) | {"text": "z" * 20_000} for n in range(1000))
            writer.flush()
        assert "No space left" in writer.index_report.stopped_because
        assert "ends here, the file goes on" in lines[0]
        records.write_records(map(record, range(100)))
    assert count_of(path) == 1200
    assert loaded(path).covered == covered
    monkeypatch.undo()
    assert build_index(path).gaps == ()


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the size of files")
@pytest.mark.parametrize("buffer_size", [0, 3000, 64 << 10])
def test_file_that_is_full_for_a_while_has_an_index_that_is_right(tmp_path: Path, buffer_size: int) -> None:
    path = tmp_path / "a.fs"
    code = f"""
import random, resource, signal, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
import flatstream
from support.index_messages import MESSAGE, record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = {str(path)!r}
rnd = random.Random(3)
failed = accepted = 0
with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE, index=True, buffer_size={buffer_size}) as writer:
    records = flatstream.RecordWriter(writer, MESSAGE)
    for n in range(1500):
        limit = resource.RLIM_INFINITY
        if n % 50 > 30:
            # Somewhere in the next frames.
            limit = writer.bytes_written + rnd.randrange(5000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            records.write_record(record(n) | (dict(text="y" * 70_000) if n % 100 == 45 else dict()))
            accepted += 1
            if n % 50 == 49:
                writer.flush()
        except OSError as error:
            failed += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print(failed > 5, accepted == writer.frames_written, writer.index_report.rows > 500)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.stdout == "True True True\n", done.stdout + done.stderr
    index = loaded(path)
    assert_right(path, index)
    # What was not seen is in a gap.
    assert build_index(path).action == "unchanged"
    assert index.covered == path.stat().st_size


def test_index_that_cannot_be_opened_does_not_stop_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    Path(f"{path}.idx").mkdir()
    with log_lines("flatstream.index") as lines:
        assert write(path, range(100)) is None
    assert "gets no index" in lines[0]
    assert count_of(path) == 100


class DeadlineError(Exception):
    """As a program raises it in a signal handler."""


@pytest.mark.parametrize("raised", [KeyboardInterrupt, DeadlineError, TimeoutError])
def test_signal_while_the_index_is_written_loses_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    path = tmp_path / "a.fs"
    original = WriterIndex._write
    calls = 0

    def interrupted(self: WriterIndex, *, with_rest: bool) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise raised
        original(self, with_rest=with_rest)

    monkeypatch.setattr(WriterIndex, "_write", interrupted)
    accepted = seen = 0
    with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE, index=True) as writer:
        records = RecordWriter(writer, MESSAGE)
        for n in range(1100):
            try:
                records.write_record(record(n) | {"text": "z" * 20_000})
            except raised:
                seen += 1
                assert writer.frames_written == accepted
                records.write_record(record(n) | {"text": "z" * 20_000})
            accepted += 1
    assert calls > 1
    assert seen == 1
    assert count_of(path) == 1100
    assert (writer.index_report.rows, writer.index_report.gaps) == (1100, ())
    assert_right(path, loaded(path))


@pytest.mark.parametrize("raised", [KeyboardInterrupt, DeadlineError, TimeoutError])
@pytest.mark.parametrize("compressed", [False, True])
def test_signal_behind_a_frame_that_is_handed_over_says_that_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], compressed: bool
) -> None:
    path = tmp_path / "a.fs"
    original = WriterIndex._write_full
    calls = seen = 0

    def interrupted(self: WriterIndex) -> None:
        nonlocal calls
        original(self)
        calls += 1
        if calls == 1:
            raise raised

    monkeypatch.setattr(WriterIndex, "_write_full", interrupted)
    monkeypatch.setattr("flatstream.index._writing.FULL", 1)
    framer = framer_for("crc32").compressed(Lz4Compressor()) if compressed else framer_for("crc32")
    rnd = random.Random(2)
    with flatstream.open(path, "w", framer=framer, describe=MESSAGE, index=True, buffer_size=0) as writer:
        records = RecordWriter(writer, MESSAGE)
        for n in range(120):
            try:
                records.write_record(record(n) | {"text": rnd.randbytes(1500).hex()})
            except raised:
                seen += 1
            # It was handed over in any case.
            assert writer.frames_written == n + 1
    assert calls > seen == 1
    assert count_of(path) == 120
    assert writer.index_report.rows == 120
    assert_right(path, loaded(path))


def test_log_that_cannot_be_written_does_not_stop_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexFile, "write_blocks", fail)
    monkeypatch.setattr("flatstream.index._writing.logger.warning", fail)
    path = tmp_path / "a.fs"
    report = write(path, range(3000))
    assert "No space left" in report.stopped_because
    assert count_of(path) == 3000


def test_end_that_is_interrupted_anywhere_is_finished_by_another_close(tmp_path: Path) -> None:
    files = ("index/_writing.py", "index/_file.py", "index/_format.py")
    rows = [record(n) for n in range(300)]
    places = set()
    for at in itertools.count(1):
        path = tmp_path / f"{at}.fs"
        interruption = Interruption(at, files)
        writer = flatstream.open(path, "w", checksum="crc32", describe=MESSAGE, index=True)
        RecordWriter(writer, MESSAGE).write_records(rows)
        with contextlib.suppress(Interrupted), interruption.armed():
            writer.close()
        writer.close()
        assert writer.closed
        assert count_of(path) == 300
        # At worst, blocks are lost that were taken and not written.
        if not isinstance(found := load(path), UnusableIndex) and len(found):
            assert_right(path, found)
        assert build_index(path).rows == 300
        if interruption.place is None:
            break
        places.add(interruption.place)
    assert len(places) > 10
    assert writer.index_report.rows == 300


def test_index_that_another_process_writes_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE, index=True) as writer:
        RecordWriter(writer, MESSAGE).write_records(map(record, range(100)))
        writer.flush()
        with pytest.raises(OSError, match="another writer has the file open"):
            build_index(path)
    assert build_index(path).action == "unchanged"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_leaves_the_index_to_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
import flatstream
from support.logs import log_lines
from support.index_messages import MESSAGE, record
with flatstream.open({str(path)!r}, "w", checksum="crc32", describe=MESSAGE, index=True) as writer:
    records = flatstream.RecordWriter(writer, MESSAGE)
    records.write_records(map(record, range(3000)))
    if not os.fork():
        writer.close()
        del writer, records
        sys.exit(0)
    os.wait()
    records.write_records(map(record, range(3000)))
print(writer.index_report.rows, len(writer.index_report.gaps))
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.stdout == "6000 0\n", done.stderr
    assert_right(path, loaded(path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_does_not_keep_the_lock_of_an_index_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, range(100))
    with flatstream.open(path, "w", describe=MESSAGE, index=["d"]) as writer:
        end, other = os.pipe()
        child = os.fork()
        if not child:
            os.close(other)
            os.read(end, 1)
            os._exit(0)
        os.close(end)
        RecordWriter(writer, MESSAGE).write_records(map(record, range(100)))
    try:
        assert build_index(path, ["d"]).action == "unchanged"
    finally:
        os.close(other)
        os.waitpid(child, 0)


# Compressed files, and step by step


def test_sealed_file_has_the_index_of_its_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, range(2000), checksum="crc32")
    flatstream.seal(path, tmp_path / "a.fs.zst")
    # The index beside the plain file fits.
    path.unlink()
    index = loaded(tmp_path / "a.fs.zst")
    assert index.rows.sum() == 2000
    os.unlink(f"{path}.idx")
    assert build_index(tmp_path / "a.fs.zst").rows == 2000
    again = loaded(tmp_path / "a.fs.zst")
    assert again.path.endswith(".fs.zst.idx")
    assert again.ends.tolist() == index.ends.tolist()
    assert_right(tmp_path / "a.fs.zst", again)


def test_compressed_file_without_parts_gets_no_index_and_uses_none(tmp_path: Path) -> None:
    path, packed = tmp_path / "a.fs", tmp_path / "a.fs.gz"
    write(path, range(2000), checksum="crc32")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match="a plain or sealed file can have one"):
        build_index(packed)
    assert not (tmp_path / "a.fs.gz.idx").exists()
    build_index(path)
    with open_ranges(packed) as stream:
        found = load_index(packed, stream)
    assert isinstance(found, UnusableIndex)
    assert "at offsets" in found.reason


def test_file_that_grows_is_indexed_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE) as writer:
        records = RecordWriter(writer, MESSAGE)
        indexer = None
        for part in range(20):
            records.write_records(map(record, range(part * 300, part * 300 + 300)))
            writer.flush()
            indexer = FileIndexer(path) if indexer is None else indexer
            while indexer.advance(path.stat().st_size, 50_000):
                pass
            assert indexer.position == path.stat().st_size
        assert indexer is not None
        indexer.finish(path.stat().st_size)
        assert indexer.report().rows == 6000
        indexer.close()
        indexer.close()
        with pytest.raises(ValueError, match="closed"):
            indexer.advance()
    assert_right(path, loaded(path))


def test_mixed_stream_has_an_index_of_one_table(tmp_path: Path) -> None:
    from support.flatc import compile_schema

    other: Any = compile_schema('table Other { x: int; } root_type Other; file_identifier "OTHR";').root
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe={"": MESSAGE, "OTHR": other}) as writer:
        one, two = RecordWriter(writer, MESSAGE), RecordWriter(writer, other, file_identifier=True)
        for n in range(3000):
            one.write_record(record(n)) if n % 3 else two.write(x=n)
    with pytest.raises(ValueError, match="several tables"):
        build_index(path)
    report = build_index(path, table="Other", fields=["x"])
    assert (report.frames, report.rows, report.gaps) == (3000, 1000, ())
    with StreamReader(path, "crc32") as reader:
        table = reader.description.tables["OTHR"]  # type: ignore[union-attr]
    index = loaded(path, table)
    assert (index.rows < index.frames).all()
    assert index.statistics["x"].high[-1] == 2997
    assert build_index(path, table="index.test.Message").rows == 2000
