from typing import final

from typing_extensions import Buffer

FORMATS: tuple[str | None, ...]

@final
class ArrayTypes:
    # Always raises, as the next one does.
    def __init__(self, *args: object, **kwargs: object) -> None: ...

@final
class ArrayMemory(Buffer):
    def __init__(self, *args: object, **kwargs: object) -> None: ...
