"""Reading on behind damage: what is intact is delivered, and what is not is told to the byte."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import (
    DefaultDeframer,
    SizeValidator,
    StreamReader,
    ValidationFailedError,
    Validator,
)
from reference import framing as reference
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES, Mode
from support.python_strategies import MAGIC, CheckedMagicDeframer
from support.sources import CutReadSource, CutSource, SourceKind, every_source
from support.streams import Corpus, corpus, flip

PROTECTED = ["crc16", "crc32", "crc32c", "crc64", "xxhash64", "sum24"]
STRONG = ["crc32", "crc32c", "crc64", "xxhash64"]

protected = pytest.mark.parametrize("mode", [pytest.param(MODES[name], id=name) for name in PROTECTED])
strong = pytest.mark.parametrize("mode", [pytest.param(MODES[name], id=name) for name in STRONG])


def messages(count: int) -> list[bytes]:
    return [flatbuffer_of_event(number) for number in range(count)]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


Delivered = list[tuple[int, int, bytes]]


def by_message(reader: StreamReader, header: int) -> Delivered:
    """Each payload with the stream offsets of its frame."""
    found = []
    for payload in reader:
        begin = reader.message_offset
        found.append((begin, begin + header + len(payload), bytes(payload)))
    return found


def by_call(reader: StreamReader, header: int) -> Delivered:
    found: Delivered = []

    def take(payload: memoryview) -> None:
        begin = reader.message_offset
        found.append((begin, begin + header + len(payload), bytes(payload)))

    assert reader.process_all(take) == len(found)
    return found


def by_batch(reader: StreamReader, header: int, max_frames: int | None = None) -> Delivered:
    found = []
    skipped, ranges = 0, []
    for batch in reader.batches(max_frames):
        at = batch.stream_offset
        for payload in batch:
            found.append((at, at + header + len(payload), bytes(payload)))
            at += header + len(payload)
        # Its frames lie side by side, so nothing of what was lost is between them.
        assert at == batch.stream_offset + len(batch.buffer)
        assert all(end <= batch.stream_offset for _, end in batch.lost_ranges)
        assert batch.lost_bytes == sum(end - start for start, end in batch.lost_ranges)
        skipped += batch.skipped
        ranges += batch.lost_ranges
    # What is lost behind the last batch is told by the reader only.
    told = reader.lost_ranges
    covered = [place for start, end in ranges for place in range(start, end)]
    assert covered == [place for start, end in told for place in range(start, end)][: len(covered)]
    assert skipped <= reader.skipped
    return found


def by_small_batches(reader: StreamReader, header: int) -> Delivered:
    return by_batch(reader, header, max_frames=3)


WAYS: dict[str, Callable[[StreamReader, int], Delivered]] = {
    "messages": by_message,
    "calls": by_call,
    "batches": by_batch,
    "small batches": by_small_batches,
}

every_way = pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in WAYS.items()])


def check_account(delivered: Delivered, reader: StreamReader, size: int) -> None:
    """Delivered frames and lost ranges together are the whole stream, and nothing is in both."""
    frames = [(begin, end, True) for begin, end, _ in delivered]
    place = 0
    was_lost = False
    for begin, end, is_frame in sorted([*frames, *((start, end, False) for start, end in reader.lost_ranges)]):
        assert begin == place < end
        assert is_frame or not was_lost, "ranges that touch are one"
        place, was_lost = end, not is_frame
    assert place == size == reader.offset
    assert reader.lost_bytes == sum(end - start for start, end in reader.lost_ranges)
    assert (reader.skipped > 0) == bool(reader.lost_ranges)


def resync(
    data: bytes,
    mode: Mode,
    *,
    way: Callable[[StreamReader, int], Delivered] = by_message,
    source: Any = None,
    **options: Any,
) -> tuple[list[bytes], StreamReader]:
    """What is delivered of a stream, and the reader at its end."""
    reader = StreamReader(data if source is None else source, mode.deframer(), on_error="resync", **options)
    delivered = way(reader, 4 + mode.size)
    check_account(delivered, reader, len(data))
    return [payload for _, _, payload in delivered], reader


def without(payloads: tuple[bytes, ...], *lost: int) -> list[bytes]:
    return [payload for number, payload in enumerate(payloads) if number not in lost]


# One frame


@in_one_test
@pytest.mark.parametrize("bit", range(32))
@protected
def test_wrong_bit_in_a_length_loses_that_frame_only(mode: Mode, bit: int) -> None:
    stream = corpus(mode, messages(30))
    for frame in (0, 1, 14, 28, 29):
        data = flip(stream.data, 8 * stream.starts[frame] + bit)
        got, reader = resync(data, mode)
        assert got == without(stream.payloads, frame)
        assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]
        assert reader.skipped == 1


@in_one_test
@every_way
@protected
def test_wrong_bit_in_a_checksum_or_payload_loses_that_frame_only(
    mode: Mode, way: Callable[[StreamReader, int], Delivered]
) -> None:
    stream = corpus(mode, messages(12))
    for frame in range(12):
        for place in (4, 4 + mode.size - 1, 4 + mode.size, (stream.ends[frame] - stream.starts[frame]) - 1):
            data = flip(stream.data, 8 * (stream.starts[frame] + place) + 3)
            got, reader = resync(data, mode, way=way)
            assert got == without(stream.payloads, frame)
            assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]
            assert reader.skipped == 1


@in_one_test(step=2)
@every_way
@every_source
def test_every_source_and_way_of_reading_gives_the_same(
    source_kind: SourceKind, way: Callable[[StreamReader, int], Delivered], tmp_path: Path
) -> None:
    mode = MODES["crc32"]
    stream = corpus(mode, [noise(50 + 37 * number, number) for number in range(60)])
    data = flip(stream.data, 8 * stream.starts[7] + 12)  # longer than the frame
    data = flip(data, 8 * stream.starts[20] + 31)  # longer than the stream
    data = flip(data, 8 * stream.starts[41] + 60)  # checksum
    data = data[: stream.ends[58] + 30]
    for capacity in (16, 1000, 256 * 1024):
        with source_kind.open(data, tmp_path) as source:
            got, reader = resync(data, mode, source=source, way=way, capacity=capacity)
            assert got == without(stream.payloads, 7, 20, 41, 59)
            assert reader.lost_ranges == [
                *((stream.starts[frame], stream.ends[frame]) for frame in (7, 20, 41)),
                (stream.starts[59], len(data)),
            ]
            assert reader.skipped == 4
            assert reader.read_message() is None
            assert reader.read_batch() is None
            reader.close()


@in_one_test
@pytest.mark.parametrize("mode", [pytest.param(MODES[name], id=name) for name in PROTECTED if name != "sum24"])
def test_shorter_length_loses_that_frame_only(mode: Mode) -> None:
    stream = corpus(mode, messages(9))
    for frame in range(9):
        for length in (1, 2, 5, len(stream.payloads[frame]) - 1):
            data = bytearray(stream.data)
            data[stream.starts[frame] : stream.starts[frame] + 4] = length.to_bytes(4, "little")
            got, reader = resync(bytes(data), mode)
            assert got == without(stream.payloads, frame)
            assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]


@in_one_test
@pytest.mark.parametrize("limit", [None, 1000])
@pytest.mark.parametrize("mode", [pytest.param(MODES[name], id=name) for name in PROTECTED if name != "sum24"])
def test_wrong_length_that_leads_to_another_frame_loses_that_frame_only(mode: Mode, limit: int | None) -> None:
    # The frames have 128 bytes, so each higher bit of a length is a number of frames.
    stream = corpus(mode, [noise(124 - mode.size, number) for number in range(600)])
    for frame in (0, 5, 590):
        for bit in range(7, 32):
            data = flip(stream.data, 8 * stream.starts[frame] + bit)
            for source in (data, io.BytesIO(data)):
                deframer = mode.deframer() if limit is None else mode.deframer(max_frame_len=limit)
                reader = StreamReader(source, deframer, on_error="resync", capacity=4096)
                assert [bytes(payload) for payload in reader] == without(stream.payloads, frame)
                assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]


@in_one_test
@strong
def test_any_length_over_a_limit_loses_that_frame_only(mode: Mode) -> None:
    stream = corpus(mode, messages(9))
    for frame in range(9):
        data = bytearray(stream.data)
        data[stream.starts[frame] : stream.starts[frame] + 4] = b"\xff\xff\xff\x7f"
        for deframer in (mode.deframer(max_frame_len=1000), mode.deframer().bounded(1000)):
            reader = StreamReader(bytes(data), deframer, on_error="resync")
            assert [bytes(payload) for payload in reader] == without(stream.payloads, frame)
            assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]


# The end


@in_one_test
@every_way
@protected
def test_torn_tail_is_lost_and_the_end_is_clean(mode: Mode, way: Callable[[StreamReader, int], Delivered]) -> None:
    stream = corpus(mode, messages(4))
    for cut in range(len(stream.data) + 1):
        data = stream.data[:cut]
        got, reader = resync(data, mode, way=way)
        whole = stream.whole_frames(cut)
        assert got == list(stream.payloads[:whole])
        start = stream.ends[whole - 1] if whole else 0
        assert reader.lost_ranges == ([(start, cut)] if start < cut else [])
        assert reader.read_message() is None


@in_one_test
@pytest.mark.parametrize("size", [1, 7, 8, 100, 5000])
@protected
def test_zeros_at_the_end_are_no_frames(mode: Mode, size: int) -> None:
    stream = corpus(mode, messages(4))
    # With a weak checksum, a length with nothing but zeros behind it is a frame.
    for cut in (len(stream.data), stream.ends[2] + 1, stream.ends[2] + 9)[: 3 if mode.size >= 4 else 1]:
        data = stream.data[:cut] + bytes(size)
        got, reader = resync(data, mode)
        whole = stream.whole_frames(cut)
        assert got == list(stream.payloads[:whole])
        assert reader.lost_ranges == [(stream.ends[whole - 1], len(data))]


@in_one_test
@strong
def test_nothing_but_damage_is_one_range(mode: Mode) -> None:
    for data in (b"\x01", bytes(1000), noise(100_000), b"a text\n" * 1000):
        got, reader = resync(data, mode)
        assert got == []
        assert reader.lost_ranges == [(0, len(data))]
        assert reader.skipped == 1


def test_empty_stream_has_lost_nothing() -> None:
    got, reader = resync(b"", MODES["crc32"])
    assert (got, reader.skipped, reader.lost_bytes, reader.lost_ranges) == ([], 0, 0, [])


# Several


@in_one_test
@strong
def test_damage_near_damage_loses_no_other_frame(mode: Mode) -> None:
    stream = corpus(mode, messages(10))
    for first, second in ((3, 4), (3, 5), (0, 1), (8, 9)):
        for one in (2, 17, 30, 8 * 5):
            for two in (2, 17, 30, 8 * 5):
                data = flip(flip(stream.data, 8 * stream.starts[first] + one), 8 * stream.starts[second] + two)
                got, reader = resync(data, mode)
                assert got == without(stream.payloads, first, second)
                if second == first + 1:
                    assert reader.lost_ranges == [(stream.starts[first], stream.ends[second])]
                else:
                    assert reader.lost_ranges == [(stream.starts[n], stream.ends[n]) for n in (first, second)]
                    assert reader.skipped == 2


@in_one_test
@strong
@pytest.mark.parametrize("size", [512, 4096])
def test_overwritten_sector_loses_the_frames_that_it_touches(mode: Mode, size: int) -> None:
    stream = corpus(mode, [noise(20 + 71 * number % 700, number) for number in range(60)])
    for begin in range(0, len(stream.data) - size, size):
        touched = [n for n in range(60) if stream.starts[n] < begin + size and begin < stream.ends[n]]
        for content in (bytes(size), noise(size, begin + 1)):
            data = stream.data[:begin] + content + stream.data[begin + size :]
            got, reader = resync(data, mode)
            assert got == without(stream.payloads, *touched)
            assert reader.lost_ranges == [(stream.starts[touched[0]], stream.ends[touched[-1]])]


@in_one_test
@strong
def test_sector_that_is_gone_or_repeated_loses_the_frames_that_it_touches(mode: Mode) -> None:
    stream = corpus(mode, [noise(20 + 71 * number % 700, number) for number in range(60)])
    for begin in range(512, len(stream.data) - 1024, 512):
        gone = stream.data[:begin] + stream.data[begin + 512 :]
        touched = [n for n in range(60) if stream.starts[n] < begin + 512 and begin < stream.ends[n]]
        assert resync(gone, mode)[0] == without(stream.payloads, *touched)
        again = stream.data[: begin + 512] + stream.data[begin:]
        cut = [n for n in range(60) if stream.starts[n] < begin + 512 < stream.ends[n]]
        whole_again = [n for n in range(60) if begin <= stream.starts[n] and stream.ends[n] <= begin + 512]
        got, _ = resync(again, mode)
        # The frame that the repeated sector cuts is whole behind it, unless it began before it.
        lost = [n for n in cut if stream.starts[n] < begin]
        expected = list(stream.payloads)
        if whole_again or not lost:
            first = next(n for n in range(60) if stream.starts[n] >= begin)
            before = [n for n in range(60) if stream.ends[n] <= begin + 512]
            expected = [stream.payloads[n] for n in before] + list(stream.payloads[first:])
        else:
            expected = without(stream.payloads, *lost)
        assert got == expected


def random_damage(rng: random.Random, data: bytearray) -> None:
    kind = rng.choice(["bit", "bit", "zeros", "noise", "cut", "tail", "gone"])
    place = rng.randrange(len(data) + 1)
    end = min(len(data), place + rng.choice([1, 4, 64, 512, 4096]))
    if kind == "bit" and place < len(data):
        data[place] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        data[place:end] = bytes(end - place)
    elif kind == "noise":
        data[place:end] = rng.randbytes(end - place)
    elif kind == "gone":
        del data[place:end]
    elif kind == "cut":
        del data[place:]
    elif kind == "tail":
        data += rng.choice([bytes(rng.randrange(1, 3000)), rng.randbytes(rng.randrange(1, 3000))])


def some_payload(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 200))
    if kind == 1:
        # Small numbers, any four of which may be a length.
        return bytes(rng.choice([0, 0, 0, 1, 2, 9]) for _ in range(rng.randrange(1, 400)))
    if kind == 2:
        return rng.randbytes(rng.randrange(1, 6000))
    return flatbuffer_of_event(rng.randrange(1000))


def intact_frames(data: bytes, stream: Corpus) -> Iterator[bytes]:
    """The payloads of the frames that are whole in `data`, in which bytes can have moved."""
    for payload, start, end in zip(stream.payloads, stream.starts, stream.ends, strict=True):
        if stream.data[start:end] in data:
            yield payload


@given(st.randoms(use_true_random=False))
def test_random_damage_never_invents_nor_hides_a_frame_whose_checksum_is_strong(rng: random.Random) -> None:
    mode = MODES[rng.choice(STRONG)]
    stream = corpus(mode, [some_payload(rng) for _ in range(rng.randrange(1, 30))])
    damaged = bytearray(stream.data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        random_damage(rng, damaged)
    data = bytes(damaged)
    source: Any = rng.choice(
        [
            lambda: data,
            lambda: io.BytesIO(data),
            lambda: CutSource(data, (rng.randrange(len(data) + 1) for _ in range(20))),
            lambda: CutReadSource(data, range(0, len(data), 61)),
        ]
    )()
    way = WAYS[rng.choice(list(WAYS))]
    capacity = rng.choice([1, 16, 100, 1000, 256 * 1024])
    got, _ = resync(data, mode, source=source, way=way, capacity=capacity)
    written = list(stream.payloads)
    assert all(payload in written for payload in got)
    assert [payload for payload in intact_frames(data, stream) if payload not in got] == []


# A stream inside a payload


def nested(mode: Mode, size: int = 0) -> bytes:
    """A payload that has a stream of the same format in its middle."""
    return noise(100 + size) + corpus(mode, messages(20)).data + noise(50, 2)


@in_one_test
@strong
def test_stream_inside_a_payload_is_never_taken_for_the_outer_one(mode: Mode) -> None:
    stream = corpus(mode, [b"one", nested(mode), b"two", nested(mode), b"three"])
    for frame in (1, 3):
        for place in (4, 4 + mode.size, 300, stream.ends[frame] - stream.starts[frame] - 1):
            data = flip(stream.data, 8 * (stream.starts[frame] + place))
            for source in (data, io.BytesIO(data), CutSource(data, range(0, len(data), 100))):
                got, reader = resync(data, mode, source=source, capacity=256)
                assert got == without(stream.payloads, frame)
                assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]


@in_one_test
@strong
def test_stream_inside_an_intact_payload_behind_damage_is_not_taken_for_the_outer_one(mode: Mode) -> None:
    # The payload is longer than what the search looks at first.
    outer = [b"x" * 30_000, b"damaged", nested(mode, 40_000), b"last"]
    stream = corpus(mode, outer)
    for bit in (9, 20, 30):
        data = flip(stream.data, 8 * stream.starts[1] + bit)
        for source in (data, io.BytesIO(data), CutSource(data, range(0, len(data), 5000))):
            got, _ = resync(data, mode, source=source, capacity=4096)
            assert got == without(stream.payloads, 1)


@in_one_test
@strong
def test_stream_inside_a_payload_over_the_limit_is_not_taken_for_the_outer_one(mode: Mode) -> None:
    stream = corpus(mode, [b"one", nested(mode), b"two"])
    for source in (stream.data, io.BytesIO(stream.data)):
        reader = StreamReader(source, mode.deframer().bounded(200), on_error="resync")
        assert [bytes(payload) for payload in reader] == [b"one", b"two"]
        assert reader.lost_ranges == [(stream.starts[1], stream.ends[1])]


# Validators and deframers


@in_one_test
@strong
def test_frame_that_only_a_validator_refuses_is_left_out_alone(mode: Mode) -> None:
    # Behind it is damage, so that its end is no evidence; its checksum is.
    stream = corpus(mode, [b"one", nested(mode), b"damaged", b"two"])
    data = flip(stream.data, 8 * stream.ends[2] - 1)
    reader = StreamReader(data, mode.deframer().with_validator(SizeValidator(1, 200)), on_error="resync")
    assert [bytes(payload) for payload in reader] == [b"one", b"two"]
    assert reader.lost_ranges == [(stream.starts[1], stream.ends[2])]
    assert reader.skipped == 2


class Refusing(Validator):
    """Refuses payloads that contain a word, and counts what it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def validate(self, payload: Any) -> None:
        self.calls += 1
        if b"bad" in bytes(payload):
            raise ValidationFailedError(validator="Refusing", reason="bad")


def test_frame_without_a_checksum_that_a_validator_refuses_ends_where_it_claims_if_frames_follow() -> None:
    mode = MODES["none"]
    payloads = [flatbuffer_of_event(1), b"bad", *messages(8)]
    stream = corpus(mode, payloads)
    reader = StreamReader(stream.data, DefaultDeframer().with_validator(Refusing()), on_error="resync")
    assert [bytes(payload) for payload in reader] == without(stream.payloads, 1)
    assert reader.lost_ranges == [(stream.starts[1], stream.ends[1])]


def test_without_a_checksum_an_impossible_length_is_passed_if_payloads_are_messages() -> None:
    mode = MODES["none"]
    stream = corpus(mode, messages(40))
    for frame in (0, 17, 37):
        data = flip(stream.data, 8 * stream.starts[frame] + 31)
        got, reader = resync(data, mode)
        assert got == without(stream.payloads, frame)
        assert reader.lost_ranges == [(stream.starts[frame], stream.ends[frame])]


def test_deframer_in_python_is_followed_too() -> None:
    frames = [MAGIC + reference.encode([payload], "crc32") for payload in messages(12)]
    data = b"".join(frames)
    starts = [sum(map(len, frames[:number])) for number in range(13)]
    for frame in (0, 5, 11):
        for place in (0, 5, 30):
            damaged = flip(data, 8 * (starts[frame] + place))
            reader = StreamReader(damaged, CheckedMagicDeframer(MODES["crc32"].deframer()), on_error="resync")
            assert [bytes(payload) for payload in reader] == without(tuple(messages(12)), frame)
            assert reader.lost_ranges == [(starts[frame], starts[frame + 1])]


def test_observers_see_what_is_delivered_and_nothing_else() -> None:
    mode = MODES["crc32"]
    stream = corpus(mode, messages(20))
    data = flip(flip(stream.data, 8 * stream.starts[3] + 9), 8 * stream.starts[9] + 30)
    seen: list[bytes] = []
    deframer = mode.deframer().observed(lambda payload: seen.append(bytes(payload)))
    got = [bytes(payload) for payload in StreamReader(io.BytesIO(data), deframer, capacity=64, on_error="resync")]
    assert seen == got == without(stream.payloads, 3, 9)


# Numbers


def test_lost_range_counts_as_one_frame_in_numbers() -> None:
    mode = MODES["crc32"]
    stream = corpus(mode, messages(10))
    data = flip(flip(stream.data, 8 * stream.starts[3] + 9), 8 * stream.starts[4] + 50)
    reader = StreamReader(data, mode.deframer(), on_error="resync")
    numbers = []
    for _ in reader:
        numbers.append((reader.message_number, reader.message_offset))
    # Frames 3 and 4 are one range, because only a search finds frame 5.
    expected = [(n, stream.starts[n]) for n in (0, 1, 2)] + [(n - 1, stream.starts[n]) for n in range(5, 10)]
    assert numbers == expected
    assert reader.frames_read == 8
    assert reader.bytes_read == len(data) - reader.lost_bytes


def test_undamaged_stream_is_read_as_ever() -> None:
    for mode in MODES.values():
        stream = corpus(mode, [b"x", *messages(20), noise(300_000 if mode.name != "sum24" else 3000), b"y"])
        for way in WAYS.values():
            got, reader = resync(stream.data, mode, way=way, source=io.BytesIO(stream.data))
            assert got == list(stream.payloads)
            assert (reader.skipped, reader.lost_bytes, reader.lost_ranges, reader.stop_error) == (0, 0, [], None)
