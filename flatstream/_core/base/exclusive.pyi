from collections.abc import Callable
from typing import TypeVar

from typing_extensions import disjoint_base

_T = TypeVar("_T")

@disjoint_base
class Exclusive:
    def _check_can_enter(self) -> None: ...
    def _call_exclusively(self, function: Callable[[], _T]) -> _T: ...
