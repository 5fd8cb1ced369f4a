from fractions import Fraction
from typing import Any, Final, TypeAlias

from typing_extensions import disjoint_base

_ParsedCondition: TypeAlias = tuple[str, str, tuple[Any, ...], str | None]

OPERATORS: Final[tuple[str, ...]]
UNITS: Final[dict[str, int]]

@disjoint_base
class Condition:
    # Always raises: they are made inside of the core.
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> int: ...
    @property
    def is_text(self) -> bool: ...

def parse_conditions(where: Any) -> list[_ParsedCondition]: ...
def key_bounds(kind: int, number: Any) -> tuple[int, int]: ...
def number_operand(value: Any, what: str, unit: str | None) -> int | float | Fraction: ...
