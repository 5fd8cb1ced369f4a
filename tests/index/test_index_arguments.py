"""What gets no index, and why; and that indexes need nothing but this package."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Aes256Gcm, ChecksumFramer, Framer, RecordWriter, XxHash64
from flatstream._ranges import open_ranges
from flatstream.index import FileIndexer, build_index, load_index
from flatstream.index._format import entry_table
from support.extent import in_one_test
from support.flatc import compile_schema, flatc_path
from support.index_messages import MESSAGE, loaded, record

OTHER: Any = compile_schema('table Other { x: int; } root_type Other; file_identifier "OTHR";').root


class OwnFramer(Framer):
    def frame_and_write(self, sink: Any, payload: memoryview) -> None:
        sink.write(bytes(payload))


@in_one_test
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"describe": OTHER}, ValueError, r"Other has no time field.*index=\['x'\]"),
        ({"describe": None}, ValueError, "needs to know the table"),
        ({"describe": True}, ValueError, "needs to know the table"),
        ({"describe": {"": MESSAGE, "OTHR": OTHER}}, ValueError, "several tables: index.test.Message, Other"),
        ({"index": ["nothing"]}, KeyError, "index.test.Message has no 'nothing'"),
        ({"index": ["inner.nothing"]}, KeyError, "index.test.Inner has no 'nothing'"),
        ({"index": ["text"]}, TypeError, "numbers, bools and enums, and 'text' is of the type string"),
        ({"index": ["list"]}, TypeError, r"'list' is of the type \[int\]"),
        ({"index": ["inner"]}, TypeError, "'inner' is of the type Inner"),
        ({"index": ["time_ns.x"]}, TypeError, "'time_ns' is of the type ulong"),
        ({"index": ["i", "i"]}, ValueError, "'i' is there twice"),
        ({"index": []}, ValueError, "1 to 1000 fields, got 0"),
        ({"index": [7]}, TypeError, "path of a field must be a str, got int"),
        ({"index": "i"}, TypeError, "True or a list of paths, got str"),
        ({"index": 1.5}, TypeError, "True or a list of paths, got float"),
        ({"lock": False}, ValueError, "needs lock=True"),
        ({"framer": OwnFramer()}, ValueError, "OwnFramer"),
        ({"framer": ChecksumFramer(XxHash64()).encrypted(Aes256Gcm(bytes(32)))}, ValueError, "is encrypted"),
    ],
)
def test_index_that_there_cannot_be_is_refused_before_the_file_is_emptied(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    path = tmp_path / "a.fs"
    path.write_bytes(b"as it was")
    with pytest.raises(error, match=text):
        flatstream.open(path, "w", **({"describe": MESSAGE, "index": True} | options))
    assert path.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == ["a.fs"]


def test_what_is_no_regular_file_gets_no_index(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="regular file"):
        flatstream.open(os.devnull, "w", describe=MESSAGE, index=True)
    with pytest.raises(ValueError, match="regular file"):
        build_index(os.devnull)
    with pytest.raises(ValueError, match="URL"):
        build_index("s3://bucket/a.fs")
    with pytest.raises(ValueError, match="needs the mode"):
        flatstream.open(tmp_path / "a.fs", "r", index=True)  # type: ignore[call-overload]


def test_appending_to_what_cannot_have_an_index_is_refused_and_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        writer.write_payload(b"abc")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="needs to know the table"):
        flatstream.open(path, "a", index=True)
    with flatstream.open(path, "a") as writer:
        assert writer.index_report is None
    assert path.read_bytes() == before


@in_one_test
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"table": OTHER}, ValueError, "Other has no time field"),
        ({"table": "Other"}, ValueError, "no table 'Other'"),
        ({"fields": "time_ns"}, TypeError, "list of paths, got str"),
        ({"progress": 7}, TypeError, "progress must be callable"),
        ({"out": "a.fs"}, ValueError, "the index cannot be the file itself"),
        ({"checksum": "md5"}, ValueError, "md5"),
    ],
)
def test_wrong_argument_of_building_is_refused(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE) as writer:
        RecordWriter(writer, MESSAGE).write_record(record(1))
    if "out" in arguments:
        arguments = {"out": path}
    with pytest.raises(error, match=text):
        build_index(path, **arguments)
    assert os.listdir(tmp_path) == ["a.fs"]


def test_stream_without_a_description_needs_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        RecordWriter(writer, MESSAGE).write_records(map(record, range(2000)))
    with pytest.raises(TypeError, match="needs a table"):
        build_index(path)
    assert build_index(path, table=MESSAGE).rows == 2000
    index = loaded(path)
    assert (index.begin, index.offsets[0]) == (0, 0)
    with open_ranges(path) as stream:
        assert "messages of index.test.Message" in load_index(path, stream, table=OTHER).reason  # type: ignore[union-attr]
        assert load_index(path, stream).statistics.keys() == {"time_ns"}  # type: ignore[union-attr]


def test_encrypted_file_gets_no_index(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    framer = ChecksumFramer(XxHash64()).encrypted(Aes256Gcm(bytes(32)))
    with flatstream.open(path, "w", framer=framer, describe=MESSAGE) as writer:
        RecordWriter(writer, MESSAGE).write_record(record(1))
    with pytest.raises(ValueError, match="encrypted"):
        build_index(path)
    with pytest.raises(ValueError, match="encrypted"):
        flatstream.open(path, "a", cipher=Aes256Gcm(bytes(32)), index=True)


def test_stream_without_messages_has_an_index_without_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "x", describe=MESSAGE, index=True) as writer:
        pass
    assert (writer.index_report.rows, writer.index_report.covered) == (0, 0)
    index = loaded(path)
    assert (len(index), index.covered, index.gaps) == (0, 0, [])
    assert index.statistics["time_ns"].low.tolist() == []
    assert build_index(path).action == "unchanged"
    with flatstream.open(path, "a", index=True) as writer:
        RecordWriter(writer, MESSAGE).write_record(record(1))
    assert loaded(path).rows.tolist() == [1]


def test_index_of_a_private_file_is_private(tmp_path: Path) -> None:
    for mode in (0o600, 0o640):
        path = tmp_path / f"{mode}.fs"
        with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE) as writer:
            RecordWriter(writer, MESSAGE).write_record(record(1))
        path.chmod(mode)
        for make in (build_index, replace):
            make(path)
            assert Path(f"{path}.idx").stat().st_mode & 0o777 == mode
        loaded(path)


def test_index_of_a_file_that_is_only_read_can_be_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE) as writer:
        RecordWriter(writer, MESSAGE).write_record(record(1))
    path.chmod(0o444)
    for make in (build_index, replace):
        make(path)
        assert Path(f"{path}.idx").stat().st_mode & 0o777 == 0o644
    assert len(loaded(path)) == 1


def replace(path: Path) -> None:
    assert build_index(path, ["i"]).action == "replaced"


def test_progress_is_told_up_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=MESSAGE) as writer:
        RecordWriter(writer, MESSAGE).write_records(map(record, range(1000)))
    told: list[tuple[int, int]] = []
    build_index(path, progress=lambda done, size: told.append((done, size)))
    assert told[-1] == (path.stat().st_size,) * 2


def test_detached_writer_has_a_complete_index(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    writer = flatstream.open(path, "w", checksum="crc32", describe=MESSAGE, index=True)
    RecordWriter(writer, MESSAGE).write_records(map(record, range(1000)))
    with writer.detach():
        assert loaded(path).rows.sum() == 1000


def test_shipped_schema_is_that_of_the_text() -> None:
    folder = resources.files("flatstream.index")
    made = compile_without_comments(folder.joinpath("index.fbs").read_text())
    assert folder.joinpath("index.bfbs").read_bytes() == made
    assert (entry_table().name, entry_table().schema.file_identifier) == ("flatstream.index.Entry", "FSIX")


def compile_without_comments(text: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "index.fbs"
        source.write_text(text)
        # The name of the file is in it.
        command = [flatc_path(), "--binary", "--schema", source.name]
        subprocess.run(command, check=True, timeout=60, cwd=folder)
        return (Path(folder) / "index.bfbs").read_bytes()


def test_writing_needs_no_numpy_and_reading_says_so(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
for name in ("numpy", "pyarrow", "polars", "pandas"):
    sys.modules[name] = None
import flatstream
from flatstream._ranges import open_ranges
from support.index_messages import MESSAGE, record
path = {str(tmp_path / "a.fs")!r}
for mode in "wa":
    with flatstream.open(path, mode, checksum="crc32", describe=MESSAGE, index=["time_ns", "d"]) as writer:
        flatstream.RecordWriter(writer, MESSAGE).write_records(map(record, range(1000)))
again = flatstream.build_index(path, ["time_ns", "d"]).action
print(writer.index_report.rows, again, flatstream.build_index(path).rows)
try:
    flatstream.index.load_index(path, open_ranges(path))
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "2000 unchanged 2000", done.stderr
    assert "flatstream[columns]" in done.stdout


def test_docstrings_name_every_argument() -> None:
    functions: list[Callable[..., object]] = [build_index, load_index]
    for function in functions:
        for name in inspect.signature(function).parameters:
            assert name in (function.__doc__ or ""), (function, name)
    assert FileIndexer.__doc__
