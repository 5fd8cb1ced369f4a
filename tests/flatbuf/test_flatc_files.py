"""Files that flatc writes and reads: size-prefixed ones, and those with a file identifier.

tests/records/test_schema_sweep.py has flatc read and write the messages of all schemas, as bare messages.
"""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    FlatbufferError,
    FlatStreamError,
    RecordWriter,
    Schema,
    StreamReader,
    StreamWriter,
    TypedValidator,
)
from support.records import encoded
from support.schema_sweep import FLATCS, Flatc, every_flatc
from support.schemas import EXAMPLES, ROOT, SCHEMAS, SHAPES, TELEMETRY

EVENT: Any = TELEMETRY.root
SCHEMA = EXAMPLES / "telemetry.bfbs"
IDLE = {"nice": 0.0, "system": 0.0, "iowait": 0.0, "irq": 0.0, "softirq": 0.0, "steal": 0.0, "idle": -1.5}
RECORDS = [
    {"sequence": 2**60 + row, "wall_time_ns": row, "host": "x" * row, "cpu_total": IDLE | {"user": row / 2}}
    for row in range(9)
]


def files_of_flatc(flatc: Flatc, *options: str) -> list[bytes]:
    """What flatc makes of the records, a file for each."""
    names = [f"r{row}.json" for row in range(len(RECORDS))]
    for name, record in zip(names, RECORDS, strict=True):
        (flatc.folder / name).write_text(json.dumps(record))
    flatc.run("--binary", *options, "schema.bfbs", *names)
    return [(flatc.folder / name).with_suffix(".telemetry").read_bytes() for name in names]


def values(record: Any) -> tuple[Any, ...]:
    return record.sequence, record.wall_time_ns, record.host, record.cpu_total.user, record.cpu_total.idle


EXPECTED = [(2**60 + row, row, "x" * row, row / 2, -1.5) for row in range(9)]


@every_flatc
def test_size_prefixed_files_one_after_another_are_a_stream(version, tmp_path):
    files = files_of_flatc(Flatc(FLATCS[version], SCHEMA, tmp_path), "--size-prefixed")
    data = b"".join(files)
    schema = Schema.from_file(SCHEMA, size_prefixed=True)
    root: Any = schema.root
    assert [values(record) for record in StreamReader(data).records(root)] == EXPECTED
    names = ["sequence", "wall_time_ns", "host", "cpu_total.user", "cpu_total.idle"]
    rows = StreamReader(data).columns(root, names, verify=True).to_pylist()
    assert [(*row.values(),) for row in rows] == EXPECTED
    validator = TypedValidator.for_type(schema, "telemetry.Event", identifier=True)
    for payload in StreamReader(data):
        validator.validate(payload)
    # A file without the prefix is none of them.
    with pytest.raises(FlatStreamError):
        list(StreamReader(data[4:]).records(root))


@every_flatc
def test_identifier_of_a_file_is_that_of_the_schema(version, tmp_path):
    for file, expected in zip(files_of_flatc(Flatc(FLATCS[version], SCHEMA, tmp_path)), EXPECTED, strict=True):
        assert file[4:8] == TELEMETRY.file_identifier.encode() == b"TELE"
        assert values(EVENT.view(file)) == expected
        with pytest.raises(FlatbufferError, match=r"identifier 'TELE', but that of shapes\.Shape is 'SHAP'"):
            SHAPES.table("shapes.Shape").view(file)


@every_flatc
@pytest.mark.parametrize("identifier", [True, False], ids=["identifier", "bare"])
def test_flatc_reads_what_is_written_with_the_identifier_and_refuses_what_has_none(identifier, version, tmp_path):
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, EVENT, file_identifier=identifier).write_records(RECORDS)
    flatc = Flatc(FLATCS[version], SCHEMA, tmp_path)
    names = [f"m{row}" for row in range(len(RECORDS))]
    for name, payload in zip(names, StreamReader(sink.getvalue()), strict=True):
        (tmp_path / f"{name}.telemetry").write_bytes(payload)
    # Without --raw-binary, flatc asks for the identifier.
    arguments = ("--json", "--strict-json", "schema.bfbs", "--", *(f"{name}.telemetry" for name in names))
    if not identifier:
        done = subprocess.run(
            [FLATCS[version], *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
        )
        assert done.returncode != 0
        assert '"TELE"' in done.stdout + done.stderr
        return
    flatc.run(*arguments)
    read = [json.loads((tmp_path / f"{name}.json").read_text()) for name in names]
    assert [values(EVENT.view(encoded(EVENT, record))) for record in read] == EXPECTED


# What lies in this tree and is said to be by flatc 2.0.8

by_2_0_8 = pytest.mark.skipif("2.0.8" not in FLATCS, reason="flatc 2.0.8 is not here: put it on the PATH")
COMMENTS = ("--bfbs-comments", "--bfbs-builtins")
BINARY: list[tuple[Path, tuple[str, ...]]] = [
    (SCHEMAS / "names.fbs", ()),
    (SCHEMAS / "shapes.fbs", COMMENTS),
    (SCHEMAS / "shapes_v2.fbs", COMMENTS),
    (SCHEMAS / "tiny.fbs", ()),
    (SCHEMAS / "unions.fbs", COMMENTS),
    (EXAMPLES / "telemetry.fbs", COMMENTS),
    (ROOT / "asv_benchmarks" / "schemas" / "sample.fbs", ()),
]
PYTHON: list[tuple[Path, tuple[str, ...]]] = [
    (SCHEMAS / "names.fbs", ("--gen-object-api",)),
    (SCHEMAS / "shapes.fbs", ("--gen-object-api",)),
    (SCHEMAS / "shapes_v2.fbs", ("--gen-object-api",)),
    (EXAMPLES / "telemetry.fbs", ()),
    (ROOT / "asv_benchmarks" / "schemas" / "sample.fbs", ()),
]


@by_2_0_8
@pytest.mark.parametrize(("source", "options"), BINARY, ids=[source.stem for source, _ in BINARY])
def test_binary_schema_is_what_flatc_2_0_8_makes(source, options, tmp_path):
    # The name of the source, with which flatc was told it, is in the schema.
    subprocess.run(
        [FLATCS["2.0.8"], "--binary", "--schema", *options, "-o", tmp_path, source.name],
        check=True, capture_output=True, cwd=source.parent, timeout=60,
    )  # fmt: skip
    assert (tmp_path / f"{source.stem}.bfbs").read_bytes() == source.with_suffix(".bfbs").read_bytes()


@by_2_0_8
@pytest.mark.parametrize(("source", "options"), PYTHON, ids=[source.stem for source, _ in PYTHON])
def test_generated_code_is_what_flatc_2_0_8_makes(source, options, tmp_path):
    subprocess.run(
        [FLATCS["2.0.8"], "--python", *options, "-o", tmp_path, source.name],
        check=True, capture_output=True, cwd=source.parent, timeout=60,
    )  # fmt: skip
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py")}
    kept = {path.relative_to(source.parent): path.read_text() for path in source.with_suffix("").rglob("*.py")}
    assert made
    assert made == kept
