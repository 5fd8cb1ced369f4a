from collections.abc import Iterable
from typing import Any

from typing_extensions import disjoint_base

from flatstream._core.base.exclusive import Exclusive
from flatstream._core.flatbuf.builder import Builder
from flatstream._core.flatbuf.layout import Layout

@disjoint_base
class ObjectPlan: ...

@disjoint_base
class RecordBuilder(Exclusive):
    layout: Layout
    number: int
    def __init__(
        self, layout: Layout, number: int, *, file_identifier: bytes = b"", force_defaults: bool = False
    ) -> None: ...
    def encode(self, builder: Builder, record: Any) -> int: ...
    def variant_of(self, union_index: int, value: Any) -> int: ...

def declared_fields(cls: type) -> Iterable[str]: ...
def generated_name(name: str) -> str | None: ...
