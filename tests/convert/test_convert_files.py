"""New files: nothing is overwritten, nothing is left of what failed, and several sources each become one."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.errors import UnexpectedEofError
from flatstream.journal import JournalWriter, RotationPolicy
from flatstream.tools import ConvertReport, convert
from flatstream.tools.conversion import _arrow, _convert, _json_lines, _mcap, _sources
from flatstream.tools.conversion._columns import ColumnTarget
from support.cli import environment
from support.conversion import ENDINGS, events, names_in, one, read_stream, write_stream
from support.extent import in_one_test
from support.schemas import EXAMPLES, TELEMETRY

assert TELEMETRY.root is not None
EVENT = TELEMETRY.root
OPTIONS: dict[str, Any] = {
    "table": EVENT,
    "checksum": "crc32",
    "on_unsupported": "json",
    "time_field": "wall_time_ns",
}


@in_one_test
@pytest.mark.parametrize("ending", ENDINGS)
def test_existing_file_is_not_overwritten(tmp_path: Path, ending: str) -> None:
    source = events(tmp_path / "in.fs", EVENT, 10)
    out = tmp_path / f"out{ending}"
    out.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"out{ending}"):
        convert(source, out, **OPTIONS)
    out.unlink()
    out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        convert(source, out, **OPTIONS)
    assert names_in(tmp_path) == {"in.fs", out.name}


@in_one_test
@pytest.mark.parametrize("ending", [*ENDINGS, ".csv.gz"])
def test_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, ending: str) -> None:
    source = events(tmp_path / "in.fs", EVENT, 10)
    out = tmp_path / f"out{ending}"

    def appear(done: int, total: int | None) -> None:
        out.write_bytes(b"precious")

    with pytest.raises(FileExistsError):
        convert(source, out, progress=appear, **OPTIONS)
    assert out.read_bytes() == b"precious"
    assert names_in(tmp_path) == {"in.fs", out.name}


@in_one_test
@pytest.mark.parametrize("error", [OSError(28, "no space"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("ending", [*ENDINGS, ".jsonl.zst"])
def test_failed_conversion_leaves_nothing(tmp_path: Path, ending: str, error: BaseException) -> None:
    source = events(tmp_path / "in.fs", EVENT, 10)

    def fail(done: int, total: int | None) -> None:
        assert any(".partial-" in name for name in names_in(tmp_path))
        raise error

    with pytest.raises(type(error)):
        convert(source, tmp_path / f"out{ending}", progress=fail, **OPTIONS)
    assert names_in(tmp_path) == {"in.fs"}


@in_one_test
@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_source_leaves_nothing_and_is_not_changed(tmp_path: Path, ending: str) -> None:
    source = events(tmp_path / "in.fs", EVENT, 500)
    damaged = bytearray(source.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    source.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"frame 2\d\d"):
        convert(source, tmp_path / f"out{ending}", **OPTIONS)
    assert names_in(tmp_path) == {"in.fs"}
    assert source.read_bytes() == damaged
    report = one(source, tmp_path / f"out{ending}", on_error="resync", **OPTIONS)
    assert (report.messages, report.skipped, report.lost_bytes > 0, report.stop_error) == (499, 1, True, None)
    report = one(source, tmp_path / f"stopped{ending}", on_error="stop", **OPTIONS)
    assert 200 < report.messages < 300
    assert report.stop_error is not None
    assert "frame 2" in report.stop_error


def test_message_that_its_schema_refuses_is_left_out_everywhere(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, EVENT).write_records(
            [{"sequence": number, "host": f"host-{number}"} for number in range(9)]
        )
    damaged = bytearray(sink.getvalue())
    damaged[damaged.index(b"host-4")] = 0xFF
    (tmp_path / "in.fs").write_bytes(damaged)
    options: dict[str, Any] = {"table": EVENT, "checksum": "none", "on_unsupported": "json"}
    for ending in (".parquet", ".csv", ".jsonl"):
        with pytest.raises(ValueError, match=r"event\.host: .*UTF-8.*frame 4"):
            convert(tmp_path / "in.fs", tmp_path / f"out{ending}", **options)
        report = one(tmp_path / "in.fs", tmp_path / f"out{ending}", on_error="skip", **options)
        assert (report.messages, report.skipped) == (8, 1), ending
        report = one(tmp_path / "in.fs", tmp_path / f"stopped{ending}", on_error="stop", **options)
        assert (report.messages, report.stop_error is not None) == (4, True), ending


CHILD = """
import sys
from flatstream import Schema
from flatstream.tools import convert

table = Schema.from_file(sys.argv[3]).root
def wait(done, total):
    print("begun", flush=True)
    sys.stdin.read()
convert(sys.argv[1], sys.argv[2], table=table, checksum="crc32", progress=wait, fields=["host"])
"""


@pytest.mark.parametrize(("number", "leaves"), [(signal.SIGINT, False), (signal.SIGKILL, True)])
def test_signal_leaves_no_file_of_the_final_name(tmp_path: Path, number: signal.Signals, leaves: bool) -> None:
    source = events(tmp_path / "in.fs", EVENT, 10)
    out = tmp_path / "out.parquet"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, source, out, EXAMPLES / "telemetry.bfbs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        child.send_signal(number)
        child.communicate(timeout=60)
    assert not out.exists()
    assert any(".partial-" in name for name in names_in(tmp_path)) == leaves
    # What a killed conversion left does not hinder the next one.
    one(source, out, table=EVENT, checksum="crc32", fields=["host"])


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = events(tmp_path / "in.fs", EVENT, 10)

    def fail(fd: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("flatstream.tools.conversion._files.sync", fail)
    for ending in ENDINGS:
        with pytest.raises(OSError, match="no space"):
            convert(source, tmp_path / f"out{ending}", **OPTIONS)
    assert names_in(tmp_path) == {"in.fs"}


# Several sources


def make_three(folder: Path) -> list[Path]:
    return [events(folder / f"{name}.fs", EVENT, count) for name, count in (("a", 10), ("b", 20), ("c", 30))]


def test_several_sources_become_a_file_each(tmp_path: Path) -> None:
    paths = make_three(tmp_path)
    (tmp_path / "new").mkdir()
    told: list[tuple[int, int | None]] = []
    reports = convert(
        paths, tmp_path / "new", to_format="parquet", progress=lambda done, total: told.append((done, total)), **OPTIONS
    )
    assert isinstance(reports, list)
    assert [report.messages for report in reports] == [10, 20, 30]
    assert names_in(tmp_path / "new") == {"a.parquet", "b.parquet", "c.parquet"}
    total = sum(path.stat().st_size for path in paths)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("processes", [1, 2])
def test_damaged_one_of_several_leaves_nothing_and_the_others_keep_theirs(tmp_path: Path, processes: int) -> None:
    paths = make_three(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    (tmp_path / "new").mkdir()
    with pytest.raises(EOFError) as caught:
        convert(paths, tmp_path / "new" / "x-{name}.csv.gz", processes=processes, **OPTIONS)
    assert caught.value.__notes__ == [f"while {paths[1]} was converted to {tmp_path / 'new' / 'x-b.csv.gz'}"]
    assert {"x-a.csv.gz"} <= names_in(tmp_path / "new") <= {"x-a.csv.gz", "x-c.csv.gz"}
    assert gzip.decompress((tmp_path / "new" / "x-a.csv.gz").read_bytes()).startswith(b'"sequence",')


@pytest.mark.parametrize("processes", [1, 2])
def test_others_are_converted_beside_one_that_cannot_be(tmp_path: Path, processes: int) -> None:
    paths = make_three(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    (tmp_path / "new").mkdir()
    told: list[tuple[str, Exception]] = []
    reports = convert(
        paths,
        tmp_path / "new" / "{name}.csv",
        failed=lambda path, error: told.append((path, error)),
        processes=processes,
        **OPTIONS,
    )
    assert isinstance(reports, list)
    assert [report.source for report in reports] == [str(paths[0]), str(paths[2])]
    assert [(path, type(error)) for path, error in told] == [(str(paths[1]), UnexpectedEofError)]
    assert names_in(tmp_path / "new") == {"a.csv", "c.csv"}
    # The only source: its error is raised.
    with pytest.raises(EOFError):
        convert(paths[1], tmp_path / "b.csv", failed=lambda path, error: None, **OPTIONS)
    with pytest.raises(TypeError, match="failed must be callable, got int"):
        convert(paths[0], tmp_path / "b.csv", failed=1, **OPTIONS)  # type: ignore[arg-type]


def test_new_names_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    paths = make_three(tmp_path)
    (tmp_path / "other").mkdir()
    same = events(tmp_path / "other" / "a.fs", EVENT, 1)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "c.csv").touch()
    with pytest.raises(FileExistsError, match=r"c\.csv"):
        convert(paths, tmp_path / "new", to_format="csv", **OPTIONS)
    with pytest.raises(ValueError, match=r"two sources would become .*a\.parquet"):
        convert([*paths, same], tmp_path / "new", to_format="parquet", **OPTIONS)
    with pytest.raises(ValueError, match=r"3 sources need a folder, or a path with \{name\}"):
        convert(paths, tmp_path / "new.csv", **OPTIONS)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        convert(paths, tmp_path / "nowhere" / "{name}.csv", **OPTIONS)
    with pytest.raises(ValueError, match="a folder does not say the format"):
        convert(paths, tmp_path / "new", **OPTIONS)
    assert names_in(tmp_path / "new") == {"c.csv"}


def test_journals_and_folders_are_sources(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal", rotate=RotationPolicy(max_bytes=4096)) as writer:
        RecordWriter(writer, EVENT).write_columns({"sequence": list(range(500))})
    assert len(list((tmp_path / "journal").glob("*.fs"))) > 2
    report = one(tmp_path / "journal", tmp_path / "out.fs", to_checksum="crc32")
    assert report.messages == 500
    assert [event.sequence for event in read_stream(tmp_path / "out.fs", EVENT)] == list(range(500))
    (tmp_path / "streams").mkdir()
    make_three(tmp_path / "streams")
    reports = convert(tmp_path / "streams", tmp_path / "streams" / "{name}.jsonl", **OPTIONS)
    assert isinstance(reports, list)
    assert [report.messages for report in reports] == [10, 20, 30]


# Other sources and sinks


@in_one_test
@pytest.mark.parametrize("name", ["fs", "arrows", "csv", "jsonl", "fb", "parquet", "arrow", "mcap"])
def test_file_objects_are_written_and_stay_open(tmp_path: Path, name: str) -> None:
    source = events(tmp_path / "in.fs", EVENT, 10)
    with (tmp_path / "out").open("wb") as file:
        report = convert(source, file, to_format=name, **OPTIONS)
        assert isinstance(report, ConvertReport)
        assert (report.out, report.size, report.messages) == (None, None, 10)
        assert not file.closed
    expected = one(source, tmp_path / f"out.{name}", **OPTIONS)
    assert (tmp_path / "out").stat().st_size == expected.size


def test_format_of_a_source_is_found_by_its_first_bytes(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 10)
    for ending in (".parquet", ".arrow", ".mcap", ".fs"):
        one(source, tmp_path / f"out{ending}", **OPTIONS)
        (tmp_path / f"out{ending}").rename(tmp_path / "unnamed")
        report = one(tmp_path / "unnamed", tmp_path / f"back{ending}.fs", to_checksum="crc32")
        assert report.from_format == ending[1:]
        (tmp_path / "unnamed").unlink()
    (tmp_path / "text.dat").write_text('{"sequence": 5}\n')
    report = one(tmp_path / "text.dat", tmp_path / "text.fs", from_format="jsonl", table=EVENT, to_checksum="crc32")
    assert [event.sequence for event in read_stream(tmp_path / "text.fs", EVENT)] == [5]


def test_progress_is_told_while_one_stream_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = events(tmp_path / "in.fs", EVENT, 5_000)
    monkeypatch.setattr("flatstream.tools.conversion._frames.PIECE_BYTES", 25_000)
    monkeypatch.setattr("flatstream.tools.conversion._columns.PIECE_BYTES", 25_000)
    for known in [ColumnTarget, *ColumnTarget.__subclasses__()]:
        monkeypatch.setattr(known, "batch_rows", 500)
    for ending in ENDINGS:
        told: list[int] = []
        one(source, tmp_path / f"out{ending}", progress=lambda done, total, told=told: told.append(done), **OPTIONS)
        assert len(told) > 5, ending
        assert told == sorted(told)
        assert told[-1] == source.stat().st_size
        assert told[0] < told[-1]


def test_large_file_is_converted_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = events(tmp_path / "in.fs", EVENT, 5_000)
    monkeypatch.setattr(_arrow, "BATCH_ROWS", 500)
    monkeypatch.setattr(_arrow, "CSV_BLOCK", 25_000)
    monkeypatch.setattr(_json_lines, "LINES", 500)
    monkeypatch.setattr(_mcap, "PIECE_BYTES", 25_000)
    monkeypatch.setattr(_sources, "PIECE_BYTES", 25_000)
    for ending in ENDINGS:
        pieces = 0
        run = _convert._run

        def count(*arguments: Any) -> Any:
            def tell(position: int | None) -> None:
                nonlocal pieces
                pieces += 1

            return run(arguments[0], arguments[1], tell)  # noqa: B023 - called in this turn

        out, back = tmp_path / f"out{ending}", tmp_path / f"back{ending}.fs"
        options = OPTIONS | {"on_unsupported": "omit"}
        one(source, out, **options)
        with monkeypatch.context() as patch:
            patch.setattr(_convert, "_run", count)
            one(out, back, table=EVENT, to_checksum="crc32", checksum=None)
        # A stream is one piece, of which the reader gives batches.
        assert pieces > 3 or ending == ".fs"
        with StreamReader(back, "crc32") as reader:
            assert reader.columns(EVENT, ["sequence"])["sequence"].to_pylist() == list(range(5_000))


def test_partial_file_of_another_conversion_is_left_alone(tmp_path: Path) -> None:
    source = write_stream(tmp_path / "in.fs", EVENT, [{}])
    left = tmp_path / f"out.csv.partial-{os.getpid()}"
    left.write_bytes(b"left by a process of the same number")
    one(source, tmp_path / "out.csv", table=EVENT, checksum="crc32", fields=["host"])
    assert left.read_bytes().startswith(b"left")
