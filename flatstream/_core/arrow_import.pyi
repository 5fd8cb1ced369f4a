from typing import Any

NUMBER_FORMATS: dict[str, tuple[int, int, str]]
BYTES_FORMATS: dict[str, tuple[int, bool, str]]
LIST_FORMATS: dict[str, tuple[int, str]]
REFUSED: dict[str, str]

class Source:
    name: str
    type_name: str
    parts: list[Source]
    def __new__(cls, name: str, type_name: str) -> Source: ...

class SchemaOwner: ...
class ArrayOwner: ...

class StreamOwner:
    def fail(self, code: Any, what: Any) -> None: ...
