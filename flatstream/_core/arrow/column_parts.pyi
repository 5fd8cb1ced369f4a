from typing_extensions import Buffer

from flatstream._core.arrow.exporter import ColumnData, ColumnType

WIDTHS: dict[str, int]

def parts_of(column: ColumnData, protocol: int) -> tuple[object, ...]: ...
def column_from_parts(
    type: ColumnType,
    length: int,
    validity: Buffer | None,
    content: Buffer | None,
    offsets: Buffer | None,
    children: tuple[ColumnData, ...],
) -> ColumnData: ...
