"""FrameParser and FrameSerializer: bytes to messages and messages to bytes, without any input or output.

What reads and writes them is up to the program: asyncio, trio, selectors, a TLS object over memory, a serial port, a
message of another protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flatstream._core.stream.decoder import DEFAULT_RESYNC_WINDOW, iterates_in_c
from flatstream._core.stream.encoder import begin_session
from flatstream._core.stream.fed import FedDecoder
from flatstream._core.stream.keeping import KeepingEncoder
from flatstream._core.stream.memory_policy import MemoryPolicy
from flatstream._message_reader import MessageReader
from flatstream._message_writer import MessageWriter
from flatstream.checksums import Checksum, ChecksumType
from flatstream.description.description import Description
from flatstream.description.head import as_description, begin_description, head_frame
from flatstream.description.serializing import serializer_to_write, with_serializer
from flatstream.framing import Deframer, Framer, as_framer
from flatstream.serializers import Serializer, as_serializer
from flatstream.transforms.described import deframer_to_read

if TYPE_CHECKING:
    from flatstream._message_reader import _OnError
    from flatstream.transforms.ciphers import Cipher

__all__ = ["FrameParser", "FrameSerializer"]

DEFAULT_CAPACITY = 64 * 1024
DEFAULT_MAX_FRAME_LEN = 16 * 1024 * 1024
DEFAULT_MAX_PENDING = 16 * 1024 * 1024

# By how much a payload may be longer as it is stored: what transforms add to it.
MAX_STORED_MORE = 1024


@iterates_in_c
class FrameParser(MessageReader, FedDecoder):
    """Finds the messages in bytes that a program hands in as they arrive.

    ``feed(data)`` copies them; ``get_buffer()`` and ``buffer_updated(n)`` take them without a copy. Then each whole
    frame can be read. A read never waits: if no whole frame has arrived, `read_message` and `read_batch` return None
    and iterations end, and they go on after more bytes.

    A payload stays valid and unchanged for as long as it is held, whatever is handed in after it.

    Parameters
    ----------
    deframer : Deframer, Checksum, ChecksumType or its name, optional
        Finds the frames; without a checksum by default.
    capacity : int
        The size of a chunk of memory in bytes. A larger frame gets a larger one, as its bytes arrive.
    max_frame_len : int or None
        The longest payload in bytes: a longer one is refused before it arrives. A smaller limit of `deframer` itself
        holds as well. None: only that of `deframer`. A description may have 1 MiB, or as much as a message.
    memory_policy : MemoryPolicy, optional
        Decides when a chunk that grew for a large frame is given back.
    allow_empty, on_error, resync_window
        See `StreamReader`. In "resync", a search goes on when more bytes have arrived.
    cipher : Cipher, optional
        For an encrypted stream, see `StreamReader`.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong.
    ChecksumMismatchError, ValidationFailedError
        From a read: the frame was refused. The next read gives the frame after it.
    FlatbufferError
        From the first read, at offset 0: the stream's description is damaged. The next read gives the first message.
    InvalidFrameError
        From a read: a length is over the limit, or the bytes are no frame. Later reads raise the same.
    UnexpectedEofError
        From a read after `feed_eof`: the stream ends inside a frame. Later reads raise the same.

    Notes
    -----
    Memory: a chunk, the bytes of the frame that is not whole, and what was handed in and not read (`buffered`). What a
    frame says of its length reserves at most 1 MiB. So read until None after each `feed`.

    Threads may share a parser; operations exclude one another. Handing in bytes from code that the parser itself calls
    (an observer, a validator) raises RuntimeError.

    Examples
    --------
    >>> parser = FrameParser()
    >>> parser.feed(b"\\x03\\x00\\x00\\x00abc\\x01\\x00")
    >>> [bytes(payload) for payload in parser]
    [b'abc']
    >>> parser.feed(b"\\x00\\x00d")
    >>> bytes(parser.read_message())
    b'd'
    """

    def __init__(
        self,
        deframer: Deframer | Checksum | ChecksumType | str | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
        max_frame_len: int | None = DEFAULT_MAX_FRAME_LEN,
        memory_policy: MemoryPolicy | None = None,
        allow_empty: bool | None = None,
        on_error: _OnError = "raise",
        resync_window: int = DEFAULT_RESYNC_WINDOW,
        cipher: Cipher | None = None,
    ) -> None:
        made, undo = deframer_to_read(deframer, cipher, allow_empty=allow_empty, on_error=on_error)
        stored = None
        if max_frame_len is not None:
            made = made.bounded(max_frame_len)
            stored = int(max_frame_len) + MAX_STORED_MORE
            undo = _bounded(undo, max_frame_len)
        super().__init__(
            made,
            capacity,
            max_stored_len=stored,
            deframer_for=undo,
            memory_policy=memory_policy,
            on_error=on_error,
            resync_window=resync_window,
            allow_empty=allow_empty,
            parse_description=Description.from_bytes,
        )

    @property
    def needed(self) -> int:
        """How many bytes are missing, at least, until a read can give the next frame; known after one that gave None.

        0 if bytes are there that no read has looked at, after `feed_eof`, and after an error that later reads repeat.
        """
        return self._missing

    @property
    def description(self) -> Description | None:
        """What the stream says of itself in its first frame (docs/description.md); None if it says nothing, or if that
        frame has not arrived yet. It is known when the first message has been read.
        """
        return self._description  # type: ignore[no-any-return]

    def detach(self) -> bytes:
        """Ends the parser, and returns the bytes that were handed in and not read: they may be of another protocol.

        A buffer that is out is lost, and what was written into it. Payloads stay valid. Later calls raise ValueError.
        """
        self._check_can_enter()
        if self._is_shut:
            raise ValueError("this FrameParser is detached")
        return bytes(self._shut_down())

    def __repr__(self) -> str:
        state = "detached" if self._is_shut else f"{self.buffered} bytes not read"
        return f"<FrameParser {state}, {self.frames_read} frames>"


def _bounded(undo: Callable[[Any], Deframer | None] | None, limit: int) -> Callable[[Any], Deframer | None] | None:
    """`undo`, a result of `undoing`, with a limit for the messages. It refers to no parser."""
    if undo is None:
        return None

    def make(description: Any) -> Deframer | None:
        found = undo(description)
        return None if found is None else found.with_max_frame_len(limit).bounded(limit)

    return make


class FrameSerializer(MessageWriter, KeepingEncoder):
    """Makes the bytes of messages, each in a frame, and keeps them until a program sends them.

    ``take()`` gives them as one bytes object. ``pending_buffers()`` gives views of them, which are not copied, for
    ``socket.sendmsg`` or ``transport.writelines``; ``mark_sent(n)`` removes what was sent.

    Parameters
    ----------
    framer : Framer, Checksum, ChecksumType or its name, optional
        Makes the frames; without a checksum by default.
    max_pending : int or None
        How many bytes are kept at most. A message that does not fit is refused with BlockingIOError: send some, and
        write it again. A single message that is larger is taken when nothing else is pending, and others behind it as
        long as they fit into the buffer. None: no limit.
    buffer_size : int
        How many bytes are gathered in one piece of memory; a larger payload has one of its own.
    builder, capacity, memory_policy, make_builder
        Of the builder of `write`, see `StreamWriter`.
    describe, metadata, time_field, time_unit
        What the stream says of itself in its first frame, see `StreamWriter`.
    serializer : Serializer or its name, optional
        Makes the messages of what `write` is given, see `StreamWriter`.

    Raises
    ------
    TypeError, ValueError, BufferError
        An argument is wrong; `finish` was called.
    InvalidFrameError, ValidationFailedError, FlatbufferError
        From any write: the framer refuses the payload, or the builder is not finished. Nothing of it was written.
    BlockingIOError
        From any write: too many bytes are pending. The payload was not accepted.

    Notes
    -----
    Threads may share a serializer: operations exclude one another. After a fork, the child's copy refuses to write.
    Bytes that are pending when it is collected are lost.

    Examples
    --------
    >>> serializer = FrameSerializer("crc32")
    >>> serializer.write_payload(b"abc")
    >>> serializer.take().hex(" ")
    '03 00 00 00 c2 41 24 35 61 62 63'
    >>> serializer.pending_bytes
    0
    """

    def __init__(
        self,
        framer: Framer | Checksum | ChecksumType | str | None = None,
        *,
        max_pending: int | None = DEFAULT_MAX_PENDING,
        buffer_size: int = DEFAULT_CAPACITY,
        builder: Any = None,
        capacity: int | None = None,
        memory_policy: MemoryPolicy | None = None,
        make_builder: Callable[[int], Any] | None = None,
        describe: Any = None,
        metadata: Mapping[str, str] | None = None,
        time_field: str | None = None,
        time_unit: str | None = None,
        serializer: Serializer | str | None = None,
    ) -> None:
        self._set_builder(builder, capacity, memory_policy, make_builder)
        made = as_framer(framer)
        chosen = None if serializer is None else as_serializer(serializer)
        description = with_serializer(as_description(describe, metadata, time_field, time_unit), chosen)
        chosen = serializer_to_write(description, chosen)
        head = payload = None
        if description is not None:
            description = begin_description(description, made)
            head, payload = head_frame(description, made), description.to_bytes()
        session, frames = begin_session(made, payload)
        super().__init__(made, buffer_size, max_pending, session=session)
        if head is not None:
            self._put_head(head)
        self._begin(frames)
        self._description = description
        self._set_serializer(chosen)

    @property
    def description(self) -> Description | None:
        """The description with which the stream begins; None if it has none."""
        return self._description

    @property
    def finished(self) -> bool:
        """Whether `finish` was called."""
        return self._is_shut

    def __repr__(self) -> str:
        state = "finished, " if self.finished else ""
        return f"<FrameSerializer {state}{self.pending_bytes} bytes pending, {self.frames_written} frames>"
