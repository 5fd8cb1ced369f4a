"""The fields of a table by their paths: ``"name"``, ``"position.x"``, ``"choice.Named.name"``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flatstream.schema._reflection import BaseType, FieldInfo, ObjectInfo, TypeInfo

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = ["expanded", "field_at", "has_identifier", "is_enum", "known_paths", "plain_columns"]

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
        found = None if owner is None else next((field for field in owner.fields if field.name == name), None)
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
    """Whether messages of the table can be told from others: a file identifier is that of a schema's root table."""
    return bool(table.schema.file_identifier) and table == table.schema.root


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


def known_paths(table: Table, near: str = "") -> str:
    """Some names of fields for an error: those that are like `near`, or the first ones."""
    names = table.field_names
    like = difflib.get_close_matches(near, names, SHOWN) if near else []
    shown = like or names[:SHOWN]
    rest = "" if like or len(names) <= SHOWN else f" and {len(names) - SHOWN} more"
    return (", ".join(shown) or "none") + rest


def plain_columns(table: Table) -> list[str]:
    """The columns of a table in a spreadsheet: its fields, where a struct gives one for each of its own fields.

    Tables inside, vectors and unions are one column each. The type of a union is not a column of its own.
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
        if field.deprecated or field.type.base is BaseType.UTYPE:
            continue
        inner = table.schema._info.objects[field.type.index] if field.type.base is BaseType.OBJ else None
        if inner is not None and inner.is_struct:
            yield from _columns(table, inner, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
