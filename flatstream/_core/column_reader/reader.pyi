from collections.abc import Callable, Iterable
from typing import Any, Literal, Self, TypeVar, overload

from typing_extensions import disjoint_base

from flatstream._core.arrow.exporter import ColumnData, ColumnType
from flatstream._core.base.exclusive import Exclusive
from flatstream._core.column_reader.plan import ReadPlan
from flatstream._core.records.conditions import _ParsedCondition
from flatstream._core.stream.decoder import Decoder
from flatstream.errors import FlatStreamError

FIRST_FAILED: str
_T = TypeVar("_T")

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
        on_error: Literal["raise", "skip", "stop", "resync"] | None = None,
        progress: Callable[[int, int], object] | None = None,
        limits: tuple[int, int, int] = (64, 1_000_000, 2147483648),
        on_other: str = "raise",
        excluded: bytes | None = None,
        numbers: str | None = None,
    ) -> None: ...
    @property
    def skipped(self) -> int: ...
    @property
    def lost_ranges(self) -> list[tuple[int, int]]: ...
    @property
    def stop_error(self) -> FlatStreamError | None: ...
    @property
    def total_others(self) -> int: ...
    @property
    def reached(self) -> tuple[int, int] | None: ...
    @property
    def type(self) -> ColumnType: ...
    def check(self) -> None: ...
    @overload
    def read(
        self, max_rows: int | None, one_batch: bool = False, make: None = None
    ) -> tuple[ColumnData, int, list[tuple[int, int]], int] | None: ...
    @overload
    def read(self, max_rows: int | None, one_batch: bool, make: Callable[..., _T]) -> _T | None: ...

@disjoint_base
class ColumnIterator:
    def __init__(self, reader: ColumnReader, max_rows: int, one_batch: bool, make: Callable[..., object]) -> None: ...
    @property
    def _reader(self) -> ColumnReader: ...
    @property
    def _at_end(self) -> bool: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def next_data(self) -> ColumnData | None: ...
