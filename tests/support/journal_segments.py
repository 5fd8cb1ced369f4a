"""Journals whose segments the tests make by hand, so that their content is known byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flatstream.journal import JournalReader
from flatstream.journal._layout import segment_path
from reference import framing as reference

PAYLOADS = [b"message %05d" % number for number in range(60)]


def make_segments(folder: Path, payloads: Sequence[bytes], sizes: Iterable[int], mode: str = "crc32") -> list[Path]:
    """Writes segments with so many frames each; the last one gets the rest. Returns their paths."""
    paths, first = [], 0
    for size in [*sizes, len(payloads)]:
        frames = payloads[first : first + size]
        paths.append(make_segment(folder, first, frames, mode))
        first += len(frames)
    return paths


def make_segment(folder: Path, first: int, payloads: Iterable[bytes], mode: str = "crc32") -> Path:
    """Writes one segment."""
    folder.mkdir(exist_ok=True)
    path = Path(segment_path(str(folder), first))
    path.write_bytes(reference.encode(list(payloads), mode))
    return path


def add_frames(path: Path, payloads: Iterable[bytes], mode: str = "crc32") -> None:
    with path.open("ab", buffering=0) as file:
        file.write(reference.encode(list(payloads), mode))


def numbered(reader: JournalReader) -> list[tuple[int, bytes]]:
    """All frames with their numbers."""
    return [(reader.number, bytes(payload)) for payload in reader]
