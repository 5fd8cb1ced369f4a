"""Folders of journals that are made by hand, so that what reads them is tested without the writer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import flatstream
from flatstream.journal._layout import Manifest, Sealed, segment_path, write_manifest

IDENTITY = "0123456789abcdef" * 2


def payload(number: int) -> bytes:
    """The payload of the frame with this number: 13 bytes."""
    return b"frame%08d" % number


# A frame with a checksum of 8 bytes.
FRAME = 12 + len(payload(0))


def write_segment(folder: Path, first: int, frames: int, checksum: str = "xxhash64") -> Path:
    """Writes a segment with whole frames."""
    path = Path(segment_path(str(folder), first))
    with flatstream.open(path, "w", checksum=checksum) as writer:
        writer.write_payloads([payload(first + at) for at in range(frames)])
    return path


def make_journal(folder: Path, counts: Sequence[int], *, checksum: str = "xxhash64", sealed: int = 0) -> list[Path]:
    """A journal with so many frames in its segments, of which the first `sealed` are in `journal.json`."""
    folder.mkdir(exist_ok=True)
    first, paths, known = 0, [], {}
    for at, frames in enumerate(counts):
        path = write_segment(folder, first, frames, checksum)
        if at < sealed:
            size = path.stat().st_size
            known[path.name] = Sealed(frames, size, first + frames, 1_700_000_000.0, 1_700_000_060.0)
        paths.append(path)
        first += frames
    write_manifest(str(folder), Manifest(IDENTITY, checksum, known))
    return paths


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def damage_frame(path: Path, index: int) -> None:
    """Changes the payload of a frame of a segment that `write_segment` wrote with xxhash64."""
    overwrite(path, index * FRAME + 14, b"\xff\xff")


def tear(path: Path, missing: int = 5) -> None:
    """Takes the last bytes of the last frame away."""
    os.truncate(path, path.stat().st_size - missing)


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of all files, by their paths in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
