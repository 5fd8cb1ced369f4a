"""Nothing is left over: no reference, no block of memory, no descriptor, however often and however badly it went.

Cycles over all operations, the failing ones too, are run until memory is steady, and then many times more. What counts
is the interpreter's own count of its blocks, the memory that tracemalloc sees (the chunks are in it), the open
descriptors, and in the long run the size of the process. And what refers to itself is found by the garbage collector.
"""

from __future__ import annotations

import array
import collections
import contextlib
import errno
import gc
import io
import mmap
import os
import socket
import sys
import tracemalloc
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import Builder

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy,
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    ChecksumType,
    CompositeValidator,
    Crc16,
    Crc32,
    Crc32c,
    Crc64,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    FlatbufferError,
    FlatStreamError,
    Framer,
    InvalidFrameError,
    MemoryPolicy,
    SizeThresholdPolicy,
    SizeValidator,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
    ValidationFailedError,
    Validator,
    XxHash64,
    recover,
    recover_file,
)
from flatstream._core.stream.encoder import Encoder
from reference import framing as reference
from support.items import StringItem, UnfinishedItem
from support.memory import growth, repeat
from support.modes import Sum24
from support.python_strategies import PythonDeframer, PythonFramer

PAYLOADS = [b"", b"a", b"x" * 40, b"y" * 300]
PLAIN = reference.encode(PAYLOADS, "none")
CRC32 = reference.encode(PAYLOADS, "crc32")


class FailingFramer(Framer):
    def frame_and_write(self, writer, payload):
        writer.write(payload)
        raise ZeroDivisionError


class ChoosyDeframer(PythonDeframer):
    def check(self, frame, payload):
        if payload == b"a":
            raise ChecksumMismatchError(expected=1, calculated=2)


class NonsenseDeframer(Deframer):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def locate(self, data):
        return self.answer


class FailingChecksum(Checksum):
    size = 4

    def calculate(self, payload):
        raise ZeroDivisionError


class FailingValidator(Validator):
    def validate(self, payload):
        raise ValidationFailedError(validator="failing", reason="always")


class Message:
    @classmethod
    def from_payload(cls, payload: memoryview) -> bytes:
        return bytes(payload)


class Answering:
    """A sink that takes `take` bytes, then raises `error`, then takes everything."""

    def __init__(self, take: int, error: BaseException) -> None:
        self.answers: list[int | BaseException] = [take, error]

    def write(self, data: Any) -> int:
        answer = self.answers.pop(0) if self.answers else len(data)
        if isinstance(answer, BaseException):
            raise answer
        return min(answer, len(data))


class BrokenSource:
    """Gives always the same, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def read(self, size: int) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Refused:
    """A context manager: the block must raise one of `errors`. Unlike pytest's, it keeps nothing of them."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self.errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        assert kind is not None, f"expected one of {self.errors}"
        return issubclass(kind, self.errors)


def look(*values: Any) -> None:
    """To have looked at them is enough."""


# Each is one cycle over some of the operations. They get a folder that holds `plain` and `crc32`, two good files.


def write_every_way(folder: Path) -> None:
    sink = io.BytesIO()
    builder = Builder(64)
    with StreamWriter(sink, DefaultFramer(), buffer_size=100) as writer:
        writer.write("text")
        writer.write(StringItem())
        writer.write_batch(["a", "b"])
        builder.Finish(builder.CreateString("mine"))
        writer.write_finished(builder)
        writer.write_message(builder)
        writer.write_payload(b"bytes")
        writer.write_payload(bytearray(b"bytearray"))
        writer.write_payload(b"L" * 5000)
        writer.write_payloads(PAYLOADS)
        writer.flush()
        assert repr(writer)
        look(writer.sink, writer.framer, writer.builder, writer.buffer_capacity, writer.frames_written)
    with StreamWriter(folder / "new", ChecksumType.XXHASH64, buffer_size=0) as writer:
        writer.write_payloads(PAYLOADS)
        writer.detach().close()
    with flatstream.open(folder / "crc32", "a", checksum="crc32") as writer:
        writer.write_payload(b"")
    os.truncate(folder / "crc32", len(CRC32))


def write_with_every_strategy(folder: Path) -> None:
    seen: list[int] = []
    framers: list[Framer] = [
        ChecksumFramer(checksum) for checksum in (Crc16(), Crc32(), Crc32c(), Crc64(), XxHash64(), Sum24())
    ]
    framers += [
        PythonFramer(),
        DefaultFramer().bounded(50_000).observed(lambda payload: seen.append(len(payload))),
        PythonFramer().with_validator(CompositeValidator(SizeValidator(0, 50_000))).observed(len),
    ]
    for framer in framers:
        assert repr(framer)
        with StreamWriter(io.BytesIO(), framer, memory_policy=AdaptiveWatermarkPolicy(1, 1)) as writer:
            writer.write_payloads(PAYLOADS)
            writer.write("x" * 20_000)
            writer.write("x")
        framer.frame_and_write(io.BytesIO(), memoryview(b"alone"))


def fail_to_write(folder: Path) -> None:
    writer = StreamWriter(io.BytesIO(), DefaultFramer().bounded(10).with_validator(SizeValidator(1, 10)))
    with Refused(InvalidFrameError, ValidationFailedError):
        writer.write_payload(b"x" * 11)
    with Refused(ValidationFailedError):
        writer.write_payload(b"")
    with Refused(TypeError):
        writer.write_payloads([b"ok", None])  # type: ignore[list-item]
    with Refused(TypeError):
        writer.write_payload("text")  # type: ignore[arg-type]
    with Refused(BufferError):
        writer.write_payload(memoryview(b"strided")[::2])
    with Refused(TypeError):
        writer.write(3)
    with Refused(FlatbufferError):
        writer.write(UnfinishedItem())
    with Refused(FlatbufferError):
        writer.write_finished(Builder(10))
    with Refused(TypeError):
        writer.write_finished(None)
    with Refused(TypeError):
        writer.write_batch("text")
    writer.close()
    with Refused(ValueError):
        writer.write_payload(b"x")
    for framer in (FailingFramer(), ChecksumFramer(FailingChecksum())):
        with StreamWriter(io.BytesIO(), framer) as writer, Refused(ZeroDivisionError):
            writer.write_payload(b"x")
    with (
        StreamWriter(io.BytesIO(), DefaultFramer().with_validator(FailingValidator())) as writer,
        Refused(ValidationFailedError),
    ):
        writer.write_payload(b"x")


def fail_to_hand_over(folder: Path) -> None:
    for size in (10, 5000):
        for exact in (False, True):
            for error in (OSError(errno.ENOSPC, "full"), BlockingIOError(), TimeoutError(), KeyboardInterrupt()):
                sink = Answering(3, error)
                encoder = Encoder(
                    DefaultFramer(), 64, sink.write, error_takes_nothing=exact, rollback=lambda count: True
                )
                with contextlib.suppress(OSError, KeyboardInterrupt):
                    encoder.write_payload(b"x" * size)
                    encoder._drain_buffer()
                with contextlib.suppress(FlatStreamError):
                    encoder.write_payload(b"x" * size)
                    encoder._drain_buffer()
    for nonsense in (-1, 100, "1"):
        encoder = Encoder(DefaultFramer(), 0, lambda data, nonsense=nonsense: nonsense)  # type: ignore[misc]
        with Refused(OSError):
            encoder.write_payload(b"x")
        with Refused(FlatStreamError):
            encoder.write_payload(b"x")
    writer = StreamWriter(Answering(3, OSError(errno.EIO, "broken")))
    writer.write_payload(b"x")
    with Refused(OSError):
        writer.close()
    writer = StreamWriter(Answering(3, OSError(errno.EIO, "broken")))
    writer.write_payload(b"x")
    with Refused(ZeroDivisionError):
        fail_inside(writer)


def fail_inside(manager: Any) -> None:
    with manager:
        raise ZeroDivisionError


def forget_writers(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        StreamWriter(io.BytesIO()).write_payload(b"x")
        StreamWriter(folder / "new").write_payload(b"x")
        StreamWriter(Answering(0, OSError(errno.EIO, "broken"))).write_payload(b"x")


def read_every_way(folder: Path) -> None:
    mapping = mmap.mmap(-1, len(PLAIN))
    mapping[:] = PLAIN
    sources: list[Any] = [
        PLAIN,
        bytearray(PLAIN),
        memoryview(PLAIN),
        array.array("B", PLAIN),
        np.frombuffer(PLAIN, np.uint8),
        mapping,
        io.BytesIO(PLAIN),
        folder / "plain",
    ]
    for source in sources:
        with StreamReader(source, capacity=50) as reader:
            kept = list(reader)
            assert reader.read_message() is None
        with StreamReader(io.BytesIO(PLAIN), memory_policy=SizeThresholdPolicy(100, 50, 1)) as reader:
            batch = reader.read_batch(2)
            assert batch is not None
            look(len(batch), batch.buffer, batch.offsets, batch.lengths, batch[0], batch[:], list(batch))
            assert list(reader.typed_messages(Message))
        with StreamReader(PLAIN) as reader:
            assert repr(reader)
            reader.process_typed(Message, look)
        with StreamReader(PLAIN) as reader:
            reader.process_typed_with_payload(Message, lambda message, payload: None)
        with StreamReader(PLAIN) as reader:
            list(reader.batches(1, 1))
        del kept[::2]
    with open(folder / "plain", "rb") as file:
        reader = StreamReader(file, capacity=10)
        next(reader)
        assert reader.detach()[0] is file
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(PLAIN)
        theirs.close()
        assert StreamReader(ours).process_all(lambda payload: None) == 4
    del kept
    mapping.close()


def read_with_every_strategy(folder: Path) -> None:
    for checksum in (Crc16(), Crc32(), Crc32c(), Crc64(), XxHash64(), Sum24()):
        sink = io.BytesIO()
        with StreamWriter(sink, ChecksumFramer(checksum)) as writer:
            writer.write_payloads(PAYLOADS)
        deframer = ChecksumDeframer(checksum)
        assert repr(deframer)
        assert StreamReader(sink.getvalue(), deframer).process_all(len) == 4
        frame = memoryview(sink.getvalue())[: 4 + checksum.size]
        deframer.check(frame, frame[4 + checksum.size :])
        deframer.locate(frame)
    seen: list[memoryview] = []
    adapted = DefaultDeframer().bounded(1000).observed(seen.append).with_validator(SizeValidator(0, 1000))
    assert StreamReader(io.BytesIO(PLAIN), adapted.with_max_frame_len(500)).process_all(len) == 4
    assert len(seen) == 4


def fail_to_read(folder: Path) -> None:
    damaged = CRC32[:-1] + b"?"
    for source in (damaged, io.BytesIO(damaged)):
        reader = StreamReader(source, ChecksumDeframer(Crc32()), capacity=30)
        with Refused(ChecksumMismatchError):
            list(reader)
        reader = StreamReader(damaged, ChecksumDeframer(Crc32()))
        assert reader.read_batch() is not None
        with Refused(ChecksumMismatchError):
            reader.read_batch()
        assert reader.read_batch() is None
    for source in (PLAIN[:-1], io.BytesIO(PLAIN[:-1])):
        reader = StreamReader(source, capacity=30)
        with Refused(UnexpectedEofError):
            list(reader)
        with Refused(UnexpectedEofError):
            reader.read_message()
        with Refused(UnexpectedEofError):
            reader.read_batch()
    with Refused(InvalidFrameError):
        next(StreamReader(b"\xff\xff\xff\xff"))
    with Refused(InvalidFrameError):
        next(StreamReader(bytes(4), DefaultDeframer(allow_empty=False)))
    with Refused(ValidationFailedError):
        next(StreamReader(PLAIN, DefaultDeframer().with_validator(FailingValidator())))
    with Refused(ZeroDivisionError):
        next(StreamReader(CRC32, ChecksumDeframer(FailingChecksum())))
    with Refused(ZeroDivisionError):
        next(StreamReader(PLAIN, DefaultDeframer().observed(lambda payload: 1 // 0)))
    with Refused(ZeroDivisionError):
        StreamReader(PLAIN).process_all(lambda payload: 1 // 0)
    with Refused(TypeError):
        StreamReader(PLAIN).process_all(None)  # type: ignore[arg-type]
    with Refused(ValueError):
        StreamReader(PLAIN).read_batch(0)
    with Refused(TypeError):
        StreamReader(PLAIN).typed_messages(int)
    with Refused(IndexError):
        next(StreamReader(PLAIN).batches())[9]
    reader = StreamReader(io.BytesIO(PLAIN), ChoosyDeframer())
    next(reader)
    with Refused(ChecksumMismatchError):
        reader.read_message()
    for answer in (None, 0, "1", (1, 2), (3, 2, 1), (0, 0, 0), (0, 0, None)):
        with Refused(TypeError, ValueError):
            next(StreamReader(PLAIN, NonsenseDeframer(answer)))
    wrong: Any
    for wrong in (None, 3, io.StringIO(), memoryview(PLAIN)[::2], folder / "missing"):
        with Refused(TypeError, BufferError, OSError):
            StreamReader(wrong)
    wrong_options: list[dict[str, Any]] = [{"capacity": 0}, {"memory_policy": 3}]
    for options in wrong_options:
        with Refused(TypeError, ValueError):
            StreamReader(folder / "plain", **options)
    reader = StreamReader(PLAIN)
    reader.close()
    with Refused(ValueError):
        reader.read_message()
    with Refused(ValueError):
        reader.detach()

    for wrong in (OSError(errno.EIO, "broken"), BlockingIOError(), KeyboardInterrupt(), None, "text", 3, bytes(100)):
        reader = StreamReader(BrokenSource(wrong), capacity=10)
        with Refused(OSError, KeyboardInterrupt, TypeError):
            reader.read_message()
        with Refused(OSError, KeyboardInterrupt, TypeError, FlatStreamError):
            reader.read_batch()


def recover_every_way(folder: Path) -> None:
    assert recover(PLAIN).frames == 4
    assert recover(PLAIN[:-1]).frames == 3
    assert recover_file(folder / "crc32", ChecksumType.CRC32).frames == 4
    with open(folder / "plain", "rb") as file:
        assert recover_file(file).frames == 4
    lengthened = bytearray(CRC32)
    lengthened[2] ^= 1
    with Refused(InvalidFrameError):
        recover(lengthened, ChecksumType.CRC32)
    assert recover(lengthened, ChecksumType.CRC32, guard=False).frames == 0
    with Refused(ChecksumMismatchError):
        recover(CRC32[:-1] + b"?", ChecksumType.CRC32)
    assert recover(PLAIN[4:] + bytes(100), DefaultDeframer(allow_empty=False).bounded(1000)).frames == 3


def open_wrongly(folder: Path) -> None:
    path = folder / "plain"
    wrong: list[tuple[Any, dict[str, Any]]] = [
        ("q", {}),
        ("r", {"framer": DefaultFramer()}),
        ("r", {"checksum": "md5"}),
        ("r", {"capacity": 0}),
        ("r", {"unknown": 1}),
        ("a", {"deframer": DefaultDeframer()}),
        ("a", {"buffer_size": -1}),
        ("a", {"checksum": "crc32"}),
        ("x", {}),
    ]
    for mode, options in wrong:
        with Refused(Exception):
            flatstream.open(path, mode, **options)
    with Refused(TypeError):
        flatstream.open(3)  # type: ignore[call-overload]


CYCLES = [
    write_every_way,
    write_with_every_strategy,
    fail_to_write,
    fail_to_hand_over,
    forget_writers,
    read_every_way,
    read_with_every_strategy,
    fail_to_read,
    recover_every_way,
    open_wrongly,
]

every_cycle = pytest.mark.parametrize("cycle", CYCLES, ids=lambda cycle: cycle.__name__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plain").write_bytes(PLAIN)
    (tmp_path / "crc32").write_bytes(CRC32)
    return tmp_path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@every_cycle
def test_cycles_leave_no_block_and_no_descriptor_over(cycle, folder):
    before = descriptors()
    grown = growth(cycle, folder, sys.getallocatedblocks, 30)
    assert descriptors() == before
    # To leave one block over in a cycle would be 30 in every round. The interpreter's own caches take a few in some.
    assert min(grown) < 15, grown


@every_cycle
def test_cycles_leave_no_memory_of_chunks_over(cycle, folder):
    # Blocks that do not come from the interpreter's own pools are here too: chunks, indexes, the ends of frames.
    tracemalloc.start()
    try:
        grown = growth(cycle, folder, lambda: tracemalloc.get_traced_memory()[0], 6)
    finally:
        tracemalloc.stop()
    # The smallest chunk in use here has ten bytes and its object many more, and most have 64 KiB.
    assert min(grown) < 6 * 30, grown


def ours_alive() -> dict[str, int]:
    """How many objects of the package's own classes there are, by class."""
    classes = [type(found) for found in gc.get_objects()]
    return dict(collections.Counter(f"{cls}" for cls in classes if str(cls.__module__).startswith("flatstream")))


@pytest.mark.parametrize(
    "cycle",
    [write_every_way, write_with_every_strategy, read_every_way, read_with_every_strategy],
    ids=lambda cycle: cycle.__name__,
)
def test_cycles_without_an_error_need_no_garbage_collector(cycle, folder):
    # An error that is kept refers to its traceback, and through that to the variables of those who called.
    repeat(cycle, folder, 5)
    gc.collect()
    gc.disable()
    try:
        before = ours_alive()
        cycle(folder)
        assert ours_alive() == before
    finally:
        gc.enable()


@pytest.mark.long
@every_cycle
def test_many_cycles_leave_the_process_as_large_as_it_was(cycle, folder):
    # Together with the others this is a million operations and more, most of them with an error.
    repeat(cycle, folder, 500)
    gc.collect()
    before = resident_bytes(), sys.getallocatedblocks(), descriptors()
    repeat(cycle, folder, 10_000 if cycle is not recover_every_way else 3000)
    gc.collect()
    after = resident_bytes(), sys.getallocatedblocks(), descriptors()
    assert after[0] - before[0] < 1 << 20
    assert after[1] - before[1] < 500
    assert after[2] == before[2]


@pytest.mark.parametrize("count", [10_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_many_messages_leave_no_reference_to_what_they_were_made_of(count):
    payload = bytearray(b"payload")
    checksum = Crc32()
    framer, deframer = ChecksumFramer(checksum), ChecksumDeframer(checksum)
    sink = io.BytesIO()
    stream = reference.encode([b"payload"], "crc32") * 100
    watched = [payload, checksum, framer, deframer, sink, stream]
    with StreamWriter(sink, framer, buffer_size=1000) as writer:
        writer.write_payload(payload)
        before = [sys.getrefcount(item) for item in watched]
        for _ in range(count // 100):
            sink.seek(0)
            for _ in range(100):
                writer.write_payload(payload)
            with StreamReader(stream, deframer) as reader:
                assert reader.process_all(len) == 100
            del reader
        after = [sys.getrefcount(item) for item in watched]
    assert after == before
    payload.append(0)


# The garbage collector


def collected(make: Callable[[], Any]) -> bool:
    """Whether what `make` gives is collected when nothing else refers to it."""
    made = make()
    alive = weakref.ref(made)
    del made
    gc.collect()
    return alive() is None


class Holder:
    """Something that can be called, and can hold what holds it."""

    held: Any = None

    def __call__(self, *arguments: Any) -> None:
        pass


class HoldingValidator(Validator):
    held: Any = None


class HoldingChecksum(Checksum):
    size = 4
    held: Any = None


class HoldingFramer(Framer):
    held: Any = None


class HoldingDeframer(ChoosyDeframer):
    held: Any = None


class HoldingPolicy(MemoryPolicy):
    held: Any = None


class HoldingBytes(bytearray):
    held: Any = None


class HoldingArray(array.array):  # type: ignore[type-arg]
    held: Any = None


class HoldingMemory(io.BytesIO):
    held: Any = None


def holding(holder: Any, make: Callable[[Any], Any]) -> Any:
    """What `make` makes of `holder`, which then holds it."""
    made = make(holder)
    holder.held = made
    return made


READER_CYCLES: dict[str, Callable[[], Any]] = {
    "observer": lambda: holding(Holder(), lambda it: StreamReader(PLAIN, DefaultDeframer().observed(it))),
    "validator": lambda: holding(
        HoldingValidator(), lambda it: StreamReader(PLAIN, DefaultDeframer().bounded(9).with_validator(it))
    ),
    "checksum": lambda: holding(HoldingChecksum(), lambda it: StreamReader(PLAIN, ChecksumDeframer(it))),
    "deframer": lambda: holding(HoldingDeframer(), lambda it: StreamReader(PLAIN, it)),
    "policy": lambda: holding(HoldingPolicy(), lambda it: StreamReader(PLAIN, memory_policy=it)),
    "source": lambda: holding(HoldingMemory(PLAIN), StreamReader),
    "buffer": lambda: holding(HoldingBytes(PLAIN), StreamReader),
    "array": lambda: holding(HoldingArray("B", PLAIN), StreamReader),
    "itself": lambda: holding_itself(StreamReader(PLAIN)),
}


def holding_itself(made: Any) -> Any:
    made.myself = made
    return made


@pytest.mark.parametrize("through", READER_CYCLES)
@pytest.mark.parametrize("used", [False, True])
def test_reader_in_a_cycle_is_collected(through, used):
    def make() -> Any:
        reader = READER_CYCLES[through]()
        if used and through not in ("checksum", "validator"):
            next(reader)
        return reader

    assert collected(make)


@pytest.mark.parametrize("kind", [HoldingBytes, lambda data: HoldingArray("B", data)], ids=["bytearray", "array"])
def test_buffer_that_holds_a_view_of_itself_is_collected_in_silence(kind, capfd):
    # Whoever frees it must first let go of its memory: a bytearray freed while somebody looks at it complains.
    def make() -> Any:
        return holding(kind(PLAIN), lambda it: HolderOfViews(list(StreamReader(it))))

    assert collected(make)
    assert capfd.readouterr() == ("", "")


class HolderOfViews:
    def __init__(self, views: list[memoryview]) -> None:
        self.views = views


WRITER_CYCLES: dict[str, Callable[[], Any]] = {
    "observer": lambda: holding(Holder(), lambda it: StreamWriter(io.BytesIO(), DefaultFramer().observed(it))),
    "validator": lambda: holding(
        HoldingValidator(), lambda it: StreamWriter(io.BytesIO(), DefaultFramer().bounded(9).with_validator(it))
    ),
    "checksum": lambda: holding(HoldingChecksum(), lambda it: StreamWriter(io.BytesIO(), ChecksumFramer(it))),
    "framer": lambda: holding(HoldingFramer(), lambda it: StreamWriter(io.BytesIO(), it)),
    "policy": lambda: holding(HoldingPolicy(), lambda it: StreamWriter(io.BytesIO(), memory_policy=it)),
    "make_builder": lambda: holding(Holder(), lambda it: StreamWriter(io.BytesIO(), make_builder=it)),
    "sink": lambda: holding(HoldingMemory(), StreamWriter),
    "itself": lambda: holding_itself(StreamWriter(io.BytesIO())),
}


@pytest.mark.parametrize("through", WRITER_CYCLES)
def test_writer_in_a_cycle_is_collected(through):
    assert collected(WRITER_CYCLES[through])


@pytest.mark.parametrize("through", ["observer", "make_builder", "sink", "itself"])
def test_writer_in_a_cycle_with_bytes_in_its_buffer_is_collected_with_a_warning(through):
    def make() -> Any:
        writer = WRITER_CYCLES[through]()
        writer.write_payload(b"first")
        return writer

    with pytest.warns(ResourceWarning, match="unclosed stream writer <StreamWriter to .*, 1 frames>"):
        assert collected(make)


def test_refusing_writer_that_its_own_error_refers_to_is_collected():
    # The error is kept, its traceback keeps the frames it went through, and their variables are the writer.
    def make() -> Any:
        writer = StreamWriter(Answering(1, OSError(errno.EIO, "broken")), buffer_size=0)
        with Refused(OSError):
            writer.write_payload(b"x")
        with Refused(FlatStreamError):
            writer.write_payload(b"x")
        with Refused(FlatStreamError):
            writer.close()
        return writer

    assert collected(make)


def test_failed_reader_that_its_own_error_refers_to_is_collected():
    def make() -> Any:
        reader = StreamReader(PLAIN[:-1])
        with Refused(UnexpectedEofError):
            list(reader)
        with Refused(UnexpectedEofError):
            list(reader)
        return reader

    assert collected(make)


def test_errors_raised_again_and_again_do_not_grow():
    # Every read after a torn frame raises the same error: its traceback must not become longer each time.
    reader = StreamReader(PLAIN[:-1])
    lengths = []
    for _ in range(50):
        try:
            list(reader)
        except UnexpectedEofError as error:
            traceback, length = error.__traceback__, 0
            while traceback is not None:
                traceback, length = traceback.tb_next, length + 1
            lengths.append(length)
    assert len(lengths) == 50
    assert len(set(lengths[1:])) == 1


def test_batch_and_views_are_freed_without_the_garbage_collector():
    owner = HoldingBytes(PLAIN)
    alive = weakref.ref(owner)
    batch = next(StreamReader(owner).batches())
    parts = [batch.buffer, batch.offsets, batch[2], list(batch)]
    gc.disable()
    try:
        del owner, batch
        assert alive() is not None
        del parts
        assert alive() is None
    finally:
        gc.enable()
