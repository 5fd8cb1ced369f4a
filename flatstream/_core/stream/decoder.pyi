from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

from typing_extensions import Buffer, disjoint_base

from flatstream._core.framing.deframer import Deframer
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.input_buffer import InputBuffer
from flatstream._core.stream.memory_policy import MemoryPolicy

FIRST_FAILED: str

@disjoint_base
class Decoder(InputBuffer):
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
        follower: Any = None,
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
    def message_offset(self) -> int: ...
    @property
    def message_number(self) -> int: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> memoryview: ...
    def read_message(self, timeout: float | None = None) -> memoryview | None: ...
    def process_all(self, fn: Callable[[memoryview], object]) -> int: ...
    def read_batch(self, max_frames: int | None = None, max_bytes: int | None = None) -> FrameBatch | None: ...
    def batches(self, max_frames: int | None = None, max_bytes: int | None = None) -> Iterator[FrameBatch]: ...

_D = TypeVar("_D", bound=Decoder)

def iterates_in_c(cls: type[_D]) -> type[_D]: ...
