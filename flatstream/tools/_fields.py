"""The fields of a table by their paths: ``"name"``, ``"position.x"``, ``"choice.Named.name"``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flatstream.schema._reflection import BaseType, FieldInfo, ObjectInfo, TypeInfo

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = [
    "expanded",
    "field_at",
    "has_identifier",
    "is_enum",
    "is_plain",
    "known_paths",
    "plain_columns",
    "steps_of",
    "value_at",
]

# How many names an error lists.
SHOWN = 8


def field_at(table: Table, path: str) -> FieldInfo | None:
    """The field at a path, which may lead through tables, structs and the variants of unions; None if there is none."""
    schema = table.schema._info
    owner: ObjectInfo | None = table._info
    names = path.split(".")
    found = None
    while names:
        name = names.pop(0)
        found = (
            None
            if owner is None
            else next((field for field in owner.fields if field.name == name and not field.deprecated), None)
        )
        if found is None:
            return None
        owner = None
        kind = found.type
        if kind.base is BaseType.UNION and names:
            variant = names.pop(0)
            kind = next(
                (value.type for value in schema.enums[kind.index].values if value.name == variant),
                TypeInfo(BaseType.NONE),
            )
            if not names:
                # The variant itself.
                return None
        if kind.base is BaseType.OBJ:
            owner = schema.objects[kind.index]
    return found


def has_identifier(table: Table) -> bool:
    """Whether messages of the table can be told from others: a file identifier is that of a schema's root table, and a
    description of several tables tells them apart.
    """
    return table._others is not None or (bool(table.schema.file_identifier) and table == table.schema.root)


def is_enum(field: FieldInfo) -> bool:
    """Whether the field is an enum, or the type of a union, which has names as well."""
    kind = field.type
    return kind.index >= 0 and kind.base not in (
        BaseType.OBJ,
        BaseType.UNION,
        BaseType.VECTOR,
        BaseType.ARRAY,
        BaseType.VECTOR64,
    )


def is_plain(table: Table, path: str) -> bool:
    """Whether the column of a field has what the JSON of messages has.

    Columns have no tables inside themselves, flags as numbers, unions as all of their variants, and where both kinds of
    floats are in one column, those of 32 bits with all of their digits.
    """
    field = field_at(table, path)
    if field is None:
        return True
    kinds = set(_kinds(table, field, ()))
    return None not in kinds and not {BaseType.FLOAT, BaseType.DOUBLE} <= kinds


def _kinds(table: Table, field: FieldInfo, around: tuple[int, ...]) -> Iterator[BaseType | None]:
    """The types of all values in a field; None for what columns have in another form."""
    info, kind = table.schema._info, field.type
    if kind.inner is BaseType.OBJ:
        if kind.index in around:
            yield None
            return
        for inner in info.objects[kind.index].fields:
            if not inner.deprecated:
                yield from _kinds(table, inner, (*around, kind.index))
        return
    is_flags = kind.index >= 0 and kind.inner is not BaseType.UTYPE and "bit_flags" in info.enums[kind.index].attributes
    yield None if kind.inner is BaseType.UNION or is_flags or "nested_flatbuffer" in field.attributes else kind.inner


def steps_of(table: Table, path: str) -> list[tuple[str, str | None]]:
    """The names that lead to a field in the JSON of a message, each with the variant that is wanted of a union."""
    steps: list[tuple[str, str | None]] = []
    names = path.split(".")
    position = 0
    while position < len(names):
        name, variant = names[position], None
        field = field_at(table, ".".join(names[: position + 1]))
        position += 1
        if field is not None and field.type.base is BaseType.UNION and position < len(names):
            variant = names[position]
            position += 1
        steps.append((name, variant))
    return steps


def value_at(values: Any, steps: list[tuple[str, str | None]]) -> Any:
    """The value to which the names lead, in a message read from JSON; None if something on the way is absent."""
    for name, variant in steps:
        if values is None or (variant is not None and values.get(f"{name}_type") != variant):
            return None
        values = values.get(name)
    return values


def known_paths(table: Table, near: str = "") -> str:
    """Some names of fields for an error: those that are like `near`, or the first ones."""
    names = table.field_names
    like = difflib.get_close_matches(near, names, SHOWN) if near else []
    shown = like or names[:SHOWN]
    rest = "" if like or len(names) <= SHOWN else f" and {len(names) - SHOWN} more"
    return (", ".join(shown) or "none") + rest


def plain_columns(table: Table) -> list[str]:
    """The columns of a table in a spreadsheet: its fields, where a struct gives one for each of its own fields.

    Tables inside, vectors and unions are one column each, and so is the type of a union.
    """
    return list(_columns(table, table._info, ""))


def expanded(table: Table, paths: Iterable[str]) -> list[str]:
    """These paths, where the path of a struct gives those of its fields."""
    found: list[str] = []
    for path in paths:
        field = field_at(table, path)
        inner = None
        if field is not None and field.type.base is BaseType.OBJ:
            inner = table.schema._info.objects[field.type.index]
        if inner is not None and inner.is_struct:
            found += _columns(table, inner, f"{path}.")
        else:
            found.append(path)
    return found


def _columns(table: Table, owner: ObjectInfo, prefix: str) -> Iterator[str]:
    for field in owner.fields:
        if field.deprecated:
            continue
        inner = table.schema._info.objects[field.type.index] if field.type.base is BaseType.OBJ else None
        if inner is not None and inner.is_struct:
            yield from _columns(table, inner, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
