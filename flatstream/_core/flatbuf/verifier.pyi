from collections.abc import Sequence
from typing import Any

from typing_extensions import Buffer, disjoint_base

@disjoint_base
class Types:
    def __init__(
        self,
        objects: Sequence[tuple[str, bool, int, Sequence[tuple[Any, ...]]]],
        unions: Sequence[Sequence[tuple[int, int, int]]],
        type_widths: Sequence[int] | None = None,
        *,
        size_prefixed: bool = False,
    ) -> None: ...
    @property
    def prefix_size(self) -> int: ...
    def check_reference(self, kind: int, element: int, index: int, is_struct: bool) -> None: ...
    def verify(
        self,
        root: int,
        payload: Buffer,
        max_depth: int = 64,
        max_tables: int = 1_000_000,
        max_apparent_size: int = 2147483648,
    ) -> tuple[str, str] | None: ...

REASONS: dict[int, str]
