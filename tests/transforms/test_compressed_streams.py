"""Compressed streams: the bytes are those of the reference, and every way to read gives the messages back."""

from __future__ import annotations

import io
import pickle
import threading
import zlib
from collections.abc import Callable
from typing import Any

import lz4.block
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import (
    ChecksumFramer,
    CompressedDeframer,
    CompressedFramer,
    Compressor,
    Crc32,
    DecompressionError,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    FlatStreamError,
    Framer,
    InvalidFrameError,
    Lz4Compressor,
    SizeValidator,
    StreamReader,
    StreamWriter,
    TransformDeframer,
    TransformFramer,
    ValidationFailedError,
    ZstdCompressor,
)
from reference import compression as reference
from reference import framing
from support.compression import Deflate, dictionary, event, events, unpack_zstd
from support.extent import in_one_test, spread
from support.modes import MODES, Mode, every_mode

# By name: the compressor, and its bytes by the library alone.
METHODS: dict[str, tuple[Callable[[], Compressor], Callable[[bytes], bytes]]] = {
    "zstd": (lambda: ZstdCompressor(), lambda payload: zstd.compress(payload, 3)),
    "zstd dictionary": (
        lambda: ZstdCompressor(6, dictionary()),
        lambda payload: zstd.compress(payload, 6, zstd_dict=zstd.ZstdDict(dictionary())),
    ),
    "lz4": (lambda: Lz4Compressor(), lambda payload: bytes(lz4.block.compress(payload))),
    "lz4 9": (
        lambda: Lz4Compressor(9),
        lambda payload: bytes(lz4.block.compress(payload, mode="high_compression", compression=9)),
    ),
    "application": (lambda: Deflate(), zlib.compress),
}

every_method = pytest.mark.parametrize("method", list(METHODS))

PAYLOADS = [b"", b"a", event(1), b"x" * 5000, bytes(range(256)), *events(20), b"".join(events(100))]


def compressor_of(method: str) -> Compressor:
    return METHODS[method][0]()


def write(framer: Framer, payloads: list[bytes], **options: Any) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, framer, **options) as writer:
        writer.write_payloads(payloads)
    return sink.getvalue()


def stream_of(method: str, mode: Mode, payloads: list[bytes] = PAYLOADS) -> bytes:
    return write(mode.framer().compressed(compressor_of(method)), payloads)


def deframer_of(method: str, mode: Mode, **options: Any) -> Deframer:
    return CompressedDeframer(mode.deframer(), compressor_of(method), **options)


def read_one(reader: StreamReader) -> bytes | None:
    payload = reader.read_message()
    return None if payload is None else bytes(payload)


# For arguments that type checkers refuse.
any_framer: Any = CompressedFramer
any_deframer: Any = CompressedDeframer

# Bytes


def test_bytes_of_a_compressed_stream_never_change() -> None:
    # Files have them. A block of LZ4 behind its size, the byte that says so, and the header; and what is stored as it
    # is.
    data = write(ChecksumFramer(Crc32()).compressed(Lz4Compressor()), [b"a" * 40, b"abc", b""])
    assert data.hex(" ") == (
        "10 00 00 00 95 cb 4f ea 02 28 00 00 00 1f 61 01 00 0f 50 61 61 61 61 61"
        " 04 00 00 00 cc 47 21 eb 00 61 62 63"
        " 01 00 00 00 8d ef 02 d2 00"
    )


@in_one_test
@every_method
@every_mode
def test_bytes_are_those_of_the_reference(mode: Mode, method: str) -> None:
    make, compress = METHODS[method]
    expected = reference.encode_compressed(PAYLOADS, mode.name, make().number, compress)
    assert stream_of(method, mode) == expected
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer().compressed(make()), buffer_size=0) as writer:
        for payload in PAYLOADS:
            writer.write_payload(payload)
    assert sink.getvalue() == expected
    assert (writer.frames_written, writer.bytes_written) == (len(PAYLOADS), len(expected))


@given(st.lists(st.binary(max_size=300) | st.sampled_from(PAYLOADS), max_size=8), st.sampled_from(sorted(MODES)))
def test_any_payloads_come_back_through_every_method(payloads: list[bytes], name: str) -> None:
    for method, (make, compress) in METHODS.items():
        data = stream_of(method, MODES[name], payloads)
        assert data == reference.encode_compressed(payloads, name, make().number, compress)
        with StreamReader(data, deframer_of(method, MODES[name])) as reader:
            assert [bytes(payload) for payload in reader] == payloads


# Reading


@in_one_test
@every_method
@every_mode
def test_every_way_of_reading_gives_the_messages(mode: Mode, method: str) -> None:
    data = stream_of(method, mode)
    deframer = deframer_of(method, mode)
    offsets = [frame.offset for frame in framing.decode(data, mode.name).outcomes]
    for source in (data, io.BytesIO(data)):
        with StreamReader(source, deframer, capacity=64) as reader:
            assert [bytes(payload) for payload in reader] == PAYLOADS
            assert (reader.frames_read, reader.offset) == (len(PAYLOADS), len(data))
    with StreamReader(data, deframer) as reader:
        found: list[bytes] = []
        for batch in reader.batches(max_frames=7):
            found += map(bytes, batch)
            assert len(batch.frame_offsets) == len(batch)
            assert list(batch.frame_offsets) == offsets[len(found) - len(batch) : len(found)]
        assert found == PAYLOADS
    with StreamReader(data, deframer) as reader:
        kept: list[memoryview] = []
        assert reader.process_all(kept.append) == len(PAYLOADS)
    # The messages have memory of their own.
    assert [bytes(payload) for payload in kept] == PAYLOADS
    assert all(payload.readonly for payload in kept)


def test_frames_of_a_batch_of_messages_are_not_written_as_they_are() -> None:
    data = stream_of("zstd", MODES["crc32"])
    with StreamReader(data, deframer_of("zstd", MODES["crc32"])) as reader, StreamWriter(io.BytesIO()) as writer:
        batch = reader.read_batch()
        assert batch is not None
        with pytest.raises(ValueError, match="write_payloads"):
            writer.write_frames(batch)
        writer.write_payloads(batch)
        assert writer.frames_written == len(PAYLOADS)


def test_default_decompressor_takes_zstd_and_lz4_in_one_stream() -> None:
    framers = [DefaultFramer().compressed(compressor) for compressor in (ZstdCompressor(), Lz4Compressor())]
    data = b"".join(write(framer, PAYLOADS) for framer in framers)
    with StreamReader(data, DefaultDeframer().compressed()) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS * 2


@in_one_test
@pytest.mark.parametrize(
    ("decompressor", "taken"),
    [
        (None, "[0, 1, 2]"),
        (ZstdCompressor(), "[0, 1]"),
        (Lz4Compressor(), "[0, 2]"),
        ([ZstdCompressor(), Deflate()], "[0, 1, 200]"),
        ([], "[0]"),
    ],
    ids=str,
)
def test_method_that_is_not_taken_is_refused(decompressor: Any, taken: str) -> None:
    deframer = DefaultDeframer().compressed(decompressor)
    for method in range(256):
        if str(method) in taken.strip("[]").split(", "):
            continue
        stored = bytes([method]) + b"abc"
        with (
            StreamReader(framing.encode([stored, b"\0fine"], "none"), deframer) as reader,
        ):
            with pytest.raises(DecompressionError) as caught:
                reader.read_message()
            assert f"method {method}, and expected is one of {taken}" in str(caught.value)
            assert (caught.value.offset, caught.value.frame, caught.value.validator) == (0, 0, "compression")
            assert read_one(reader) == b"fine"


def test_frame_without_any_bytes_is_none_of_a_compressed_stream() -> None:
    data = framing.encode([b"\0", b"", b"\0a"], "crc32")
    with StreamReader(data, MODES["crc32"].deframer().compressed()) as reader:
        assert read_one(reader) == b""
        with pytest.raises(FlatStreamError, match="the payload is empty") as caught:
            reader.read_message()
        assert isinstance(caught.value, DecompressionError)
        assert read_one(reader) == b"a"


# Limits


@in_one_test
@every_method
def test_longest_payload_that_is_allowed_is_read_and_the_next_is_not(method: str) -> None:
    for size in (0, 1, 1000, 70_000):
        payload = (b"".join(events(100)) * 10)[:size]
        data = stream_of(method, MODES["crc32"], [payload, b"fine"])
        with StreamReader(data, deframer_of(method, MODES["crc32"], max_payload_len=max(size, 4))) as reader:
            assert [bytes(each) for each in reader] == [payload, b"fine"]
        if size > 4:
            with StreamReader(data, deframer_of(method, MODES["crc32"], max_payload_len=size - 1)) as reader:
                with pytest.raises(DecompressionError):
                    reader.read_message()
                assert read_one(reader) == b"fine"


def test_payload_that_is_stored_as_it_is_has_the_same_limit() -> None:
    data = framing.encode([b"\0" + b"a" * 11, b"\0" + b"a" * 10], "none")
    with StreamReader(data, CompressedDeframer(DefaultDeframer(), max_payload_len=10)) as reader:
        with pytest.raises(DecompressionError, match="a payload of 11 bytes is longer than the limit of 10"):
            reader.read_message()
        assert read_one(reader) == b"a" * 10


def test_with_max_frame_len_limits_what_is_stored_and_what_it_becomes() -> None:
    deframer: Any = CompressedDeframer(DefaultDeframer()).with_max_frame_len(100)
    assert repr(type(deframer)) == repr(CompressedDeframer)
    assert (deframer.max_payload_len, deframer.inner.max_frame_len) == (100, 101)
    data = write(DefaultFramer().compressed(ZstdCompressor()), [b"a" * 101, bytes(range(100))])
    with StreamReader(data, deframer) as reader:
        with pytest.raises(DecompressionError, match="more than the limit of 100"):
            reader.read_message()
        assert read_one(reader) == bytes(range(100))
    too_long = framing.encode([b"\0" + bytes(101)], "none")
    with StreamReader(too_long, deframer) as reader, pytest.raises(InvalidFrameError):
        reader.read_message()


def test_answer_of_an_application_that_is_too_long_is_refused() -> None:
    class Careless(Deflate):
        def decompress(self, data: memoryview, max_size: int) -> bytes:
            return zlib.decompress(data)

    data = write(DefaultFramer().compressed(Deflate()), [b"a" * 1000, b"fine"])
    with StreamReader(data, CompressedDeframer(DefaultDeframer(), Careless(), max_payload_len=999)) as reader:
        with pytest.raises(DecompressionError, match="a payload of 1,000 bytes is longer than the limit of 999"):
            reader.read_message()
        assert read_one(reader) == b"fine"


# Damage


def damaged(data: bytes, at: int, flip: int) -> bytes:
    return data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]


@in_one_test
@pytest.mark.parametrize("method", ["zstd", "zstd dictionary", "lz4"])
@pytest.mark.parametrize("name", ["crc32", "xxhash64"])
def test_damage_at_any_byte_loses_one_message_and_gives_no_other(method: str, name: str) -> None:
    payloads = [event(number) for number in range(6)]
    mode = MODES[name]
    data, deframer = stream_of(method, mode, payloads), deframer_of(method, mode)
    frames = [len(stream_of(method, mode, payloads[:count])) for count in range(len(payloads) + 1)]
    for at in spread(range(len(data)), 3):
        broken = next(number for number in range(len(payloads)) if at < frames[number + 1])
        rest = payloads[:broken] + payloads[broken + 1 :]
        for flip in (1, 0x80) if at % 3 else (0xFF,):
            source = damaged(data, at, flip)
            with StreamReader(source, deframer, on_error="resync") as reader:
                assert [bytes(payload) for payload in reader] == rest, (at, flip)
                assert reader.lost_ranges == [(frames[broken], frames[broken + 1])]
            with StreamReader(source, deframer) as reader:
                assert [bytes(next(reader)) for _ in range(broken)] == payloads[:broken]
                with pytest.raises(FlatStreamError) as caught:
                    reader.read_message()
                assert caught.value.offset == frames[broken]


@in_one_test
@pytest.mark.parametrize("method", ["zstd", "zstd dictionary", "lz4"])
def test_damage_without_a_checksum_is_refused_or_gives_what_the_reference_gives(method: str) -> None:
    payloads = [event(number) for number in range(3)]
    mode, compressor = MODES["none"], compressor_of(method)
    data = stream_of(method, mode, payloads)
    header = 4
    for at in spread(range(len(data)), 5):
        source = damaged(data, at, 0x21)
        for on_error in ("raise", "skip", "stop", "resync"):
            with StreamReader(source, deframer_of(method, mode, max_payload_len=1000), on_error=on_error) as reader:
                try:
                    found = [bytes(payload) for payload in reader]
                except FlatStreamError:
                    continue
                assert sum(map(len, found)) <= 3000
        first = int.from_bytes(source[:4], "little")
        if header + first <= len(source):
            try:
                expected = reference.restore(
                    source[header : header + first],
                    1000,
                    lambda frame: unpack_zstd(frame, compressor.dictionary),
                    getattr(compressor, "dictionary_id", 0),
                )
            except reference.RefusedError:
                expected = None
            with StreamReader(source, deframer_of(method, mode, max_payload_len=1000)) as reader:
                if expected is not None:
                    assert read_one(reader) == expected
                else:
                    with pytest.raises(DecompressionError):
                        reader.read_message()


@in_one_test
@pytest.mark.parametrize("on_error", ["raise", "skip", "stop", "resync"])
def test_frame_that_cannot_be_decompressed_is_consumed_in_every_mode(on_error: Any) -> None:
    stored = [reference.stored(event(number), 1, zstd.compress) for number in range(5)]
    stored[2] = stored[2][:-1]
    data = framing.encode(stored, "crc32")
    end = len(framing.encode(stored[:2], "crc32")), len(framing.encode(stored[:3], "crc32"))
    deframer = MODES["crc32"].deframer().compressed()
    rest = [event(number) for number in (3, 4)]
    with StreamReader(data, deframer, on_error=on_error) as reader:
        found = [bytes(next(reader)), bytes(next(reader))]
        if on_error == "raise":
            with pytest.raises(DecompressionError) as caught:
                reader.read_message()
            assert (caught.value.offset, caught.value.frame) == (end[0], 2)
            assert [bytes(payload) for payload in reader] == rest
        else:
            found += map(bytes, reader)
            if on_error == "stop":
                assert isinstance(reader.stop_error, DecompressionError)
                assert reader.stop_error.offset == end[0]
            else:
                assert found[2:] == rest
                assert reader.lost_ranges == [end]
                assert reader.skipped == 1
        assert found[:2] == [event(0), event(1)]
    with StreamReader(data, deframer) as reader:
        batch = reader.read_batch()
        assert batch is not None
        assert list(map(bytes, batch)) == [event(0), event(1)]
        with pytest.raises(DecompressionError):
            reader.read_batch()
        batch = reader.read_batch()
        assert batch is not None
        assert list(map(bytes, batch)) == rest


@in_one_test
@every_method
def test_stream_that_ends_anywhere_is_torn_there_and_nowhere_else(method: str) -> None:
    payloads = [event(number) for number in range(3)]
    mode = MODES["crc32"]
    data = stream_of(method, mode, payloads)
    ends = [len(stream_of(method, mode, payloads[:count])) for count in range(4)]
    for size in spread(range(len(data) + 1), 4):
        with StreamReader(data[:size], deframer_of(method, mode)) as reader:
            whole = sum(end <= size for end in ends) - 1
            assert [bytes(next(reader)) for _ in range(whole)] == payloads[:whole]
            if size in ends:
                assert reader.read_message() is None
            else:
                with pytest.raises(flatstream.UnexpectedEofError) as caught:
                    reader.read_message()
                assert caught.value.offset == ends[whole]
        report = flatstream.recover(data[:size], deframer_of(method, mode))
        if whole or not size:
            assert (report.frames, report.last_good_offset) == (whole, ends[whole])


# Composed


def test_adapters_outside_see_messages_and_those_inside_see_what_is_stored() -> None:
    seen: dict[str, list[bytes]] = {"outside": [], "inside": []}

    def note(place: str) -> Callable[[memoryview], None]:
        return lambda payload: seen[place].append(bytes(payload))

    framer = DefaultFramer().observed(note("inside")).compressed(ZstdCompressor()).observed(note("outside"))
    data = write(framer, [event(1), b"abc"])
    assert seen["outside"] == [event(1), b"abc"]
    assert [each[0] for each in seen["inside"]] == [1, 0]
    seen["outside"], stored = [], seen["inside"]
    seen["inside"] = []
    deframer = DefaultDeframer().observed(note("inside")).compressed().observed(note("outside"))
    with StreamReader(data, deframer) as reader:
        assert [bytes(payload) for payload in reader] == [event(1), b"abc"]
    assert seen == {"outside": [event(1), b"abc"], "inside": stored}


def test_bounds_outside_are_about_messages_and_those_inside_about_what_is_stored() -> None:
    compressible = b"a" * 1000
    outside = DefaultFramer().compressed(ZstdCompressor()).bounded(999)
    inside = DefaultFramer().bounded(50).compressed(ZstdCompressor())
    with StreamWriter(io.BytesIO(), outside) as writer:
        with pytest.raises(InvalidFrameError, match="1000 bytes is longer than the bound of 999"):
            writer.write_payload(compressible)
        assert writer.frames_written == 0
    with StreamWriter(sink := io.BytesIO(), inside) as writer:
        writer.write_payload(compressible)
        with pytest.raises(InvalidFrameError, match="longer than the bound of 50"):
            writer.write_payload(bytes(range(100)))
        assert writer.frames_written == 1
    data = sink.getvalue()
    with StreamReader(data, DefaultDeframer().bounded(50).compressed()) as reader:
        assert read_one(reader) == compressible
    with StreamReader(data + b"\1\0\0\0\0", DefaultDeframer().compressed().bounded(999)) as reader:
        with pytest.raises(FlatStreamError, match="999"):
            reader.read_message()
        assert read_one(reader) == b""
    with StreamReader(data, DefaultDeframer().bounded(10).compressed()) as reader, pytest.raises(InvalidFrameError):
        reader.read_message()


def test_validator_outside_sees_messages() -> None:
    framer = ChecksumFramer(Crc32()).compressed(ZstdCompressor()).with_validator(SizeValidator(100, 1000))
    with StreamWriter(sink := io.BytesIO(), framer) as writer:
        with pytest.raises(ValidationFailedError):
            writer.write_payload(b"a" * 1001)
        writer.write_payload(b"a" * 1000)
    deframer = MODES["crc32"].deframer().compressed().with_validator(SizeValidator(0, 999))
    with StreamReader(sink.getvalue(), deframer) as reader:
        with pytest.raises(ValidationFailedError) as caught:
            reader.read_message()
        assert (caught.value.offset, caught.value.frame) == (0, 0)
        assert reader.read_message() is None


class Reversing(TransformFramer):
    """Another transform, with nothing said of it."""

    def transform(self, payload: memoryview) -> bytes:
        return bytes(payload)[::-1]


class ReversingBack(TransformDeframer):
    def restore(self, payload: memoryview) -> bytes:
        return bytes(payload)[::-1]


def test_other_transforms_may_stand_on_both_sides() -> None:
    for framer, deframer in (
        (
            Reversing(CompressedFramer(DefaultFramer(), ZstdCompressor())),
            ReversingBack(CompressedDeframer(DefaultDeframer())),
        ),
        (
            CompressedFramer(Reversing(DefaultFramer()), Lz4Compressor()),
            CompressedDeframer(ReversingBack(DefaultDeframer())),
        ),
    ):
        data = write(framer, PAYLOADS)
        with StreamReader(data, deframer) as reader:
            assert [bytes(payload) for payload in reader] == PAYLOADS


@in_one_test
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: DefaultFramer().compressed(ZstdCompressor()).compressed(Lz4Compressor()),
            "CompressedFramer inside of another: a payload is compressed once",
        ),
        (
            lambda: DefaultFramer().compressed(ZstdCompressor()).observed(print).bounded(5).compressed(Lz4Compressor()),
            "CompressedFramer inside of another",
        ),
        (
            lambda: CompressedFramer(Reversing(DefaultFramer().compressed(ZstdCompressor())), ZstdCompressor()),
            "CompressedFramer inside of another",
        ),
        (lambda: DefaultDeframer().compressed().compressed(), "CompressedDeframer inside of another"),
        (
            lambda: DefaultDeframer().compressed().with_validator(SizeValidator(0, 1)).compressed(),
            "inside of",
        ),
        (
            lambda: DefaultFramer().with_validator(SizeValidator(0, 1)).compressed(ZstdCompressor()),
            "a validator inside of a CompressedFramer would see stored bytes",
        ),
        (
            lambda: DefaultDeframer().with_validator(SizeValidator(0, 1)).compressed(),
            "a validator inside of a CompressedDeframer would see stored bytes",
        ),
        (lambda: any_framer(None, ZstdCompressor()), "inner must be an instance of Framer, got None"),
        (lambda: any_deframer("crc32"), "inner must be an instance of Deframer, got 'crc32'"),
        (lambda: any_framer(DefaultFramer(), "zstd"), "compressor must be an instance of Compressor, got 'zstd'"),
        (lambda: any_deframer(DefaultDeframer(), "zstd"), "decompressor must be an instance of Compressor"),
        (lambda: any_deframer(DefaultDeframer(), 5), "decompressor must be a Compressor, an iterable"),
        (lambda: any_deframer(DefaultDeframer(), max_payload_len=1.5), "max_payload_len must be an int"),
        (lambda: any_framer(DefaultFramer()), "compressor"),
    ],
    ids=str,
)
def test_order_or_argument_that_makes_no_sense_says_why(make: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        make()


@in_one_test
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: CompressedDeframer(DefaultDeframer(), max_payload_len=-1), "max_payload_len"),
        (
            lambda: CompressedDeframer(DefaultDeframer(), [ZstdCompressor(), ZstdCompressor(5)]),
            "two decompressors have the number 1",
        ),
    ],
    ids=str,
)
def test_value_that_makes_no_sense_says_why(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_compressor_that_fails_writes_nothing_of_the_payload() -> None:
    class Failing(Deflate):
        def compress(self, payload: memoryview) -> bytes:
            if bytes(payload) == b"bad":
                raise RuntimeError("no")
            return super().compress(payload)

    sink = io.BytesIO()
    with StreamWriter(sink, DefaultFramer().compressed(Failing())) as writer:
        writer.write_payload(b"good" * 100)
        with pytest.raises(RuntimeError, match="no"):
            writer.write_payloads([b"good" * 100, b"bad", b"good" * 100])
        writer.write_payload(b"last")
        assert writer.frames_written == 3
    with StreamReader(sink.getvalue(), DefaultDeframer().compressed(Deflate())) as reader:
        assert [bytes(payload) for payload in reader] == [b"good" * 100, b"good" * 100, b"last"]


def test_compressor_with_a_context_of_its_own_has_one_for_each_stream() -> None:
    class Counting(Deflate):
        started = 0

        def start(self) -> Counting:
            Counting.started += 1
            return Counting()

    framer, deframer = DefaultFramer().compressed(Counting()), DefaultDeframer().compressed(Counting())
    for _ in range(2):
        data = write(framer, [event(1)])
        with StreamReader(data, deframer) as reader:
            assert reader.deframer is deframer
            assert read_one(reader) == event(1)
    assert Counting.started == 4


# Objects


@in_one_test
@every_method
def test_pickled_framer_and_deframer_do_the_same(method: str) -> None:
    if method == "application":
        return
    framer = ChecksumFramer(Crc32()).bounded(9999).compressed(compressor_of(method)).bounded(8888)
    deframer = CompressedDeframer(MODES["crc32"].deframer(), compressor_of(method), max_payload_len=7777)
    data = write(framer, PAYLOADS[:5])
    other = pickle.loads(pickle.dumps(framer))
    assert repr(other) == repr(framer)
    assert write(other, PAYLOADS[:5]) == data
    again = pickle.loads(pickle.dumps(deframer))
    assert repr(again) == repr(deframer)
    assert again.max_payload_len == 7777
    with StreamReader(data, again) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS[:5]


class Named(CompressedFramer):
    """A subclass with a constructor and attributes of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(DefaultFramer(), Lz4Compressor())
        self.name = name


class NamedBack(CompressedDeframer):
    def __init__(self, name: str) -> None:
        super().__init__(DefaultDeframer())
        self.name = name


def test_subclass_keeps_its_attributes_when_it_is_copied() -> None:
    framer, deframer = Named("one"), NamedBack("two")
    for copied in (framer.with_inner(ChecksumFramer(Crc32())), pickle.loads(pickle.dumps(framer))):
        assert isinstance(copied, Named)
        assert (copied.name, copied.compressor.name) == ("one", "lz4")
    for back in (deframer.with_max_frame_len(10), pickle.loads(pickle.dumps(deframer))):
        assert isinstance(back, NamedBack)
        assert back.name == "two"
    with StreamReader(write(framer, [event(1)]), deframer) as reader:
        assert read_one(reader) == event(1)


def test_representations_and_attributes_say_what_they_are_made_of() -> None:
    framer = DefaultFramer().compressed(ZstdCompressor(6))
    assert repr(framer) == "CompressedFramer(DefaultFramer(), ZstdCompressor(level=6))"
    assert framer.transforms == (("compression", (("level", "6"), ("method", "zstd")), b""),)
    assert framer.bounded(5).transforms == framer.transforms
    assert isinstance(framer, CompressedFramer)
    assert framer.compressor.name == "zstd"
    deframer = DefaultDeframer().compressed()
    assert repr(deframer) == f"CompressedDeframer({DefaultDeframer()!r})"
    assert (deframer.decompressors, deframer.max_payload_len) == (None, 64 << 20)
    deframer = CompressedDeframer(DefaultDeframer(), Lz4Compressor(), max_payload_len=10)
    assert repr(deframer) == f"CompressedDeframer({DefaultDeframer()!r}, [Lz4Compressor(level=0)], max_payload_len=10)"
    assert DefaultFramer().transforms == ()


# Threads


def test_streams_of_many_threads_may_share_one_framer_and_one_deframer() -> None:
    framer = ChecksumFramer(Crc32()).compressed(ZstdCompressor(3, dictionary()))
    deframer = MODES["crc32"].deframer().compressed(ZstdCompressor(3, dictionary()))
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def work(first: int) -> None:
        try:
            payloads = [event(number) * 3 for number in range(first, first + 50)]
            start.wait()
            for _ in range(3):
                with StreamReader(write(framer, payloads), deframer) as reader:
                    assert [bytes(payload) for payload in reader] == payloads
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_threads_may_share_one_reader() -> None:
    payloads = [event(number) for number in range(400)]
    data = stream_of("zstd", MODES["crc32"], payloads)
    found: list[bytes] = []
    with StreamReader(data, deframer_of("zstd", MODES["crc32"])) as reader:

        def work() -> None:
            while (payload := reader.read_message()) is not None:
                found.append(bytes(payload))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == sorted(payloads)


# Wrong answers of applications


def test_answers_that_are_no_bytes_are_refused_and_nothing_is_written() -> None:
    class Wrong(Deflate):
        answer: Any = None

        def compress(self, payload: memoryview) -> bytes:
            return self.answer  # type: ignore[no-any-return]

        def decompress(self, data: memoryview, max_size: int) -> bytes:
            return self.answer  # type: ignore[no-any-return]

    for answer in (None, 5, "text", ["a"]):
        Wrong.answer = answer
        sink = io.BytesIO()
        with StreamWriter(sink, DefaultFramer().compressed(Wrong())) as writer, pytest.raises(TypeError):
            writer.write_payload(b"a" * 100)
        assert sink.getvalue() == b""
        data = write(DefaultFramer().compressed(Deflate()), [b"a" * 100])
        with StreamReader(data, DefaultDeframer().compressed(Wrong())) as reader, pytest.raises(TypeError):
            reader.read_message()


def test_object_whose_constructor_was_not_called_says_so() -> None:
    framer: Any = CompressedFramer.__new__(CompressedFramer)
    deframer: Any = CompressedDeframer.__new__(CompressedDeframer)
    with pytest.raises(TypeError, match="__init__ was not called"):
        framer.transform(memoryview(b"abc"))
    with pytest.raises(TypeError, match="__init__ was not called"):
        deframer.restore(memoryview(b"\0abc"))
    with pytest.raises(TypeError, match="__init__ was not called"):
        StreamWriter(io.BytesIO(), framer)
    with pytest.raises(TypeError, match="__init__ was not called"):
        StreamReader(b"\2\0\0\0\0a", deframer)
