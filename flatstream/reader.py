"""StreamReader: reads the messages of a stream."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.stream.decoder import DEFAULT_RESYNC_WINDOW, iterates_in_c
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._core.stream.memory_policy import MemoryPolicy
from flatstream._endpoints import Source, has_known_size, open_source, size_of
from flatstream._follow import follow_path
from flatstream._message_reader import MessageReader
from flatstream.checksums import Checksum, ChecksumType
from flatstream.description import Description
from flatstream.framing import Deframer
from flatstream.transforms.described import deframer_to_read

if TYPE_CHECKING:
    from typing import Self

    from flatstream._message_reader import _OnError as _OnError
    from flatstream.transforms.ciphers import Cipher

    _FoundBy = Literal["description", "detection", "empty file"]

__all__ = ["FrameBatch", "StreamReader"]

DEFAULT_CAPACITY = 256 * 1024
# The size of a chunk for batches and columns of a source that fills chunks. Handing over the interpreter's lock takes
# so long that two threads gain nothing with less; more gains no more (TwoPaths of asv_benchmarks/threads.py).
BATCH_CAPACITY = 1024 * 1024


@iterates_in_c
class StreamReader(MessageReader):
    """Reads the messages of a stream, as views that need no copy.

    A payload stays valid and unchanged for as long as it is held, whatever happens to the reader. It keeps its memory
    alive: a chunk, or the caller's buffer. Threads may share a reader: each frame is given once.

    Parameters
    ----------
    source : path, URL, socket, object with ``readinto(buffer)`` or ``read(size)``, or bytes-like object
        A path is opened, and closed by `close`; any other source stays open. A file is read from its position on. A
        compressed file at a path is decompressed, and a URL is opened through fsspec (docs/opening.md).
        Payloads of a bytes-like object are views of it: it cannot be resized or closed while they, or the reader, live.
    deframer : Deframer, Checksum, ChecksumType or its name, optional
        Finds the frames; without a checksum by default. If it is no Deframer, the reader also undoes what the stream's
        description says was done to payloads, as compression (docs/compression.md); a Deframer is used as it is.
    capacity : int, optional
        The size of a chunk: how many bytes are read at a time. A larger frame gets a larger chunk. By default 256 KiB,
        and 1 MiB for batches and columns behind the first MiB, so that threads read files side by side.
    memory_policy : MemoryPolicy, optional
        Decides when a chunk that grew for a large frame is given back.
    follow : bool
        The source is the path of a file that is being written (docs/following.md). Reads do not come to an end: they
        wait for further frames, as long as `read_message` is told, or until `close` is called in another thread. Half a
        frame is not there yet. After the last frame of a file that was renamed, deleted or replaced, a read raises
        OSError (ESTALE), as it does if the file was cut below the frames that were read.
    allow_empty : bool, optional
        False: an empty payload is damage, like the zeros that a power cut leaves; the default if `on_error` is given.
    on_error : {"raise", "skip", "stop", "resync"}
        At damage: raise; leave out refused frames, and raise other errors; end as at a clean end, with `stop_error`
        set; or leave out what is damaged, and go on at the next intact frames. A call's own `on_error` wins.
    resync_window : int
        How many bytes of one frame "resync" reads before it searches for others. A frame that is larger is read whole
        from a file of known size that has all of it, or from one that can seek, if so much of it holds no intact
        frames; a frame of a pipe or socket is then given up.

    cipher : Cipher, optional
        For an encrypted stream (docs/encryption.md). A stream that is not encrypted is then refused.

    Raises
    ------
    TypeError, ValueError, io.UnsupportedOperation
        An argument is wrong; the source is a text file, closed or write-only; the reader is closed.
    InvalidFrameError, ImportError
        From every read: the description names what this reader cannot undo. `description` can be read all the same.
    ChecksumMismatchError, ValidationFailedError
        From every read: the frame was read whole and refused. The next read gives the frame after it.
    FlatbufferError
        From the first read, at offset 0: the stream's description is damaged. The next read gives the first message.
    UnexpectedEofError, InvalidFrameError, OSError
        The stream ends inside a frame; a length is over the limit; the bytes are no frame; the source failed. Later
        reads raise the same, but after BlockingIOError and TimeoutError they go on.

    Notes
    -----
    "resync" first tries a damaged frame's own claim: if intact frames begin, or the stream ends, where it says that it
    ends, it alone is left out. Otherwise it searches for the nearest intact frames: one with a checksum of 4 bytes or
    more; several in a row with a weaker one; without a checksum, several that look like FlatBuffers, and a wrong length
    that leads to other bytes of the stream is not noticed. See docs/damage.md.

    Examples
    --------
    >>> with StreamReader(b"\\x03\\x00\\x00\\x00abc\\x01\\x00\\x00\\x00d") as reader:
    ...     [bytes(payload) for payload in reader]
    [b'abc', b'd']
    """

    _checksum_found_by: _FoundBy | None = None

    def __init__(
        self,
        source: Any,
        deframer: Deframer | Checksum | ChecksumType | str | None = None,
        *,
        capacity: int | None = None,
        memory_policy: MemoryPolicy | None = None,
        follow: bool = False,
        allow_empty: bool | None = None,
        on_error: _OnError = "raise",
        resync_window: int = DEFAULT_RESYNC_WINDOW,
        cipher: Cipher | None = None,
    ) -> None:
        made, undo = deframer_to_read(deframer, cipher, allow_empty=allow_empty, on_error=on_error)
        if not isinstance(follow, bool):
            raise TypeError(f"follow must be a bool, got {follow!r:.100}")
        if follow and on_error not in ("raise", "skip", None):
            raise ValueError(f'with follow=True, on_error must be "raise" or "skip", got {on_error!r:.100}')
        endpoint = follow_path(source) if follow else open_source(source)
        arguments: dict[str, Any] = {
            "seekable": _can_seek(endpoint.target),
            "bytes_left": partial(_bytes_left, endpoint.target),
            "batch_capacity": BATCH_CAPACITY if capacity is None and not follow else 0,
            "parse_description": Description.from_bytes,
            "deframer_for": undo,
        }
        try:
            super().__init__(
                made,
                DEFAULT_CAPACITY if capacity is None else capacity,
                memory_policy=memory_policy,
                on_error=on_error,
                resync_window=resync_window,
                allow_empty=allow_empty,
                **(arguments | endpoint.arguments),
            )
        except BaseException:
            if endpoint.owned:
                endpoint.target.close()
            raise
        self._endpoint: Source | None = endpoint
        self._undo = undo

    @property
    def source(self) -> Any:
        """The source; None after `close` or `detach`."""
        return None if self._endpoint is None else self._endpoint.target

    def _check_readable(self) -> None:
        """Raises what every read would raise, if the description names what cannot be undone."""
        if self.description is not None and self._undo is not None:
            self._undo(self.description)

    @property
    def checksum_found_by(self) -> _FoundBy | None:
        """How `flatstream.open` has found the checksum: "description", "detection", or "empty file", which has none.

        None if it was given.
        """
        return self._checksum_found_by

    @property
    def description(self) -> Description | None:
        """What the stream says of itself in its first frame (docs/description.md); None if it says nothing.

        Before the first read it reads as far as this frame, and may wait for it (not for that of a file that is
        followed). It takes no message, and leaves damage to the first read.
        """
        return self._description  # type: ignore[no-any-return]

    # The end

    def close(self) -> None:
        """Closes the reader, and the source if the reader opened it. Payloads already handed out stay valid."""
        endpoint = self._endpoint
        if endpoint is None:
            return
        # First, because it raises in the middle of another operation.
        self._shut_down()
        self._endpoint = None
        if endpoint.owned:
            endpoint.target.close()

    def detach(self) -> tuple[Any, bytes | memoryview]:
        """Closes the reader and returns its source, open (for a path, the file), and the bytes that were not read.

        They were taken from the source already; if it is a buffer, they are a view of its rest.
        """
        if self._endpoint is None:
            raise ValueError("this StreamReader is closed")
        self._check_can_enter()
        endpoint, rest = self._endpoint, self._shut_down()
        if self._is_following:
            # It was read at explicit offsets, so that nothing was taken from it.
            rest = b""
            endpoint.target.seek(self.offset)
        self._endpoint = None
        return endpoint.target, rest

    @property
    def closed(self) -> bool:
        """Whether `close` or `detach` was called."""
        return self._endpoint is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"from {_source_text(self.source)}"
        return f"<StreamReader {state}, {self.frames_read} frames>"

    def _repr_html_(self) -> str:
        from flatstream._core.base.html_page import html_page

        rows: list[tuple[str, object]] = [
            ("source", "closed" if self.closed else _source_text(self.source)),
            ("checksum", self.checksum or f"{self.deframer!r:.100}"),
            ("messages read", f"{self.frames_read:,}"),
            ("offset", f"{self.offset:,}"),
        ]
        # Nothing is read for it.
        if self.offset and self.description is not None:
            rows.append(("description", self.description))
        if self.skipped:
            rows.append(("skipped", f"{self.skipped:,} messages, {self.lost_bytes:,} bytes"))
        return html_page("StreamReader", "", (), ("", ""), rows)


def _source_text(source: Any) -> str:
    """A short text for a source: of memory its size, not its content."""
    if not hasattr(source, "read") and not hasattr(source, "recv"):
        try:
            return f"{type(source).__name__} of {memoryview(source).nbytes:,} bytes"
        except TypeError:
            pass
    return f"{source!r:.100}"


def _can_seek(source: Any) -> bool:
    try:
        return bool(source.seekable())
    except Exception:
        # It has no such method, or one that does not work.
        return False


def _bytes_left(source: Any) -> int:
    """How many bytes the source has that were not taken from it; 0 if that is not known."""
    return size_of(source) - source.tell() if has_known_size(source) else 0
