"""Schemas at run time: a binary schema says what its text says; what is damaged or nonsense is a FlatbufferError.

Damage is made bit by bit and at random. Nonsense, which verifies as a FlatBuffer and still cannot be a schema, is built
here with the ``flatbuffers`` package, by the slot numbers of reflection.fbs.
"""

from __future__ import annotations

import array
import copy
import functools
import io
import random
import re
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

import flatstream
from flatstream import FlatbufferError, Schema, TypedValidator, ValidationFailedError
from flatstream._core.flatbuf import kinds
from flatstream.schema._reflection import SIZES, BaseType
from support.extent import EVERYTHING, in_one_test, spread
from support.schemas import ROOT, VECTORS
from support.schemas import SCHEMAS as SCHEMA_FOLDER

SCHEMAS = {
    path.stem: path
    for folder in (
        SCHEMA_FOLDER,
        VECTORS / "verifier",
        ROOT / "examples",
        ROOT / "asv_benchmarks" / "schemas",
    )
    for path in folder.glob("*.bfbs")
}
EVERY_SCHEMA = pytest.mark.parametrize("name", sorted(SCHEMAS))
TINY = SCHEMAS["tiny"].read_bytes()


# Loading


def test_schemas_of_the_tree_are_all_found():
    assert {"monster_test", "sample", "shapes", "shapes_v2", "telemetry", "tiny", "unions"} <= set(SCHEMAS)


@pytest.mark.parametrize("kind", [str, Path, lambda path: str(path).encode()], ids=["str", "Path", "bytes"])
def test_from_file_takes_any_path(kind):
    assert repr(Schema.from_file(kind(SCHEMAS["tiny"]))) == "<Schema of 1 tables, root T>"


@in_one_test
@pytest.mark.parametrize(
    "kind",
    [bytes, bytearray, memoryview, lambda data: array.array("B", data), lambda data: np.frombuffer(data, np.uint8)],
    ids=["bytes", "bytearray", "memoryview", "array", "numpy"],
)
def test_from_bytes_takes_any_memory_and_copies_it(kind):
    data = bytearray(TINY)
    schema = Schema.from_bytes(kind(data))
    data[:] = bytes(len(data))
    assert schema.table("T").field_names == ("n", "e", "s", "t", "u_type", "u", "v")
    # It is not held: it can grow.
    data.append(0)


@in_one_test
@pytest.mark.parametrize("value", [None, 5, "text", ["list"], io.BytesIO(TINY)])
def test_from_bytes_of_what_is_no_memory_is_a_type_error(value):
    with pytest.raises(TypeError):
        Schema.from_bytes(value)


def test_from_file_of_no_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Schema.from_file(tmp_path / "absent.bfbs")
    with pytest.raises(IsADirectoryError):
        Schema.from_file(tmp_path)


NO_SCHEMA = (
    "not a binary schema: expected the file identifier b'BFBS' at byte 4, got {!r} in {} bytes; "
    "flatc --binary --schema makes one"
)


@in_one_test
@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", b""),
        (b"BFBS", b""),
        (b"\x08\0\0\0BFB", b"BFB"),
        (b"namespace shapes;\n", b"spac"),
        (TINY[:4] + b"MONS" + TINY[8:], b"MONS"),
        (TINY[:4] + b"bfbs" + TINY[8:], b"bfbs"),
        (TINY[4:], TINY[8:12]),
        (bytes(100), bytes(4)),
    ],
)
def test_what_is_no_binary_schema_is_refused(data, found, tmp_path):
    for load in (Schema.from_bytes, lambda given: Schema.from_file(write(tmp_path, given))):
        with pytest.raises(FlatbufferError) as caught:
            load(data)
        assert str(caught.value) == NO_SCHEMA.format(found, len(data))


def write(folder: Path, data: bytes) -> Path:
    path = folder / "some.bfbs"
    path.write_bytes(data)
    return path


def test_base_types_of_the_schema_have_the_numbers_and_sizes_of_the_compiled_core():
    # VECTOR64 is refused when a schema is read, so the core does not know it.
    assert {kind.name: kind.value for kind in BaseType} == {**kinds.BASE_TYPES, "VECTOR64": 18}
    assert SIZES == kinds.NUMBER_WIDTHS


# Using


def test_table_is_found_by_its_full_name():
    schema = Schema.from_file(SCHEMAS["monster_test"])
    table = schema.table("MyGame.Example.Monster")
    assert table.name == "MyGame.Example.Monster"
    assert repr(table) == "<Table MyGame.Example.Monster of 62 fields>"
    assert table.field_names[:4] == ("pos", "mana", "hp", "name")
    assert table == schema.root
    assert hash(table) == hash(schema.root)
    assert table != schema.table("MyGame.Example2.Monster")
    assert table != "MyGame.Example.Monster"
    # The same of the same schema, loaded again.
    assert table == Schema.from_file(SCHEMAS["monster_test"]).root


@in_one_test
@pytest.mark.parametrize(
    "name", ["", "Monster", "myGame.Example.Monster", "MyGame.Example.Monster ", "MyGame.Example.Color"]
)
def test_unknown_table_is_a_key_error_that_names_those_there_are(name):
    schema = Schema.from_file(SCHEMAS["monster_test"])
    with pytest.raises(KeyError) as caught:
        schema.table(name)
    assert caught.value.args[0].startswith(f"no table {name!r} in this schema; it has MyGame.Example.Monster, MyGame.")


def test_struct_is_no_table():
    schema = Schema.from_file(SCHEMAS["monster_test"])
    with pytest.raises(KeyError) as caught:
        schema.table("MyGame.Example.Vec3")
    assert caught.value.args[0] == "'MyGame.Example.Vec3' is a struct in this schema, not a table"


@in_one_test
@pytest.mark.parametrize("name", [None, 5, b"T", ["T"]])
def test_name_that_is_no_string_is_an_error(name):
    with pytest.raises((KeyError, TypeError)):
        Schema.from_bytes(TINY).table(name)


def test_iteration_gives_all_tables_and_no_structs():
    schema = Schema.from_file(SCHEMAS["monster_test"])
    expected = [
        "MyGame.Example.Monster",
        "MyGame.Example.Referrable",
        "MyGame.Example.Stat",
        "MyGame.Example.TestSimpleTableWithEnum",
        "MyGame.Example.TypeAliases",
        "MyGame.Example2.Monster",
        "MyGame.InParentNamespace",
        "MyGame.OtherNameSpace.TableB",
        "TableA",
    ]
    assert sorted(table.name for table in schema) == expected
    assert [schema.table(table.name) for table in schema] == list(schema)


def test_identifier_and_extension_are_those_of_the_schema():
    expected = {"monster_test": ("MONS", "mon"), "telemetry": ("TELE", "telemetry"), "sample": ("", "")}
    for name, pair in expected.items():
        schema = Schema.from_file(SCHEMAS[name])
        assert (schema.file_identifier, schema.file_extension) == pair


# What a binary schema says is what its text says

SCALARS = {
    "bool": "BOOL",
    "byte": "BYTE",
    "int8": "BYTE",
    "ubyte": "UBYTE",
    "uint8": "UBYTE",
    "short": "SHORT",
    "int16": "SHORT",
    "ushort": "USHORT",
    "uint16": "USHORT",
    "int": "INT",
    "int32": "INT",
    "uint": "UINT",
    "uint32": "UINT",
    "long": "LONG",
    "int64": "LONG",
    "ulong": "ULONG",
    "uint64": "ULONG",
    "float": "FLOAT",
    "float32": "FLOAT",
    "double": "DOUBLE",
    "float64": "DOUBLE",
    "string": "STRING",
}


class Text:
    """A schema as its text has it: as much of the language as these schemas use."""

    def __init__(self, path: Path) -> None:
        text = re.sub(r"//.*", "", path.read_text())
        found = re.search(r"namespace\s+([\w.]+)\s*;", text)
        self.namespace = f"{found[1]}." if found else ""
        self.enums = {name: SCALARS[base] for name, base in re.findall(r"enum\s+(\w+)\s*:\s*(\w+)", text)}
        self.unions = dict(re.findall(r"union\s+(\w+)\s*(?::\s*\w+\s*)?\{(.*?)\}", text, re.DOTALL))
        # Of each table or struct its fields: (name, type, default, attributes).
        self.objects = {
            name: (
                kind,
                re.findall(r"(\w+)\s*:\s*([\w.]+|\[[^\]]*\])\s*(?:=\s*([^;(]+?))?\s*(?:\(([^)]*)\))?\s*;", body),
            )
            for kind, name, body in re.findall(r"\b(table|struct)\s+(\w+)[^{]*\{(.*?)\}", text, re.DOTALL)
        }
        self.root = re.search(r"root_type\s+(\w+)", text)[1]  # type: ignore[index]

    def base(self, written: str) -> str:
        """The name of the base type of what is written there, and of its elements: "VECTOR INT"."""
        if written.startswith("["):
            inner, _, count = written[1:-1].partition(":")
            return f"{'ARRAY' if count else 'VECTOR'} {self.base(inner.strip())}"
        if written in self.unions:
            return "UNION"
        return SCALARS.get(written) or self.enums.get(written) or "OBJ"


TEXTS = {name: path.with_suffix(".fbs") for name, path in SCHEMAS.items() if path.with_suffix(".fbs").exists()}


@in_one_test
@pytest.mark.parametrize("name", sorted(TEXTS))
def test_binary_schema_says_what_its_text_says(name):
    text = Text(TEXTS[name])
    schema = Schema.from_file(SCHEMAS[name])
    info = schema._info
    assert len(text.objects) >= 1
    assert schema.root.name == text.namespace + text.root  # type: ignore[union-attr]
    assert {known.name for known in info.objects} == {text.namespace + known for known in text.objects}
    assert {known.name for known in info.enums if not known.is_union} == {
        text.namespace + known for known in text.enums
    }
    assert {known.name for known in info.enums if known.is_union} == {text.namespace + known for known in text.unions}
    for known in info.objects:
        kind, fields = text.objects[known.name.removeprefix(text.namespace)]
        assert known.is_struct == (kind == "struct")
        assert [field.id for field in known.fields] == list(range(len(known.fields)))
        expected: dict[str, str] = {}
        for field_name, written, _, attributes in fields:
            base = text.base(written)
            if base.endswith("UNION"):
                expected[f"{field_name}_type"] = base.replace("UNION", "UTYPE")
            expected[field_name] = base
            described = next(field for field in known.fields if field.name == field_name)
            assert described.required == ("required" in attributes)
            assert described.deprecated == ("deprecated" in attributes)
            assert described.key == ("key" in attributes)
            if number := re.search(r"\bid:\s*(\d+)", attributes):
                assert described.id == int(number[1])
        bases = {
            field.name: field.type.base.name
            + (f" {field.type.element.name}" if field.type.base in (BaseType.VECTOR, BaseType.ARRAY) else "")
            for field in known.fields
        }
        assert bases == expected
        if kind == "table" and "id:" not in str(fields):
            assert [field.name for field in known.fields] == list(expected)


@pytest.mark.parametrize("version", ["shapes", "shapes_v2"])
def test_defaults_and_enums_are_those_of_the_text(version):
    info = Schema.from_file(SCHEMAS[version])._info
    objects = {known.name: {field.name: field for field in known.fields} for known in info.objects}
    defaults = objects[f"{version}.Defaults"]
    assert {name: field.default_integer for name, field in defaults.items() if not name.startswith("f")} == {
        "truth": 1,
        "i8": -128,
        "u8": 255,
        "i16": -32768,
        "u16": 65535,
        "i32": -(2**31),
        "u32": 2**32 - 1,
        "i64": -(2**63),
        # 2**64 - 1 in the text; flatc 2.0.8 writes no default for what is too much for a long.
        "u64": 0,
        "color": 5,
        "weekday": 65535,
        # Bit 0 and bit 7.
        "access": 129,
    }
    assert (defaults["f32"].default_real, defaults["f64"].default_real) == (0.5, -1.25e100)
    assert defaults["far"].default_integer == 2**63 - 1
    enums = {known.name: known for known in info.enums}
    colors = {value.name: value.value for value in enums[f"{version}.Color"].values}
    assert colors == {"Red": -2, "Green": 0, "Blue": 5} | ({"Violet": 6} if version == "shapes_v2" else {})
    assert enums[f"{version}.Weekday"].underlying.base is BaseType.USHORT
    assert [value.name for value in enums[f"{version}.Choice"].values][:5] == [
        "NONE",
        "Named",
        "Level1",
        "Empty",
        "Tree",
    ]
    assert all(field.optional for field in objects[f"{version}.Optionals"].values())
    assert not any(field.optional for field in objects[f"{version}.Scalars"].values())
    sizes = {known.name.partition(".")[2]: (known.size, known.alignment) for known in info.objects if known.is_struct}
    assert sizes == {
        "Pixel": (1, 1),
        "Point": (8, 4),
        "Mixed": (32, 8),
        "Line": (20, 4),
        "Nest": (64, 8),
        "Grid": (64, 8),
        "Aligned": (16, 16),
    }


# Copies and threads


def test_copy_of_a_schema_works_when_the_original_is_gone():
    copied = copy.copy(Schema.from_bytes(TINY))
    validator = TypedValidator.for_type(copied, "T")
    with pytest.raises(ValidationFailedError, match=r"T refused the payload: t\.t: a required field is missing"):
        validator.validate(bytes(8))


def test_table_and_validator_keep_what_they_need_of_their_schema():
    table = Schema.from_bytes(TINY).table("T")
    assert table.field_names[0] == "n"
    validator = TypedValidator.for_type(Schema.from_bytes(TINY))
    with pytest.raises(ValidationFailedError, match="a required field is missing"):
        validator.validate(bytes(8))


def test_threads_that_load_and_use_one_schema_get_what_one_thread_gets():
    shared = Schema.from_file(SCHEMAS["shapes"])
    data = SCHEMAS["shapes"].read_bytes()
    expected = [(table.name, table.field_names) for table in shared]
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        try:
            barrier.wait(30)
            for _ in range(10):
                for schema in (shared, Schema.from_bytes(data)):
                    assert [(table.name, table.field_names) for table in schema] == expected
                    for table in schema:
                        validator = TypedValidator.for_type(schema, table.name)
                        with pytest.raises(ValidationFailedError):
                            validator.validate(b"\xff" * 16)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


# Damaged schemas

# An empty table, a table that is its own vtable, a vtable that is too long, and what is no message at all.
MESSAGES = (
    b"",
    bytes(8),
    struct.pack("<IHHi", 8, 4, 4, 4),
    struct.pack("<I12HiIIIIII", 28, 24, 24, *range(4, 24, 2), 24, 4, 0, 1, 0, 8, 0),
    struct.pack("<I12HiIIIIII", 28, 24, 24, *([4] * 10), 24, 4, 2, 8, 8, 1, 0),
    b"\xff" * 40,
)


def load_and_use(data: bytes) -> bool:
    """Whether a schema came of it; then every table of it verifies a few messages. No other error may come."""
    try:
        schema = Schema.from_bytes(data)
    except FlatbufferError as error:
        message = str(error)
    else:
        use(schema)
        return True
    assert re.match(r"(not a|damaged|invalid|unsupported) binary schema: ", message)
    return False


def use(schema: Schema) -> None:
    repr(schema)
    for table in schema:
        assert schema.table(table.name) == table
        assert repr(table) == f"<Table {table.name} of {len(table.field_names)} fields>"
        validator = TypedValidator.for_type(schema, table.name)
        for message in MESSAGES:
            try:
                validator.validate(message)
            except ValidationFailedError:
                continue


@in_one_test
@EVERY_SCHEMA
def test_schema_as_flatc_wrote_it_is_loaded_and_used(name):
    assert load_and_use(SCHEMAS[name].read_bytes())


@pytest.mark.parametrize("part", range(4))
def test_every_single_bit_flip_gives_an_error_or_a_schema_that_can_be_used(part):
    outcomes = []
    data = bytearray(TINY)
    for bit in spread(range(part, 8 * len(data), 4), 4):
        data[bit >> 3] ^= 1 << (bit & 7)
        try:
            outcomes.append(load_and_use(bytes(data)))
        except Exception as error:
            raise AssertionError(f"bit {bit}") from error
        data[bit >> 3] ^= 1 << (bit & 7)
    # Neither is rare.
    assert min(outcomes.count(True), outcomes.count(False)) > len(outcomes) // 20


@pytest.mark.parametrize("name", ["tiny", "sample"])
def test_schema_that_was_cut_anywhere_gives_an_error_or_a_schema_that_can_be_used(name):
    data = SCHEMAS[name].read_bytes()
    outcomes = [load_and_use(data[:length]) for length in range(len(data))]
    # What is missing at the end is padding, at most.
    assert sum(outcomes) <= 8


def mutant(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(changed))
        word = min(place & ~3, len(changed) - 4)
        accident = rng.randrange(6)
        if accident == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif accident == 1:
            changed[place] = rng.randrange(256)
        elif accident == 2:
            # A vtable's entry, as often as not.
            struct.pack_into("<H", changed, min(place & ~1, len(changed) - 2), rng.choice((0, 4, 8, 12, 0xFFFF)))
        elif accident == 3:
            struct.pack_into("<I", changed, word, rng.choice((0, 4, 2**31, 2**32 - 1, rng.randrange(len(changed)))))
        elif accident == 4:
            size = 4 * rng.randrange(1, 9)
            begin = rng.randrange(len(changed)) & ~3
            changed[word : word + size] = changed[begin : begin + size]
        else:
            del changed[max(16, len(changed) - rng.randrange(64)) :]
    return bytes(changed)


def fuzz(name: str, seed: int, count: int) -> list[bool]:
    rng = random.Random(seed)
    data = SCHEMAS[name].read_bytes()
    outcomes = []
    for _ in range(count):
        damaged = mutant(rng, data)
        try:
            outcomes.append(load_and_use(damaged))
        except Exception as error:
            raise AssertionError(f"mutant of {name}: {damaged.hex()}") from error
    return outcomes


@in_one_test
@EVERY_SCHEMA
def test_mutant_gives_an_error_or_a_schema_that_can_be_used(name):
    outcomes = fuzz(name, 1, 300 if EVERYTHING else 100)
    assert outcomes.count(False) > 10


@pytest.mark.long
@EVERY_SCHEMA
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_mutants_give_an_error_or_a_schema_that_can_be_used(name, seed):
    fuzz(name, seed, 4000)


# Nonsense, built by hand

Describe = Callable[[Any], int]
"""Writes something into a builder, and gives its offset."""


def table(slots: int, *fields: tuple[int, str, Any]) -> Describe:
    """A table with so many slots, of which these are filled: (slot, kind, value)."""

    def write_table(builder: Any) -> int:
        values = [value(builder) if kind == "offset" else value for _, kind, value in fields]
        builder.StartObject(slots)
        for (slot, kind, _), value in zip(fields, values, strict=True):
            if kind == "offset":
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                # The default is a value that nothing here has, so that everything is written.
                getattr(builder, f"Prepend{kind}Slot")(slot, value, None)
        return int(builder.EndObject())

    return write_table


def text(value: str) -> Describe:
    return lambda builder: builder.CreateString(value)


def many(things: Iterable[Describe]) -> Describe:
    def write_vector(builder: Any) -> int:
        offsets = [thing(builder) for thing in things]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    return write_vector


def kind_of(base: int, element: int = 0, index: int = -1, length: int = 0) -> Describe:
    return table(4, (0, "Int8", base), (1, "Int8", element), (2, "Int32", index), (3, "Uint16", length))


def field(
    name: str, kind: Describe, number: int = 0, place: int | None = None, *more: tuple[int, str, Any]
) -> Describe:
    place = 4 + 2 * number if place is None else place
    return table(
        14, (0, "offset", text(name)), (1, "offset", kind), (2, "Uint16", number), (3, "Uint16", place & 0xFFFF), *more
    )


def table_type(name: str, *fields: Describe, size: int = 0) -> Describe:
    return table(8, (0, "offset", text(name)), (1, "offset", many(fields)), (3, "Int32", 1), (4, "Int32", size))


def struct_type(name: str, size: int, alignment: int, *fields: Describe) -> Describe:
    return table(
        8,
        (0, "offset", text(name)),
        (1, "offset", many(fields)),
        (2, "Bool", True),
        (3, "Int32", alignment),
        (4, "Int32", size),
    )


def enum_type(name: str, base: int, *values: Describe, is_union: bool = False) -> Describe:
    return table(
        7,
        (0, "offset", text(name)),
        (1, "offset", many(values)),
        (2, "Bool", is_union),
        (3, "offset", kind_of(base)),
    )


def enum_value(name: str, value: int, kind: Describe | None = None) -> Describe:
    return table(6, (0, "offset", text(name)), (1, "Int64", value), *([(3, "offset", kind)] if kind else []))


def schema_bytes(
    objects: Iterable[Describe] = (), enums: Iterable[Describe] = (), root: Describe | None = None, builder: Any = None
) -> bytes:
    builder = builder or flatbuffers.Builder(1024)
    fields: list[tuple[int, str, Any]] = [(0, "offset", many(objects)), (1, "offset", many(enums))]
    if root:
        fields.append((4, "offset", root))
    builder.Finish(table(8, *fields)(builder), b"BFBS")
    return bytes(builder.Output())


INT, UBYTE, FLOAT, STRING, VECTOR, OBJ, UNION, ARRAY, VECTOR64, UTYPE = 7, 4, 11, 13, 14, 15, 16, 17, 18, 1
COLOR = enum_type("Color", UBYTE, enum_value("Red", 0))
CHOICE = enum_type("Choice", UTYPE, enum_value("NONE", 0), enum_value("T", 1, kind_of(OBJ, 0, 0)), is_union=True)


def in_table(base: int, element: int = 0, index: int = -1, length: int = 0) -> dict[str, Any]:
    return {"objects": [table_type("T", field("f", kind_of(base, element, index, length)))]}


def in_struct(base: int, element: int = 0, index: int = -1, length: int = 0, size: int = 8) -> dict[str, Any]:
    fields = [field("f", kind_of(base, element, index, length), 0, 0)]
    return {"objects": [struct_type("S", size, 4, *fields), table_type("T")]}


SENSE = {
    "nothing": {},
    "empty table": {"objects": [table_type("T")]},
    "root": {"objects": [table_type("T")], "root": table_type("T")},
    "numbers": in_table(INT),
    "enum": in_table(UBYTE, 0, 0) | {"enums": [COLOR]},
    "vector of strings": in_table(VECTOR, STRING),
    "table in itself": in_table(OBJ, 0, 0),
    "array in a struct": in_struct(ARRAY, UBYTE, -1, 8),
    "union": {
        "objects": [table_type("T", field("u_type", kind_of(UTYPE, 0, 0), 0), field("u", kind_of(UNION, 0, 0), 1))],
        "enums": [CHOICE],
    },
    # flatc writes no size for a table, and what it says does not matter.
    "size of a table": {"objects": [table_type("T", size=2**31 - 1)]},
}


@in_one_test
@pytest.mark.parametrize("name", list(SENSE))
def test_schema_built_by_hand_is_loaded(name):
    """What is refused below is refused for what is wrong in it, and not for the way in which it is built."""
    assert load_and_use(schema_bytes(**SENSE[name]))  # type: ignore[arg-type]


UNION_FIELD = field("u", kind_of(UNION, 0, 0), 1)
NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "base type 99": (in_table(99), "unknown base type 99"),
    "base type -1": (in_table(-1), "unknown base type -1"),
    "element type 99": (in_table(VECTOR, 99), "unknown base type 99"),
    "no type": (in_table(0), "T.f has the type NONE of NONE"),
    "vector of nothing": (in_table(VECTOR), "T.f has the type VECTOR of NONE"),
    "vector of vectors": (in_table(VECTOR, VECTOR), "T.f has the type VECTOR of VECTOR"),
    "vector of arrays": (in_table(VECTOR, ARRAY), "T.f has the type VECTOR of ARRAY"),
    "number of vectors": (in_table(INT, VECTOR), "T.f has the type INT of VECTOR"),
    "object of arrays": (in_table(OBJ, ARRAY, 0), "T.f has the type OBJ of ARRAY"),
    "number of strings": (in_table(INT, STRING), "T.f has the type INT of STRING"),
    "array in a table": (in_table(ARRAY, INT, -1, 2), "T.f is an array, which only a struct can hold"),
    "object out of range": (in_table(OBJ, 0, 1), "T.f refers to object 1 of 1"),
    "object far out of range": (in_table(OBJ, 0, 2**31 - 1), "T.f refers to object 2147483647 of 1"),
    "object before the first": (in_table(OBJ, 0, -1), "T.f refers to object -1 of 1"),
    "object of a vector out of range": (in_table(VECTOR, OBJ, 1), "T.f refers to object 1 of 1"),
    "enum out of range": (in_table(INT, 0, 0), "T.f refers to enum 0 of 0 enums and unions"),
    "enum before the first": (in_table(INT, 0, -2), "T.f refers to enum -2 of 0 enums and unions"),
    "enum is a union": (in_table(UBYTE, 0, 0) | {"enums": [CHOICE]}, "T.f refers to enum 0, which is a union"),
    "union is an enum": (in_table(UNION, 0, 0) | {"enums": [COLOR]}, "T.f refers to union 0, which is an enum"),
    "union out of range": (in_table(UNION, 0, 5), "T.f refers to union 5 of 0 enums and unions"),
    "type of a union out of range": (in_table(UTYPE, 0, -1), "T.f refers to union -1 of 0 enums and unions"),
    "union without a type": (
        {"objects": [table_type("T", UNION_FIELD, field("u_kind", kind_of(INT), 0))], "enums": [CHOICE]},
        "union T.u has no matching type field 'u_type'",
    ),
    "union whose type is a number": (
        {"objects": [table_type("T", field("u_type", kind_of(UBYTE), 0), UNION_FIELD)], "enums": [CHOICE]},
        "union T.u has no matching type field 'u_type'",
    ),
    "union whose type is a vector": (
        {"objects": [table_type("T", field("u_type", kind_of(VECTOR, UTYPE, 0), 0), UNION_FIELD)], "enums": [CHOICE]},
        "union T.u has no matching type field 'u_type'",
    ),
    "vector of unions whose type is none": (
        {
            "objects": [
                table_type("T", field("u_type", kind_of(UTYPE, 0, 0), 0), field("u", kind_of(VECTOR, UNION, 0), 1))
            ],
            "enums": [CHOICE],
        },
        "union T.u has no matching type field 'u_type'",
    ),
    "number in a union": (
        {
            "objects": [table_type("T")],
            "enums": [enum_type("U", UTYPE, enum_value("N", 1, kind_of(INT)), is_union=True)],
        },
        "U.N of type INT cannot be in a union",
    ),
    "object of a union out of range": ({"enums": [CHOICE]}, "Choice.T refers to object 0 of 0"),
    "enum of floats": ({"enums": [enum_type("E", FLOAT)]}, "enum E has the type FLOAT, expected an integer type"),
    "two objects of one name": (
        {"objects": [table_type("T"), table_type("T")]},
        "two objects are named 'T'",
    ),
    "two enums of one name": ({"enums": [COLOR, COLOR]}, "two enums are named 'Color'"),
    "two fields of one name": (
        {"objects": [table_type("T", field("f", kind_of(INT), 0), field("f", kind_of(INT), 1))]},
        "two fields of T have the name 'f' or the offset 6",
    ),
    "two fields of one number": (
        {"objects": [table_type("T", field("f", kind_of(INT), 0), field("g", kind_of(INT), 0))]},
        "two fields of T have the name 'g' or the offset 4",
    ),
    "number that does not fit its place": (
        {"objects": [table_type("T", field("f", kind_of(INT), 1, 4))]},
        "T.f has the number 1 and the vtable offset 4, expected 6",
    ),
    "place at the size of the vtable": (
        {"objects": [table_type("T", field("f", kind_of(INT), 0, 0))]},
        "T.f has the number 0 and the vtable offset 0, expected 4",
    ),
    "number beyond every vtable": (
        {"objects": [table_type("T", field("f", kind_of(INT), 32766))]},
        "T.f has the number 32766 and the vtable offset 0, expected 65536",
    ),
    "number that is required": (
        {"objects": [table_type("T", field("f", kind_of(INT), 0, None, (7, "Bool", True)))]},
        "T.f is required, which no number and no field of a struct can be",
    ),
    "field of a struct that is required": (
        {"objects": [struct_type("S", 4, 4, field("f", kind_of(INT), 0, 0, (7, "Bool", True)))]},
        "S.f is required, which no number and no field of a struct can be",
    ),
    "type of a union that is required": (
        {
            "objects": [
                table_type("T", field("u_type", kind_of(UTYPE, 0, 0), 0, None, (7, "Bool", True)), UNION_FIELD)
            ],
            "enums": [CHOICE],
        },
        "T.u_type is required, which no number and no field of a struct can be",
    ),
    "variant too large for a byte": (
        {"enums": [enum_type("U", UBYTE, enum_value("N", 256), is_union=True)]},
        "U.N has the number 256, which is no UBYTE",
    ),
    "variant too large for its type": (
        {"enums": [enum_type("U", INT, enum_value("M", -(2**31)), enum_value("N", 2**31), is_union=True)]},
        "U.N has the number 2147483648, which is no INT",
    ),
    "variants of one number": (
        {"enums": [enum_type("U", UBYTE, enum_value("M", 1), enum_value("N", 1), is_union=True)]},
        "two variants of U have the number 1",
    ),
    "union with the type of another union": (
        {
            "objects": [table_type("T", field("u_type", kind_of(UTYPE, 0, 1), 0), UNION_FIELD)],
            "enums": [CHOICE, enum_type("Other", INT, enum_value("NONE", 0), is_union=True)],
        },
        "union T.u has no matching type field 'u_type'",
    ),
    "root that is no object": (
        {"objects": [table_type("T")], "root": table_type("R")},
        "the root table 'R' is not among its objects",
    ),
    "struct in itself": (in_struct(OBJ, 0, 0), "struct S contains itself"),
    "array of a struct in itself": (in_struct(ARRAY, OBJ, 0, 1), "struct S contains itself"),
    "structs in each other": (
        {
            "objects": [
                struct_type("A", 4, 4, field("b", kind_of(OBJ, 0, 1), 0, 0)),
                struct_type("B", 4, 4, field("a", kind_of(OBJ, 0, 0), 0, 0)),
            ]
        },
        "struct A contains itself",
    ),
    "table in a struct": (in_struct(OBJ, 0, 1), "S.f is a table, which cannot be in a struct"),
    "string in a struct": (
        in_struct(STRING),
        "S.f cannot be in a struct: expected a scalar, a struct or an array of these",
    ),
    "vector in a struct": (
        in_struct(VECTOR, INT),
        "S.f cannot be in a struct: expected a scalar, a struct or an array of these",
    ),
    "array of strings": (
        in_struct(ARRAY, STRING, -1, 2),
        "S.f cannot be in a struct: expected a scalar, a struct or an array of these",
    ),
    "array beyond the struct": (
        in_struct(ARRAY, INT, -1, 3),
        "S.f, bytes 0 to 12, overlaps another field or ends outside of its struct of 8 bytes",
    ),
    "field beyond the struct": (
        {"objects": [struct_type("S", 4, 4, field("f", kind_of(INT), 0, 2))]},
        "S.f, bytes 2 to 6, overlaps another field or ends outside of its struct of 4 bytes",
    ),
    "fields over each other": (
        {"objects": [struct_type("S", 8, 4, field("a", kind_of(INT), 0, 0), field("b", kind_of(INT), 1, 2))]},
        "S.b, bytes 2 to 6, overlaps another field or ends outside of its struct of 8 bytes",
    ),
    "struct of no bytes": ({"objects": [struct_type("S", 0, 4)]}, "struct S has 0 bytes, aligned to 4"),
    "struct of fewer than no bytes": ({"objects": [struct_type("S", -8, 4)]}, "struct S has -8 bytes, aligned to 4"),
    "struct aligned to 3": ({"objects": [struct_type("S", 12, 3)]}, "struct S has 12 bytes, aligned to 3"),
    "struct that ends unaligned": ({"objects": [struct_type("S", 6, 4)]}, "struct S has 6 bytes, aligned to 4"),
}


@in_one_test
@pytest.mark.parametrize("name", list(NONSENSE))
def test_nonsense_is_refused_with_its_place(name):
    described, what = NONSENSE[name]
    with pytest.raises(FlatbufferError) as caught:
        Schema.from_bytes(schema_bytes(**described))
    assert str(caught.value) == f"invalid binary schema: {what}"


def test_root_that_is_a_struct_is_refused():
    data = schema_bytes([struct_type("S", 4, 4)], root=struct_type("S", 4, 4))
    with pytest.raises(FlatbufferError, match=r"invalid binary schema: the root 'S' is a struct"):
        Schema.from_bytes(data)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (in_table(VECTOR64, INT), "unsupported binary schema: T.f is a vector with 64-bit offsets"),
        (
            {"objects": [table_type("T", field("f", kind_of(INT), 0, None, (13, "Bool", True)))]},
            "unsupported binary schema: field 'f' has 64-bit offsets",
        ),
    ],
)
def test_what_is_not_supported_is_refused(described, message):
    with pytest.raises(FlatbufferError) as caught:
        Schema.from_bytes(schema_bytes(**described))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("missing", "path"),
    [
        (table(8), "schema.objects"),
        (table(8, (0, "offset", many([table(8)])), (1, "offset", many([]))), "schema.objects[0].name"),
        (
            table(
                8, (0, "offset", many([table_type("T", table(14, (0, "offset", text("f"))))])), (1, "offset", many([]))
            ),
            "schema.objects[0].fields[0].type",
        ),
    ],
)
def test_schema_without_what_is_required_is_refused_with_the_path(missing, path):
    builder = flatbuffers.Builder(256)
    builder.Finish(missing(builder), b"BFBS")
    with pytest.raises(FlatbufferError) as caught:
        Schema.from_bytes(bytes(builder.Output()))
    assert str(caught.value).startswith(f"damaged binary schema: {path}: a required field is missing from the table")


@in_one_test
@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, 1])
def test_size_of_a_table_may_be_anything_or_is_refused(size):
    load_and_use(schema_bytes([table_type("T", size=size)]))


def chain_of_structs(count: int, inner_first: bool) -> bytes:
    """Each struct is the only field of the next."""
    last = 0 if inner_first else count - 1
    step = -1 if inner_first else 1
    return schema_bytes(
        struct_type(f"S{i}", 4, 4, field("f", kind_of(INT) if i == last else kind_of(OBJ, 0, i + step), 0, 0))
        for i in range(count)
    )


@pytest.mark.parametrize("inner_first", [False, True])
def test_structs_in_structs_are_loaded_up_to_a_depth_and_refused_beyond(inner_first):
    assert load_and_use(chain_of_structs(100, inner_first))
    for count in (101, 102, 2000):
        with pytest.raises(FlatbufferError) as caught:
            Schema.from_bytes(chain_of_structs(count, inner_first))
        assert str(caught.value) == "invalid binary schema: structs are nested deeper than 100"


@pytest.mark.parametrize("inner_first", [False, True])
def test_structs_that_hold_the_next_twice_are_looked_at_once_each(inner_first):
    # Arrays of no elements take no room, so nothing else ends this: 2**60 ways lead to the last.
    count = 60
    following = [i - 1 if inner_first else i + 1 for i in range(count)]
    data = schema_bytes(
        struct_type(
            f"S{i}",
            4,
            4,
            *(
                field(name, kind_of(ARRAY, OBJ, following[i], 0), place, place)
                for place, name in enumerate("ab")
                if 0 <= following[i] < count
            ),
        )
        for i in range(count)
    )
    started = time.monotonic()
    load_and_use(data)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("count", [1, 2, 32_765])
def test_table_with_as_many_fields_as_a_vtable_holds_is_loaded(count):
    kind = kind_of(INT)
    # The compiled builder, because this many are slow with the package's.
    data = schema_bytes(
        [table_type("T", *(field(f"f{i}", kind, i) for i in range(count)))], builder=flatstream.Builder(1024)
    )
    schema = Schema.from_bytes(data)
    assert schema.table("T").field_names == tuple(f"f{i}" for i in range(count))
    last = 4 + 2 * (count - 1)
    # Only the last field, a number right behind the table's offset.
    vtable = struct.pack("<2H", last + 2, 8) + bytes(last - 4) + struct.pack("<H", 4)
    table_at = 4 + len(vtable) + (-len(vtable) % 4)
    message = struct.pack("<I", table_at) + vtable.ljust(table_at - 4, b"\0") + struct.pack("<iI", table_at - 4, 1)
    validator = TypedValidator.for_type(schema, "T")
    validator.validate(message)
    with pytest.raises(ValidationFailedError) as caught:
        validator.validate(message[:-1])
    assert caught.value.path == f"t.f{count - 1}"


def test_table_with_more_fields_than_a_vtable_holds_is_refused():
    kind = kind_of(INT)
    fields = (field(f"f{i}", kind, i) for i in range(32_767))
    with pytest.raises(FlatbufferError, match="invalid binary schema: "):
        Schema.from_bytes(schema_bytes([table_type("T", *fields)], builder=flatstream.Builder(1024)))


def shared(thing: Describe) -> Describe:
    """The same thing wherever it stands: written once."""
    return functools.cache(thing)


def test_small_schema_that_says_everything_very_often_is_refused_before_it_takes_memory():
    """A FlatBuffer may refer to one thing a thousand times; nested twice, that is a million things out of 10 kB."""
    documentation = (10, "offset", shared(many([shared(text("x" * 1000))] * 100)))
    one_field = shared(field("f", shared(kind_of(INT)), 0, None, documentation))
    one_table = shared(table_type("T", *[one_field] * 100))
    data = schema_bytes([one_table] * 10)
    assert len(data) < 4000
    tracemalloc.start()
    try:
        with pytest.raises(FlatbufferError):
            Schema.from_bytes(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


def test_enums_whose_values_are_described_by_tables_in_tables_are_no_recursion():
    """`object` of an enum value is a whole object; flatc no longer writes it, and nobody reads it here."""
    value = table(6, (0, "offset", text("V")), (1, "Int64", 1), (2, "offset", table_type("Inner")))
    assert load_and_use(schema_bytes([table_type("T")], [enum_type("E", INT, value)]))
