"""flatstream head, cat and tail: which messages are shown, and how."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.cli import _last
from support.cli import Result, call_flatstream, check_expected, run_flatstream
from support.events import BEGIN, EVENT, SCHEMA_FILE, SECOND, event_stream, frames_of
from support.show import DAMAGED, DAMAGED_RANGE, make_inputs

SCHEMA = ("--schema", SCHEMA_FILE)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def call(inputs: Path) -> Any:
    """Runs a command in the folder of the inputs, in this process."""
    return lambda *args, **options: call_flatstream(*args, cwd=inputs, **options)


def numbers(result: Result) -> list[int]:
    """The numbers of the events in JSON lines."""
    return [json.loads(line)["sequence"] for line in result.lines]


def test_the_first_messages_are_shown(call: Any) -> None:
    result = call("head", "intact.fs", *SCHEMA)
    assert (result.status, result.errors) == (0, "")
    assert numbers(result) == list(range(10))
    first = json.loads(result.lines[0])
    assert (first["host"], first["platform"], first["cpu_total"]["user"]) == ("a", "Linux", 0)
    assert numbers(call("head", "-n", "3", "intact.fs", "journal", *SCHEMA)) == [0, 1, 2, 0, 1, 2]
    assert call("head", "-n", "0", "intact.fs", *SCHEMA).output == ""


def test_every_kind_of_input_is_shown_whole(call: Any, inputs: Path) -> None:
    everything = list(range(20))
    for path in ("intact.fs", "journal", "in*act.fs"):
        result = call("cat", path, *SCHEMA)
        assert (result.status, numbers(result), result.errors) == (0, everything, ""), path
    result = call("cat", "-", *SCHEMA, input=(inputs / "intact.fs").read_bytes())
    assert (result.status, numbers(result), result.errors) == (0, everything, "")
    result = call("cat", "empty.fs", *SCHEMA)
    assert (result.status, result.output, result.errors) == (0, "", "")


def test_what_is_damaged_is_told_and_left_out(call: Any, inputs: Path) -> None:
    rest = [number for number in range(20) if number != DAMAGED]
    begin, end = DAMAGED_RANGE
    for options in ([], ["--fields", "sequence"]):
        result = call("cat", "damaged.fs", *SCHEMA, *options)
        assert (result.status, numbers(result)) == (1, rest)
        assert result.errors == (
            f"flatstream cat: damaged.fs: damaged: {end - begin} bytes at offset {begin} cannot be read and are "
            "left out\n"
        )
        # What is not read is not told.
        assert call("head", "-n", str(DAMAGED), "damaged.fs", *SCHEMA, *options).status == 0
        assert call("head", "-n", str(DAMAGED + 1), "damaged.fs", *SCHEMA, *options).status == 1
        torn = call("cat", "torn.fs", *SCHEMA, *options)
        assert (torn.status, numbers(torn)) == (1, list(range(19)))
        assert "bytes at offset" in torn.errors
    result = call("cat", "-", *SCHEMA, input=(inputs / "damaged.fs").read_bytes())
    assert (result.status, numbers(result)) == (1, rest)
    assert "cat: -: damaged" in result.errors
    # The other inputs are shown, and the worst status counts.
    result = call("cat", "damaged.fs", "none.fs", "text.fs", "intact.fs", *SCHEMA, "--fields", "sequence")
    assert (result.status, numbers(result)) == (4, [*rest, *range(20)])
    assert [line.split(": ")[1] for line in result.errors.splitlines()] == ["damaged.fs", "none.fs", "text.fs"]
    assert "no stream" in result.errors


def test_messages_of_other_tables_are_counted_and_bad_ones_are_damage(call: Any) -> None:
    for options in ([], ["--fields", "sequence"]):
        result = call("cat", "others.fs", *SCHEMA, *options)
        assert (result.status, numbers(result)) == (1, [0, 1, 2, 3, 4])
        assert "1 message with another file identifier left out" in result.errors
        assert "damaged: 28 bytes at offset" in result.errors


def test_without_a_schema_payloads_are_shown_as_hex(call: Any) -> None:
    stream = event_stream(range(20))
    frames = frames_of(stream)
    result = call("cat", "intact.fs")
    assert result.status == 0
    for line, (begin, end) in zip(result.lines, frames, strict=True):
        assert json.loads(line) == {
            "offset": begin,
            "size": end - begin - 12,
            "hex": stream[begin + 12 : end].hex(),
        }
    assert call("cat", "intact.fs", *SCHEMA, "--hex").output == result.output
    check_expected("show/strings.jsonl", call("cat", "strings.fs").output)
    check_expected("show/strings.csv", call("cat", "strings.fs", "--format", "csv").output)
    check_expected("show/strings.txt", call("cat", "strings.fs", "--format", "table").output)
    for option in ("--where=a==1", "--since=5m", "--fields=a", "--until=3"):
        result = call("cat", "intact.fs", option)
        assert result.status == 2
        assert "does not describe itself: say --schema FILE" in result.errors
    assert "--hex shows whole messages" in call("cat", "intact.fs", *SCHEMA, "--hex", "--fields", "host").errors


def test_messages_are_selected(call: Any) -> None:
    def selected(*options: str, path: str = "intact.fs") -> list[int]:
        result = call("cat", path, *SCHEMA, *options)
        assert (result.status, result.errors) == (0, "")
        assert numbers(result) == numbers(call("cat", path, *SCHEMA, *options, "--fields", "host,sequence"))
        return numbers(result)

    for path in ("intact.fs", "journal"):
        assert selected("--where", "sequence >= 10 and host == 'a'", path=path) == [10, 12, 14, 16, 18]
        assert selected("--where", "sequence >= 10", "--where", "deadline_missed", path=path) == [10, 15]
        assert selected("--since", "2023-11-14T22:13:35Z", "--until", str(BEGIN + 18 * SECOND), path=path) == [
            15,
            16,
            17,
        ]
        assert selected("--since", str(BEGIN + 18 * SECOND), path=path) == [18, 19]
        assert selected("--since", "5m", path=path) == []
        assert selected("--until", "1d", path=path) == list(range(20))
    assert selected("--every", "7") == [0, 7, 14]
    assert selected("--every", "2", "--where", "host == 'b'", "-n", "3") == [1, 5, 9]
    assert selected("-n", "3") == [0, 1, 2]
    assert selected("--until", "9", "--time-field", "sequence:s") == list(range(9))


def test_wrong_selections_are_wrong_usage(call: Any) -> None:
    wrong = {
        "--where=sequence = 3": "--where: character 10 ('= 3'): write '=='",
        "--where=sequnce == 3": "telemetry.Event has no field sequnce; it has sequence",
        "--since=soon": "--since: no time: 'soon'",
        "--until=2023-02-30": "--until: no time",
        "--time-field=host": "--time-field: host of telemetry.Event is no integer",
        "--fields=hots": "--fields: telemetry.Event has no field hots; it has host",
        "--fields=host,,sequence": "--fields: expected names",
        "--fields=host,host": "named twice",
        "--fields=disks.name": "--fields: ",
        "--every=0": "--every",
        "--format=xml": "--format",
        "-n=-1": "-n",
    }
    for option, problem in wrong.items():
        result = call("cat", "intact.fs", *SCHEMA, option)
        assert result.status == 2, option
        assert problem in result.errors, (option, result.errors)
        assert result.errors.count("\n") == 1
        assert result.output == ""
    assert "--json is --format jsonl" in call("cat", "intact.fs", "--json", "--format", "csv").errors
    assert call("cat").status == 2
    shapes = str(Path(SCHEMA_FILE).parent.parent / "tests" / "data" / "schemas" / "shapes.bfbs")
    result = call("cat", "intact.fs", "--schema", shapes, "--since", "5m")
    assert (result.status, "time field of shapes.Shape is not known" in result.errors) == (2, True)


def test_formats_are_as_expected(call: Any) -> None:
    fields = "sequence,wall_time_ns,host,platform,deadline_missed,load_1,cpu_total,cores,kernel"
    for name, format in (("jsonl", "jsonl"), ("csv", "csv"), ("txt", "table")):
        result = call("head", "-n", "4", "intact.fs", "journal", *SCHEMA, "--fields", fields, "--format", format)
        assert (result.status, result.errors) == (0, "")
        check_expected(f"show/fields.{name}", result.output)
    whole = call("head", "-n", "1", "intact.fs", *SCHEMA, "--format", "csv")
    row = dict(zip(*csv.reader(io.StringIO(whole.output)), strict=True))
    assert (row["sequence"], row["host"], row["kernel"], row["deadline_missed"]) == ("0", "a", "", "true")
    assert row["cpu_total.user"] == "0.0"
    assert (
        call("head", "-n", "1", "intact.fs", *SCHEMA, "--json").output
        == call("head", "-n", "1", "intact.fs", *SCHEMA).output
    )


def test_a_terminal_gets_a_table_that_fits(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = call("head", "-n", "3", "intact.fs", *SCHEMA, terminal=True)
    check_expected("show/terminal.txt", result.output)
    assert max(map(len, result.lines)) <= 80
    assert "choose with --fields" in result.lines[0]
    result = call("head", "-n", "2", "intact.fs", terminal=True)
    assert max(map(len, result.lines)) <= 80
    assert result.lines[1].endswith("...")


def test_csv_is_for_inputs_with_the_same_columns(call: Any) -> None:
    result = call("cat", "intact.fs", "strings.fs", "--format", "csv")
    assert result.status == 0
    assert result.output.count("offset,size,hex") == 1


def test_text_is_escaped_in_tables_and_kept_elsewhere(call: Any, tmp_path: Path) -> None:
    text = '\x1b[31mred\n\u00e4,"\u202e\U0001f600'
    path = tmp_path / "text.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        flatstream.RecordWriter(writer, EVENT, file_identifier=True).write(host=text)
    for options in ([], ["--fields", "host"]):
        assert json.loads(call("cat", path, *SCHEMA, *options).output)["host"] == text
    rows = list(csv.reader(io.StringIO(call("cat", path, *SCHEMA, "--fields", "host", "--format", "csv").output)))
    assert rows == [["host"], [text]]
    table = call("cat", path, *SCHEMA, "--fields", "host", "--format", "table").output
    assert "\x1b" not in table
    assert "\u202e" not in table
    assert table.count("\n") == 2


# tail


def test_the_last_messages_are_shown(call: Any, inputs: Path) -> None:
    for path in ("intact.fs", "journal"):
        assert numbers(call("tail", path, *SCHEMA)) == list(range(10, 20))
        assert numbers(call("tail", "-n", "3", path, *SCHEMA, "--fields", "sequence")) == [17, 18, 19]
        assert numbers(call("tail", "-n", "100", path, *SCHEMA)) == list(range(20))
        assert numbers(call("tail", "-n", "2", path, *SCHEMA, "--where", "deadline_missed")) == [10, 15]
        assert call("tail", "-n", "0", path, *SCHEMA).output == ""
        result = call("tail", "-n", "2", path, *SCHEMA, "--until", "2023-11-14T22:13:30Z")
        assert (result.status, numbers(result)) == (0, [8, 9])
    stream = (inputs / "intact.fs").read_bytes()
    for options in ([], ["--where", "sequence > 1"], ["--fields", "sequence"]):
        assert numbers(call("tail", "-n", "3", "-", *SCHEMA, *options, input=stream)) == [17, 18, 19]
    assert call("tail", "-n", "3", "-", input=stream).output == call("tail", "-n", "3", "intact.fs").output
    assert json.loads(call("tail", "-n", "1", "intact.fs").output)["offset"] == frames_of(stream)[-1][0]
    assert call("tail", "empty.fs").output == ""
    result = call("tail", "--every", "2", "intact.fs")
    assert (result.status, "--every counts from the beginning" in result.errors) == (2, True)


def test_damage_at_the_end_is_told(call: Any, inputs: Path) -> None:
    result = call("tail", "-n", "2", "torn.fs", *SCHEMA)
    begin, end = frames_of((inputs / "intact.fs").read_bytes())[-1]
    assert (result.status, numbers(result)) == (1, [17, 18])
    assert f"{end - begin - 5} bytes at offset {begin}" in result.errors
    # Before the last messages, it is not read.
    assert call("tail", "-n", "12", "damaged.fs", *SCHEMA).status == 0
    result = call("tail", "-n", "13", "damaged.fs", *SCHEMA)
    assert (result.status, numbers(result)) == (1, [6, *range(8, 20)])
    result = call("tail", "-n", "3", "-", *SCHEMA, input=(inputs / "others.fs").read_bytes())
    assert (result.status, numbers(result)[-2:]) == (1, [3, 4])


def test_a_large_file_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_last, "WHOLE", 0)
    stream = event_stream(range(5_000))
    path = tmp_path / "large.fs"
    path.write_bytes(stream)
    assert len(stream) > 10 * (1 << 16)
    for count in (1, 3, 1000):
        result = call_flatstream("tail", "-n", str(count), path, *SCHEMA, "--fields", "sequence")
        assert numbers(result) == list(range(5_000 - count, 5_000))
    result = call_flatstream("tail", "-n", "2", path, *SCHEMA, "--where", "sequence in [4, 77]")
    assert (result.status, numbers(result), result.errors) == (0, [4, 77], "")
    assert (
        call_flatstream("tail", "-n", "2", path).output
        == call_flatstream("tail", "-n", "2", path, "--from-start").output
    )
    # Damage far from the end is not seen, and so not told.
    damaged = bytearray(stream)
    damaged[100] ^= 1
    path.write_bytes(damaged)
    assert call_flatstream("tail", path).status == 0
    assert call_flatstream("tail", "--from-start", path).status == 1


def test_the_end_of_a_file_of_any_payloads_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any sizes, also larger than what is searched first, and that are no messages."""
    monkeypatch.setattr(_last, "WHOLE", 0)
    rng = random.Random(1)
    path = tmp_path / "payloads.fs"
    cases = [[b"\x00" * 7 + b"first", bytes(range(1, 256)) * 2000, b"x" * 300_000]]
    for _ in range(8):
        sizes = [rng.choice((1, 3, 10, 100, 5000, 70_000)) for _ in range(rng.randint(1, 60))]
        cases.append([rng.randbytes(size) for size in sizes])
    for payloads in cases:
        for checksum in ("none", "crc16", "crc32"):
            with flatstream.open(path, "w", checksum=checksum) as writer:
                writer.write_payloads(payloads)
            count = rng.randint(1, len(payloads))
            result = call_flatstream("tail", "-n", str(count), path, "--checksum", checksum)
            assert result.status == 0
            assert [bytes.fromhex(json.loads(line)["hex"]) for line in result.lines] == payloads[-count:], checksum


def test_a_stream_in_the_last_message_is_not_taken_for_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nested.fs"
    inner = event_stream(range(1000))
    with flatstream.open(path, "w", checksum="xxhash64") as writer:
        writer.write_payloads([b"first", inner])
    expected = [{"offset": 17, "size": len(inner), "hex": inner.hex()}]
    assert [json.loads(line) for line in call_flatstream("tail", "-n", "1", path).lines] == expected
    monkeypatch.setattr(_last, "WHOLE", 0)
    result = call_flatstream("tail", "-n", "1", path, "--from-start")
    assert [json.loads(line) for line in result.lines] == expected


# The installed program


def test_a_closed_pipe_ends_the_program_quietly(inputs: Path) -> None:
    import subprocess

    from support.cli import environment, script

    program = subprocess.Popen(
        [*script(), "cat", *(["intact.fs"] * 400)],
        cwd=inputs,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    assert program.stdout.readline().startswith(b'{"offset"')
    program.stdout.close()
    assert program.wait(60) == 141
    assert program.stderr.read() == b""
    program.stderr.close()


def test_the_installed_program_shows_messages(inputs: Path) -> None:
    result = run_flatstream("head", "-n", "2", "intact.fs", "damaged.fs", *SCHEMA, cwd=inputs)
    assert (result.status, numbers(result), result.errors) == (0, [0, 1, 0, 1], "")
    result = run_flatstream("tail", "-n", "1", "-", *SCHEMA, "--json", input=event_stream([4, 5]))
    assert (result.status, numbers(result)) == (0, [5])


@pytest.mark.long
def test_a_file_of_a_gibibyte_is_shown_with_little_memory(tmp_path: Path) -> None:
    from support.processes import run_python

    piece = event_stream(range(100_000))
    path = tmp_path / "large.fs"
    with path.open("wb") as file:
        while file.tell() < 1 << 30:
            file.write(piece)
        file.write(event_stream([123_456_789]))
    code = f"""
import io, resource, sys
from flatstream.cli import main
def run(*arguments):
    sys.stdout = io.TextIOWrapper(io.BytesIO())
    assert main([*arguments, {str(path)!r}, "--schema", {SCHEMA_FILE!r}, "--fields", "sequence"]) == 0
    sys.stdout.flush()
    return sys.stdout.buffer.getvalue().decode()
run("head")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert run("cat", "--where", "sequence > 100_000") == '{{"sequence":123456789}}\\n'
assert run("tail", "-n", "1") == '{{"sequence":123456789}}\\n'
assert run("cat", "--every", "1000000").count("\\n") >= 6
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown < 32_000, grown
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_very_much_damage_is_told_in_a_few_lines(tmp_path: Path) -> None:
    stream = bytearray(event_stream(range(4000)))
    frames = frames_of(bytes(stream))
    for begin, _ in frames[::2]:
        stream[begin + 20] ^= 1
    path = tmp_path / "damaged.fs"
    path.write_bytes(stream)
    lost = sum(end - begin for begin, end in frames[::2][10:])
    for options in ([], ["--fields", "sequence"], ["--every", "1", "--hex"]):
        result = call_flatstream("cat", path, *([] if "--hex" in options else SCHEMA), *options)
        assert (result.status, len(result.lines)) == (1, 2000)
        told = result.errors.splitlines()
        assert len(told) == 11
        assert told[-1].endswith(f"damaged: {lost:,} bytes in 1990 more places are left out")
