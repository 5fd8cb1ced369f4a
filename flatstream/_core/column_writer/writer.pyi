from typing import Any, final

from flatstream._core.column_writer.row_builder import RowBuilder
from flatstream._core.flatbuf.layout import Layout
from flatstream._core.stream.encoder import Encoder

@final
class RowWriter(RowBuilder): ...

def write_columns(
    encoder: Encoder,
    layout: Layout,
    number: int,
    columns: Any,
    identifier: bytes = b"",
    force_defaults: bool = False,
) -> int: ...
