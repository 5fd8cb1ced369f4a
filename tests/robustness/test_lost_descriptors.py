"""An exception of a signal handler between the opening of a file and what is done with it loses no descriptor: one that
nobody knows would hold its lock for as long as the process lives.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flatstream
from flatstream import StreamWriter, _files, _lock
from flatstream._sealing import seal
from flatstream.journal import JournalReader, JournalWriter
from support.extent import EVERYTHING
from support.interrupts import Interrupted, Interruption

FILES = (
    "flatstream/_files.py",
    "flatstream/_lock.py",
    "flatstream/_sealing.py",
    "flatstream/_startup.py",
    "flatstream/writer.py",
    "journal/_layout.py",
    "journal/_segment_files.py",
    "journal/_segments.py",
    "journal/writer.py",
)

pytestmark = [
    # In a finalizer, the exception is swallowed.
    pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are listed by /proc"),
]


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # That of the listing.
            continue
    return found


def write_and_sync(path: Path) -> None:
    with flatstream.open(str(path), "a") as writer:
        writer.write_payload(b"abc")
        writer.sync()


def append_behind_torn_frame(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\x09\x00\x00\x00torn")
    flatstream.open(str(path), "a", recover=True).close()


def write_journal(path: Path) -> None:
    with JournalWriter(str(path.with_name("journal")), checksum="crc32") as writer:
        writer.write_payload(b"abc")
        writer.rotate()
        writer.sync()


def read_journal(path: Path) -> None:
    with JournalReader(str(path.with_name("journal")), name="reader") as reader:
        list(reader)
        reader.commit()


OPENERS: dict[str, Callable[[Path], object]] = {
    # Paths as str: an `Interruption` passes over calls that call functions of Python, as that of a Path is.
    "append": lambda path: _lock.open_for_writing(str(str(path)), "ab").close(),
    "empty": lambda path: _lock.open_for_writing(str(str(path)), "wb").close(),
    "make": lambda path: _lock.open_for_writing(str(path.with_name("new")), "xb").close(),
    "read": lambda path: _files.open_regular(str(path)).close(),
    "ask": lambda path: _lock.who_writes(str(path)),
    "sync": write_and_sync,
    "torn": append_behind_torn_frame,
    "seal": lambda path: seal(str(path)),
    "journal": write_journal,
    "reader": read_journal,
}


def points() -> Iterator[int]:
    at = 0
    while True:
        at += 1 if EVERYTHING or at < 30 else 11 + at % 4
        yield at


@pytest.mark.parametrize("name", OPENERS)
def test_an_exception_of_a_handler_loses_no_descriptor(name: str, tmp_path: Path) -> None:
    # What is loaded, and kept open, at the first time.
    (tmp_path / "0").mkdir()
    run(name, tmp_path / "0", Interruption(1 << 60, FILES))
    for at in points():
        folder = tmp_path / str(at)
        folder.mkdir()
        interruption = Interruption(at, FILES)
        before = descriptors()
        run(name, folder, interruption)
        if descriptors() != before:
            # A journal that was half made refers to itself.
            gc.collect()
        assert descriptors() == before, interruption.place
        if interruption.place is None:
            break
    assert at > 3


def run(name: str, folder: Path, interruption: Interruption) -> None:
    path = folder / "events.fs"
    with StreamWriter(str(path)) as writer:
        writer.write_payload(b"abc")
    if name == "reader":
        write_journal(path)
    with contextlib.suppress(Interrupted), interruption.armed():
        OPENERS[name](path)
