"""Unions in records that are written: how a variant is named, and what is refused."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest

from flatstream import (
    RecordWriter,
    StreamReader,
    StreamWriter,
)
from support.messages import root_at
from support.records import NamedData, encoded, slots_of, table_of
from support.schemas import UNIONS, generated


def test_unions_are_taken_in_every_form():
    table = table_of("Unions")
    must: Any = ("Empty", {})
    fields: dict[str, Any]
    expected = encoded(table, {"choice_type": "Named", "choice": {"name": "n"}, "must": must})
    for fields in (
        {"choice_type": 1, "choice": ("n",)},
        {"choice": ("Named", {"name": "n"})},
        {"choice": (1, ["n"])},
        {"choice": ("Named", NamedData("n"))},
        {"choice_type": "Named", "choice": {"Named": {"name": "n"}, "Level1": None, "Empty": None, "Tree": None}},
        {"choice_type": 1, "choice": {"Named": ["n"]}},
    ):
        assert encoded(table, {**fields, "must": must}) == expected
    read = generated("Unions").Unions.GetRootAs(expected, 0)
    assert (read.ChoiceType(), read.OtherType(), read.MustType()) == (1, 0, 3)
    absent = encoded(table, {"must": must})
    for fields in (
        {"choice_type": "NONE"},
        {"choice_type": 0, "choice": None},
        {"choice": None},
        {"choice_type": None},
    ):
        assert encoded(table, {**fields, "must": must}) == absent
    for fields, match in (
        ({"choice_type": "Named"}, r"^choice: the type of the union is Named, but its value is missing$"),
        ({"choice_type": 0, "choice": {}}, r"^choice: the type of the union is NONE, which has no value, got dict$"),
        (
            {"choice_type": 9, "choice": {}},
            r"^choice: expected a variant of shapes\.Choice \(NONE, Named, .*\), got 9$",
        ),
        ({"choice": ("Nmed", {})}, r"^choice: expected an enumerator of shapes\.Choice"),
        ({"choice": ("Named", {"nam": 1})}, r"^choice: shapes\.Named has no field 'nam'"),
        (
            {"choice": {"name": "n"}},
            (
                r"^choice: expected \(variant, value\), for example \('Named', \{\.\.\.\}\), or the variant in field "
                r"'choice_type'; the variants of shapes\.Choice are NONE, Named, .*; got dict: \{'name': 'n'\}$"
            ),
        ),
        ({"choice_type": 256, "choice": {}}, r"^choice_type: expected the type of a union, 0 to 255, got 256$"),
        ({"choice": (1, 2, 3)}, r"^choice: expected \(variant, value\)"),
        (
            {"choice_type": "Named", "choice": ("Named", {"name": "n"})},
            (
                r"^choice: the type of the union is given twice, as 'Named' and in \('Named', .*\); "
                r"if the tuple is a record, pass a list instead$"
            ),
        ),
        ({"choice": {"Named": {"name": "n"}}}, r"^choice: expected \(variant, value\)"),
        (
            {"choice_type": "Named", "choice": {"Named": {"name": "n"}, "Empty": {}}},
            r"^choice: the type of the union is Named, but there is a value for Empty$",
        ),
        ({"choice_type": "Named", "choice": {"Empty": {}}}, r"^choice: shapes\.Named has no field 'Empty'"),
        (
            {"choice_type": "Named", "choice": {"Named": None}},
            r"^choice: the type of the union is Named, but its value is missing$",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            encoded(table, {**fields, "must": must})


def test_view_of_a_record_says_which_variant_of_a_union_it_is():
    table = table_of("Unions")
    record = table.view(encoded(table, {"choice": ("Named", {"name": "n", "code": 5}), "must": ("Empty", {})}))
    again = encoded(table, {"choice": record.choice, "other": record.choice, "must": record.must})
    read = generated("Unions").Unions.GetRootAs(again, 0)
    assert (read.ChoiceType(), read.OtherType(), read.MustType()) == (1, 1, 3)
    assert encoded(table, record) == encoded(table, record.to_dict()) == encoded(table, record.to_dict(enums="name"))
    with pytest.raises(
        TypeError, match=r"^other: expected \(variant, value\), .* in field 'other_type'; .* got RecordView: "
    ):
        encoded(table, {"other": record, "must": record.must})
    assert UNIONS.root is not None
    # Two variants of the same type: which it is cannot be told.
    things = UNIONS.root.view(encoded(UNIONS.root, {"things": [("First", (1, 2)), ("Wide", (3, 4))]})).things
    with pytest.raises(
        TypeError, match=r"^anything: expected \(variant, value\), for example \('Named', \{\.\.\.\}\), or "
    ):
        encoded(UNIONS.root, {"anything": things[0]})
    assert UNIONS.root.view(encoded(UNIONS.root, {"anything": things[1]})).anything.b == 4


def test_records_are_copied_from_one_stream_to_another():
    sink, copy = io.BytesIO(), io.BytesIO()
    table = table_of("Shape")
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, table)
        records.write(
            title="ü", id=2**64 - 1,
            vectors={"i32s": [1, 2], "strings": ["a", ""], "points": [(1, 2)], "named": [("n",)]},
            choice=("Tree", {"value": 3, "children": [{"label": "x"}]}), optionals={"i8": 0},
        )  # fmt: skip
        records.write()
    with StreamReader(sink.getvalue()) as reader, StreamWriter(copy) as writer:
        assert RecordWriter(writer, table).write_records(reader.records(table)) == 2
    views = [[table.view(payload) for payload in StreamReader(stream.getvalue())] for stream in (sink, copy)]
    assert views[0] == views[1]
    assert views[0][0].choice.children[0].label == "x"


def test_unions_of_structs_and_strings_and_vectors_of_unions():
    assert UNIONS.root is not None
    root = UNIONS.root
    cases = {
        "Named": {"name": "n"}, "First": (1.5, 2.5), "Second": {"x": 3, "y": 4}, "Wide": (5, 6.5), "Text": "täxt",
        "Holder": {"must_type": ["Named"], "must": [("n",)]},
    }  # fmt: skip
    for name, value in cases.items():
        single = encoded(root, {"anything_type": name, "anything": value})
        assert encoded(root, {"anything": (name, value)}) == single
    many = encoded(root, {"things_type": list(cases), "things": list(cases.values())})
    assert encoded(root, {"things": list(cases.items())}) == many
    by_number = [UNIONS.table("unions.Root").layout.enums[0].by_name[name] for name in cases]
    for types_ in (bytes(by_number), np.array(by_number, "u1"), np.array(by_number), by_number):
        assert encoded(root, {"things_type": types_, "things": list(cases.values())}) == many
    # The place of each, by hand.
    position = root_at(many)
    vtable = position - struct.unpack_from("<i", many, position)[0]
    at = position + struct.unpack_from("<H", many, vtable + 4 + 2 * 3)[0]
    vector = at + struct.unpack_from("<I", many, at)[0]
    assert struct.unpack_from("<I", many, vector)[0] == len(cases)
    text = vector + 4 + 4 * 4
    text += struct.unpack_from("<I", many, text)[0]
    assert many[text + 4 : text + 9] == "täxt".encode()
    point = vector + 4 + 4 * 1
    assert struct.unpack_from("<ff", many, point + struct.unpack_from("<I", many, point)[0]) == (1.5, 2.5)
    assert slots_of(encoded(root, {"things": []})) == 2
    for fields, match in (
        ({"things_type": ["Named"]}, r"^things: expected as many values as types, got 0 and 1$"),
        ({"things_type": ["Text"], "things": [5]}, r"^things\[0\]: expected a str, or bytes of UTF-8, got int"),
        ({"things": [("NONE", None)]}, r"^things\[0\]: an element of a vector of unions must have a value$"),
        ({"things": [None]}, r"^things\[0\]: an element of a vector of unions must have a value$"),
        ({"things": [("Wide", (1,))]}, r"^things\[0\]\.b: field 'b' of struct unions\.Wide is missing"),
        ({"holder": {"choices": []}}, r"^holder\.must: a required field is missing$"),
        ({"things": 5}, r"^things: expected a sequence"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            encoded(root, fields)


def test_union_of_the_object_api_is_told_by_its_own_type_field():
    made = generated("Unions").UnionsT()
    made.mustType, made.must = 4, generated("Tree").TreeT()
    made.must.value = 9
    read = generated("Unions").Unions.GetRootAs(encoded(table_of("Unions"), made), 0)
    assert read.MustType() == 4
