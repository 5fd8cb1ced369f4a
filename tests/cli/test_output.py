"""What is printed for people: numbers, times, tables and names that come from files."""

from __future__ import annotations

import io
import json
import re
import time

import pytest

from flatstream.cli import _output
from flatstream.cli._output import (
    Progress,
    count_text,
    duration_text,
    message_of,
    print_table,
    printable,
    size_text,
    time_text,
)
from support.cli import call_flatstream
from support.cli_samples import described, write_events
from support.extent import in_one_test


@in_one_test
@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (9_999, "9,999 bytes"),
        (10_000, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (14_200_000, "14.2 MB"),
        (2**64, "18.4 EB"),
    ],
)
def test_sizes(size, text):
    assert size_text(size) == text


@in_one_test
@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0000015, "1.5 us"),
        (0.25, "250 ms"),
        (4.9, "4.9 s"),
        (59.99, "60 s"),
        (60, "1 min"),
        (605, "10 min 5 s"),
        (3 * 86400 + 4 * 3600 + 59, "3 d 4 h"),
        (-2, "-2 s"),
    ],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text


@in_one_test
@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "1970-01-01T00:00:00Z"),
        (1_767_323_045_123, "ms", "2026-01-02T03:04:05.123Z"),
        (1_767_323_045_000_000_001, "ns", "2026-01-02T03:04:05.000000001Z"),
        (-1, "us", "1969-12-31T23:59:59.999999Z"),
        (2**63, "s", str(2**63)),
    ],
)
def test_times(value, unit, text):
    assert time_text(value, unit) == text


def test_counts():
    assert [count_text(1, "frame"), count_text(12_000, "frame"), count_text(5)] == ["1 frame", "12,000 frames", "5"]


def test_control_characters_are_escaped():
    assert printable("a\x1b[31mb\nc\u202e\udc80") == "a\\x1b[31mb\\nc\\u202e\\udc80"
    assert printable("ä [bold]") == "ä [bold]"


def test_names_and_metadata_of_files_cannot_change_what_a_terminal_shows(tmp_path):
    options = described()
    options["describe"] = options["describe"].with_metadata({"note": "\x1b[2Jred\nnext: line"})
    write_events(tmp_path / "a\x1b[31m[b].fs", 1, **options)
    for terminal in (False, True):
        for short in ([], ["--short"]):
            result = call_flatstream("info", *short, ".", cwd=tmp_path, terminal=terminal)
            assert "\x1b[31m" not in result.output
            assert "\x1b[2J" not in result.output
            assert "\\x1b[31m[b].fs" in result.output
    assert "metadata      note = \\x1b[2Jred\\nnext: line" in call_flatstream("info", ".", cwd=tmp_path).output
    found = json.loads(call_flatstream("info", "--json", ".", cwd=tmp_path).output)
    assert found["description"]["metadata"]["note"] == "\x1b[2Jred\nnext: line"


def test_path_that_is_no_text_can_be_printed(tmp_path):
    name = b"\xff.fs".decode(errors="surrogateescape")
    try:
        write_events(tmp_path / name, 1)
    except OSError:
        pytest.skip("this file system has no such names")
    result = call_flatstream("info", ".", cwd=tmp_path)
    assert (result.status, result.errors) == (0, "")
    assert "\\udcff.fs: a flatstream stream" in result.output
    assert json.loads(call_flatstream("info", "--json", ".", cwd=tmp_path).output)["path"] == f"./{name}"


def test_table_is_aligned_without_a_terminal(capsys):
    print_table(["name", "size"], [["a", 1], ["long name", None], ["b", 1000]], right=["size"])
    assert capsys.readouterr().out == "name       size\na             1\nlong name\nb          1000\n"


def test_table_on_a_wide_terminal_has_the_same_cells(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    write_events(tmp_path / "a.fs")
    result = call_flatstream("info", "--short", "a.fs", cwd=tmp_path, terminal=True)
    plain = re.sub("\x1b\\[[0-9;]*m", "", result.output)
    assert result.output != plain
    assert plain.split() == call_flatstream("info", "--short", "a.fs", cwd=tmp_path).output.split()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_terminals_only_and_for_long_work(monkeypatch):
    for stream, begins, is_shown in ((io.StringIO(), -10, False), (Terminal(), 0, False), (Terminal(), -10, True)):
        with Progress("events.fs", 100, stream) as progress:
            progress._begin = time.monotonic() + begins
            for done in (10, 60, 100):
                progress(done)
        assert ("events.fs" in stream.getvalue()) is is_shown


def test_errors_name_the_file_that_they_are_about():
    assert message_of(FileNotFoundError(2, "No such file", "b"), "a") == "b: No such file"
    assert message_of(OSError(28, "No space left"), "a") == "a: No space left"
    assert message_of(ValueError("wrong"), "a") == "a: wrong"
    assert message_of(ValueError("a: wrong"), "a") == "a: wrong"
    assert message_of(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert _output.message_of(OSError("no number"), "a") == "a: no number"
