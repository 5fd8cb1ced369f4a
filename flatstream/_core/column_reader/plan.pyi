from collections.abc import Iterable, Mapping

from typing_extensions import disjoint_base

from flatstream._core.arrow.exporter import ColumnType
from flatstream._core.flatbuf.layout import Layout

@disjoint_base
class ReadPlan:
    @property
    def layout(self) -> Layout: ...
    @property
    def table(self) -> int: ...
    @property
    def type(self) -> ColumnType: ...
    @property
    def recursive(self) -> list[str]: ...
    def __init__(
        self,
        layout: Layout,
        table: int,
        fields: Iterable[str] | None = None,
        enums: str = "dictionary",
        metadata: Mapping[str, str] | None = None,
        absent: str = "default",
    ) -> None: ...
