from typing import Any, final

from flatstream._core.column_writer.plan import ColumnPlan
from flatstream._core.flatbuf.layout import Layout
from flatstream._core.stream.encoder import Encoder

NUMBER_NAMES: dict[int, str]
NUMBER_RANGES: dict[int, str]

@final
class Rows(ColumnPlan): ...

def write_columns(
    encoder: Encoder,
    layout: Layout,
    number: int,
    columns: Any,
    identifier: bytes = b"",
    force_defaults: bool = False,
) -> int: ...
