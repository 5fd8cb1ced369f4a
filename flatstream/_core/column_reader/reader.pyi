from collections.abc import Callable, Iterable

from typing_extensions import disjoint_base

from flatstream._core.arrow.exporter import ColumnData, ColumnType
from flatstream._core.base.exclusive import Exclusive
from flatstream._core.column_reader.plan import ReadPlan
from flatstream._core.records.conditions import _ParsedCondition
from flatstream._core.stream.decoder import Decoder

FIRST_FAILED: str

@disjoint_base
class ColumnReader(Exclusive):
    def __init__(
        self,
        decoder: Decoder,
        plan: ReadPlan,
        filter_plan: ReadPlan | None = None,
        where: Iterable[_ParsedCondition] = (),
        *,
        verify: bool = False,
        skip: bool = False,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    @property
    def total_skipped(self) -> int: ...
    @property
    def type(self) -> ColumnType: ...
    def check(self) -> None: ...
    def read(self, max_rows: int | None, one_batch: bool = False) -> tuple[ColumnData, int] | None: ...
