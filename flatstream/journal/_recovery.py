"""What opening a journal does to the segments that a crash may have left.

A segment that is sealed is not read, but for the last one, in which writing goes on. Of each other one, a torn tail is
copied to a file beside it and cut off; a segment that is damaged stays as it is, and its frames are numbered on as if
the lost bytes were frames of the least size. Each step is on the disk before the next one begins, and doing it again
gives the same journal.
"""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from flatstream._core.stream.frame_search import header_size_of
from flatstream._files import sync
from flatstream._lock import open_for_reading, open_for_writing
from flatstream._startup import check_checksum, is_zero_from, save_tail
from flatstream.errors import FlatStreamError, UnexpectedEofError
from flatstream.framing import Deframer
from flatstream.journal._compression import settled_segments
from flatstream.journal._layout import Manifest, Sealed, Segment, lost_segments, segment_name
from flatstream.journal._numbers import head_size, possible_frames
from flatstream.journal._segment_files import SegmentFile, damaged_blocks, open_segment, size_of
from flatstream.reader import StreamReader
from flatstream.recovery import RecoveryEnd, RecoveryReport, recover

__all__ = ["SegmentReport", "recover_segments"]


# What the system says when there is no room, for this user or at all.
FULL = (errno.ENOSPC, errno.EDQUOT)


class SegmentReport(NamedTuple):
    """What opening a journal found in a segment and did to it.

    Attributes
    ----------
    path : str
        The file.
    first : int
        The number of its first frame.
    action : {"sealed", "nothing", "cut", "damaged"}
        It is known to be whole, and was not read (of the last one, that is not enough); it was intact; a torn tail was
        cut off; it is damaged, and was not changed.
    frames : int
        How many intact frames it has, without its description.
    bytes : int
        Its size now.
    next : int
        The number of the frame behind its last one.
    bytes_cut : int
        How many bytes were cut off.
    saved_as : str or None
        The path of the copy of these bytes; None if they were zeros.
    lost_bytes : int
        How many bytes of a damaged segment are no frame.
    error : FlatStreamError or None
        The damage.
    """

    path: str
    first: int
    action: Literal["sealed", "nothing", "cut", "damaged"]
    frames: int
    bytes: int
    next: int
    bytes_cut: int = 0
    saved_as: str | None = None
    lost_bytes: int = 0
    error: FlatStreamError | None = None


def recover_segments(
    directory: str, deframer: Deframer, manifest: Manifest, progress: Callable[[int, int], object] | None = None
) -> list[SegmentReport]:
    """Makes each segment one that ends with a whole frame, or is known to be damaged, and notes it in `manifest`.

    The caller holds the lock of the journal, and writes the manifest afterwards.

    Parameters
    ----------
    directory : str
        The folder.
    deframer : Deframer
        Reads the frames. (Empty ones are refused.)
    manifest : Manifest
        Its `sealed` is brought up to date: every segment that has a successor is in it, and those that are lost stay.
    progress : callable, optional
        Is called with the number of bytes of the segments that are done, and of all that are to be read.

    Returns
    -------
    list of SegmentReport
        One for each segment, in the order of their frames.

    Raises
    ------
    InvalidFrameError
        A segment is an intact stream with another checksum. Nothing was changed.
    OSError
        From the file system. Nothing is lost, and a further call goes on with the work.
    """
    segments = settled_segments(directory, manifest)
    sizes = [os.stat(segment.path).st_size for segment in segments]
    manifest.compressed = {
        segment.name: size
        for segment, size in zip(segments, sizes, strict=True)
        if segment.is_compressed and manifest.compressed.get(segment.name) == size
    }
    known = [_sealed_one(manifest, segment, size) for segment, size in zip(segments, sizes, strict=True)]
    # The last one is read in any case, because writing goes on in it, unless it is compressed.
    is_read = [
        one is None or (number == len(known) and size > 0 and not segment.is_compressed)
        for number, (segment, one, size) in enumerate(zip(segments, known, sizes, strict=True), 1)
    ]
    total = sum(size for size, one in zip(sizes, is_read, strict=True) if one)
    done, reports = 0, []
    for segment, size, one, is_to_read in zip(segments, sizes, known, is_read, strict=True):
        if one is not None and not is_to_read:
            reports.append(SegmentReport(*segment, "sealed", one.frames, one.bytes, one.next))
            continue
        recover_one = _read_compressed if segment.is_compressed else _recover_segment
        reports.append(recover_one(segment, deframer, one))
        done += size
        if progress is not None:
            progress(done, total)
    for i, report in enumerate(reports):
        # What was sealed had these numbers, even if the file has become shorter.
        before = manifest.sealed.get(segment_name(report.path))
        behind = report.next
        if before is not None:
            behind = before.next if before.bytes == report.bytes else max(behind, before.next)
        if i + 1 < len(reports):
            behind = min(behind, reports[i + 1].first)
            if before is not None:
                # Readers have numbered its frames so, and the next segment may have been a later one before.
                behind = min(behind, max(before.next, report.first + report.frames))
        reports[i] = report._replace(next=behind)
    # Their numbers are not used again.
    sealed = lost_segments(manifest, segments)
    for report in reports:
        name = segment_name(report.path)
        before = manifest.sealed.get(name)
        if report.action == "sealed" and before is not None:
            sealed[name] = before
        elif report is not reports[-1] or report.action == "damaged" or name != os.path.basename(report.path):
            status = os.stat(report.path)
            began = before.began if before is not None else min(status.st_mtime, time.time())
            sealed[name] = Sealed(
                report.frames, report.bytes, report.next, began, status.st_mtime, report.action == "damaged"
            )
    manifest.sealed = sealed
    # Those that were read now need not be read again.
    manifest.compressed = {
        segment.name: size for segment, size in zip(segments, sizes, strict=True) if segment.is_compressed
    }
    return reports


def _sealed_one(manifest: Manifest, segment: Segment, size: int) -> Sealed | None:
    """What is known of a segment, if it has the size that it was sealed with, or compressed to."""
    one = manifest.sealed.get(segment.name)
    known = manifest.compressed.get(segment.name) if segment.is_compressed else one and one.bytes
    return one if known == size else None


def _recover_segment(segment: Segment, deframer: Deframer, seal: Sealed | None) -> SegmentReport:
    """Makes a segment one that ends with a whole frame, unless it is damaged. `seal` is what is known of it, if it has
    its size: then no crash has torn it, and what is not whole is damaged.
    """
    with open_for_writing(segment.path, "ab", regular=True) as file, open_for_reading(file) as source:
        size = os.fstat(file.fileno()).st_size
        error: FlatStreamError | None = None
        report: RecoveryReport | None = None
        try:
            report = recover(source, deframer, allow_empty=False)
        except FlatStreamError as damage:
            # The causes and the tracebacks would keep the bytes that were read in memory.
            error = damage.with_traceback(None)
            error.__cause__ = error.__context__ = None
        if report is not None and report.frames and head_size(source, deframer):
            # The description has no number.
            report = report._replace(frames=report.frames - 1)
        if report is not None and report.end is RecoveryEnd.CLEAN_EOF:
            sync(file.fileno())
            return SegmentReport(*segment, "nothing", report.frames, size, segment.first + report.frames)
        if report is not None and seal is None:
            good = report.last_good_offset
            zeros = is_zero_from(source, good)
            if zeros or report.end is RecoveryEnd.TORN_TAIL or _is_torn_frame(source, size, report, deframer):
                try:
                    saved = None if zeros else save_tail(source, good, os.path.realpath(segment.path))
                except OSError as full:
                    if full.errno not in FULL:
                        raise
                    # Nothing is cut off that is not saved. Writing goes on in a new segment.
                    return _damaged(segment, source, size, deframer, UnexpectedEofError(needed=0, offset=good))
                if os.fstat(file.fileno()).st_size != size:
                    raise OSError(errno.EBUSY, "another process writes to the file without a lock", segment.path)
                os.ftruncate(file.fileno(), good)
                sync(file.fileno())
                return SegmentReport(
                    *segment, "cut", report.frames, good, segment.first + report.frames, size - good, saved
                )
        if seal is None:
            check_checksum(source, deframer)
        sync(file.fileno())
        return _damaged(segment, source, size, deframer, error)


def _read_compressed(segment: Segment, deframer: Deframer, seal: Sealed | None) -> SegmentReport:
    """The report of a compressed segment, which is never changed."""
    with open_segment(segment) as source:
        size = size_of(source)
        try:
            # No frame is as long as the bytes claim that stand for a block which cannot be decompressed.
            report = recover(source, deframer.with_max_frame_len(2**31), allow_empty=False)
        except FlatStreamError as damage:
            error = damage.with_traceback(None)
            error.__cause__ = error.__context__ = None
            return _damaged(segment, source, size, deframer, error)
        if (reason := damaged_blocks(source)) is not None:
            # Nothing stands for what cannot be decompressed without a table.
            return _damaged(segment, source, size, deframer, FlatStreamError(reason))
        if report.end is not RecoveryEnd.CLEAN_EOF:
            torn = UnexpectedEofError(needed=0, offset=report.last_good_offset)
            return _damaged(segment, source, size, deframer, torn)
        frames = report.frames - bool(report.frames and head_size(source, deframer))
        return SegmentReport(*segment, "nothing", frames, size, segment.first + frames)


def _damaged(
    segment: Segment, source: SegmentFile, size: int, deframer: Deframer, error: FlatStreamError | None
) -> SegmentReport:
    """The report of a segment that stays as it is."""
    source.seek(0)
    with StreamReader(source, deframer, on_error="resync", allow_empty=False) as reader:
        for _ in reader.batches():
            pass
        frames, ranges, lost = reader.frames_read, reader.lost_ranges, reader.lost_bytes
    missing = possible_frames(ranges, header_size_of(deframer) or 4, head_size(source, deframer))
    # The next segment has another name, also if nothing but a description is damaged.
    behind = segment.first + max(1, frames + missing)
    return SegmentReport(*segment, "damaged", frames, size, behind, lost_bytes=lost, error=error)


def _is_torn_frame(source: io.FileIO, size: int, report: RecoveryReport, deframer: Deframer) -> bool:
    """Whether a segment without a whole frame holds the beginning of its first one. (In other files it may as well be
    something else.)
    """
    if report.looks_like not in (None, "a torn frame"):
        # A segment of fewer bytes than a header has is nothing else, whatever these look like.
        return size < (header_size_of(deframer) or 4)
    source.seek(0)
    length = source.read(4)
    return len(length) < 4 or int.from_bytes(length, "little") + (header_size_of(deframer) or 4) > size
