"""Reader and writer against the reference: random streams, in every mode, over every source and sink, however cut.

What a reader must do with a stream is known beforehand: `reference.decode` gives the frames it finds, the ones it must
refuse and how the stream ends. `Judge` holds a reader to that, call by call, whichever way it is read.
"""

from __future__ import annotations

import array
import contextlib
import io
import itertools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from flatstream import (
    ChecksumMismatchError,
    Deframer,
    FlatStreamError,
    FrameBatch,
    InvalidFrameError,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
)
from reference import framing as reference
from support.errors import facts
from support.extent import in_one_test
from support.items import BytesItem
from support.modes import MODES, Mode, every_mode
from support.sinks import SINKS, InterruptedSink, ShortSink, Target
from support.sources import SOURCES, CutReadSource, CutSource, InterruptedSource, every_source

# There is a test for each pair of a mode and a source or sink: a few examples of each are many together.
few_examples = settings(max_examples=max(1, settings().max_examples // 5))


def seed_of(*names: str) -> Callable[[Any], Any]:
    """Gives each of a test's parameters examples of their own: with one fixed seed all of them would see the same."""
    return seed(zlib.crc32(" ".join(names).encode())) if settings().derandomize else lambda test: test


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


# Random streams


# Mostly small, so that frames, chunks and cuts meet in every possible way; the reference's checksums are slow besides.
payloads_strategy = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.binary(max_size=12),
        st.builds(lambda byte, size: bytes([byte, size % 256]) * (size // 2), st.integers(0, 255), st.integers(0, 300)),
    ),
    max_size=10,
)


@st.composite
def damages(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with one to three things done to it that happen to files."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "flip", "cut", "insert", "remove", "zeros"])):
            case "flip" if data:
                data = data[:place] + bytes([data[place] ^ 1 << draw(st.integers(0, 7))]) + data[place + 1 :]
            case "cut":
                data = data[:place]
            case "insert":
                data = data[:place] + draw(st.binary(min_size=1, max_size=9)) + data[place:]
            case "remove":
                data = data[:place] + data[place + draw(st.integers(1, 9)) :]
            case "zeros":
                data = data + bytes(draw(st.integers(1, 40)))
    return data


# What a deframer is told of limits, and what that comes to for the reference.
@st.composite
def limits(draw: st.DrawFn) -> tuple[Callable[[Mode], Deframer], dict[str, Any]]:
    length = draw(st.sampled_from([2**31, 2**32 - 1, 300, 12, 3, 0]))
    allow_empty = draw(st.sampled_from([True, True, False]))
    options = {"max_frame_len": length, "allow_empty": allow_empty}
    match draw(st.sampled_from(["max_frame_len", "with_max_frame_len", "bounded"])):
        case "max_frame_len":
            return lambda mode: mode.deframer(**options), options
        case "with_max_frame_len":
            return lambda mode: mode.deframer(allow_empty=allow_empty).with_max_frame_len(length), options
        case _:
            # Around one without a limit of its own, so that there is only one.
            return lambda mode: mode.deframer(max_frame_len=2**32 - 1).bounded(length), {"max_frame_len": length}


no_limits: tuple[Callable[[Mode], Deframer], dict[str, Any]] = (lambda mode: mode.deframer(), {})


# Sources: those of support, and three that give a few bytes at a time


@contextlib.contextmanager
def open_source(kind: str, data: bytes, folder: Path, cuts: list[int]) -> Iterator[Any]:
    cut_sources: dict[str, Callable[[bytes, list[int]], Any]] = {
        "cut_readinto": CutSource,
        "cut_read": CutReadSource,
        "interrupted": InterruptedSource,
    }
    if kind in cut_sources:
        yield cut_sources[kind](data, cuts)
    else:
        with SOURCES[kind].open(data, folder) as source:
            yield source


source_kinds = pytest.mark.parametrize("source_kind", [*SOURCES, "cut_readinto", "cut_read", "interrupted"])

capacities = st.one_of(st.integers(1, 40), st.sampled_from([1, 64, 1000, 256 * 1024]))
cut_places = st.lists(st.integers(1, 600), max_size=30)


# Reading


class EnoughError(Exception):
    """Raised by a function that has seen as many payloads as it wanted."""


class Judge:
    """Reads with a StreamReader and asserts that each call does what the reference says."""

    def __init__(self, reader: StreamReader, data: bytes, stream: reference.Stream, header: int, at_hand: bool) -> None:
        self.reader = reader
        self.data = data
        self.outcomes = stream.outcomes
        self.end = stream.end
        self.header = header
        # Whether all of the stream is at hand at once, as when the source is a buffer.
        self.at_hand = at_hand
        self.done = 0
        self.kept: list[tuple[memoryview, bytes]] = []

    # What comes next

    @property
    def expected(self) -> reference.Good | reference.Mismatch | reference.Clean | reference.Torn | reference.Invalid:
        return self.outcomes[self.done] if self.done < len(self.outcomes) else self.end

    @property
    def finished(self) -> bool:
        return self.done == len(self.outcomes)

    def payloads_ahead(self) -> list[bytes]:
        """The payloads that come before a refusal or the end."""
        ahead = itertools.takewhile(lambda outcome: isinstance(outcome, reference.Good), self.outcomes[self.done :])
        return [outcome.payload for outcome in ahead if isinstance(outcome, reference.Good)]

    # What has come

    def accept(self, view: Any, keep: bool) -> None:
        """One payload came."""
        expected = self.expected
        assert isinstance(expected, reference.Good), f"{bytes(view)!r} came instead of {expected}"
        assert isinstance(view, memoryview)
        assert (view.format, view.ndim, view.readonly) == ("B", 1, True)
        assert view == expected.payload
        self.done += 1
        if keep:
            self.kept.append((view, expected.payload))

    def refuse(self, error: FlatStreamError) -> None:
        """An error came instead of a payload, or instead of the end."""
        kind, attributes = facts(error)
        match self.expected:
            case reference.Mismatch(offset, frame, _, stored, calculated):
                assert kind is ChecksumMismatchError
                assert attributes == {"offset": offset, "frame": frame, "expected": stored, "calculated": calculated}
                self.done += 1
            case reference.Torn(offset, frame, needed, got):
                assert kind is UnexpectedEofError
                assert attributes == {"offset": offset, "frame": frame, "needed": needed, "got": got}
            case reference.Invalid(offset, frame, declared_len, limit):
                assert kind is InvalidFrameError
                # How much of the frame had arrived when its length was refused depends on how the source was cut.
                buffer_len = attributes.pop("buffer_len")
                most = len(self.data) - offset
                assert buffer_len == most if self.at_hand else 4 <= buffer_len <= most
                assert attributes == {"offset": offset, "frame": frame, "declared_len": declared_len, "limit": limit}
            case expected:
                raise AssertionError(f"an error came instead of {expected}") from error

    def attempt(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a call, or None and a judgement if it raised."""
        try:
            return function(*arguments)
        except FlatStreamError as error:
            self.refuse(error)
            return error

    # Ways to read

    def read_message(self, keep: bool) -> None:
        self.one(self.reader.read_message, keep)

    def iterate(self, keep: bool) -> None:
        self.one(lambda: next(iter(self.reader.messages()), None), keep)

    def one(self, read: Callable[[], Any], keep: bool) -> None:
        view = self.attempt(read)
        if view is None:
            assert isinstance(self.expected, reference.Clean)
        elif not isinstance(view, FlatStreamError):
            self.accept(view, keep)
            before = self.outcomes[self.done - 1]
            assert self.reader.message_offset == before.offset
        self.check_place()

    def process_all(self, wanted: int, keep: bool) -> None:
        """Reads until it has `wanted` payloads or something else comes."""
        ahead = self.payloads_ahead()
        seen = 0

        def take(view: memoryview) -> str:
            nonlocal seen
            self.accept(view, keep)
            seen += 1
            if seen == wanted:
                raise EnoughError
            return "what it returns is ignored"

        if len(ahead) >= wanted:
            with pytest.raises(EnoughError):
                self.reader.process_all(take)
            assert seen == wanted
        else:
            result = self.attempt(self.reader.process_all, take)
            assert seen == len(ahead)
            if not isinstance(result, FlatStreamError):
                assert isinstance(self.expected, reference.Clean)
                assert result == seen
        self.check_place()

    def read_batch(self, max_frames: int | None, max_bytes: int | None, keep: bool) -> None:
        self.batch(lambda: self.reader.read_batch(max_frames, max_bytes), max_frames, max_bytes, keep)

    def batches(self, max_frames: int | None, max_bytes: int | None, keep: bool) -> None:
        self.batch(lambda: next(self.reader.batches(max_frames, max_bytes), None), max_frames, max_bytes, keep)

    def batch(self, read: Callable[[], Any], max_frames: int | None, max_bytes: int | None, keep: bool) -> None:
        batch = self.attempt(read)
        if isinstance(batch, FlatStreamError):
            return
        if batch is None:
            assert isinstance(self.expected, reference.Clean)
            return
        assert isinstance(batch, FrameBatch)
        count = len(batch)
        taken = self.outcomes[self.done : self.done + count]
        assert 1 <= count == len(taken)
        begin, end = taken[0].offset, taken[-1].offset + taken[-1].size
        assert batch.stream_offset == begin
        assert batch.buffer == self.data[begin:end]
        assert list(batch.offsets) == [outcome.offset + self.header - begin for outcome in taken]
        assert list(batch.lengths) == [outcome.size - self.header for outcome in taken]
        for view in batch:
            self.accept(view, keep)
        if keep:
            self.kept.append((batch.buffer, self.data[begin:end]))

        size = sum(batch.lengths)
        assert max_frames is None or count <= max_frames
        assert max_bytes is None or size <= max_bytes or count == 1
        following = self.expected
        if self.at_hand and isinstance(following, reference.Good) and count != max_frames:
            # It did not stop before it had to.
            assert max_bytes is not None
            assert size >= max_bytes or size + len(following.payload) > max_bytes
        self.check_place()

    def check_place(self) -> None:
        """The reader's own idea of where it is."""
        good = [outcome for outcome in self.outcomes[: self.done] if isinstance(outcome, reference.Good)]
        assert self.reader.frames_read == len(good)
        assert self.reader.bytes_read == sum(outcome.size for outcome in good)
        assert self.reader.offset == self.expected.offset

    def check_kept(self) -> None:
        for view, expected in self.kept:
            assert view == expected


limit_strategy = st.one_of(st.none(), st.integers(1, 5), st.integers(1, 400))
calls_strategy = st.lists(
    st.one_of(
        st.tuples(st.just("read_message"), st.booleans()),
        st.tuples(st.just("iterate"), st.booleans()),
        st.tuples(st.just("process_all"), st.integers(1, 6), st.booleans()),
        st.tuples(st.just("read_batch"), limit_strategy, limit_strategy, st.booleans()),
        st.tuples(st.just("batches"), limit_strategy, limit_strategy, st.booleans()),
    ),
    min_size=1,
    max_size=6,
)

# After the end, every way to read must say the same again.
ALL_CALLS: list[tuple[Any, ...]] = [
    ("read_message", True),
    ("iterate", True),
    ("process_all", 1, True),
    ("read_batch", None, None, True),
    ("batches", 1, 1, True),
    ("read_message", True),
]


def check_reading(
    data: bytes,
    mode: Mode,
    limited: tuple[Callable[[Mode], Deframer], dict[str, Any]],
    source_kind: str,
    folder: Path,
    capacity: int,
    cuts: list[int],
    calls: list[tuple[Any, ...]],
) -> reference.Stream:
    """Reads `data` by `calls`, over and over up to its end and beyond; returns what the reference found."""
    make_deframer, options = limited
    stream = reference.decode(data, mode.name, **options)
    at_hand = source_kind in SOURCES and SOURCES[source_kind].is_buffer
    with (
        open_source(source_kind, data, folder, cuts) as source,
        StreamReader(source, make_deframer(mode), capacity=capacity) as reader,
    ):
        judge = Judge(reader, data, stream, 4 + mode.size, at_hand)
        for call, *arguments in itertools.cycle(calls):
            if judge.finished:
                break
            getattr(judge, call)(*arguments)
        for call, *arguments in ALL_CALLS:
            getattr(judge, call)(*arguments)
            assert judge.finished
        judge.check_kept()
    judge.check_kept()
    return stream


@in_one_test(step=2)
@source_kinds
@every_mode
def test_random_stream_is_read_as_the_reference_reads_it(mode, source_kind, folder):
    @seed_of("random", mode.name, source_kind)
    @few_examples
    @given(payloads=payloads_strategy, capacity=capacities, cuts=cut_places, calls=calls_strategy)
    def check(payloads, capacity, cuts, calls):
        data = reference.encode(payloads, mode.name)
        stream = check_reading(data, mode, no_limits, source_kind, folder, capacity, cuts, calls)
        assert stream.payloads == payloads
        assert stream.end == reference.Clean(len(data))

    check()


@in_one_test(step=2)
@source_kinds
@every_mode
def test_damaged_stream_is_read_as_the_reference_reads_it(mode, source_kind, folder):
    damaged = payloads_strategy.flatmap(lambda payloads: damages(reference.encode(payloads, mode.name)))

    @seed_of("damaged", mode.name, source_kind)
    @few_examples
    @given(data=damaged, limited=limits(), capacity=capacities, cuts=cut_places, calls=calls_strategy)
    def check(data, limited, capacity, cuts, calls):
        check_reading(data, mode, limited, source_kind, folder, capacity, cuts, calls)

    check()


@in_one_test
@pytest.mark.parametrize("source_kind", ["bytes", "bytesio"])
@every_mode
def test_random_bytes_are_read_as_the_reference_reads_them(mode, source_kind, folder):
    @seed_of("bytes", mode.name, source_kind)
    @given(data=st.binary(max_size=200), capacity=capacities, calls=calls_strategy)
    def check(data, capacity, calls):
        check_reading(data, mode, no_limits, source_kind, folder, capacity, [], calls)

    check()


@in_one_test
@pytest.mark.parametrize("way", ["read_message", "iterate", "process_all", "read_batch", "batches"])
@every_source
@every_mode
def test_each_way_to_read_alone_passes_over_mismatches_and_comes_to_the_torn_end(mode, source_kind, way, tmp_path):
    data = bytearray(reference.encode([b"abc", b"", b"defgh", b"ij", b"k" * 90, b"l", b"m"], mode.name))
    # The payloads b"defgh" and b"ij", and the last frame.
    second, third = 2 * (4 + mode.size) + 3, 3 * (4 + mode.size) + 8
    data[second + 4 + mode.size] ^= 0x10
    data[third + 4 + mode.size] ^= 0x01
    torn = bytes(data[:-1])
    arguments = {"process_all": (100,), "read_batch": (None, None), "batches": (None, None)}.get(way, ())
    stream = check_reading(torn, mode, no_limits, source_kind.name, tmp_path, 50, [], [(way, *arguments, True)])
    refused = [outcome.offset for outcome in stream.outcomes if isinstance(outcome, reference.Mismatch)]
    assert refused == ([second, third] if mode.size else [])
    assert stream.end == reference.Torn(len(torn) - 4 - mode.size, 6, 5 + mode.size, 4 + mode.size)


@in_one_test
@pytest.mark.parametrize("cut", range(1, 60))
@pytest.mark.parametrize("source", [CutSource, CutReadSource, InterruptedSource])
@pytest.mark.parametrize("mode", [MODES["none"], MODES["crc16"], MODES["xxhash64"]], ids=lambda mode: mode.name)
def test_stream_cut_by_its_source_at_any_place_is_read_whole(mode, source, cut):
    payloads = [b"abc", b"", b"defghijklmnopqrs", b"tu", b"v"]
    data = reference.encode(payloads, mode.name)
    with StreamReader(source(data, [cut]), mode.deframer()) as reader:
        assert [bytes(payload) for payload in reader] == payloads


@in_one_test
@pytest.mark.parametrize("source", [CutSource, CutReadSource, InterruptedSource])
@every_mode
def test_stream_that_comes_byte_by_byte_is_read_whole(mode, source):
    payloads = [b"abc", b"", b"defghijklmnopqrs", b"tu", b"v"]
    data = reference.encode(payloads, mode.name)
    by_byte = source(data, range(len(data)))
    with StreamReader(by_byte, mode.deframer()) as reader:
        assert [bytes(payload) for payload in reader] == payloads
    if source is InterruptedSource:
        # One interruption after every second byte, and after the end.
        assert by_byte.interruptions == len(data) // 2


# Payloads around the sizes at which something changes: the writer's buffer, the reader's chunk, the step in which a
# chunk grows (1 MiB). Without a checksum and with XXH3, because the reference is slow with the others.
LARGE = [65535 - 12, 65536, 256 * 1024 - 4, 256 * 1024, (1 << 20) - 1, (1 << 20) + 1, 3_000_001]


@in_one_test(step=4)
@pytest.mark.parametrize("capacity", [1, 4096, 256 * 1024, 4 << 20])
@pytest.mark.parametrize("kind", ["bytes", "raw_file", "bytesio", "socket", "pipe"])
@pytest.mark.parametrize("mode", [MODES["none"], MODES["xxhash64"]], ids=lambda mode: mode.name)
def test_large_payloads_among_small_ones_are_read_whole(mode, kind, capacity, tmp_path):
    payloads = []
    for number, size in enumerate(LARGE):
        payloads += [bytes([number]) * 3, bytes(range(number, 251)) * (size // 200 + 1)]
        payloads[-1] = payloads[-1][:size]
    data = reference.encode(payloads, mode.name)
    with (
        SOURCES[kind].open(data, tmp_path) as source,
        StreamReader(source, mode.deframer(), capacity=capacity) as reader,
    ):
        for payload in payloads:
            # Compared as bytes: comparing memoryviews takes each item out.
            assert bytes(reader.read_message() or b"") == payload
        assert reader.read_message() is None


# Batches


def test_batch_offsets_and_lengths_are_read_only_int64_views():
    with StreamReader(reference.encode([b"abc", b"", b"de"], "crc32"), MODES["crc32"].deframer()) as reader:
        batch = reader.read_batch()
    assert batch is not None
    for view, expected in ((batch.offsets, [8, 19, 27]), (batch.lengths, [3, 0, 2])):
        assert isinstance(view, memoryview)
        assert (view.format, view.itemsize, view.shape, view.strides, view.readonly) == ("q", 8, (3,), (8,), True)
        assert view.tolist() == expected
        with pytest.raises(TypeError):
            view[0] = 1
    assert (batch.buffer.format, batch.buffer.readonly, len(batch.buffer)) == ("B", True, 29)


def test_numpy_takes_offsets_lengths_and_buffer_without_a_copy():
    source = np.frombuffer(bytearray(reference.encode([b"abc", b"", b"de"], "none")), np.uint8)
    with StreamReader(source) as reader:
        batch = reader.read_batch()
    assert batch is not None
    for view in (batch.offsets, batch.lengths):
        first, second = np.asarray(view), np.asarray(view)
        assert first.dtype == np.int64
        assert not first.flags.owndata
        assert not first.flags.writeable
        # Two copies would not lie in the same place.
        assert np.shares_memory(first, second)
        assert first.tolist() == view.tolist()
    assert np.shares_memory(np.asarray(batch.buffer), source)
    # They outlive the batch.
    offsets = np.asarray(batch.offsets)
    del batch
    assert offsets.tolist() == [4, 11, 15]


def test_batch_is_a_sequence_of_views():
    payloads = [b"abc", b"", b"de", b"f"]
    with StreamReader(io.BytesIO(reference.encode(payloads, "crc64")), MODES["crc64"].deframer()) as reader:
        batch = reader.read_batch()
    assert batch is not None
    assert len(batch) == 4
    assert [bytes(view) for view in batch] == payloads
    assert [bytes(batch[index]) for index in range(-4, 4)] == payloads + payloads
    assert [bytes(view) for view in batch[1:3]] == payloads[1:3]
    assert [bytes(view) for view in batch[::-2]] == payloads[::-2]
    assert batch[4:] == []
    for index in (4, -5, 100):
        with pytest.raises(IndexError, match="of a batch of 4"):
            batch[index]
    assert list(batch[0]) == [97, 98, 99]


@in_one_test
@pytest.mark.parametrize(
    ("max_frames", "max_bytes", "sizes"),
    [
        (None, None, [[3, 2, 5, 1, 9]]),
        (2, None, [[3, 2], [5, 1], [9]]),
        (1, None, [[3], [2], [5], [1], [9]]),
        (None, 5, [[3, 2], [5], [1], [9]]),
        (None, 6, [[3, 2], [5, 1], [9]]),
        (None, 1, [[3], [2], [5], [1], [9]]),
        (3, 8, [[3, 2], [5, 1], [9]]),
        (2, 100, [[3, 2], [5, 1], [9]]),
        (100, 100, [[3, 2, 5, 1, 9]]),
    ],
)
@pytest.mark.parametrize("mode", [MODES["none"], MODES["crc32"], MODES["sum24"]], ids=lambda mode: mode.name)
def test_batches_of_a_buffer_are_as_large_as_the_limits_allow(mode, max_frames, max_bytes, sizes):
    data = reference.encode([b"x" * size for size in (3, 2, 5, 1, 9)], mode.name)
    with StreamReader(data, mode.deframer()) as reader:
        assert [list(batch.lengths) for batch in reader.batches(max_frames, max_bytes)] == sizes
        assert reader.read_batch(max_frames, max_bytes) is None


@in_one_test
@every_mode
def test_batch_asks_the_source_only_if_no_whole_frame_is_at_hand(mode):
    data = reference.encode([b"a", b"b", b"c", b"d"], mode.name)
    size = 5 + mode.size
    source = CutSource(data, [2 * size + 3, 3 * size])
    with StreamReader(source, mode.deframer()) as reader:
        calls = []
        for batch in reader.batches():
            calls.append((source.calls, len(batch)))
    # One and a half frames behind the first read, then the rest of the third, then the fourth.
    assert calls == [(1, 2), (2, 1), (3, 1)]


@in_one_test
@pytest.mark.parametrize("kind", ["bytes", "bytesio"])
@pytest.mark.parametrize("mode", [mode for mode in MODES.values() if mode.size], ids=lambda mode: mode.name)
def test_batch_before_a_mismatch_leaves_the_reader_at_the_refused_frame(mode, kind, tmp_path):
    """Its error has not been raised yet, so the frame is still to come: nothing may be lost without a word."""
    data = bytearray(reference.encode([b"abc", b"def", b"ghi"], mode.name))
    size = 7 + mode.size
    data[size + 4 + mode.size] ^= 1
    with SOURCES[kind].open(bytes(data), tmp_path) as source:
        reader = StreamReader(source, mode.deframer())
        batch = reader.read_batch()
        assert batch is not None
        assert [bytes(view) for view in batch] == [b"abc"]
        assert reader.offset == size
        _, unread = reader.detach()
        assert bytes(unread) == data[size:]


# Writing


def built(item: str | bytes) -> flatbuffers.Builder:
    """A builder of the test's own that holds a finished message: a string, or a vector of bytes."""
    builder = flatbuffers.Builder(32)
    builder.Finish(builder.CreateString(item) if isinstance(item, str) else builder.CreateByteVector(item))
    return builder


# The caller's bytes in some of the forms that the writer takes; test_checksums.py has all of them.
FORMS: list[Callable[[bytes], Any]] = [
    lambda payload: payload,
    bytearray,
    memoryview,
    lambda payload: array.array("B", payload),
]

contents = st.one_of(st.binary(max_size=20), st.binary(max_size=300))
texts = st.text(max_size=20)
items_strategy = st.one_of(contents, texts)
writes_strategy = st.lists(
    st.one_of(
        st.tuples(st.just("write_payload"), contents, st.sampled_from(FORMS)),
        st.tuples(st.just("write_payloads"), st.lists(contents, max_size=5), st.sampled_from(FORMS)),
        st.tuples(st.just("write_finished"), items_strategy),
        st.tuples(st.just("write_message"), items_strategy),
        st.tuples(st.just("write"), items_strategy),
        st.tuples(st.just("write_batch"), st.lists(items_strategy, max_size=4)),
        st.tuples(st.just("flush")),
    ),
    max_size=10,
)


def perform(writer: StreamWriter, call: str, *arguments: Any) -> list[bytes]:
    """Writes with one method, and returns the payloads that this makes."""
    match call, arguments:
        case "write_payload", (payload, form):
            writer.write_payload(form(payload))
            return [payload]
        case "write_payloads", (payloads, form):
            writer.write_payloads(form(payload) for payload in payloads)
            return list(payloads)
        case "write_finished", (item,):
            builder = built(item)
            expected = bytes(builder.Output())
            writer.write_finished(builder)
            # The builder is left as it was.
            assert builder.Output() == expected
            return [expected]
        case "write_message", (item,):
            builder = built(item)
            expected = bytes(builder.Output())
            writer.write_message(builder)
            assert not builder.finished
            return [expected]
        case "write", (item,):
            writer.write(item if isinstance(item, str) else BytesItem(item))
            return [bytes(built(item).Output())]
        case "write_batch", (items,):
            writer.write_batch([item if isinstance(item, str) else BytesItem(item) for item in items])
            return [bytes(built(item).Output()) for item in items]
        case "flush", ():
            writer.flush()
            return []
    raise AssertionError(call)


@contextlib.contextmanager
def open_target(kind: str, folder: Path, shares: list[int]) -> Iterator[Target]:
    short_sinks: dict[str, Callable[[list[int]], ShortSink]] = {"short": ShortSink, "interrupted": InterruptedSink}
    if kind in short_sinks:
        sink = short_sinks[kind](shares)
        yield Target(sink, sink.arrived)
    else:
        with SINKS[kind].open(folder) as target:
            yield target


@in_one_test(step=2)
@pytest.mark.parametrize("sink_kind", [*SINKS, "short", "interrupted"])
@every_mode
def test_random_writes_give_the_bytes_of_the_reference(mode, sink_kind, folder):
    @seed_of("writes", mode.name, sink_kind)
    @few_examples
    @given(
        writes=writes_strategy,
        buffer_size=st.one_of(st.sampled_from([0, 1, 4, 16, 65536]), st.integers(0, 400)),
        shares=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    )
    def check(writes, buffer_size, shares):
        payloads: list[bytes] = []
        with open_target(sink_kind, folder, shares) as target:
            with StreamWriter(target.sink, mode.framer(), buffer_size=buffer_size) as writer:
                for write in writes:
                    payloads += perform(writer, *write)
                    assert writer.frames_written == len(payloads)
                    assert writer.bytes_written == sum(map(len, payloads)) + (4 + mode.size) * len(payloads)
            assert target.arrived() == reference.encode(payloads, mode.name)

    check()


@in_one_test
@every_mode
def test_sink_has_the_whole_stream_after_each_flush_and_never_anything_else(mode):
    @seed_of("flush", mode.name)
    @given(writes=writes_strategy, buffer_size=st.one_of(st.just(0), st.integers(1, 400)))
    def check(writes, buffer_size):
        sink = io.BytesIO()
        payloads: list[bytes] = []
        with StreamWriter(sink, mode.framer(), buffer_size=buffer_size) as writer:
            for write in writes:
                payloads += perform(writer, *write)
                stream = reference.encode(payloads, mode.name)
                assert sink.getvalue() == stream[: len(stream) - writer.pending_bytes]
                assert writer.pending_bytes <= buffer_size
                if buffer_size == 0 or write == ("flush",):
                    assert sink.getvalue() == stream

    check()


@in_one_test(step=4)
@pytest.mark.parametrize("buffer_size", [0, 1, 65536, 1 << 20])
@pytest.mark.parametrize("kind", SINKS)
@pytest.mark.parametrize("mode", [MODES["none"], MODES["xxhash64"]], ids=lambda mode: mode.name)
def test_large_payloads_among_small_ones_are_written_whole(mode, kind, buffer_size, tmp_path):
    payloads = []
    for number, size in enumerate(LARGE):
        payloads += [bytes([number]) * 3, (bytes(range(number, 251)) * (size // 200 + 1))[:size]]
    with SINKS[kind].open(tmp_path) as target:
        with StreamWriter(target.sink, mode.framer(), buffer_size=buffer_size) as writer:
            for payload in payloads:
                writer.write_payload(payload)
        assert target.arrived() == reference.encode(payloads, mode.name)
