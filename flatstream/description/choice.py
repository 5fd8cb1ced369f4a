"""Which of the tables that a description names is meant, where a table may be left out or be given by its name."""

from __future__ import annotations

from typing import Any

from flatstream.description.description import Description

__all__ = ["choose_table", "choose_tables", "described_tables"]


def described_tables(description: Description | None) -> dict[str, Any]:
    """The tables of a description by their file identifiers, each as the root of its schema with this identifier."""
    if description is None:
        return {}
    return {identifier: table._identified(identifier) for identifier, table in description.tables.items()}


def choose_table(description: Description | None, wanted: Any, method: str) -> tuple[Any, bool]:
    """The table that an argument stands for, and whether it is one of several that the description names.

    Parameters
    ----------
    description : Description or None
        That of the stream.
    wanted : Table, str or None
        A table, which is returned as it is; the name or file identifier of one that the description names; or None for
        the only one.
    method : str
        The name of the method whose argument it is, for messages.

    Raises
    ------
    TypeError
        Without a table, and the description names none.
    ValueError
        Without a table, and the description names several; or it has none of this name.
    """
    if wanted is not None and not isinstance(wanted, str):
        return wanted, False
    tables = described_tables(description)
    if not tables:
        why = "has no description" if description is None else "has a description without a schema"
        raise TypeError(
            f"{method}() needs a table, because the stream {why}: pass one, as in "
            f"{method}(Schema.from_file('my_schema.bfbs').root)"
        )
    names = ", ".join(_shown(identifier, table) for identifier, table in tables.items())
    if wanted is None:
        if len(tables) == 1:
            return next(iter(tables.values())), False
        first = next(iter(tables.values()))
        raise ValueError(
            f"the stream has messages of several tables: {names}. Pass the name of one, as in {method}({first.name!r})"
        )
    if wanted in tables:
        return tables[wanted], len(tables) > 1
    # A name with its namespace, or without one if that is enough.
    for found in (
        [table for table in tables.values() if table.name == wanted],
        [table for table in tables.values() if table.name.rpartition(".")[2] == wanted],
    ):
        if len(found) == 1:
            return found[0], len(tables) > 1
    raise ValueError(f"the description has no table {wanted!r:.100}, or several: it has {names}")


def choose_tables(description: Description | None, wanted: Any, method: str) -> tuple[Any, bool]:
    """`choose_table`; but the dict of all tables without an argument, if there are several."""
    if wanted is None and len(tables := described_tables(description)) > 1:
        return tables, True
    return choose_table(description, wanted, method)


def _shown(identifier: str, table: Any) -> str:
    return f"{table.name} ({identifier})" if identifier else str(table.name)
