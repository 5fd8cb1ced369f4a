from collections.abc import Iterable
from typing import Any

from typing_extensions import disjoint_base

from flatstream._core.encoder import Encoder
from flatstream._core.flatbuf.layout import Layout
from flatstream._core.flatbuf.record_builder import RecordBuilder

@disjoint_base
class Pattern: ...

@disjoint_base
class RecordEncoder(RecordBuilder):
    def __init__(
        self,
        layout: Layout,
        number: int,
        encoder: Encoder,
        *,
        file_identifier: bytes = b"",
        force_defaults: bool = False,
    ) -> None: ...
    def write_record(self, record: Any) -> None: ...
    def write_records(self, records: Iterable[Any]) -> int: ...

def write(self: RecordEncoder, /, **fields: Any) -> None: ...
