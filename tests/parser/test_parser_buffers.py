"""Memory that a parser lends out and payloads that it hands out: neither ever shows the other's bytes."""

from __future__ import annotations

import gc
import random
import struct
import sys
import weakref
from pickle import PickleBuffer
from typing import Any

import numpy as np
import pytest

import flatstream
from flatstream import (
    ChecksumMismatchError,
    DefaultDeframer,
    FrameParser,
    InvalidFrameError,
    SizeThresholdPolicy,
    StreamReader,
    UnexpectedEofError,
)
from reference import framing as reference
from support.errors import raised_by
from support.memory import address
from support.messages import flatbuffer_of_event
from support.processes import run_python
from support.streams import PAYLOADS, STREAM
from support.threads import run_threads

TWO_FRAMES = b"\x03\x00\x00\x00abc\x02\x00\x00\x00de"


def put(parser: FrameParser, data: bytes) -> None:
    """Puts bytes, for which there is room, into a buffer that the parser lends out."""
    buffer = parser.get_buffer()
    buffer[: len(data)] = data
    parser.buffer_updated(len(data))


def numbered(count: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [b"%d " % number + rng.randbytes(rng.choice([0, 5, 40, 300])) for number in range(count)]


# Payloads that are kept


@pytest.mark.parametrize("capacity", [1, 50, 1000, 65_536])
@pytest.mark.parametrize("seed", range(4))
def test_kept_payloads_never_change(capacity: int, seed: int) -> None:
    rng = random.Random(seed)
    payloads = numbered(300, seed)
    rest = reference.encode(payloads, "crc32")
    parser = FrameParser("crc32", capacity=capacity)
    kept: list[Any] = []
    seen = 0
    while rest:
        size = rng.choice([1, 3, 100, 700, 5000])
        if rng.random() < 0.5:
            parser.feed(rest[:size])
            rest = rest[size:]
        else:
            buffer = parser.get_buffer()
            if rng.random() < 0.3:
                # What came before is read while the buffer is out.
                found = parser.read_message()
                if found is not None:
                    kept.append((seen, found))
                    seen += 1
            size = min(size, len(buffer), len(rest))
            buffer[:size] = rest[:size]
            parser.buffer_updated(size)
            rest = rest[size:]
        for found in parser if rng.random() < 0.7 else ():
            if rng.random() < 0.4:
                kept.append((seen, found))
            seen += 1
        if rng.random() < 0.1:
            del kept[: len(kept) // 2]
        assert all(bytes(view) == payloads[number] for number, view in kept)
    for found in parser:
        kept.append((seen, found))
        seen += 1
    assert seen == 300
    assert all(bytes(view) == payloads[number] for number, view in kept)


def test_lent_buffer_shares_no_byte_with_a_payload() -> None:
    parser = FrameParser(capacity=256)
    frame = reference.encode([b"x" * 20], "none")
    kept: list[memoryview] = []
    for _ in range(60):
        buffer = parser.get_buffer()
        begin = address(buffer)
        for view in kept:
            assert not begin - 20 < address(view) < begin + len(buffer)
        assert not buffer.readonly
        buffer[: len(frame)] = frame
        parser.buffer_updated(len(frame))
        kept += parser
    assert len(kept) == 60


def test_payloads_are_read_only_and_lent_buffers_end() -> None:
    parser = FrameParser()
    buffer = parser.get_buffer()
    buffer[: len(TWO_FRAMES)] = TWO_FRAMES
    parser.buffer_updated(len(TWO_FRAMES))
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 1
    for payload in parser:
        assert payload.readonly
        assert memoryview(payload).readonly
        assert np.frombuffer(payload, np.uint8).flags.writeable is False


def test_slices_of_a_lent_buffer_that_are_kept_do_not_reach_payloads() -> None:
    parser = FrameParser()
    kept = []
    for number in range(20):
        buffer = parser.get_buffer()
        part = buffer[:40]
        part[: len(TWO_FRAMES)] = TWO_FRAMES
        parser.buffer_updated(len(TWO_FRAMES))
        kept.append(part if number % 2 else np.frombuffer(part, np.uint8))
        messages = list(parser)
        for old in kept:
            memoryview(old)[:] = bytes([number]) * 40  # type: ignore[arg-type]
        assert [bytes(payload) for payload in messages] == [b"abc", b"de"]


def test_buffer_that_c_code_holds_is_left_to_it() -> None:
    # As uvloop, which releases its buffer after buffer_updated() has returned.
    parser = FrameParser(capacity=100)
    held = []
    payloads: list[memoryview] = []
    for _ in range(10):
        buffer = PickleBuffer(parser.get_buffer())
        buffer.raw()[: len(TWO_FRAMES)] = TWO_FRAMES
        parser.buffer_updated(len(TWO_FRAMES))
        payloads += parser
        held.append(buffer)
        # The next bytes come into other memory.
        parser.feed(TWO_FRAMES)
        payloads += parser
    # What was lent out and not taken is of no use to anybody.
    for buffer in held:
        buffer.raw()[len(TWO_FRAMES) :] = bytes(buffer.raw().nbytes - len(TWO_FRAMES))
    assert [bytes(payload) for payload in payloads] == [b"abc", b"de"] * 20


def test_chunk_is_used_again_when_the_holder_of_a_buffer_has_released_it() -> None:
    parser = FrameParser(capacity=1 << 16)
    begins = []
    for _ in range(50):
        buffer = PickleBuffer(parser.get_buffer())
        buffer.raw()[: len(TWO_FRAMES)] = TWO_FRAMES
        begins.append(address(buffer))
        parser.buffer_updated(len(TWO_FRAMES))
        buffer.release()
        assert sum(1 for _ in parser) == 2
    assert begins == [begins[0] + number * len(TWO_FRAMES) for number in range(50)]


def test_get_buffer_again_takes_the_first_buffer_back() -> None:
    # asyncio: get_buffer, recv_into raises BlockingIOError, and later get_buffer again.
    parser = FrameParser()
    first = parser.get_buffer()
    second = parser.get_buffer(1000)
    with pytest.raises(ValueError, match="released"):
        first[0] = 1
    second[: len(TWO_FRAMES)] = TWO_FRAMES
    parser.buffer_updated(len(TWO_FRAMES))
    assert [bytes(payload) for payload in parser] == [b"abc", b"de"]


def test_buffers_used_in_a_with_statement_are_taken() -> None:
    parser = FrameParser()
    first = None
    for _ in range(3):
        with parser.get_buffer() as buffer:
            buffer[: len(TWO_FRAMES)] = TWO_FRAMES
            begin = address(buffer)
        parser.buffer_updated(len(TWO_FRAMES))
        # Nothing was copied: the bytes of the second follow those of the first.
        assert first is None or begin == first + len(TWO_FRAMES)
        first = begin
        assert [bytes(payload) for payload in parser] == [b"abc", b"de"]


def test_messages_are_read_while_a_buffer_is_out() -> None:
    parser = FrameParser(capacity=64)
    parser.feed(STREAM[:40])
    buffer = parser.get_buffer()
    first = parser.read_message()
    assert first is not None
    assert bytes(first) == PAYLOADS[0]
    assert len(parser.read_batch() or ()) == 1
    assert parser.read_message() is None
    buffer[:20] = STREAM[40:60]
    parser.buffer_updated(20)
    assert bytes(parser.read_message() or b"") == PAYLOADS[2]
    assert bytes(first) == PAYLOADS[0]


def test_payload_can_be_fed_to_its_own_parser() -> None:
    inner = reference.encode([b"x" * 90], "none")
    parser = FrameParser(capacity=128)
    parser.feed(reference.encode([inner], "none"))
    for _ in range(3):
        payload = parser.read_message()
        assert payload is not None
        parser.feed(reference.encode([inner], "none"))
        parser.feed(payload)
        assert bytes(parser.read_message() or b"") == inner
        assert bytes(parser.read_message() or b"") == b"x" * 90
        parser.feed(reference.encode([inner], "none"))


@pytest.mark.parametrize("size", [100, 65_532, 65_536, 200_000])
def test_no_frame_is_copied_on_its_way_in(size: int) -> None:
    frame = reference.encode([bytes(size)], "none")
    parser = FrameParser()
    for _ in range(5):
        done = 0
        # Bytes of the payload, each where it came in, if the frame did not begin in a chunk that was too small for it.
        while done < len(frame):
            buffer = parser.get_buffer()
            took = min(len(buffer), len(frame) - done)
            buffer[:took] = frame[done : done + took]
            last = address(buffer) + took
            parser.buffer_updated(took)
            done += took
        (payload,) = parser
        assert address(payload) + size == last


# Wrong calls


def test_wrong_calls_are_refused_and_change_nothing() -> None:
    parser = FrameParser()
    with pytest.raises(ValueError, match=r"no buffer is out: call get_buffer\(\)"):
        parser.buffer_updated(0)
    size = len(parser.get_buffer())
    for count in (-1, size + 1, 2**70):
        with pytest.raises(ValueError, match=f"nbytes must be from 0 to {size}, the size of the buffer, got {count}"):
            parser.buffer_updated(count)
    for wrong in (None, 1.0, "1"):
        with pytest.raises(TypeError, match="nbytes must be an int, got"):
            parser.buffer_updated(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="size_hint must be an int, got"):
            parser.get_buffer(wrong)  # type: ignore[arg-type]
    with pytest.raises(BufferError, match=r"is out, and its bytes come first: call buffer_updated\(n\)"):
        parser.feed(b"abc")
    parser.buffer_updated(0)
    with pytest.raises(ValueError, match="no buffer is out"):
        parser.buffer_updated(0)
    for text in (None, "abc", 5):
        with pytest.raises(TypeError, match="data must be a bytes-like object"):
            parser.feed(text)  # type: ignore[arg-type]
    with pytest.raises(BufferError, match="data must be C-contiguous"):
        parser.feed(memoryview(b"abcdef")[::2])
    assert (parser.buffered, parser.offset, parser.needed, parser.at_eof) == (0, 0, 1, False)
    words: Any = np.frombuffer(TWO_FRAMES + b"\x00", np.uint16)
    parser.feed(words)
    assert [bytes(payload) for payload in parser] == [b"abc", b"de"]


@pytest.mark.parametrize("lent", [False, True])
def test_nothing_is_taken_after_the_end(lent: bool) -> None:
    parser = FrameParser()
    parser.feed(TWO_FRAMES)
    if lent:
        # As asyncio, whose transport has asked for a buffer when the peer closes.
        parser.get_buffer()[:3] = b"xyz"
    parser.feed_eof()
    parser.feed_eof()
    for call in (lambda: parser.feed(b""), parser.get_buffer, lambda: parser.buffer_updated(0)):
        with pytest.raises(ValueError, match=r"was told by feed_eof\(\) that no more bytes come"):
            call()
    assert not parser.at_eof
    assert [bytes(payload) for payload in parser] == [b"abc", b"de"]
    assert parser.at_eof
    assert parser.read_message() is None
    assert parser.read_batch() is None


def test_torn_end_is_told_by_each_read() -> None:
    parser = FrameParser("crc32")
    parser.feed(reference.encode([b"abc"], "crc32") + b"\x09\x00\x00")
    assert bytes(parser.read_message() or b"") == b"abc"
    assert parser.read_message() is None
    assert parser.needed == 1
    parser.feed_eof()
    errors = [raised_by(parser.read_message), raised_by(parser.read_batch), raised_by(next, parser)]
    assert errors[0] is errors[1] is errors[2]
    assert isinstance(errors[0], UnexpectedEofError)
    assert (errors[0].offset, errors[0].frame, errors[0].needed, errors[0].got) == (11, 1, 4, 3)
    assert not parser.at_eof
    assert parser.needed == 0
    assert parser.buffered == 3


def test_needed_says_how_many_bytes_are_missing() -> None:
    parser = FrameParser("crc32")
    parser.feed(reference.encode([b"first"], "crc32"))
    assert parser.read_message() is not None
    frame = reference.encode([b"x" * 1000], "crc32")
    told = []
    for piece in (frame[:2], frame[2:4], frame[4:100], frame[100:-1], frame[-1:]):
        assert parser.read_message() is None
        told.append(parser.needed)
        parser.feed(piece)
    assert told == [1, 2, 1004, 908, 1]
    assert bytes(parser.read_message() or b"") == b"x" * 1000
    # Asking for a message again, with nothing there.
    assert (parser.read_message(), parser.needed) == (None, 1)


def test_detach_gives_what_was_not_read() -> None:
    parser = FrameParser()
    parser.feed(TWO_FRAMES + b"GET / HTTP/1.1")
    kept = parser.read_message()
    parser.read_message()
    buffer = parser.get_buffer()
    assert parser.detach() == b"GET / HTTP/1.1"
    # The transport may still write: into memory that is nobody else's.
    buffer[:3] = b"xyz"
    assert kept is not None
    assert bytes(kept) == b"abc"
    assert repr(parser) == "<FrameParser detached, 2 frames>"
    for call in (
        parser.detach,
        lambda: parser.feed(b""),
        parser.get_buffer,
        lambda: parser.buffer_updated(0),
        parser.feed_eof,
    ):
        with pytest.raises(ValueError, match="this FrameParser is detached"):
            call()
    reads: list[Any] = [parser.read_message, parser.read_batch, lambda: list(parser)]
    for read in reads:
        with pytest.raises(ValueError, match="closed"):
            read()
    assert (parser.at_eof, parser.buffered, parser.needed) == (False, 0, 0)


def test_calls_from_within_a_read_are_refused() -> None:
    errors: list[BaseException] = []

    def observe(payload: memoryview) -> None:
        for call in (lambda: parser.feed(b"x"), parser.get_buffer, parser.feed_eof, parser.detach):
            errors.append(raised_by(call))

    parser = FrameParser(DefaultDeframer().observed(observe))
    parser.feed(TWO_FRAMES)
    assert len(list(parser)) == 2
    assert len(errors) == 8
    for error in errors:
        assert isinstance(error, RuntimeError)
        assert "reentrant call: this FrameParser" in str(error)


def test_parser_that_was_not_made_raises() -> None:
    parser = FrameParser.__new__(FrameParser)
    for call in (lambda: parser.feed(b"abc"), parser.get_buffer, parser.feed_eof, parser.detach):
        with pytest.raises(ValueError, match="detached"):
            call()
    with pytest.raises(ValueError, match="closed"):
        parser.read_message()
    assert (parser.buffered, parser.needed, parser.at_eof) == (0, 0, False)
    with pytest.raises(TypeError, match=r"made by FrameParser\.get_buffer"):
        type(flatstream.FrameParser().get_buffer().obj)()


# Limits


def test_length_over_the_limit_is_refused_before_it_arrives() -> None:
    header = struct.pack("<I", (16 << 20) + 1)
    parser = FrameParser()
    parser.feed(header)
    error = raised_by(parser.read_message)
    assert isinstance(error, InvalidFrameError)
    assert (error.declared_len, error.limit, error.offset) == ((16 << 20) + 1, 16 << 20, 0)
    assert raised_by(parser.read_message) is error
    for limit, deframer in ((10, None), (10, DefaultDeframer()), (100, DefaultDeframer(max_frame_len=10))):
        parser = FrameParser(deframer, max_frame_len=limit)
        parser.feed(reference.encode([b"x" * 10, b"x" * 11], "none"))
        assert parser.read_message() is not None
        with pytest.raises(InvalidFrameError):
            parser.read_message()


def test_description_that_is_too_long_is_refused_before_it_arrives() -> None:
    def beginning(size: int) -> bytes:
        # The length, the offset of the root, and the mark by which a description is recognized.
        return struct.pack("<I", size) + struct.pack("<I", 16) + b"FSD1"

    for limit, size, refused in ((1000, 1 << 20, False), (1000, (1 << 20) + 100, True), (2 << 20, 2 << 20, False)):
        parser = FrameParser(max_frame_len=limit)
        parser.feed(beginning(size))
        if not refused:
            assert parser.read_message() is None
            assert parser.needed == 4 + size - 12
            continue
        error = raised_by(parser.read_message)
        assert isinstance(error, InvalidFrameError)
        assert (error.limit, error.offset, error.frame) == (1 << 20, 0, None)
        assert raised_by(parser.read_batch) is error
        assert parser.description is None
    parser = FrameParser(max_frame_len=1000, on_error="resync")
    parser.feed(beginning((1 << 20) + 100))
    assert parser.read_message() is None
    parser.feed(b"".join(reference.encode([flatbuffer_of_event(number)], "none") for number in range(10)))
    parser.feed_eof()
    assert len(list(parser)) == 10
    assert parser.lost_ranges == [(0, 12)]


@pytest.mark.parametrize("lent", [False, True])
def test_claim_costs_no_memory(lent: bool) -> None:
    parser = FrameParser(max_frame_len=None)
    data = struct.pack("<I", 2**31 - 1)
    if lent:
        put(parser, data)
    else:
        parser.feed(data)
    assert parser.read_message() is None
    assert parser.needed == 2**31 - 1
    size = 4
    for _ in range(40):
        if lent:
            assert len(parser.get_buffer()) <= 1 << 20
            parser.buffer_updated(10_000)
        else:
            parser.feed(bytes(10_000))
        size += 10_000
        assert parser.read_message() is None
        assert parser.buffer_capacity <= size + (1 << 20) + 65_536
    assert parser.buffered == size


def test_bytes_that_nobody_reads_take_no_more_than_twice_their_memory() -> None:
    parser = FrameParser(capacity=1000)
    frame = reference.encode([b"x" * 96], "none")
    for number in range(1, 2000):
        parser.feed(frame)
        assert parser.buffer_capacity <= max(2000, 2 * 100 * number)
    for _ in range(2000):
        # One in, one out: the rest is not moved each time, and the memory stays.
        parser.feed(frame)
        assert parser.read_message() is not None
        assert parser.buffer_capacity <= 2 * 2 * 100 * 2000
    assert parser.buffered == 1999 * 100


def test_memory_policy_gives_back_what_a_large_frame_took() -> None:
    policy = SizeThresholdPolicy(grow_above_bytes=50_000, shrink_below_bytes=1000, messages_to_wait=3)
    parser = FrameParser(capacity=4096, memory_policy=policy)
    parser.feed(reference.encode([bytes(500_000)], "none"))
    assert len(parser.read_message() or b"") == 500_000
    assert parser.buffer_capacity >= 500_000
    for number in range(20):
        (put if number % 2 else FrameParser.feed)(parser, reference.encode([b"abc"], "none"))
        assert bytes(parser.read_message() or b"") == b"abc"
    assert parser.buffer_capacity <= max(policy.baseline_capacity, 4096)


def test_search_behind_damage_keeps_no_more_than_the_window() -> None:
    rng = random.Random(3)
    parser = FrameParser("crc32", on_error="resync", resync_window=1 << 16, capacity=4096)
    parser.feed(reference.encode([b"first"], "crc32") + b"\xff" * 8)
    got = [bytes(payload) for payload in parser]
    for _ in range(100):
        parser.feed(rng.randbytes(7000))
        got += [bytes(payload) for payload in parser]
        assert parser.buffered <= (1 << 16) + 7000
        assert parser.buffer_capacity <= 4 << 16
    parser.feed(reference.encode([b"last %d" % number for number in range(3)], "crc32"))
    got += [bytes(payload) for payload in parser]
    parser.feed_eof()
    got += [bytes(payload) for payload in parser]
    assert got == [b"first", b"last 0", b"last 1", b"last 2"]
    assert parser.lost_ranges == [(13, 13 + 8 + 700_000)]


def test_frame_behind_damage_is_given_when_it_is_whole() -> None:
    parser = FrameParser("crc32", on_error="resync")
    good = reference.encode([b"message of one"], "crc32")
    parser.feed(b"\x05\x00\x00\x00nonsense!")
    parser.feed(good[:-1])
    assert parser.read_message() is None
    parser.feed(good[-1:])
    assert bytes(parser.read_message() or b"") == b"message of one"
    assert parser.lost_ranges == [(0, 13)]


def test_refused_frame_is_consumed() -> None:
    parser = FrameParser("crc32")
    bad = bytearray(reference.encode([b"abc"], "crc32"))
    bad[-1] ^= 1
    for _ in range(2):
        parser.feed(bad)
        with pytest.raises(ChecksumMismatchError):
            parser.read_message()
        parser.feed(reference.encode([b"next"], "crc32"))
        assert bytes(parser.read_message() or b"") == b"next"


# Threads, processes, garbage


def test_threads_share_a_parser() -> None:
    payloads = [b"%d" % number for number in range(4000)]
    parser = FrameParser("crc32", capacity=256)
    frames = [reference.encode([payload], "crc32") for payload in payloads]
    got: list[list[bytes]] = [[], [], []]
    rest = iter(frames)

    def feed() -> None:
        for frame in rest:
            parser.feed(frame)

    def read(own: list[bytes]) -> None:
        while parser.frames_read < len(frames):
            for payload in parser:
                own.append(bytes(payload))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        run_threads(feed, *[lambda own=own: read(own) for own in got])
    finally:
        sys.setswitchinterval(interval)
    assert sorted(int(payload) for own in got for payload in own) == list(range(4000))
    # Each thread has them in order.
    assert all(own == sorted(own, key=int) for own in got)


def test_parser_works_on_in_a_child_process() -> None:
    code = """
import os
from flatstream import FrameParser

parser = FrameParser()
parser.feed(b"\\x03\\x00\\x00\\x00ab")
child = os.fork()
parser.feed(b"c" if child else b"d")
text = bytes(parser.read_message()).decode()
if not child:
    os._exit(text != "abd")
assert text == "abc"
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    assert run_python(code).returncode == 0


def test_cycle_through_a_parser_is_collected() -> None:
    class Owner:
        pass

    gc.collect()
    owner: Any = Owner()

    def observe(payload: memoryview, owner: Any = owner) -> None:
        pass

    owner.parser = FrameParser(DefaultDeframer().observed(observe))
    owner.parser.feed(TWO_FRAMES)
    owner.buffer = owner.parser.get_buffer()
    owner.payload = owner.parser.read_message()
    gone = weakref.ref(owner)
    payload = owner.payload
    del owner, observe
    gc.collect()
    assert gone() is None
    assert bytes(payload) == b"abc"


def test_parser_is_no_reader_of_a_source() -> None:
    assert not isinstance(FrameParser(), StreamReader)
    assert not hasattr(FrameParser, "source")
    assert repr(FrameParser()) == "<FrameParser 0 bytes not read, 0 frames>"
    assert FrameParser("crc32").checksum == "crc32"
