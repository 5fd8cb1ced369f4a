"""Schemas and their types as HTML, for notebooks. Every text from a schema is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatstream._core.base.html_page import html_page
from flatstream.schema.inspection import Enum, Field, Struct

if TYPE_CHECKING:
    from flatstream.schema.schema import Schema
    from flatstream.schema.table import Table


def schema_html(schema: Schema) -> str:
    """The types of a schema, one in each row, with their comments."""
    root = schema.root
    rows = [
        ["root table" if table == root else "table", table.name, f"{len(table.fields)} fields", table.documentation]
        for table in schema
    ]
    rows += [
        ["struct", name, f"{len(struct.fields)} fields, {struct.size} bytes", struct.documentation]
        for name, struct in schema.structs.items()
    ]
    rows += [
        [
            "union" if enum.is_union else "enum",
            name,
            f"{len(enum.values)} {'variants' if enum.is_union else 'values'}",
            enum.documentation,
        ]
        for name, enum in schema.enums.items()
    ]
    identifier = f"file identifier {schema.file_identifier}" if schema.file_identifier else ""
    return html_page("Schema", "", (identifier,), ("", "name", "", "documentation"), rows)


def table_html(table: Table) -> str:
    """The fields of a table, one in each row, with types, defaults, attributes and comments."""
    # Enums by their complete names, so that defaults have the names of their values.
    enums = table.schema.enums
    rows = [
        [field.id, field.name, field.type, _default_text(field, enums), _remarks(field), field.documentation]
        for field in table.fields.values()
    ]
    header = ("id", "field", "type", "default", "", "documentation")
    return html_page("Table", table.name, table.documentation, header, rows)


def struct_html(struct: Struct) -> str:
    """The fields of a struct, one in each row, with offsets, types and comments."""
    rows = [[field.offset, field.name, field.type, field.documentation] for field in struct.fields.values()]
    facts = (f"{struct.size} bytes, aligned to {struct.alignment}", *struct.documentation)
    return html_page("Struct", struct.name, facts, ("offset", "field", "type", "documentation"), rows)


def enum_html(enum: Enum) -> str:
    """The values of an enum or the variants of a union, one in each row."""
    facts = (f"{enum.type}, flags that can be combined" if enum.bit_flags else enum.type, *enum.documentation)
    if enum.is_union:
        rows = [[value.value, value.name, value.type_name or "", value.documentation] for value in enum.values]
        return html_page("Union", enum.name, facts, ("number", "variant", "type", "documentation"), rows)
    rows = [[value.value, value.name, value.documentation] for value in enum.values]
    return html_page("Enum", enum.name, facts, ("value", "name", "documentation"), rows)


def _default_text(field: Field, enums: dict[str, Enum]) -> str:
    if field.optional:
        return "null"
    if field.default is None or field.kind == "union type":
        return ""
    if field.type_name in enums:
        names = [value.name for value in enums[field.type_name].values if value.value == field.default]
        return names[0] if names else str(field.default)
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def _remarks(field: Field) -> str:
    words = [word for word in ("required", "deprecated", "key") if getattr(field, word)]
    others = [name for name in field.attributes if name not in ("id", *words)]
    return ", ".join([*words, *others])
