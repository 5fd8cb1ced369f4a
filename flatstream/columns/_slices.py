"""Parts of a batch: some of its rows, or some of its columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from flatstream._core.arrow.column_parts import column_from_parts
from flatstream._core.arrow.exporter import WIDTHS, ColumnData, ColumnType
from flatstream.columns._convert import view_of


def rows_of(data: ColumnData, begin: int, end: int) -> ColumnData:
    """A column with the rows from `begin` to `end`, whose memory is copied."""
    type = data.type
    validity = None if data.validity is None else view_of(data.validity)[begin:end]
    content: Any = None
    offsets: Any = None
    children = data.children
    if type.format in WIDTHS:
        width = WIDTHS[type.format]
        content = view_of(data.data)[width * begin : width * end]
    elif type.format in ("U", "Z", "+L"):
        numbers = view_of(data.offsets)[8 * begin : 8 * (end + 1)].cast("q")
        first, last = numbers[0], numbers[-1]
        offsets = array("q", [number - first for number in numbers]) if first else numbers
        if type.format == "+L":
            children = (rows_of(children[0], first, last),)
        else:
            content = view_of(data.data)[first:last]
    elif type.format.startswith("+w:"):
        size = int(type.format[3:])
        children = (rows_of(children[0], size * begin, size * end),)
    else:
        children = tuple(rows_of(child, begin, end) for child in children)
    return column_from_parts(type, end - begin, validity, content, offsets, children)


def columns_of(data: ColumnData, names: Sequence[str]) -> ColumnData:
    """The batch with these of its columns, in this order. They share its memory."""
    by_name = {child.type.name: child for child in data.children}
    children = tuple(by_name[name] for name in names)
    whole = data.type
    type = ColumnType(
        whole.name, whole.format, whole.nullable, [child.type for child in children], metadata=whole.metadata
    )
    validity = None if data.validity is None else view_of(data.validity)[: data.length]
    return column_from_parts(type, data.length, validity, None, None, children)
