"""The order of the messages of one journal: which to take, which are repeats, which came too early. No I/O."""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

__all__ = ["Missing", "Order", "Taken"]


class _Numbered(Protocol):
    @property
    def first(self) -> int: ...
    @property
    def next(self) -> int: ...
    @property
    def after(self) -> int: ...
    @property
    def acked(self) -> int: ...


MessageT = TypeVar("MessageT", bound=_Numbered)


class Missing(NamedTuple):
    """Numbers of which no frame will come.

    Attributes
    ----------
    journal : str
        The identity of the journal.
    first, next : int
        The first number, and the one behind the last.
    cause : {"journal", "stream"}
        The journal that is forwarded did not have them, or they were too large to be forwarded; or the stream of the
        broker has lost them: its limits, or a receiver that refused them.
    """

    journal: str
    first: int
    next: int
    cause: Literal["journal", "stream"]


class Taken(NamedTuple, Generic[MessageT]):
    """A message whose turn it is. Of its frames, the first `skip` were there already. `missing` are before it."""

    message: MessageT
    skip: int
    missing: list[Missing]


class Order(Generic[MessageT]):
    """What to do with the messages of one journal.

    Parameters
    ----------
    journal : str
        Its identity.
    position : int or None
        The number of the first frame that is wanted; None if nothing is known of the journal.

    Attributes
    ----------
    position : int or None
        The number of the next frame.
    held : dict
        The messages that came too early, by their numbers.
    """

    def __init__(self, journal: str, position: int | None) -> None:
        self.journal = journal
        self.position = position
        self.held: dict[tuple[int, int], MessageT] = {}
        self._acked = 0
        self._lost: list[Missing] = []

    def judge(self, message: MessageT) -> Literal["next", "repeated", "early"]:
        """What a message is, without taking it."""
        if self.position is None:
            return "early"
        # A description has no frames, and is of those from its number on.
        if message.next < self.position or (message.first < message.next <= self.position):
            return "repeated"
        return "early" if message.after > self.position else "next"

    def take(self, message: MessageT) -> Taken[MessageT]:
        """Takes a message that is the next one."""
        assert self.position is not None
        missing, self._lost = self._lost, []
        if message.first > self.position:
            missing = [*missing, Missing(self.journal, self.position, message.first, "journal")]
        skip = max(0, self.position - message.first)
        self.position = max(self.position, message.next)
        self._acked = max(self._acked, message.acked)
        return Taken(message, skip, missing)

    def hold(self, message: MessageT) -> None:
        """Keeps a message that came too early. Another copy of it takes its place."""
        self._acked = max(self._acked, message.acked)
        self.held[message.first, message.next] = message

    def conclude(self) -> None:
        """Says that all messages were looked at that the stream has before one of those that are held. So what is
        missing and was stored before it was published is lost.
        """
        if not self.held:
            return
        if self.position is None:
            # Nothing of the journal was ever taken: it begins with what the broker does not have already.
            self.position = min(self._acked, min(one.first for one in self.held.values()))
        end = min(self._acked, min(one.after for one in self.held.values()))
        if end > self.position:
            self._lost.append(Missing(self.journal, self.position, end, "stream"))
            self.position = end

    def release(self) -> tuple[list[Taken[MessageT]], list[MessageT]]:
        """Takes the held messages whose turn it is by now; returns them, and those that are repeats by now."""
        taken, repeated = [], []
        while True:
            for key, message in sorted(self.held.items()):
                verdict = self.judge(message)
                if verdict == "early":
                    continue
                del self.held[key]
                if verdict == "next":
                    taken.append(self.take(message))
                else:
                    repeated.append(message)
                break
            else:
                return taken, repeated
