"""Classes whose methods say one thing and hold another: what is stored is what they hold, or the value is refused.

A subclass can override every method of a built-in class. None of these answers may decide how much memory is read or
written.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from flatbuffers.builder import BuilderSizeError, IsNestedError

from flatstream import (
    Builder,
    Checksum,
    ChecksumDeframer,
    Deframer,
    FlatbufferError,
    FrameSpan,
    RecordWriter,
    StreamReader,
    StreamWriter,
)
from flatstream._core.flatbuf.template import Template
from support.extent import in_one_test
from support.schemas import SHAPES, UNIONS

SHAPE: Any = SHAPES.root
HUGE = 2**62


class Text(str):
    """Its UTF-8 is another buffer, which changes."""

    def encode(self, *_: Any) -> Any:
        return memoryview(b"")

    def __len__(self) -> int:
        return 10**9

    def __str__(self) -> str:
        return "other"

    def __iter__(self) -> Iterator[str]:
        return iter(["x"] * 1000)


class Equal(Text):
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class Data(bytes):
    def __len__(self) -> int:
        return 10**9

    def __bytes__(self) -> bytes:
        return b"other"

    def __iter__(self) -> Iterator[int]:
        return iter([1] * 1000)

    def __buffer__(self, flags: int) -> memoryview:
        # Asked by Python 3.12 and later.
        return memoryview(b"")


class Bytes(bytearray):
    def __len__(self) -> int:
        return 10**9

    def __bytes__(self) -> bytes:
        return b"other"

    def __iter__(self) -> Iterator[int]:
        return iter([1] * 1000)


class Number(int):
    """Any comparison is true."""

    def __lt__(self, other: object) -> bool:
        return True

    __le__ = __gt__ = __ge__ = __lt__

    def __index__(self) -> int:
        return HUGE

    __int__ = __index__

    def __and__(self, other: object) -> int:
        return HUGE


class Real(float):
    def __float__(self) -> float:
        return 1e300


class Items(list[Any]):
    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: Any) -> Any:
        return 5


class Few(tuple[Any, ...]):
    __slots__ = ()

    def __len__(self) -> int:
        return 2


class Fields(dict[str, Any]):
    def __len__(self) -> int:
        return 10**6

    def keys(self) -> Any:
        return ["id"] * 1000


def message(**fields: Any) -> bytes:
    builder = Builder(8)
    SHAPE.encode(builder, fields)
    return bytes(builder)


def columns(table: Any, **values: Any) -> list[dict[str, Any]]:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, table).write_columns(values)
    return [record.to_dict() for record in StreamReader(sink.getvalue()).records(table)]


VECTORS = SHAPES.table("shapes.Vectors")


def test_text_is_what_a_str_holds_whatever_its_methods_say() -> None:
    text = Text("grüße")
    assert message(title=text) == message(title="grüße")
    assert message(vectors={"strings": [text] * 3}) == message(vectors={"strings": ["grüße"] * 3})
    assert message(named={"name": text}) == message(named={"name": "grüße"})
    rows = columns(SHAPE, title=["x" * 63] + [text] * 100)
    assert [row["title"] for row in rows] == ["x" * 63] + ["grüße"] * 100
    assert columns(VECTORS, strings=[[text, "b"]])[0]["strings"] == ["grüße", "b"]
    # As flatbuffers.Builder does, ours asks for `encode`; it takes the buffer that comes back as it is.
    builder = Builder(8)
    assert builder.CreateString(text) == builder.Offset()


def test_names_are_what_a_str_holds() -> None:
    assert SHAPES.table("shapes.Scalars").view(message(scalars={}), verify=False) is not None
    assert message(scalars={"color": Text("Blue")}) == message(scalars={"color": "Blue"})
    assert message(**{Text("title"): "x"}) == message(title="x")
    assert columns(SHAPE, **{Text("title"): ["x"]})[0]["title"] == "x"


def test_variants_of_unions_in_columns_are_what_a_str_holds() -> None:
    root = UNIONS.table("unions.Root")
    for anything in ((Equal("Text"), "x"), ("Text", Equal("x"))):
        assert columns(root, anything=[anything])[0]["anything"] == "x"
    assert columns(root, anything_type=[Equal("Text")], anything=["x"])[0]["anything"] == "x"
    assert columns(root, things=[[(Equal("Text"), "x"), (Equal("NONE"), None)]])[0]["things"] == ["x", None]


@pytest.mark.parametrize("kind", [Data, Bytes])
def test_bytes_are_what_the_object_holds(kind: Any) -> None:
    data = kind(b"abc")
    for _ in range(2):
        rows = columns(VECTORS, u8s=[b"x" * 63, *[data] * 50])
        assert [row["u8s"] for row in rows] == [b"x" * 63] + [b"abc"] * 50
    assert columns(VECTORS, i8s=[data])[0]["i8s"] == [97, 98, 99]
    assert message(vectors={"i8s": data}) == message(vectors={"i8s": b"abc"})
    assert message(holder={"raw": bytearray(b"abc")}) == message(holder={"raw": b"abc"})
    if kind is Data:
        rows = columns(SHAPE, title=["x" * 63, *[data] * 50])
        assert [row["title"] for row in rows] == ["x" * 63] + ["abc"] * 50
        assert message(title=data) == message(title="abc")
        ours, plain = Builder(8), Builder(8)
        for builder, value in ((ours, data), (plain, b"abc")):
            builder.CreateString(value)
            builder.CreateByteVector(value)
        assert bytes(ours.Bytes)[ours.Head() :] == bytes(plain.Bytes)[plain.Head() :]


def test_arrays_of_ubyte_are_what_the_object_holds() -> None:
    tiny_like = SHAPES.table("shapes.Structs")
    grid = {"tag": 0, "cells": [1, 2, 3], "days": [1, 1], "corners": [(0, 0)] * 2, "bits": [0] * 5, "weights": [0, 0]}
    builder = Builder()
    tiny_like.encode(builder, grid={**grid, "cells": Items([1, 2, 3])}, point_required=(0, 0))
    assert tiny_like.view(bytes(builder)).to_dict()["grid"]["cells"] == [1, 2, 3]


def test_numbers_are_what_they_hold() -> None:
    assert message(id=Number(7)) == message(id=7)
    for value in (Number(300), Number(-1)):
        with pytest.raises(ValueError, match="expected a ubyte, 0 to 255, got "):
            message(scalars={"u8": value})
        with pytest.raises(ValueError, match="expected a ubyte, 0 to 255, got "):
            columns(SHAPES.table("shapes.Scalars"), u8=[value])
    assert message(scalars={"f32": Number(7), "f64": Real(1.5)}) == message(scalars={"f32": 7, "f64": 1.5})
    assert message(vectors={"f64s": [Real(1.5)], "u8s": [Number(1)]}) == message(vectors={"f64s": [1.5], "u8s": [1]})


def test_lists_are_what_iteration_gives() -> None:
    items = Items([1, 2, 3])
    assert message(vectors={"i32s": items}) == message(vectors={"i32s": [1, 2, 3]})
    assert columns(VECTORS, i32s=[items])[0]["i32s"] == [1, 2, 3]
    assert columns(SHAPE, id=Items([1, 2]))[1]["id"] == 2
    leaf = SHAPES.table("shapes.Level1")
    builder = Builder()
    leaf.encode(builder, Items([5]))
    assert leaf.view(bytes(builder)).to_dict()["value"] == 5
    with pytest.raises((TypeError, ValueError)):
        UNIONS.table("unions.Root").encode(Builder(), anything=Few(("Named",)))


def test_mappings_are_what_they_give_once() -> None:
    class Changing(Mapping):  # type: ignore[type-arg]
        """Has other names each time."""

        turn = 0

        def __getitem__(self, name: str) -> Any:
            return 1

        def __iter__(self) -> Iterator[str]:
            Changing.turn += 1
            return iter(["i32"] if Changing.turn % 2 else ["i8", "i16", "i32", "i64", "u8"])

        def __len__(self) -> int:
            return 10**9

    for _ in range(4):
        assert columns(SHAPE, scalars=[Changing()])[0]["scalars"]["i32"] == 1
        assert SHAPE.view(message(scalars=Changing())).scalars.i32 == 1
    assert columns(SHAPE, level=[Fields(value=5)])[0]["level"]["value"] == 5


def test_sizes_of_a_builder_are_checked_as_what_they_are() -> None:
    for size in (HUGE, -HUGE, 2**40):
        builder = Builder(8)
        for call in (
            lambda builder=builder, size=size: builder.Pad(Number(size)),
            lambda builder=builder, size=size: builder.Prep(Number(size), 0),
            lambda builder=builder, size=size: builder.Prep(4, Number(size)),
            lambda builder=builder, size=size: builder.StartVector(1, Number(size), 1),
            lambda builder=builder, size=size: Builder(Number(size)),
            lambda builder=builder, size=size: builder.StartObject(Number(size)),
        ):
            # `Pad` asks first whether the number is 0 or less, and such a number says that it is.
            try:
                call()
            except (BuilderSizeError, IsNestedError, ValueError, OverflowError):
                pass
            else:
                assert builder.Offset() == 0
            assert 0 <= builder.Head() <= len(builder.Bytes) < 2**20


def test_arrays_of_numpy_with_other_sizes_are_refused() -> None:
    class Sized(np.ndarray):
        @property
        def size(self) -> int:
            return 10**6

    with pytest.raises(ValueError, match="expected 1000000 elements of 4 bytes, got 12 bytes"):
        Builder(8).CreateNumpyVector(np.arange(3, dtype="<i4").view(Sized))


def test_mask_with_more_flags_than_values_is_refused() -> None:
    class Flags:
        ndim = 1

        def __len__(self) -> int:
            return 2

        def tolist(self) -> list[bool]:
            return [True] * 1000

    class Array:
        dtype = np.dtype(object)
        mask = Flags()

        def tolist(self) -> list[str]:
            return ["a", "b"]

    with pytest.raises(TypeError, match="has 2 values, but its mask has 1000"):
        columns(SHAPE, title=Array())


def test_objects_that_contain_themselves_end_in_an_error() -> None:
    flags: list[Any] = []
    flags.append(flags)
    with pytest.raises(TypeError, match=r"expected names or numbers of shapes\.Access, got list among them"):
        message(scalars={"access": flags})

    class Kind:
        def __init__(self) -> None:
            self.turn = 0

        @property
        def kind(self) -> str | None:
            self.turn += 1
            return None if self.turn % 2 else "O"

    class Endless:
        def __init__(self) -> None:
            self.dtype = Kind()

        def __array__(self) -> Any:
            return self

    with pytest.raises((ValueError, AttributeError, TypeError)):
        columns(SHAPE, id=Endless())


def test_table_has_the_number_that_it_has() -> None:
    class Other(type(SHAPE)):  # type: ignore[misc]
        pass

    for number in (Number(10**6), Number(-5), Number(HUGE)):
        table = Other(SHAPES, number)
        with pytest.raises((ValueError, OverflowError)):
            table.encode(Builder(), id=1)
        with pytest.raises((ValueError, OverflowError)):
            table.types.verify(number, message(id=1))
        with pytest.raises((ValueError, OverflowError)):
            Template(SHAPES._layout, 0, [number])


def test_answers_of_sources_deframers_and_checksums_are_what_they_are() -> None:
    class Source:
        def readinto(self, room: Any) -> int:
            return Number(10**6)

    with pytest.raises(OSError, match=r"readinto\(\) was offered [0-9]+ bytes and returned 1000000"):
        StreamReader(Source()).read_message()

    class Locating(Deframer):
        answer: Any = None

        def locate(self, data: Any) -> Any:
            return self.answer

    for answer in (
        FrameSpan(Number(0), Number(10**6), Number(10**6)),
        (Number(-5), Number(3), Number(4)),
        (Number(10), Number(3), Number(4)),
        Number(-1),
    ):
        deframer = Locating()
        deframer.answer = answer
        with pytest.raises((ValueError, EOFError, FlatbufferError)) as caught:
            list(StreamReader(b"\4\0\0\0abcd", deframer))
        assert "SystemError" not in repr(caught.value)

    class Sized(Checksum):
        size = Number(100)

        def calculate(self, payload: Any) -> int:
            return 1

    with pytest.raises(ValueError, match="size must be from 0 to 8 bytes, got 100"):
        list(StreamReader(b"\4\0\0\0abcd" + bytes(100), ChecksumDeframer(Sized())))

    class Built:
        finished = True
        Bytes = b"abcdefgh"

        def Head(self) -> int:  # noqa: N802
            return Number(-1000)

    with StreamWriter(io.BytesIO()) as writer, pytest.raises(FlatbufferError, match="the builder's head is -1000"):
        writer.write_finished(Built())


@in_one_test
@pytest.mark.parametrize("taken", [-(2**40), -1, 2**70, 0, 3])
def test_number_of_bytes_before_a_sink_would_block_is_what_it_is(taken: int) -> None:
    class BlockedError(BlockingIOError):
        characters_written = Number(taken)

    class Sink(io.RawIOBase):
        def __init__(self) -> None:
            self.got: list[bytes] = []

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.got.append(bytes(data))
            if len(self.got) == 1:
                raise BlockedError
            return len(data)

    sink = Sink()
    writer = StreamWriter(sink)
    writer.write_payload(b"x" * 1000)
    with pytest.raises(BlockedError):
        writer.flush()
    writer.close()
    rest = 1004 - min(max(taken, 0), 1004)
    assert sum(map(len, sink.got)) == 1004 + rest
    assert b"".join(sink.got[1:]) == sink.got[0][1004 - rest :]


def test_buffer_that_is_another_the_second_time_is_refused() -> None:
    class Buffers:
        """Python 3.12 and later ask this class for its buffer."""

        def __init__(self) -> None:
            self.turn = 0

        def __buffer__(self, flags: int) -> memoryview:
            self.turn += 1
            whole = memoryview(b"\4\0\0\0abcd" * 2)
            return whole if self.turn == 1 else whole[::-1]

    with pytest.raises((BufferError, TypeError)):
        list(StreamReader(Buffers()))
