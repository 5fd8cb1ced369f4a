"""Memory policies: releasing the memory that a burst of large messages left behind.

A builder grows to the largest message that it has built, and a reader's chunk to the largest frame. A policy decides
when to shrink them. Payloads that were handed out keep their memory.
"""

from __future__ import annotations

import io

from flatstream import (
    AdaptiveWatermarkPolicy,
    MemoryPolicy,
    ReclamationInfo,
    ReclamationReason,
    SizeThresholdPolicy,
    StreamReader,
    StreamWriter,
)

BASELINE = 4096


class Reported(SizeThresholdPolicy):
    """A built-in policy that prints each reclamation."""

    def on_reclaim(self, info: ReclamationInfo) -> None:
        print(f"  {info.reason.value}: from {info.capacity_before} to {info.capacity_after} bytes")


class OncePerLargeMessage(MemoryPolicy):
    """A custom policy: shrink at the first small message."""

    baseline_capacity = BASELINE

    def __init__(self) -> None:
        self.reclaimed: list[ReclamationInfo] = []

    def should_reset(self, last_message_size: int, current_capacity: int) -> ReclamationReason | None:
        return ReclamationReason.SIZE_THRESHOLD if last_message_size < BASELINE else None

    def on_reclaim(self, info: ReclamationInfo) -> None:
        self.reclaimed.append(info)


def show_writing() -> None:
    print("writing, after a large message and 3 small ones:")
    policy = Reported(grow_above_bytes=100_000, shrink_below_bytes=1000, messages_to_wait=3, baseline_capacity=BASELINE)
    with StreamWriter(io.BytesIO(), capacity=BASELINE, memory_policy=policy) as writer:
        writer.write("x" * 200_000)
        assert len(writer.builder.Bytes) >= 200_000
        writer.write_batch(["a", "b"])
        assert len(writer.builder.Bytes) >= 200_000
        writer.write("c")
        assert len(writer.builder.Bytes) == BASELINE


def show_reading() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payloads([bytes(1_000_000)] + [b"small"] * 2000)
    sink.seek(0)
    policy = OncePerLargeMessage()
    with StreamReader(sink, capacity=BASELINE, memory_policy=policy) as reader:
        large = next(reader)
        assert reader.buffer_capacity > 1_000_000
        assert reader.process_all(len) == 2000
        assert reader.buffer_capacity == BASELINE
    # The large payload is still valid: its memory belongs to the holder of the view.
    assert bytes(large) == bytes(1_000_000)
    (info,) = policy.reclaimed
    print(f"reading: from {info.capacity_before} to {info.capacity_after} bytes after a message of 5")


def show_the_clock() -> None:
    # A policy with a cooldown reads a clock, which can be any function.
    now = 0.0
    policy = AdaptiveWatermarkPolicy(4, messages_to_wait=1000, cooldown=10.0, clock=lambda: now)
    assert policy.should_reset(100, 100_000) is None
    now = 9.0
    assert policy.should_reset(100, 100_000) is None
    now = 10.0
    assert policy.should_reset(100, 100_000) is ReclamationReason.TIME_COOLDOWN
    # A message that uses most of the memory restarts the cooldown.
    assert policy.should_reset(100, 100_000) is None
    assert policy.should_reset(50_000, 100_000) is None
    now = 21.0
    assert policy.should_reset(100, 100_000) is None
    print("cooldown: 10 seconds of small messages, by a custom clock")


def main() -> None:
    show_writing()
    show_reading()
    show_the_clock()


if __name__ == "__main__":
    main()
