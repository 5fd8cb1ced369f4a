"""Memory policies: when to give back memory that was allocated for large messages."""

import enum
import time
from typing import NamedTuple

from flatstream._core.base.checks cimport checked_minimum
from flatstream._core.base.pickling cimport reduced

DEFAULT_BASELINE_CAPACITY = 16 * 1024


class ReclamationReason(enum.Enum):
    """Why a policy asked for memory to be given back."""

    MESSAGE_COUNT = "message_count"
    TIME_COOLDOWN = "time_cooldown"
    SIZE_THRESHOLD = "size_threshold"


class ReclamationInfo(NamedTuple):
    """Which memory was given back, and why.

    Attributes
    ----------
    reason : ReclamationReason
        The result of the policy.
    last_message_size : int
        The size in bytes of the message after which the policy was asked.
    capacity_before, capacity_after : int
        The capacity that was held, and the capacity that replaces it, in bytes.
    """

    reason: ReclamationReason
    last_message_size: int
    capacity_before: int
    capacity_after: int


cdef class MemoryPolicy:
    """Decides when a builder (writing) or a chunk (reading) is replaced by a smaller one. Subclass it.

    The policy is asked after each message while the capacity is larger than ``baseline_capacity``. The replacement has
    that capacity. Payloads already handed out stay valid: each keeps its memory alive.

    Attributes
    ----------
    baseline_capacity : int
        In bytes; 16 KiB by default. Read once, when a writer or reader takes the policy.
    """

    baseline_capacity = DEFAULT_BASELINE_CAPACITY

    def should_reset(self, last_message_size, current_capacity):
        """Returns a ReclamationReason to shrink now, or None. Sizes are in bytes."""
        raise TypeError(f"{type(self).__name__} must define should_reset(last_message_size, current_capacity)")

    def on_reclaim(self, info):
        """Called after memory was given back, with a ReclamationInfo."""

    def __reduce__(self):
        return reduced(self, MemoryPolicy, (), {})


cdef class NoOpPolicy(MemoryPolicy):
    """Never shrinks."""

    def should_reset(self, last_message_size, current_capacity):
        """None."""
        return None


cdef class AdaptiveWatermarkPolicy(MemoryPolicy):
    """Shrinks memory whose capacity is many times the size of the messages for a number of messages or for a time.

    Parameters
    ----------
    size_ratio_threshold : int
        The capacity is too large if it is at least this many times the size of the last message.
    messages_to_wait : int
        Shrink (MESSAGE_COUNT) after this many messages in a row for which the capacity was too large.
    cooldown : float, optional
        Or shrink (TIME_COOLDOWN) after this many seconds in which it was too large for every message.
    baseline_capacity : int
        The capacity after shrinking, in bytes.
    clock : callable
        Returns the time in seconds; called only if there is a cooldown.

    Notes
    -----
    A message for which the capacity is not too large resets the count and the clock, so that alternating sizes do not
    shrink and grow the memory again and again. So does an empty message, whose size has no meaning here.
    """

    cdef readonly object size_ratio_threshold
    """The capacity is too large from this many times the size of the last message on."""
    cdef readonly object messages_to_wait
    """The number of messages in a row after which the memory shrinks."""
    cdef readonly object cooldown
    """The number of seconds after which the memory shrinks, or None."""
    cdef readonly object baseline_capacity
    """The capacity after shrinking, in bytes."""
    cdef readonly object clock
    """Returns the time in seconds."""
    cdef object count
    cdef object since

    def __init__(
        self, size_ratio_threshold=4, messages_to_wait=5, cooldown=None, *,
        baseline_capacity=DEFAULT_BASELINE_CAPACITY, clock=time.monotonic,
    ):
        self.size_ratio_threshold = checked_minimum("size_ratio_threshold", size_ratio_threshold, 1)
        self.messages_to_wait = checked_minimum("messages_to_wait", messages_to_wait, 1)
        self.baseline_capacity = checked_minimum("baseline_capacity", baseline_capacity, 0)
        if cooldown is not None and not (isinstance(cooldown, (int, float)) and cooldown >= 0):
            raise ValueError(f"cooldown must be None or seconds >= 0, got {cooldown!r:.100}")
        if not callable(clock):
            raise TypeError(f"clock must be callable, got {clock!r:.100}")
        self.cooldown = cooldown
        self.clock = clock
        self.count = 0
        self.since = None

    def __reduce__(self):
        # Not the messages seen so far: they are those of one stream, and the clock is that of one process.
        return reduced(
            self, AdaptiveWatermarkPolicy, (self.size_ratio_threshold, self.messages_to_wait, self.cooldown),
            {"baseline_capacity": self.baseline_capacity, "clock": self.clock},
        )

    def should_reset(self, last_message_size, current_capacity):
        """MESSAGE_COUNT, TIME_COOLDOWN or None."""
        if last_message_size == 0 or current_capacity < last_message_size * self.size_ratio_threshold:
            self.count = 0
            self.since = None
            return None
        self.count += 1
        now = None
        late = False
        if self.cooldown is not None:
            now = self.clock()
            if self.since is None:
                self.since = now
            late = now - self.since >= self.cooldown
        if not late and self.count < self.messages_to_wait:
            return None
        self.count = 0
        # Not `now`: the policy is not asked again before the capacity has grown, and after that gap the cooldown would
        # be over at once.
        self.since = None
        return ReclamationReason.TIME_COOLDOWN if late else ReclamationReason.MESSAGE_COUNT


cdef class SizeThresholdPolicy(MemoryPolicy):
    """Shrinks memory after a large message, once it was followed by `messages_to_wait` small messages.

    Parameters
    ----------
    grow_above_bytes : int
        A message larger than this is large.
    shrink_below_bytes : int
        A message smaller than this is small.
    messages_to_wait : int
        The number of small messages in a row after which the memory shrinks (SIZE_THRESHOLD).
    baseline_capacity : int
        The capacity after shrinking, in bytes.
    """

    cdef readonly object grow_above_bytes
    """A message larger than this is large."""
    cdef readonly object shrink_below_bytes
    """A message smaller than this is small."""
    cdef readonly object messages_to_wait
    """The number of small messages in a row after which the memory shrinks."""
    cdef readonly object baseline_capacity
    """The capacity after shrinking, in bytes."""
    cdef bint large_seen
    cdef object count

    def __init__(
        self, grow_above_bytes=1 << 20, shrink_below_bytes=1 << 10, messages_to_wait=8, *,
        baseline_capacity=DEFAULT_BASELINE_CAPACITY,
    ):
        self.grow_above_bytes = checked_minimum("grow_above_bytes", grow_above_bytes, 0)
        self.shrink_below_bytes = checked_minimum("shrink_below_bytes", shrink_below_bytes, 0)
        self.messages_to_wait = checked_minimum("messages_to_wait", messages_to_wait, 1)
        self.baseline_capacity = checked_minimum("baseline_capacity", baseline_capacity, 0)
        self.large_seen = False
        self.count = 0

    def __reduce__(self):
        return reduced(
            self, SizeThresholdPolicy, (self.grow_above_bytes, self.shrink_below_bytes, self.messages_to_wait),
            {"baseline_capacity": self.baseline_capacity},
        )

    def should_reset(self, last_message_size, current_capacity):
        """SIZE_THRESHOLD or None."""
        if last_message_size > self.grow_above_bytes:
            self.large_seen = True
            self.count = 0
            return None
        if not self.large_seen:
            return None
        if last_message_size >= self.shrink_below_bytes:
            self.count = 0
            return None
        self.count += 1
        if self.count < self.messages_to_wait:
            return None
        self.large_seen = False
        self.count = 0
        return ReclamationReason.SIZE_THRESHOLD
