"""Compressed segments of journals: made by a writer, or by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flatstream.framing import deframer_for
from flatstream.journal import CompressionPolicy, JournalWriter
from flatstream.journal._compression import Compressor
from flatstream.journal._layout import read_manifest, segment_path, write_manifest
from support.sealed import sealed, zstd

LIMIT = 60.0


def wait_until_compressed(writer: JournalWriter) -> None:
    """Waits until the thread of a writer has sealed what ended, and has nothing to compress; or never will."""
    compressor = writer._compressor
    assert compressor is not None
    deadline = time.monotonic() + LIMIT

    def is_done() -> bool:
        manifest = compressor._manifest
        known = {name for name, one in manifest.sealed.copy().items() if one.frames and not one.damaged}
        return not writer._segments.ended and known <= {*manifest.compressed.copy(), *compressor._left_alone}

    # The last one's plain file is removed behind the work.
    while not writer.is_refusing and not (is_done() and compressor._work is None):
        if compressor.problem is not None:
            raise OSError(compressor.problem)
        assert time.monotonic() < deadline, "the segments are not compressed"
        time.sleep(0.001)


def compress_by_hand(path: Path, *, block: int = 1000) -> Path:
    """Puts a compressed segment, whose blocks end anywhere, in the place of a plain one."""
    data = path.read_bytes()
    new = path.with_name(path.name + ".zst")
    new.write_bytes(sealed([data[at : at + block] for at in range(0, len(data), block)] or [b""]))
    path.unlink()
    return new


def compressor_of(folder: Path, policy: CompressionPolicy | None = None, checksum: str = "xxhash64") -> Compressor:
    """What compresses the segments of a journal that nobody writes. The test calls it, and not a thread."""
    manifest = read_manifest(str(folder))
    assert manifest is not None

    def tell(level: int, text: str, *arguments: Any) -> None:
        assert text % arguments

    return Compressor(str(folder), policy or CompressionPolicy(), manifest, deframer_for(checksum), tell)


def finish(compressor: Compressor, after_step: Callable[[], object] = lambda: None) -> None:
    """Does all that there is to do, step by step."""
    while compressor.seconds_until_work() == 0:
        compressor._step()
        after_step()


def files_of(folder: Path) -> list[str]:
    """The names of all files that are segments, or parts of one."""
    return sorted(path.name for path in folder.iterdir() if ".fs" in path.name)


def plain(folder: Path, first: int) -> Path:
    return Path(segment_path(str(folder), first))


def note_compressed(folder: Path) -> None:
    """Has `journal.json` know the sizes of the compressed segments, as a writer notes them."""
    manifest = read_manifest(str(folder))
    assert manifest is not None
    for path in folder.iterdir():
        name = path.name.removesuffix(".zst")
        known = manifest.sealed.get(name)
        # One that has another size than it was sealed with is read again.
        if name != path.name and known is not None and len(zstd.decompress(path.read_bytes())) == known.bytes:
            manifest.compressed[name] = path.stat().st_size
    write_manifest(str(folder), manifest)
