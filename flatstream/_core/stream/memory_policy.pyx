"""Memory policies: when to give back the memory that a burst of large messages left behind."""

import enum
import time
from typing import NamedTuple

from flatstream._core.base.checks cimport checked_minimum

DEFAULT_BASELINE_CAPACITY = 16 * 1024


class ReclamationReason(enum.Enum):
    """Why a policy asked for memory to be given back."""

    MESSAGE_COUNT = "message_count"
    TIME_COOLDOWN = "time_cooldown"
    SIZE_THRESHOLD = "size_threshold"


class ReclamationInfo(NamedTuple):
    """What was given back, and why.

    Attributes
    ----------
    reason : ReclamationReason
        What the policy said.
    last_message_size : int
        The size of the message after which it said so, in bytes.
    capacity_before, capacity_after : int
        The capacity that was held, and the one that takes its place, in bytes.
    """

    reason: ReclamationReason
    last_message_size: int
    capacity_before: int
    capacity_after: int


cdef class MemoryPolicy:
    """Decides when a builder (writing) or a chunk (reading) has been too large for too long; subclass it.

    It is asked after a message only while the capacity lies above ``baseline_capacity``, and what it frees shrinks to
    that. Payloads already handed out are never touched: whoever holds one keeps the memory it lies in.

    Attributes
    ----------
    baseline_capacity : int
        In bytes; 16 KiB unless given. Read once, when a writer or reader takes the policy.
    """

    baseline_capacity = DEFAULT_BASELINE_CAPACITY

    def should_reset(self, last_message_size, current_capacity):
        """A ReclamationReason to shrink now, or None. Sizes are in bytes."""
        raise TypeError(f"{type(self).__name__} must define should_reset(last_message_size, current_capacity)")

    def on_reclaim(self, info):
        """Called after memory was given back, with a ReclamationInfo."""


cdef class NoOpPolicy(MemoryPolicy):
    """Never asks for anything."""

    def should_reset(self, last_message_size, current_capacity):
        """None."""
        return None


cdef class AdaptiveWatermarkPolicy(MemoryPolicy):
    """Shrinks what has been `size_ratio_threshold` times larger than the messages for a while.

    Parameters
    ----------
    size_ratio_threshold : int
        The capacity is too large when it is at least this many times the last message's size.
    messages_to_wait : int
        After that many messages in a row for which it was, shrink (MESSAGE_COUNT).
    cooldown : float, optional
        Or after that many seconds in which it was for every message (TIME_COOLDOWN).
    baseline_capacity : int
        What to shrink to, in bytes.
    clock : callable
        Gives the time in seconds; asked only if there is a cooldown.

    Notes
    -----
    One message that uses the memory well starts the count and the clock again, so that alternating sizes do not make it
    shrink and grow for ever. An empty message says nothing about sizes and starts them again too.
    """

    cdef readonly object size_ratio_threshold
    """How many times the last message's size is too much."""
    cdef readonly object messages_to_wait
    """How many messages in a row must say so."""
    cdef readonly object cooldown
    """For how many seconds they must say so, or None."""
    cdef readonly object baseline_capacity
    """What is shrunk to, in bytes."""
    cdef readonly object clock
    """Gives the time in seconds."""
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
        # Not `now`: until the capacity grows again nobody asks, and a time kept over that gap would fire at once.
        self.since = None
        return ReclamationReason.TIME_COOLDOWN if late else ReclamationReason.MESSAGE_COUNT


cdef class SizeThresholdPolicy(MemoryPolicy):
    """Shrinks once `messages_to_wait` small messages came after a large one.

    Parameters
    ----------
    grow_above_bytes : int
        A message is large when it is larger than this.
    shrink_below_bytes : int
        A message is small when it is smaller than this.
    messages_to_wait : int
        How many small messages in a row to see before shrinking (SIZE_THRESHOLD).
    baseline_capacity : int
        What to shrink to, in bytes.
    """

    cdef readonly object grow_above_bytes
    """A message larger than this is large."""
    cdef readonly object shrink_below_bytes
    """A message smaller than this is small."""
    cdef readonly object messages_to_wait
    """How many small messages in a row to see."""
    cdef readonly object baseline_capacity
    """What is shrunk to, in bytes."""
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
