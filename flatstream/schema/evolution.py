"""Whether a schema can take the place of an older one: what would make a reader of either fail or read other values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flatstream.schema.inspection import Enum, EnumValue, Field, Struct

if TYPE_CHECKING:
    from flatstream.schema.schema import Schema
    from flatstream.schema.table import Table

__all__ = ["EvolutionIssue"]


@dataclass(frozen=True)
class EvolutionIssue:
    """A difference between two schemas that breaks readers; see `Schema.check_evolution`.

    Attributes
    ----------
    kind : str
        What differs: ``"root_type"``, ``"file_identifier"``, ``"type_kind"``, ``"table_removed"``, ``"field_removed"``,
        ``"field_id"``, ``"field_type"``, ``"field_default"``, ``"field_required"``, ``"field_key"``,
        ``"struct_layout"``, ``"enum_type"``, ``"enum_value"``, ``"enum_value_removed"``, ``"union_member"`` or
        ``"union_member_removed"``.
    path : str
        Where: ``"ns.Table.field"``, ``"ns.Enum.Value"``, ``"ns.Struct"``; ``"root_type"`` and ``"file_identifier"``
        for those.
    message : str
        What was, what is, and what follows from it.
    """

    kind: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def issues_between(new: Schema, old: Schema) -> Iterator[EvolutionIssue]:
    """What breaks readers if `new` takes the place of `old`; see `Schema.check_evolution`."""
    yield from _compare_roots(new, old)
    kinds = {name: _kind_of(value) for name, value in _types_of(new).items()}
    for name, value in _types_of(old).items():
        kind = _kind_of(value)
        if name in kinds and kinds[name] != kind:
            yield EvolutionIssue("type_kind", name, f"was a {kind}, is a {kinds[name]}")
    new_tables, new_structs, new_enums = new.tables, new.structs, new.enums
    for name, table in old.tables.items():
        if name in new_tables:
            yield from _compare_tables(name, new_tables[name].fields, table.fields)
        elif name not in kinds:
            yield EvolutionIssue("table_removed", name, "the table was removed: nobody can read messages of this type")
    for name, struct in old.structs.items():
        if name in new_structs:
            yield from _compare_structs(new_structs[name], struct)
    for name, enum in old.enums.items():
        if name in new_enums and enum.is_union is new_enums[name].is_union:
            yield from (_compare_unions if enum.is_union else _compare_enums)(new_enums[name], enum)


def _types_of(schema: Schema) -> dict[str, Table | Struct | Enum]:
    return {**schema.tables, **schema.structs, **schema.enums}


def _kind_of(value: Table | Struct | Enum) -> str:
    if isinstance(value, Struct):
        return "struct"
    if isinstance(value, Enum):
        return "union" if value.is_union else "enum"
    return "table"


def _compare_roots(new: Schema, old: Schema) -> Iterator[EvolutionIssue]:
    was, now = (schema.root.name if schema.root is not None else "none" for schema in (old, new))
    if old.root is not None and was != now:
        yield EvolutionIssue("root_type", "root_type", f"was {was}, is {now}: messages are read as another table")
    if new.file_identifier != old.file_identifier:
        was, now = (repr(schema.file_identifier) if schema.file_identifier else "none" for schema in (old, new))
        yield EvolutionIssue(
            "file_identifier", "file_identifier", f"was {was}, is {now}: a reader refuses messages with another one"
        )


def _compare_tables(table: str, new: dict[str, Field], old: dict[str, Field]) -> Iterator[EvolutionIssue]:
    by_id = {field.id: field for field in new.values()}
    for name, was in old.items():
        if "union type" in (was.kind, was.element):
            # It is where its union is, and what its union is.
            continue
        path = f"{table}.{name}"
        now = new.get(name)
        if now is None:
            now = by_id.get(was.id)
            if now is None:
                yield EvolutionIssue(
                    "field_removed",
                    path,
                    f"the field was removed: mark it as deprecated, so that its id {was.id} stays",
                )
                continue
            # A field of another name in its place: a new name for the same, which messages do not contain, or else
            # another field.
            if now.name in old and old[now.name].id != was.id:
                yield EvolutionIssue(
                    "field_removed", path, f"the field was removed, and {now.name} has taken its id {was.id}"
                )
                continue
            path = f"{table}.{now.name}"
        elif now.id != was.id:
            yield EvolutionIssue("field_id", path, f"the id was {was.id}, is {now.id}: readers read another field")
        yield from _compare_fields(path, now, was)


def _compare_fields(path: str, new: Field, old: Field) -> Iterator[EvolutionIssue]:
    renamed = "" if new.name == old.name else f" (it was called {old.name})"
    was, now = _type_text(old), _type_text(new)
    nested = [field.attributes.get("nested_flatbuffer") for field in (old, new)]
    if was != now:
        yield EvolutionIssue("field_type", path, f"the type was {was}, is {now}{renamed}")
    # A binary schema may have been made without these attributes.
    elif None not in nested and nested[0] != nested[1]:
        yield EvolutionIssue("field_type", path, f"the message in it was a {nested[0]}, is a {nested[1]}{renamed}")
    elif not _same_default(new, old):
        yield EvolutionIssue(
            "field_default",
            path,
            f"the default was {_default_text(old)}, is {_default_text(new)}{renamed}: a value that a message does not "
            "store changes",
        )
    if old.required and new.deprecated and not old.deprecated:
        yield EvolutionIssue(
            "field_required", path, f"is deprecated{renamed}, and was required: readers with the old schema refuse it"
        )
    elif new.required and not old.required:
        yield EvolutionIssue(
            "field_required", path, f"is required now{renamed}: readers refuse old messages without it"
        )
    elif old.required and not new.required:
        yield EvolutionIssue(
            "field_required", path, f"was required{renamed}: readers with the old schema refuse messages without it"
        )
    if new.key is not old.key:
        is_key = "is the key now" if new.key else "was the key"
        yield EvolutionIssue(
            "field_key", path, f"{is_key}{renamed}: vectors of this type are sorted by a key, and searched by it"
        )


def _type_text(field: Field) -> str:
    """A type with complete names. The types of fields are the same if these are."""
    base = field.type_name or field.element or field.kind
    if field.length is not None:
        return f"[{base}:{field.length}]"
    return f"[{base}]" if field.element is not None else base


def _same_default(new: Field, old: Field) -> bool:
    both = new.default, old.default
    if new.optional is not old.optional or None in both:
        return new.optional is old.optional
    return both[0] == both[1] or all(isinstance(value, float) and math.isnan(value) for value in both)


def _default_text(field: Field) -> str:
    return "null" if field.optional else str(field.default).lower()


def _compare_structs(new: Struct, old: Struct) -> Iterator[EvolutionIssue]:
    """A struct is stored without a table of its fields: nothing of it may change but names."""

    def layout(struct: Struct) -> list[tuple[int, str]]:
        return [(field.offset, _type_text(field)) for field in struct.fields.values()]

    if layout(new) != layout(old):
        texts = (
            "{ " + "; ".join(f"{f.name}: {_type_text(f)}" for f in each.fields.values()) + " }" for each in (old, new)
        )
        yield EvolutionIssue(
            "struct_layout", new.name, "the fields were {}, are {}: a struct can never change".format(*texts)
        )
    elif (new.size, new.alignment) != (old.size, old.alignment):
        yield EvolutionIssue(
            "struct_layout",
            new.name,
            f"had {old.size} bytes, aligned to {old.alignment}; has {new.size} bytes, aligned to {new.alignment}",
        )
    # Not by position: fields of one type may have changed places.
    elif any(name in old.fields and old.fields[name].offset != field.offset for name, field in new.fields.items()):
        yield EvolutionIssue("struct_layout", new.name, "fields of the same type have changed places")
    keys = [[field.name for field in struct.fields.values() if field.key] for struct in (old, new)]
    if [new.fields[name].offset for name in keys[1]] != [old.fields[name].offset for name in keys[0]]:
        yield EvolutionIssue(
            "field_key",
            new.name,
            f"the key was {keys[0][0] if keys[0] else 'none'}, is {keys[1][0] if keys[1] else 'none'}: vectors of this "
            "type are sorted by a key, and searched by it",
        )


def _compare_enum_types(new: Enum, old: Enum) -> Iterator[EvolutionIssue]:
    if new.type != old.type:
        yield EvolutionIssue("enum_type", new.name, f"was stored as {old.type}, is stored as {new.type}")


def _compare_enums(new: Enum, old: Enum) -> Iterator[EvolutionIssue]:
    yield from _compare_enum_types(new, old)
    numbers = {value.name: value.value for value in new.values}
    for value in old.values:
        path = f"{new.name}.{value.name}"
        if value.name in numbers:
            if numbers[value.name] != value.value:
                yield EvolutionIssue(
                    "enum_value", path, f"was {value.value}, is {numbers[value.name]}: values get other names"
                )
        elif value.value not in numbers.values():
            yield EvolutionIssue(
                "enum_value_removed", path, f"the value {value.value} was removed, and has no name now"
            )


def _compare_unions(new: Enum, old: Enum) -> Iterator[EvolutionIssue]:
    yield from _compare_enum_types(new, old)
    by_name = {value.name: value for value in new.values}
    by_number = {value.value: value for value in new.values}

    def text(value: EnumValue) -> str:
        return value.type_name or "none"

    for value in old.values:
        path = f"{new.name}.{value.name}"
        same_name, same_number = by_name.get(value.name), by_number.get(value.value)
        if same_name is not None and same_name.value != value.value:
            yield EvolutionIssue(
                "union_member", path, f"the number was {value.value}, is {same_name.value}: readers read another type"
            )
        elif same_number is None:
            yield EvolutionIssue(
                "union_member_removed",
                path,
                f"the variant {value.value} was removed: its values cannot be read",
            )
        elif text(same_number) != text(value):
            renamed = "" if same_number.name == value.name else f" (it is called {same_number.name} now)"
            yield EvolutionIssue("union_member", path, f"the type was {text(value)}, is {text(same_number)}{renamed}")
