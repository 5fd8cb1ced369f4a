"""Schemas as text: flatc compiles it to the same types, whatever schema it was."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, note, reject, settings
from hypothesis import strategies as st

from flatstream import FlatbufferError, Schema
from flatstream.schema._fbs import _BUILT_IN_ATTRIBUTES
from flatstream.schema._reflection import SIZES, EnumInfo, FieldInfo, ObjectInfo, SchemaInfo
from support.records import encoded
from support.schema_sweep import PlainMaking, random_records, schema_files
from support.schema_texts import NO_SHRINKING, RandomSchema

FILES = schema_files()
OWN = [name for name in FILES if "." not in name]
# flatc 25 refuses what flatc 2.0.8 took: arrays of an enum without the value 0 in structs.
REFUSED = ("shapes", "shapes_v2")


def comparable(info: SchemaInfo) -> str:
    """All that a schema says, but for what compilers write differently, and for attributes with a meaning, which are
    left out without ``--bfbs-builtins``. Text, because NaN is not equal to itself.
    """

    def own(attributes: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in attributes.items() if name not in _BUILT_IN_ATTRIBUTES}

    def of_field(field: FieldInfo) -> FieldInfo:
        return replace(field, optional=field.optional and field.type.base in SIZES, attributes=own(field.attributes))

    def of_object(each: ObjectInfo) -> ObjectInfo:
        fields = tuple(map(of_field, each.fields))
        return replace(
            each, fields=fields, alignment=each.alignment if each.is_struct else 0, attributes=own(each.attributes)
        )

    def of_enum(each: EnumInfo) -> EnumInfo:
        return replace(each, underlying=replace(each.underlying, index=0), attributes=own(each.attributes))

    return repr(replace(info, objects=tuple(map(of_object, info.objects)), enums=tuple(map(of_enum, info.enums))))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OWN else pytest.mark.long) for name in FILES if name not in REFUSED]
)
def test_schema_of_a_file_is_compiled_to_the_same_types(name):
    schema = Schema.from_file(FILES[name])
    again = Schema.from_fbs(text=schema.to_fbs())
    assert comparable(again._info) == comparable(schema._info)
    assert again.to_fbs() == schema.to_fbs() or "required" in again.to_fbs()
    assert again.check_evolution(schema) == []


@pytest.mark.parametrize("name", REFUSED)
def test_text_of_an_older_schema_is_refused_for_its_arrays_only(name):
    text = Schema.from_file(FILES[name]).to_fbs()
    with pytest.raises(ValueError, match="default value of `0` for field `days` is not part of enum `Weekday`"):
        Schema.from_fbs(text=text)
    compiled = Schema.from_fbs(text=text.replace("[Weekday:2]", "[ushort:2]"))
    assert list(compiled.tables) == list(Schema.from_file(FILES[name]).tables)


def check_random_schema(chance: random.Random) -> None:
    text = RandomSchema(chance).text()
    try:
        schema = Schema.from_fbs(text=text)
    except ValueError:
        # Types of one name in several namespaces: flatc took another one for it.
        reject()
    try:
        written = schema.to_fbs()
    except FlatbufferError as error:
        if "cannot be told from another type" not in str(error):
            raise
        reject()
    note(written)
    again = Schema.from_fbs(text=written)
    # flatc was the same one: even comments and attributes are.
    assert repr(again._info) == repr(schema._info)
    assert again.to_fbs() == written
    assert not again.check_evolution(schema)
    assert not schema.check_evolution(again)
    for table in schema:
        for record in random_records(table, 1, 1, PlainMaking):
            try:
                message = encoded(table, record)
            except ValueError as error:
                # A table that requires itself has no record that ends.
                if "a required field is missing" not in str(error):
                    raise
                continue
            assert message == encoded(again.tables[table.name], record)
            assert repr(again.tables[table.name].view(message).to_dict()) == repr(table.view(message).to_dict())


@settings(max_examples=15, phases=NO_SHRINKING)
@given(st.randoms(use_true_random=False))
def test_random_schema_is_compiled_to_the_same_types(chance):
    check_random_schema(chance)


@pytest.mark.long
@settings(max_examples=300, phases=NO_SHRINKING)
@given(st.randoms(use_true_random=False))
def test_300_random_schemas_are_compiled_to_the_same_types(chance):
    check_random_schema(chance)


def test_text_is_readable():
    text = """namespace sky;

/// What it looks like.
enum Color : ubyte (bit_flags) {
  Red,
  /// and warm
  Yellow = 3,
}

struct Point (force_align: 8) {
  x: float;
  y: [short:2];
}

union Thing {
  Star: Star,
  Name: string,
}

table Star {
  at: Point (required);
  color: Color = Yellow;
  magnitude: double = -1.5;
  seen: long = null;
  near: [Star];
  thing: Thing;
}

root_type Star;
file_identifier "STAR";
file_extension "sky";
"""
    assert Schema.from_fbs(text=text).to_fbs().lstrip() == text


# Binary schemas that no compiler made


def info_of(text: str) -> SchemaInfo:
    return Schema.from_fbs(text=text)._info


EVIL = "x: int; } table Evil { y"


def forged() -> list[tuple[SchemaInfo, str]]:
    """Schemas that pass as such, and cannot be written."""
    info = info_of(
        "enum E : ubyte (bit_flags) { A, B } table T { a:int (id:0); b:int (id:1); } union U { T } table V { u:U; }"
    )
    table, holder = info.objects
    enum, union = info.enums

    def with_field(**changes: Any) -> SchemaInfo:
        return replace(
            info, objects=(replace(table, fields=(replace(table.fields[0], **changes), table.fields[1])), holder)
        )

    type_field, union_field = holder.fields
    return [
        (with_field(name=EVIL), "'x: int; } table Evil { y' is not a name"),
        (with_field(attributes={"a b": "0"}), "'a b' is not a name"),
        (with_field(id=7, offset=18), "the fields of T are not numbered one after another"),
        (replace(info, objects=(replace(table, name="T; }"), holder)), "'T; }' is not a name"),
        (replace(info, objects=(replace(table, name="a..T"), holder)), "'' is not a name"),
        (replace(info, objects=(replace(table, name="größe.T"), holder)), "'größe' is not a name"),
        (
            replace(info, enums=(replace(enum, values=(replace(enum.values[0], value=3),)), union)),
            "E.A has the value 3, which is no flag",
        ),
        (
            replace(info, enums=(replace(enum, values=(replace(enum.values[0], name="A B"),)), union)),
            "'A B' is not a name",
        ),
        (
            replace(
                info,
                objects=(
                    table,
                    replace(
                        holder,
                        fields=(replace(union_field, id=0, offset=4), replace(type_field, id=1, offset=6)),
                    ),
                ),
            ),
            "the type of the union V.u does not precede it",
        ),
        (
            replace(info, objects=(table, replace(holder, fields=(type_field,)))),
            "V has the type of a union, and no union",
        ),
    ]


def test_forged_schema_is_refused_or_harmless():
    for info, reason in forged():
        with pytest.raises(FlatbufferError) as caught:
            Schema(info).to_fbs()
        assert str(caught.value) == f"this schema cannot be written as text: {reason}"
    # Comments and attributes can hold anything: they stay what they are.
    info = info_of('attribute "mine"; table T { a:int (mine: "x"); }')
    table = info.objects[0]
    value = 'x"); } table Evil { y:int (mine: "\n\r\x00\x7f\\'
    info = replace(
        info,
        objects=(
            replace(
                table,
                documentation=("one\ntable Evil { }", "\r\x0b\x0c\u2028table Evil { }", ""),
                fields=(replace(table.fields[0], attributes={"mine": value}),),
            ),
        ),
    )
    compiled = Schema.from_fbs(text=Schema(info).to_fbs())
    assert list(compiled.tables) == ["T"]
    assert compiled.tables["T"].fields["a"].attributes == {"mine": value}
