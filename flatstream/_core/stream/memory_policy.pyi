import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from typing_extensions import disjoint_base

DEFAULT_BASELINE_CAPACITY: Final = 16384

class ReclamationReason(enum.Enum):
    MESSAGE_COUNT = "message_count"
    TIME_COOLDOWN = "time_cooldown"
    SIZE_THRESHOLD = "size_threshold"

class ReclamationInfo(NamedTuple):
    reason: ReclamationReason
    last_message_size: int
    capacity_before: int
    capacity_after: int

class MemoryPolicy:
    @property
    def baseline_capacity(self) -> int: ...
    def should_reset(self, last_message_size: int, current_capacity: int) -> ReclamationReason | None: ...
    def on_reclaim(self, info: ReclamationInfo) -> None: ...

class NoOpPolicy(MemoryPolicy):
    def should_reset(self, last_message_size: int, current_capacity: int) -> None: ...

@disjoint_base
class AdaptiveWatermarkPolicy(MemoryPolicy):
    @property
    def size_ratio_threshold(self) -> int: ...
    @property
    def messages_to_wait(self) -> int: ...
    @property
    def cooldown(self) -> float | None: ...
    @property
    def baseline_capacity(self) -> int: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    def __init__(
        self,
        size_ratio_threshold: int = 4,
        messages_to_wait: int = 5,
        cooldown: float | None = None,
        *,
        baseline_capacity: int = 16384,
        clock: Callable[[], float] = ...,
    ) -> None: ...

@disjoint_base
class SizeThresholdPolicy(MemoryPolicy):
    @property
    def grow_above_bytes(self) -> int: ...
    @property
    def shrink_below_bytes(self) -> int: ...
    @property
    def messages_to_wait(self) -> int: ...
    @property
    def baseline_capacity(self) -> int: ...
    def __init__(
        self,
        grow_above_bytes: int = 1048576,
        shrink_below_bytes: int = 1024,
        messages_to_wait: int = 8,
        *,
        baseline_capacity: int = 16384,
    ) -> None: ...
