from collections.abc import Iterable
from typing import Literal, final

from flatstream._core.records.record_view import RecordView

@final
class JsonLines:
    # Always raises: Table.json_lines makes them.
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    @property
    def lines(self) -> int: ...
    def __iter__(self) -> JsonLines: ...
    def __next__(self) -> bytes: ...

def json_lines(
    records: Iterable[RecordView],
    *,
    enums: Literal["name", "number"] = "name",
    defaults: bool = False,
    nonfinite: Literal["string", "null", "bare"] = "string",
    chunk_size: int | None = None,
) -> JsonLines: ...
