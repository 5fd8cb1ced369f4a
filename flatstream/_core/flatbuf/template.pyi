from collections.abc import Iterable
from typing import final

from typing_extensions import disjoint_base

from flatstream._core.flatbuf.layout import Layout

@disjoint_base
class Template:
    size: int
    message: bytes
    def __init__(self, layout: Layout, number: int, fields: Iterable[int], identifier: bytes = b"") -> None: ...
    def offset(self, field: int) -> int | None: ...

@final
class TemplateCache: ...
