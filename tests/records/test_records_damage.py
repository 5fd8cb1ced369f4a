"""Records of a damaged stream."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from flatstream import (
    ChecksumMismatchError,
    FlatbufferError,
    InvalidFrameError,
    StreamReader,
    UnexpectedEofError,
    ValidationFailedError,
)
from support.messages import numbered_messages
from support.modes import MODES
from support.schemas import SHAPES
from support.streams import Corpus, corpus, flip

CRC32 = MODES["crc32"]
LEVEL1 = SHAPES.table("shapes.Level1")
NO_TABLE = b"\xff" * 12


def with_length(stream: Corpus, frame: int, length: int) -> bytes:
    start = stream.starts[frame]
    return stream.data[:start] + length.to_bytes(4, "little") + stream.data[start + 4 :]


def values(reader: StreamReader, **options: Any) -> list[int]:
    return [record.value for record in reader.records(LEVEL1, **options)]


def damaged_stream() -> tuple[Corpus, bytes]:
    """Messages 5 and 6 are no tables; frames 2, 9 and 10 have a wrong bit, and the last is torn."""
    payloads = numbered_messages(20)
    payloads[5] = payloads[6] = NO_TABLE
    stream = corpus(CRC32, payloads)
    data = flip(
        flip(flip(stream.data, 8 * stream.starts[2] + 50), 8 * stream.starts[9] + 40), 8 * stream.starts[10] + 60
    )
    return stream, data


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("on_error", ["skip", "resync"])
@pytest.mark.parametrize("per_call", [True, False])
def test_damaged_messages_and_frames_are_left_out_and_told(verify: bool, on_error: Any, per_call: bool) -> None:
    stream, data = damaged_stream()
    for source in (data, io.BytesIO(data)):
        reader = StreamReader(source, CRC32.deframer(), on_error="raise" if per_call else on_error, capacity=100)
        options = {"on_error": on_error} if per_call else {}
        assert values(reader, verify=verify, **options) == [n for n in range(20) if n not in (2, 5, 6, 9, 10)]
        assert reader.lost_ranges == [
            (stream.starts[2], stream.ends[2]),
            (stream.starts[5], stream.ends[6]),
            (stream.starts[9], stream.ends[10]),
        ]
        assert reader.lost_bytes == sum(end - start for start, end in reader.lost_ranges)
        assert reader.skipped in (4, 5)


def test_resync_goes_on_behind_wrong_lengths_and_ends_before_a_torn_tail() -> None:
    stream = corpus(CRC32, numbered_messages(20))
    data = with_length(stream, 7, 1 << 30)[:-2]
    reader = StreamReader(data, CRC32.deframer())
    assert values(reader, on_error="resync") == [n for n in range(19) if n != 7]
    assert reader.lost_ranges == [(stream.starts[7], stream.ends[7]), (stream.starts[19], len(data))]


def damages(stream: Corpus, frame: int) -> Iterator[tuple[bytes, type[Exception], bool]]:
    yield flip(stream.data, 8 * stream.ends[frame] - 1), ChecksumMismatchError, True
    yield with_length(stream, frame, 0xFFFFFFFF), InvalidFrameError, True
    yield stream.data[: stream.ends[frame] - 1], UnexpectedEofError, True
    payloads = [*stream.payloads[:frame], NO_TABLE, *stream.payloads[frame + 1 :]]
    yield corpus(CRC32, payloads).data, ValidationFailedError, True
    yield corpus(CRC32, payloads).data, FlatbufferError, False


@pytest.mark.parametrize("frame", [0, 7, 19])
def test_stop_ends_at_the_first_damage(frame: int) -> None:
    stream = corpus(CRC32, numbered_messages(20))
    for data, error, verify in damages(stream, frame):
        reader = StreamReader(data, CRC32.deframer(), on_error="stop")
        records = reader.records(LEVEL1, verify=verify)
        assert [record.value for record in records] == list(range(frame))
        assert type(reader.stop_error) is error
        assert (reader.stop_error.offset, reader.stop_error.frame) == (stream.starts[frame], frame)
        assert next(records, None) is None
        # The reader stands before it.
        assert (reader.offset, reader.frames_read) == (stream.starts[frame], frame)
        assert values(reader, on_error="resync", verify=verify) == (
            list(range(frame + 1, 20)) if error is not UnexpectedEofError else []
        )


def test_raise_is_the_default_and_goes_on_behind_each_error() -> None:
    _, data = damaged_stream()
    records = StreamReader(data, CRC32.deframer()).records(LEVEL1)
    found: list[Any] = []
    while True:
        try:
            record = next(records, None)
        except (ChecksumMismatchError, ValidationFailedError) as error:
            found.append(type(error))
            continue
        if record is None:
            break
        found.append(record.value)
    assert [each for each in found if isinstance(each, type)] == [
        ChecksumMismatchError,
        ValidationFailedError,
        ValidationFailedError,
        ChecksumMismatchError,
        ChecksumMismatchError,
    ]
    assert len(found) == 20


def test_wrong_on_error_is_refused() -> None:
    with pytest.raises(ValueError, match="on_error must be 'raise', 'skip', 'stop' or 'resync', got 'ignore'"):
        StreamReader(b"").records(LEVEL1, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_error must be 'raise', 'skip', 'stop' or 'resync', got 5"):
        LEVEL1.read_records(StreamReader(b""), on_error=5)  # type: ignore[arg-type]
