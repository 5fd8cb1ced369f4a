"""Bytes that only look like a description: nothing but FlatbufferError comes of them, and little memory and time."""

from __future__ import annotations

import contextlib
import random
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import Description, FlatbufferError, FlatStreamError, Schema, StreamReader
from flatstream.description import MAX_SIZE, Transform, _types, is_description
from reference import framing as reference
from support.processes import run_python

EVENT = Schema.from_file(Path(__file__).parents[2] / "examples" / "telemetry.bfbs").root
SMALL = Description(
    checksum="crc32",
    metadata={"host": "a", "b": "ö"},
    created_ns=7,
    created_by="me",
    transforms=[Transform("zstd", (("level", "3"),), b"dict")],
    serializer="json",
).to_bytes()
LARGE = Description(EVENT, checksum="none").to_bytes()


def use(payload: bytes) -> Description | None:
    """What a reader would do with it; None if it is refused."""
    try:
        made = Description.from_bytes(payload)
    except FlatbufferError as error:
        return None if len(str(error)) < 1000 else pytest.fail(f"a long message: {error}")
    assert Description.from_bytes(made.to_bytes()) == made
    assert len(repr(made)) < 400
    assert len(made._repr_html_()) < 60_000
    assert made.time is None or len(made.time) == 3
    with contextlib.suppress(FlatbufferError):
        assert made.table is None or made.table.name
    made.with_metadata({"a": "b"}).to_bytes()
    return made


def test_every_bit_of_a_small_description_may_be_wrong() -> None:
    accepted = 0
    for place in range(len(SMALL)):
        for bit in range(8):
            damaged = bytearray(SMALL)
            damaged[place] ^= 1 << bit
            accepted += use(bytes(damaged)) is not None
    # Texts and numbers are what they are.
    assert 0 < accepted < 8 * len(SMALL)


def test_description_may_end_anywhere() -> None:
    for size in range(len(SMALL)):
        use(SMALL[:size])
        use(SMALL[:size] + bytes(len(SMALL) - size))
    for size in range(0, len(LARGE), 97):
        use(LARGE[:size])


@given(st.binary(max_size=300), st.integers(0, 40))
def test_random_bytes_behind_the_mark(data: bytes, root: int) -> None:
    use(root.to_bytes(4, "little") + b"FSD1" + data)


@given(st.lists(st.tuples(st.integers(0, len(LARGE) - 1), st.integers(0, 255)), max_size=20))
def test_bytes_of_a_schema_replaced(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(LARGE)
    for place, value in changes:
        damaged[place] = value
    use(bytes(damaged))


def test_random_damage_of_a_described_stream() -> None:
    """Whatever the bytes, reading gives messages or an error, and the property gives a description or None."""
    stream = reference.encode([SMALL, b"one", b"two" * 20, b"three"], "none")
    random_numbers = random.Random(5)
    for _ in range(1500):
        damaged = bytearray(stream)
        for _ in range(random_numbers.randrange(1, 4)):
            damaged[random_numbers.randrange(len(stream))] = random_numbers.randrange(256)
        for on_error in ("raise", "skip", "resync"):
            reader = StreamReader(bytes(damaged), on_error=on_error)
            made = reader.description
            assert made is None or isinstance(made, Description)
            for _ in range(6):
                try:
                    if reader.read_message() is None:
                        break
                except FlatStreamError:
                    continue
            assert reader.description is None or reader.description == made or made is None


def test_parts_that_are_shared_do_not_make_a_small_description_large() -> None:
    # 4,096 schemas that are one vector of 1 MiB would take 4 GiB.
    data = bytes(1 << 20)
    one = _types.encode({"schemas": [{"data": data}]})
    assert Description.from_bytes(one).schemas == (data,)
    many = shared_schemas(1 << 20, 4096)
    assert len(many) < 2 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FlatbufferError, match="damaged"):
        Description.from_bytes(many)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    # And so many tables that they take long.
    with pytest.raises(FlatbufferError):
        Description.from_bytes(shared_schemas(8, 1 << 20))


def shared_schemas(size: int, count: int) -> bytes:
    """A description with `count` schemas, all of them one table with `size` bytes."""
    out = bytearray(b"\x10\0\0\0FSD1\0\0")
    # A vtable of 10 bytes with `schemas`, then the table.
    vtable = len(out)
    out += (10).to_bytes(2, "little") + (8).to_bytes(2, "little") + bytes(2) + bytes(2)
    out[vtable:] = b"\x0a\0\x08\0\0\0\0\0\x04\0"
    while len(out) % 4:
        out += b"\0"
    table = len(out)
    out[0:4] = table.to_bytes(4, "little")
    out += (table - vtable).to_bytes(4, "little", signed=True) + (4).to_bytes(4, "little")
    vector = len(out)
    out += count.to_bytes(4, "little") + bytes(4 * count)
    inner_vtable = len(out)
    out += b"\x06\0\x08\0\x04\0\0\0"
    inner = len(out)
    out += (inner - inner_vtable).to_bytes(4, "little") + (4).to_bytes(4, "little")
    out += size.to_bytes(4, "little") + bytes(size)
    for number in range(count):
        at = vector + 4 + 4 * number
        out[at : at + 4] = (inner - at).to_bytes(4, "little")
    return bytes(out)


def test_shared_parts_are_what_was_meant() -> None:
    assert Description.from_bytes(shared_schemas(10, 3)).schemas == (bytes(10),) * 3


def test_size_is_bounded() -> None:
    assert not is_description(b"")
    assert not is_description(SMALL[:11])
    assert is_description(memoryview(SMALL))
    large = SMALL + bytes(MAX_SIZE - len(SMALL))
    assert is_description(large)
    assert Description.from_bytes(large) == Description.from_bytes(SMALL)
    assert not is_description(large + b"\0")
    with pytest.raises(FlatbufferError, match="no description"):
        Description.from_bytes(large + b"\0")
    # Then it is a message.
    stream = reference.encode([large + b"\0", b"x"], "none")
    reader = StreamReader(stream)
    assert reader.description is None
    assert len(reader.read_message() or b"") == MAX_SIZE + 1
    # And not text that is no UTF-8.
    for text in (b"host", b"crc32", b"json"):
        with pytest.raises(FlatbufferError, match="not UTF-8"):
            Description.from_bytes(SMALL.replace(text, b"\xff\xfe\xfd\xfc\xfb"[: len(text)]))


def test_garbage_collector_may_clear_a_reader_that_awaits_its_description() -> None:
    code = """
import gc, io
from flatstream import StreamReader

class Source:
    def readinto(self, buffer):
        return 0

class Tied:
    def __del__(self):
        for use in (lambda: self.reader.description, lambda: self.reader.read_message(), lambda: list(self.reader)):
            try:
                use()
            except (ValueError, AttributeError, EOFError):
                pass

for _ in range(50):
    tied = Tied()
    source = Source()
    source.tied = tied
    tied.reader = StreamReader(io.BytesIO(b"\\x40\\0\\0\\0\\x08\\0\\0\\0FSD1" + bytes(20)))
    tied.reader.description
    source.reader = StreamReader(source)
    tied.me = source
    del tied, source
    gc.collect()
print("done")
"""
    done = run_python(code)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "done", "")
