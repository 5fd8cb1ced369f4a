"""What a caller says of a stream, beside what the stream says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flatstream.description import Description
    from flatstream.schema import Table

__all__ = ["ContradictionError", "check_table"]


class ContradictionError(LookupError):
    """The table that the caller gives is not one of those that the stream describes."""


def check_table(given: Table | None, description: Description | None) -> None:
    """Checks that a table of another schema than the one that a stream describes can read its messages.

    That is the same table of a schema into which the described one has evolved, or from which it has.

    Raises
    ------
    ContradictionError
        Values would be read that nobody has written.
    """
    if given is None or description is None or not description.schemas:
        return
    tables = {table.name: table for table in description.tables.values()}
    described = tables.get(given.name)
    if described is None:
        names = ", ".join(sorted(tables))
        raise ContradictionError(f"the given table is {given.name}, and the stream says that its messages are {names}")
    if described.schema == given.schema:
        return
    issues = given.schema.check_evolution(described.schema)
    if issues and described.schema.check_evolution(given.schema):
        more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
        raise ContradictionError(f"the given schema is not the one that the stream describes: {issues[0]}{more}")
