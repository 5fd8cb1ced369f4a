"""What reading does at damage, as it was told: raise, skip, stop; for a reader, and for one call."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flatstream import (
    ChecksumMismatchError,
    DefaultDeframer,
    FlatStreamError,
    InvalidFrameError,
    SizeValidator,
    StreamReader,
    UnexpectedEofError,
    ValidationFailedError,
)
from flatstream import open as open_stream
from reference import framing as reference
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES, Mode, every_mode
from support.sources import CutSource
from support.streams import Corpus, corpus, flip

CRC32 = MODES["crc32"]

Way = Callable[..., list[bytes]]


class Text:
    """What typed reading makes of a payload."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    @classmethod
    def from_payload(cls, payload: memoryview) -> Text:
        return cls(bytes(payload))


def by_iterator(reader: StreamReader, **options: Any) -> list[bytes]:
    return [bytes(payload) for payload in reader.messages(**options)]


def by_call(reader: StreamReader, **options: Any) -> list[bytes]:
    found: list[bytes] = []
    assert reader.process_all(lambda payload: found.append(bytes(payload)), **options) == len(found)
    return found


def by_batch(reader: StreamReader, **options: Any) -> list[bytes]:
    return [bytes(payload) for batch in reader.batches(**options) for payload in batch]


def by_single_batch(reader: StreamReader, **options: Any) -> list[bytes]:
    found: list[bytes] = []
    while (batch := reader.read_batch(2, **options)) is not None:
        found += map(bytes, batch)
    return found


def by_type(reader: StreamReader, **options: Any) -> list[bytes]:
    return [each.payload for each in reader.typed_messages(Text, **options)]


def by_typed_call(reader: StreamReader, **options: Any) -> list[bytes]:
    found: list[bytes] = []
    reader.process_typed(Text, lambda each: found.append(each.payload), **options)
    return found


def by_typed_call_with_payload(reader: StreamReader, **options: Any) -> list[bytes]:
    found: list[bytes] = []
    reader.process_typed_with_payload(Text, lambda each, payload: found.append(bytes(payload)), **options)
    return found


WAYS = [by_iterator, by_call, by_batch, by_single_batch, by_type, by_typed_call, by_typed_call_with_payload]

every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
protected = pytest.mark.parametrize("mode", [pytest.param(MODES[name], id=name) for name in MODES if name != "none"])


def messages(count: int) -> list[bytes]:
    return [flatbuffer_of_event(number) for number in range(count)]


def without(stream: Corpus, *lost: int) -> list[bytes]:
    return [payload for number, payload in enumerate(stream.payloads) if number not in lost]


def ranges(stream: Corpus, *lost: int) -> list[tuple[int, int]]:
    return [(stream.starts[frame], stream.ends[frame]) for frame in lost]


def sources_of(data: bytes) -> Iterator[Any]:
    yield data
    yield io.BytesIO(data)
    yield CutSource(data, range(0, len(data), 11))


def with_length(stream: Corpus, frame: int, length: int) -> bytes:
    start = stream.starts[frame]
    return stream.data[:start] + length.to_bytes(4, "little") + stream.data[start + 4 :]


# skip


@in_one_test
@every_way
@protected
def test_skip_leaves_out_what_a_checksum_refuses(mode: Mode, way: Way) -> None:
    stream = corpus(mode, messages(12))
    data = stream.data
    for frame in (0, 4, 5, 11):
        data = flip(data, 8 * (stream.ends[frame] - 3))
    expected = [*ranges(stream, 0), (stream.starts[4], stream.ends[5]), *ranges(stream, 11)]
    for source in sources_of(data):
        reader = StreamReader(source, mode.deframer(), on_error="skip", capacity=64)
        assert way(reader) == without(stream, 0, 4, 5, 11)
        assert (reader.skipped, reader.lost_ranges) == (4, expected)
        assert reader.lost_bytes == sum(end - start for start, end in expected)
        # For one call.
    for source in sources_of(data):
        reader = StreamReader(source, mode.deframer(), capacity=64)
        assert way(reader, on_error="skip") == without(stream, 0, 4, 5, 11)
        assert (reader.skipped, reader.lost_ranges) == (4, expected)


@in_one_test
@every_way
@every_mode
def test_skip_leaves_out_what_a_validator_refuses(mode: Mode, way: Way) -> None:
    stream = corpus(mode, [b"x" * size for size in (5, 50, 6, 7, 60)])
    deframer = mode.deframer().with_validator(SizeValidator(1, 10))
    reader = StreamReader(stream.data, deframer, on_error="skip")
    assert way(reader) == without(stream, 1, 4)
    assert (reader.skipped, reader.lost_ranges) == (2, ranges(stream, 1, 4))


@in_one_test
@every_way
def test_skip_raises_where_the_position_is_lost(way: Way) -> None:
    stream = corpus(CRC32, messages(5))
    for data, error in (
        (stream.data[:-1], UnexpectedEofError),
        (with_length(stream, 3, 0xFFFFFFFF), InvalidFrameError),
        (with_length(stream, 3, 1 << 20), UnexpectedEofError),
    ):
        for source in sources_of(data):
            reader = StreamReader(source, CRC32.deframer(), on_error="skip", capacity=64)
            for _ in range(2):
                with pytest.raises(error):
                    way(reader)
            assert reader.skipped == 0


@in_one_test
@every_way
@every_mode
def test_skip_leaves_out_empty_payloads(mode: Mode, way: Way) -> None:
    stream = corpus(mode, [b"", b"one", b"", b"", b"two", b""])
    for source in sources_of(stream.data):
        reader = StreamReader(source, mode.deframer(), on_error="skip", capacity=3)
        assert way(reader) == [b"one", b"two"]
        assert reader.skipped == 4
        assert reader.lost_ranges == [*ranges(stream, 0), (stream.starts[2], stream.ends[3]), *ranges(stream, 5)]
    # Half of one at the end is no whole frame.
    if mode.size:
        reader = StreamReader(stream.data[:-1], mode.deframer(), on_error="skip")
        with pytest.raises(UnexpectedEofError):
            way(reader)


def test_skip_numbers_frames_as_if_they_were_all_delivered() -> None:
    stream = corpus(CRC32, messages(6))
    data = flip(flip(stream.data, 8 * stream.ends[1] - 1), 8 * stream.ends[4] - 1)
    reader = StreamReader(data, CRC32.deframer(), on_error="skip")
    assert [(reader.message_number, reader.message_offset) for _ in reader] == [
        (frame, stream.starts[frame]) for frame in (0, 2, 3, 5)
    ]


# stop


def damages(stream: Corpus, frame: int) -> Iterator[tuple[bytes, type[FlatStreamError]]]:
    yield flip(stream.data, 8 * stream.ends[frame] - 1), ChecksumMismatchError
    yield with_length(stream, frame, 0xFFFFFFFF), InvalidFrameError
    yield with_length(stream, frame, 0), InvalidFrameError
    yield with_length(stream, frame, 1 << 30), UnexpectedEofError
    yield stream.data[: stream.ends[frame] - 1], UnexpectedEofError


@in_one_test
@every_way
def test_stop_ends_at_the_first_damage_and_tells_it(way: Way) -> None:
    stream = corpus(CRC32, messages(8))
    for frame in (0, 3, 7):
        for data, error in damages(stream, frame):
            for per_call in (False, True):
                for source in sources_of(data):
                    reader = StreamReader(
                        source, CRC32.deframer(), on_error="raise" if per_call else "stop", capacity=64
                    )
                    options = {"on_error": "stop"} if per_call else {}
                    assert way(reader, **options) == list(stream.payloads[:frame])
                    assert type(reader.stop_error) is error
                    assert (reader.stop_error.offset, reader.stop_error.frame) == (stream.starts[frame], frame)
                    assert reader.offset == stream.starts[frame]
                    assert (reader.skipped, reader.lost_ranges) == (0, [])
                    # It stays there.
                    assert way(reader, **options) == []


def test_undamaged_stream_stops_at_its_end() -> None:
    stream = corpus(CRC32, messages(8))
    reader = StreamReader(stream.data, CRC32.deframer(), on_error="stop")
    assert by_iterator(reader) == list(stream.payloads)
    assert reader.stop_error is None


def test_after_a_stop_other_calls_find_the_damage_where_it_is() -> None:
    stream = corpus(CRC32, messages(8))
    for data, error in damages(stream, 3):
        whole = len(data) == len(stream.data)
        for way in (by_iterator, by_batch):
            reader = StreamReader(data, CRC32.deframer())
            assert way(reader, on_error="stop") == list(stream.payloads[:3])
            if error is not InvalidFrameError or data[stream.starts[3] :][:4] != bytes(4):
                with pytest.raises(error):
                    reader.read_message()
        reader = StreamReader(data, CRC32.deframer())
        assert by_iterator(reader, on_error="stop") == list(stream.payloads[:3])
        if whole:
            assert by_iterator(reader, on_error="resync") == list(stream.payloads[4:])
            assert reader.lost_ranges == ranges(stream, 3)


def test_stop_does_not_hide_faults_of_the_source() -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise OSError(5, "broken")

    for on_error in ("skip", "stop", "resync"):
        reader = StreamReader(Broken(), CRC32.deframer(), on_error=on_error)
        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                reader.read_message()
        assert reader.stop_error is None


def test_observer_that_sees_a_frame_before_a_stop_sees_it_once() -> None:
    stream = corpus(CRC32, [b"good", b"x" * 50, b"more"])
    seen: list[bytes] = []
    deframer = (
        CRC32.deframer().observed(lambda payload: seen.append(bytes(payload))).with_validator(SizeValidator(1, 9))
    )
    reader = StreamReader(stream.data, deframer)
    assert by_iterator(reader, on_error="stop") == [b"good"]
    with pytest.raises(ValidationFailedError):
        reader.read_message()
    assert seen == [b"good", b"x" * 50]


# A reader's own, and a call's


@in_one_test
@every_way
def test_what_a_call_says_wins_over_the_reader(way: Way) -> None:
    stream = corpus(CRC32, messages(8))
    data = flip(stream.data, 8 * stream.ends[3] - 1)
    for own in ("raise", "skip", "stop", "resync"):
        reader = StreamReader(data, CRC32.deframer(), on_error=own)
        with pytest.raises(ChecksumMismatchError):
            way(reader, on_error="raise")
        assert way(reader, on_error="raise") == list(stream.payloads[4:])
        assert reader.skipped == 0
        for other in ("skip", "resync"):
            reader = StreamReader(data, CRC32.deframer(), on_error=own)
            assert way(reader, on_error=other) == without(stream, 3)
            assert reader.lost_ranges == ranges(stream, 3)


def test_resynchronizing_call_goes_on_after_an_error_that_lost_the_position() -> None:
    stream = corpus(CRC32, messages(8))
    data = with_length(stream, 3, 1 << 30)
    for source in sources_of(data):
        reader = StreamReader(source, CRC32.deframer(), capacity=64)
        for _ in range(2):
            with pytest.raises(UnexpectedEofError):
                by_iterator(reader)
        assert by_iterator(reader, on_error="resync") == list(stream.payloads[4:])
        assert reader.lost_ranges == ranges(stream, 3)


def test_iterators_with_different_ways_share_a_reader() -> None:
    stream = corpus(CRC32, messages(9))
    data = stream.data
    for frame in (2, 4, 6):
        data = flip(data, 8 * stream.ends[frame] - 1)
    reader = StreamReader(data, CRC32.deframer())
    skipping, raising = reader.messages(on_error="skip"), reader.messages()
    assert raising is reader
    got = [bytes(next(skipping)) for _ in range(3)]
    with pytest.raises(ChecksumMismatchError):
        next(raising)
    got.append(bytes(next(raising)))
    got += map(bytes, skipping)
    assert got == without(stream, 2, 4, 6)
    assert reader.lost_ranges == ranges(stream, 2, 6)


def test_error_that_a_batch_left_for_the_next_call_is_treated_as_that_call_says() -> None:
    stream = corpus(CRC32, messages(6))
    data = flip(stream.data, 8 * stream.ends[3] - 1)
    for on_error in ("skip", "resync"):
        reader = StreamReader(data, CRC32.deframer())
        first = reader.read_batch()
        assert first is not None
        assert len(first) == 3
        assert by_iterator(reader, on_error=on_error) == list(stream.payloads[4:])
        assert reader.lost_ranges == ranges(stream, 3)
    reader = StreamReader(data, CRC32.deframer())
    assert reader.read_batch() is not None
    assert by_iterator(reader, on_error="stop") == []
    with pytest.raises(ChecksumMismatchError):
        reader.read_message()
    assert by_iterator(reader) == list(stream.payloads[4:])


def test_batches_tell_what_was_lost_since_the_batch_before() -> None:
    stream = corpus(CRC32, messages(12))
    data = stream.data
    for frame in (0, 3, 4, 8, 11):
        data = flip(data, 8 * stream.ends[frame] - 1)
    reader = StreamReader(data, CRC32.deframer(), on_error="skip")
    told = [(len(batch), batch.skipped, batch.lost_bytes, batch.lost_ranges) for batch in reader.batches()]
    sizes = [end - start for start, end in zip(stream.starts, stream.ends, strict=True)]
    assert told == [
        (2, 1, sizes[0], ranges(stream, 0)),
        (3, 2, sizes[3] + sizes[4], [(stream.starts[3], stream.ends[4])]),
        (2, 1, sizes[8], ranges(stream, 8)),
    ]
    # What lies behind the last batch, the reader has.
    assert reader.skipped == 5
    assert reader.lost_ranges[-1:] == ranges(stream, 11)


# Empty payloads


@in_one_test
@every_way
@every_mode
def test_empty_payloads_are_taken_unless_damage_is_passed_over(mode: Mode, way: Way) -> None:
    stream = corpus(mode, [flatbuffer_of_event(1), b"", *messages(8)])
    for source in sources_of(stream.data):
        assert way(StreamReader(source, mode.deframer())) == list(stream.payloads)
    for on_error in ("skip", "resync"):
        for source in sources_of(stream.data):
            assert way(StreamReader(source, mode.deframer(), on_error=on_error)) == without(stream, 1)
        for source in sources_of(stream.data):
            reader = StreamReader(source, mode.deframer())
            assert way(reader, on_error=on_error) == without(stream, 1)
            assert reader.lost_ranges == ranges(stream, 1)
        # Unless they are allowed.
        for source in sources_of(stream.data):
            reader = StreamReader(source, mode.deframer(), on_error=on_error, allow_empty=True)
            assert way(reader) == list(stream.payloads)
        for source in sources_of(stream.data):
            reader = StreamReader(source, mode.deframer(), allow_empty=True)
            assert way(reader, on_error=on_error) == list(stream.payloads)
    # A call does not change the reader.
    reader = StreamReader(stream.data, mode.deframer())
    assert bytes(next(reader.messages(on_error="skip"))) == stream.payloads[0]
    assert bytes(next(reader)) == b""


@in_one_test
@every_way
def test_allow_empty_alone_makes_an_empty_payload_an_error(way: Way) -> None:
    stream = corpus(CRC32, [b"one", b"", b"two"])
    reader = StreamReader(stream.data, CRC32.deframer(), allow_empty=False)
    with pytest.raises(InvalidFrameError, match="empty payload"):
        way(reader)
    strict = CRC32.deframer(allow_empty=False)
    reader = StreamReader(stream.data, strict, allow_empty=True)
    with pytest.raises(InvalidFrameError, match="empty payload"):
        way(reader)


def test_zeroed_sector_is_no_frame_without_a_checksum() -> None:
    stream = corpus(MODES["none"], messages(40))
    data = stream.data[: stream.ends[19]] + bytes(4096) + stream.data[stream.starts[20] :]
    reader = StreamReader(data, on_error="resync")
    assert by_iterator(reader) == list(stream.payloads)
    assert reader.lost_ranges == [(stream.ends[19], stream.ends[19] + 4096)]
    assert reader.skipped == 1


# Arguments


@pytest.mark.parametrize("value", ["ignore", "", "RAISE", 1, True, b"skip", ["skip"]])
def test_wrong_on_error_is_refused_by_all_that_take_it(value: Any) -> None:
    text = r"on_error must be 'raise', 'skip', 'stop' or 'resync', got "
    with pytest.raises(ValueError, match=text):
        StreamReader(b"", on_error=value)
    reader = StreamReader(reference.encode([b"x"], "none"))
    for way in WAYS:
        with pytest.raises(ValueError, match=text):
            way(reader, on_error=value)
    assert by_iterator(reader) == [b"x"]


@in_one_test
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (1.5, TypeError)])
def test_wrong_window_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="resync_window must be "):
        StreamReader(b"", resync_window=value)


def test_wrong_allow_empty_is_refused() -> None:
    with pytest.raises(TypeError, match="allow_empty must be a bool or None"):
        StreamReader(b"", allow_empty=1)  # type: ignore[arg-type]


def test_open_passes_the_options_on(tmp_path: Any) -> None:
    stream = corpus(CRC32, messages(4))
    path = tmp_path / "damaged.fs"
    path.write_bytes(with_length(stream, 1, 1 << 30))
    options: dict[str, Any] = {"checksum": "crc32", "on_error": "resync", "resync_window": 1 << 20}
    with open_stream(path, **options) as reader:
        assert by_iterator(reader) == without(stream, 1)


def test_bare_deframer_is_shown_as_it_was_given() -> None:
    deframer = DefaultDeframer()
    reader = StreamReader(b"", deframer)
    assert by_iterator(reader, on_error="resync") == []
    assert reader.deframer is deframer
