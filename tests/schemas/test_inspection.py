"""What a schema says of itself in public: tables, structs, enums, unions and their fields, as text and as HTML."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest

from flatstream import Schema
from flatstream.schema import Enum, Field, Struct, Table
from support.html_tables import Cells
from support.schemas import SHAPES, VECTORS

SCHEMA = Schema.from_fbs(
    text="""
namespace other;
table Far {}
namespace a.b;
attribute "unit";
/// Colors,
///   indented.
enum Color : ulong (bit_flags) {
  /// warm
  Red,
  Last = 63
}
enum Level : short { Low = -1, Middle, High }
struct Point (force_align: 16) { x:float; y:[Level:3]; }
union Choice { Far:other.Far, Point, Text:string }
/// A table
table T (unit: "none") {
  number:int = -7;
  none:double = null;
  real:float = nan;
  flag:bool = true;
  color:Color = Last;
  level:Level = High;
  gone:int (deprecated);
  name:string (required, key);
  bytes:[ubyte] (nested_flatbuffer: "T");
  points:[Point];
  /// the choice
  choice:Choice;
  choices:[Choice];
  far:other.Far;
  length:long (unit: "m");
}
root_type T;
"""
)
TABLE = SCHEMA.tables["a.b.T"]


def test_types_of_a_schema_are_found_by_name_in_order():
    assert SCHEMA.tables == {"a.b.T": TABLE, "other.Far": SCHEMA.table("other.Far")}
    assert list(SCHEMA.structs) == ["a.b.Point"]
    assert list(SCHEMA.enums) == ["a.b.Choice", "a.b.Color", "a.b.Level"]
    assert SCHEMA.root == TABLE
    assert TABLE.documentation == ("A table",)
    assert TABLE.attributes == {"unit": "none"}
    assert tuple(TABLE.fields) == TABLE.field_names


def test_fields_of_a_table_say_type_default_and_attributes():
    def told(name: str) -> tuple[object, ...]:
        field = TABLE.fields[name]
        return field.type, field.kind, field.element, field.type_name, field.default

    expected = {
        "number": ("int", "int", None, None, -7),
        "none": ("double", "double", None, None, None),
        "flag": ("bool", "bool", None, None, True),
        "color": ("Color", "ulong", None, "a.b.Color", 0),  # The default, 2**63, is none that a binary schema has.
        "level": ("Level", "short", None, "a.b.Level", 1),
        "name": ("string", "string", None, None, None),
        "bytes": ("[ubyte]", "vector", "ubyte", None, None),
        "points": ("[Point]", "vector", "struct", "a.b.Point", None),
        "choice_type": ("type of Choice", "union type", None, "a.b.Choice", 0),
        "choice": ("Choice", "union", None, "a.b.Choice", None),
        "choices_type": ("[type of Choice]", "vector", "union type", "a.b.Choice", None),
        "choices": ("[Choice]", "vector", "union", "a.b.Choice", None),
        "far": ("other.Far", "table", None, "other.Far", None),
    }
    assert {name: told(name) for name in expected} == expected
    fields = TABLE.fields
    assert math.isnan(fields["real"].default)  # type: ignore[arg-type]
    assert [field.id for field in fields.values()] == list(range(16))
    assert [field.offset for field in fields.values()] == list(range(4, 36, 2))
    assert {name for name, field in fields.items() if field.optional} == {"none"}
    assert {name for name, field in fields.items() if field.deprecated} == {"gone"}
    assert {name for name, field in fields.items() if field.required} == {"name"}
    assert {name for name, field in fields.items() if field.key} == {"name"}
    assert fields["length"].attributes == {"unit": "m"}
    assert fields["bytes"].attributes == {"nested_flatbuffer": "T"}
    assert fields["choice"].documentation == ("the choice",)


def test_structs_and_enums_say_what_they_hold():
    point = SCHEMA.structs["a.b.Point"]
    assert (point.size, point.alignment, point.attributes) == (16, 16, {"force_align": "16"})
    array = point.fields["y"]
    assert (array.type, array.kind, array.element, array.length, array.offset) == ("[Level:3]", "array", "short", 3, 4)
    assert point.fields["x"].default is None
    color = SCHEMA.enums["a.b.Color"]
    assert (color.type, color.bit_flags, color.is_union) == ("ulong", True, False)
    assert [(value.name, value.value) for value in color.values] == [("Red", 1), ("Last", 2**63)]
    assert color.documentation == ("Colors,", "  indented.")
    assert color.values[0].documentation == ("warm",)
    level = SCHEMA.enums["a.b.Level"]
    assert [(value.name, value.value) for value in level.values] == [("Low", -1), ("Middle", 0), ("High", 1)]
    choice = SCHEMA.enums["a.b.Choice"]
    assert (choice.type, choice.bit_flags, choice.is_union) == ("ubyte", False, True)
    assert [(value.name, value.value, value.type_name) for value in choice.values] == [
        ("NONE", 0, None),
        ("Far", 1, "other.Far"),
        ("Point", 2, "a.b.Point"),
        ("Text", 3, "string"),
    ]


def test_reprs_are_short():
    assert [
        repr(value)
        for value in (SCHEMA, TABLE, TABLE.fields["points"], SCHEMA.structs["a.b.Point"], *SCHEMA.enums.values())
    ] == [
        "<Schema of 2 tables, root a.b.T>",
        "<Table a.b.T of 16 fields>",
        "<Field points: [Point]>",
        "<Struct a.b.Point of 2 fields, 16 bytes>",
        "<Union a.b.Choice of 4 variants>",
        "<Enum a.b.Color of 2 values>",
        "<Enum a.b.Level of 3 values>",
    ]
    assert repr(SCHEMA.enums["a.b.Color"].values[0]) == "<EnumValue Red = 1>"


def test_what_is_told_can_be_compared_and_not_be_changed():
    again = Schema.from_bytes(SCHEMA._data or b"")
    assert again.structs == SCHEMA.structs
    assert again.enums == SCHEMA.enums
    assert len({*SCHEMA.structs.values(), *again.structs.values()}) == 1
    assert len({*SCHEMA.enums.values(), *again.enums.values()}) == 3
    for value in (SCHEMA.structs["a.b.Point"], SCHEMA.enums["a.b.Color"], TABLE.fields["name"]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.name = "other"  # type: ignore[misc]
    # Nobody else has the dict that is returned.
    TABLE.fields.clear()
    TABLE.fields["length"].attributes.clear()
    SCHEMA.tables.clear()
    TABLE.attributes.clear()
    assert TABLE.fields["length"].attributes == {"unit": "m"}
    assert TABLE.attributes == {"unit": "none"}
    assert SCHEMA.tables


def test_binary_schema_is_given_back():
    assert Schema.from_bytes(SHAPES.to_bytes()) == SHAPES
    with pytest.raises(TypeError, match=r"^this Schema has no binary schema"):
        Schema(SHAPES._info).to_bytes()


def test_every_schema_of_the_tree_is_told():
    monster = Schema.from_file(VECTORS / "verifier" / "monster_test.bfbs")
    for schema in (SHAPES, monster):
        values: list[Table | Struct] = [*schema.tables.values(), *schema.structs.values()]
        for value in values:
            assert all(isinstance(field, Field) for field in value.fields.values())
    fields = monster.tables["MyGame.Example.Monster"].fields
    assert fields["friendly"].attributes["priority"] == "1"
    assert fields["parent_namespace_test"].type == "MyGame.InParentNamespace"


# In a notebook


def rows_of(value: Schema | Table | Struct | Enum) -> list[list[str]]:
    return Cells(value._repr_html_()).rows


def test_html_of_a_table_shows_fields_with_types_defaults_and_comments():
    rows = {row[1]: row for row in rows_of(TABLE)}
    assert list(rows)[1:] == list(TABLE.fields)
    assert rows["number"] == ["0", "number", "int", "-7", "", ""]
    assert rows["none"][3] == "null"
    assert rows["real"][3] == "nan"
    assert rows["flag"][3] == "true"
    assert rows["level"][3] == "High"
    assert rows["name"][4] == "required, key"
    assert rows["length"][4] == "unit"
    assert rows["choice"][5] == "the choice"


def test_html_of_a_schema_shows_its_types():
    assert [row[:3] for row in rows_of(SCHEMA)[1:]] == [
        ["root table", "a.b.T", "16 fields"],
        ["table", "other.Far", "0 fields"],
        ["struct", "a.b.Point", "2 fields, 16 bytes"],
        ["union", "a.b.Choice", "4 variants"],
        ["enum", "a.b.Color", "2 values"],
        ["enum", "a.b.Level", "3 values"],
    ]
    assert rows_of(SCHEMA.structs["a.b.Point"])[1:] == [["0", "x", "float", ""], ["4", "y", "[Level:3]", ""]]
    assert rows_of(SCHEMA.enums["a.b.Level"])[1:] == [["-1", "Low", ""], ["0", "Middle", ""], ["1", "High", ""]]
    assert rows_of(SCHEMA.enums["a.b.Choice"])[4] == ["3", "Text", "string", ""]


def test_html_is_escaped_and_bounded():
    text = "/// <script>alert('&')</script>\ntable T {\n/// <b>\nx:int;"
    text += "".join(f"f{number}:int;" for number in range(500)) + "} root_type T;"
    table = Schema.from_fbs(text=text).tables["T"]
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in table._repr_html_()
    assert "&lt;b&gt;" in table._repr_html_()
    assert "301 more" in table._repr_html_()
    assert len(rows_of(table)) == 201


def test_loading_a_schema_imports_neither_flatc_nor_html():
    code = (
        "import sys; from flatstream import Schema; Schema.from_file(sys.argv[1]).root;"
        "print([name for name in ('subprocess', 'tempfile', 'html', 'flatstream.schema._html') if name in sys.modules])"
    )
    path = VECTORS / "verifier" / "monster_test.bfbs"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
