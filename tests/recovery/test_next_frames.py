"""The search for the next intact frames behind damage: the nearest, with enough evidence, in linear time."""

from __future__ import annotations

import random
import time
import tracemalloc
from typing import Any

import pytest

from flatstream import Deframer, FrameSpan, InvalidFrameError, SizeValidator
from flatstream._core.stream.frame_search import find_next_frames
from reference import framing as reference
from support.alarms import Alarm, StruckError
from support.extent import in_one_test
from support.messages import flatbuffer_of_event, flatbuffer_of_string
from support.modes import MODES, Mode, every_mode
from support.python_strategies import CheckedMagicDeframer, MagicDeframer
from support.streams import corpus

strong = pytest.mark.parametrize("name", ["crc32", "crc32c", "crc64", "xxhash64"])
at_end_or_not = pytest.mark.parametrize("at_end", [True, False])


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes of which no four are a length that lies inside a test's data."""
    return bytes(random.Random(seed).randrange(128, 256) for _ in range(size))


def messages(count: int) -> list[bytes]:
    return [flatbuffer_of_event(number) for number in range(count)]


# The nearest


@in_one_test
@at_end_or_not
@every_mode
def test_frames_behind_damage_are_found_at_the_nearest(mode: Mode, at_end: bool) -> None:
    stream = corpus(mode, messages(6))
    for size in (0, 1, 2, 3, 4, 5, 11, 12, 13, 64, 1000):
        data = noise(size) + stream.data
        assert find_next_frames(mode.deframer(), data, 0, at_end, 0)[0] == size


@in_one_test
@every_mode
def test_search_begins_where_it_is_told(mode: Mode) -> None:
    stream = corpus(mode, messages(8))
    for begin in range(stream.starts[5] + 1):
        expected = next(start for start in stream.starts if start >= begin)
        assert find_next_frames(mode.deframer(), stream.data, begin, False, 0)[0] == expected


@in_one_test
@every_mode
def test_frame_with_a_damaged_length_is_passed_over(mode: Mode) -> None:
    stream = corpus(mode, messages(12))
    for frame in range(8):
        for bit in range(32):
            data = bytearray(stream.data)
            data[stream.starts[frame] + bit // 8] ^= 1 << bit % 8
            found, _ = find_next_frames(mode.deframer(), bytes(data), stream.starts[frame] + 1, True, 0)
            assert found == stream.starts[frame + 1], (frame, bit)


@pytest.mark.parametrize("longest", [0, 50, 10_000_000])
@strong
@pytest.mark.usefixtures("quick_reference")
def test_long_frame_that_begins_first_wins_over_short_ones_behind_it(name: str, longest: int) -> None:
    mode = MODES[name]
    # Short frames inside of a long one's payload are examined before it, because they cost less.
    inner = corpus(mode, messages(3))
    outer = corpus(mode, [noise(5_000) + inner.data + noise(15_000, 2), b"next"])
    data = noise(33) + outer.data
    assert find_next_frames(mode.deframer(), data, 0, True, longest)[0] == 33
    assert find_next_frames(mode.deframer(), data, 34, True, longest)[0] == 33 + 4 + mode.size + 5_000


@in_one_test
@strong
@pytest.mark.usefixtures("quick_reference")
def test_long_frame_is_found_though_nothing_plausible_follows_it(name: str) -> None:
    mode = MODES[name]
    data = noise(21) + corpus(mode, [noise(20_000)]).data + b"\xff" * 40
    for at_end in (True, False):
        assert find_next_frames(mode.deframer(), data, 0, at_end, 10)[0] == 21


@in_one_test
@at_end_or_not
@every_mode
def test_search_of_damage_alone_finds_nothing(mode: Mode, at_end: bool) -> None:
    for data in (b"", b"\x00", bytes(5000), noise(5000), b"text, and no frame " * 200):
        assert find_next_frames(mode.deframer(), data, 0, at_end, 0)[0] == -1
        assert find_next_frames(mode.deframer(), data, len(data), at_end, 0) == (-1, len(data))


# Enough evidence


@in_one_test
@strong
def test_one_frame_is_enough_with_a_checksum_of_four_bytes(name: str) -> None:
    mode = MODES[name]
    data = noise(50) + corpus(mode, [b"alone"]).data + noise(60, 2)
    assert find_next_frames(mode.deframer(), data, 0, False, 0)[0] == 50


@pytest.mark.parametrize("name", ["crc16", "sum24"])
def test_two_frames_in_a_row_are_wanted_with_a_shorter_checksum(name: str) -> None:
    mode = MODES[name]
    one = corpus(mode, [b"one of them"]).data
    assert find_next_frames(mode.deframer(), noise(50) + one + noise(60, 2), 0, False, 0)[0] == -1
    assert find_next_frames(mode.deframer(), noise(50) + one + one + noise(60, 2), 0, False, 0)[0] == 50


def test_one_frame_that_ends_the_stream_is_enough_with_crc16() -> None:
    deframer = MODES["crc16"].deframer(max_frame_len=1000)
    data = noise(50) + corpus(MODES["crc16"], [b"the last one"]).data
    assert find_next_frames(deframer, data, 0, True, 0) == (50, len(data))
    # More bytes could come, and make a row of it or not.
    assert find_next_frames(deframer, data, 0, False, 0) == (-1, 50)


def test_one_frame_with_a_message_is_enough_with_crc16() -> None:
    data = noise(50) + corpus(MODES["crc16"], messages(1)).data + noise(60, 2)
    assert find_next_frames(MODES["crc16"].deframer(), data, 0, False, 0)[0] == 50


def test_frames_without_a_checksum_are_known_by_their_messages() -> None:
    mode = MODES["none"]
    for payloads in (messages(2), [flatbuffer_of_string("a string"), flatbuffer_of_string("another one")]):
        data = noise(50) + corpus(mode, payloads).data + noise(60, 2)
        assert find_next_frames(mode.deframer(), data, 0, False, 0)[0] == 50
    for payloads in (messages(1), [b"no message"] * 10, [b"x" * 50] * 3):
        data = noise(50) + corpus(mode, payloads).data + noise(60, 2)
        assert find_next_frames(mode.deframer(), data, 0, False, 0)[0] == -1
    # One message is enough if frames lead from it to the end, whatever they hold.
    data = noise(50) + corpus(mode, [*messages(1), b"no message", b""]).data
    assert find_next_frames(mode.deframer(), data, 0, True, 0)[0] == 50


@in_one_test
@every_mode
def test_stored_checksum_of_zero_over_zeros_is_no_evidence(mode: Mode) -> None:
    for size in (0, 1, 8, 40):
        frames = reference.encode([bytes(size)] * 20, mode.name)
        if frames[4 : 4 + mode.size].strip(b"\x00"):
            # The checksum of XXH3 and, of more than nothing, those of CRC-32 and CRC-32C tell zeros from nothing.
            continue
        assert find_next_frames(mode.deframer(), frames, 0, True, 0)[0] == -1
        assert find_next_frames(mode.deframer(), frames, 0, False, 0)[0] == -1


@in_one_test
@every_mode
def test_empty_frames_between_others_do_not_end_a_row(mode: Mode) -> None:
    stream = corpus(mode, [messages(2)[0], b"", messages(2)[1], b""])
    data = noise(50) + stream.data + noise(60, 2)
    assert find_next_frames(mode.deframer(), data, 0, False, 0)[0] == 50


def test_validators_and_limits_of_the_deframer_count() -> None:
    mode = MODES["crc32"]
    stream = corpus(mode, [b"too long for it", b"short"])
    data = noise(50) + stream.data
    for deframer in (
        mode.deframer().with_validator(SizeValidator(0, 10)),
        mode.deframer().bounded(10),
        mode.deframer(max_frame_len=10),
    ):
        assert find_next_frames(deframer, data, 0, True, 0)[0] == 50 + stream.starts[1]


def test_search_does_not_call_observers() -> None:
    seen: list[bytes] = []
    deframer = MODES["crc32"].deframer().observed(lambda payload: seen.append(bytes(payload)))
    assert find_next_frames(deframer, noise(9) + corpus(MODES["crc32"]).data[8:], 0, True, 0)[0] == 9
    assert seen == []


# What more bytes could change


@in_one_test
@pytest.mark.parametrize("name", ["crc16", "crc32", "xxhash64", "sum24", "none"])
def test_undecided_is_the_first_offset_that_more_bytes_turn_into_a_match(name: str) -> None:
    mode = MODES[name]
    stream = corpus(mode, messages(3))
    data = noise(40) + stream.data
    deframer = mode.deframer(max_frame_len=10_000)
    whole = {"none": 2}.get(name, 1)
    for cut in range(40, len(data)):
        found, undecided = find_next_frames(deframer, data[:cut], 0, False, 0)
        if found < 0:
            assert cut < 40 + stream.ends[whole]
            assert undecided <= 40
        else:
            assert found == 40
        assert find_next_frames(deframer, data[:cut], 0, True, 0)[1] == cut
    # In noise, only its last bytes could be the first ones of a length.
    assert find_next_frames(deframer, noise(1000), 0, False, 0) == (-1, 997)


# Memory and time


@every_mode
def test_lengths_beyond_the_data_allocate_nothing(mode: Mode) -> None:
    lying = (2**31 - 1).to_bytes(4, "little") + b"\x01" * 12
    data = lying * 2000
    tracemalloc.start()
    try:
        for at_end in (True, False):
            assert find_next_frames(mode.deframer(max_frame_len=2**32 - 1), data, 0, at_end, 0)[0] == -1
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def small_integers(size: int, below: int) -> bytes:
    generator = random.Random(5)
    return b"".join(generator.randrange(below).to_bytes(4, "little") for _ in range(size // 4))


@in_one_test
@pytest.mark.parametrize("name", ["none", "crc16", "crc32", "xxhash64"])
def test_search_in_small_integers_takes_time_in_proportion_to_their_size(name: str) -> None:
    # Each of them is the length of a frame that lies inside the data: all their checksums together are 64 GiB.
    data = small_integers(1 << 20, 1 << 19)
    began = time.perf_counter()
    assert find_next_frames(MODES[name].deframer(), data, 1, True, 4096)[0] == -1
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("name", ["crc16", "crc32", "xxhash64"])
def test_frames_between_small_integers_are_found_at_the_nearest(name: str) -> None:
    mode = MODES[name]
    integers = small_integers(1 << 19, 1 << 18)
    stream = corpus(mode, [integers[at : at + 4096] for at in range(0, 16384, 4096)])
    data = integers + stream.data
    assert find_next_frames(mode.deframer(), data, 1, False, 4096)[0] == len(integers)
    assert find_next_frames(mode.deframer(), data, 1, True, 0)[0] == len(integers)


def test_frame_behind_others_that_cost_too_much_to_examine_is_found() -> None:
    # A frame among so many that are as long, and seem to follow one another.
    mode = MODES["xxhash64"]
    integers = small_integers(1 << 20, 1 << 16)
    frame = corpus(mode, [integers[:40_000]]).data
    data = integers + integers[:1000] + frame + integers
    assert find_next_frames(mode.deframer(), data, 0, False, 0)[0] == len(integers) + 1000
    # Where nothing was found, no byte is given up.
    assert find_next_frames(mode.deframer(), integers * 2, 8, False, 0) == (-1, 8)


@pytest.mark.parametrize(
    "name", ["crc16", "xxhash64", *(pytest.param(name, marks=pytest.mark.long) for name in ("crc32", "crc64"))]
)
def test_frame_of_usual_length_is_found_among_lengths_that_cost_too_much(name: str) -> None:
    mode = MODES[name]
    integers = small_integers(1 << 18, 5000)
    data = integers * 4 + corpus(mode, [integers] * 3).data
    assert find_next_frames(mode.deframer(), data, 1, True, 4 * len(integers), len(integers))[0] == 4 * len(integers)
    assert find_next_frames(mode.deframer(), data, 1, True, len(integers))[0] == 4 * len(integers)


@in_one_test
@pytest.mark.parametrize("name", ["none", "crc16", "crc32", "xxhash64"])
def test_search_looks_at_signals(name: str) -> None:
    data = small_integers(1 << 20, 1 << 19) * (1 if name != "none" else 32)
    found: list[object] = []
    with Alarm(StruckError) as alarm:
        assert alarm.strike(lambda: found.append(find_next_frames(MODES[name].deframer(), data, 1, True, 0)), 0.01)
    # The handler did not run behind it.
    assert not found


# Deframers in Python


@pytest.mark.parametrize("checked", [True, False])
def test_frames_of_a_deframer_in_python_are_found(checked: bool) -> None:
    mode = MODES["crc32"]
    stream = corpus(mode, messages(4))
    frames = [b"MAGC" + stream.data[start:end] for start, end in zip(stream.starts, stream.ends, strict=True)]
    deframer = (CheckedMagicDeframer if checked else MagicDeframer)(mode.deframer())
    data = noise(70) + b"".join(frames)
    for at_end in (True, False):
        assert find_next_frames(deframer, data, 0, at_end, 0)[0] == 70
        assert find_next_frames(deframer, data, 71, at_end, 0)[0] == 70 + len(frames[0])
    assert find_next_frames(deframer, data[: 70 + len(frames[0]) + 3], 0, False, 0) == (-1, 70)
    assert find_next_frames(deframer, noise(70), 0, False, 0)[0] == -1


def test_interruption_inside_a_deframer_in_python_is_passed_on() -> None:
    class Interrupted(Deframer):
        def locate(self, data: Any) -> FrameSpan | int:
            if len(data) < 30:
                raise KeyboardInterrupt
            raise InvalidFrameError("no frame")

    with pytest.raises(KeyboardInterrupt):
        find_next_frames(Interrupted(), noise(60), 0, True, 0)


# Arguments


def test_wrong_arguments_are_refused() -> None:
    deframer: Any = MODES["crc32"].deframer()
    for begin in (-1, 4):
        with pytest.raises(ValueError, match=f"begin must lie inside the buffer of 3 bytes, got {begin}"):
            find_next_frames(deframer, b"abc", begin, True, 0)
    with pytest.raises(ValueError, match="longest must not be negative, got -1"):
        find_next_frames(deframer, b"abc", 0, True, -1)
    with pytest.raises(ValueError, match="usual must not be negative"):
        find_next_frames(deframer, b"abc", 0, True, 0, -1)
    for wrong in (None, "crc32", b""):
        with pytest.raises(TypeError, match="deframer"):
            find_next_frames(wrong, b"abc", 0, True, 0)  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        find_next_frames(deframer, memoryview(bytes(10))[::2], 0, True, 0)
