"""Commands that show and copy messages, on streams that describe themselves, mixed streams, and compressed files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Description, RecordWriter, Schema
from flatstream.cli._output import size_text
from flatstream.journal import JournalWriter, RotationPolicy
from support.cli import Result, call_flatstream, check_expected
from support.events import BEGIN, EVENT, SCHEMA_FILE, event_stream, frames_of, sequences, write_events
from support.schemas import SHAPES

SCHEMA = ("--schema", SCHEMA_FILE)
SHAPE: Any = SHAPES.root


def numbers(result: Result) -> list[int]:
    return [json.loads(line)["sequence"] for line in result.lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("described")
    with flatstream.open(
        made / "events.fs", "w", checksum="xxhash64", describe=EVENT, metadata={"site": "a"}
    ) as writer:
        write_events(writer, range(20))
    stream = (made / "events.fs").read_bytes()
    for ending, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        (made / f"events.fs{ending}").write_bytes(compress(stream))
    (made / "torn.fs").write_bytes(stream[:-5])
    (made / "torn.fs.gz").write_bytes(gzip.compress(stream[:-5]))
    # What is torn is the compressed file itself.
    (made / "cut.fs.gz").write_bytes(gzip.compress(stream)[:-30])
    damaged = bytearray(stream)
    damaged[frames_of(stream)[3][0] + 40] ^= 1
    (made / "damaged.fs").write_bytes(damaged)
    # A description that says the field with the time, whose name does not.
    with flatstream.open(
        made / "time.fs", "w", checksum="crc32", describe=EVENT, time_field="monotonic_ns", time_unit="s"
    ) as writer:
        records = RecordWriter(writer, EVENT, file_identifier=True)
        for number in range(5):
            records.write(sequence=number, monotonic_ns=BEGIN // 10**9 + number)
    describe = Description({"TELE": EVENT, "SHAP": SHAPE})
    with flatstream.open(made / "mixed.fs", "w", checksum="crc32", describe=describe) as writer:
        builder = flatstream.Builder()
        for number in range(3):
            write_events(writer, [number])
            SHAPE.encode(builder, id=number, title=f"shape {number}")
            payload = bytes(memoryview(builder))
            builder.Clear()
            # The schema has no identifier of its own, so that messages do not carry one.
            writer.write_payload(with_identifier(payload, b"SHAP"))
        writer.write_payload(b"\x0c\x00\x00\x00ELSE" + bytes(8))
        writer.write_payload(b"\x0c\x00\x00\x00TELE" + b"\xff" * 8)
    return made


def with_identifier(payload: bytes, identifier: bytes) -> bytes:
    """The message with a file identifier behind its root offset, and padding that keeps the alignment."""
    root = int.from_bytes(payload[:4], "little")
    return (root + 8).to_bytes(4, "little") + identifier + bytes(4) + payload[4:]


@pytest.fixture
def call(folder: Path) -> Any:
    return lambda *args, **options: call_flatstream(*args, cwd=folder, **options)


def test_a_stream_that_describes_itself_needs_no_options(call: Any, folder: Path) -> None:
    everything = list(range(20))
    for path in ("events.fs", "events.fs.gz", "events.fs.bz2", "events.fs.xz"):
        result = call("cat", path)
        assert (result.status, result.errors, numbers(result)) == (0, "", everything), path
        assert numbers(call("head", "-n", "2", path, "--where", "sequence > 3")) == [4, 5]
        assert numbers(call("tail", "-n", "2", path)) == [18, 19]
        assert numbers(call("tail", "-n", "2", path, "--where", "host == 'a'", "--fields", "sequence")) == [16, 18]
    stream = (folder / "events.fs").read_bytes()
    assert numbers(call("cat", "-", input=stream)) == everything
    assert numbers(call("tail", "-n", "1", "-", input=stream)) == [19]
    # Offsets count from the beginning of the stream, with its description.
    assert json.loads(call("head", "-n", "1", "events.fs", "--hex").output)["offset"] == frames_of(stream)[0][0]
    for path in ("torn.fs", "torn.fs.gz"):
        result = call("cat", path)
        assert (result.status, numbers(result)) == (1, everything[:-1])
        assert "cannot be read and are left out" in result.errors
    for arguments in (["cat"], ["cat", "--fields", "sequence"], ["cat", "--hex"], ["tail", "-n", "30"]):
        result = call(*arguments, "cut.fs.gz")
        assert result.status == 1
        assert 2 < len(result.lines) < 20
        assert result.errors.startswith(f"flatstream {arguments[0]}: cut.fs.gz: ")
        assert result.errors.count("\n") == 1
    result = call("cat", "damaged.fs")
    assert (result.status, numbers(result)) == (1, [0, 1, 2, *range(4, 20)])


def test_lines_are_those_of_to_json(call: Any, folder: Path) -> None:
    with flatstream.open(folder / "events.fs") as reader:
        expected = [record.to_json(defaults=True) for record in reader.records(EVENT)]
    for options in ([], ["-n", "20"], ["--every", "1"]):
        assert call("cat", "events.fs", *options).lines == expected
    assert call("cat", "events.fs", "--every", "3").lines == expected[::3]
    assert call("tail", "-n", "4", "events.fs").lines == expected[-4:]
    assert call("cat", "events.fs", "--where", "sequence in [3, 4]").lines == expected[3:5]


def test_the_time_field_of_the_description_counts(call: Any) -> None:
    assert numbers(call("cat", "time.fs", "--since", "2023-11-14T22:13:23Z")) == [3, 4]
    assert numbers(call("cat", "time.fs", "--where", "monotonic_ns < 2023-11-14T22:13:21Z")) == [0]
    table = call("head", "-n", "1", "time.fs", "--fields", "monotonic_ns", "--format", "table")
    assert table.lines[1] == "2023-11-14T22:13:20Z"


def test_each_message_of_a_mixed_stream_is_shown_by_its_own_table(call: Any) -> None:
    result = call("cat", "mixed.fs")
    assert result.status == 1
    rows = [json.loads(line) for line in result.lines]
    assert [row["table"] for row in rows] == ["telemetry.Event", "shapes.Shape"] * 3
    assert [row["message"].get("sequence", row["message"].get("id")) for row in rows] == [0, 0, 1, 1, 2, 2]
    assert "1 message with another file identifier left out" in result.errors
    assert "is left out: " in result.errors
    check_expected(
        "show/mixed.txt", call("tail", "-n", "3", "mixed.fs", "--format", "table", "--where", "id > 0").output
    )
    # A condition is on the tables that have its field.
    rows = [json.loads(line) for line in call("cat", "mixed.fs", "--where", "title startswith 'shape'").lines]
    assert [row["message"]["id"] for row in rows] == [0, 1, 2]
    rows = [json.loads(line) for line in call("cat", "mixed.fs", "--since", "2023-11-14T22:13:21Z").lines]
    assert [row["message"]["sequence"] for row in rows] == [1, 2]
    result = call("cat", "mixed.fs", "--where", "nothing == 1")
    assert (result.status, "has no field nothing" in result.errors) == (2, True)
    for option in (["--fields", "id"], ["--format", "csv"]):
        result = call("cat", "mixed.fs", *option)
        assert (result.status, "choose it with --table, of telemetry.Event, shapes.Shape" in result.errors) == (2, True)


def test_one_table_of_a_mixed_stream_can_be_chosen(call: Any) -> None:
    result = call("cat", "mixed.fs", "--table", "TELE", "--fields", "sequence,host")
    assert [json.loads(line) for line in result.lines] == [
        {"sequence": number, "host": "ab"[number % 2]} for number in range(3)
    ]
    assert numbers(call("head", "mixed.fs", "--table", "telemetry.Event")) == [0, 1, 2]


def test_numbers_that_json_does_not_have_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "nan.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=EVENT) as writer:
        RecordWriter(writer, EVENT, file_identifier=True).write(
            load_1=float("nan"),
            boot_time=float("-inf"),
            cpu_total=dict.fromkeys(
                ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"), float("inf")
            ),
        )
    for options in ([], ["--fields", "load_1,boot_time,cpu_total"]):
        row = json.loads(call_flatstream("cat", path, *options).output, parse_constant=pytest.fail)
        assert (row["load_1"], row["boot_time"], row["cpu_total"]["user"]) == ("nan", "-inf", "inf")


def test_floats_of_32_bits_have_the_digits_that_they_need(tmp_path: Path) -> None:
    path = tmp_path / "floats.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=SHAPE) as writer:
        RecordWriter(writer, SHAPE).write(
            scalars={"f32": 0.1, "f64": 0.1}, vectors={"f32s": [0.1, 1e-45, 3.4028234663852886e38, 16777216.0]}
        )
    row = json.loads(call_flatstream("cat", path, "--fields", "scalars.f32,scalars.f64,vectors.f32s").output)
    assert row == {
        "scalars.f32": 0.1,
        "scalars.f64": 0.1,
        "vectors.f32s": [0.1, 1e-45, 3.4028235e38, 16777216.0],
    }


def test_a_journal_that_describes_itself_needs_no_options(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with JournalWriter(folder, describe=EVENT, rotate=RotationPolicy(max_frames=7)) as journal:
        write_events(journal, range(40))

    def shown(*arguments: str) -> list[int]:
        result = call_flatstream(*arguments, folder)
        assert (result.status, result.errors) == (0, "")
        return numbers(result)

    assert shown("cat") == list(range(40))
    assert shown("head", "-n", "9", "--fields", "sequence") == list(range(9))
    assert shown("tail", "-n", "9") == list(range(31, 40))
    assert shown("tail", "-n", "2", "--where", "sequence < 20") == [18, 19]
    assert shown("cat", "--since", "2023-11-14T22:13:55Z") == list(range(35, 40))
    out = tmp_path / "out.fs"
    assert call_flatstream("sample", folder, "-o", out, "--every", "10").status == 0
    assert numbers(call_flatstream("cat", out)) == [0, 10, 20, 30]


# merge, split, sample


def test_copies_by_commands(tmp_path: Path, folder: Path) -> None:
    def call(*args: str) -> Result:
        return call_flatstream(*args, cwd=tmp_path)

    for name, numbers_of in (("even", range(0, 20, 2)), ("odd", range(1, 20, 2))):
        with flatstream.open(tmp_path / f"{name}.fs", "w", checksum="xxhash64", describe=EVENT) as writer:
            write_events(writer, numbers_of)
    result = call("merge", "even.fs", "odd.fs", "-o", "all.fs")
    assert (result.status, result.output, result.errors) == (
        0,
        f"all.fs: 20 messages of 2 inputs, {size_text((tmp_path / 'all.fs').stat().st_size)}\n",
        "",
    )
    assert numbers(call("cat", "all.fs")) == list(range(20))
    result = call("merge", "odd.fs", "even.fs", "-o", "after.fs", "--concatenate", "--to-checksum", "crc16", "--json")
    assert json.loads(result.output)["frames"] == 20
    assert numbers(call("cat", "after.fs")) == [*range(1, 20, 2), *range(0, 20, 2)]

    result = call("split", "all.fs", "-o", "part-{number}-{time}.fs", "--every", "10s")
    assert (result.status, result.lines[-1]) == (0, "20 messages in 2 files")
    assert numbers(call("cat", "part-1-20231114T221330Z.fs")) == list(range(10, 20))
    result = call("split", "all.fs", "-o", "small-{number}.fs", "--size", "8kB", "--json")
    sizes = [file["size"] for file in json.loads(result.output)["files"]]
    assert len(sizes) > 2
    assert 7500 < max(sizes) <= 8000
    assert call("split", "all.fs", "-o", "n-{number}.fs", "--count", "15").lines[-1] == "20 messages in 2 files"

    result = call("sample", "all.fs", "-o", "some.fs", "--every", "6")
    assert (result.status, result.output.startswith("some.fs: 4 messages of 20, ")) == (0, True)
    assert sequences(tmp_path / "some.fs") == [0, 6, 12, 18]
    assert call("sample", "all.fs", "-o", "half.fs", "--fraction", "0.5", "--seed", "1").status == 0

    result = call("merge", str(folder / "damaged.fs"), str(folder / "torn.fs"), "-o", "rest.fs")
    assert (result.status, result.errors.count("cannot be read and are left out")) == (1, 2)
    assert len(sequences(tmp_path / "rest.fs")) == 38
    (tmp_path / "late.fs").write_bytes(event_stream([1, 2], times=[2, 1]))
    result = call("merge", "late.fs", "-o", "late-too.fs", *SCHEMA)
    assert (result.status, "1 message earlier than one before" in result.errors) == (0, True)


def test_copies_by_commands_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.fs").write_bytes(event_stream(range(3)))
    (tmp_path / "b.fs").write_bytes(event_stream(range(3), "crc32"))
    (tmp_path / "foreign.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(100)))
    wrong = {
        "merge a.fs -o a.fs --schema S": (4, "a.fs: File exists"),
        "merge a.fs": (2, "--output"),
        "merge a.fs -o out.fs": (2, "describe itself: say it with --schema FILE"),
        "merge a.fs b.fs -o out.fs --schema S": (
            2,
            "a.fs has the checksum xxhash64 and b.fs has crc32: say the one to write with --to-checksum",
        ),
        "merge a.fs -o out.fs --concatenate --time-field x": (2, "--concatenate"),
        "merge a.fs -o out.fs --schema S --time-field host": (2, "no integer"),
        "merge a.fs -o out.fs --schema S --table Nothing": (2, "no table"),
        "merge none.fs -o out.fs --concatenate": (4, "none.fs: No such file"),
        "split a.fs -o {number}.fs": (2, "say one of --every, --size and --count"),
        "split a.fs -o {number}.fs --count 3 --size 3": (2, "say one of"),
        "split a.fs -o out.fs --count 3": (2, "needs {number} or {time}"),
        "split a.fs -o {number}.fs --size many": (2, "no size: 'many'"),
        "split a.fs -o {number}.fs --every often --schema S": (2, "no duration: 'often'"),
        "split *.fs -o {number}.fs --count 3": (2, "2 inputs need a folder, or a pattern with {name}"),
        "split a.fs -o {number}.fs --count 3 --table Event": (
            2,
            "flatstream convert --table copies those of one table",
        ),
        "split a.fs -o {number}.fs --every 999999999999w --schema S": (2, "too large"),
        "split a.fs -o {number}.csv --count 3": (2, "'0.csv' is a name for CSV: choose one with .fs"),
        "merge a.fs -o - --concatenate": (2, "merge writes to a new file, and not to standard output"),
        "merge a.fs -o out.parquet --concatenate": (2, "'out.parquet' is a name for Parquet: choose one with .fs"),
        "merge a.fs foreign.png -o out.fs --concatenate": (4, "merge: foreign.png: no stream: it is a PNG file"),
        "sample a.fs -o out.fs --every 2 --table Event": (2, "no such option '--table'"),
        "sample a.fs -o out.fs": (2, "say either --every or --fraction"),
        "sample a.fs -o out.fs --every 2 --fraction 0.5": (2, "say either"),
        "sample a.fs -o out.fs --fraction 2": (2, "--fraction"),
        "sample a.fs -o out.fs --every 2 --seed 3": (2, "seed"),
        "sample a.fs -o none/out.fs --every 2": (4, "No such file"),
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for line, (status, problem) in wrong.items():
        arguments = [SCHEMA_FILE if word == "S" else word for word in line.split()]
        result = call_flatstream(*arguments, cwd=tmp_path)
        assert (result.status, problem in result.errors) == (status, True), (line, result)
        assert (result.output, result.errors.count("\n")) == ("", 1), (line, result)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert Schema.from_file(SCHEMA_FILE).root == EVENT


# A schema without a file identifier


def test_messages_that_cannot_be_told_from_others_are_those_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "table Inner { y:int; } table Point { time_ns:long; x:int; inner:Inner; } root_type Point;"
    (tmp_path / "point.fbs").write_text(text)
    table = Schema.from_fbs(text=text).root
    assert table is not None
    records = [{"time_ns": BEGIN + x, "x": x, "inner": {"y": -x}} for x in range(20)]
    with flatstream.open("points.fs", "w", checksum="crc32", describe=table) as writer:
        RecordWriter(writer, table).write_records(records)
    with flatstream.open("bare.fs", "w", checksum="crc32") as writer:
        RecordWriter(writer, table).write_records(records)
    with JournalWriter("journal", describe=table) as journal:
        RecordWriter(journal, table).write_records(records)

    for source in (["points.fs"], ["journal"], ["bare.fs", "--schema", "point.fbs"]):
        for command in ("head", "tail", "cat"):
            for form in ((), ("--fields", "x"), ("--format", "csv"), ("--where", "x < 100")):
                result = call_flatstream(command, "-n", "2", *form, *source)
                assert (result.status, result.errors) == (0, "")
                assert len(result.lines) == 2 + ("csv" in form)
        result = call_flatstream("verify", *source)
        assert (result.status, result.errors) == (0, "")
        assert "intact; 20 intact frames" in result.output
        for out in ("out.parquet", "out.jsonl", "out.mcap", "out.fb", "out.csv"):
            assert call_flatstream("convert", "--unsupported", "omit", *source, out).status == 0
            (tmp_path / out).unlink()
        assert call_flatstream("plot", "-f", "x", *source).status == 0
    # So it is for a table that is not the root of its schema.
    with flatstream.open("inner.fs", "w", checksum="crc32", describe=table.schema.table("Inner")) as writer:
        RecordWriter(writer, table.schema.table("Inner")).write(y=7)
    assert call_flatstream("tail", "inner.fs").lines == ['{"y":7}']
    assert call_flatstream("verify", "inner.fs").status == 0


def test_the_last_messages_of_one_table_of_a_mixed_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with flatstream.open(
        tmp_path / "mixed.fs", "w", checksum="crc32", describe={"TELE": EVENT, "SHAP": SHAPE}
    ) as writer:
        write_events(writer, range(50))
        for _ in range(200):
            writer.write_payload(b"\x0c\x00\x00\x00SHAP" + bytes(8))
    with flatstream.open(tmp_path / "plain.fs", "w", checksum="crc32") as writer:
        write_events(writer, range(50))
        for _ in range(200):
            writer.write_payload(b"\x0c\x00\x00\x00ELSE" + bytes(8))
    stream = (tmp_path / "mixed.fs").read_bytes()
    arguments = ("tail", "-n", "3", "--table", "Event")
    for whole in (1 << 24, 100):
        monkeypatch.setattr("flatstream.cli._last.WHOLE", whole)
        monkeypatch.setattr("flatstream.cli._last.FIRST_BYTES", 100)
        for options in ([], ["--fields", "sequence"]):
            assert numbers(call_flatstream(*arguments, *options, tmp_path / "mixed.fs")) == [47, 48, 49]
            assert numbers(call_flatstream(*arguments, *options, "-", input=stream)) == [47, 48, 49]
            plain = call_flatstream("tail", "-n", "3", *SCHEMA, *options, tmp_path / "plain.fs")
            assert numbers(plain) == [47, 48, 49], (whole, plain)


def test_several_inputs_have_new_files_each(tmp_path: Path, folder: Path) -> None:
    def call(*args: str) -> Result:
        return call_flatstream(*args, cwd=tmp_path)

    for name in ("one.fs", "{two}.fs.gz"):
        with flatstream.open(tmp_path / "new.fs", "w", checksum="xxhash64", describe=EVENT) as writer:
            write_events(writer, range(20))
        stream = (tmp_path / "new.fs").read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(stream) if name.endswith(".gz") else stream)
    (tmp_path / "new.fs").unlink()
    (tmp_path / "noise.fs").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(100)))
    (tmp_path / "out").mkdir()
    damaged = str(folder / "damaged.fs")
    inputs = ["noise.fs", "one.fs", "{two}.fs.gz", damaged]
    for options, texts in (
        (["sample", "-o", "out", "--every", "6"], ["out/one.fs: 4 messages of 20, ", "out/damaged.fs: 4 messages of"]),
        (["split", "-o", "out", "--count", "15"], ["one.fs: 20 messages in 2 files", "out/one-0001.fs: 5 messages"]),
        (["split", "-o", "out", "--every", "10s"], ["out/one-20231114T221330Z.fs: 10 messages, "]),
    ):
        result = call(*options, *inputs)
        # The others go on, and the worst status counts.
        assert (result.status, [text for text in texts if text not in result.output]) == (4, [])
        assert result.errors.startswith(f"flatstream {options[0]}: noise.fs: no stream")
        assert f"{damaged}: damaged: " in result.errors
    made = {"one.fs", "{two}.fs", "damaged.fs"}
    for stem in ("one", "{two}", "damaged"):
        made |= {f"{stem}-{part}.fs" for part in ("0000", "0001", "20231114T221320Z", "20231114T221330Z")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == made
    assert sequences(tmp_path / "out/{two}.fs") == [0, 6, 12, 18]
    assert sequences(tmp_path / "out/{two}-0001.fs") == [15, 16, 17, 18, 19]

    result = call("sample", "noise.fs", "one.fs", "-o", "{name}-some.fs", "--every", "10", "--json")
    error, report = map(json.loads, result.lines)
    assert (error["path"], error["status"], report["path"], report["frames"]) == ("noise.fs", 4, "one-some.fs", 2)
    result = call("split", "one.fs", "{two}.fs.gz", "-o", "{{x}}{name}-{number}.fs", "--count", "20", "--json")
    assert [json.loads(line)["files"][0]["path"] for line in result.lines] == ["{x}one-0.fs", "{x}{two}-0.fs"]
    # For one input, text in two braces stays text.
    assert call("split", "one.fs", "-o", "{{name}}-{number}.fs", "--count", "20").status == 0
    assert sequences(tmp_path / "{name}-0.fs") == list(range(20))

    (tmp_path / "plain.fs").write_bytes(event_stream(range(3)))
    result = call("split", "plain.fs", "one.fs", "-o", "{name}-{time}.fs", "--every", "1d", "--json")
    error, report = map(json.loads, result.lines)
    assert (result.status, error["path"], error["status"], report["frames"]) == (2, "plain.fs", 2, 20)
    assert "and plain.fs does not describe itself: say it with --schema FILE\n" in result.errors

    before = sorted(tmp_path.rglob("*"))
    for status, message, arguments in (
        (4, "out/one.fs: File exists", ["sample", "one.fs", "{two}.fs.gz", "-o", "out", "--every", "1"]),
        (4, "out/one-0000.fs: File exists", ["split", "one.fs", "-o", "out", "--count", "1"]),
        (2, "no duration: 'often'", ["split", "one.fs", "noise.fs", "-o", "out", "--every", "often"]),
        (2, "2 inputs need a folder", ["sample", "one.fs", "noise.fs", "-o", "new.fs", "--every", "1"]),
        (2, "2 inputs need a folder", ["split", "one.fs", "noise.fs", "-o", "{{name}}{number}.fs", "--count", "1"]),
        (2, "more than one input is called 'one'", ["sample", "one.fs", "out/one.fs", "-o", "out", "--every", "1"]),
    ):
        result = call(*arguments)
        assert (result.status, result.output, message in result.errors) == (status, "", True), result.errors
    assert sorted(tmp_path.rglob("*")) == before
