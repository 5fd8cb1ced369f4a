"""`flatstream.open`: opens a path for reading or writing."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from flatstream._core.framing.framer import NonEmptyFramer
from flatstream._encrypted_tail import encryption_of, find_end
from flatstream._endpoints import PathToOpen, Source, compression_of, open_source
from flatstream._finding import find_checksum
from flatstream._follow import follow_path
from flatstream._index_hook import checked_index, index_access
from flatstream._lock import open_for_reading
from flatstream._mapped import map_path
from flatstream._peeked import PeekedFile, UnseekableFile
from flatstream._remote import is_url
from flatstream._startup import start_up
from flatstream._startup_report import StartupReport
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.description.description import Description
from flatstream.description.head import as_description, begin_description, transforms_of
from flatstream.description.serializing import serializer_to_write, with_serializer
from flatstream.errors import InvalidFrameError, UnexpectedEofError
from flatstream.framing import (
    BoundedFramer,
    ChecksumFramer,
    DefaultFramer,
    Deframer,
    Framer,
    ObserverFramer,
    TransformFramer,
    ValidatingFramer,
    as_framer,
    deframer_for,
    framer_for,
)
from flatstream.memory_policy import MemoryPolicy
from flatstream.reader import StreamReader
from flatstream.recovery import RecoveryEnd
from flatstream.recovery import recover as recover_stream
from flatstream.serializers import Serializer, as_serializer
from flatstream.transforms.described import framer_with
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from flatstream.transforms.ciphers import Cipher
    from flatstream.transforms.encryption import EncryptedFramer

__all__ = ["open", "open_found"]


@overload
def open(
    path: str | os.PathLike[str],
    mode: Literal["r", "rb"] = "r",
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    deframer: Deframer | Checksum | ChecksumType | str | None = None,
    allow_empty: bool | None = None,
    capacity: int | None = None,
    memory_policy: MemoryPolicy | None = None,
    follow: bool = False,
    mmap: bool = False,
    on_error: Literal["raise", "skip", "stop", "resync"] = "raise",
    resync_window: int = ...,
    cipher: Cipher | None = None,
) -> StreamReader: ...


@overload
def open(
    path: str | os.PathLike[str],
    mode: Literal["w", "wb", "a", "ab", "x", "xb"],
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    framer: Framer | Checksum | ChecksumType | str | None = None,
    lock: bool = True,
    recover: bool = False,
    index: bool | Iterable[str] = False,
    allow_empty: bool | None = None,
    builder: Any = None,
    capacity: int | None = None,
    buffer_size: int = ...,
    memory_policy: MemoryPolicy | None = None,
    make_builder: Callable[[int], Any] | None = None,
    describe: Any = None,
    metadata: Mapping[str, str] | None = None,
    time_field: str | None = None,
    time_unit: str | None = None,
    serializer: Serializer | str | None = None,
    cipher: Cipher | None = None,
) -> StreamWriter: ...


def open(
    path: str | os.PathLike[str],
    mode: str = "r",
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    framer: Framer | Checksum | ChecksumType | str | None = None,
    deframer: Deframer | Checksum | ChecksumType | str | None = None,
    lock: bool = True,
    recover: bool = False,
    index: bool | Iterable[str] = False,
    allow_empty: bool | None = None,
    cipher: Cipher | None = None,
    **options: Any,
) -> StreamReader | StreamWriter:
    """Opens the stream in a file.

    Parameters
    ----------
    path : str or os.PathLike
        The file. To read it, it may be compressed (gzip, bzip2, xz, Zstandard, LZ4), and a URL (through fsspec).
    mode : {"r", "w", "a", "x"}
        Read; write to an emptied file; append; write to a file that must not exist. A "b" may follow.
    checksum : Checksum, ChecksumType or its name, optional
        The checksum of the frames. By default, a file that is read or appended to is looked at, to find it (then
        ``reader.checksum`` and ``reader.checksum_found_by`` say what was found), and a new or emptied one has none.
        "none" means none.
    framer, deframer : Framer, Deframer or ChecksumType, optional
        Instead of `checksum`: `framer` for writing, `deframer` for reading. Without them, payloads are compressed and
        encrypted as the description of the stream says (docs/compression.md), in mode "a" too.
    lock : bool
        Whether a writer locks the file, so that no other writer opens it until this one is closed. Readers take no
        lock. Only regular files are locked.
    recover : bool
        Mode "a" only: instead of raising for a file that a crash left behind, make it one that can be appended to, and
        say in ``writer.recovery`` what was done (see `StartupReport`). A torn tail is saved beside the file and cut
        off; a tail of zero bytes is cut off; a file that is damaged, or no stream, is moved aside.
    index : bool or iterable of str
        Modes "w", "x" and "a": write an index beside the file, ``<path>.idx``, by which queries find parts of it
        (docs/index.md). It has the range of these fields in each block of frames; with True, of the time field of the
        description. `describe` has to name the table, or the description of the file to which is appended. An error of
        the index is no error of the writer: it is logged, and ``writer.index_report`` has it.
    allow_empty : bool, optional
        Mode "r": whether empty frames are read; by default they are, unless `deframer` refuses them. Mode "a": see
        `recover`. Writers write empty frames in any case.
    cipher : Cipher, optional
        Modes "r" and "a": for an encrypted stream (docs/encryption.md), if its description says the rest. A stream that
        is not encrypted is then refused. To encrypt a new one, pass `framer`.
    describe, metadata, time_field, time_unit, serializer
        Modes "w", "x" and "a": what the stream says of itself, see `StreamWriter`. In mode "a", an empty file gets the
        description. A file with a description of the same format (see `Description.matches`) keeps its own, as one with
        any description does for ``describe=True``. Another description, or a file without one, is a ValueError.
    mmap : bool
        Mode "r": the file, as it is now, is mapped into memory, and payloads are views of the map (docs/opening.md).
        Only for regular files that nobody cuts meanwhile: reading behind the new end kills the process (SIGBUS).
    **options
        The keyword arguments of `StreamWriter` or `StreamReader`, as ``follow=True`` to read a file that is being
        written.

    Returns
    -------
    StreamReader or StreamWriter
        Close it, best by a ``with`` statement.

    Raises
    ------
    OSError
        The file cannot be opened. With the number EBUSY, another writer has locked it.
    TypeError, ValueError
        An argument is wrong.
    UnexpectedEofError
        Mode "a", and the file ends inside a frame: messages appended to it would never be read. See `recover`.
        (The end of the file is not checked if `framer` is written in Python.)
    ChecksumMismatchError, InvalidFrameError
        Mode "a", and the file is damaged or has another format. With ``recover=True``, only: it is a stream with
        another checksum.
    InvalidFrameError
        Mode "r", and the checksum of the file is not certain. The message says what was tried. Or the description names
        what cannot be undone, or done for appending: a transform that is not known, or an encryption without `cipher`.
        (With `checksum`, the first read raises that.)
    ImportError
        Mode "r", and the package for this compression or kind of URL is not installed.

    Notes
    -----
    The checksum is certain if a frame matches one of 4 bytes or more at the beginning of the file; or two match CRC-16,
    or one that is the whole file; or, of a damaged file, several frames somewhere. That there is none is certain if two
    frames at the beginning hold what a FlatBuffers builder makes, or if the lengths of all frames lead to the very last
    byte, in a file of up to 64 MiB. Where a file to be appended to is not certain, it is taken for one without a
    checksum, and checked as such.

    Appending first reads the whole file, to check that it ends with a whole frame. Each write goes to the end of the
    file, wherever that is then, so another program may empty the file meanwhile.

    Examples
    --------
    >>> import flatstream, tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with flatstream.open(path, "w", checksum="xxhash64") as writer:
    ...         writer.write_payload(b"abc")
    ...     with flatstream.open(path) as reader:
    ...         reader.checksum, bytes(reader.read_message())
    ('xxhash64', b'abc')
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
    for name, value in (("lock", lock), ("recover", recover)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool, got {value!r:.100}")
    if allow_empty is not None and not isinstance(allow_empty, bool):
        raise TypeError(f"allow_empty must be a bool or None, got {allow_empty!r:.100}")
    if kind != "r" and options.pop("follow", False):
        raise ValueError(f"follow=True needs the mode 'r', got {mode!r}")
    if recover and kind != "a":
        raise ValueError(f"recover=True needs the mode 'a', got {mode!r}")
    if not isinstance(options.get("mmap", False), bool):
        raise TypeError(f"mmap must be a bool, got {options['mmap']!r:.100}")
    if kind != "r" and options.pop("mmap", False):
        raise ValueError(f"mmap=True needs the mode 'r', got {mode!r}")
    indexed = checked_index(index)
    if indexed is not False:
        _check_indexable(path, mode, kind, lock)
    if kind == "r":
        for name in ("describe", "metadata", "time_field", "time_unit", "serializer"):
            if options.pop(name, None) is not None:
                see = "objects" if name == "serializer" else "description"
                raise ValueError(f"{name} needs the mode 'w', 'x' or 'a', got {mode!r}: see StreamReader.{see}")
        if not lock:
            raise ValueError(f"lock=False needs the mode 'w', 'a' or 'x': readers take no lock, got {mode!r}")
        if (mapped := options.get("mmap", False)) and options.get("follow"):
            raise ValueError("expected either mmap=True or follow=True: a map has the size that the file has now")
        options |= {"allow_empty": allow_empty, "cipher": cipher}
        if checksum is not None or deframer is not None:
            options.pop("mmap", None)
            source = map_path(path, lambda file: None)[0] if mapped else path
            return _reader_of(source, as_checksum(checksum) if deframer is None else deframer, options)
        reader = open_found(path, options)
        try:
            reader._check_readable()
        except BaseException:
            reader.close()
            raise
        return reader
    if kind != "a" and cipher is not None:
        raise ValueError(f"cipher needs the mode 'r' or 'a', got {mode!r}: pass framer=...encrypted(cipher)")
    if cipher is not None and framer is not None:
        raise TypeError("expected either a cipher or a framer, which has one, got both")
    # With recover=True it is moved aside, as any other file that is no stream.
    if kind == "a" and not recover and (compression := _compression(path)) is not None:
        raise InvalidFrameError(
            f"nothing can be appended to a compressed file ({compression}): decompress it first: {path!r:.200}",
            offset=0,
            frame=0,
        )
    if kind == "a" and framer is None:
        written_with = _framer_to_append(path, checksum, cipher)
    else:
        written_with = framer_for(checksum) if framer is None else as_framer(framer)
    if kind != "a":
        if indexed is not False:
            # Errors come before the file is emptied.
            described = (options.get(name) for name in ("describe", "metadata", "time_field", "time_unit"))
            index_access().check(indexed, as_description(*described), written_with)
        writer = StreamWriter(PathToOpen(path, kind + "b", lock), written_with, **options)
        return _with_index(writer, path, indexed, 0)
    counterpart = _deframer_of(written_with)
    if recover and counterpart is None:
        raise ValueError(
            "recover=True reads the file, and only a checksum or a built-in framer says how: "
            f"got the framer {written_with!r:.100}. Call recover_file with its deframer instead"
        )
    asked = options.pop("describe", None)
    wanted = as_description(asked, *(options.pop(name, None) for name in ("metadata", "time_field", "time_unit")))
    serializer = options.get("serializer")
    chosen = None if serializer is None else as_serializer(serializer)
    wanted = with_serializer(wanted, chosen)
    if wanted is not None:
        # Errors come before the file is opened.
        wanted = begin_description(wanted, written_with)
    reports = []
    found: list[Description | None] = []
    existed = os.path.exists(path)

    any_format = asked is None or isinstance(asked, bool)
    encryption = encryption_of(written_with)
    if encryption is not None and counterpart is None:
        raise ValueError(
            "to append, the end of an encrypted stream is read, and only a checksum or a built-in framer says how: got "
            f"the framer {written_with!r:.100}"
        )
    ends: list[bytes | None] = []

    def prepare(file: io.FileIO) -> io.FileIO:
        if encryption is not None and counterpart is not None:
            file, report, after = _append_encrypted(
                file,
                encryption,
                counterpart,
                existed=existed,
                lock=lock,
                recover=recover,
                allow_empty=allow_empty,
                check=lambda file: _check_description(_read_description(file, counterpart), wanted, any_format),
            )
            reports.extend([] if report is None else [report])
            ends.append(after)
        elif recover and counterpart is not None:
            # A file with another description is left as it is.
            _check_description(_read_description(file, counterpart), wanted, any_format)
            file, report = start_up(file, counterpart, existed=existed, lock=lock, allow_empty=allow_empty)
            reports.append(report)
        elif counterpart is not None:
            _check_end(file, counterpart, allow_empty)
        found.append(_found_description(file, written_with, counterpart, wanted, any_format))
        # Raises if the file has another one than is given.
        serializer_to_write(found[0], chosen)
        return file

    writer = StreamWriter(PathToOpen(path, "ab", lock, prepare), written_with, _begins=False, **options)
    try:
        size = os.fstat(writer.sink.fileno()).st_size
        writer._append_to(found[0], wanted, is_new=not size, after=ends[0] if ends else None)
    except BaseException:
        writer.close()
        raise
    if reports:
        writer.recovery = reports[0]
    return _with_index(writer, path, indexed, size)


def _check_indexable(path: str | bytes, mode: str, kind: str, lock: bool) -> None:
    """Raises ValueError if the writer of this path can have no index, whatever it writes."""
    if kind == "r":
        raise ValueError(f"index needs the mode 'w', 'x' or 'a', got {mode!r}: see flatstream.dataset for queries")
    if not lock:
        # Another writer's frames would be where the index says that there are ours.
        raise ValueError("index needs lock=True: the index is about a file that nobody else writes meanwhile")
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"index needs a regular file, because it is about one: got {path!r:.200}")


def _with_index(writer: StreamWriter, path: str | bytes, index: bool | list[str], size: int) -> StreamWriter:
    """The writer of a file of `size` bytes, with an index if one is asked for."""
    if index is not False:
        try:
            writer._index = index_access().begin(writer, os.fsdecode(path), index, size)
        except BaseException:
            writer.close()
            raise
    return writer


def _append_encrypted(
    file: io.FileIO,
    encryption: EncryptedFramer,
    stored: Deframer,
    *,
    existed: bool,
    lock: bool,
    recover: bool,
    allow_empty: bool | None,
    check: Callable[[io.FileIO], None],
) -> tuple[io.FileIO, StartupReport | None, bytes | None]:
    """Makes an encrypted file one to which can be appended, or raises; `check` raises for another description.

    Returns the file, which may be a new one, what was done with ``recover=True``, and what the next part is bound to.
    """
    # First of all: with a wrong key, all that is intact would be damage, and be moved aside.
    end = find_end(file, encryption, stored)
    if not recover:
        _check_end(file, stored, allow_empty)
        if end.error is not None:
            raise end.error
        return file, None, end.tail
    check(file)
    # Without a checksum, a frame that was half on the disk when the power went is found by its tag alone.
    deframer = stored if end.error is None else stored.encrypted(encryption.cipher)
    file, report = start_up(file, deframer, existed=existed, lock=lock, allow_empty=allow_empty)
    return file, report, find_end(file, encryption, stored).tail if report.action != "nothing" else end.tail


def open_found(path: str | os.PathLike[str], options: dict[str, Any]) -> StreamReader:
    """A reader of the file at `path`, with the checksum that it seems to have. Its messages may be unreadable."""
    if options.pop("mmap", False):
        endpoint, found = map_path(path, lambda file: find_checksum(file, os.fsdecode(path)))
        reader = _reader_of(endpoint, found.checksum, options)
        reader._checksum_found_by = found.by
        return reader
    endpoint = follow_path(path) if options.get("follow") is True else open_source(path)
    try:
        file = endpoint.target
        if not isinstance(file, PeekedFile) and not file.seekable():
            file = UnseekableFile(file)
            endpoint = Source(file, {"readinto": file.readinto}, owned=True)
        found = find_checksum(file, os.fsdecode(path))
        if found.by == "empty file" and options.get("follow") is True:
            raise ValueError(
                f"the file is empty, so that the checksum of what will be written to it cannot be found: pass "
                f"checksum=, or checksum='none': {os.fsdecode(path)!r:.200}"
            )
        reader = StreamReader(endpoint, found.checksum, **options)
    except BaseException:
        endpoint.target.close()
        raise
    reader._checksum_found_by = found.by
    return reader


def _reader_of(source: Any, deframer: Any, options: dict[str, Any]) -> StreamReader:
    """A reader; if its arguments are wrong, the source that was opened for it is closed."""
    try:
        return StreamReader(source, deframer, **options)
    except BaseException:
        if isinstance(source, Source):
            source.target.close()
        raise


def _compression(path: str | os.PathLike[str]) -> str | None:
    """The format of a compressed file at `path`; None for other files, what is no file, and where there is nothing."""
    # What cannot be read can perhaps be appended to.
    with contextlib.suppress(OSError):
        return None if is_url(path) else compression_of(path)
    return None


def _checksum_to_append(path: str | os.PathLike[str]) -> Checksum | ChecksumType:
    """The checksum of the file at `path`, and none for a new or empty one, a pipe, or one of which it is not certain.

    That such a file has none is checked when it is open, as it is if the checksum was given.
    """
    with contextlib.suppress(FileNotFoundError, InvalidFrameError):
        if stat.S_ISREG(os.stat(path).st_mode):
            with io.FileIO(path, "rb") as file:
                return find_checksum(file, os.fsdecode(path)).checksum
    return ChecksumType.NONE


def _framer_to_append(
    path: str | os.PathLike[str], checksum: Checksum | ChecksumType | str | None, cipher: Cipher | None
) -> Framer:
    """The framer for the file at `path`: with its checksum, unless one is given, and the transforms that it describes.

    Raises
    ------
    InvalidFrameError, FlatbufferError, ImportError
        One of them cannot be done.
    """
    found = _checksum_to_append(path) if checksum is None else checksum
    description = None
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(os.stat(path).st_mode):
            with io.FileIO(path, "rb") as file:
                description = _read_description(file, deframer_for(found))
    if description is None:
        if cipher is not None:
            raise ValueError(
                "a cipher is given, and no description says how the file is encrypted: pass framer=...encrypted(cipher)"
            )
        return framer_for(found)
    return framer_with(framer_for(found), description.transforms, cipher)


def _found_description(
    file: io.FileIO, framer: Framer, deframer: Deframer | None, wanted: Description | None, any_format: bool
) -> Description | None:
    """The description of a file that was opened for appending with `framer`; None if it has none.

    Raises ValueError if the file has messages and the description is not the one that is wanted, or of another framer.
    """
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    if deframer is None:
        if wanted is not None:
            raise ValueError(
                f"describe= asks for {wanted!r}, and the file has {status.st_size} bytes: which description it has is "
                "not known, because the framer is written in Python"
            )
        return None
    found = _read_description(file, deframer)
    if found is None and wanted is not None:
        raise ValueError(f"describe= asks for {wanted!r}, and the file has messages and no description")
    _check_description(found, wanted, any_format)
    _check_transforms(found, framer)
    return found


def _read_description(file: io.FileIO, deframer: Deframer) -> Description | None:
    """The description of a file that was opened for appending; None if it has none that is intact."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return None
    with open_for_reading(file) as source:
        return StreamReader(source, deframer).description


def _check_description(found: Description | None, wanted: Description | None, any_format: bool) -> None:
    """Raises ValueError if the description of a file has another format than the one that is wanted."""
    if found is None or wanted is None or found.matches(wanted):
        return
    if not any_format or found.checksum != wanted.checksum:
        differences = _differences(found, wanted)
        raise ValueError(f"describe= asks for {wanted!r}, and the file has {found!r}: their {differences}")


def _check_transforms(found: Description | None, framer: Framer) -> None:
    """Raises ValueError if the payloads of a file are not what `framer` makes of messages."""
    if found is not None and not found.matches(made := found._with_transforms(transforms_of(framer))):
        said, done = (
            " and ".join(transform.text for transform in description.transforms) or "nothing"
            for description in (found, made)
        )
        raise ValueError(
            f"the description of the file says what was done to its payloads: {said:.300}; and the framer does "
            f"{done:.300}. Without framer=, they are written as the description says"
        )


def _differences(one: Description, other: Description) -> str:
    names = [
        name
        for name in ("checksum", "schemas", "roots", "transforms", "serializer")
        if getattr(one, name) != getattr(other, name)
    ]
    return f"{' and '.join(names)} differ{'s' if len(names) == 1 and not names[0].endswith('s') else ''}"


def _deframer_of(framer: Framer) -> Deframer | None:
    """The deframer of what `framer` stores; None if its format is not known, because it is written in Python.

    What transforms do to payloads is left as it is.
    """
    while type(framer) in (BoundedFramer, NonEmptyFramer, ObserverFramer, ValidatingFramer) or (
        isinstance(framer, TransformFramer) and type(framer).frame_and_write is Framer.frame_and_write
    ):
        framer = framer.inner  # type: ignore[attr-defined]
    if type(framer) is ChecksumFramer:
        deframer = deframer_for(framer.checksum)
    elif type(framer) is DefaultFramer:
        deframer = deframer_for(None)
    else:
        return None
    # The longest frames that there can be.
    return deframer.with_max_frame_len(2**32 - 1)


def _check_end(file: io.FileIO, deframer: Deframer, allow_empty: bool | None) -> io.FileIO:
    """Raises unless the file ends with a whole frame. The end of a device or a pipe is not checked."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    with open_for_reading(file) as source:
        report = recover_stream(source, deframer, allow_empty=allow_empty)
    if report.end is RecoveryEnd.NOT_A_STREAM:
        seems = "" if report.looks_like is None else f"; it looks like {report.looks_like}"
        if report.looks_like == "zeros":
            seems += ", which allow_empty=True takes for empty frames"
        raise InvalidFrameError(
            f"the file has no frame, so that nothing may be appended: it is no stream{seems}", offset=0, frame=0
        )
    if report.end is RecoveryEnd.TORN_TAIL:
        raise UnexpectedEofError(
            "the file ends inside a frame, so that nothing may be appended: recover=True saves the bytes of that frame "
            "beside the file and cuts them off before it appends",
            offset=report.last_good_offset,
            frame=report.frames,
        )
    return file
