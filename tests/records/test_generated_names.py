"""Objects of flatc's object API keep every field, whatever flatc 2.0.8 or flatc 25 made of its name."""

from __future__ import annotations

import csv
import importlib
import types
from typing import Any

import flatbuffers
import pytest

from flatstream import Builder, Schema
from flatstream._core.records.record_fields import generated_names
from support.extent import in_one_test
from support.records import encoded
from support.schemas import SCHEMAS, generated, schema_of

NAMES = schema_of("names")
TABLE = NAMES.table("names.Attributes")

VERSIONS = ["names", "names_25"]


def rows() -> list[list[str]]:
    with (SCHEMAS / "attribute_names.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_names_of_attributes_are_those_that_flatc_made() -> None:
    assert len(rows()) == 406
    assert [(name, *generated_names(name)) for name, _, _ in rows()] == [
        (name, old) if old == new else (name, old, new) for name, old, new in rows()
    ]


def classes(version: str) -> types.SimpleNamespace:
    found = {name: importlib.import_module(f"{version}.{name}") for name in ("Attributes", "Leaf", "Point3D")}
    for module in found.values():
        # flatc 2.0.8 leaves out the import of a table's own module.
        module.__dict__.setdefault(version, importlib.import_module(version))
    return types.SimpleNamespace(**{name: getattr(module, f"{name}T") for name, module in found.items()})


def filled(version: str) -> Any:
    """An object with a value of its own in each field, through the attributes that stand in the generated code."""
    known = classes(version)

    def point(n: float) -> Any:
        made = known.Point3D()
        made.x, made.yPos, made.level = n, n + 0.5, 1
        setattr(made, "z2axis" if version == "names" else "z2Axis", int(n) + 7)
        return made

    def leaf(text: str) -> Any:
        made = known.Leaf()
        made.textValue = text
        return made

    made = known.Attributes()
    made.useRmsnorm, made.objectName, made.timeNs, made.x2y, made.snakeCase2 = True, "ISS", 3, 6, 7.5
    made.trailing_, made.two_parts, made.a, made.ids, made.rawBytes2 = 9, 10, 11, [12, 13], [14, 15]
    made.from_, made.class_, made.pack, made.initFromBuf = "from", 17, 18, 19
    made.choiceType, made.choice, made.otherChoice1Type, made.otherChoice1 = 1, leaf("c"), 2, known.Attributes()
    made.otherChoice1.objectName = "inner"
    made.points, made.leafList, made.namesList = [point(1), point(2)], [leaf("l")], ["n", "m"]
    made.kind2, made.maybeX = 0, 25
    if version == "names":
        made.vector3d, made.http2server, made.x1y, made.Private = point(3), 4, 5, 8
    else:
        made.vector3D, made.http2Server, made.x1Y, made._Private = point(3), 4, 5, 8
    return made


def point(n: float) -> dict[str, Any]:
    return {"X": n, "Y_pos": n + 0.5, "z2Axis": int(n) + 7, "LEVEL": 1}


# By the names of the schema.
EXPECTED = {
    "useRMSNorm": True,
    "OBJECT_NAME": "ISS",
    "time_ns": 3,
    "Vector3D": point(3),
    "HTTP2Server": 4,
    "x1Y": 5,
    "X_2y": 6,
    "snake_case_2": 7.5,
    "_private": 8,
    "trailing_": 9,
    "two__parts": 10,
    "A": 11,
    "IDs": [12, 13],
    "RAW_Bytes2": b"\x0e\x0f",
    "from": "from",
    "class": 17,
    "Pack": 18,
    "InitFromBuf": 19,
    "CHOICE": {"TextValue": "c"},
    "CHOICE_type": 1,
    "otherChoice1_type": 2,
    "Points": [point(1), point(2)],
    "LeafList": [{"TextValue": "l"}],
    "NAMES_LIST": ["n", "m"],
    "Kind2": 0,
    "MaybeX": 25,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_object_of_generated_class_keeps_every_field(version: str) -> None:
    made = filled(version)
    assert len(vars(made)) == len(TABLE.field_names) == 27
    record = TABLE.view(encoded(TABLE, made)).to_dict()
    inner = record.pop("otherChoice1")
    assert record == EXPECTED
    assert inner["OBJECT_NAME"] == "inner"


@pytest.mark.parametrize("version", VERSIONS)
def test_object_of_generated_class_reads_as_what_its_own_pack_writes(version: str) -> None:
    made = filled(version)
    if version == "names":
        # flatc 2.0.8 writes code that fails for structs with such names.
        made.vector3d = made.points = None
    builder = flatbuffers.Builder(64)
    builder.Finish(made.Pack(builder))
    assert TABLE.view(encoded(TABLE, made)).to_dict() == TABLE.view(bytes(builder.Output())).to_dict()


@pytest.mark.parametrize("version", VERSIONS)
def test_unpacked_object_of_generated_class_is_the_same_record(version: str) -> None:
    message = encoded(TABLE, filled(version))
    made = classes(version).Attributes.InitFromObj(
        importlib.import_module(f"{version}.Attributes").Attributes.GetRootAs(bytearray(message), 0)
    )
    assert TABLE.view(encoded(TABLE, made)).to_dict() == TABLE.view(message).to_dict()


def error_of(record: Any, table: Any = TABLE) -> str:
    with pytest.raises(ValueError, match="attributes that are no fields") as caught:
        table.encode(Builder(), record)
    return str(caught.value)


@pytest.mark.parametrize("version", VERSIONS)
def test_attribute_of_generated_object_that_is_no_field_is_an_error_with_its_path(version: str) -> None:
    made = filled(version)
    made.useRMSNorn = True
    assert error_of(made).startswith(
        "AttributesT has attributes that are no fields of names.Attributes: useRMSNorn. It has useRM"
    )
    made = filled(version)
    made.leafList[0].text = "lost"
    assert error_of(made).startswith(
        "LeafList[0]: LeafT has attributes that are no fields of names.Leaf: text. It has "
    )
    made = filled(version)
    made.choice.text = "lost"
    assert error_of(made).startswith("CHOICE: LeafT has attributes that are no fields of names.Leaf: text. It has ")
    made = filled(version)
    made.points[1].w = 1
    assert error_of(made).startswith("Points[1]: Point3DT has attributes that are no fields of names.Point3D: w. It ha")


def test_object_generated_from_a_later_schema_is_an_error_not_a_record_with_holes() -> None:
    later = generated("Named", "shapes_v2").NamedT()
    later.name = "x"
    extra = sorted(vars(later).keys() - vars(generated("Named").NamedT()).keys())
    table = schema_of("shapes").table("shapes.Named")
    if extra:
        assert extra[0] in error_of(later, table)
    else:
        assert encoded(table, later)


@in_one_test
@pytest.mark.parametrize("value", [None, 0, 7, "text"])
def test_attribute_of_a_deprecated_field_is_ignored(value: Any) -> None:
    table = schema_of("shapes").table("shapes.Numbered")
    made = generated("Numbered").NumberedT()
    made.last = 6
    message = encoded(table, made)
    assert table.view(message).to_dict()["last"] == 6
    # flatc makes attributes of deprecated fields too, from some version on.
    made.old = value
    assert encoded(table, made) == message
    made.older = value
    assert "no fields of shapes.Numbered: older. It has" in error_of(made, table)


def test_other_objects_may_have_attributes_of_their_own() -> None:
    class Reading:
        def __init__(self) -> None:
            self.time_ns, self.cache = 5, object()

    class AttributesT(classes("names").Attributes):  # type: ignore[misc]
        """Of the same name as the class that it extends: its attributes are looked at as closely."""

    class Extended(classes("names").Attributes):  # type: ignore[misc]
        pass

    assert TABLE.view(encoded(TABLE, Reading())).to_dict()["time_ns"] == 5
    extended = Extended()
    extended.timeNs, extended.cache = 6, object()
    assert TABLE.view(encoded(TABLE, extended)).to_dict()["time_ns"] == 6
    same = AttributesT()
    same.cache = object()
    assert ": cache. It" in error_of(same)


def test_attribute_with_the_name_of_a_field_belongs_to_that_field() -> None:
    table = NAMES.table("names.Twice")
    record = types.SimpleNamespace(timeNs=4)
    assert table.view(encoded(table, record)).to_dict() == {"time_ns": 0, "timeNs": 4}


def test_schema_is_that_of_the_generated_code() -> None:
    assert Schema.from_file(SCHEMAS / "names.bfbs").table(TABLE.name).field_names == TABLE.field_names
