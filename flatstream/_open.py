"""`flatstream.open`: opens a path for reading or writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, overload

from flatstream._endpoints import PathToOpen
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import InvalidFrameError, UnexpectedEofError
from flatstream.framing import (
    BoundedFramer,
    ChecksumFramer,
    DefaultFramer,
    Deframer,
    Framer,
    ObserverFramer,
    ValidatingFramer,
    as_deframer,
    as_framer,
    deframer_for,
    framer_for,
)
from flatstream.memory_policy import MemoryPolicy
from flatstream.reader import StreamReader
from flatstream.recovery import RecoveryEnd, recover
from flatstream.writer import StreamWriter

__all__ = ["open"]


@overload
def open(
    path: str | os.PathLike[str],
    mode: Literal["r", "rb"] = "r",
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    deframer: Deframer | Checksum | ChecksumType | str | None = None,
    capacity: int = ...,
    memory_policy: MemoryPolicy | None = None,
) -> StreamReader: ...


@overload
def open(
    path: str | os.PathLike[str],
    mode: Literal["w", "wb", "a", "ab", "x", "xb"],
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    framer: Framer | Checksum | ChecksumType | str | None = None,
    builder: Any = None,
    capacity: int | None = None,
    buffer_size: int = ...,
    memory_policy: MemoryPolicy | None = None,
    make_builder: Callable[[int], Any] | None = None,
) -> StreamWriter: ...


def open(
    path: str | os.PathLike[str],
    mode: str = "r",
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    framer: Framer | Checksum | ChecksumType | str | None = None,
    deframer: Deframer | Checksum | ChecksumType | str | None = None,
    **options: Any,
) -> StreamReader | StreamWriter:
    """Opens the stream in a file.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    mode : {"r", "w", "a", "x"}
        Read; write to an emptied file; append; write to a file that must not exist. A "b" may follow.
    checksum : Checksum, ChecksumType or its name, optional
        The checksum of the frames. The file does not name it: read a file with the checksum that it was written with.
    framer, deframer : Framer, Deframer or ChecksumType, optional
        Instead of `checksum`: `framer` for writing, `deframer` for reading.
    **options
        The keyword arguments of `StreamWriter` or `StreamReader`.

    Returns
    -------
    StreamReader or StreamWriter
        Close it, best by a ``with`` statement.

    Raises
    ------
    OSError
        The file cannot be opened.
    TypeError, ValueError
        An argument is wrong.
    UnexpectedEofError
        Mode "a", and the file ends inside a frame: messages appended to it would never be read. See `recover_file`.
        (The end of the file is not checked if `framer` is written in Python.)
    ChecksumMismatchError, InvalidFrameError
        Mode "a", and the file is damaged or has another format.

    Notes
    -----
    Appending first reads the whole file, to check that it ends with a whole frame.

    Examples
    --------
    >>> import flatstream, tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with flatstream.open(path, "w", checksum="xxhash64") as writer:
    ...         writer.write_payload(b"abc")
    ...     with flatstream.open(path, checksum="xxhash64") as reader:
    ...         bytes(reader.read_message())
    b'abc'
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or os.PathLike, got {path!r:.100}")
    # So that error messages show a plain str.
    path = os.fspath(path)
    kind = mode[:-1] if isinstance(mode, str) and len(mode) == 2 and mode.endswith("b") else mode
    if kind not in ("r", "w", "a", "x"):
        raise ValueError(f"mode must be 'r', 'w', 'a' or 'x', optionally followed by 'b', got {mode!r:.100}")
    wrong = framer if kind == "r" else deframer
    if wrong is not None:
        raise TypeError(f"mode {mode!r} takes a {'deframer' if kind == 'r' else 'framer'}, got {wrong!r:.100}")
    if checksum is not None and (framer is not None or deframer is not None):
        raise TypeError("expected either a checksum or a framer or deframer, got both")
    if kind == "r":
        return StreamReader(path, deframer_for(checksum) if deframer is None else as_deframer(deframer), **options)
    made = framer_for(checksum) if framer is None else as_framer(framer)
    if kind == "a":
        _check_end(path, made)
    return StreamWriter(PathToOpen(path, kind + "b"), made, **options)


def _check_end(path: str | os.PathLike[str], framer: Framer) -> None:
    """Raises unless the file ends with a whole frame, or does not exist.

    The end of a file with an unknown format is not checked, nor is that of a device or a pipe.
    """
    if not os.path.isfile(path):
        return
    while type(framer) in (BoundedFramer, ObserverFramer, ValidatingFramer):
        framer = framer.inner  # type: ignore[attr-defined]
    if type(framer) is ChecksumFramer:
        deframer = deframer_for(framer.checksum)
    elif type(framer) is DefaultFramer:
        deframer = deframer_for(None)
    else:
        return
    report = recover(path, deframer.with_max_frame_len(2**32 - 1))
    if report.end is RecoveryEnd.NOT_A_STREAM:
        seems = "" if report.looks_like is None else f"; it looks like {report.looks_like}"
        raise InvalidFrameError(
            f"the file has no frame, so that nothing may be appended: it is no stream{seems}", offset=0, frame=0
        )
    if report.end is RecoveryEnd.TORN_TAIL:
        raise UnexpectedEofError(
            "the file ends inside a frame, so that nothing may be appended: "
            f"truncate it to {report.last_good_offset} bytes first (see recover_file)",
            offset=report.last_good_offset,
            frame=report.frames,
        )
