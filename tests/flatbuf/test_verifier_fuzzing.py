"""Messages that the verifier accepts can be read from end to end: by generated code, and by the schema."""

from __future__ import annotations

import functools
import importlib
import random
import struct
from typing import Any

import pytest
from flatbuffers.table import Table as RawTable

from flatstream import (
    Schema,
    TableRootValidator,
    TypedValidator,
)
from flatstream.schema._reflection import BaseType
from support.extent import in_one_test
from support.messages import (
    FUZZED,
    changed,
    messages_of,
    mutant,
    refusal,
    shape_messages,
)
from support.schemas import schema_of

# What is accepted can be read


class Strict(bytes):
    """Bytes of which a slice that is not all there is an error, as it is for numbers; `bytes` gives a shorter one."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            start, stop = key.start or 0, len(self) if key.stop is None else key.stop
            if not 0 <= start <= stop <= len(self):
                raise IndexError(f"bytes {start} to {stop} of {len(self)}")
        return super().__getitem__(key)


@functools.cache
def accessors(cls: type) -> list[tuple[str, int]]:
    """The names of the methods that read a field, and how many arguments they have, the object included."""
    found = []
    for name, member in vars(cls).items():
        code = getattr(member, "__code__", None)
        # The nested message of a vector of bytes is another message; nobody has verified it.
        if code is None or name in ("Init", "__init__") or name.endswith("NestedRoot"):
            continue
        # flatc 2.0.8 gives arrays in structs methods that look for a vtable, which a struct has not.
        if hasattr(cls, "SizeOf") and name.endswith(("Length", "IsNone")):
            continue
        found.append((name, code.co_argcount))
    return found


def union_of(message: Any, name: str) -> str:
    """The name of the type in the union `name` of a message, or "unknown"; "" if `name` is no union."""
    if name not in ("Choice", "Other", "Must"):
        return ""
    choice = importlib.import_module(f"{type(message).__module__.partition('.')[0]}.Choice").Choice
    # Python itself puts numbers into a class as well: from 3.13 on, the line where it begins.
    names = {number: known for known, number in vars(choice).items() if known[0] != "_" and known != "NONE"}
    return names.get(getattr(message, f"{name}Type")(), "unknown")  # type: ignore[no-any-return]


def read_all(message: Any, seen: set[tuple[type, int]]) -> None:
    """Calls every accessor of an object that flatc generated, and of all objects that it leads to."""
    cls = type(message)
    if (cls, message._tab.Pos) in seen:
        return
    seen.add((cls, message._tab.Pos))
    package = cls.__module__.partition(".")[0]
    for name, arguments in accessors(cls):  # type: ignore[arg-type]
        method = getattr(message, name)
        choice = union_of(message, name)
        if choice == "unknown":
            # Whoever does not know the type has nothing to read there, and the verifier has not looked.
            continue
        if hasattr(cls, "SizeOf") and arguments > 1:
            # A struct in a struct, into an object that the caller brings along; or an array of two.
            known = {"From_": "Point", "To": "Point", "Corners": "Point"}.get(name, name)
            inner = getattr(importlib.import_module(f"{package}.{known}"), known)
            values = [method(inner(), i) for i in range(2)] if arguments == 3 else [method(inner())]
        elif arguments == 2:
            values = [method(i) for i in range(getattr(message, f"{name}Length")())]
        else:
            values = [method()]
        for value in values:
            if isinstance(value, bytes):
                value.decode()
            elif isinstance(value, RawTable):
                variant = getattr(importlib.import_module(f"{package}.{choice}"), choice)()
                variant.Init(value.Bytes, value.Pos)
                read_all(variant, seen)
            elif hasattr(value, "_tab"):
                read_all(value, seen)


def read_described(schema: Schema, number: int, table: RawTable, seen: set[tuple[int, int]]) -> None:
    """The same for schemas without generated code: every field, with the functions that generated code calls."""
    if (number, table.Pos) in seen:
        return
    seen.add((number, table.Pos))
    info = schema._info
    fields = {field.name: field for field in info.objects[number].fields}

    def read_number(place: int, base: BaseType) -> Any:
        forms = {1: "B", 2: "b", 3: "b", 4: "B", 5: "h", 6: "H", 7: "i", 8: "I", 9: "q", 10: "Q", 11: "f", 12: "d"}
        return struct.unpack_from("<" + forms[base], table.Bytes, place)[0]

    def read_value(place: int, base: BaseType, index: int, kind: int = 0) -> None:
        """What an offset at `place` leads to, or what stands there."""
        if base is BaseType.STRING:
            table.String(place).decode()
        elif base is BaseType.OBJ and info.objects[index].is_struct:
            size = info.objects[index].size
            assert len(table.Bytes[place : place + size]) == size
        elif base is BaseType.OBJ:
            read_described(schema, index, RawTable(table.Bytes, table.Indirect(place)), seen)
        elif base is BaseType.UNION:
            for value in info.enums[index].values:
                if value.value == kind and value.type.base is not BaseType.NONE:
                    # A struct, unlike one in a table, is behind an offset here.
                    is_struct = value.type.base is BaseType.OBJ and info.objects[value.type.index].is_struct
                    at = table.Indirect(place) if is_struct else place
                    read_value(at, value.type.base, value.type.index)
        else:
            read_number(place, base)

    for field in fields.values():
        offset = table.Offset(field.offset)
        if field.deprecated:
            continue
        if not offset:
            assert not field.required
            continue
        kind, types = 0, None
        if field.type.inner is BaseType.UNION:
            types = table.Offset(fields[f"{field.name}_type"].offset)
            assert types
        if field.type.base is not BaseType.VECTOR:
            if types:
                kind = read_number(table.Pos + types, BaseType.UTYPE)
            read_value(table.Pos + offset, field.type.base, field.type.index, kind)
            continue
        inner = field.type.inner
        width = {BaseType.STRING: 4, BaseType.OBJ: 4, BaseType.UNION: 4}.get(inner) or (
            1,
            1,
            1,
            1,
            1,
            2,
            2,
            4,
            4,
            8,
            8,
            4,
            8,
        )[inner]
        if inner is BaseType.OBJ and info.objects[field.type.index].is_struct:
            width = info.objects[field.type.index].size
        start = table.Vector(offset)
        for i in range(table.VectorLen(offset)):
            if types:
                kind = read_number(table.Vector(types) + i, BaseType.UTYPE)
            read_value(start + width * i, inner, field.type.index, kind)


def read_in_full(name: str, payload: bytes) -> None:
    if name == "shapes":
        from shapes.Shape import Shape

        read_all(Shape.GetRootAs(Strict(payload)), set())
    elif name == "telemetry":
        from telemetry import Event

        read_all(Event.Event.GetRootAs(Strict(payload)), set())
    schema = schema_of(name)
    assert schema.root is not None
    data = Strict(payload)
    read_described(schema, schema.root.number, RawTable(data, struct.unpack_from("<I", data, 0)[0]), set())


def fuzz(name: str, seed: int, count: int) -> tuple[int, int]:
    """How many mutants were accepted, and refused. Those accepted have been read."""
    rng = random.Random(seed)
    validator = TypedValidator.for_type(schema_of(name))
    messages = messages_of(name)
    accepted = 0
    for _ in range(count):
        payload = mutant(rng, messages)
        if refusal(validator, payload) is not None:
            continue
        accepted += 1
        assert refusal(TableRootValidator(), payload) is None
        try:
            read_in_full(name, payload)
        except Exception as error:
            raise AssertionError(f"accepted, and cannot be read: {payload.hex()}") from error
    return accepted, count - accepted


@in_one_test
@pytest.mark.parametrize("name", FUZZED)
def test_good_messages_are_accepted_and_read(name):
    for payload in messages_of(name):
        assert refusal(TypedValidator.for_type(schema_of(name)), payload) is None
        read_in_full(name, payload)


def test_reading_in_full_reaches_what_is_damaged():
    """The fuzzing below can fail: without the verifier, reading stumbles over damage."""
    payload = shape_messages()[0]
    place = payload.index(b"three\0")
    for bad in (
        changed(payload, (place, "B", 0xFF)),
        changed(payload, (place - 4, "I", 2**31)),
        payload[: len(payload) // 2],
    ):
        with pytest.raises((UnicodeDecodeError, IndexError, struct.error)):
            read_in_full("shapes", bad)


@pytest.mark.parametrize(
    ("name", "count"), [("shapes", 1000), ("telemetry", 1000), ("monster_test", 1500), ("unions", 1000)]
)
def test_mutant_that_is_accepted_can_be_read_in_full(name, count):
    accepted, refused = fuzz(name, 1, count)
    assert accepted > count // 20
    assert refused > count // 20


@pytest.mark.long
@pytest.mark.parametrize("name", FUZZED)
@pytest.mark.parametrize("seed", range(2, 20))
def test_many_mutants_that_are_accepted_can_be_read_in_full(name, seed):
    fuzz(name, seed, 5000)
