from collections.abc import Callable, Iterable
from typing import Any

from typing_extensions import Buffer, disjoint_base

from flatstream._core.framing.framer import Framer
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.output_buffer import OutputBuffer

@disjoint_base
class Encoder(OutputBuffer):
    def __init__(
        self,
        framer: Framer,
        buffer_size: int,
        write: Callable[[memoryview], int | None],
        *,
        writev: Callable[..., int] | None = None,
        fileno: Callable[[], int] | None = None,
        rollback: Callable[[int], bool] | None = None,
        error_takes_nothing: bool = False,
        none_blocks: bool = False,
        takes_at_once: bool = False,
    ) -> None: ...
    @property
    def framer(self) -> Framer: ...
    @property
    def _is_forked_copy(self) -> bool: ...
    def write_payload(self, payload: Buffer, /) -> None: ...
    def write_payloads(self, payloads: Iterable[Buffer]) -> None: ...
    def write_frames(self, batch: FrameBatch) -> None: ...
    def write_finished(self, builder: Any, /) -> None: ...
    def _write_built(self, build: Callable[[Any], Any], item: Any) -> None: ...

def check_buffer_size(value: object) -> None: ...
