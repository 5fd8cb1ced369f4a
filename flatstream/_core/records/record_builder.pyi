from typing import Any

from typing_extensions import disjoint_base

from flatstream._core.base.exclusive import Exclusive
from flatstream._core.flatbuf.builder import Builder
from flatstream._core.flatbuf.layout import Layout

@disjoint_base
class RecordBuilder(Exclusive):
    def __init__(
        self, layout: Layout, number: int, *, file_identifier: bytes = b"", force_defaults: bool = False
    ) -> None: ...
    def _encode(self, builder: Builder, record: Any) -> int: ...
