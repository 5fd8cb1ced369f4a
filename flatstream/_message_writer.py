"""MessageWriter: what all writers of messages do, wherever their bytes go to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flatstream._core.base.checks import index_argument
from flatstream._core.flatbuf.builder import Builder
from flatstream._core.stream.encoder import Encoder
from flatstream._core.stream.memory_policy import MemoryPolicy, ReclamationInfo, ReclamationReason
from flatstream.serialization import Packable, StreamSerialize, serialize
from flatstream.serializers import Serializer

__all__ = ["MessageWriter"]

DEFAULT_BUILDER_CAPACITY = 1024


class MessageWriter(Encoder):
    """The ways to write messages that `StreamWriter` and `FrameSerializer` share, and the builder of `write`."""

    # Instead of a builder; and its function.
    _serializer: Serializer | None = None
    _dumps: Callable[[Any], Any] | None = None

    def _set_builder(
        self,
        builder: Any,
        capacity: int | None,
        memory_policy: MemoryPolicy | None,
        make_builder: Callable[[int], Any] | None,
    ) -> None:
        """Takes the arguments about the builder. To be called before anything is opened: they may be wrong."""
        if memory_policy is not None and not isinstance(memory_policy, MemoryPolicy):
            raise TypeError(f"memory_policy must be an instance of MemoryPolicy, got {memory_policy!r:.100}")
        baseline = 0 if memory_policy is None else memory_policy.baseline_capacity
        baseline = index_argument("memory_policy.baseline_capacity", baseline)
        if baseline < 0:
            raise ValueError(f"memory_policy.baseline_capacity must be at least 0, got {baseline}")
        if make_builder is not None and not callable(make_builder):
            raise TypeError(f"make_builder must be callable, got {make_builder!r:.100}")
        capacity = None if capacity is None else index_argument("capacity", capacity)
        if capacity is not None and capacity < 0:
            raise ValueError(f"capacity must not be negative, got {capacity}")
        if builder is not None:
            _check_builder(builder)
        self._builder = builder
        self._capacity = DEFAULT_BUILDER_CAPACITY if capacity is None else max(capacity, 1)
        self._make_builder = make_builder
        self._policy = memory_policy
        self._baseline = baseline

    @property
    def builder(self) -> Any:
        """The builder of `write`, which the next `write` clears."""
        if self._builder is None:
            self._builder = self._new_builder(self._capacity)
        return self._builder

    def _new_builder(self, capacity: int) -> Any:
        if self._make_builder is not None:
            builder = self._make_builder(capacity)
            _check_builder(builder)
            return builder
        return Builder(capacity)

    @property
    def serializer(self) -> Serializer | None:
        """What makes payloads of the items of `write`; None: they are FlatBuffers."""
        return self._serializer

    def _set_serializer(self, serializer: Serializer | None) -> None:
        self._serializer = serializer
        self._dumps = None if serializer is None else serializer._dumps

    # Writing objects

    def write(self, item: Any) -> None:
        """Writes the message of `item`, which the serializer makes, or else the writer's own builder.

        Without a serializer, `item` is a `str`, which becomes the root of the message; an object whose
        ``serialize(builder)`` calls ``builder.Finish``; or an object of flatc's object API, with ``Pack(builder)``.
        """
        if self._dumps is not None:
            self.write_payload(self._dumps(item))
            return
        self._write_built(self._build, item)

    def _build(self, item: str | StreamSerialize | Packable) -> Any:
        builder = self._builder
        if builder is None:
            builder = self.builder
        builder.Clear()
        serialize(item, builder)
        if self._policy is not None:
            # Before the message is framed, so that nothing of it is written if the policy raises. If the builder is
            # replaced, this one still holds the message.
            self._consult(builder, self._use_builder)
        return builder

    def _use_builder(self, builder: Any) -> None:
        self._builder = builder

    def write_batch(self, items: Iterable[Any]) -> None:
        """Writes each of `items` as `write` does. If one fails, those before it are written; see `frames_written`."""
        if isinstance(items, str) or not hasattr(type(items), "__iter__"):
            raise TypeError(
                f"items must be an iterable of items, got one {type(items).__name__}: write() takes a single item"
            )
        if self._dumps is not None:
            self.write_payloads(map(self._dumps, items))
            return
        for item in items:
            self.write(item)

    def _consult(self, builder: Any, use_builder: Callable[[Any], None]) -> None:
        """Asks the memory policy, if the builder is larger than its baseline. If the policy wants a smaller one, calls
        ``use_builder(builder)`` with a new builder.
        """
        capacity = len(builder.Bytes)
        if capacity <= self._baseline:
            return
        assert self._policy is not None
        size = capacity - builder.Head()
        reason = self._policy.should_reset(size, capacity)
        if reason is None:
            return
        if not isinstance(reason, ReclamationReason):
            raise TypeError(
                f"{type(self._policy).__name__}.should_reset must return a ReclamationReason or None, "
                f"got {reason!r:.100}"
            )
        use_builder(self._new_builder(self._baseline))
        self._policy.on_reclaim(ReclamationInfo(reason, size, capacity, self._baseline))

    @property
    def _builder_consultant(self) -> Callable[[Any, Callable[[Any], None]], None] | None:
        """The function with which a record writer asks the memory policy; None if there is no policy."""
        return None if self._policy is None else self._consult

    # Writing finished messages: write_payload, write_payloads and write_finished are inherited

    def write_message(self, builder: Any) -> None:
        """Writes the message that `builder` has finished. If it was written, clears the builder."""
        self.write_finished(builder)
        builder.Clear()


def _check_builder(builder: Any) -> None:
    if isinstance(builder, type):
        raise TypeError(f"builder must be an instance of flatbuffers.Builder, got the class {builder.__name__}")
    for name in ("Bytes", "Head", "Clear", "Finish", "finished"):
        if not hasattr(builder, name):
            raise TypeError(f"builder must be a flatbuffers.Builder, got {type(builder).__name__} without {name}")
