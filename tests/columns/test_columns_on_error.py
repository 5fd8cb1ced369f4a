"""Columns of a damaged stream: the rows that are intact, and an account of what is not."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from flatstream import (
    ChecksumMismatchError,
    ColumnBatch,
    ColumnStream,
    FlatbufferError,
    InvalidFrameError,
    StreamReader,
    UnexpectedEofError,
)
from support.alarms import Alarm
from support.columns import LEVEL1
from support.extent import in_one_test
from support.messages import numbered_messages
from support.modes import MODES
from support.sources import CutSource
from support.streams import Corpus, corpus, flip

CRC32 = MODES["crc32"]
NO_TABLE = b"\xff" * 12


def with_length(stream: Corpus, frame: int, length: int) -> bytes:
    start = stream.starts[frame]
    return stream.data[:start] + length.to_bytes(4, "little") + stream.data[start + 4 :]


def ranges(stream: Corpus, *lost: int) -> list[tuple[int, int]]:
    return [(stream.starts[frame], stream.ends[frame]) for frame in lost]


def sources_of(data: bytes) -> Iterator[Any]:
    yield data
    yield io.BytesIO(data)
    yield CutSource(data, range(0, len(data), 11))


def values(batch: ColumnBatch) -> list[int]:
    return batch["value"].to_pylist()


def told(batches: list[ColumnBatch]) -> list[int]:
    """Each byte that the batches say is lost."""
    for batch in batches:
        assert batch.lost_bytes == sum(end - start for start, end in batch.lost_ranges)
    return [place for batch in batches for start, end in batch.lost_ranges for place in range(start, end)]


# resync


@in_one_test(step=2)
@pytest.mark.parametrize("name", ["crc16", "crc32", "crc64", "xxhash64"])
@pytest.mark.parametrize("bit", [0, 3, 9, 14, 20, 30, 31, 37])
def test_damaged_frame_costs_its_own_row_only(name: str, bit: int) -> None:
    mode = MODES[name]
    stream = corpus(mode, numbered_messages(300))
    for frame in (0, 100, 299):
        data = flip(stream.data, 8 * stream.starts[frame] + bit)
        for source in sources_of(data):
            batch = StreamReader(source, mode.deframer()).columns(LEVEL1, ["value"], on_error="resync")
            assert values(batch) == [number for number in range(300) if number != frame]
            assert (batch.skipped, batch.lost_ranges) == (1, ranges(stream, frame))
            assert batch.lost_bytes == stream.ends[frame] - stream.starts[frame]
            assert batch.stop_error is None


@in_one_test
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("where", [None, ("value", 20, 250)])
@pytest.mark.parametrize("batch_rows", [1, 7, 100, None])
def test_batches_tell_what_was_lost_since_the_batch_before(verify: bool, where: Any, batch_rows: int | None) -> None:
    payloads = numbered_messages(300)
    bad_messages = (5, 6, 77, 150, 299)
    for frame in bad_messages:
        payloads[frame] = NO_TABLE
    stream = corpus(CRC32, payloads)
    bad_frames = (0, 7, 78, 79, 200)
    data = stream.data
    for frame, bit in zip(bad_frames, (9, 40, 30, 60, 14), strict=True):
        data = flip(data, 8 * stream.starts[frame] + bit)
    lost = sorted({*bad_messages, *bad_frames})
    low, high = where[1:] if where else (0, 300)
    for source in sources_of(data):
        batches = StreamReader(source, CRC32.deframer()).column_batches(
            LEVEL1, ["value"], where, on_error="resync", verify=verify, batch_rows=batch_rows
        )
        assert isinstance(batches, ColumnStream)
        found = list(batches)
        rows = [value for batch in found for value in values(batch)]
        assert rows == [number for number in range(300) if number not in lost and low <= number < high]
        expected = [place for frame in lost for place in range(stream.starts[frame], stream.ends[frame])]
        assert told(found) == expected
        assert sum(batch.skipped for batch in found) == batches.skipped <= len(lost)
        assert batches.lost_bytes == len(expected)
        assert batches.lost_ranges == [
            *ranges(stream, 0),
            (stream.starts[5], stream.ends[7]),
            (stream.starts[77], stream.ends[79]),
            *ranges(stream, 150, 200, 299),
        ]


def test_reader_stream_and_batch_agree() -> None:
    payloads = numbered_messages(50)
    payloads[10] = NO_TABLE
    stream = corpus(CRC32, payloads)
    data = flip(flip(stream.data, 8 * stream.starts[20] + 9), 8 * stream.starts[30] + 50)
    reader = StreamReader(data, CRC32.deframer(), on_error="resync")
    batch = reader.columns(LEVEL1, ["value"])
    assert (batch.skipped, batch.lost_bytes, batch.lost_ranges) == (3, reader.lost_bytes, ranges(stream, 10, 20, 30))
    assert (reader.skipped, reader.lost_ranges) == (3, batch.lost_ranges)


def test_columns_begin_a_new_account_where_reading_goes_on() -> None:
    stream = corpus(CRC32, numbered_messages(50))
    data = stream.data
    for frame in (3, 4, 30):
        data = flip(data, 8 * stream.ends[frame] - 1)
    reader = StreamReader(data, CRC32.deframer(), on_error="skip")
    for _ in range(4):
        reader.read_message()
    batch = reader.columns(LEVEL1, ["value"])
    assert (batch.skipped, batch.lost_ranges) == (1, ranges(stream, 30))
    assert reader.skipped == 3


def test_torn_and_zeroed_tails_are_lost_ranges_behind_the_rows() -> None:
    stream = corpus(CRC32, numbered_messages(20))
    for data in (stream.data[:-1], stream.data[: stream.starts[19] + 3], stream.data[: stream.starts[19]] + bytes(999)):
        for source in sources_of(data):
            batch = StreamReader(source, CRC32.deframer(), on_error="resync").columns(LEVEL1, ["value"])
            assert values(batch) == list(range(19))
            assert batch.lost_ranges == [(stream.starts[19], len(data))]


def test_random_damage_gives_exactly_the_rows_whose_frames_are_intact() -> None:
    rng = random.Random(11)
    stream = corpus(CRC32, numbered_messages(400))
    for _ in range(60):
        data = bytearray(stream.data)
        hit: set[int] = set()
        for _ in range(rng.randrange(1, 9)):
            begin = rng.randrange(len(data))
            end = min(len(data), begin + rng.choice([1, 1, 1, 40, 512]))
            data[begin:end] = rng.choice([bytes(end - begin), rng.randbytes(end - begin)])
        hit = {
            number
            for number, (start, end) in enumerate(zip(stream.starts, stream.ends, strict=True))
            if data[start:end] != stream.data[start:end]
        }
        batches = list(
            StreamReader(bytes(data), CRC32.deframer(), on_error="resync").column_batches(
                LEVEL1, ["value"], batch_rows=rng.choice([1, 50, 65536])
            )
        )
        assert [value for batch in batches for value in values(batch)] == [n for n in range(400) if n not in hit]
        assert set(told(batches)) == {
            place for number in hit for place in range(stream.starts[number], stream.ends[number])
        }


# skip and stop


def test_skip_still_raises_where_the_position_is_lost() -> None:
    stream = corpus(CRC32, numbered_messages(20))
    for data, error in (
        (with_length(stream, 7, 1 << 30), UnexpectedEofError),
        (with_length(stream, 7, 0xFFFFFFFF), InvalidFrameError),
    ):
        batches = StreamReader(data, CRC32.deframer()).column_batches(LEVEL1, ["value"], on_error="skip")
        assert values(next(batches)) == list(range(7))
        with pytest.raises(error):
            next(batches)


def damages(stream: Corpus, frame: int) -> Iterator[tuple[bytes, type[Exception]]]:
    yield flip(stream.data, 8 * stream.ends[frame] - 1), ChecksumMismatchError
    yield with_length(stream, frame, 0xFFFFFFFF), InvalidFrameError
    yield with_length(stream, frame, 0), InvalidFrameError
    yield stream.data[: stream.ends[frame] - 1], UnexpectedEofError
    payloads = [*stream.payloads[:frame], NO_TABLE, *stream.payloads[frame + 1 :]]
    yield corpus(CRC32, payloads).data, FlatbufferError


@in_one_test
@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("frame", [0, 7, 19])
def test_stop_keeps_the_rows_before_the_damage(frame: int, verify: bool) -> None:
    stream = corpus(CRC32, numbered_messages(20))
    for data, error in damages(stream, frame):
        for source in sources_of(data):
            batch = StreamReader(source, CRC32.deframer()).columns(LEVEL1, ["value"], on_error="stop", verify=verify)
            assert values(batch) == list(range(frame))
            assert type(batch.stop_error) is error
            assert (batch.stop_error.offset, batch.stop_error.frame) == (stream.starts[frame], frame)
            assert (batch.skipped, batch.lost_ranges) == (0, [])
        for source in sources_of(data):
            reader = StreamReader(source, CRC32.deframer(), on_error="stop")
            batches = reader.column_batches(LEVEL1, ["value"], batch_rows=3, verify=verify)
            assert [value for each in batches for value in values(each)] == list(range(frame))
            assert next(batches, None) is None
            assert type(batches.stop_error) is type(reader.stop_error) is error


@pytest.mark.parametrize("batch_rows", [1, 3, 65536])
def test_reader_stands_before_the_damage_where_columns_stopped(batch_rows: int) -> None:
    stream = corpus(CRC32, numbered_messages(20))
    for frame in (0, 7, 19):
        for data, error in damages(stream, frame):
            for source in sources_of(data):
                reader = StreamReader(source, CRC32.deframer())
                batches = reader.column_batches(LEVEL1, ["value"], on_error="stop", batch_rows=batch_rows)
                assert sum(batch.num_rows for batch in batches) == frame
                assert (reader.offset, reader.frames_read) == (stream.starts[frame], frame)
                assert reader.bytes_read == stream.starts[frame]
                rest = reader.columns(LEVEL1, ["value"], on_error="resync")
                assert values(rest) == (list(range(frame + 1, 20)) if error is not UnexpectedEofError else [])


def test_call_wins_over_the_reader() -> None:
    stream = corpus(CRC32, numbered_messages(20))
    data = flip(stream.data, 8 * stream.ends[7] - 1)
    for own in ("skip", "stop", "resync"):
        reader = StreamReader(data, CRC32.deframer(), on_error=own)
        with pytest.raises(ChecksumMismatchError):
            reader.columns(LEVEL1, ["value"], on_error="raise")
    reader = StreamReader(data, CRC32.deframer(), on_error="stop")
    assert values(reader.columns(LEVEL1, ["value"], on_error="skip")) == [n for n in range(20) if n != 7]


def test_empty_messages_are_left_out_of_columns() -> None:
    payloads = numbered_messages(20)
    payloads[4] = payloads[5] = b""
    for name in ("none", "crc32"):
        stream = corpus(MODES[name], payloads)
        for on_error in ("skip", "resync"):
            batch = StreamReader(stream.data, MODES[name].deframer()).columns(LEVEL1, ["value"], on_error=on_error)
            assert values(batch) == [n for n in range(20) if n not in (4, 5)]
            assert batch.lost_ranges == [(stream.starts[4], stream.ends[5])]


# The end of a stream of columns


def test_stream_that_was_read_to_its_end_refuses_to_be_exported() -> None:
    data = corpus(CRC32, numbered_messages(20)).data
    batches = StreamReader(data, CRC32.deframer()).column_batches(LEVEL1, ["value"], batch_rows=5)
    # One that was read in part gives the rest.
    assert values(next(batches)) == list(range(5))
    assert pa.table(batches)["value"].to_pylist() == list(range(5, 20))
    for _ in range(2):
        with pytest.raises(ValueError, match="was read to its end"):
            pa.table(batches)
    # Read by iteration.
    batches = StreamReader(data, CRC32.deframer()).column_batches(LEVEL1, ["value"])
    assert len(list(batches)) == 1
    with pytest.raises(ValueError, match="was read to its end"):
        batches.__arrow_c_stream__()
    assert batches.schema.names == ("value",)
    # An empty one is read to its end by the first reading only.
    batches = StreamReader(b"", CRC32.deframer()).column_batches(LEVEL1, ["value"])
    assert pa.table(batches).num_rows == 0
    with pytest.raises(ValueError, match="was read to its end"):
        pa.table(batches)


def test_stream_that_gives_rows_again_can_be_exported_again(tmp_path: Any) -> None:
    path = tmp_path / "growing.fs"
    stream = corpus(CRC32, numbered_messages(20))
    path.write_bytes(stream.data[: stream.starts[10]])
    with open(path, "rb", buffering=0) as file, open(path, "ab", buffering=0) as sink:
        batches = StreamReader(file, CRC32.deframer()).column_batches(LEVEL1, ["value"])
        assert [values(batch) for batch in batches] == [list(range(10))]
        sink.write(stream.data[stream.starts[10] : stream.starts[15]])
        assert values(next(batches)) == list(range(10, 15))
        sink.write(stream.data[stream.starts[15] :])
        assert pa.table(batches)["value"].to_pylist() == list(range(15, 20))


# Signals


def test_signal_while_columns_are_read_loses_no_row() -> None:
    stream = corpus(CRC32, numbered_messages(500))
    damaged = bytearray(stream.data)
    for frame in range(3, 500, 7):
        damaged[stream.starts[frame] + 1] ^= 0x40
    data = bytes(damaged) * 40
    expected = [number for _ in range(40) for number in range(500) if number % 7 != 3]

    found: list[ColumnBatch] = []
    batches = StreamReader(data, CRC32.deframer(), on_error="resync").column_batches(LEVEL1, ["value"])
    with Alarm() as alarm:
        # Between the reading of a batch and its end in the list, no signal is looked at: in a statement like
        # `batch = next(batches)` a handler may raise before the result is stored.
        interruptions = sum(alarm.strike(lambda: found.extend(batches), 0.01) for _ in range(5))
    # The rest is read without a signal.
    found.extend(batches)
    assert interruptions
    assert [value for batch in found for value in values(batch)] == expected
    assert sum(len(batch.lost_ranges) for batch in found) == 40 * 71


def test_handler_that_raises_while_a_batch_is_made_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # The rows have left the reader then.
    stream = corpus(CRC32, numbered_messages(10))
    make = ColumnBatch.__init__
    struck: list[int] = []

    def strike(*arguments: Any) -> None:
        if len(struck) < 2:
            struck.append(1)
            raise KeyboardInterrupt
        make(*arguments)

    monkeypatch.setattr(ColumnBatch, "__init__", strike)
    data = flip(stream.data, 8 * stream.ends[4] - 1)
    batches = StreamReader(data, CRC32.deframer(), on_error="skip").column_batches(LEVEL1, ["value"])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    assert batches.skipped == 1
    batch = next(batches)
    assert values(batch) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert (batch.skipped, batch.lost_ranges) == (1, ranges(stream, 4))
    assert next(batches, None) is None


def test_rows_of_a_batch_that_could_not_be_made_can_be_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    def strike(*_: Any) -> None:
        raise KeyboardInterrupt

    stream = corpus(CRC32, numbered_messages(10))
    batches = StreamReader(stream.data, CRC32.deframer()).column_batches(LEVEL1, ["value"])
    with monkeypatch.context() as patch:
        patch.setattr(ColumnBatch, "__init__", strike)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    assert pa.table(batches)["value"].to_pylist() == list(range(10))
