"""The order in which messages stand that have times, or none."""

from __future__ import annotations

from itertools import accumulate

__all__ = ["BEFORE", "Order"]

# Before all times: the key of messages before the first one that has a time.
BEFORE = -(2**200)


class Order:
    """Keys that never decrease, for the messages of one stream: the latest time so far, in nanoseconds.

    So a message without a time, or with an earlier one than a message before it, keeps its place in the stream.
    """

    def __init__(self) -> None:
        self.latest = BEFORE
        # How many messages have an earlier time than one before them.
        self.out_of_order = 0

    def keys(self, times: list[int | None]) -> list[int]:
        """The keys of the next messages."""
        known = [BEFORE if time is None else time for time in times]
        keys = list(accumulate(known, max, initial=self.latest))[1:]
        if keys != known:
            self.out_of_order += sum(time is not None and time < key for time, key in zip(times, keys, strict=True))
        if keys:
            self.latest = keys[-1]
        return keys
