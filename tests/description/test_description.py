"""`Description`: what it is made of, what it says, and that its bytes are those of description.fbs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import Description, FlatbufferError, Schema
from flatstream.description import MAX_SIZE, Root, Transform, _types, is_description
from flatstream.schema import Table
from flatstream.schema._compile import layout_of, types_of
from flatstream.schema._parse import parse
from support.extent import in_one_test
from support.flatc import compile_schema

EXAMPLES = Path(__file__).parents[2] / "examples"
TELEMETRY = Schema.from_file(EXAMPLES / "telemetry.bfbs")
EVENT = TELEMETRY.table("telemetry.Event")


def full_description() -> Description:
    return Description(
        {"EVNT": EVENT, "": TELEMETRY.table("telemetry.Disk")},
        checksum="crc32",
        metadata={"host": "a", "Ä": "ö\0", "empty": ""},
        time_field="wall_time_ns",
        created_ns=1_700_000_000_123_456_789,
        created_by="a test",
        transforms=[Transform("zstd", (("level", "3"), ("block", "64")), b"\0dictionary")],
        serializer="json",
    )


def test_description_says_what_it_was_made_of() -> None:
    made = full_description()
    assert made.version == 1
    assert made.checksum == "crc32"
    assert made.roots == (
        Root("telemetry.Event", "EVNT", 0, "wall_time_ns", "ns"),
        Root("telemetry.Disk", "", 0, None, None),
    )
    assert made.schemas == ((EXAMPLES / "telemetry.bfbs").read_bytes(),)
    assert made.transforms == (Transform("zstd", (("block", "64"), ("level", "3")), b"\0dictionary"),)
    assert (made.serializer, made.created_ns, made.created_by) == ("json", 1_700_000_000_123_456_789, "a test")
    assert made.metadata == {"empty": "", "host": "a", "Ä": "ö\0"}
    assert made.tables == {"EVNT": EVENT, "": TELEMETRY.table("telemetry.Disk")}
    assert made.table == EVENT
    assert made.schema == TELEMETRY
    assert made.time == ("telemetry.Event", "wall_time_ns", "ns")


@pytest.mark.parametrize(
    "made", [Description(), Description(EVENT), full_description()], ids=["empty", "of a table", "full"]
)
def test_description_survives_its_bytes_pickles_and_copies(made: Description) -> None:
    read = Description.from_bytes(made.to_bytes())
    assert read == made
    assert hash(read) == hash(made)
    assert read.to_bytes() == made.to_bytes()
    assert read.tables == made.tables
    assert is_description(made.to_bytes())
    for again in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert again == made
        assert again.tables == made.tables
    assert made != "something else"
    for payload in (bytearray(made.to_bytes()), memoryview(made.to_bytes())):
        assert Description.from_bytes(payload) == made


def test_empty_description_says_nothing() -> None:
    made = Description()
    assert (made.checksum, made.table, made.schema, made.time, made.tables) == (None, None, None, None, {})
    assert (made.created_ns, made.created_by, made.serializer, made.metadata) == (None, None, None, {})


def test_types_are_those_of_the_schema_that_is_shipped() -> None:
    data = resources.files("flatstream.description").joinpath("description.bfbs").read_bytes()
    schema = Schema.from_bytes(data)
    assert schema.file_identifier == "FSD1"
    info = parse(data)
    names = list(_types.LAYOUT.object_names)
    order = [schema.numbers[name] for name in names]
    assert sorted(order) == list(range(len(info.objects)))
    shipped = layout_of(info, types_of(info))
    for number, own in zip(order, _types._TABLES.values(), strict=True):
        fields = info.objects[number].fields
        assert [field.name for field in fields] == [field[0] for field in own[1]]
        for field, (_, base, element, index, required) in zip(fields, own[1], strict=True):
            assert (int(field.type.base), int(field.type.element), field.required) == (base, element, required)
            if element == _types.OBJECT:
                assert info.objects[field.type.index].name == names[index]
    assert [enum.name for enum in info.enums] == [enum.name for enum in _types.LAYOUT.enums]
    assert shipped.enums[0].by_name == _types.LAYOUT.enums[0].by_name
    # Read with it, a full description says the same.
    record = schema.root.view(full_description().to_bytes()).to_dict()  # type: ignore[union-attr]
    assert record["created_ns"] == 1_700_000_000_123_456_789
    assert [pair["key"] for pair in record["metadata"]] == ["empty", "host", "Ä"]
    assert record["roots"][0]["time_unit"] == 4
    # And written with it: defaults of later versions are read.
    builder = flatstream.Builder()
    schema.root.encode(builder, version=7, metadata=[{"key": "k"}])  # type: ignore[union-attr]
    payload = bytearray(builder.Output())
    read = _types.decode(bytes(payload), MAX_SIZE)
    assert (read["version"], read["metadata"]) == (7, [{"key": "k", "value": None}])


def table_with(*fields: str, name: str = "T") -> Table:
    text = f"table {name} {{ " + " ".join(f"{field};" for field in fields) + f" }} root_type {name};"
    root = compile_schema(text).root
    assert root is not None
    return root


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["time_ns:ulong"], ("T", "time_ns", "ns")),
        (["timestamp_ms:long", "other:int"], ("T", "timestamp_ms", "ms")),
        (["wall_ts_us:uint"], ("T", "wall_ts_us", "us")),
        (["start_time_s:int", "end_time_s:int"], None),
        (["start_time_s:int", "time_ms:int", "end_ts_us:int"], ("T", "time_ms", "ms")),
        (["time_ns:long", "timestamp_ns:long"], None),
        (["time:long", "times_ns:long", "uptime_ns:long", "time_ns:double", "datetime_s:int", "ns:int"], None),
        (["time_ns:long (deprecated)", "ts_s:long"], ("T", "ts_s", "s")),
    ],
)
def test_time_field_is_found_by_its_name(fields: list[str], expected: Any) -> None:
    assert Description(table_with(*fields)).time == expected


def test_time_field_is_a_path_of_an_integer() -> None:
    schema = compile_schema(
        "struct S { at: long; } table H { time_us: ulong; s: S; } "
        "table T { header: H; seconds: int; name: string; on: bool; many: [long]; } root_type T;"
    )
    assert Description(schema, time_field="header.time_us").time == ("T", "header.time_us", "us")
    assert Description(schema, time_field="header.s.at", time_unit="ms").time == ("T", "header.s.at", "ms")
    assert Description(schema, time_field="seconds", time_unit="s").time == ("T", "seconds", "s")
    for path, error, message in [
        ("seconds", ValueError, "does not end with its unit"),
        ("gone_ns", KeyError, "T has no field 'gone_ns'; it has header, seconds"),
        ("header.gone_ns", KeyError, "H has no field 'gone_ns'"),
        ("seconds.at_ns", KeyError, "'seconds' of T has no fields"),
    ]:
        with pytest.raises(error, match=message):
            Description(schema, time_field=path)
    for path in ("name", "on", "many", "header"):
        with pytest.raises(TypeError, match="is no integer"):
            Description(schema, time_field=path, time_unit="s")
    with pytest.raises(ValueError, match="time_unit must be"):
        Description(schema, time_field="seconds", time_unit="h")
    with pytest.raises(ValueError, match="which is not given"):
        Description(schema, time_unit="s")
    with pytest.raises(ValueError, match="no table is given"):
        Description(time_field="time_ns")


def test_of_several_tables_each_has_its_identifier() -> None:
    one = compile_schema('table One { time_ns: long; } root_type One; file_identifier "ONE1";')
    two = compile_schema('table Two { at: long; time_ms: long; } root_type Two; file_identifier "TWO2";')
    made = Description([one.root, two.root])
    assert [(root.table, root.file_identifier, root.schema) for root in made.roots] == [
        ("One", "ONE1", 0),
        ("Two", "TWO2", 1),
    ]
    assert [root.time_field for root in made.roots] == ["time_ns", "time_ms"]
    assert made.time == ("One", "time_ns", "ns")
    assert Description.from_bytes(made.to_bytes()).tables == {"ONE1": one.root, "TWO2": two.root}
    # A field of one of them.
    assert [r.time_field for r in Description([one.root, two.root], time_field="at", time_unit="s").roots] == [
        None,
        "at",
    ]
    with pytest.raises(KeyError, match="has no field 'gone_ns'"):
        Description([one.root, two.root], time_field="gone_ns")
    with pytest.raises(ValueError, match=r"have the file identifier 'ONE1', so that .* pass a mapping"):
        Description([one.root, one.root])
    disk = TELEMETRY.table("telemetry.Disk")
    with pytest.raises(ValueError, match="have no file identifier"):
        Description([disk, TELEMETRY.table("telemetry.Interface")])


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Description("telemetry.Event"), TypeError, "expected a Table, a Schema"),
    (lambda: Description([3]), TypeError, "expected a Table of a schema, got int"),
    (lambda: Description({"abc": EVENT}), ValueError, "four ASCII characters"),
    (lambda: Description({3: EVENT}), ValueError, "four ASCII characters"),
    (lambda: Description({"ABCD": 3}), TypeError, "expected a Table"),
    (lambda: Description(Schema), TypeError, "expected a Table"),
    (lambda: Description(compile_schema("table T {}")), ValueError, "declares no root_type"),
    (
        lambda: Description(Schema.from_file(EXAMPLES / "telemetry.bfbs", size_prefixed=True)),
        ValueError,
        "size-prefixed",
    ),
    (lambda: Description(checksum=3), TypeError, "expected a Checksum"),  # type: ignore[arg-type]
    (lambda: Description(metadata=[("a", "b")]), TypeError, "mapping of str to str"),  # type: ignore[arg-type]
    (lambda: Description(metadata={"a": 1}), TypeError, r"metadata\['a'\] must be a str"),  # type: ignore[dict-item]
    (lambda: Description(metadata={1: "a"}), TypeError, "a key of metadata"),  # type: ignore[dict-item]
    (lambda: Description(metadata={"a": "\ud800"}), ValueError, "without surrogates"),
    (lambda: Description(created_ns=0), ValueError, "created_ns must be"),
    (lambda: Description(created_ns=True), ValueError, "created_ns must be"),
    (lambda: Description(created_ns=2**63), ValueError, "created_ns must be"),
    (lambda: Description(created_by=3), TypeError, "created_by must be a str"),  # type: ignore[arg-type]
    (lambda: Description(serializer=b"x"), TypeError, "serializer must be a str"),  # type: ignore[arg-type]
    (lambda: Description(transforms=["zstd"]), TypeError, "must be Transform objects"),  # type: ignore[list-item]
    (lambda: Description(metadata={"a": "x" * MAX_SIZE}), ValueError, "may have 16777216"),
    (lambda: Description().with_metadata({"a": "x" * MAX_SIZE}), ValueError, "may have 16777216"),
    (lambda: Description.from_bytes("text"), TypeError, "bytes-like"),  # type: ignore[arg-type]
]


@in_one_test
@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[f"{i}-{case[2]}" for i, case in enumerate(BAD)])
def test_wrong_argument_is_refused(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_description_does_not_change() -> None:
    made = full_description()
    with pytest.raises(AttributeError, match="does not change"):
        made.checksum = "none"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="does not change"):
        del made._fields
    made.metadata["more"] = "x"
    made.tables.clear()
    assert made == full_description()
    assert made.with_checksum("crc32") is made
    assert made.with_checksum(flatstream.Crc16()).checksum == "crc16"
    assert made.with_checksum(None).checksum is None
    assert made.with_metadata({"host": "b", "z": "1"}).metadata == {"empty": "", "host": "b", "z": "1", "Ä": "ö\0"}
    assert made == full_description()


def test_format_matches_whatever_the_metadata() -> None:
    made = full_description()
    assert made.matches(made.with_metadata({"host": "b"}))
    assert Description(EVENT).matches(Description(EVENT, created_ns=5, created_by="x"))
    assert not made.matches(made.with_checksum("none"))
    assert not Description(EVENT).matches(Description())
    assert not Description(EVENT).matches(Description(EVENT, time_field="sequence", time_unit="s"))


def test_bytes_of_a_later_version_are_kept() -> None:
    schema = compile_schema(
        """
        file_identifier "FSD1";
        table KeyValue { key: string (required, key); value: string; }
        table Root { table: string (required); file_identifier: string; schema: uint; time_field: string;
                     time_unit: ubyte; later: string; }
        table Transform { name: string; } table BinarySchema { data: [ubyte] (required); }
        table Description { version: ushort = 1; checksum: string; schemas: [BinarySchema]; roots: [Root];
                            transforms: [Transform]; serializer: string; created_ns: long; created_by: string;
                            metadata: [KeyValue]; later: [string]; }
        root_type Description;
        """
    )
    builder = flatstream.Builder()
    root = schema.root
    assert root is not None
    root.encode(
        builder,
        version=2,
        checksum="blake9",
        schemas=[{"data": (EXAMPLES / "telemetry.bfbs").read_bytes()}],
        roots=[{"table": "telemetry.Event", "time_field": "wall_time_ns", "time_unit": 9, "later": "x"}],
        created_ns=-5,
        metadata=[{"key": "b", "value": "1"}, {"key": "a"}, {"key": "b", "value": "2"}],
        later=["x"],
    )
    payload = with_identifier(builder.Output())
    read = Description.from_bytes(payload)
    assert (read.version, read.checksum, read.created_ns) == (2, "blake9", None)
    assert read.metadata == {"a": "", "b": "1"}
    # A unit that is not known is none.
    assert read.time is None
    assert read.table == EVENT
    assert read.to_bytes() == payload
    assert read.with_checksum("none").version == 1


def with_identifier(payload: bytes | bytearray) -> bytes:
    """A FlatBuffer without a file identifier, with that of a description."""
    root = int.from_bytes(payload[:4], "little")
    # 8 bytes more, so that everything keeps its alignment.
    return (root + 8).to_bytes(4, "little") + b"FSD1" + bytes(4) + bytes(payload[4:])


def test_contradictions_are_refused() -> None:
    made = Description(EVENT)

    def changed(fields: dict[str, Any]) -> bytes:
        from flatstream.description.description import _message_of

        return _types.encode(_message_of(made._fields) | fields)

    with pytest.raises(FlatbufferError, match="is of schema 1, and there are 1 schemas"):
        Description.from_bytes(changed({"roots": [{"table": "T", "schema": 1}]}))
    lost = Description.from_bytes(changed({"roots": [{"table": "Gone"}]}))
    with pytest.raises(FlatbufferError, match="names the table 'Gone', which its schema does not have"):
        lost.tables  # noqa: B018
    broken = Description.from_bytes(changed({"schemas": [{"data": b"no schema"}]}))
    for name in ("tables", "table", "schema"):
        with pytest.raises(FlatbufferError):
            getattr(broken, name)
    assert broken.roots == made.roots
    # Of two tables with one identifier, messages are of the first.
    double = Description.from_bytes(changed({"roots": [{"table": "telemetry.Event"}, {"table": "telemetry.Disk"}]}))
    assert double.table == EVENT
    assert len(double.roots) == 2
    # A time without a unit, and a unit without a field, say nothing.
    half = Description.from_bytes(changed({"roots": [{"table": "telemetry.Event", "time_unit": 3}]}))
    assert half.time is None


def test_representations_are_short_and_safe() -> None:
    assert repr(Description()) == "<Description without a schema>"
    assert repr(full_description()) == (
        "<Description of telemetry.Event, telemetry.Disk, checksum crc32, time wall_time_ns in ns, zstd>"
    )
    hostile = Description(metadata={"<script>": "<b>&" * 1000}, created_by="<i>", checksum="\n\x1b[31m" + "x" * 1000)
    assert len(repr(hostile)) < 120
    assert "\n" not in repr(hostile)
    html = hostile._repr_html_()
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;&amp;" in html
    assert len(html) < 6000
    assert "2023-11-14T22:13:20+00:00" in full_description()._repr_html_()
    assert (
        "ns since 1970" in Description(created_ns=2**63 - 1)._repr_html_()
        or "2262" in Description(created_ns=2**63 - 1)._repr_html_()
    )


def test_schema_is_loaded_on_demand_in_a_new_process() -> None:
    from support.processes import run_python

    made = Description(EVENT, metadata={"a": "b"})
    code = f"""
import sys
import flatstream
made = flatstream.Description.from_bytes({made.to_bytes()!r})
assert made.metadata == {{"a": "b"}}
assert "flatstream.schema" not in sys.modules
assert "numpy" not in sys.modules
assert made.table.name == "telemetry.Event"
assert "flatstream.schema" in sys.modules
print("done")
"""
    assert "done" in run_python(code).stdout
