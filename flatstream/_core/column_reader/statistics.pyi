from flatstream._core.arrow.exporter import ColumnData

WIDTHS: dict[str, int]

def column_statistics(
    column: ColumnData, begin: int = 0, end: int | None = None
) -> tuple[int, int, int] | tuple[float, float, int] | tuple[None, None, int]: ...
