"""The fields of a table as a format has them: which ones become cells, and which ones it cannot carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from flatstream.schema import Table
from flatstream.schema._reflection import BaseType, FieldInfo, SchemaInfo

__all__ = ["Leaf", "Place", "alignment_of", "flat_leaves", "is_flags", "nested_leaves", "resolve"]


class Leaf(NamedTuple):
    """A field, or all of a table, that becomes a column.

    `trouble` says what the format cannot carry, and is "" if it can carry the field.
    """

    path: str
    trouble: str = ""


def resolve(table: Table, path: str) -> FieldInfo:
    """The field at a path of names; a name behind that of a union is one of its variants.

    Raises
    ------
    KeyError
        There is no such field.
    """
    return _follow(table, path)[0]


def _follow(table: Table, path: str) -> tuple[FieldInfo, tuple[int, ...]]:
    """The field at a path, and the numbers of the tables around it."""
    info: SchemaInfo = table.schema._info
    around: tuple[int, ...] = (table.number,)
    names = path.split(".")
    position = 0
    while True:
        fields = {field.name: field for field in info.objects[around[-1]].fields if not field.deprecated}
        field = fields.get(names[position])
        if field is None:
            raise KeyError(
                f"{table.name} has no field {path!r}: no {names[position]!r} in {info.objects[around[-1]].name}"
            )
        position += 1
        if position == len(names):
            return field, around
        if field.type.base is BaseType.OBJ:
            around = (*around, field.type.index)
            continue
        kind = None
        if field.type.base is BaseType.UNION:
            variants = {value.name: value.type for value in info.enums[field.type.index].values if value.value}
            kind = variants.get(names[position])
            position += 1
        if kind is None:
            raise KeyError(f"{table.name} has no field {path!r}: nothing is inside of {field.name!r}")
        if position == len(names):
            # The value of a variant: as a field of the union's name, with the variant's type.
            return FieldInfo(names[-1], kind, field.id, 0), around
        if kind.base is not BaseType.OBJ:
            raise KeyError(f"{table.name} has no field {path!r}: {names[position - 1]!r} is no table")
        around = (*around, kind.index)


def flat_leaves(table: Table, fields: Iterable[str] | None) -> list[Leaf]:
    """The columns of a format that has numbers and text only: tables and structs become one column for each field."""
    info = table.schema._info
    found: list[Leaf] = []

    def walk(field: FieldInfo, path: str, around: tuple[int, ...]) -> None:
        base = field.type.base
        if base is not BaseType.OBJ:
            found.append(Leaf(path, _flat_trouble(field)))
            return
        members = _members(info, field.type.index)
        if field.type.index in around:
            found.append(Leaf(path, "a table inside itself"))
        elif not members:
            # The column says whether the table is there.
            found.append(Leaf(path))
        for member in members if field.type.index not in around else ():
            walk(member, f"{path}.{member.name}", (*around, field.type.index))

    if fields is None:
        for field in _members(info, table.number):
            walk(field, field.name, (table.number,))
    else:
        for path in fields:
            field, around = _follow(table, path)
            walk(field, path, around)
    return found


def nested_leaves(table: Table, fields: Iterable[str] | None) -> list[Leaf]:
    """The columns of a format that has structs and lists: a column for each field."""
    paths = [field.name for field in _members(table.schema._info, table.number)] if fields is None else list(fields)
    recursive = table.arrow_schema(fields).metadata.get("flatstream.recursive", "").splitlines()
    found = []
    for path in paths:
        inside = [other for other in recursive if other == path or other.startswith(f"{path}.")]
        found.append(Leaf(path, f"a table inside itself ({inside[0]})" if inside else ""))
    return found


def _members(info: SchemaInfo, number: int) -> tuple[FieldInfo, ...]:
    return tuple(field for field in info.objects[number].fields if not field.deprecated)


def _flat_trouble(field: FieldInfo) -> str:
    kind = field.type
    if kind.base is BaseType.UNION:
        return "a union"
    if kind.base is BaseType.ARRAY:
        return "a fixed array"
    if kind.base is BaseType.VECTOR:
        return "a vector of bytes" if kind.element is BaseType.UBYTE and kind.index < 0 else "a vector"
    return ""


def is_flags(table: Table, field: FieldInfo) -> bool:
    """Whether the field is an enum of flags, which columns have as numbers and other files may have as names."""
    kind = field.type
    if kind.base in (BaseType.VECTOR, BaseType.ARRAY, BaseType.OBJ, BaseType.UNION, BaseType.UTYPE) or kind.index < 0:
        return False
    return "bit_flags" in table.schema._info.enums[kind.index].attributes


class Place:
    """A path, with which values of dicts are found as `RecordView.to_dict` returns them."""

    def __init__(self, table: Table, path: str) -> None:
        info = table.schema._info
        self.steps: list[tuple[str, tuple[str, int] | None]] = []
        names = path.split(".")
        position = 0
        while position < len(names):
            name = names[position]
            field = resolve(table, ".".join(names[: position + 1]))
            position += 1
            variant = None
            if field.type.base is BaseType.UNION and position < len(names):
                values = {value.name: value.value for value in info.enums[field.type.index].values}
                variant = (names[position], values[names[position]])
                position += 1
            self.steps.append((name, variant))

    def value_in(self, values: Any) -> Any:
        """The value; None if a table around it is absent, or a union has another variant."""
        for name, variant in self.steps:
            if values is None or (variant is not None and values[f"{name}_type"] not in variant):
                return None
            values = values[name]
        return values


def alignment_of(table: Table) -> int:
    """The strictest alignment of anything in messages of the table's schema, at least 8, in bytes."""
    return max(8, *_alignments(table.schema._info))


def _alignments(info: SchemaInfo) -> Iterator[int]:
    yield 8
    for known in info.objects:
        if known.is_struct:
            yield known.alignment
        for field in known.fields:
            yield int(field.attributes.get("force_align", 1))
