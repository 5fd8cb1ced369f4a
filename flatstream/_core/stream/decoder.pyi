from collections.abc import Callable, Iterator
from typing import Any, Literal, Self, TypeVar, final

from typing_extensions import Buffer, disjoint_base

from flatstream._core.framing.deframer import Deframer
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.head import HeadBuffer
from flatstream._core.stream.memory_policy import MemoryPolicy
from flatstream.errors import FlatStreamError

FIRST_FAILED: str
DEFAULT_RESYNC_WINDOW: int

_OnError = Literal["raise", "skip", "stop", "resync"] | None

@disjoint_base
class Decoder(HeadBuffer):
    def __init__(
        self,
        deframer: Deframer,
        capacity: int,
        *,
        readinto: Callable[[memoryview], int | None] | None = None,
        read: Callable[[int], Buffer | None] | None = None,
        buffer: Buffer | None = None,
        memory_policy: MemoryPolicy | None = None,
        error_takes_nothing: bool = False,
        on_error: Literal["raise", "skip", "stop", "resync"] | None = "raise",
        resync_window: int = 67108864,
        allow_empty: bool | None = None,
        seekable: bool = False,
        bytes_left: Callable[[], int] | None = None,
        follower: Any = None,
        parts: Any = None,
        parse_description: Callable[[memoryview], Any] | None = None,
    ) -> None: ...
    @property
    def deframer(self) -> Deframer: ...
    @property
    def frames_read(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def _is_following(self) -> bool: ...
    @property
    def _frames_refused(self) -> int: ...
    @property
    def message_offset(self) -> int: ...
    @property
    def message_number(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def lost_bytes(self) -> int: ...
    @property
    def lost_ranges(self) -> list[tuple[int, int]]: ...
    @property
    def stop_error(self) -> FlatStreamError | None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> memoryview: ...
    def read_message(self, timeout: float | None = None) -> memoryview | None: ...
    def process_all(self, fn: Callable[[memoryview], object], *, on_error: _OnError = None) -> int: ...
    def read_batch(
        self, max_frames: int | None = None, max_bytes: int | None = None, *, on_error: _OnError = None
    ) -> FrameBatch | None: ...
    def batches(
        self, max_frames: int | None = None, max_bytes: int | None = None, *, on_error: _OnError = None
    ) -> Iterator[FrameBatch]: ...
    def _set_source_size(self, function: Callable[[], int]) -> None: ...

@final
class PayloadIterator:
    def __init__(self, decoder: Decoder, on_error: _OnError) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> memoryview: ...

_D = TypeVar("_D", bound=Decoder)

def iterates_in_c(cls: type[_D]) -> type[_D]: ...
