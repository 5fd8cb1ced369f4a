from collections.abc import Callable

from typing_extensions import disjoint_base

from flatstream._core.column_reader.plan import ReadPlan
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.frame_watcher import FrameWatcher

FORM_NAMES: dict[int, str]
MAX_HASHED: int

_Range = tuple[bytes, bytes, bytes | None]
_Run = tuple[int, int, bytes, bytes, bytes | None, list[_Range], int, int]

@disjoint_base
class BlockBuilder(FrameWatcher):
    def __init__(
        self,
        plan: ReadPlan,
        *,
        block_size: int = 65536,
        least_size: int = 16384,
        excluded: bytes | None = None,
        offset: int = 0,
        number: int = 0,
    ) -> None: ...
    @property
    def forms(self) -> list[str]: ...
    @property
    def waiting_blocks(self) -> int: ...
    @property
    def seen_to(self) -> tuple[int, int]: ...
    @property
    def failure(self) -> Exception | None: ...
    def watch(
        self,
        head_size: int,
        base_offset: int,
        base_number: int,
        sees_stored: bool,
        threshold: int,
        on_blocks: Callable[[], object],
        on_end: Callable[[], object],
    ) -> None: ...
    def stop(self) -> None: ...
    def add(self, batch: FrameBatch, number: int, offset: int = 0) -> None: ...
    def skip_to(self, offset: int, number: int) -> None: ...
    def take(self, with_rest: bool = False) -> list[_Run]: ...
