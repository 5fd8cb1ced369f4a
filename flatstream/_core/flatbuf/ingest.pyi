from typing import Any

from flatstream._core.encoder import Encoder
from flatstream._core.flatbuf.layout import Layout

def write_columns(encoder: Encoder, layout: Layout, number: int, columns: Any, identifier: bytes = b"") -> int: ...
