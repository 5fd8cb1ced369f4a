from collections.abc import Callable
from typing import Any, final

from flatstream._core.records.field_lookup import RecordTypes

@final
class RecordFilter:
    def __init__(
        self,
        types: RecordTypes,
        number: int,
        conditions: list[tuple[str, str, tuple[Any, ...], str | None]],
        limit: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
