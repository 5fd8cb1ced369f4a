"""Memory policies: when to give back memory that was allocated for large messages."""

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
