"""examples/telemetry_agent.py as it is deployed: signals, restarts, metrics, a disk that is full."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatstream import FlatStreamError
from flatstream.journal import JournalReader, JournalWriter
from support.gated import wait_until
from support.schemas import EXAMPLES

SECONDS = 60


@contextlib.contextmanager
def agent(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running agent, which has opened its journal and written the first events."""
    command = [
        sys.executable, "-W", "error", str(EXAMPLES / "telemetry_agent.py"), "--output", str(folder), "--rate", "200",
        "--sync-seconds", "0.05", *arguments,
    ]  # fmt: skip
    before = frames_in(folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: process.poll() is not None or frames_in(folder) > before)
            yield process
        finally:
            process.kill()


def frames_in(folder: Path) -> int:
    """How many frames the journal has. (A segment has bytes before it has any: its description.)"""
    with contextlib.suppress(FileNotFoundError, FlatStreamError), JournalReader(folder) as reader:
        return sum(len(batch) for batch in reader.batches())
    return 0


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.fs"))


def wait_for_segments(folder: Path, count: int) -> None:
    """Waits until the journal has so many segments, and frames in the last one: without them it would not be left."""
    wait_until(lambda: len(list(folder.glob("*.fs"))) == count)
    size = size_of(folder)
    wait_until(lambda: size_of(folder) > size)


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """What it has printed and logged when it has ended."""
    process.send_signal(number)
    printed, logged = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, printed + logged
    return printed, logged


def numbers_of(folder: Path) -> list[int]:
    """The numbers of the frames. The journal has no gaps."""
    with JournalReader(folder) as reader:
        numbers = [reader.number for _ in reader]
        assert reader.gaps == []
    return numbers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_everything_on_the_disk(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with agent(folder) as process:
        printed, _ = end(process, number)
    assert f"ended      by {number.name}" in printed
    found = re.search(r"events     (\d+) sampled, (\d+) written, 0 lost", printed)
    assert found, printed
    assert numbers_of(folder) == list(range(int(found[1])))
    assert found[1] == found[2]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_sighup_begins_a_segment(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with agent(folder) as process:
        for count in (2, 3):
            process.send_signal(signal.SIGHUP)
            wait_for_segments(folder, count)
        _, logged = end(process, signal.SIGTERM)
    assert logged.count("SIGHUP: began a new segment") == 2
    numbers = numbers_of(folder)
    assert numbers == list(range(len(numbers)))
    assert len(list(folder.glob("*.fs"))) == 3


def test_killed_agent_goes_on_behind_its_last_whole_event(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with agent(folder) as process:
        time.sleep(0.2)
        process.kill()
    count = len(numbers_of(folder))
    # Half an event, as a power cut may leave it.
    last = max(folder.glob("*.fs"))
    with last.open("ab") as file:
        file.write(last.read_bytes()[:100])
    with agent(folder) as process:
        printed, _ = end(process, signal.SIGTERM)
    assert "cut off 100 bytes of an unfinished event" in printed
    assert f"the next event is number {count}\n" in printed
    numbers = numbers_of(folder)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > count


def test_metrics_are_served_while_it_runs(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    with agent(tmp_path / "journal", "--metrics-port", "0") as process:
        assert process.stderr is not None
        logged = ""
        while not (found := re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", logged)):
            logged = process.stderr.readline()
            assert logged, "it does not say where"
        with urllib.request.urlopen(found[1], timeout=SECONDS) as answer:
            text = answer.read().decode()
        end(process, signal.SIGTERM)
    frames = re.search(r'^flatstream_journal_frames_total\{journal="telemetry"\} (\S+)$', text, re.MULTILINE)
    assert frames, text
    assert float(frames[1]) > 0
    assert re.search(r"^telemetry_agent_lateness_seconds_max \d", text, re.MULTILINE), text


def test_old_segments_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with agent(folder, "--segment-mib", "0.02", "--keep-mib", "0.1") as process:
        wait_until(lambda: folder.exists() and not (folder / f"{0:020d}.fs").exists())
        end(process, signal.SIGTERM)
    assert size_of(folder) < 200_000
    with JournalReader(folder) as reader:
        assert sum(1 for _ in reader) > 0


def test_journal_of_another_checksum_or_writer_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with JournalWriter(folder, "crc32") as writer:
        writer.write_payload(b"event")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with agent(folder) as process:
        _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "has the checksum 'crc32'" in told
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with JournalWriter(folder, "crc32"), agent(folder, "--checksum", "crc32") as process:
        _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert f"(pid {os.getpid()})" in told or str(os.getpid()) in told


def test_unit_file_names_options_that_exist() -> None:
    unit = (EXAMPLES / "telemetry_agent.service").read_text()
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "telemetry_agent.py"), "--help"], capture_output=True, text=True, check=True
    )
    options = set(re.findall(r"--[a-z-]+", unit.split("ExecStart=")[1].split("\n\n")[0].split("ExecReload")[0]))
    assert options
    assert options <= set(re.findall(r"--[a-z-]+", done.stdout))
