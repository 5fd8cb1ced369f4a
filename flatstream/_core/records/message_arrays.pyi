from typing import final

TYPE_CODES: tuple[str | None, ...]
BIG_ENDIAN: bool
byteorder: str
FORMATS: tuple[str | None, ...]

@final
class ArrayTypes:
    # Always raises, as the next one does.
    def __init__(self, *args: object, **kwargs: object) -> None: ...

@final
class ArrayMemory:
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
