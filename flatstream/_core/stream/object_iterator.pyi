from collections.abc import Callable
from typing import Any, Literal, NoReturn, Self, final

from flatstream._core.stream.decoder import Decoder

FIRST_FAILED: str

@final
class ObjectIterator:
    def __init__(
        self,
        decoder: Decoder,
        loads: Callable[[Any], Any],
        refusals: tuple[type[BaseException], ...],
        refusal: Callable[[Any], Any],
        on_error: Literal["raise", "skip", "stop", "resync"] | None = None,
    ) -> None: ...
    def __reduce__(self) -> NoReturn: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
