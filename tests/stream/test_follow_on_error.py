"""A reader that follows a file and leaves damaged frames out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import StreamReader
from reference import framing as reference
from support.errors import raised_by
from support.streams import next_message

GOOD = [reference.encode([payload], "crc32") for payload in (b"first", b"second", b"third")]
DAMAGED = GOOD[1][:-1] + b"\xff"
# What a writer has reserved, and not written yet.
STREAM = GOOD[0] + DAMAGED + GOOD[1] + DAMAGED + GOOD[2] + bytes(40)
LOST = [(len(GOOD[0]), len(GOOD[0] + DAMAGED)), (len(GOOD[0] + DAMAGED + GOOD[1]), len(STREAM) - 40 - len(GOOD[2]))]


def follow(folder: Path, **options: Any) -> StreamReader:
    path = folder / "events.fs"
    path.write_bytes(STREAM)
    return flatstream.open(path, checksum="crc32", follow=True, **options)


def test_damaged_frames_are_left_out_and_the_end_is_waited_at(tmp_path: Path) -> None:
    with follow(tmp_path, on_error="skip") as reader:
        assert [next_message(reader) for _ in range(3)] == [b"first", b"second", b"third"]
        assert isinstance(raised_by(lambda: reader.read_message(timeout=0.05)), TimeoutError)
        assert (reader.skipped, reader.lost_ranges) == (2, LOST)


def test_batches_tell_what_was_left_out_before_them(tmp_path: Path) -> None:
    with follow(tmp_path) as reader:
        batches = [reader.read_batch(on_error="skip") for _ in range(3)]
    assert [([bytes(each) for each in batch or ()], batch.skipped if batch else 0) for batch in batches] == [
        ([b"first"], 0),
        ([b"second"], 1),
        ([b"third"], 1),
    ]


@pytest.mark.parametrize("on_error", ["stop", "resync"])
def test_what_needs_an_end_is_refused(on_error: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='on_error must be "raise" or "skip", got'):
        follow(tmp_path, on_error=on_error)
    with follow(tmp_path) as reader:
        with pytest.raises(ValueError, match='takes on_error="raise" or "skip"'):
            reader.read_batch(on_error=on_error)
        assert next_message(reader) == b"first"
