"""What descriptions of streams need of schemas."""

from __future__ import annotations

import functools

from flatstream.description._schemas import register_schemas
from flatstream.schema._reflection import INTEGERS, BaseType, FieldInfo
from flatstream.schema.schema import Schema
from flatstream.schema.table import Table

_NUMBERS = INTEGERS - {BaseType.BOOL, BaseType.UTYPE}

# Larger ones are loaded each time, so that they take no memory longer than they are needed.
MOST_KEPT = 1 << 20

# Files of one journal or dataset have the same schema, which takes milliseconds to load. It never changes.
_load = functools.lru_cache(maxsize=8)(Schema.from_bytes)


class _Access:
    """See `flatstream.description._schemas.SchemaAccess`."""

    def load(self, data: bytes) -> Schema:
        return _load(data) if len(data) <= MOST_KEPT else Schema.from_bytes(data)

    def data_of(self, schema: Schema) -> bytes:
        if schema._data is None:
            raise ValueError("this Schema has no bytes: it was not made by Schema.from_file or Schema.from_bytes")
        if schema.size_prefixed:
            raise ValueError("a description cannot say that messages are size-prefixed: load the schema without it")
        return schema._data

    def integer_fields(self, table: Table) -> list[str]:
        return [field.name for field in table._info.fields if _is_integer(field) and not field.deprecated]

    def check_integer(self, table: Table, path: str) -> None:
        info = table._info
        names = path.split(".")
        for i, name in enumerate(names):
            field = next((known for known in info.fields if known.name == name), None)
            if field is None:
                known = ", ".join(known.name for known in info.fields)
                raise KeyError(f"{info.name} has no field {name!r:.100}; it has {known}")
            if i == len(names) - 1:
                if not _is_integer(field):
                    raise TypeError(f"the field {path!r:.100} of {table.name} is no integer, as a time has to be")
            elif field.type.base is not BaseType.OBJ:
                raise KeyError(f"the field {name!r:.100} of {info.name} has no fields: {path!r:.100} is no path")
            else:
                info = table.schema._info.objects[field.type.index]


def _is_integer(field: FieldInfo) -> bool:
    """Whether a field is a number without fractions that counts something: no enum."""
    return field.type.base in _NUMBERS and field.type.index < 0


register_schemas(_Access())
