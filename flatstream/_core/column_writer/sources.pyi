from typing import final

from typing_extensions import disjoint_base

FORMATS: dict[str, tuple[int, str]]
SIGNED: dict[int, tuple[int, str]]
UNSIGNED: dict[int, tuple[int, str]]

@disjoint_base
class Values:
    def __new__(cls, values: list[object]) -> Values: ...

@disjoint_base
class Feed: ...

@final
class Whole:
    def __new__(cls, value: object) -> Whole: ...
