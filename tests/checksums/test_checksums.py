"""Checksums: every kernel against oracles that others wrote, every kind of buffer, and checksums written in Python.

The oracles are binascii, zlib, google-crc32c, fastcrc and xxhash, and the bit-by-bit CRCs of the reference.
"""

from __future__ import annotations

import array
import binascii
import ctypes
import io
import json
import mmap
import pickle
import random
import zlib
from pathlib import Path
from typing import Any

import fastcrc
import google_crc32c
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    ChecksumType,
    Crc16,
    Crc32,
    Crc32c,
    Crc64,
    DefaultDeframer,
    DefaultFramer,
    NoChecksum,
    RecoveryEnd,
    RecoveryReport,
    StreamReader,
    StreamWriter,
    XxHash64,
)
from flatstream._core.checksums import crc
from flatstream._core.checksums.checksum import UncheckedChecksum
from flatstream.checksums import as_checksum
from flatstream.framing import as_deframer, as_framer
from reference import framing as reference
from support.extent import in_one_test
from support.modes import MODES, Mode, Sum24, every_mode
from support.processes import import_with

ORACLES = {
    NoChecksum: lambda data: 0,
    Crc16: lambda data: binascii.crc_hqx(data, 0),
    Crc32: zlib.crc32,
    Crc32c: google_crc32c.value,
    Crc64: fastcrc.crc64.xz,
    XxHash64: xxhash.xxh3_64_intdigest,
}

every_builtin = pytest.mark.parametrize("cls", ORACLES)

# Random, but the same in every run.
NOISE = random.Random(20240229).randbytes((1 << 20) + 64)


def frame_of(payload: bytes, checksum: Checksum) -> bytes:
    sink = io.BytesIO()
    ChecksumFramer(checksum).frame_and_write(sink, payload)
    return sink.getvalue()


def mismatch(checksum: Any, expected: int, payload: Any) -> tuple[Any, Any]:
    with pytest.raises(ChecksumMismatchError) as caught:
        checksum.verify(expected, payload)
    return caught.value.expected, caught.value.calculated


# Values


# These are in every file that anybody has written. They come from the RevEng catalogue and the xxHash test vectors.
@in_one_test
@pytest.mark.parametrize(
    ("cls", "of_nothing", "of_digits"),
    [
        (NoChecksum, 0, 0),
        (Crc16, 0x0000, 0x31C3),
        (Crc32, 0x00000000, 0xCBF43926),
        (Crc32c, 0x00000000, 0xE3069283),
        (Crc64, 0x0000000000000000, 0x995DC9BBDF1939FA),
        (XxHash64, 0x2D06800538D394C2, 0x72DCB18B67A17DFF),
    ],
)
def test_check_values_are_those_of_the_catalogue(cls, of_nothing, of_digits):
    assert cls().calculate(b"") == of_nothing
    assert cls().calculate(b"123456789") == of_digits


@in_one_test
@every_builtin
def test_every_length_to_256_at_every_alignment_agrees_with_the_oracle(cls):
    checksum, oracle = cls(), ORACLES[cls]
    room = bytearray(256 + 8)
    with memoryview(room) as view:
        for length in range(257):
            payload = NOISE[length : 2 * length]
            expected = oracle(payload)
            for shift in range(8):
                # Noise all around, so that a byte too many would be noticed.
                view[:] = NOISE[-len(room) :]
                view[shift : shift + length] = payload
                assert checksum.calculate(view[shift : shift + length]) == expected, (length, shift)


@in_one_test
@pytest.mark.parametrize("mode", [MODES[name] for name in ("crc16", "crc32", "crc32c", "crc64")], ids=lambda m: m.name)
def test_every_length_to_256_agrees_with_the_division_bit_by_bit(mode):
    for length in range(257):
        payload = NOISE[length : 2 * length]
        assert mode.checksum().calculate(payload) == reference.ALGORITHMS[mode.name].calculate(payload), length


@in_one_test
@pytest.mark.parametrize(
    "length", [257, 511, 512, 513, 1023, 1024, 1025, 4095, 4097, 65535, 65536, 65537, 300_007, (1 << 20) - 1, 1 << 20]
)
@every_builtin
def test_long_payload_agrees_with_the_oracle(cls, length):
    for shift in (0, 1, 7, 63):
        payload = NOISE[shift : shift + length]
        assert cls().calculate(memoryview(NOISE)[shift : shift + length]) == ORACLES[cls](payload)


@in_one_test
@pytest.mark.parametrize("byte", [0x00, 0xFF], ids=["zeros", "ones"])
@every_builtin
def test_payload_of_equal_bytes_agrees_with_the_oracle(cls, byte):
    # What a register that starts wrong, or is not inverted at the end, is noticed by first.
    for length in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 128, 240, 241, 256, 512, 1024, 100_000):
        payload = bytes([byte]) * length
        assert cls().calculate(payload) == ORACLES[cls](payload), length


@every_builtin
@given(payload=st.binary(max_size=2000))
def test_random_payload_agrees_with_the_oracle(cls, payload):
    assert cls().calculate(payload) == ORACLES[cls](payload)


@in_one_test
@every_mode
def test_value_is_stored_little_endian_in_exactly_its_size(mode):
    payload = b"123456789"
    stored = frame_of(payload, mode.checksum())[4:-9]
    assert (
        stored
        == {
            "none": b"",
            "crc16": b"\xc3\x31",
            "crc32": b"\x26\x39\xf4\xcb",
            "crc32c": b"\x83\x92\x06\xe3",
            "crc64": b"\xfa\x39\x19\xdf\xbb\xc9\x5d\x99",
            "xxhash64": b"\xff\x7d\xa1\x67\x8b\xb1\xdc\x72",
            # 1 * 0x31 + 2 * 0x32 + ... + 9 * 0x39 = 2445
            "sum24": b"\x8d\x09\x00",
        }[mode.name]
    )


# Size, name, representation


@in_one_test
@pytest.mark.parametrize(
    ("cls", "size", "name"),
    [
        (NoChecksum, 0, "NoChecksum"),
        (Crc16, 2, "Crc16"),
        (Crc32, 4, "Crc32"),
        (Crc32c, 4, "Crc32c"),
        (Crc64, 8, "Crc64"),
        (XxHash64, 8, "XxHash64"),
        (Sum24, 3, "Sum24"),
    ],
)
def test_size_and_name_are_what_they_say(cls, size, name):
    assert (cls().size, cls.size, cls().name, repr(cls())) == (size, size, name, f"{name}()")


def test_name_given_by_a_subclass_is_its_name():
    class Renamed(Sum24):
        name = "weighted sum"

    assert Renamed().name == "weighted sum"


# Buffers


BYTES = bytes(NOISE[:96])


def _mmap() -> mmap.mmap:
    mapping = mmap.mmap(-1, len(BYTES))
    mapping[:] = BYTES
    return mapping


STRUCTURED = np.dtype([("time", "<f8"), ("kind", "u1"), ("value", "<i4"), ("tag", "S3")])

BUFFERS: dict[str, Any] = {
    "bytes": lambda: BYTES,
    "bytearray": lambda: bytearray(BYTES),
    "memoryview": lambda: memoryview(BYTES),
    "memoryview_slice": lambda: memoryview(b"x" + BYTES + b"y")[1:-1],
    "memoryview_of_ints": lambda: memoryview(BYTES).cast("I"),
    "memoryview_2d": lambda: memoryview(BYTES).cast("B", (8, 12)),
    "mmap": _mmap,
    "array_of_bytes": lambda: array.array("B", BYTES),
    "array_of_shorts": lambda: array.array("h", BYTES),
    "array_of_doubles": lambda: array.array("d", BYTES),
    "ctypes": lambda: (ctypes.c_int * 24).from_buffer_copy(BYTES),
    "bytesio_buffer": lambda: io.BytesIO(BYTES).getbuffer(),
    "numpy_uint8": lambda: np.frombuffer(BYTES, np.uint8),
    "numpy_int64": lambda: np.frombuffer(BYTES, np.int64),
    "numpy_big_endian": lambda: np.frombuffer(BYTES, ">u4"),
    "numpy_float16": lambda: np.frombuffer(BYTES, np.float16),
    "numpy_float32": lambda: np.frombuffer(BYTES, np.float32),
    "numpy_complex": lambda: np.frombuffer(BYTES, np.complex128),
    "numpy_text": lambda: np.frombuffer(BYTES, "S12"),
    "numpy_structured": lambda: np.frombuffer(BYTES, STRUCTURED),
    "numpy_2d": lambda: np.frombuffer(BYTES, np.float32).reshape(4, 6),
    "numpy_fortran_but_one_row": lambda: np.asfortranarray(np.frombuffer(BYTES, np.uint8).reshape(1, 96)),
    "numpy_writable": lambda: np.frombuffer(BYTES, np.uint8).copy(),
}

every_buffer = pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in BUFFERS.items()])


@in_one_test
@every_buffer
@every_builtin
def test_every_kind_of_buffer_has_the_checksum_of_its_bytes(cls, make):
    data = make()
    assert cls().calculate(data) == ORACLES[cls](BYTES)
    cls().verify(ORACLES[cls](BYTES), data)


@in_one_test
@every_buffer
@every_mode
def test_every_kind_of_buffer_is_framed_as_its_bytes(mode, make):
    expected = reference.encode([BYTES], mode.name)
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer()) as writer:
        writer.write_payload(make())
        writer.write_payloads([make()])
    assert sink.getvalue() == 2 * expected
    alone = io.BytesIO()
    mode.framer().frame_and_write(alone, make())
    assert alone.getvalue() == expected


@in_one_test
@pytest.mark.parametrize(
    "empty",
    [b"", bytearray(), memoryview(b""), array.array("d"), np.empty(0, np.float64), np.empty((3, 0), STRUCTURED)],
    ids=["bytes", "bytearray", "memoryview", "array", "numpy", "numpy_2d_structured"],
)
@every_builtin
def test_empty_buffer_has_the_checksum_of_nothing(cls, empty):
    assert cls().calculate(empty) == ORACLES[cls](b"")


@in_one_test
@every_builtin
def test_buffer_is_released_after_calculation_and_after_mismatch(cls):
    data = bytearray(b"123456789")
    cls().calculate(data)
    data.append(0x30)
    if cls.size:
        assert mismatch(cls(), 1, data)[1] == ORACLES[cls](b"1234567890")
        data.append(0x31)
    # Neither append() found the bytes in use.
    assert data.startswith(b"1234567890")


@in_one_test
@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        (None, TypeError, "bytes-like object, got NoneType"),
        ("text", TypeError, "bytes-like object, got str: encode it first"),
        (7, TypeError, "bytes-like object, got int"),
        ([1, 2], TypeError, "bytes-like object, got list"),
        (memoryview(b"abcdef")[::2], BufferError, "C-contiguous, got a strided memoryview"),
        (np.arange(10)[::2], BufferError, "C-contiguous, got a strided ndarray"),
        (np.asfortranarray(np.ones((3, 4))), BufferError, "C-contiguous, got a strided ndarray"),
    ],
    ids=["none", "str", "int", "list", "strided_memoryview", "strided_numpy", "fortran_numpy"],
)
@every_builtin
def test_what_is_no_contiguous_buffer_is_refused(cls, payload, error, message):
    with pytest.raises(error, match=message):
        cls().calculate(payload)
    with pytest.raises(error, match=message):
        cls().verify(0, payload)


@in_one_test
@every_builtin
def test_released_memoryview_and_closed_mmap_are_refused(cls):
    view = memoryview(b"abc")
    view.release()
    mapping = _mmap()
    mapping.close()
    for payload in (view, mapping):
        with pytest.raises(ValueError, match=r"released|closed"):
            cls().calculate(payload)


# verify()


@in_one_test
@every_mode
def test_verify_of_the_right_value_returns_none(mode):
    checksum = mode.checksum()
    assert checksum.verify(checksum.calculate(b"123456789"), b"123456789") is None


@in_one_test
@every_mode
def test_verify_compares_modulo_the_width(mode):
    value = reference.ALGORITHMS[mode.name].calculate(b"123456789")
    width = 1 << 8 * mode.size
    for multiple in (-2, -1, 1, 2, 1 << 64):
        assert mode.checksum().verify(value + multiple * width, b"123456789") is None


@in_one_test
@pytest.mark.parametrize("mode", [mode for mode in MODES.values() if mode.size], ids=lambda mode: mode.name)
def test_verify_of_a_wrong_value_says_both_reduced_to_the_width(mode):
    value = reference.ALGORITHMS[mode.name].stored(b"123456789")
    width = 1 << 8 * mode.size
    for bit in range(8 * mode.size):
        wrong = value ^ 1 << bit
        assert mismatch(mode.checksum(), wrong, b"123456789") == (wrong, value)
        assert mismatch(mode.checksum(), wrong + width, b"123456789") == (wrong, value)


def test_verify_without_a_checksum_accepts_everything():
    NoChecksum().verify(12345, b"anything")


@in_one_test
@pytest.mark.parametrize("expected", [None, "1", 1.0, b"\x01"])
@every_mode
def test_verify_of_what_is_no_int_raises_type_error(mode, expected):
    with pytest.raises(TypeError, match="expected must be an int"):
        mode.checksum().verify(expected, b"abc")


def test_mismatch_outside_a_stream_knows_no_place():
    with pytest.raises(ChecksumMismatchError) as caught:
        Crc32().verify(1, b"123456789")
    assert (caught.value.offset, caught.value.frame) == (None, None)
    assert str(caught.value) == "checksum mismatch: the frame stores 0x1, its payload gives 0xcbf43926"


# Checksums written in Python


def constant(value: Any, width: Any) -> Any:
    class Constant(Checksum):
        size = width

        def calculate(self, payload):
            return value

    return Constant()


@in_one_test
@pytest.mark.parametrize("size", range(9))
@pytest.mark.parametrize("value", [0, 1, 0x1122334455667788, 0xFFEEDDCCBBAA9988776655, -1, -(2**70) - 3])
def test_custom_checksum_of_any_size_is_stored_modulo_its_width(size, value):
    checksum = constant(value, size)
    stored = (value % 2 ** (8 * size)).to_bytes(size, "little")
    assert frame_of(b"abc", checksum) == b"\x03\0\0\0" + stored + b"abc"
    with StreamReader(b"\x03\0\0\0" + stored + b"abc", ChecksumDeframer(checksum)) as reader:
        assert [bytes(payload) for payload in reader] == [b"abc"]


@in_one_test
@pytest.mark.parametrize("size", range(1, 9))
def test_custom_checksum_that_does_not_match_is_told_at_every_size(size):
    stored = (0x1122334455667788 % 2 ** (8 * size)).to_bytes(size, "little")
    with StreamReader(b"\x03\0\0\0" + stored + b"abc", ChecksumDeframer(constant(-1, size))) as reader:
        with pytest.raises(ChecksumMismatchError) as caught:
            reader.read_message()
        assert caught.value.expected == int.from_bytes(stored, "little")
        assert caught.value.calculated == 2 ** (8 * size) - 1
        assert (caught.value.offset, caught.value.frame) == (0, 0)


@in_one_test
@pytest.mark.parametrize("make", [ChecksumFramer, ChecksumDeframer])
@pytest.mark.parametrize("size", [-1, 9, 100, 2**70])
def test_custom_checksum_of_an_impossible_size_is_refused(make, size):
    with pytest.raises(ValueError, match=r"Constant.size must be from 0 to 8 bytes"):
        make(constant(0, size))


@in_one_test
@pytest.mark.parametrize("make", [ChecksumFramer, ChecksumDeframer])
@pytest.mark.parametrize("size", [None, "4", 4.0, True])
def test_custom_checksum_whose_size_is_no_int_is_refused(make, size):
    with pytest.raises(TypeError, match=r"Constant.size must be an int from 0 to 8"):
        make(constant(0, size))


@in_one_test
@pytest.mark.parametrize("make", [ChecksumFramer, ChecksumDeframer])
@pytest.mark.parametrize("value", [None, Crc32, "crc32", ChecksumType.CRC32, zlib.crc32])
def test_what_is_no_checksum_is_refused(make, value):
    with pytest.raises(TypeError, match="checksum must be an instance of Checksum"):
        make(value)


@in_one_test
@pytest.mark.parametrize("value", [None, "7", 7.0, b"\x07"])
def test_custom_checksum_that_returns_no_int_raises_type_error(value):
    checksum = constant(value, 2)
    with pytest.raises(TypeError, match=r"Constant.calculate must return an int"):
        frame_of(b"abc", checksum)
    with pytest.raises(TypeError, match=r"Constant.calculate must return an int"):
        checksum.verify(0, b"abc")
    with (
        StreamReader(b"\x03\0\0\0\0\0abc", ChecksumDeframer(checksum)) as reader,
        pytest.raises(TypeError, match=r"Constant.calculate must return an int"),
    ):
        reader.read_message()


def test_checksum_without_calculate_raises_type_error():
    class Unfinished(Checksum):
        size = 2

    unfinished: list[Any] = [Unfinished(), Checksum()]
    for checksum in unfinished:
        with pytest.raises(TypeError, match="must define calculate"):
            checksum.calculate(b"abc")
    with pytest.raises(TypeError, match="Unfinished must define calculate"):
        frame_of(b"abc", Unfinished())


def test_custom_checksum_is_given_a_read_only_memoryview_of_the_payload():
    seen = []

    class Curious(Sum24):
        def calculate(self, payload):
            seen.append((type(payload), payload.format, payload.readonly, bytes(payload)))
            return super().calculate(payload)

    stream = frame_of(b"abc", Curious())
    with StreamReader(stream, ChecksumDeframer(Curious())) as reader:
        reader.read_message()
    assert seen == [(memoryview, "B", True, b"abc")] * 2


class NarrowCrc32(Crc32):
    """A built-in checksum of which only two bytes are stored: a subclass may change the size alone."""

    size = 2


class NarrowedCrc32(Crc32):
    """The same, said by the instance."""

    size: int

    def __init__(self) -> None:
        self.size = 2


class InvertedCrc32(Crc32):
    """A built-in checksum whose value is changed in Python."""

    def calculate(self, payload: Any) -> int:
        return super().calculate(payload) ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("cls", "stored"),
    [(NarrowCrc32, b"\x26\x39"), (NarrowedCrc32, b"\x26\x39"), (InvertedCrc32, b"\xd9\xc6\x0b\x34")],
)
def test_subclass_of_a_builtin_checksum_changes_what_it_overrides(cls, stored):
    # CRC-32 of the digits is CBF43926, inverted 340BC6D9.
    stream = b"\x09\0\0\0" + stored + b"123456789"
    assert frame_of(b"123456789", cls()) == stream
    with StreamReader(stream, ChecksumDeframer(cls())) as reader:
        assert [bytes(payload) for payload in reader] == [b"123456789"]
    with StreamReader(stream[:-1] + b"8", ChecksumDeframer(cls())) as reader, pytest.raises(ChecksumMismatchError):
        reader.read_message()


def test_overridden_verify_decides_alone():
    class Forgiving(Crc32):
        def verify(self, expected, payload):
            if expected == 0xDEAD:
                raise ChecksumMismatchError(expected=expected, calculated=1)

    def stream(value: int) -> bytes:
        return b"\x03\0\0\0" + value.to_bytes(4, "little") + b"abc"

    with StreamReader(stream(5) + stream(0xDEAD) + stream(6), ChecksumDeframer(Forgiving())) as reader:
        assert reader.read_message() is not None
        with pytest.raises(ChecksumMismatchError) as caught:
            reader.read_message()
        assert (caught.value.expected, caught.value.offset, caught.value.frame) == (0xDEAD, 11, 1)
        assert [bytes(payload) for payload in reader] == [b"abc"]


def test_overridden_verify_that_returns_something_raises_type_error():
    class Boolean(Crc32):
        def verify(self, expected, payload):
            return False

    with (
        StreamReader(b"\x03\0\0\0\0\0\0\0abc", ChecksumDeframer(Boolean())) as reader,
        pytest.raises(TypeError, match=r"Boolean.verify must return None"),
    ):
        reader.read_message()


# The ways to compute them. Which one is taken is decided when the package is imported, so each is tried in a process of
# its own; the environment variables FLATSTREAM_CRC and FLATSTREAM_XXH3 ask for one.


SCRIPT = """
import io, json, sys
import flatstream
from flatstream._core.checksums.checksum import UncheckedChecksum
from flatstream._core.checksums import crc, xxh3

noise = bytes((7 * i * i + i // 3) % 256 for i in range(70_000))
plan = json.load(sys.stdin)
mode = flatstream.ChecksumType(plan["checksum"])
checksum = mode.checksum()
view = memoryview(noise)
sink = io.BytesIO()
with flatstream.StreamWriter(sink, mode) as writer:
    for length in plan["stream"]:
        writer.write_payload(view[:length])
stream = sink.getvalue()
damaged = bytearray(stream)
damaged[plan["flip"]] ^= 1
errors, lengths = [], []
with flatstream.StreamReader(damaged, mode) as reader:
    while True:
        try:
            payload = reader.read_message()
        except flatstream.ChecksumMismatchError as error:
            errors.append([error.expected, error.calculated, error.offset, error.frame])
            continue
        if payload is None:
            break
        lengths.append(len(payload))
json.dump({
    "way": {"crc": crc.PATH, "xxh3": xxh3.KERNEL_NAME},
    "values": [checksum.calculate(view[shift : shift + length]) for shift, length in plan["values"]],
    "stream": stream.hex(),
    "errors": errors,
    "lengths": lengths,
}, sys.stdout)
"""


def check_way(mode: Mode, settings: dict[str, str]) -> dict[str, str]:
    """Holds one checksum to its oracle in a process with `settings`; returns which ways it says that it went."""
    cls = type(mode.checksum())
    # Blocks of up to 256 bytes are taken at once: every length to well beyond a few of them.
    spans = [(shift, length) for length in range(257) for shift in range(8)]
    spans += [(length % 64, length) for length in range(257, 1300)]
    spans += [(3, length) for length in (4095, 4096, 4097, 65535, 65536, 65537)]
    lengths = [*range(0, 600, 7), 5000]
    # The first payload is empty; this is the second one's first byte.
    flip = 2 * (4 + mode.size)
    result = import_with(settings, SCRIPT, {"checksum": mode.name, "values": spans, "stream": lengths, "flip": flip})
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)

    noise = bytes((7 * i * i + i // 3) % 256 for i in range(70_000))
    assert found["values"] == [ORACLES[cls](noise[shift : shift + length]) for shift, length in spans]
    stream = reference.encode([noise[:length] for length in lengths], mode.name)
    assert found["stream"] == stream.hex()
    damaged = reference.decode(stream[:flip] + bytes([stream[flip] ^ 1]) + stream[flip + 1 :], mode.name)
    assert found["lengths"] == [len(payload) for payload in damaged.payloads]
    assert found["errors"] == [
        [outcome.expected, outcome.calculated, outcome.offset, outcome.frame]
        for outcome in damaged.outcomes
        if isinstance(outcome, reference.Mismatch)
    ]
    assert [frame for _, _, _, frame in found["errors"]] == [1]
    way: dict[str, str] = found["way"]
    return way


@pytest.mark.parametrize("setting", ["python", ""])
def test_xxh3_of_the_extension_and_of_the_public_function_give_the_same_values_and_streams(setting):
    way = check_way(MODES["xxhash64"], {"FLATSTREAM_XXH3": setting})
    if setting == "python":
        # Else this test would show the same thing twice.
        assert way["xxh3"] == ""


@in_one_test
@pytest.mark.parametrize("name", ["crc16", "crc32", "crc32c", "crc64"])
@pytest.mark.parametrize("path", ["portable", "sse42", "pclmul", "vpclmul"])
def test_every_path_of_the_crcs_gives_the_same_values_and_streams_or_says_that_it_cannot_be_had(path, name):
    settings = {"FLATSTREAM_CRC": path}
    if path in crc.available_paths():
        assert check_way(MODES[name], settings)["crc"] == path
    else:
        result = import_with(settings, "import flatstream")
        assert result.returncode != 0
        assert f"ImportError: FLATSTREAM_CRC requests {path!r}" in result.stderr


def test_unknown_path_of_the_crcs_fails_the_import():
    result = import_with({"FLATSTREAM_CRC": "abacus"}, "import flatstream")
    assert result.returncode != 0
    assert "ImportError: FLATSTREAM_CRC requests 'abacus'" in result.stderr
    assert "portable" in crc.available_paths()


# ChecksumType


TYPED_MODES = [mode for mode in MODES.values() if mode.checksum_type is not None]
every_type = pytest.mark.parametrize("mode", TYPED_MODES, ids=lambda mode: mode.name)

PAYLOADS = [b"", b"abc", bytes(range(100))]


def test_checksum_types_are_the_six_builtin_checksums():
    assert {member.name: (member.value, type(member.checksum())) for member in ChecksumType} == {
        "NONE": ("none", NoChecksum),
        "CRC16": ("crc16", Crc16),
        "CRC32": ("crc32", Crc32),
        "CRC32C": ("crc32c", Crc32c),
        "CRC64": ("crc64", Crc64),
        "XXHASH64": ("xxhash64", XxHash64),
    }


@in_one_test
@every_type
def test_checksum_type_is_accepted_by_writer_and_reader(mode):
    sink = io.BytesIO()
    with StreamWriter(sink, mode.checksum_type) as writer:
        writer.write_payloads(PAYLOADS)
    assert sink.getvalue() == reference.encode(PAYLOADS, mode.name)
    with StreamReader(sink.getvalue(), mode.checksum_type) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS


@in_one_test
@every_type
def test_checksum_type_is_accepted_by_recovery(mode, tmp_path):
    stream = reference.encode(PAYLOADS, mode.name)
    report = RecoveryReport(2, len(stream) - 104 - mode.size, RecoveryEnd.TORN_TAIL)
    path = tmp_path / "torn.fs"
    path.write_bytes(stream[:-1])
    assert flatstream.recover(stream[:-1], mode.checksum_type) == report
    assert flatstream.recover_file(path, mode.checksum_type) == report


@in_one_test
@pytest.mark.parametrize("as_what", ["checksum", "framer"])
@every_type
def test_checksum_type_is_accepted_by_open(mode, as_what, tmp_path):
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", **{as_what: mode.checksum_type}) as writer:
        writer.write_payloads(PAYLOADS[:1])
    with flatstream.open(path, "a", allow_empty=True, **{as_what: mode.checksum_type}) as writer:
        writer.write_payloads(PAYLOADS[1:])
    assert path.read_bytes() == reference.encode(PAYLOADS, mode.name)
    other = {"checksum": "checksum", "framer": "deframer"}[as_what]
    with flatstream.open(path, **{other: mode.checksum_type}) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS


@in_one_test
@every_type
def test_name_of_a_checksum_is_accepted_by_open(mode, tmp_path):
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", checksum=mode.name) as writer:
        writer.write_payloads(PAYLOADS)
    assert path.read_bytes() == reference.encode(PAYLOADS, mode.name)
    with flatstream.open(path, checksum=mode.name) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS


@in_one_test
@every_type
def test_checksum_type_stands_for_the_builtin_framer_and_deframer(mode):
    framer, deframer = as_framer(mode.checksum_type), as_deframer(mode.checksum_type)
    if mode.name == "none":
        assert (type(framer), type(deframer)) == (DefaultFramer, DefaultDeframer)
    else:
        assert isinstance(framer, ChecksumFramer)
        assert isinstance(deframer, ChecksumDeframer)
        assert type(framer.checksum) is type(deframer.checksum) is type(mode.checksum())


def test_none_stands_for_no_checksum():
    assert type(as_checksum(None)) is NoChecksum
    assert type(as_framer(None)) is DefaultFramer
    assert type(as_deframer(None)) is DefaultDeframer


def test_checksum_framer_and_deframer_stand_for_themselves():
    for value in (Sum24(), Crc32()):
        assert as_checksum(value) is value
    framer, deframer = ChecksumFramer(Crc32()), ChecksumDeframer(Crc32())
    assert as_framer(framer) is framer
    assert as_deframer(deframer) is deframer


@in_one_test
@every_type
def test_name_and_type_stand_for_the_checksum(mode: Mode):
    assert mode.checksum_type is not None
    assert type(as_checksum(mode.name)) is type(as_checksum(mode.checksum_type)) is type(mode.checksum())


@in_one_test
@pytest.mark.parametrize("name", ["", "crc", "CRC32", "crc-32", "xxh3_64", "none "])
def test_unknown_name_raises_value_error_that_lists_the_names(name, tmp_path):
    match = r"unknown checksum .*'none', 'crc16', 'crc32', 'crc32c', 'crc64', 'xxhash64'"
    with pytest.raises(ValueError, match=match):
        as_checksum(name)
    path: Path = tmp_path / "never.fs"
    with pytest.raises(ValueError, match=match):
        flatstream.open(path, "w", checksum=name)
    assert not path.exists()


@in_one_test
@pytest.mark.parametrize("value", [0, 4, b"crc32", Crc32, ChecksumType, zlib.crc32, DefaultFramer(), DefaultDeframer()])
def test_what_stands_for_no_checksum_raises_type_error(value):
    with pytest.raises(TypeError, match="expected a Checksum, a ChecksumType, its name or None"):
        as_checksum(value)


@in_one_test
@pytest.mark.parametrize("value", [0, b"crc32", Crc32, DefaultFramer, DefaultDeframer()])
def test_what_stands_for_no_framer_raises_type_error(value):
    match = "framer must be an instance of Framer or Checksum, a ChecksumType, its name or None"
    with pytest.raises(TypeError, match=match):
        StreamWriter(io.BytesIO(), value)


@in_one_test
@pytest.mark.parametrize("value", [0, b"crc32", Crc32, DefaultDeframer, DefaultFramer()])
def test_what_stands_for_no_deframer_raises_type_error(value):
    match = "deframer must be an instance of Deframer or Checksum, a ChecksumType, its name or None"
    for use in (StreamReader, flatstream.recover):
        with pytest.raises(TypeError, match=match):
            use(b"", value)


@pytest.mark.parametrize("value", ["crc32", ChecksumType.CRC32, Crc32()], ids=["name", "type", "instance"])
def test_checksum_stands_for_its_framer_and_deframer_in_every_form(value, tmp_path):
    sink = io.BytesIO()
    with StreamWriter(sink, value) as writer:
        writer.write_payload(b"abc")
    assert sink.getvalue() == bytes.fromhex("03000000 c2412435 616263")
    with StreamReader(sink.getvalue(), value) as reader:
        assert bytes(next(reader)) == b"abc"
    path = tmp_path / "stream"
    path.write_bytes(sink.getvalue())
    for report in (flatstream.recover(sink.getvalue(), value), flatstream.recover_file(path, value)):
        assert report == (1, 11, flatstream.RecoveryEnd.CLEAN_EOF)


def test_unknown_name_of_a_checksum_is_refused_wherever_a_name_is_taken():
    for use in (lambda: StreamWriter(io.BytesIO(), "CRC32"), lambda: StreamReader(b"", "CRC32")):
        with pytest.raises(ValueError, match="unknown checksum 'CRC32': expected one of 'none', 'crc16'"):
            use()


# Headers only


@in_one_test
@pytest.mark.parametrize("kind", ChecksumType, ids=lambda kind: kind.value)
def test_deframer_that_compares_nothing_finds_the_same_frames(kind: ChecksumType) -> None:
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, kind) as writer:
        writer.write_payloads([b"abc", b"", b"x" * 300] * 100)
    stream = bytearray(sink.getvalue())
    size = kind.checksum().size
    # A payload that does not match its checksum.
    stream[4 + size] ^= 0xFF
    unchecked = UncheckedChecksum(size)
    with flatstream.StreamReader(stream, ChecksumDeframer(unchecked)) as reader:
        assert sum(len(batch) for batch in reader.batches()) == 300
    with flatstream.StreamReader(stream, ChecksumDeframer(unchecked)) as reader:
        assert [len(payload) for payload in reader] == [3, 0, 300] * 100
    with pytest.raises(TypeError, match="it calculates nothing"):
        unchecked.calculate(b"")
    assert pickle.loads(pickle.dumps(unchecked)).size == size


def test_unchecked_checksum_has_a_size_that_a_frame_can_have() -> None:
    for wrong in (-1, 9):
        with pytest.raises(ValueError, match="from 0 to 8 bytes"):
            UncheckedChecksum(wrong)
