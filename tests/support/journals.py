"""Journals: what is in their segments, read by the segments' names and nothing else of the journal's code."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream.journal import _segments

SEGMENT = re.compile(r"(\d{20})\.fs")


def segments_of(directory: Path) -> dict[int, Path]:
    """The segments of a journal by the numbers of their first frames, in order."""
    found = {}
    for path in sorted(directory.iterdir()):
        if match := SEGMENT.fullmatch(path.name):
            found[int(match[1])] = path
    return found


def frames_of(directory: Path, checksum: str = "xxhash64") -> dict[int, bytes]:
    """The payloads of a journal without damage, by number. Every segment is read as a plain stream."""
    found: dict[int, bytes] = {}
    for first, path in segments_of(directory).items():
        with flatstream.open(path, checksum=checksum, allow_empty=False) as reader:
            for index, payload in enumerate(reader):
                assert first + index not in found, f"two frames have the number {first + index}"
                found[first + index] = bytes(payload)
    return found


@contextlib.contextmanager
def failing_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Has the writes of journals go to a disk of which the test says how many bytes it takes."""
    disk = Disk()
    with monkeypatch.context() as patch:
        patch.setattr(_segments, "os", disk)
        patch.setattr(_segments, "fdatasync", disk.fdatasync)
        yield disk


class Disk:
    """The module `os`, with writes that take at most `room` bytes in all and then fail with `number`."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.number = errno.ENOSPC
        # How often fdatasync is to fail, and how often it was called.
        self.failing_syncs = 0
        self.syncs = 0
        self.on_sync: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: Any) -> int:
        return self._write(descriptor, memoryview(data))

    def writev(self, descriptor: int, pieces: Any) -> int:
        return self._write(descriptor, memoryview(b"".join(pieces)))

    def _write(self, descriptor: int, view: memoryview) -> int:
        if self.room is None:
            return os.write(descriptor, view)
        if not self.room:
            raise OSError(self.number, os.strerror(self.number))
        taken = os.write(descriptor, view[: self.room])
        self.room -= taken
        return taken

    def fdatasync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.on_sync is not None:
            self.on_sync()
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(descriptor)
