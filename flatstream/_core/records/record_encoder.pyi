from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import disjoint_base

from flatstream._core.flatbuf.layout import Layout
from flatstream._core.records.record_builder import RecordBuilder
from flatstream._core.stream.encoder import Encoder

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
        consult: Callable[[Any, Callable[[Any], None]], object] | None = None,
    ) -> None: ...
    def _use_builder(self, builder: Any) -> None: ...
    def write_record(self, record: Any) -> None: ...
    def write_records(self, records: Iterable[Any]) -> int: ...

def write(self: RecordEncoder, /, **fields: Any) -> None: ...
