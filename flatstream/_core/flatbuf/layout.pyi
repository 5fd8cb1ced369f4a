from collections.abc import Sequence
from typing import Any

from typing_extensions import disjoint_base

from flatstream._core.flatbuf.verifier import Types

@disjoint_base
class EnumLayout:
    name: str
    is_union: bool
    bit_flags: bool
    kind: int
    by_name: dict[str, int]
    by_value: dict[int, str]
    def __init__(
        self, name: str, is_union: bool, bit_flags: bool, kind: int, values: Sequence[tuple[str, int]]
    ) -> None: ...

@disjoint_base
class Layout:
    types: Types
    object_names: tuple[str, ...]
    field_names: tuple[tuple[str, ...], ...]
    numbers: tuple[dict[str, int], ...]
    enums: tuple[EnumLayout, ...]
    file_identifier: bytes
    root: int
    nested: dict[tuple[int, int], int]
    hashes: dict[tuple[int, int], str]
    keys: dict[int, int]
    def __init__(
        self,
        types: Types,
        objects: Sequence[tuple[str, int, Sequence[tuple[Any, ...]]]],
        enums: Sequence[EnumLayout],
        file_identifier: bytes,
        root: int = -1,
        *,
        nested: dict[tuple[int, int], int] | None = None,
        hashes: dict[tuple[int, int], str] | None = None,
        keys: dict[int, int] | None = None,
    ) -> None: ...
    def check_field(self, i: int, j: int) -> None: ...
    def inline_size(self, kind: int, index: int) -> int: ...
