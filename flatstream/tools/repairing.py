"""`repair`: cuts off what a crash has left behind the last whole frame, and keeps a copy of it."""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from flatstream._lock import open_for_writing
from flatstream._startup import start_up
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import FlatStreamError
from flatstream.recovery import RecoveryEnd, recover_file
from flatstream.tools.inputs import Input, NotAStreamError, decompression, only_input

__all__ = ["RepairReport", "repair"]


@dataclass(frozen=True)
class RepairReport:
    """The result of `repair`.

    Attributes
    ----------
    path : str
        The file or journal; in `segments` the name of a segment.
    action : {"nothing", "cut", "damaged"}
        It was intact; a torn tail was cut off; it is damaged, and was not changed (but for a torn tail, if `bytes_cut`
        says so). Of a journal: the worst of its segments.
    frames, size : int
        How many messages are intact now (of a damaged file, those before the damage; of an encrypted stream, frames),
        and its size in bytes.
    bytes_cut : int
        How many bytes were cut off.
    saved_as : str or None
        The path of the copy of these bytes; None if they were zeros.
    offset : int or None
        Where the damage is.
    error : str or None
        What is damaged.
    next_intact_offset : int or None
        Where intact frames go on behind the damage.
    segments : tuple of RepairReport, or None
        Of a journal.
    lost_segments : int or None
        How many sealed segments of a journal are missing.
    checked : bool
        False for a segment that is sealed and has the size that it was sealed with: it was not read, and `verify` finds
        out whether it is damaged. Of a journal: whether all segments were read.
    """

    path: str
    action: Literal["nothing", "cut", "damaged"]
    frames: int
    size: int
    bytes_cut: int = 0
    saved_as: str | None = None
    offset: int | None = None
    error: str | None = None
    next_intact_offset: int | None = None
    segments: tuple[RepairReport, ...] | None = None
    lost_segments: int | None = None
    checked: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        segments = None if self.segments is None else [one.to_dict() for one in self.segments]
        return vars(self) | {"segments": segments}


def repair(
    source: str | os.PathLike[str] | Input,
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    allow_empty: bool | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> RepairReport:
    """Makes a file or a journal one that ends with a whole frame, if a torn tail is all that is wrong with it.

    Only what `recover` shows to be a torn tail is cut off, after it was copied to a file beside. Anything else is left
    as it is. Repairing it again changes nothing more. It looks at what is stored, so that compressed and encrypted
    streams need neither packages nor keys.

    Parameters
    ----------
    source : path or Input
        A file or a journal.
    checksum : Checksum, ChecksumType or str, optional
        By default it is found.
    allow_empty : bool, optional
        See `recover`.
    progress : callable, optional
        ``progress(offset, size)``, for journals.

    Returns
    -------
    RepairReport

    Raises
    ------
    NotAStreamError
        It is no stream, or not certainly; nothing was changed.
    OSError
        It cannot be read or written. With the number EBUSY, a writer has it open.
    io.UnsupportedOperation
        It is compressed.
    ValueError
        It is neither a file nor a journal.

    Examples
    --------
    >>> import flatstream, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with flatstream.open(path, "w", checksum="crc32") as writer:
    ...         writer.write_payloads([b"first", b"second", b"third"])
    ...     os.truncate(path, os.path.getsize(path) - 1)
    ...     report = repair(path)
    >>> report.action, report.frames, report.bytes_cut
    ('cut', 2, 12)
    """
    one = only_input(source)
    if one.kind == "journal":
        return _repair_journal(one, checksum, progress)
    if one.kind != "file":
        raise ValueError(f"{one.name}: only files and journals are repaired")
    with one.open(checksum, stored=True) as opened:
        if opened.compression is not None:
            hint = decompression(opened.compression, one.name)
            raise io.UnsupportedOperation(f"compressed files are not repaired: {hint}")
        deframer = opened.reader.deframer
        # It is a frame, and no message.
        heads = int(opened.description is not None)
    if one.size == 0:
        return RepairReport(one.name, "nothing", 0, 0)
    try:
        report = recover_file(one.name, deframer, allow_empty=allow_empty)
    except FlatStreamError as error:
        return RepairReport(
            one.name,
            "damaged",
            max(0, (error.frame or 0) - heads),
            os.path.getsize(one.name),
            offset=error.offset,
            error=error.message,
            next_intact_offset=error.next_intact_offset,
        )
    if report.end is RecoveryEnd.NOT_A_STREAM:
        raise NotAStreamError(f"no frame can be read (it looks like {report.looks_like or 'nothing that is known'})")
    if report.being_written is not None:
        raise OSError(errno.EBUSY, f"a writer has it open ({report.being_written}); nothing was changed", one.name)
    if report.end is RecoveryEnd.CLEAN_EOF:
        return RepairReport(one.name, "nothing", report.frames - heads, report.last_good_offset)
    # Takes the lock, looks again, copies and cuts.
    file = open_for_writing(one.name, "ab")
    try:
        file, done = start_up(file, deframer, existed=True, lock=True, allow_empty=allow_empty)
    finally:
        file.close()
    return RepairReport(
        one.name,
        "nothing" if done.action == "nothing" else "cut",
        done.frames - heads,
        done.offset,
        done.bytes_cut,
        done.saved_as,
    )


def _repair_journal(one: Input, checksum: Any, progress: Callable[[int, int], object] | None) -> RepairReport:
    from flatstream.journal._examine import checksum_of, deframer_of, read_folder
    from flatstream.journal._layout import (
        LOCK,
        Manifest,
        list_segments,
        lost_segments,
        read_manifest,
        segment_name,
        write_manifest,
    )
    from flatstream.journal._recovery import recover_segments

    folder = read_folder(one.name)
    given = None if checksum is None else ChecksumType(checksum).value
    if not one.size and folder.manifest is None and given is None:
        return RepairReport(one.name, "nothing", 0, 0, segments=(), lost_segments=0)
    kind = checksum_of(folder, given)
    try:
        lock = open_for_writing(os.path.join(one.name, LOCK), "ab")
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise OSError(errno.EBUSY, f"{error.strerror}; nothing was changed", one.name) from None
        raise
    with lock:
        # It may have changed before the lock was taken.
        manifest = read_manifest(one.name) or Manifest(uuid.uuid4().hex, kind.value)
        known = dict(manifest.sealed)
        reports = recover_segments(one.name, deframer_of(kind), manifest, progress)
        write_manifest(one.name, manifest)
        lost = len(lost_segments(manifest, list_segments(one.name)))
    segments = []
    for report in reports:
        name = segment_name(report.path)
        before = known.get(name)
        action: Literal["nothing", "cut", "damaged"] = "cut" if report.action == "cut" else "nothing"
        error_text, offset = None, None
        missing = 0 if before is None else max(0, before.frames - report.frames)
        if report.action == "damaged":
            action = "damaged"
            error_text = "damaged" if report.error is None else report.error.message
            offset = None if report.error is None else report.error.offset
        elif report.action == "sealed" and before is not None and before.damaged:
            action, error_text = "damaged", "damaged, as was known"
        elif missing:
            frames = "1 frame is" if missing == 1 else f"{missing:,} frames are"
            action, error_text = "damaged", f"{frames} missing that it had when it was sealed"
        segments.append(
            RepairReport(
                os.path.basename(report.path),
                action,
                report.frames,
                report.bytes,
                report.bytes_cut,
                report.saved_as,
                offset,
                error_text,
                checked=report.action != "sealed",
            )
        )
    actions = {segment.action for segment in segments}
    return RepairReport(
        one.name,
        "damaged" if lost or "damaged" in actions else "cut" if "cut" in actions else "nothing",
        sum(segment.frames for segment in segments),
        sum(segment.size for segment in segments),
        sum(segment.bytes_cut for segment in segments),
        segments=tuple(segments),
        lost_segments=lost,
        checked=all(segment.checked for segment in segments),
    )
