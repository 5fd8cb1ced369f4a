"""``flatstream convert`` and ``flatstream plot``: what they print, and their exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from flatstream import StreamReader
from support.cli import call_flatstream, environment, run_flatstream, script
from support.conversion import events, names_in
from support.schemas import EXAMPLES, TELEMETRY

assert TELEMETRY.root is not None
EVENT = TELEMETRY.root
SCHEMA = ("--schema", str(EXAMPLES / "telemetry.bfbs"))
DAMAGED, USAGE, ERROR = 1, 2, 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events(tmp_path / "in.fs", EVENT, 100)
    return tmp_path


def test_installed_script_converts_and_converts_back(folder: Path) -> None:
    done = run_flatstream("convert", "in.fs", "out.parquet", *SCHEMA, cwd=folder)
    size = (folder / "out.parquet").stat().st_size
    assert (done.status, done.errors) == (0, "")
    assert done.output.startswith("in.fs -> out.parquet: 100 messages, ")
    assert pyarrow.parquet.read_table(folder / "out.parquet")["sequence"].to_pylist() == list(range(100))
    done = run_flatstream("convert", "out.parquet", "back.fs", "--to-checksum", "crc64", "--json", cwd=folder)
    assert done.status == 0
    assert json.loads(done.output) == {
        "source": "out.parquet", "out": "back.fs", "from_format": "parquet", "to_format": "fs", "messages": 100,
        "size": (folder / "back.fs").stat().st_size, "checksum": "crc64", "others": 0, "omitted": [], "skipped": 0,
        "lost_bytes": 0, "stop_error": None,
    }  # fmt: skip
    assert size > 0


def test_pipes_are_converted(folder: Path) -> None:
    content = (folder / "in.fs").read_bytes()
    done = run_flatstream("convert", "-", "-", "--to", "jsonl", "--fields", "sequence, host", *SCHEMA, input=content)
    assert (done.status, done.errors) == (0, "")
    lines = [json.loads(line) for line in done.lines]
    assert lines == [{"sequence": number, "host": f"host-{number % 3}"} for number in range(100)]
    back = run_flatstream("convert", "-", "-", "--from", "jsonl", "--to", "fs", *SCHEMA, input=done.data)
    assert back.status == 0
    with StreamReader(back.data) as reader:
        assert reader.columns(EVENT, ["sequence"])["sequence"].to_pylist() == list(range(100))
    done = run_flatstream("convert", "-", "-", "--to", "arrows", *SCHEMA, input=content)
    assert pyarrow.ipc.open_stream(done.data).read_all().num_rows == 100
    assert call_flatstream("convert", folder / "in.fs", "-", *SCHEMA).status == USAGE


def test_reader_of_the_output_that_goes_away_is_no_error(folder: Path) -> None:
    events(folder / "long.fs", EVENT, 20_000)
    arguments = [*script(), "convert", str(folder / "long.fs"), "-", "--to", "jsonl", *SCHEMA]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=60) == 141


def test_interrupt_ends_cleanly(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    arguments = [*script(), "convert", "pipe", "out.csv", "--checksum", "none", "--fields", "host", *SCHEMA]
    child = subprocess.Popen(arguments, cwd=folder, stderr=subprocess.PIPE, env=environment())
    # Opening waits until the command has opened the pipe, which then waits for bytes.
    with child, (folder / "pipe").open("wb"):
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (130, b"flatstream convert: interrupted\n")
    assert names_in(folder) == {"in.fs", "pipe"}


def test_errors_are_one_line_and_have_a_status(folder: Path) -> None:
    (folder / "taken.csv").touch()
    (folder / "torn.fs").write_bytes((folder / "in.fs").read_bytes()[:-1])
    (folder / "text.fs").write_text("no stream at all\n" * 20)
    cases: list[tuple[list[str], int, str]] = [
        (["in.fs", "taken.csv", *SCHEMA], ERROR, "taken.csv: File exists"),
        (["nothing.fs", "out.csv", *SCHEMA], ERROR, "nothing.fs: No such file"),
        (["in.fs", "out.csv"], USAGE, "CSV needs the schema of the messages"),
        (["in.fs", "out.csv", *SCHEMA], USAGE, "CSV cannot carry the field 'cores'"),
        (["in.fs", "out.xyz", *SCHEMA], USAGE, "none of .fs, .parquet"),
        (["in.fs", "out.parquet", *SCHEMA, "--table", "Events"], USAGE, "no table 'Events'"),
        (["in.fs", "out.csv", *SCHEMA, "--fields", "hosts"], USAGE, "hosts"),
        (["torn.fs", "out.parquet", *SCHEMA], DAMAGED, "torn.fs: "),
        (["text.fs", "out.parquet", *SCHEMA], ERROR, "text.fs: "),
        (["in.fs"], USAGE, "missing argument"),
        (["in.fs", "out.csv", "--to", "xml"], USAGE, "xml"),
        (["in.fs", "in.fs", "out.csv", *SCHEMA], USAGE, "2 sources need a folder"),
        (["in.fs", "in.fs", "-", "--to", "csv", *SCHEMA], USAGE, "only one PATH can go to standard output"),
        # What the library calls an argument is an option here.
        (["in.fs", "out.csv"], USAGE, "does not say: pass --schema"),
        (["in.fs", "out.csv", *SCHEMA], USAGE, "or pass --unsupported json for JSON text"),
        (["in.fs", "out.fs", "--fields", "host"], USAGE, "leave out --fields"),
        (["in.fs", "in.fs", ".", *SCHEMA], USAGE, "new files: pass --to"),
        (["torn.fs", "out.parquet", *SCHEMA], DAMAGED, "; --on-error resync leaves out what is damaged"),
    ]
    for arguments, status, message in cases:
        done = call_flatstream("convert", *arguments, cwd=folder)
        assert (done.status, done.output) == (status, ""), (arguments, done)
        assert done.errors.count("\n") == 1, done.errors
        assert done.errors.startswith("flatstream convert: "), done.errors
        assert message.lower() in done.errors.lower(), done.errors
    assert names_in(folder) == {"in.fs", "taken.csv", "torn.fs", "text.fs"}


def test_what_was_left_out_is_said(folder: Path) -> None:
    (folder / "torn.fs").write_bytes((folder / "in.fs").read_bytes()[:-1])
    done = call_flatstream(
        "convert", "torn.fs", "out.csv", *SCHEMA, "--on-error", "stop", "--unsupported", "omit", cwd=folder
    )
    assert done.status == DAMAGED
    assert done.output.startswith("torn.fs -> out.csv: 99 messages, ")
    assert "; left out: cores, disks, interfaces; ended at damage: " in done.output
    done = call_flatstream(
        "convert", "torn.fs", "-", "--to", "csv", *SCHEMA, "--on-error", "resync", "--fields", "host", cwd=folder
    )
    assert done.status == DAMAGED
    assert len(done.lines) == 100
    assert "damaged, 1 place and " in done.errors


def test_messages_are_selected_by_conditions_and_times(folder: Path) -> None:
    base = ["convert", "in.fs", "-", "--to", "csv", *SCHEMA, "--fields", "sequence"]
    for options, expected in [
        (["--where", "sequence >= 90 and host == 'host-1'"], [91, 94, 97]),
        (["--where", "sequence >= 90", "--where", "platform == Windows"], [91, 93, 95, 97, 99]),
        (["--since", "2023-11-14T22:13:29.5Z", "--time-field", "wall_time_ns"], [95, 96, 97, 98, 99]),
        (["--until", "2023-11-14T22:13:20.2Z", "--time-field", "wall_time_ns"], [0, 1]),
    ]:
        done = call_flatstream(*base, *options, cwd=folder)
        assert (done.status, done.lines[1:]) == (0, list(map(str, expected))), done
    for options, message in [
        (["--where", "sequence >"], "--where: character "),
        (["--where", "hosts == 'a'"], "hosts"),
        (["--since", "yesterday"], "--since: "),
    ]:
        done = call_flatstream(*base, *options, cwd=folder)
        assert (done.status, done.output, done.errors.count("\n")) == (USAGE, "", 1), done
        assert message in done.errors


def test_several_inputs_go_into_a_folder(folder: Path) -> None:
    events(folder / "more.fs", EVENT, 5)
    (folder / "new").mkdir()
    done = call_flatstream("convert", "*.fs", "new", "--to", "parquet", *SCHEMA, "--json", cwd=folder)
    assert done.status == 0
    assert [json.loads(line)["messages"] for line in done.lines] == [100, 5]
    assert names_in(folder / "new") == {"in.parquet", "more.parquet"}
    (folder / "more.fs").write_bytes(b"\0" * 100)
    done = call_flatstream("convert", "in.fs", "more.fs", "new/{name}.csv", *SCHEMA, "--fields", "host", cwd=folder)
    assert done.status == ERROR
    assert done.errors.startswith("flatstream convert: more.fs: ")
    # The others are converted, and each is told.
    paths = ("more.fs", "nothing.fs", "in.fs")
    for options in ([], ["--processes", "2"]):
        done = call_flatstream("convert", *paths, "new", "--to", "jsonl", "--json", *options, *SCHEMA, cwd=folder)
        assert done.status == ERROR
        assert {json.loads(line).get("messages") for line in done.lines} == {None, 100}
        assert {json.loads(line).get("path") for line in done.lines} == {"more.fs", "nothing.fs", None}
        assert done.errors.count("\n") == 2
        (folder / "new" / "in.jsonl").unlink()
    assert names_in(folder / "new") == {"in.parquet", "more.parquet", "in.csv"}


def test_interrupt_of_several_processes_is_one_line(folder: Path) -> None:
    events(folder / "long.fs", EVENT, 200_000)
    (folder / "new").mkdir()
    arguments = ["convert", "long.fs", "in.fs", "new", "--to", "jsonl", "--processes", "2", *SCHEMA]
    process = subprocess.Popen(
        [*script(), *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    # One process has nothing to do, and the other is in the middle.
    while not (folder / "new" / "in.jsonl").exists() or not any("long" in name for name in names_in(folder / "new")):
        assert process.poll() is None
        time.sleep(0.01)
    # As a terminal does: to all processes.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "flatstream convert: interrupted\n")
    assert names_in(folder / "new") == {"in.jsonl"}


def test_plot_tells_damage_and_tells_lines_apart(folder: Path) -> None:
    (folder / "torn.fs").write_bytes((folder / "in.fs").read_bytes()[:-1])
    arguments = ["-f", "load_1", "-f", "load_5,sequence", "--size", "60x16", *SCHEMA]
    whole = call_flatstream("plot", "in.fs", *arguments, cwd=folder)
    assert (whole.status, whole.errors) == (0, "")
    legend = [line for line in whole.lines if "│ " in line]
    for letter, name in zip("abc", ("load_1", "load_5", "sequence"), strict=True):
        assert any(f"{letter} {name}" in line for line in legend), whole.output
    # The legend covers no line.
    assert all("│" not in line.split("││")[-1][20:40] for line in whole.lines[3:6])
    for on_error, text in (("resync", "damaged: 1 place, "), ("stop", "the plot ends at damage: ")):
        done = call_flatstream("plot", "torn.fs", *arguments, "--on-error", on_error, cwd=folder)
        assert (done.status, done.errors.count("\n")) == (DAMAGED, 1)
        assert text in done.errors
        plot = json.loads(
            call_flatstream("plot", "torn.fs", *arguments, "--on-error", on_error, "--json", cwd=folder).output
        )
        assert plot["messages"] == 99
        assert [(line["name"], len(line["y"])) for line in plot["lines"]] == [
            ("load_1", 99), ("load_5", 99), ("sequence", 99),
        ]  # fmt: skip
        assert plot["lines"][2]["y"] == list(range(99))
    bars = call_flatstream("plot", "in.fs", *arguments, "--by", "host", "--percentiles", "50,90", "--json", cwd=folder)
    (bar, *_) = json.loads(bars.output)["bars"]
    assert (len(bar["keys"]), bar["ranks"], len(bar["heights"][0])) == (len(bar["heights"]), [50, 90], 2)
    # By default, the rest is drawn, as cat shows it.
    done = call_flatstream("plot", "torn.fs", *arguments, cwd=folder)
    assert (done.status, len(done.lines)) == (DAMAGED, len(whole.lines))
    assert "damaged: 1 place, " in done.errors
    done = call_flatstream("plot", "torn.fs", *arguments, "--on-error", "raise", cwd=folder)
    assert (done.status, done.output) == (DAMAGED, "")
    assert "--on-error resync" in done.errors


def test_plot_prints_text_and_saves_pictures(folder: Path) -> None:
    done = call_flatstream(
        "plot", "in.fs", "-f", "load_1", "--size", "60x12", *SCHEMA, "--time-field", "wall_time_ns", cwd=folder
    )
    assert (done.status, done.errors) == (0, "")
    assert len(done.lines) == 12
    assert "\x1b" not in done.output
    assert "load_1" in done.lines[0]
    done = call_flatstream(
        "plot",
        "in.fs",
        "-f",
        "load_1,load_5",
        "--by",
        "host",
        "--percentiles",
        "50,90",
        "-o",
        "out.png",
        *SCHEMA,
        cwd=folder,
    )
    assert (done.status, done.output, done.errors) == (0, "in.fs -> out.png: 100 messages\n", "")
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")
    for arguments, status, message in [
        (["in.fs", "-f", "host", *SCHEMA], USAGE, "in.fs: the field 'host'"),
        (["in.fs", "-f", "load_1", "-o", "out.png", *SCHEMA], ERROR, "out.png: File exists"),
        (["in.fs", "-f", "load_1", "--size", "9", *SCHEMA], USAGE, "expected WIDTHxHEIGHT"),
        (["in.fs", "-f", "load_1", "--percentiles", "a", *SCHEMA], USAGE, "expected numbers from 0 to 100"),
        (["in.fs", *SCHEMA], USAGE, "missing option"),
    ]:
        done = call_flatstream("plot", *arguments, cwd=folder)
        assert (done.status, done.errors.count("\n")) == (status, 1), done
        assert message in done.errors


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = call_flatstream("convert", "in.fs", "missing.parquet", *SCHEMA, cwd=folder)
    assert (done.status, done.output) == (ERROR, "")
    assert done.errors == ("flatstream convert: in.fs: Parquet needs pyarrow: pip install 'flatstream[columns]'\n")
    assert not (folder / "missing.parquet").exists()
