"""Columns and batches as HTML, for notebooks: their types, and the values of the first rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flatstream._core.base.html_page import html_page

if TYPE_CHECKING:
    from flatstream.columns.batch import Column, ColumnBatch
    from flatstream.columns.stream import ColumnStream

MAX_ROWS = 10
MAX_COLUMNS = 20


def batch_html(batch: ColumnBatch) -> str:
    """The first rows of a batch."""
    names = batch.names[:MAX_COLUMNS]
    columns = [batch[name] for name in names]
    rows = list(zip(*(column[:MAX_ROWS] for column in columns), strict=True))
    facts = [f"{batch.num_rows:,} rows in {len(batch)} columns"]
    if batch.skipped:
        facts.append(f"{batch.skipped:,} messages skipped, {batch.lost_bytes:,} bytes lost")
    if batch.others:
        facts.append(f"{batch.others:,} messages of other types skipped")
    if len(batch) > MAX_COLUMNS:
        facts.append(f"The first {MAX_COLUMNS} columns of {len(batch)}:")
    header = [f"{column.name}: {_short_type(column.type)}" for column in columns]
    return html_page("ColumnBatch", "", facts, header, _shown(rows), batch.num_rows - len(rows))


def column_html(column: Column) -> str:
    """The first rows of a column."""
    values = column[:MAX_ROWS]
    nulls = f", {column.null_count:,} of them null" if column.null_count else ""
    facts = [f"{len(column):,} rows of {column.type}{nulls}"]
    return html_page(
        "Column", column.name, facts, [column.name], _shown([(each,) for each in values]), len(column) - len(values)
    )


def stream_html(stream: ColumnStream) -> str:
    """The columns of a stream with their types. Nothing is read."""
    schema = stream.schema
    rows = list(zip(schema.names, schema.types, strict=True))
    facts = ["Batches are read when they are asked for."]
    if stream.skipped:
        facts.append(f"{stream.skipped:,} messages skipped so far, {stream.lost_bytes:,} bytes lost")
    return html_page("ColumnStream", "", facts, ("column", "type"), rows)


def _shown(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [["null" if value is None else str(value) for value in row] for row in rows]


def _short_type(text: str) -> str:
    """A type for a heading: without what is inside of it."""
    return "enum" if text.startswith("dictionary<") else text.partition("<")[0]
