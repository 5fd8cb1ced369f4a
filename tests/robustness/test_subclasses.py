"""Instances of subclasses of str and int, and NumPy's integers, are taken wherever a str or an int is.

Everything that takes a name, a path, an option or a number is called with the plain value and with each of its kin, and
must do the same.
"""

from __future__ import annotations

import enum
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy,
    BoundedDeframer,
    BoundedFramer,
    Builder,
    DefaultDeframer,
    DefaultFramer,
    RecordWriter,
    SizeValidator,
    StreamReader,
    StreamWriter,
    TypedValidator,
)
from flatstream._core.checksums.crc import crc16, crc32c, crc64
from support.extent import in_one_test
from support.schemas import SHAPES


class Text(str):
    pass


class Number(int):
    pass


def str_enum(text: str) -> str:
    return enum.StrEnum("Texts", {"TEXT": text}).TEXT  # type: ignore[attr-defined, no-any-return]


def mixed_enum(text: str) -> str:
    """Its ``str()`` is "Texts.TEXT"."""
    return enum.Enum("Texts", {"TEXT": text}, type=str).TEXT  # type: ignore[attr-defined, no-any-return]


def int_enum(number: int) -> int:
    return enum.IntEnum("Numbers", {"NUMBER": number}).NUMBER  # type: ignore[attr-defined, no-any-return]


TEXTS: dict[str, Callable[[str], Any]] = {
    "subclass": Text,
    "StrEnum": str_enum,
    "str and Enum": mixed_enum,
    "numpy.str_": np.str_,
}
NUMBERS: dict[str, Callable[[int], Any]] = {
    "subclass": Number,
    "IntEnum": int_enum,
    "int64": np.int64,
    "uint8": np.uint8,
}

SHAPE: Any = SHAPES.root
assert SHAPE is not None


def stream_of(write: Callable[[RecordWriter], object]) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        write(RecordWriter(writer, SHAPE))
    return sink.getvalue()


def stream_of_items(write: Callable[[StreamWriter], object], framer: Any = None) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, framer) as writer:
        write(writer)
    return sink.getvalue()


def written(**fields: Any) -> bytes:
    return stream_of(lambda writer: writer.write(**fields))


def columns_written(**columns: Any) -> bytes:
    return stream_of(lambda writer: writer.write_columns({name.replace("__", "."): columns[name] for name in columns}))


@functools.cache
def data() -> bytes:
    return stream_of(
        lambda writer: [writer.write(id=i, title=f"t{i}", scalars={"color": "Blue", "i32": i}) for i in range(9)]
    )


def reader(**options: Any) -> StreamReader:
    return StreamReader(data(), **options)


def columns(fields: Any, **options: Any) -> list[Any]:
    batch: Any = reader().columns(SHAPE, fields, **options)
    return list(batch[batch.names[0]].to_pylist())


def view() -> Any:
    return next(iter(reader().records(SHAPE)))


def built(part: Callable[[Builder], int]) -> bytes:
    builder = Builder(8)
    offset = part(builder)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, offset, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder)


def numbers_built(value: Any) -> bytes:
    builder = Builder(8)
    builder.StartObject(3)
    builder.PrependInt32Slot(0, value, 0)
    builder.PrependUint64Slot(1, value, 0)
    builder.PrependUint16Slot(2, value, value)
    builder.Finish(builder.EndObject())
    return bytes(builder)


def opened(path: Path, mode: Any = "r", **options: Any) -> str:
    path.touch()
    with flatstream.open(path, mode, **options) as file:
        return type(file).__name__


# What takes a str: an example of it, and a call.
WITH_TEXT: dict[str, tuple[str, Callable[[Any, Path], object]]] = {
    "name of a table": ("shapes.Shape", lambda value, _: SHAPES.table(value)),
    "checksum of a writer": ("crc32", lambda value, _: stream_of_items(lambda w: w.write_payload(b"x"), value)),
    "checksum of a file": ("crc32", lambda value, folder: opened(folder / "file", checksum=value)),
    "mode of a file": ("rb", lambda value, folder: opened(folder / "file", value)),
    "path of a column": ("scalars.color", lambda value, _: columns([value])),
    "enums of columns": ("number", lambda value, _: columns(["scalars.color"], enums=value)),
    "on_error": ("skip", lambda value, _: columns(["id"], on_error=value)),
    "path of a range": ("id", lambda value, _: columns(["id"], where=(value, 1, 3))),
    "column of a batch": ("id", lambda value, _: reader().columns(SHAPE)[value].to_pylist()),
    "item of a record": ("title", lambda value, _: view()[value]),
    "field in a record": ("title", lambda value, _: value in view()),
    "attribute of a record": ("title", lambda value, _: getattr(view(), value)),
    "enums of to_dict": ("name", lambda value, _: view().to_dict(enums=value)),
    "key of a record": ("title", lambda value, _: stream_of(lambda w: w.write_record({value: "x"}))),
    "keyword": ("title", lambda value, _: written(**{value: "x"})),
    "text": ("t\u00e9", lambda value, _: written(title=value)),
    "enumerator": ("Blue", lambda value, _: written(scalars={"color": value})),
    "flags": ("Read Write", lambda value, _: written(scalars={"access": value})),
    "flag in a list": ("Read", lambda value, _: written(scalars={"access": [value]})),
    "variant of a pair": ("Named", lambda value, _: written(choice=(value, {"name": "x"}))),
    "variant of a type": ("Named", lambda value, _: written(choice_type=value, choice={"name": "x"})),
    "variant as a key": ("Named", lambda value, _: written(choice_type=value, choice={value: {"name": "x"}})),
    "strings": ("t\u00e9", lambda value, _: written(vectors={"strings": [value, value]})),
    "name of a column": ("title", lambda value, _: stream_of(lambda w: w.write_columns({value: ["x"]}))),
    "name with dots": ("scalars.i32", lambda value, _: stream_of(lambda w: w.write_columns({value: [1]}))),
    "text in a column": ("t\u00e9", lambda value, _: columns_written(title=[value, None, "x"])),
    "enumerator in a column": ("Blue", lambda value, _: columns_written(scalars__color=[value])),
    "key in a column": ("i32", lambda value, _: columns_written(scalars=[{value: 1}])),
    "variant in a column": ("Named", lambda value, _: columns_written(choice=[{value: {"name": "x"}}])),
    "pair in a column": ("Named", lambda value, _: columns_written(choice=[(value, {"name": "x"})])),
    "no variant in a column": ("NONE", lambda value, _: columns_written(choice=[(value, None)])),
    "types in a column": ("Named", lambda value, _: columns_written(choice_type=[value], choice=[{"name": "x"}])),
    "CreateString": ("t\u00e9", lambda value, _: built(lambda builder: builder.CreateString(value))),
    "CreateSharedString": ("t\u00e9", lambda value, _: built(lambda builder: builder.CreateSharedString(value))),
    "item that is a str": ("abc", lambda value, _: stream_of_items(lambda writer: writer.write(value))),
    "name of a validator": ("abc", lambda value, _: TypedValidator.from_verify(value, lambda payload: True).name),
    "table of a validator": ("shapes.Shape", lambda value, _: repr(TypedValidator.for_type(SHAPES, value))),
}


@in_one_test
@pytest.mark.parametrize("kin", TEXTS)
@pytest.mark.parametrize("name", WITH_TEXT)
def test_subclass_of_str_does_what_the_str_does(name: str, kin: str, tmp_path: Path) -> None:
    text, call = WITH_TEXT[name]
    expected = call(text, tmp_path)
    result = call(TEXTS[kin](text), tmp_path)
    assert result == expected
    assert type(result) is type(expected)


WITH_NUMBER: dict[str, Callable[[Any], object]] = {
    "max_len of a framer": lambda value: repr(BoundedFramer(DefaultFramer(), value)),
    "max_len of a deframer": lambda value: repr(BoundedDeframer(DefaultDeframer(), value)),
    "with_max_frame_len": lambda value: repr(DefaultDeframer().with_max_frame_len(value)),
    "sizes": lambda value: repr(SizeValidator(value, value)),
    "capacity of a writer": lambda value: StreamWriter(io.BytesIO(), capacity=value).frames_written,
    "buffer_size": lambda value: StreamWriter(io.BytesIO(), buffer_size=value).frames_written,
    "capacity of a reader": lambda value: len(list(reader(capacity=value))),
    "max_frames": lambda value: len(reader().read_batch(max_frames=value) or []),
    "max_bytes": lambda value: len(reader().read_batch(max_bytes=value) or []),
    "batch_rows": lambda value: [len(b) for b in reader().column_batches(SHAPE, ["id"], batch_rows=value)],
    "low end": lambda value: columns(["id"], where=("id", value, None)),
    "high end": lambda value: columns(["id"], where=("id", None, value)),
    "limits of the verifier": lambda value: repr(
        TypedValidator.for_type(SHAPES, max_depth=value, max_tables=value, max_apparent_size=value)
    ),
    "policy": lambda value: repr(
        AdaptiveWatermarkPolicy(size_ratio_threshold=value, messages_to_wait=value, baseline_capacity=value)
    ),
    "start of a CRC": lambda value: (crc16(b"abc", value), crc32c(b"abc", value), crc64(b"abc", value)),
    "frame of a batch": lambda value: bytes(next(reader().batches())[value]),
    "number": lambda value: written(id=value),
    "numbers": lambda value: written(vectors={"i8s": [value], "f32s": [value], "u64s": [value]}),
    "float": lambda value: written(scalars={"f32": value, "f64": value}),
    "enumerator": lambda value: written(scalars={"access": value}),
    "flag in a list": lambda value: written(scalars={"access": [value]}),
    "variant of a pair": lambda value: written(choice=(value, {"value": 1})),
    "variant of a type": lambda value: written(choice_type=value, choice={"value": 1}),
    "number in a column": lambda value: columns_written(id=[value, None]),
    "enumerator in a column": lambda value: columns_written(scalars__access=[value]),
    "pair in a column": lambda value: columns_written(choice=[(value, {"value": 1})]),
    "types in a column": lambda value: columns_written(choice_type=[value], choice=[{"value": 1}]),
    "Builder": lambda value: len(Builder(value).Bytes),
    "slots": numbers_built,
}


@in_one_test
@pytest.mark.parametrize("kin", NUMBERS)
@pytest.mark.parametrize("name", WITH_NUMBER)
def test_subclass_of_int_does_what_the_int_does(name: str, kin: str) -> None:
    expected = WITH_NUMBER[name](4)
    result = WITH_NUMBER[name](NUMBERS[kin](4))
    assert result == expected
    assert type(result) is type(expected)


@in_one_test
@pytest.mark.parametrize("value", [np.bool_(True), np.array([4]), np.float64(4.0), "4", 4.0, True], ids=repr)
def test_what_is_no_integer_is_refused_as_before(value: Any) -> None:
    with pytest.raises(TypeError, match="max_frames must be an int, got "):
        reader().read_batch(max_frames=value)
