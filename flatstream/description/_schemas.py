"""What descriptions need of schemas, which are a layer above: the package of schemas registers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

__all__ = ["SchemaAccess", "find_time", "register_schemas", "register_schemas_lazily", "schema_access", "tables_of"]

# The units of times, in nanoseconds.
UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}

# How many of each make a second.
PER_SECOND = {unit: UNITS["s"] // length for unit, length in UNITS.items()}

_TIMES = ("time", "timestamp", "ts")


class SchemaAccess(Protocol):
    """What the package of schemas does for descriptions."""

    def load(self, data: bytes) -> Any:
        """The Schema of a binary schema; FlatbufferError if it is damaged."""

    def data_of(self, schema: Any) -> bytes:
        """The binary schema of a Schema; ValueError if a description cannot have it."""

    def integer_fields(self, table: Any) -> list[str]:
        """The names of the fields of a Table that are integers, in order."""

    def check_integer(self, table: Any, path: str) -> None:
        """Raises KeyError or TypeError, with a sentence, unless there is an integer at a path of a Table."""


_access: SchemaAccess | None = None
_import_schemas: Callable[[], object] | None = None


def register_schemas(access: SchemaAccess) -> None:
    """Registers what descriptions use to load schemas and to look at them."""
    global _access
    _access = access


def register_schemas_lazily(importer: Callable[[], object]) -> None:
    """Registers a function that imports the package of schemas, which calls `register_schemas`."""
    global _import_schemas
    _import_schemas = importer


def schema_access() -> SchemaAccess:
    """What the package of schemas has registered; it is imported if need be."""
    if _access is None and _import_schemas is not None:
        _import_schemas()
    if _access is None:
        raise RuntimeError("the package of schemas is not imported: import flatstream.schema")
    return _access


def is_table(value: Any) -> bool:
    """Whether `value` is a table of a schema."""
    return all(hasattr(value, name) for name in ("schema", "name", "layout")) and not isinstance(value, type)


def tables_of(roots: Any) -> dict[str, Any]:
    """The tables that the argument `roots` of a Description stands for, by their file identifiers ("" for none).

    Raises
    ------
    TypeError, ValueError
        It is neither None, a table, a schema with a root, several tables, nor a mapping of identifiers to tables; or
        two tables have one identifier.
    """
    if roots is None:
        return {}
    if is_table(roots):
        return {_identifier_of(roots): roots}
    if isinstance(roots, Mapping):
        return {_checked_identifier(identifier): _checked_table(table) for identifier, table in roots.items()}
    if hasattr(roots, "root") and hasattr(roots, "file_identifier") and not isinstance(roots, type):
        if roots.root is None:
            raise ValueError("the schema declares no root_type: pass one of its tables, schema.table(name)")
        return {_identifier_of(roots.root): roots.root}
    if not isinstance(roots, Iterable) or isinstance(roots, (str, bytes)):
        raise TypeError(
            "expected a Table, a Schema, several Tables, or a mapping of file identifiers to Tables, "
            f"got {type(roots).__name__}: {roots!r:.100}"
        )
    tables: dict[str, Any] = {}
    for table in roots:
        identifier = _identifier_of(_checked_table(table))
        if identifier in tables:
            raise ValueError(
                f"{tables[identifier].name} and {table.name} have "
                + (f"the file identifier {identifier!r}" if identifier else "no file identifier")
                + ", so that messages are not told apart: pass a mapping {file identifier: Table}"
            )
        tables[identifier] = table
    return tables


def _checked_table(table: Any) -> Any:
    if not is_table(table):
        raise TypeError(f"expected a Table of a schema, got {type(table).__name__}: {table!r:.100}")
    return table


def _checked_identifier(identifier: Any) -> str:
    if not isinstance(identifier, str) or not identifier.isascii() or len(identifier) not in (0, 4):
        raise ValueError(f"a file identifier has four ASCII characters, or none: got {identifier!r:.100}")
    return identifier


def _identifier_of(table: Any) -> str:
    """The file identifier of the messages of a table: that of its schema, whose root it is."""
    return table.schema.file_identifier if table.schema.root == table else ""


def unit_of_name(path: str) -> str | None:
    """The unit that the name of a field ends with, as "time_ns"."""
    unit = path.rpartition("_")[2] if "_" in path else ""
    return unit if unit in UNITS else None


def find_time(table: Any) -> tuple[str, str] | None:
    """The field whose name says that it is the time of a message, and its unit; None if none is certain."""
    found = []
    for name in schema_access().integer_fields(table):
        unit = unit_of_name(name)
        if unit is not None and name[: -len(unit) - 1].rpartition("_")[2] in _TIMES:
            found.append((name, unit))
    if len(found) > 1:
        found = [(name, unit) for name, unit in found if name in (f"time_{unit}", f"timestamp_{unit}")]
    return found[0] if len(found) == 1 else None
