"""Memory policies: when to give back the memory that a burst of large messages left behind."""

from flatstream._core.stream.memory_policy import (
    AdaptiveWatermarkPolicy,
    MemoryPolicy,
    NoOpPolicy,
    ReclamationInfo,
    ReclamationReason,
    SizeThresholdPolicy,
)

__all__ = [
    "AdaptiveWatermarkPolicy",
    "MemoryPolicy",
    "NoOpPolicy",
    "ReclamationInfo",
    "ReclamationReason",
    "SizeThresholdPolicy",
]
