"""Compressors: what they make is what the libraries alone read, and nothing else is taken back."""

from __future__ import annotations

import contextlib
import copy
import importlib
import pickle
import sys
import threading
import types
from typing import Any

import lz4.block
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from flatstream import DecompressionError
from flatstream.transforms import _zstd
from flatstream.transforms.compressors import (
    Compressor,
    Lz4Compressor,
    ZstdCompressor,
    check_compressor,
    train_dictionary,
)
from reference import compression as reference
from support.compression import (
    UNPACKERS,
    block,
    dictionary,
    event,
    events,
    every_unpacker,  # noqa: F401 - a fixture
    frame_header,
    repeated,
    unpack_zstd,
)
from support.extent import in_one_test, spread

SIZES = [0, 1, 2, 9, 10, 100, 255, 256, 257, 1000, 65_536, 131_073]

COMPRESSORS: dict[str, Any] = {
    "zstd": lambda: ZstdCompressor(),
    "zstd -7": lambda: ZstdCompressor(-7),
    "zstd 19": lambda: ZstdCompressor(19),
    "zstd dictionary": lambda: ZstdCompressor(3, dictionary()),
    "lz4": lambda: Lz4Compressor(),
    "lz4 12": lambda: Lz4Compressor(12),
}

# For arguments that type checkers refuse.
any_zstd: Any = ZstdCompressor
any_lz4: Any = Lz4Compressor
any_compressor: Any = Compressor

every_compressor = pytest.mark.parametrize("name", list(COMPRESSORS))


def payloads_of(size: int) -> list[bytes]:
    """One that compresses well, and one that does not."""
    pattern = b"".join(events(50))
    return [(pattern * (size // len(pattern) + 1))[:size], bytes((7 * i * i + i // 3) % 251 for i in range(size))]


# What is compressed


@pytest.mark.usefixtures("every_unpacker")
@in_one_test
@every_compressor
def test_payload_of_any_size_comes_back(name: str) -> None:
    compressor = COMPRESSORS[name]()
    for size in SIZES:
        for payload in payloads_of(size):
            data = compressor.compress(memoryview(payload))
            assert compressor.decompress(memoryview(data), size) == payload


@in_one_test
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=["bytes", "bytearray", "memoryview"])
@every_compressor
def test_payload_and_data_may_be_any_bytes(name: str, wrap: Any) -> None:
    compressor = COMPRESSORS[name]()
    data = compressor.compress(wrap(event(1)))
    assert compressor.decompress(wrap(data), 1000) == event(1)


@in_one_test
@pytest.mark.parametrize("trained", [b"", "trained"], ids=["plain", "dictionary"])
def test_frame_of_zstd_is_one_that_the_library_reads_and_declares_its_size(trained: Any) -> None:
    made = dictionary() if trained else b""
    compressor = ZstdCompressor(3, made or None)
    for size in SIZES:
        for payload in payloads_of(size):
            frame = compressor.compress(payload)
            assert unpack_zstd(frame, made) == payload
            assert reference.zstd_header(frame) == (size, compressor.dictionary_id)
            assert zstd.get_frame_info(frame).decompressed_size == size


def test_block_of_lz4_is_one_that_the_library_reads_behind_its_size() -> None:
    for level in (0, 1, 9, 12):
        for size in (0, 1, 100, 5000):
            for payload in payloads_of(size):
                data = bytes(Lz4Compressor(level).compress(payload))
                assert lz4.block.decompress(data) == payload
                assert int.from_bytes(data[:4], "little") == size
                assert reference.restore_lz4(data, size) == payload


def test_one_context_gives_the_same_frames_as_a_new_one_for_each() -> None:
    for trained in (None, dictionary()):
        compressor = ZstdCompressor(5, trained)
        library_dictionary = None if trained is None else zstd.ZstdDict(trained)
        for payload in events(50):
            assert compressor.compress(payload) == zstd.compress(payload, 5, zstd_dict=library_dictionary)
        assert len(compressor._free) == 1


def test_context_after_refused_frame_reads_the_next(every_unpacker: str) -> None:  # noqa: F811
    compressor = ZstdCompressor(3, dictionary())
    good = compressor.compress(event(1))
    for at in range(9, len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 0x55
        with contextlib.suppress(DecompressionError):
            compressor.decompress(bytes(damaged), 1000)
        assert compressor.decompress(good, 1000) == event(1)


# Limits


@pytest.mark.usefixtures("every_unpacker")
@in_one_test
@every_compressor
def test_limit_is_the_largest_size_that_is_taken(name: str) -> None:
    compressor = COMPRESSORS[name]()
    payload = b"".join(events(50))
    data = compressor.compress(payload)
    assert compressor.decompress(data, len(payload)) == payload
    for limit in (len(payload) - 1, 1, 0):
        with pytest.raises(DecompressionError, match=f"more than the limit of {limit:,}"):
            compressor.decompress(data, limit)


# By name: a frame that is refused, and the reason.
TWO = ZstdCompressor().compress(b"a" * 100)
HOSTILE = {
    "nothing": (b"", "0 bytes that begin with nothing are no frame"),
    "three bytes": (b"\x28\xb5\x2f", "are no frame"),
    "magic alone": (_zstd.MAGIC, "the header of the frame is damaged"),
    "half a header": (frame_header(size=1000)[:-1], "the header of the frame is damaged"),
    "no block": (frame_header(size=1000), "damaged|hold less|ends after"),
    "a reserved bit": (_zstd.MAGIC + b"\x28\x01" + block(b"x"), "the header of the frame is damaged|damaged"),
    "skippable": (b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc", "are no frame"),
    "skippable before a frame": (b"\x5f\x2a\x4d\x18\x00\x00\x00\x00" + TWO, "are no frame"),
    "skippable behind a frame": (TWO + b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc", "follow the frame|not alone"),
    "two frames": (TWO + TWO, "follow the frame|not alone"),
    "an empty frame behind a frame": (TWO + ZstdCompressor().compress(b""), "follow the frame|not alone"),
    "a byte behind a frame": (TWO + b"\0", "follow the frame|not alone"),
    "no content, and no block": (frame_header(size=0, size_bytes=1), "damaged|ends after"),
    "no content, and a block": (frame_header(size=0, size_bytes=1) + block(b"abc"), "damaged"),
    "no content, and a byte": (frame_header(size=0, size_bytes=1) + block(b"") + b"\0", "follow the frame|not alone"),
    "no size": (frame_header(size=None, window=0) + block(b"abc"), "does not declare the size"),
    "no size, and a bomb": (
        frame_header(size=None, window=0x50) + repeated(b"\0", 1 << 17, last=False) * 1000 + block(b""),
        "does not declare the size",
    ),
    "size too small": (frame_header(size=99, size_bytes=1) + repeated(b"a", 100), "damaged"),
    "size too small by much": (
        frame_header(size=300) + repeated(b"a", 131_072, last=False) * 100 + block(b""),
        "damaged",
    ),
    "size too large": (frame_header(size=101, size_bytes=1) + repeated(b"a", 100), "damaged"),
    "size that its bytes cannot hold": (frame_header(size=1 << 20) + repeated(b"a", 1 << 17), "hold less"),
    "size of 2**64 - 1": (frame_header(size=2**64 - 1, size_bytes=8) + block(b"abc"), "does not declare|more than"),
    "size of 2**64 - 2": (frame_header(size=2**64 - 2, size_bytes=8) + block(b"abc"), "more than|damaged"),
    "size of 2**63": (frame_header(size=2**63, size_bytes=8) + block(b"abc"), "more than"),
    "size over the limit": (frame_header(size=(64 << 20) + 1) + block(b"abc"), "more than the limit of 67,108,864"),
    "a dictionary": (frame_header(size=3, size_bytes=1, dictionary_id=77) + block(b"abc"), "number 77, and none"),
    "a window of 2 TiB": (frame_header(size=300, window=0xF8) + repeated(b"a", 300), "damaged"),
    "a block of the reserved type": (frame_header(size=3, size_bytes=1) + b"\x1f\0\0abc", "damaged"),
    "a block that is cut off": (frame_header(size=3, size_bytes=1) + block(b"abc")[:-1], "damaged|ends after"),
    "no last block": (frame_header(size=3, size_bytes=1) + block(b"abc", last=False), "damaged|ends after"),
    "magicless": (TWO[4:], "are no frame"),
    "magic of an early version": (b"\x27\xb5\x2f\xfd" + TWO[4:], "are no frame"),
}


@pytest.mark.usefixtures("every_unpacker")
@in_one_test
@pytest.mark.parametrize("name", list(HOSTILE))
def test_frame_of_zstd_that_is_not_one_whole_frame_with_its_size_is_refused(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(DecompressionError, match=reason) as caught:
        ZstdCompressor().decompress(data, 64 << 20)
    assert caught.value.validator == "zstd"


@pytest.mark.usefixtures("every_unpacker")
def test_frame_of_several_blocks_and_one_with_a_window_are_taken() -> None:
    compressor = ZstdCompressor()
    data = frame_header(size=262_144) + repeated(b"a", 131_072, last=False) + repeated(b"b", 131_072)
    assert compressor.decompress(data, 262_144) == b"a" * 131_072 + b"b" * 131_072
    # A window of 128 MiB, which the library allows: the declared size is what it takes.
    data = frame_header(size=300, window=0x88) + repeated(b"a", 300)
    assert compressor.decompress(data, 300) == b"a" * 300
    # A frame may say the size in more bytes than it takes, and be empty.
    assert compressor.decompress(frame_header(size=3, size_bytes=8) + block(b"abc"), 3) == b"abc"
    assert compressor.decompress(frame_header(size=0, size_bytes=1) + block(b""), 0) == b""


@pytest.mark.usefixtures("every_unpacker")
def test_frame_of_a_library_with_a_checksum_of_its_own_is_checked() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
    frame = zstd.compress(event(1), options=options)
    assert ZstdCompressor().decompress(frame, 1000) == event(1)
    with pytest.raises(DecompressionError, match="damaged"):
        ZstdCompressor().decompress(frame[:-1] + bytes([frame[-1] ^ 1]), 1000)


LZ4_OF_300 = bytes(Lz4Compressor().compress(b"a" * 300))
HOSTILE_LZ4 = {
    "nothing": (b"", "0 bytes are no size and no block"),
    "half a size": (b"\1\0", "2 bytes are no size"),
    "size alone": (b"\1\0\0\0", "4 bytes are no size and no block"),
    "size over the limit": ((1001).to_bytes(4, "little") + LZ4_OF_300[4:], "more than the limit of 1,000"),
    "size of 2**32 - 1": (b"\xff" * 4 + LZ4_OF_300[4:], "more than the limit"),
    "size of 2**31": ((2**31).to_bytes(4, "little") + LZ4_OF_300[4:], "more than the limit"),
    "size that its bytes cannot hold": ((1000).to_bytes(4, "little") + b"\0\0\0", "hold less"),
    "size too large": ((301).to_bytes(4, "little") + LZ4_OF_300[4:], "damaged"),
    "size too small": ((299).to_bytes(4, "little") + LZ4_OF_300[4:], "damaged"),
    "a byte behind the block": (LZ4_OF_300 + b"\0", "damaged"),
    "two blocks": (LZ4_OF_300 + LZ4_OF_300[4:], "damaged"),
    "cut off": (LZ4_OF_300[:-1], "damaged"),
    "a copy of what is not there": ((20).to_bytes(4, "little") + b"\x1fa\xff\xff\0\x50bcdef", "damaged"),
}


@in_one_test
@pytest.mark.parametrize("name", list(HOSTILE_LZ4))
def test_block_of_lz4_that_is_not_one_with_its_size_is_refused(name: str) -> None:
    data, reason = HOSTILE_LZ4[name]
    with pytest.raises(DecompressionError, match=reason) as caught:
        Lz4Compressor().decompress(data, 1000)
    assert caught.value.validator == "lz4"


@pytest.mark.usefixtures("every_unpacker")
@in_one_test
@pytest.mark.parametrize("name", ["zstd", "zstd dictionary", "lz4"])
def test_damaged_byte_gives_a_payload_within_the_limit_or_a_refusal_as_the_reference(name: str) -> None:
    compressor = COMPRESSORS[name]()
    payload = event(7) * 2
    data = bytes(compressor.compress(payload))
    for at in range(len(data)):
        for flip in spread(range(1, 256), 40):
            check_as_reference(compressor, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], 2 * len(payload))
        check_as_reference(compressor, data[:at], 2 * len(payload))


def check_as_reference(compressor: Any, data: bytes, limit: int) -> None:
    """The package gives what the reference gives, and refuses what it refuses."""
    stored = bytes([compressor.number]) + data
    trained = compressor.dictionary
    try:
        expected = reference.restore(
            stored, limit, lambda frame: unpack_zstd(frame, trained), getattr(compressor, "dictionary_id", 0)
        )
    except reference.UnspecifiedError:
        with contextlib.suppress(DecompressionError):
            assert len(compressor.decompress(data, limit)) <= limit
    except reference.RefusedError:
        with pytest.raises(DecompressionError):
            compressor.decompress(data, limit)
    else:
        assert compressor.decompress(data, limit) == expected


@given(st.binary(max_size=60), st.integers(0, 100))
def test_any_bytes_are_taken_as_the_reference_takes_them(data: bytes, limit: int) -> None:
    check_as_reference(Lz4Compressor(), data, limit)
    check_as_reference(Lz4Compressor(), min(limit, 255).to_bytes(4, "little") + data, limit)
    for way in UNPACKERS:
        compressor = ZstdCompressor()
        compressor._unpacker_ = UNPACKERS[way](b"")
        check_as_reference(compressor, data, limit)
        check_as_reference(compressor, _zstd.MAGIC + data, limit)
        check_as_reference(compressor, frame_header(size=limit, size_bytes=1) + data, limit)


# Dictionaries


def test_dictionary_makes_small_messages_smaller_than_they_are_without() -> None:
    plain, small = ZstdCompressor(), ZstdCompressor(dictionary=dictionary())
    without = sum(min(len(plain.compress(each)), len(each)) for each in events())
    with_one = sum(len(small.compress(each)) for each in events())
    assert with_one < without / 2


@pytest.mark.usefixtures("every_unpacker")
def test_frame_with_another_dictionary_says_both_numbers() -> None:
    one, other = ZstdCompressor(3, dictionary()), ZstdCompressor(3, dictionary(begin=9000))
    assert one.dictionary_id != other.dictionary_id
    with pytest.raises(
        DecompressionError,
        match=f"the dictionary number {one.dictionary_id}, and the one that is given has {other.dictionary_id}",
    ):
        other.decompress(one.compress(event(1)), 1000)
    with pytest.raises(DecompressionError, match=f"the dictionary number {one.dictionary_id}, and none is given"):
        ZstdCompressor().decompress(one.compress(event(1)), 1000)


@pytest.mark.usefixtures("every_unpacker")
def test_frame_without_a_dictionary_is_read_with_one() -> None:
    assert ZstdCompressor(3, dictionary()).decompress(ZstdCompressor().compress(event(1)), 1000) == event(1)


def test_dictionary_is_the_same_for_the_same_sample_and_as_large_as_asked() -> None:
    samples = [event(number) for number in range(500)]
    made = train_dictionary(samples, 1024)
    assert made == train_dictionary(map(memoryview, samples), 1024)
    assert len(made) <= 1024
    assert zstd.ZstdDict(made).dict_content == made


@pytest.mark.parametrize(
    ("samples", "size", "error", "reason"),
    [
        ([], 1024, ValueError, "got 0 messages of 8 bytes or more, with 0 bytes in all"),
        ([b""] * 100, 1024, ValueError, "got 0 messages"),
        ([event(1)] * 7, 512, ValueError, "got 7 messages"),
        ([b"abcdefgh"] * 100, 1024, ValueError, "got 100 messages of 8 bytes or more, with 800 bytes in all"),
        # The library reads behind its memory in these.
        ([b""] * 8 + [event(1) * 9], 1024, ValueError, "got 1 message"),
        ([b"a"] * 1000 + [event(1) * 9], 1024, ValueError, "got 1 message"),
        (b"abc" * 1000, 1024, TypeError, "got one bytes"),
        ("abc" * 1000, 1024, TypeError, "got one str"),
        (["abc"] * 1000, 1024, TypeError, "sample 0 must be bytes-like, got str"),
        (5, 1024, TypeError, "int"),
        ([event(1)] * 100, 255, ValueError, "size must be at least 256 bytes, got 255"),
        ([event(1)] * 100, -1, ValueError, "got -1"),
        ([event(1)] * 100, 1024.0, TypeError, "size must be an int"),
        ([event(1)] * 100, True, TypeError, "size must be an int"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sample_that_gives_no_dictionary_says_why(samples: Any, size: Any, error: type, reason: str) -> None:
    with pytest.raises(error, match=reason):
        train_dictionary(samples, size)


# Arguments


class IndexOf4:
    def __index__(self) -> int:
        return 4


@pytest.mark.parametrize("level", [-131_072, -1, 0, 1, 22, IndexOf4()], ids=["least", "-1", "0", "1", "most", "index"])
def test_level_of_zstd_within_its_bounds_is_taken(level: Any) -> None:
    compressor = ZstdCompressor(level)
    assert compressor.level == level.__index__()
    assert compressor.decompress(compressor.compress(event(1)), 1000) == event(1)


@in_one_test
@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: any_zstd(23), ValueError, "level must be from -131072 to 22 for zstd, got 23"),
        (lambda: any_zstd(-131_073), ValueError, "got -131073"),
        (lambda: any_zstd(2**70), ValueError, "level must be from"),
        (lambda: any_zstd(True), TypeError, "level must be an int, got True"),
        (lambda: any_zstd(3.0), TypeError, "level must be an int, got 3.0"),
        (lambda: any_zstd("3"), TypeError, "level must be an int, got '3'"),
        (lambda: any_zstd(None), TypeError, "level must be an int, got None"),
        (lambda: any_zstd(3, "abc"), TypeError, "dictionary must be bytes-like or None, got str"),
        (lambda: any_zstd(3, 5), TypeError, "dictionary must be bytes-like or None, got int"),
        (lambda: any_zstd(3, b"abcdefgh" * 10), ValueError, "expected a Zstandard dictionary.*got 80 bytes"),
        (lambda: any_zstd(3, dictionary()[:100]), ValueError, "expected a Zstandard dictionary"),
        (lambda: any_lz4(13), ValueError, "level must be from 0 to 12 for lz4, got 13"),
        (lambda: any_lz4(-1), ValueError, "level must be from 0 to 12 for lz4, got -1"),
        (lambda: any_lz4(False), TypeError, "level must be an int, got False"),
        (lambda: any_lz4("fast"), TypeError, "level must be an int"),
        (lambda: any_zstd().compress("abc"), TypeError, "bytes-like"),
        (lambda: any_zstd().decompress("abc", 10), TypeError, "bytes-like"),
        (lambda: any_lz4().compress("abc"), TypeError, "bytes-like"),
        (lambda: any_lz4().decompress("abc", 10), TypeError, "bytes-like"),
        (lambda: any_compressor().compress(b""), TypeError, r"Compressor must define compress\(payload\)"),
        (
            lambda: any_compressor().decompress(b"", 1),
            TypeError,
            r"Compressor must define decompress\(data, max_size\)",
        ),
    ],
    ids=str,
)
def test_wrong_argument_says_what_is_expected(make: Any, error: type, reason: str) -> None:
    with pytest.raises(error, match=reason):
        make()


@in_one_test
@pytest.mark.parametrize(
    ("attributes", "error", "reason"),
    [
        ({}, ValueError, "number must be 1 .Zstandard., 2 .LZ4., or from 128 to 255 .* got 0"),
        ({"number": 3}, ValueError, "got 3"),
        ({"number": 127}, ValueError, "got 127"),
        ({"number": 256}, ValueError, "got 256"),
        ({"number": "x"}, TypeError, "number must be an int, got 'x'"),
        ({"number": True}, TypeError, "number must be an int, got True"),
        ({"number": 128, "name": ""}, TypeError, "name must be a str that is not empty"),
        ({"number": 128, "name": 5}, TypeError, "name must be a str"),
    ],
    ids=str,
)
def test_compressor_without_a_number_or_name_of_its_own_is_refused(attributes: Any, error: type, reason: str) -> None:
    with pytest.raises(error, match=reason):
        check_compressor(type("Own", (Compressor,), attributes)())


def test_compressor_of_an_application_has_the_name_of_its_class() -> None:
    own = type("Own", (Compressor,), {"number": 255})()
    assert check_compressor(own).name == "Own"
    assert (own.parameters, own.dictionary, own.start(), repr(own)) == ((), b"", own, "Own()")
    with pytest.raises(TypeError, match="compressor must be an instance of Compressor, got 'zstd'"):
        check_compressor("zstd")


@in_one_test
@every_compressor
def test_pickled_compressor_makes_the_same_bytes(name: str) -> None:
    compressor = COMPRESSORS[name]()
    compressor.compress(event(1))
    for other in (pickle.loads(pickle.dumps(compressor)), copy.copy(compressor), copy.deepcopy(compressor)):
        assert type(other) is type(compressor)
        assert (other.name, other.parameters, other.dictionary) == (
            compressor.name,
            compressor.parameters,
            compressor.dictionary,
        )
        assert other.compress(event(2)) == compressor.compress(event(2))
        assert repr(other) == repr(compressor)


def test_representations_say_the_level_and_not_the_dictionary() -> None:
    assert repr(ZstdCompressor(6)) == "ZstdCompressor(level=6)"
    assert repr(ZstdCompressor(6, dictionary())) == f"ZstdCompressor(level=6, dictionary=<{len(dictionary())} bytes>)"
    assert repr(Lz4Compressor(9)) == "Lz4Compressor(level=9)"


# Threads


@in_one_test
@every_compressor
def test_threads_that_share_a_compressor_do_not_mix_their_payloads(name: str) -> None:
    compressor = COMPRESSORS[name]()
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def work(first: int) -> None:
        try:
            start.wait()
            for number in range(first, first + 60):
                payload = event(number) * 40
                assert compressor.decompress(compressor.compress(payload), len(payload)) == payload
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(getattr(compressor, "_free", ())) <= 4


# Packages


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_standard_library_is_taken_where_it_has_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python 3.14 has.
    module = types.ModuleType("compression.zstd")
    module.__dict__.update({name: getattr(zstd, name) for name in zstd.__all__})
    package = types.ModuleType("compression")
    package.zstd = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "compression", package)
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    hide(monkeypatch, "backports.zstd", "zstandard")
    assert _zstd.standard_zstd() is module
    compressor = ZstdCompressor(3, dictionary())
    assert compressor.decompress(compressor.compress(event(1)), 1000) == event(1)
    assert compressor._unpacker.library == "standard"
    assert train_dictionary([event(number) for number in range(200)], 512)


def test_zstandard_decompresses_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _zstd.make_unpacker(b"").library == "zstandard"
    hide(monkeypatch, "zstandard")
    assert _zstd.make_unpacker(b"").library == "standard"


def test_missing_package_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "compression.zstd", "backports.zstd", "lz4.block", "zstandard")
    how = r": pip install 'flatstream\[compression\]'"
    with pytest.raises(ImportError, match="Zstandard needs the package backports.zstd" + how):
        ZstdCompressor()
    with pytest.raises(ImportError, match="Zstandard needs the package backports.zstd" + how):
        _zstd.make_unpacker(b"")
    with pytest.raises(ImportError, match="Zstandard needs the package backports.zstd" + how):
        train_dictionary([event(1)] * 100)
    with pytest.raises(ImportError, match="LZ4 needs the package lz4" + how):
        Lz4Compressor()


def test_import_of_the_package_imports_no_library_of_compression() -> None:
    importlib.import_module("flatstream.transforms.compressors")
    from support.processes import run_python

    code = """
import sys
import flatstream
print([name for name in ("lz4", "backports.zstd", "compression.zstd", "zstandard", "flatstream.transforms.compressors")
       if name in sys.modules])
"""
    assert run_python(code).stdout.strip() == "[]"
