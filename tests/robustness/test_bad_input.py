"""Bad arguments of constructors and functions: refused with an error that says what was expected and what came.

Methods of readers and writers are in test_bad_input_methods.py, those of strategies in test_bad_input_strategies.py.
What custom strategies, sources and sinks may answer wrongly is in test_bad_answers.py, and objects whose ``__init__``
was not called are in test_half_made_objects.py.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy,
    Aes256Gcm,
    BoundedDeframer,
    BoundedFramer,
    ChaCha20Poly1305,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumType,
    Cipher,
    CompositeValidator,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    EncryptedDeframer,
    EncryptedFramer,
    FlatStreamError,
    FrameBatch,
    NoOpPolicy,
    NoValidator,
    ObserverDeframer,
    ObserverFramer,
    SizeThresholdPolicy,
    SizeValidator,
    StreamReader,
    StreamWriter,
    StructuralValidator,
    TableRootValidator,
    TransformDeframer,
    TransformFramer,
    TypedValidator,
    UnexpectedEofError,
    ValidatingDeframer,
    ValidatingFramer,
    recover,
    recover_file,
)
from support.bad_input import (
    NO_INTS,
    TWO_FRAMES,
    Case,
    Refused,
    callables,
    closed,
    counts,
    instances,
    lengths,
    refusals,
    released,
    table,
)
from support.errors import raised_by
from support.extent import in_one_test
from support.schemas import EXAMPLES
from support.sinks import PlainSink

# Constructors of strategies

FRAMER, DEFRAMER = DefaultFramer(), DefaultDeframer()
CIPHER = Aes256Gcm(bytes(32))
NO_KEYS = [(None, "NoneType"), (32, "int"), ("00" * 32, "str"), ([0] * 32, "list")]


def bools(name: str, argument: str, call: Callable[[Any], object]) -> list[Case]:
    message = f"{argument} must be a bool, got "
    return refusals(
        f"{name}({argument})", call, *[(value, TypeError, f"{message}{value!r}") for value in (None, 0, 1, "no")]
    )


def policy_numbers(make: Callable[..., object], argument: str, least: int) -> list[Case]:
    too_small: Refused = (least - 1, ValueError, f"{argument} must be at least {least}, got {least - 1}")
    wrong: list[Refused] = [(value, TypeError, f"{argument} must be an int, got ") for value, _ in NO_INTS]
    return refusals(f"{make.__name__}({argument})", lambda value: make(**{argument: value}), *wrong, too_small)


def sizes(call: Callable[[Any], object], argument: str, got: str, *outside: int) -> list[Case]:
    message = "sizes must be 0 <= min_size <= max_size.*, got "
    return refusals(
        f"SizeValidator({argument})",
        call,
        *[(value, TypeError, f"sizes? must be .*ints?, got {what}") for value, what in NO_INTS],
        *[(value, ValueError, message + got.format(value)) for value in outside],
    )


def limits(name: str, argument: str, most: int, call: Callable[[Any], Any]) -> list[Case]:
    return refusals(
        f"{name}({argument})",
        call,
        *[(value, TypeError, f"{argument} must be an int, got {what}") for value, what in NO_INTS],
        *[(value, ValueError, f"{argument} must be from 0 to {most}, got {value}") for value in (-1, most + 1)],
    )


CONSTRUCTORS = [
    *instances("ChecksumFramer", "checksum", "Checksum", ChecksumFramer, ChecksumType.CRC32, Crc32),
    *instances("ChecksumDeframer", "checksum", "Checksum", ChecksumDeframer, ChecksumType.CRC32, Crc32),
    # A framer is no deframer, and the other way round.
    *instances("BoundedFramer", "inner", "Framer", lambda value: BoundedFramer(value, 5), DEFRAMER),
    *instances("ObserverFramer", "inner", "Framer", lambda value: ObserverFramer(value, len), DEFRAMER),
    *instances("ValidatingFramer", "inner", "Framer", lambda value: ValidatingFramer(value, NoValidator()), DEFRAMER),
    *instances("BoundedDeframer", "inner", "Deframer", lambda value: BoundedDeframer(value, 5), FRAMER),
    *instances("ObserverDeframer", "inner", "Deframer", lambda value: ObserverDeframer(value, len), FRAMER),
    *instances("TransformFramer", "inner", "Framer", TransformFramer, DEFRAMER),
    *instances("TransformDeframer", "inner", "Deframer", TransformDeframer, FRAMER),
    *instances(
        "ValidatingDeframer", "inner", "Deframer", lambda value: ValidatingDeframer(value, NoValidator()), FRAMER
    ),
    *[
        case
        for kind in (Aes256Gcm, ChaCha20Poly1305)
        for case in refusals(
            kind.__name__,
            kind,
            *[(value, TypeError, f"key must be 32 bytes, or a function .*, got {what}") for value, what in NO_KEYS],
            *[(bytes(size), ValueError, f"key must have 32 bytes, got {size}") for size in (0, 16, 31, 33)],
        )
    ],
    Case("Cipher", lambda: Cipher(bytes(32)), TypeError, "Cipher has no algorithm: use Aes256Gcm or ChaCha20Poly1305"),
    *instances("EncryptedFramer", "inner", "Framer", lambda value: EncryptedFramer(value, CIPHER), DEFRAMER),
    *instances("EncryptedDeframer", "inner", "Deframer", lambda value: EncryptedDeframer(value, CIPHER), FRAMER),
    *bools(
        "EncryptedDeframer", "require_final", lambda value: EncryptedDeframer(DEFRAMER, CIPHER, require_final=value)
    ),
    *instances("ValidatingFramer", "validator", "Validator", lambda value: ValidatingFramer(FRAMER, value)),
    *instances("ValidatingDeframer", "validator", "Validator", lambda value: ValidatingDeframer(DEFRAMER, value)),
    *lengths("BoundedFramer", "max_len", lambda value: BoundedFramer(FRAMER, value)),
    *lengths("BoundedDeframer", "max_len", lambda value: BoundedDeframer(DEFRAMER, value)),
    *lengths("DefaultDeframer", "max_frame_len", lambda value: DefaultDeframer(max_frame_len=value)),
    *lengths("ChecksumDeframer", "max_frame_len", lambda value: ChecksumDeframer(Crc32(), max_frame_len=value)),
    *bools("DefaultDeframer", "allow_empty", lambda value: DefaultDeframer(allow_empty=value)),
    *bools("ChecksumDeframer", "allow_empty", lambda value: ChecksumDeframer(Crc32(), allow_empty=value)),
    *callables("ObserverFramer", "an observer", lambda value: ObserverFramer(FRAMER, value)),
    *callables("ObserverDeframer", "an observer", lambda value: ObserverDeframer(DEFRAMER, value)),
    *sizes(lambda value: SizeValidator(value, 10), "min_size", "{} and 10", -1, 11, -(2**70), 2**70),
    *sizes(lambda value: SizeValidator(5, value), "max_size", "5 and {}", -1, 4, -(2**70)),
    *limits("TableRootValidator", "max_depth", 1000, lambda value: TableRootValidator(max_depth=value)),
    *limits("StructuralValidator", "max_tables", 2**62, lambda value: StructuralValidator(max_tables=value)),
    *limits(
        "TypedValidator",
        "max_apparent_size",
        2**62,
        lambda value: TypedValidator.for_type(None, "any", max_apparent_size=value),
    ),
    *refusals(
        "TypedValidator.for_type",
        lambda value: TypedValidator.for_type(value, "any"),
        *[(value, TypeError, f"schema must be a Schema, got {type(value).__name__}") for value in (None, 5, "x", b"")],
    ),
    *refusals(
        "TypedValidator.from_verify(name)",
        lambda value: TypedValidator.from_verify(value, len),
        *[(value, TypeError, f"name must be a str, got {type(value).__name__}") for value in (None, 5, b"x")],
    ),
    *refusals(
        "TypedValidator.from_verify(function)",
        lambda value: TypedValidator.from_verify("x", value),
        *[(value, TypeError, f"function must be callable, got {type(value).__name__}") for value in (None, 5, "x")],
    ),
    *refusals(
        "Schema.from_bytes",
        flatstream.Schema.from_bytes,
        *[(value, TypeError, "bytes-like object") for value in (None, 5, "text")],
        *[
            (value, flatstream.FlatbufferError, "not a binary schema: expected the file identifier")
            for value in (b"", b"x" * 99)
        ],
    ),
    *refusals(
        "Builder",
        flatstream.Builder,
        *[
            (value, flatbuffers.builder.BuilderSizeError, "Cannot create Builder larger than 2 gigabytes")
            for value in (-1, 2**31 + 1)
        ],
        *[(value, TypeError, "") for value in (None, "x", 1.5)],
    ),
    *refusals(
        "CompositeValidator",
        lambda value: CompositeValidator(NoValidator(), value),
        *[
            (value, TypeError, f"expected instances of Validator, got {re.escape(repr(value))}")
            for value in (None, 5, NoValidator, [NoValidator()])
        ],
    ),
    *policy_numbers(AdaptiveWatermarkPolicy, "size_ratio_threshold", 1),
    *policy_numbers(AdaptiveWatermarkPolicy, "messages_to_wait", 1),
    *policy_numbers(AdaptiveWatermarkPolicy, "baseline_capacity", 0),
    *policy_numbers(SizeThresholdPolicy, "grow_above_bytes", 0),
    *policy_numbers(SizeThresholdPolicy, "shrink_below_bytes", 0),
    *policy_numbers(SizeThresholdPolicy, "messages_to_wait", 1),
    *policy_numbers(SizeThresholdPolicy, "baseline_capacity", 0),
    *refusals(
        "AdaptiveWatermarkPolicy(cooldown)",
        lambda value: AdaptiveWatermarkPolicy(cooldown=value),
        *[
            (value, (TypeError, ValueError), f"cooldown must be None or seconds >= 0, got {value!r}")
            for value in (-1, -0.5, float("nan"), "5")
        ],
    ),
    *callables("AdaptiveWatermarkPolicy", "clock", lambda value: AdaptiveWatermarkPolicy(clock=value)),
    *refusals("ChecksumType", ChecksumType, *[(value, ValueError, "not a valid ChecksumType") for value in ("md5", 4)]),
    Case("FrameBatch", FrameBatch, TypeError, r"StreamReader\.read_batch"),
]


@in_one_test
@table(*CONSTRUCTORS)
def test_bad_argument_of_a_constructor_is_refused(case: Case) -> None:
    case.check()


# Abstract classes refuse what they leave to others.

ABSTRACT = [
    Case("Checksum.calculate", lambda: flatstream.Checksum().calculate(memoryview(b"")), TypeError, "calculate"),
    Case("Checksum.verify", lambda: flatstream.Checksum().verify(0, memoryview(b"")), TypeError, "calculate"),
    Case(
        "Framer",
        lambda: flatstream.Framer().frame_and_write(io.BytesIO(), memoryview(b"")),
        TypeError,
        "frame_and_write",
    ),
    Case("Deframer", lambda: flatstream.Deframer().locate(memoryview(b"abcd")), TypeError, "locate"),
    Case("Validator", lambda: flatstream.Validator().validate(memoryview(b"")), TypeError, "validate"),
    Case("MemoryPolicy", lambda: flatstream.MemoryPolicy().should_reset(1, 2), TypeError, "should_reset"),
    Case(
        "StreamReader",
        lambda: next(StreamReader(TWO_FRAMES, flatstream.Deframer())),
        TypeError,
        "Deframer must define locate",
    ),
    Case(
        "StreamWriter",
        lambda: StreamWriter(PlainSink(), flatstream.Framer()).write_payload(b"abc"),
        TypeError,
        "Framer must define frame_and_write",
    ),
]


@in_one_test
@table(*ABSTRACT)
def test_abstract_class_says_what_a_subclass_must_define(case: Case) -> None:
    assert "must define" in str(case.check())


# What readers and writers read from and write to


def opened(folder: Path, mode: str) -> Any:
    path = folder / "some.fs"
    path.write_bytes(TWO_FRAMES)
    return open(path, mode)


class NotCallable:
    read = 5
    write = 5


SOURCE = (
    r"source must be a path, a socket, an object with readinto\(buffer\) or read\(size\), or a bytes-like object; got "
)
TEXT = " is a text file object: open it in binary mode"
STRIDED = "source must be C-contiguous, got a strided "
BAD_SOURCES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "None": (lambda folder: None, TypeError, SOURCE + "None"),
    "int": (lambda folder: 5, TypeError, SOURCE + "5"),
    "object": (lambda folder: object(), TypeError, SOURCE + "<object object"),
    "list": (lambda folder: [TWO_FRAMES], TypeError, SOURCE + r"\[b'"),
    "class": (lambda folder: io.BytesIO, TypeError, SOURCE + r"<class '_io\.BytesIO'>"),
    "read that is no method": (lambda folder: NotCallable(), TypeError, SOURCE + "<.*NotCallable"),
    "text file": (lambda folder: opened(folder, "r"), TypeError, "source" + TEXT),
    "StringIO": (lambda folder: io.StringIO("abc"), TypeError, "source" + TEXT),
    "closed file": (lambda folder: closed(opened(folder, "rb")), ValueError, "source is closed: <_io.BufferedReader"),
    "closed BytesIO": (lambda folder: closed(io.BytesIO()), ValueError, "source is closed: <_io.BytesIO"),
    "closed socket": (lambda folder: closed(socket.socket()), ValueError, "source is closed: <socket"),
    "closed mmap": (lambda folder: closed(mmap.mmap(-1, 10)), ValueError, "closed"),
    "released memoryview": (lambda folder: released(), ValueError, "released memoryview"),
    "write-only file": (lambda folder: opened(folder, "ab"), io.UnsupportedOperation, "source is not readable: <_io"),
    "strided memoryview": (lambda folder: memoryview(TWO_FRAMES)[::2], BufferError, STRIDED + "memoryview"),
    "strided array": (lambda folder: np.zeros(20, np.uint8)[::2], BufferError, STRIDED + "ndarray"),
    "no such path": (lambda folder: folder / "none.fs", FileNotFoundError, "none.fs"),
    "folder": (lambda folder: str(folder), IsADirectoryError, ""),
}
SINK = r"sink must be a path, a socket or an object with write\(buffer\), got "
BAD_SINKS: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "None": (lambda folder: None, TypeError, SINK + "None"),
    "int": (lambda folder: 5, TypeError, SINK + "5"),
    "bytearray": (lambda folder: bytearray(10), TypeError, SINK + "bytearray"),
    "class": (lambda folder: io.BytesIO, TypeError, SINK + r"<class '_io\.BytesIO'>"),
    "write that is no method": (lambda folder: NotCallable(), TypeError, SINK + "<.*NotCallable"),
    "text file": (lambda folder: opened(folder, "w"), TypeError, "sink" + TEXT),
    "StringIO": (lambda folder: io.StringIO(), TypeError, "sink" + TEXT),
    "closed file": (lambda folder: closed(opened(folder, "ab")), ValueError, "sink is closed: <_io.BufferedWriter"),
    "closed BytesIO": (lambda folder: closed(io.BytesIO()), ValueError, "sink is closed: <_io.BytesIO"),
    "closed socket": (lambda folder: closed(socket.socket()), ValueError, "sink is closed: <socket"),
    "read-only file": (lambda folder: opened(folder, "rb"), io.UnsupportedOperation, "sink is not writable: <_io"),
    "no such folder": (lambda folder: folder / "none" / "some.fs", FileNotFoundError, "some.fs"),
    "folder": (lambda folder: folder, IsADirectoryError, ""),
}


def check_endpoint(
    use: Callable[[Any], object], make: Callable[[Path], Any], error: type[Exception], message: str, folder: Path
) -> None:
    endpoint = make(folder)
    try:
        Case("", use, error, message).check(endpoint)
    finally:
        if isinstance(endpoint, io.IOBase):
            endpoint.close()


@in_one_test
@pytest.mark.parametrize("name", list(BAD_SOURCES))
@pytest.mark.parametrize("use", [StreamReader, recover], ids=["StreamReader", "recover"])
def test_bad_source_is_refused(use: Callable[[Any], object], name: str, tmp_path: Path) -> None:
    check_endpoint(use, *BAD_SOURCES[name], tmp_path)


@in_one_test
@pytest.mark.parametrize("name", list(BAD_SINKS))
def test_bad_sink_is_refused(name: str, tmp_path: Path) -> None:
    check_endpoint(StreamWriter, *BAD_SINKS[name], tmp_path)


@in_one_test
@table(
    *refusals(
        "recover_file",
        recover_file,
        *[
            (value, TypeError, f"file must be a path or a seekable file object, got {re.escape(repr(value))}")
            for value in (None, 5, TWO_FRAMES)
        ],
        (io.StringIO("abc"), TypeError, "is a text file object: open it in binary mode"),
        (closed(io.BytesIO()), ValueError, "closed"),
    )
)
def test_bad_file_of_recover_file_is_refused(case: Case) -> None:
    case.check()


def test_file_of_recover_file_that_cannot_seek_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as file:
        assert isinstance(raised_by(recover_file, file), OSError)


# Everything else that readers and writers take

BUILDER = r"builder must be .*flatbuffers\.Builder, got "
LZ4 = flatstream.Lz4Compressor()
EVENT = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs").table("telemetry.Event")
OTHERS = [
    *refusals(
        "RecordWriter(stream_writer)",
        lambda value: flatstream.RecordWriter(value, EVENT),
        *[
            (value, TypeError, f"stream_writer must be a StreamWriter, got {type(value).__name__}")
            for value in (None, 5, "x")
        ],
    ),
    *refusals(
        "RecordWriter(table)",
        lambda value: flatstream.RecordWriter(StreamWriter(PlainSink()), value),
        *[
            (value, TypeError, f"table must be a Table of a Schema, got {type(value).__name__}")
            for value in (None, 5, "telemetry.Event", EVENT.schema)
        ],
    ),
    *refusals(
        "CompressedFramer",
        lambda value: flatstream.CompressedFramer(FRAMER, value),
        *[(value, TypeError, "compressor must be an instance of Compressor, got ") for value in (None, 5, "zstd")],
    ),
    *instances("CompressedFramer", "inner", "Framer", lambda value: flatstream.CompressedFramer(value, LZ4), DEFRAMER),
    *refusals(
        "CompressedDeframer",
        lambda value: flatstream.CompressedDeframer(DEFRAMER, value),
        (5, TypeError, "decompressor must be a Compressor, an iterable of them or None, got 5"),
        ("zstd", TypeError, "decompressor must be an instance of Compressor, got 'z'"),
        ([None], TypeError, "decompressor must be an instance of Compressor, got None"),
    ),
    *instances("CompressedDeframer", "inner", "Deframer", flatstream.CompressedDeframer, FRAMER),
    Case("Compressor", lambda: flatstream.Compressor().compress(memoryview(b"")), TypeError, "must define compress"),
    *refusals(
        "Lz4Compressor",
        flatstream.Lz4Compressor,
        *[(value, TypeError, "level must be an int, got ") for value, _ in NO_INTS],
        *[(value, ValueError, "level must be from 0 to 12") for value in (-1, 13, 2**80)],
    ),
    *refusals(
        "ZstdCompressor",
        flatstream.ZstdCompressor,
        *[(value, TypeError, "level must be an int, got ") for value, _ in NO_INTS],
        *[(value, ValueError, "level must be from -131072 to 22") for value in (-131_073, 23, 2**80)],
    ),
    *refusals(
        "ZstdCompressor(dictionary)",
        lambda value: flatstream.ZstdCompressor(3, value),
        (5, TypeError, "dictionary must be bytes-like or None, got int"),
        (b"abc", ValueError, "expected a Zstandard dictionary"),
    ),
    *refusals(
        "train_dictionary",
        flatstream.train_dictionary,
        (5, TypeError, "int"),
        (b"abc", TypeError, "samples must be an iterable of messages, got one bytes"),
        ([], ValueError, "got 0 messages"),
        (["a"], TypeError, "sample 0 must be bytes-like, got str"),
    ),
    Case("Description", lambda: flatstream.Description(3), TypeError, "expected a Table, a Schema"),
    Case("RecordView", flatstream.RecordView, TypeError, "made by Table.view or StreamReader.records"),
    *refusals(
        "ColumnBatch",
        flatstream.ColumnBatch,
        (None, TypeError, "made by"),
        (5, TypeError, "made by"),
        ({}, TypeError, "made"),
    ),
    *refusals(
        "JsonSerializer",
        lambda value: flatstream.JsonSerializer(default=value),
        (5, TypeError, "default must be callable"),
    ),
    *refusals(
        "MessagePackSerializer",
        lambda value: flatstream.MessagePackSerializer(default=value),
        (5, TypeError, "default must be callable"),
    ),
    *refusals("ColumnStream", flatstream.ColumnStream, (None, TypeError, "made by"), ([], TypeError, "made by")),
    *instances("StreamReader", "deframer", "Deframer", lambda value: StreamReader(b"", value), FRAMER, but_none=True),
    *instances(
        "StreamWriter", "framer", "Framer", lambda value: StreamWriter(PlainSink(), value), DEFRAMER, but_none=True
    ),
    *instances("recover", "deframer", "Deframer", lambda value: recover(b"", value), FRAMER, but_none=True),
    *instances("recover_file", "deframer", "Deframer", lambda value: recover_file(io.BytesIO(), value), but_none=True),
    *refusals(
        "dataset",
        flatstream.dataset,
        (5, TypeError, "paths must be a path or an iterable of paths, got int"),
        (b"a.fs", TypeError, "paths must be a path or an iterable of paths, got bytes"),
        ([5], TypeError, "a path must be a str or an os.PathLike of it, got int"),
        ("-", ValueError, "standard input"),
    ),
    *refusals(
        "read_split", flatstream.read_split, *[(value, TypeError, "expected a Split, got") for value in (None, b"")]
    ),
    *refusals(
        "Dataset", lambda value: flatstream.Dataset([], value, []), (None, TypeError, "made by flatstream.dataset")
    ),
    *refusals(
        "detect",
        flatstream.detect,
        *[(value, TypeError, "source must be a path, a bytes-like object or a seekable file") for value in (None, 5)],
        (io.StringIO("abc"), TypeError, "is a text file object"),
    ),
    *refusals(
        "salvage",
        lambda value: flatstream.salvage(value, "never made"),
        (None, TypeError, "source must be a path or a bytes-like object, got None"),
        (io.BytesIO(), TypeError, "source must be a path or a bytes-like object, got <_io.BytesIO"),
    ),
    *refusals(
        "build_index",
        flatstream.build_index,
        (None, TypeError, "path must be a str or os.PathLike, got None"),
        (b"events.fs", TypeError, "path must be a str or os.PathLike, got b'events.fs'"),
        ("s3://bucket/events.fs", ValueError, "the index of a URL cannot be written"),
        (os.devnull, ValueError, "an index is about a regular file"),
    ),
    *refusals(
        "seal",
        lambda value: flatstream.seal(value, "never made"),
        (None, TypeError, "path must be a str or os.PathLike, got None"),
        (b"events.fs", TypeError, "path must be a str or os.PathLike, got b'events.fs'"),
        ("s3://bucket/events.fs", ValueError, "only files of this computer can be sealed"),
    ),
    *refusals(
        "seal",
        lambda value: flatstream.seal(__file__, "never made", **value),
        ({"level": "high"}, TypeError, "level must be an int"),
        ({"level": 1000}, ValueError, "level must be a level of Zstandard, from "),
        ({"block_size": 1}, ValueError, "block_size must be from 4096 to 16777216 bytes, got 1"),
        ({"remove": 1}, TypeError, "remove must be a bool, got 1"),
        ({"checksum": "md5"}, ValueError, "md5"),
        ({}, flatstream.InvalidFrameError, "not like a stream; if it is one, pass the checksum"),
    ),
    *counts("StreamReader", "capacity", lambda value: StreamReader(b"", capacity=value), but_none=True),
    *lengths("StreamWriter", "buffer_size", lambda value: StreamWriter(PlainSink(), buffer_size=value)),
    *lengths("StreamWriter", "capacity", lambda value: StreamWriter(PlainSink(), capacity=value), but_none=True),
    *instances(
        "StreamReader",
        "memory_policy",
        "MemoryPolicy",
        lambda value: StreamReader(b"", memory_policy=value),
        NoOpPolicy,
        but_none=True,
    ),
    *instances(
        "StreamWriter",
        "memory_policy",
        "MemoryPolicy",
        lambda value: StreamWriter(PlainSink(), memory_policy=value),
        NoOpPolicy,
        but_none=True,
    ),
    *callables(
        "StreamWriter", "make_builder", lambda value: StreamWriter(PlainSink(), make_builder=value), but_none=True
    ),
    *refusals(
        "StreamWriter(builder)",
        lambda value: StreamWriter(PlainSink(), builder=value),
        *[(value, TypeError, BUILDER) for value in (5, "x", b"", object(), flatbuffers.Builder)],
    ),
    *refusals("StreamReader", lambda value: StreamReader(b"", **value), ({"chunk": 5}, TypeError, "'chunk'")),
    *instances("FrameParser", "deframer", "Deframer", flatstream.FrameParser, FRAMER, but_none=True),
    *instances("FrameSerializer", "framer", "Framer", flatstream.FrameSerializer, DEFRAMER, but_none=True),
    *counts("FrameParser", "capacity", lambda value: flatstream.FrameParser(capacity=value)),
    *lengths("FrameParser", "max_len", lambda value: flatstream.FrameParser(max_frame_len=value), but_none=True),
    *counts("FrameSerializer", "buffer_size", lambda value: flatstream.FrameSerializer(buffer_size=value)),
    *counts(
        "FrameSerializer", "max_pending", lambda value: flatstream.FrameSerializer(max_pending=value), but_none=True
    ),
    *lengths("FrameSerializer", "capacity", lambda value: flatstream.FrameSerializer(capacity=value), but_none=True),
    *refusals("JournalReader", flatstream.JournalReader, (5, TypeError, "directory must be a path, got 5")),
    *refusals("JournalWriter", flatstream.JournalWriter, (5, TypeError, "directory must be a str or os.PathLike")),
    *refusals("StreamWriter", lambda value: StreamWriter(PlainSink(), **value), ({"chunk": 5}, TypeError, "'chunk'")),
]


@in_one_test
@table(*OTHERS)
def test_bad_argument_of_a_reader_or_writer_is_refused(case: Case) -> None:
    case.check()


# flatstream.open

MODE = "mode must be 'r', 'w', 'a' or 'x', optionally followed by 'b', got "
BOTH = "expected either a checksum or a framer or deframer, got both"
BAD_OPEN: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((None,), {}, TypeError, "path must be a str or os.PathLike, got None"),
    ((5,), {}, TypeError, "path must be a str or os.PathLike, got 5"),
    ((b"some.fs",), {}, TypeError, "path must be a str or os.PathLike, got b'some.fs'"),
    *[
        (("some.fs", mode), {}, ValueError, MODE + re.escape(repr(mode)))
        for mode in (None, 5, "", "rw", "r+", "rt", "b", "wbb")
    ],
    (
        ("some.fs",),
        {"checksum": "md5"},
        ValueError,
        "unknown checksum 'md5': expected one of 'none', 'crc16', 'crc32', ",
    ),
    (("some.fs",), {"checksum": 5}, TypeError, "expected a Checksum, a ChecksumType, its name or None, got 5"),
    (("some.fs",), {"checksum": Crc32}, TypeError, "expected a Checksum, a ChecksumType, its name or None, got <class"),
    (("some.fs",), {"framer": FRAMER}, TypeError, r"mode 'r' takes a deframer, got DefaultFramer\(\)"),
    (("new.fs", "w"), {"deframer": DEFRAMER}, TypeError, r"mode 'w' takes a framer, got DefaultDeframer\(\)"),
    (("some.fs",), {"checksum": "crc32", "deframer": DEFRAMER}, TypeError, BOTH),
    (("new.fs", "w"), {"checksum": "crc32", "framer": FRAMER}, TypeError, BOTH),
    (("some.fs",), {"deframer": 5}, TypeError, "deframer must be an instance of Deframer.*, got 5"),
    (("new.fs", "w"), {"framer": 5}, TypeError, "framer must be an instance of Framer.*, got 5"),
    (("some.fs",), {"chunk": 5}, TypeError, "'chunk'"),
    (("some.fs",), {"buffer_size": 5}, TypeError, "'buffer_size'"),
    (("new.fs", "w"), {"capacity": "5"}, TypeError, "capacity must be an int, got str: '5'"),
    (("some.fs",), {"capacity": 0}, ValueError, "capacity must be from 1 to [0-9]+, got 0"),
    (("none.fs",), {}, FileNotFoundError, "none.fs"),
    (("some.fs", "x"), {}, FileExistsError, "some.fs"),
    (("torn.fs", "a"), {}, UnexpectedEofError, r"recover=True saves .*\(frame 1, stream offset 7\)"),
    (("some.fs", "a"), {"checksum": "crc32"}, FlatStreamError, "stream offset 0"),
]


@in_one_test
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"), BAD_OPEN, ids=[str(each[:2]) for each in BAD_OPEN]
)
def test_bad_argument_of_open_is_refused(
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.fs").write_bytes(TWO_FRAMES)
    Path("torn.fs").write_bytes(TWO_FRAMES[:-1])
    Case("", lambda: flatstream.open(*arguments, **options), error, message).check()
    assert Path("some.fs").read_bytes() == TWO_FRAMES
    assert Path("torn.fs").read_bytes() == TWO_FRAMES[:-1]


WRONG_OPTIONS: list[dict[str, Any]] = [
    {"buffer_size": -1},
    {"buffer_size": "big"},
    {"capacity": -1},
    {"capacity": "big"},
    {"memory_policy": 5},
    {"make_builder": 5},
    {"builder": 5},
    {"framer": 5},
    {"chunk": 5},
]


@in_one_test
@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=str)
@pytest.mark.parametrize("mode", [None, "w", "x"], ids=["StreamWriter", "open w", "open x"])
def test_wrong_argument_does_not_empty_or_make_a_file(mode: Any, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "precious.fs"
    if mode != "x":
        path.write_bytes(TWO_FRAMES)
    error = raised_by(lambda: flatstream.open(path, mode, **options) if mode else StreamWriter(path, **options))
    assert isinstance(error, TypeError | ValueError)
    assert path.exists() == (mode != "x")
    assert mode == "x" or path.read_bytes() == TWO_FRAMES


# Nothing public is left out

TAKE_NOTHING = {
    "Crc16",
    "Crc32",
    "Crc32c",
    "Crc64",
    "DefaultFramer",
    "NoChecksum",
    "NoOpPolicy",
    "NoValidator",
    "Serializer",
    "XxHash64",
}
# Errors, plain data, enumerations and protocols take what they are given.
TAKE_ANYTHING = {
    "ChecksumMismatchError",
    "DecompressionError",
    "DecryptionError",
    "FlatStreamError",
    "FlatbufferError",
    "InvalidFrameError",
    "JsonError",
    "SchemaError",
    "UnexpectedEofError",
    "ValidationFailedError",
    "Detection",
    "EncryptionReport",
    "FrameSpan",
    "IndexReport",
    "Packable",
    "ReclamationInfo",
    "ReclamationReason",
    "RecoveryEnd",
    "RecoveryReport",
    "SalvageReport",
    "SealReport",
    "StartupReport",
    "StreamDeserialize",
    "StreamSerialize",
}


def test_every_public_name_has_its_bad_input() -> None:
    tested = {re.split(r"[(. ]", case.name)[0] for case in CONSTRUCTORS + ABSTRACT + OTHERS} | {"open"}
    # `open` is public, though a star does not import it.
    assert {*flatstream.__all__, *flatstream._LAZY, "open"} == tested | TAKE_NOTHING | TAKE_ANYTHING
