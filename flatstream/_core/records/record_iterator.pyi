from typing import Literal, final

from typing_extensions import Buffer

from flatstream._core.records.field_lookup import RecordTypes
from flatstream._core.records.record_filter import RecordFilter
from flatstream._core.records.record_view import RecordView
from flatstream._core.stream.decoder import Decoder

FIRST_FAILED: str

@final
class RecordIterator:
    # Always raises: iterate_records makes them.
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    @property
    def others(self) -> int: ...
    def __iter__(self) -> RecordIterator: ...
    def __next__(self) -> RecordView: ...

def view_message(
    types: RecordTypes,
    number: int,
    payload: Buffer,
    verify: bool,
    limits: tuple[int, int, int] = (64, 1_000_000, 2147483648),
) -> RecordView: ...
def iterate_records(
    types: RecordTypes,
    number: int,
    reader: Decoder,
    verify: bool,
    limits: tuple[int, int, int] = (64, 1_000_000, 2147483648),
    on_other: str = "raise",
    on_error: Literal["raise", "skip", "stop", "resync"] | None = None,
    selected: RecordFilter | None = None,
) -> RecordIterator: ...
def iterate_mixed_records(
    tables: dict[bytes, tuple[RecordTypes, int]],
    reader: Decoder,
    verify: bool,
    limits: tuple[int, int, int] = (64, 1_000_000, 2147483648),
    on_other: str = "raise",
    on_error: Literal["raise", "skip", "stop", "resync"] | None = None,
    selected: RecordFilter | None = None,
) -> RecordIterator: ...
