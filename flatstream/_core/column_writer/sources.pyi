from typing import final

from typing_extensions import disjoint_base

@disjoint_base
class PythonList:
    def __new__(cls, values: list[object]) -> PythonList: ...

@disjoint_base
class ArrayStream: ...

@final
class WholeColumn:
    def __new__(cls, value: object) -> WholeColumn: ...
