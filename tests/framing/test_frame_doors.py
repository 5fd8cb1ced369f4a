"""The loops over frames, without a stream around them: into memory, out of memory, and beyond damage.

The expected bytes and offsets are calculated here with `struct`, `zlib` and `binascii`.
"""

from __future__ import annotations

import binascii
import random
import struct
import zlib
from array import array
from typing import Any

import numpy as np
import pytest

from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    Crc16,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
    NoValidator,
)
from flatstream._core.framing.deframer import index_frames
from flatstream._core.framing.framer import frame_payloads
from flatstream._core.stream.frame_search import chained_offsets, find_intact_frame
from support.extent import in_one_test

# name: (framer, deframer, checksum of a payload)
FORMATS: dict[str, tuple[Framer, Deframer, Any]] = {
    "none": (DefaultFramer(), DefaultDeframer(), lambda payload: b""),
    "crc16": (
        ChecksumFramer(Crc16()),
        ChecksumDeframer(Crc16()),
        lambda payload: struct.pack("<H", binascii.crc_hqx(payload, 0)),
    ),
    "crc32": (
        ChecksumFramer(Crc32()),
        ChecksumDeframer(Crc32()),
        lambda payload: struct.pack("<I", zlib.crc32(payload)),
    ),
}
ALL = pytest.mark.parametrize("name", FORMATS)


def frames_of(payloads: list[bytes], name: str) -> list[bytes]:
    checksum = FORMATS[name][2]
    return [struct.pack("<I", len(payload)) + checksum(payload) + payload for payload in payloads]


def ends_of(frames: list[bytes]) -> list[int]:
    ends = [0]
    for frame in frames:
        ends.append(ends[-1] + len(frame))
    return ends[1:]


def random_payloads(chance: random.Random, count: int) -> list[bytes]:
    """Payloads of many sizes, with runs of one size, which the deframer treats in a loop of its own."""
    payloads: list[bytes] = []
    while len(payloads) < count:
        size = chance.choice((0, 1, 15, 16, 17, 64, 127, 128, 129, 300, chance.randrange(2000)))
        payloads += [chance.randbytes(size) for _ in range(chance.choice((1, 1, 2, 9)))]
    return payloads[:count]


def frame_all(
    payloads: list[bytes] | tuple[bytes, ...], framer: Framer, size: int, slots: int
) -> tuple[bytearray, list[int]]:
    out, ends = bytearray(b"\xaa" * size), array("q", [-1] * slots)
    count = frame_payloads(payloads, framer, out, ends)
    assert list(ends[count:]) == [-1] * (slots - count)
    return out, list(ends[:count])


def index_all(
    data: Any, deframer: Deframer, slots: int = 1000, max_bytes: int | None = None
) -> tuple[list[tuple[int, int]], int]:
    offsets, lengths = array("q", [-1] * slots), array("q", [-1] * slots)
    count, end = index_frames(data, deframer, offsets, lengths, max_bytes=max_bytes)
    assert list(offsets[count:]) == list(lengths[count:]) == [-1] * (slots - count)
    return list(zip(offsets[:count], lengths[:count], strict=True)), end


# Framing


@in_one_test
@ALL
@pytest.mark.parametrize("kind", [list, tuple])
def test_payloads_become_frames_one_after_another(name: str, kind: Any) -> None:
    payloads = random_payloads(random.Random(1), 200)
    frames = frames_of(payloads, name)
    size = sum(map(len, frames))
    out, ends = frame_all(kind(payloads), FORMATS[name][0], size, len(payloads))
    assert bytes(out) == b"".join(frames)
    assert ends == ends_of(frames)


@ALL
def test_framing_stops_before_the_frame_that_memory_has_no_room_for(name: str) -> None:
    chance = random.Random(2)
    payloads = random_payloads(chance, 20)
    frames = frames_of(payloads, name)
    ends = ends_of(frames)
    for size in {0, 1, 3, 4, 7, 8, *(end + more for end in ends for more in (-1, 0, 1))}:
        out, found = frame_all(payloads, FORMATS[name][0], size, len(payloads))
        count = sum(end <= size for end in ends)
        assert found == ends[:count]
        used = ends[count - 1] if count else 0
        assert bytes(out) == b"".join(frames[:count]) + b"\xaa" * (size - used)


def test_framing_stops_when_no_end_can_be_stored() -> None:
    payloads = [b"a", b"bc", b"def"]
    for slots in range(4):
        out, ends = frame_all(payloads, DefaultFramer(), 100, slots)
        assert ends == [5, 11, 18][:slots]
        assert bytes(out).rstrip(b"\xaa") == b"".join(frames_of(payloads[:slots], "none"))


def test_framing_stops_at_the_first_payload_that_is_too_long_or_no_bytes_object() -> None:
    class Bytes(bytes):
        pass

    for odd in (b"long", bytearray(b"d"), memoryview(b"d"), "d", None, Bytes(b"d")):
        _, ends = frame_all([b"a", b"bc", odd, b"e"], DefaultFramer().bounded(3).bounded(9), 100, 4)  # type: ignore[list-item]
        assert ends == [5, 11]


def test_framing_nothing_gives_no_frames() -> None:
    assert frame_all([], DefaultFramer(), 10, 2) == (bytearray(b"\xaa" * 10), [])
    assert frame_payloads([b"a"], DefaultFramer(), bytearray(), array("q", [0])) == 0
    assert frame_payloads([b"a"], DefaultFramer(), bytearray(10), array("q")) == 0


class PythonFramer(Framer):
    def frame_and_write(self, writer: Any, payload: Any) -> None:
        writer.write(payload)


@in_one_test
@pytest.mark.parametrize(
    "framer",
    [
        PythonFramer(),
        PythonFramer().bounded(10),
        DefaultFramer().observed(print),
        DefaultFramer().observed(print).bounded(10),
        Framer(),
    ],
)
def test_framers_that_run_python_or_look_at_payloads_have_no_loop(framer: Framer) -> None:
    with pytest.raises(TypeError, match="expected a chain of bounds around a built-in framer"):
        frame_payloads([b"a"], framer, bytearray(10), array("q", [0]))


@in_one_test
@pytest.mark.parametrize("payloads", [b"abc", iter([b"a"]), {b"a"}, None])
def test_framing_takes_a_list_or_a_tuple(payloads: Any) -> None:
    with pytest.raises(TypeError, match="payloads must be a list or a tuple, got"):
        frame_payloads(payloads, DefaultFramer(), bytearray(10), array("q", [0]))


def test_memory_that_was_framed_into_can_be_resized_afterwards() -> None:
    out, ends = bytearray(10), array("q", [0])
    frame_payloads([b"a"], DefaultFramer(), out, ends)
    out.append(0)
    ends.append(0)


# Deframing


@in_one_test
@ALL
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: array("B", data), np.frombuffer])
def test_frames_are_found_where_they_lie(name: str, make: Any) -> None:
    payloads = random_payloads(random.Random(3), 300)
    frames = frames_of(payloads, name)
    data: Any = b"".join(frames)
    data = make(data, np.uint8) if make is np.frombuffer else make(data)
    found, end = index_all(data, FORMATS[name][1])
    header = len(frames[0]) - len(payloads[0])
    starts = [0, *ends_of(frames)]
    assert found == [(start + header, len(payload)) for start, payload in zip(starts, payloads, strict=False)]
    assert end == starts[-1]


@ALL
def test_deframing_in_pieces_finds_the_same_frames(name: str) -> None:
    chance = random.Random(4)
    payloads = random_payloads(chance, 150)
    data = b"".join(frames_of(payloads, name))
    for _ in range(50):
        begin = arrived = 0
        found: list[bytes] = []
        while begin < len(data):
            arrived = min(arrived + chance.randrange(1, 3000), len(data))
            piece = data[begin:arrived]
            index, end = index_all(piece, FORMATS[name][1], slots=chance.choice((1, 3, 1000)))
            found += [piece[offset : offset + length] for offset, length in index]
            begin += end
        assert found == payloads


@ALL
def test_deframing_stops_before_a_frame_that_is_not_whole(name: str) -> None:
    payloads = [b"", b"a", b"bc" * 20, b"d"]
    frames = frames_of(payloads, name)
    data, ends = b"".join(frames), ends_of(frames)
    for size in range(len(data)):
        found, end = index_all(data[:size], FORMATS[name][1])
        whole = [0, *(end for end in ends if end <= size)]
        assert (len(found), end) == (len(whole) - 1, whole[-1])


@pytest.mark.parametrize("name", ["crc16", "crc32"])
def test_deframing_stops_before_a_frame_whose_checksum_does_not_match(name: str) -> None:
    frames = frames_of([b"abc"] * 10, name)
    data = bytearray(b"".join(frames))
    for position in range(len(frames[0]) * 7 + 4, len(frames[0]) * 8):
        data[position] ^= 1
        found, end = index_all(data, FORMATS[name][1])
        assert (len(found), end) == (7, 7 * len(frames[0]))
        data[position] ^= 1


def test_deframing_stops_at_the_limits_of_the_deframer() -> None:
    data = b"".join(frames_of([b"abc", b"", b"abcd", b"e"], "none"))
    assert len(index_all(data, DefaultDeframer(allow_empty=False))[0]) == 1
    assert len(index_all(data, DefaultDeframer(max_frame_len=3))[0]) == 2
    assert len(index_all(data, DefaultDeframer().bounded(3).bounded(9))[0]) == 2
    assert len(index_all(data, DefaultDeframer().bounded(9).bounded(3))[0]) == 2
    assert len(index_all(data, DefaultDeframer())[0]) == 4


@pytest.mark.parametrize("size", [0, 5, 64])
def test_deframing_stops_when_slots_or_bytes_are_used_up(size: int) -> None:
    data = b"".join(frames_of([bytes(size)] * 30, "none"))
    for slots in (0, 1, 4, 5, 6, 29, 30, 31):
        for max_bytes in (None, 0, 1, size, max(6 * size - 1, 0), 6 * size, 30 * size, 1 << 40):
            found, end = index_all(data, DefaultDeframer(), slots, max_bytes)
            allowed = 30 if max_bytes is None else 0 if not max_bytes else 30 if not size else max_bytes // size
            assert len(found) == min(slots, 30, allowed)
            assert end == len(found) * (4 + size)


def test_deframing_nothing_finds_no_frames() -> None:
    for data in (b"", bytearray(), memoryview(b""), array("B")):
        assert index_all(data, DefaultDeframer()) == ([], 0)
    assert index_all(b"\x00", DefaultDeframer()) == ([], 0)


def test_lengths_that_would_overflow_an_offset_are_no_frames() -> None:
    assert index_all(b"\xff" * 40, DefaultDeframer(max_frame_len=2**32 - 1)) == ([], 0)
    assert chained_offsets(b"\xff" * 40, DefaultDeframer(max_frame_len=2**32 - 1)) == []


def test_shorter_array_limits_the_number_of_frames() -> None:
    data = b"".join(frames_of([b"a"] * 5, "none"))
    assert index_frames(data, DefaultDeframer(), array("q", [0] * 2), array("q", [0] * 5)) == (2, 10)
    assert index_frames(data, DefaultDeframer(), array("q", [0] * 5), array("q", [0] * 3)) == (3, 15)


class PythonDeframer(Deframer):
    def locate(self, data: Any) -> Any:
        return 0, 1, 1


@in_one_test
@pytest.mark.parametrize(
    "deframer",
    [
        PythonDeframer(),
        PythonDeframer().bounded(10),
        DefaultDeframer().observed(print),
        DefaultDeframer().with_validator(NoValidator()).bounded(10),
        Deframer(),
    ],
)
def test_deframers_that_run_python_or_look_at_payloads_have_no_loop(deframer: Deframer) -> None:
    with pytest.raises(TypeError, match="expected a chain of bounds around a built-in deframer"):
        index_frames(b"abc", deframer, array("q", [0]), array("q", [0]))


# Beyond damage


@ALL
def test_chains_are_the_offsets_from_which_frames_lead_to_the_end(name: str) -> None:
    chance = random.Random(5)
    header = 4 + len(FORMATS[name][2](b""))
    for _ in range(20):
        payloads = [chance.randbytes(chance.randrange(40)) for _ in range(10)]
        data = chance.randbytes(chance.randrange(50)) + b"".join(frames_of(payloads, name))
        chained = {len(data)}
        for at in range(len(data) - header, -1, -1):
            length = int.from_bytes(data[at : at + 4], "little")
            if at + header + length in chained:
                chained.add(at)
        assert chained_offsets(data, FORMATS[name][1]) == sorted(chained - {len(data)})


def test_search_of_nothing_finds_nothing() -> None:
    assert chained_offsets(b"", DefaultDeframer()) == []
    assert find_intact_frame(DefaultDeframer(), b"", 0) is None


def test_chains_need_a_native_locate() -> None:
    with pytest.raises(TypeError, match=r"expected a deframer whose locate\(\) is built in"):
        chained_offsets(b"abc", PythonDeframer())


def test_search_takes_any_contiguous_memory_as_bytes() -> None:
    data: Any = np.frombuffer(b"".join(frames_of([b"abcd" * 3] * 3, "crc32")), np.int32)
    assert find_intact_frame(ChecksumDeframer(Crc32()), data, 0) == find_intact_frame(
        ChecksumDeframer(Crc32()), data.tobytes(), 0
    )
    with pytest.raises(BufferError, match="buffer must be C-contiguous"):
        find_intact_frame(ChecksumDeframer(Crc32()), data[::2], 0)


# Memory that the loops do not take

Q = array("q", [0] * 8)
WRONG_BYTES: dict[str, tuple[Any, Any]] = {
    "strided": (memoryview(bytearray(16))[::2], (BufferError, ValueError)),
    "strided array": (np.zeros(16, np.uint8)[::2], (BufferError, ValueError)),
    "float64": (np.zeros(4), ValueError),
    "signed": (array("b", [0] * 8), ValueError),
    "16 bits": (array("H", [0] * 8), ValueError),
    "two dimensions": (np.zeros((4, 4), np.uint8), ValueError),
    "no buffer": (123, TypeError),
    "str": ("abc", TypeError),
    "None": (None, TypeError),
}
WRONG_NUMBERS: dict[str, tuple[Any, Any]] = {
    "strided": (memoryview(array("q", [0] * 8))[::2], (BufferError, ValueError)),
    "float64": (np.zeros(4), ValueError),
    "bytes": (bytearray(64), ValueError),
    "32 bits": (array("i", [0] * 8), ValueError),
    "unsigned": (array("Q", [0] * 8), ValueError),
    "read-only": (memoryview(array("q", [0] * 8)).toreadonly(), (BufferError, ValueError)),
    "None": (None, TypeError),
}


@in_one_test
@pytest.mark.parametrize("wrong", WRONG_BYTES)
def test_loops_refuse_memory_that_is_not_contiguous_unsigned_bytes(wrong: str) -> None:
    memory, error = WRONG_BYTES[wrong]
    with pytest.raises(error):
        index_frames(memory, DefaultDeframer(), Q, Q)
    with pytest.raises(error):
        chained_offsets(memory, DefaultDeframer())
    with pytest.raises(error):
        frame_payloads([b"a"], DefaultFramer(), memory, Q)


@pytest.mark.parametrize("memory", [bytes(10), memoryview(bytearray(10)).toreadonly()])
def test_framing_refuses_memory_that_is_read_only(memory: Any) -> None:
    with pytest.raises((BufferError, ValueError)):
        frame_payloads([b"a"], DefaultFramer(), memory, Q)


@in_one_test
@pytest.mark.parametrize("wrong", WRONG_NUMBERS)
def test_loops_refuse_arrays_that_are_not_writable_signed_64_bit_integers(wrong: str) -> None:
    memory, error = WRONG_NUMBERS[wrong]
    with pytest.raises(error):
        frame_payloads([b"a"], DefaultFramer(), bytearray(10), memory)
    with pytest.raises(error):
        index_frames(b"", DefaultDeframer(), memory, Q)
    with pytest.raises(error):
        index_frames(b"", DefaultDeframer(), Q, memory)


def test_loops_refuse_none_in_place_of_a_framer() -> None:
    with pytest.raises(TypeError, match="framer"):
        frame_payloads([b"a"], None, bytearray(10), Q)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="deframer"):
        index_frames(b"", None, Q, Q)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="deframer"):
        chained_offsets(b"", None)  # type: ignore[arg-type]
