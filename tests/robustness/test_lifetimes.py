"""What a reader hands out stays as it was for as long as anybody keeps it, and costs no memory once nobody does.

A payload is a view of a chunk of the reader's, or of the caller's own buffer. Shown here: views keep their bytes while
the reader reads on, is closed, detached or collected; a buffer that is looked at cannot be resized or closed, and says
so with a BufferError; it can be as soon as the last view is gone; chunks are used again when, and only when, no view of
them is alive. The same for what a writer hands to its sink. At the end all of it in random orders.
"""

from __future__ import annotations

import array
import gc
import io
import mmap
import queue
import random
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumMismatchError,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    FrameBatch,
    FrameSpan,
    SizeThresholdPolicy,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
    Validator,
)
from reference import framing as reference
from support.extent import in_one_test
from support.sinks import PlainSink, ShortSink
from support.sources import CutReadSource, CutSource, every_source


def numbered(count: int, size: int = 12) -> list[bytes]:
    """`count` payloads of `size` bytes, no two of them alike."""
    return [(b"%d:" % number).ljust(size, b"%c" % (65 + number % 26)) for number in range(count)]


PAYLOADS = numbered(200)
STREAM = reference.encode(PAYLOADS, "none")


class Owners:
    """Counts the objects that the memory of views belongs to. It keeps them, so that none takes another's place."""

    def __init__(self) -> None:
        self.by_id: dict[int, Any] = {}

    def note(self, view: memoryview) -> None:
        self.by_id[id(view.obj)] = view.obj

    def __len__(self) -> int:
        return len(self.by_id)


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def blocks_of(size: int) -> int:
    """How many blocks of exactly `size` bytes are allocated at present, as far as they were traced."""
    return sum(trace.size == size for trace in tracemalloc.take_snapshot().traces)


# Views kept


@in_one_test
@every_source
@pytest.mark.parametrize("capacity", [1, 50, 4096])
def test_views_kept_while_reading_on_keep_their_bytes(source_kind, capacity, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source, StreamReader(source, capacity=capacity) as reader:
        kept = list(reader)
        assert [bytes(view) for view in kept] == PAYLOADS
        assert all(view.readonly and view.format == "B" and view.c_contiguous for view in kept)


@in_one_test
@every_source
def test_views_outlive_a_closed_reader_and_its_source(source_kind, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source:
        with StreamReader(source, capacity=100) as reader:
            kept = [next(reader) for _ in range(150)]
        with pytest.raises(ValueError, match="closed"):
            next(reader)
    del source
    assert [bytes(view) for view in kept] == PAYLOADS[:150]


@in_one_test
@every_source
def test_views_outlive_a_detached_reader(source_kind, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source:
        reader = StreamReader(source, capacity=100)
        kept = [next(reader) for _ in range(150)]
        detached, unread = reader.detach()
        del reader, source
        unread_before = bytes(unread)
        if hasattr(detached, "close") and not source_kind.is_buffer:
            detached.close()
        del detached
    assert [bytes(view) for view in kept] == PAYLOADS[:150]
    assert bytes(unread) == unread_before
    assert STREAM[150 * 16 :].startswith(unread_before)


@in_one_test
@every_source
def test_views_outlive_a_collected_reader(source_kind, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source:
        reader = StreamReader(source, capacity=100)
        kept = [next(reader) for _ in range(150)]
        collected = weakref.ref(reader)
        path_file = reader.source if source_kind.name == "path" else None
        del reader
        assert collected() is None
        if path_file is not None:
            # Collecting a reader leaves closing its file to the file, which would warn.
            path_file.close()
        # What fills freed memory: other chunks of the same size.
        others = [bytes(100) for _ in range(100)]
        assert [bytes(view) for view in kept] == PAYLOADS[:150]
        del others


def test_view_released_leaves_the_others_as_they_were():
    reader = StreamReader(io.BytesIO(STREAM), capacity=100)
    kept = list(reader)
    for view in kept[::2]:
        view.release()
        with pytest.raises(ValueError, match="released"):
            bytes(view)
    assert [bytes(view) for view in kept[1::2]] == PAYLOADS[1::2]


def test_views_of_views_outlive_the_views():
    reader = StreamReader(CutSource(STREAM), capacity=100)
    derived = []
    for view, payload in zip(reader, PAYLOADS, strict=True):
        derived.append((view[2:7], payload[2:7]))
        derived.append((memoryview(view)[::-1], payload[::-1]))
        derived.append((view.cast("I").cast("B"), payload))
        derived.append((view.toreadonly(), payload))
        view.release()
    del view, reader
    for seen, payload in derived:
        assert bytes(seen) == payload


def test_numpy_arrays_over_views_keep_their_bytes_and_cannot_be_written():
    reader = StreamReader(CutSource(STREAM), capacity=100)
    arrays = [np.frombuffer(view, np.uint8) for view in reader]
    del reader
    assert [item.tobytes() for item in arrays] == PAYLOADS
    with pytest.raises(ValueError, match="read-only"):
        arrays[0][0] = 1


@in_one_test
@every_source
def test_view_cannot_be_written_through(source_kind, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source, StreamReader(source) as reader:
        view = next(reader)
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 0
        # Nor through the object that owns the memory, which a view shows.
        with memoryview(view.obj) as whole, pytest.raises(TypeError, match="read-only"):
            whole[0] = 0
        assert bytes(view) == PAYLOADS[0]


def test_views_given_to_threads_keep_their_bytes_while_reading_goes_on():
    waiting: queue.Queue[tuple[memoryview, bytes] | None] = queue.Queue()
    wrong: list[bytes] = []

    def compare() -> None:
        kept = []
        while (item := waiting.get()) is not None:
            kept.append(item)
            if len(kept) == 50:
                wrong.extend(payload for view, payload in kept if bytes(view) != payload)
                kept = kept[::7]
        wrong.extend(payload for view, payload in kept if bytes(view) != payload)

    payloads = numbered(4000)
    threads = [threading.Thread(target=compare) for _ in range(3)]
    for thread in threads:
        thread.start()
    for view, payload in zip(
        StreamReader(io.BytesIO(reference.encode(payloads, "none")), capacity=256), payloads, strict=True
    ):
        waiting.put((view, payload))
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()
    assert wrong == []


def test_view_released_in_another_thread_frees_its_chunk_for_reading():
    reader = StreamReader(CutSource(STREAM), capacity=160)
    owners = Owners()
    for view in reader:
        owners.note(view)
        thread = threading.Thread(target=view.release)
        thread.start()
        thread.join()
    assert len(owners) == 1


@in_one_test
@every_source
def test_observed_views_kept_are_those_of_the_messages(source_kind, tmp_path):
    observed: list[memoryview] = []
    with source_kind.open(STREAM, tmp_path) as source:
        with StreamReader(source, DefaultDeframer().observed(observed.append), capacity=100) as reader:
            for view in reader:
                assert observed[-1] == view
        assert [bytes(view) for view in observed] == PAYLOADS


class KeepingDeframer(Deframer):
    """Keeps every view that it is shown, each with a copy of what it held then."""

    def __init__(self) -> None:
        self.kept: list[tuple[memoryview, bytes]] = []

    def locate(self, data):
        self.kept.append((data, bytes(data)))
        if len(data) < 4:
            return 4
        end = 4 + int.from_bytes(data[:4], "little")
        return FrameSpan(4, end, end)

    def check(self, frame, payload):
        self.kept.append((frame, bytes(frame)))
        self.kept.append((payload, bytes(payload)))


class KeepingValidator(Validator):
    def __init__(self) -> None:
        self.kept: list[tuple[memoryview, bytes]] = []

    def validate(self, payload):
        self.kept.append((payload, bytes(payload)))


class KeepingChecksum(Checksum):
    size = 1

    def __init__(self) -> None:
        self.kept: list[tuple[memoryview, bytes]] = []

    def calculate(self, payload):
        self.kept.append((payload, bytes(payload)))
        return 7


@in_one_test
@pytest.mark.parametrize("capacity", [1, 50, 4096])
@pytest.mark.parametrize("strategy", [KeepingDeframer(), KeepingValidator(), KeepingChecksum()], ids=repr)
def test_views_kept_by_a_strategy_in_python_keep_their_bytes(strategy, capacity):
    strategy.kept.clear()
    stream = STREAM
    deframer: Deframer
    if isinstance(strategy, Deframer):
        deframer = strategy
    elif isinstance(strategy, Validator):
        deframer = DefaultDeframer().with_validator(strategy)
    else:
        deframer = ChecksumDeframer(strategy)
        stream = b"".join(b"\x0c\0\0\0\x07" + payload for payload in PAYLOADS)
    reader = StreamReader(CutSource(stream, range(0, len(stream), 37)), deframer, capacity=capacity)
    assert [bytes(view) for view in reader] == PAYLOADS
    assert len(strategy.kept) >= len(PAYLOADS)
    assert [bytes(view) for view, _ in strategy.kept] == [copy for _, copy in strategy.kept]


class KeepingSource(CutSource):
    """Keeps the room that it was given to read into."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.rooms: list[Any] = []

    def readinto(self, buffer: Any) -> int:
        self.rooms.append(buffer)
        return super().readinto(buffer)


@pytest.mark.parametrize("capacity", [1, 50, 4096])
def test_source_that_keeps_the_room_it_was_given_does_no_harm(capacity):
    source = KeepingSource(STREAM)
    kept = list(StreamReader(source, capacity=capacity))
    assert [bytes(view) for view in kept] == PAYLOADS


def test_view_kept_after_an_error_keeps_its_bytes():
    stream = bytearray(reference.encode(PAYLOADS, "crc32"))
    stream[8 * 20 + 12 * 8] ^= 1
    reader = StreamReader(CutSource(bytes(stream[:-1])), ChecksumDeframer(Crc32()), capacity=70)
    kept = []
    errors = []
    while True:
        try:
            kept.append(next(reader))
        except ChecksumMismatchError as error:
            errors.append(error.frame)
        except UnexpectedEofError as error:
            errors.append(error.frame)
            break
    assert errors == [12, 199]
    assert [bytes(view) for view in kept] == PAYLOADS[:12] + PAYLOADS[13:199]


# Batches


@in_one_test
@every_source
@pytest.mark.parametrize("max_frames", [None, 7])
def test_batches_kept_while_reading_on_keep_their_bytes(source_kind, max_frames, tmp_path):
    with source_kind.open(STREAM, tmp_path) as source:
        with StreamReader(source, capacity=1000) as reader:
            batches = list(reader.batches(max_frames))
        assert sum(map(len, batches)) == len(PAYLOADS)
        rest = list(PAYLOADS)
        place = 0
        for batch in batches:
            here, rest = rest[: len(batch)], rest[len(batch) :]
            assert [bytes(view) for view in batch] == here
            assert bytes(batch.buffer) == STREAM[place : place + 16 * len(batch)]
            assert batch.offsets.tolist() == [16 * index + 4 for index in range(len(batch))]
            assert batch.lengths.tolist() == [12] * len(batch)
            assert batch.stream_offset == place
            place += 16 * len(batch)


@in_one_test
@pytest.mark.parametrize("part", ["buffer", "offsets", "lengths", "item", "slice", "array"])
def test_part_of_a_batch_outlives_the_batch(part):
    reader = StreamReader(CutSource(STREAM), capacity=160)
    parts: dict[str, tuple[Any, Any]] = {
        "buffer": (lambda batch: batch.buffer, lambda first: STREAM[16 * first : 16 * first + 160]),
        "offsets": (lambda batch: batch.offsets, lambda first: np.arange(4, 160, 16, dtype=np.int64).tobytes()),
        "lengths": (lambda batch: batch.lengths, lambda first: np.full(10, 12, np.int64).tobytes()),
        "item": (lambda batch: batch[-1], lambda first: PAYLOADS[first + 9]),
        "slice": (lambda batch: batch[2:4][1], lambda first: PAYLOADS[first + 3]),
        "array": (lambda batch: np.asarray(batch.buffer)[4:16], lambda first: PAYLOADS[first]),
    }
    take, expect = parts[part]
    kept = []
    while (batch := reader.read_batch()) is not None:
        assert len(batch) == 10
        kept.append(take(batch))
        del batch
    del reader
    assert [item.tobytes() for item in kept] == [expect(first) for first in range(0, 200, 10)]


def test_batch_whose_buffer_was_released_says_so():
    batch = next(StreamReader(STREAM).batches())
    batch.buffer.release()
    with pytest.raises(ValueError, match="released"):
        batch[0]
    assert batch.lengths[0] == 12


def test_batch_made_by_hand_is_refused_or_empty():
    # Its constructor has no parameters; whatever it makes must not look at memory that is not there.
    try:
        batch = FrameBatch()
    except TypeError:
        return
    assert len(batch) == 0
    assert list(batch) == []
    with pytest.raises(IndexError):
        batch[0]


# The caller's own buffer


def _bytearray(data: bytes) -> tuple[Any, list[Any]]:
    source = bytearray(data)
    return source, [lambda: source.append(0), source.clear, lambda: source.extend(b"abc"), lambda: source.pop(0)]


def _array(data: bytes) -> tuple[Any, list[Any]]:
    source = array.array("B", data)
    return source, [lambda: source.append(0), source.pop, lambda: source.extend(array.array("B", b"abc"))]


def _mapping(data: bytes) -> tuple[Any, list[Any]]:
    source = mmap.mmap(-1, len(data))
    source[:] = data
    return source, [source.close]


RESIZABLE = pytest.mark.parametrize("make", [_bytearray, _array, _mapping], ids=["bytearray", "array", "mmap"])


def refused(change: Any) -> bool:
    try:
        change()
    except BufferError:
        return True
    return False


@RESIZABLE
def test_buffer_resized_under_an_open_reader_raises_buffer_error(make):
    source, changes = make(STREAM)
    reader = StreamReader(source)
    assert [refused(change) for change in changes] == [True] * len(changes)
    assert [bytes(view) for view in reader] == PAYLOADS
    assert [refused(change) for change in changes] == [True] * len(changes)
    reader.close()
    assert not refused(changes[0])


@in_one_test
@RESIZABLE
@pytest.mark.parametrize("ending", ["close", "detach", "collect"])
def test_buffer_resized_under_a_view_raises_buffer_error_until_it_is_released(make, ending):
    source, changes = make(STREAM)
    reader = StreamReader(source)
    view = next(reader)
    if ending == "close":
        reader.close()
    elif ending == "detach":
        assert reader.detach()[0] is source
    del reader
    assert [refused(change) for change in changes] == [True] * len(changes)
    assert bytes(view) == PAYLOADS[0]
    view.release()
    assert not refused(changes[0])


@in_one_test
@RESIZABLE
@pytest.mark.parametrize("part", ["buffer", "item", "slice", "array", "unread"])
def test_buffer_resized_under_a_derived_view_raises_buffer_error(make, part):
    source, changes = make(STREAM)
    reader = StreamReader(source)
    batch = reader.read_batch(max_frames=3)
    take: Any = {
        "buffer": lambda batch, reader: batch.buffer,
        "item": lambda batch, reader: batch[1],
        "slice": lambda batch, reader: batch[1][3:5],
        "array": lambda batch, reader: np.asarray(batch[1]),
        "unread": lambda batch, reader: reader.detach()[1],
    }[part]
    kept = take(batch, reader)
    reader.close()
    del batch, reader
    expected = bytes(kept)
    assert refused(changes[0])
    assert bytes(kept) == expected
    assert len(expected) > 0
    del kept
    assert not refused(changes[0])


def test_indexes_of_a_batch_do_not_hold_the_buffer():
    source = bytearray(STREAM)
    with StreamReader(source) as reader:
        batch = next(reader.batches())
    offsets, lengths = batch.offsets, batch.lengths
    del batch
    source.clear()
    assert offsets[1] == 20
    assert lengths.tolist() == [12] * 200


def test_buffer_of_a_reader_lent_for_recovery_cannot_be_taken_away():
    # `_whole_buffer` and `_remaining` are for recovery, but they can be called, and releasing what they give must not
    # release what the reader looks at.
    source = bytearray(STREAM)
    reader = StreamReader(source)
    lent = [reader._whole_buffer(), reader._remaining()]
    for view in lent:
        assert view is not None
        view.release()
    assert refused(source.clear)
    assert next(reader) == PAYLOADS[0]


def test_view_keeps_the_callers_buffer_alive_and_no_longer():
    class Owner(bytearray):
        pass

    source = Owner(STREAM)
    alive = weakref.ref(source)
    reader = StreamReader(source)
    view = next(reader)
    del reader, source
    assert alive() is not None
    assert bytes(view) == PAYLOADS[0]
    del view
    assert alive() is None


def test_bytesio_may_change_and_close_under_views():
    source = io.BytesIO(STREAM)
    reader = StreamReader(source)
    view = next(reader)
    source.getbuffer()[:] = bytes(len(STREAM))
    source.truncate(0)
    source.close()
    assert bytes(view) == PAYLOADS[0]


def test_file_may_be_overwritten_and_truncated_under_views(tmp_path):
    path = tmp_path / "stream"
    path.write_bytes(STREAM)
    with StreamReader(path) as reader:
        view = next(reader)
        path.write_bytes(b"")
        assert bytes(view) == PAYLOADS[0]


# Chunks


class RepeatingSource:
    """Gives the frame of `payload` `count` times, `per_read` frames with each read, or as many as there is room for."""

    def __init__(self, payload: bytes, count: int, per_read: int = 1 << 30) -> None:
        self.frame = reference.encode([payload], "none")
        self.left = count
        self.per_read = per_read

    def readinto(self, buffer: Any) -> int:
        frames = min(self.left, self.per_read, len(buffer) // len(self.frame))
        size = frames * len(self.frame)
        buffer[:size] = self.frame * frames
        self.left -= frames
        return size


def test_loop_that_keeps_no_payload_fills_one_chunk_over_and_over():
    owners = Owners()
    reader = StreamReader(RepeatingSource(b"x" * 60, 16_000), capacity=1024)
    assert reader.process_all(owners.note) == 16_000
    assert len(owners) == 1
    assert reader.buffer_capacity == 1024


@pytest.mark.parametrize("batched", [False, True])
def test_loop_that_keeps_one_payload_at_a_time_swaps_two_chunks(batched, tracing):
    owners = Owners()
    reader = StreamReader(RepeatingSource(b"x" * 60, 16_000), capacity=1024)
    items: Iterator[Any] = reader.batches() if batched else reader
    count = 0
    for item in items:
        owners.note(item.buffer if batched else item)
        count += len(item) if batched else 1
    assert count == 16_000
    assert len(owners) == 2
    assert blocks_of(1024) <= 3


@pytest.mark.parametrize("kept_at_a_time", [1, 8, 64])
def test_memory_held_grows_with_the_views_kept_and_not_with_the_stream(kept_at_a_time, tracing):
    # Of 10,240 bytes of chunk 160 frames fill one; the size is one that nothing else has.
    capacity = 10_240 + 7
    window: list[memoryview] = []
    most = 0
    reader = StreamReader(RepeatingSource(b"x" * 60, 16_000), capacity=capacity)
    for count, view in enumerate(reader):
        window.append(view)
        del window[:-kept_at_a_time]
        if count % 4000 == 3999:
            most = max(most, blocks_of(capacity))
    assert 1 <= most <= 3


@pytest.mark.parametrize("per_read", [1, 3])
def test_slow_source_with_all_views_kept_does_not_cost_a_chunk_per_message(per_read, tracing):
    capacity = 10_240 + 7
    reader = StreamReader(RepeatingSource(b"y" * 12, 6000, per_read), capacity=capacity)
    owners = Owners()
    kept = []
    for view in reader:
        owners.note(view)
        kept.append(view)
    assert len(kept) == 6000
    assert all(view == b"y" * 12 for view in kept)
    # 96,000 bytes of frames would fill 9.4 chunks; the last eighth of a chunk may stay empty.
    assert len(owners) <= 11
    assert blocks_of(capacity) <= 12


def test_chunks_of_views_are_freed_with_the_last_view(tracing):
    capacity = 10_240 + 7
    with StreamReader(RepeatingSource(b"x" * 60, 1600), capacity=capacity) as reader:
        kept = list(reader)
        assert blocks_of(capacity) >= 10
        del kept[1:]
    assert blocks_of(capacity) == 1
    assert kept[0] == b"x" * 60
    kept.clear()
    assert blocks_of(capacity) == 0


def test_large_frame_after_which_views_are_kept_keeps_its_own_chunk_only():
    payloads = [b"s" * 10, b"L" * 100_000, b"t" * 10]
    reader = StreamReader(CutSource(reference.encode(payloads * 5, "none")), capacity=64)
    assert [bytes(view) for view in list(reader)] == payloads * 5


# What a sink is given


class KeepingSink(PlainSink):
    """Keeps the memoryviews that it was given, each with a copy of what it held then."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[memoryview, bytes]] = []

    def write(self, data: Any) -> Any:
        self.kept.append((data, bytes(data)))
        return super().write(data)


class ShortKeepingSink(ShortSink):
    def __init__(self) -> None:
        super().__init__((5, 1, 13))
        self.kept: list[tuple[memoryview, bytes]] = []

    def write(self, data: Any) -> Any:
        self.kept.append((data, bytes(data)))
        return super().write(data)


@in_one_test
@pytest.mark.parametrize("make_sink", [KeepingSink, ShortKeepingSink])
@pytest.mark.parametrize("buffer_size", [0, 1, 50, 4096, 65536])
def test_views_kept_by_a_sink_keep_their_bytes_while_writing_goes_on(make_sink, buffer_size):
    payloads = numbered(300) + [b"L" * 5000, b"", b"s"] * 3
    sink = make_sink()
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        for number, payload in enumerate(payloads):
            writer.write_payload(payload)
            if number % 50 == 0:
                writer.flush()
    assert sink.arrived() == reference.encode(payloads, "none")
    assert [bytes(view) for view, _ in sink.kept] == [copy for _, copy in sink.kept]


def test_view_given_to_a_sink_cannot_be_written_through():
    sink = KeepingSink()
    with StreamWriter(sink, buffer_size=50) as writer:
        writer.write_payloads([b"small", b"L" * 1000])
    for view, _ in sink.kept:
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 0


def test_sink_that_keeps_nothing_is_given_one_chunk_over_and_over():
    owners = Owners()

    class Sink:
        def write(self, data: memoryview) -> None:
            owners.note(data)

    with StreamWriter(Sink(), buffer_size=1024) as writer:
        writer.write_payloads([b"x" * 60] * 16_000)
    assert len(owners) == 1


def test_writer_whose_sink_keeps_a_view_takes_another_chunk_once(tracing):
    owners = Owners()
    capacity = 1024 + 7
    held: list[memoryview] = []

    class Sink:
        def write(self, data: memoryview) -> None:
            owners.note(data)
            if not held:
                held.append(data)

    with StreamWriter(Sink(), buffer_size=capacity) as writer:
        writer.write_payloads([b"x" * 60] * 16_000)
        assert blocks_of(capacity) == 2
    assert len(owners) == 2
    assert bytes(held[0][:64]) == b"\x3c\0\0\0" + b"x" * 60


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 50, 65536])
@pytest.mark.parametrize("size", [0, 1, 40, 5000, 100_000])
def test_payload_changed_after_the_call_does_not_change_what_was_written(buffer_size, size):
    sink = PlainSink()
    payload = bytearray(b"p" * size)
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        writer.write_payload(payload)
        payload[:] = b"q" * size
        payload.append(0)
        writer.write_payload(b"end")
    assert sink.arrived() == reference.encode([b"p" * size, b"end"], "none")


def test_payload_of_which_a_sink_took_a_part_may_be_changed_after_the_call():
    taken = bytearray()

    class Sink(io.RawIOBase):
        calls = 0

        def writable(self):
            return True

        def write(self, data):
            self.calls += 1
            if self.calls == 2:
                return None
            taken.extend(data[:1000])
            return len(data[:1000])

    payload = bytearray(b"p" * 5000)
    with Sink() as sink, StreamWriter(sink, buffer_size=100) as writer:
        writer.write_payload(payload)
        assert len(taken) < 5000
        payload[:] = b"q" * 5000
        payload.append(0)
        writer.flush()
    assert taken == reference.encode([b"p" * 5000], "none")


def test_payload_resized_by_its_own_observer_raises_buffer_error():
    payload = bytearray(b"p" * 100)
    seen = []
    sink = io.BytesIO()
    with StreamWriter(sink, DefaultFramer().observed(lambda view: seen.append(refused(payload.clear)))) as writer:
        writer.write_payload(payload)
    assert seen == [True]
    payload.clear()
    assert sink.getvalue() == reference.encode([b"p" * 100], "none")


# Random orders


class Order:
    """One random order of reading, keeping, deriving, releasing, resizing, closing and collecting."""

    SOURCES = ("bytearray", "mmap", "bytes", "bytesio", "readinto", "read")
    STEPS = (
        ["keep"] * 6
        + ["keep_batch"] * 3
        + ["derive"] * 4
        + ["release"] * 5
        + ["read_past"] * 3
        + ["resize"] * 3
        + ["close", "detach", "collect"]
    )

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        sizes = [self.random.choice((0, 1, 5, 30, 200)) for _ in range(self.random.randrange(25))]
        self.payloads = [self.random.randbytes(size) for size in sizes]
        self.stream = reference.encode(self.payloads, "none")
        self.torn = bool(self.payloads) and self.random.random() < 0.2
        if self.torn:
            self.stream = self.stream[:-1]
            self.payloads.pop()
        self.kind = self.random.choice(self.SOURCES)
        self.source = self.make_source()
        policy = SizeThresholdPolicy(100, 50, 2, baseline_capacity=1) if self.random.random() < 0.5 else None
        capacity = self.random.choice((1, 7, 64, 300, 4096))
        self.reader: StreamReader | None = StreamReader(self.source, capacity=capacity, memory_policy=policy)
        self.delivered = 0
        # What is kept, as bytes can be made of it, and what these must be.
        self.kept: list[tuple[Any, bytes]] = []

    def make_source(self) -> Any:
        if self.kind == "bytearray":
            return bytearray(self.stream)
        if self.kind == "mmap":
            source = mmap.mmap(-1, max(len(self.stream), 1))
            source[: len(self.stream)] = self.stream
            # An empty stream: no bytes cannot be mapped.
            return source if self.stream else bytearray()
        cuts = self.random.sample(range(len(self.stream) + 1), min(len(self.stream), 10))
        if self.kind == "readinto":
            return CutSource(self.stream, cuts)
        if self.kind == "read":
            return CutReadSource(self.stream, cuts)
        return self.stream if self.kind == "bytes" else io.BytesIO(self.stream)

    @property
    def lockable(self) -> bool:
        return isinstance(self.source, (bytearray, mmap.mmap))

    def run(self, steps: int) -> None:
        for _ in range(steps):
            step = self.random.choice(self.STEPS)
            if self.reader is not None or step in ("derive", "release", "resize"):
                getattr(self, step)()
                self.check()
        self.reader = None
        while self.kept:
            self.release()
            self.check()
        if self.lockable:
            assert self.change_source(), "locked, and nobody looks at it"

    def check(self) -> None:
        for kept, expected in self.kept:
            assert kept.tobytes() == expected

    # Steps

    def read(self) -> memoryview | None:
        assert self.reader is not None
        try:
            view = self.reader.read_message()
        except UnexpectedEofError:
            assert self.torn
            assert self.delivered == len(self.payloads)
            return None
        if view is None:
            assert not self.torn
            assert self.delivered == len(self.payloads)
            return None
        assert view == self.payloads[self.delivered]
        self.delivered += 1
        return view

    def keep(self) -> None:
        view = self.read()
        if view is not None:
            self.kept.append((view, self.payloads[self.delivered - 1]))

    def read_past(self) -> None:
        for _ in range(self.random.randrange(1, 6)):
            self.read()

    def keep_batch(self) -> None:
        assert self.reader is not None
        try:
            batch = self.reader.read_batch(self.random.choice((None, 1, 3)), self.random.choice((None, 1, 40)))
        except UnexpectedEofError:
            assert self.torn
            return
        if batch is None:
            return
        payloads = self.payloads[self.delivered : self.delivered + len(batch)]
        self.delivered += len(batch)
        assert batch.lengths.tolist() == [len(payload) for payload in payloads]
        choice = self.random.randrange(3)
        if choice == 0:
            self.kept.append((batch.buffer, reference.encode(payloads, "none")))
        elif choice == 1:
            self.kept.extend(zip(batch, payloads, strict=True))
        else:
            index = self.random.randrange(len(batch))
            self.kept.append((batch[index], payloads[index]))

    def derive(self) -> None:
        if not self.kept:
            return
        kept, expected = self.random.choice(self.kept)
        choice = self.random.randrange(4)
        if isinstance(kept, np.ndarray) or choice == 0:
            middle = len(expected) // 2
            self.kept.append((kept[middle:], expected[middle:]))
        elif choice == 1:
            self.kept.append((memoryview(kept), expected))
        elif choice == 2:
            self.kept.append((kept[::-1], expected[::-1]))
        elif expected and kept.c_contiguous:
            self.kept.append((np.frombuffer(kept, np.uint8), expected))

    def release(self) -> None:
        if not self.kept:
            return
        kept, _ = self.kept.pop(self.random.randrange(len(self.kept)))
        if isinstance(kept, memoryview) and self.random.random() < 0.5:
            try:
                kept.release()
            except BufferError:
                # Somebody has made an array of it.
                assert any(isinstance(other, np.ndarray) for other, _ in self.kept)

    def resize(self) -> None:
        if not self.lockable:
            return
        in_use = self.reader is not None or bool(self.kept)
        assert self.change_source() is not in_use

    def change_source(self) -> bool:
        """Whether the source could be resized. A mapping can only be closed; another takes its place then."""
        try:
            if isinstance(self.source, bytearray):
                self.source.append(0)
                self.source.pop()
            else:
                self.source.close()
                self.source = self.make_source()
        except BufferError:
            return False
        return True

    def close(self) -> None:
        assert self.reader is not None
        self.reader.close()
        self.reader = None

    def detach(self) -> None:
        assert self.reader is not None
        source, unread = self.reader.detach()
        self.reader = None
        assert source is self.source
        if isinstance(unread, memoryview) and not isinstance(self.source, bytes):
            self.kept.append((unread, bytes(unread)))

    def collect(self) -> None:
        self.reader = None
        # The youngest generation: what this order has made.
        gc.collect(0)


@in_one_test
@pytest.mark.parametrize("block", range(20))
def test_views_in_random_orders_keep_their_bytes(block):
    for seed in range(100 * block, 100 * (block + 1)):
        Order(seed).run(20)


@pytest.mark.long
@pytest.mark.parametrize("block", range(100))
def test_views_in_many_random_orders_keep_their_bytes(block):
    for seed in range(10_000 + 1000 * block, 10_000 + 1000 * (block + 1)):
        Order(seed).run(30)
