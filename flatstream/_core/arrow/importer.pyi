from typing import Any

from typing_extensions import disjoint_base

NUMBER_FORMATS: dict[str, tuple[int, int, str]]
BYTES_FORMATS: dict[str, tuple[int, bool, str]]
LIST_FORMATS: dict[str, tuple[int, str]]
UNSUPPORTED_FORMATS: dict[str, str]

@disjoint_base
class Source:
    name: str
    type_name: str
    parts: list[Source]
    def __new__(cls, name: str, type_name: str) -> Source: ...

@disjoint_base
class SchemaOwner: ...

@disjoint_base
class ArrayOwner: ...

@disjoint_base
class StreamOwner:
    def fail(self, code: Any, item: Any) -> None: ...
