"""Copies what is intact in the damaged segments of a journal to a new journal, with the same numbers."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flatstream._core.stream.frame_search import header_size_of
from flatstream._files import check_new, open_descriptor, sync, sync_folder
from flatstream._salvage import salvage
from flatstream.checksums import ChecksumType
from flatstream.description import Description
from flatstream.errors import FlatStreamError
from flatstream.framing import deframer_for
from flatstream.journal._examine import (
    BATCH_BYTES,
    Content,
    Damage,
    Examined,
    Folder,
    Watch,
    deframer_of,
    examine,
    number_damage,
)
from flatstream.journal._heads import JOURNAL_KEY, NO_JOURNAL, Heads, description_beside, find_identity
from flatstream.journal._layout import Manifest, Sealed, segment_path, write_manifest
from flatstream.journal._numbers import FIRST_BYTES
from flatstream.journal._segment_files import is_compressed_file, open_segment
from flatstream.reader import StreamReader

__all__ = ["Salvaged", "salvage_journal"]

CHUNK = 1 << 20


class Salvaged(NamedTuple):
    """What became of a segment.

    Attributes
    ----------
    examined : Examined
        The segment, as it was read before.
    files : list of (str, Sealed)
        The names of the new segments, and what is in them.
    damage : list of Damage
        What is lost.
    doubtful : str or None
        The name of the file with doubtful frames.
    doubtful_frames : int
        How many it has.
    """

    examined: Examined
    files: list[tuple[str, Sealed]]
    damage: list[Damage]
    doubtful: str | None = None
    doubtful_frames: int = 0


def salvage_journal(
    folder: Folder,
    out: str,
    checksum: ChecksumType,
    *,
    everything: bool = False,
    watch: Callable[[str], Watch] | None = None,
    progress: Callable[[str], Callable[[int, int], object]] | None = None,
    left_out: Callable[[Examined], object] | None = None,
) -> list[Salvaged]:
    """Copies the intact frames of damaged and torn segments to a new folder. The journal is not changed.

    Behind lost frames a new segment begins, so that each frame keeps its number. It begins with the same description;
    if that is lost, with the one of the segments before and behind, if those agree.
    The new journal has the identity of the old one, so that cursors go on to be right.

    Parameters
    ----------
    folder : Folder
        The journal.
    out : str
        The new folder. It must not exist. Until it is complete, it is called ``<out>.partial-<number of the process>``.
        It is not made if nothing is to be copied.
    checksum : ChecksumType
        That of the journal.
    everything : bool
        Whether to copy intact segments too.
    watch, progress : callable, optional
        Get the name of a segment, and return what is told how far it is read and copied.
    left_out : callable, optional
        Gets each intact segment that is not copied, without `everything`.

    Returns
    -------
    list of Salvaged
        One for each segment that was copied.

    Raises
    ------
    FileExistsError
        `out` exists.
    OSError, FlatStreamError
        A segment cannot be read, or a file not written. There is no new folder then.
    """
    partial = f"{out}.partial-{os.getpid()}"
    check_new(out)
    os.mkdir(partial)
    try:
        done = []
        for found in examine(folder, deframer_of(checksum), everything=True, watch=watch):
            if found.state == "unreadable":
                raise OSError(errno.EIO, found.reason, found.segment.path)
            if found.state == "damaged":
                with _plain_file(found, partial) as path:
                    done.append(
                        _salvage(folder, found, path, partial, checksum, progress and progress(found.segment.name))
                    )
            elif everything or found.state == "torn":
                with _plain_file(found, partial) as path:
                    done.append(_copy(found, path, partial))
            elif left_out is not None:
                left_out(found)
        if not done:
            os.rmdir(partial)
            return []
        lost = [one.next for one in folder.lost.values()] if everything else []
        _reserve_numbers(done[-1], partial, max(lost, default=0))
        known = folder.manifest
        sealed = {name: one for salvaged in done for name, one in salvaged.files}
        identity = find_identity(folder.directory, deframer_of(checksum)) if known is None else known.id
        write_manifest(partial, Manifest(identity, checksum.value, sealed))
        os.rename(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(out)
    return done


def _reserve_numbers(last: Salvaged, folder: str, floor: int) -> None:
    """Makes an empty segment behind frames that are lost at the end, or at `floor` if that is more: no writer uses
    their numbers again.
    """
    found = last.examined
    behind = last.files[-1][1].next if last.files else found.segment.first
    number = max([behind, floor, *(damage.next for damage in last.damage)])
    if number > behind:
        last.files.append(_piece(found, os.devnull, folder, number, 0, 0, 0))


@contextlib.contextmanager
def _plain_file(found: Examined, folder: str) -> Iterator[str]:
    """The path of the plain segment: of one that is compressed, that of a copy in `folder` for the time being."""
    with open_segment(found.segment) as file:
        if not is_compressed_file(file):
            yield found.segment.plain_path
            return
        path = os.path.join(folder, f"{found.segment.name}.plain")
        with open(path, "xb", buffering=0) as copy:
            while chunk := file.read(CHUNK):
                _write_all(copy, chunk)
    yield path
    os.unlink(path)


def _copy(found: Examined, path: str, folder: str) -> Salvaged:
    """Copies the frames of a segment that is not damaged: all but a torn tail."""
    content = found.content
    assert content is not None
    end = content.size if content.torn is None else content.torn
    damage = [] if content.torn is None else [Damage(end, content.size, found.next, found.next)]
    return Salvaged(found, [_piece(found, path, folder, found.segment.first, found.frames, 0, end)], damage)


def _salvage(
    journal: Folder,
    found: Examined,
    path: str,
    folder: str,
    checksum: ChecksumType,
    progress: Callable[[int, int], object] | None,
) -> Salvaged:
    base = found.segment.name
    whole = os.path.join(folder, f"{base}.salvaged")
    report = salvage(
        path,
        whole,
        checksum,
        doubtful=os.path.join(folder, f"{base}.doubtful"),
        allow_empty=False,
        progress=progress,
    )
    # Where each lost range would be in the new file.
    places = []
    lost = 0
    for begin, end in report.lost_ranges:
        places.append(begin - lost)
        lost += end - begin
    # Without the description, the first message may look like one.
    head = 0 if found.content is None else found.content.head
    is_described = head > 0 and not any(begin < head for begin, _ in report.lost_ranges)
    lost_description = None
    if not is_described and any(begin == 0 for begin, _ in report.lost_ranges):
        lost_description = description_beside(journal.segments, found.segment, deframer_of(checksum))
    frames, before = _count(whole, checksum, places, is_described)
    content = Content(
        report.size + lost,
        frames,
        lost_ranges=list(report.lost_ranges),
        frames_before=before,
        head=head,
    )
    # Frames that are missing at the end of the segment are behind what was read, too.
    header_size = header_size_of(deframer_of(checksum)) or 4
    damage, end_number = number_damage(found.segment.first, found.expected, content, header_size)
    files = []
    number, start, counted = found.segment.first, 0, 0
    # A new file begins where numbers are missing.
    for place, count, one in [
        *zip(places, before, damage, strict=False),
        (report.size, frames, Damage(0, 0, 0, end_number)),
    ]:
        if one.first == one.next and place != report.size:
            continue
        if count > counted:
            begin = max(start, head) if is_described else start
            description = (
                _description_before(whole, begin, head if is_described else 0, number, checksum)
                if lost_description is None
                else Heads(lost_description, checksum.checksum(), _journal_of(lost_description)).frame(number)
            )
            files.append(_piece(found, whole, folder, number, count - counted, begin, place, description))
        number, start, counted = one.next, place, count
    os.unlink(whole)
    doubtful = None if report.doubtful is None else os.path.basename(report.doubtful)
    return Salvaged(found, files, damage, doubtful, len(report.doubtful_ranges))


def _count(path: str, checksum: ChecksumType, places: list[int], is_described: bool) -> tuple[int, list[int]]:
    """How many frames an intact file has, without its description; and how many of them are before each of these
    offsets, at which frames begin.
    """
    counts: list[int] = []
    frames = 0
    with StreamReader(path, deframer_for(checksum)) as reader:
        if not is_described:
            reader._deliver_description()
        for batch in reader.batches(max_bytes=BATCH_BYTES):
            end = batch.stream_offset + len(batch.buffer)
            while len(counts) < len(places) and places[len(counts)] < end:
                counts.append(frames + bisect_left(batch.offsets, places[len(counts)] - batch.stream_offset))
            frames += len(batch)
    return frames, counts + [frames] * (len(places) - len(counts))


def _journal_of(description: Description) -> str:
    """The identity of the journal that a description of a segment has."""
    return description.metadata.get(JOURNAL_KEY, NO_JOURNAL)


def _description_before(path: str, begin: int, head: int, first: int, checksum: ChecksumType) -> bytes:
    """The frame of the description of a segment that begins with the frame at `begin` of a file.

    It is that of the file, which has `head` bytes. If there is none, one is made only before a message that looks like
    a description, so that no reader takes it for one.
    """
    with open(path, "rb") as file:
        if head:
            return file.read(head)
        file.seek(begin)
        heads = Heads(None, checksum.checksum(), NO_JOURNAL)
        return heads.least_frame(first) if heads.is_needed_before(memoryview(file.read(FIRST_BYTES))) else b""


def _write_all(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _piece(
    found: Examined,
    source: str,
    folder: str,
    first: int,
    frames: int,
    begin: int,
    end: int,
    description: bytes = b"",
) -> tuple[str, Sealed]:
    """Copies whole frames of a file into a segment, durably, behind the frame of a description. The segment gets the
    time of the old one.
    """
    path = segment_path(folder, first)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    with open(source, "rb", buffering=0) as old, open(open_descriptor(path, flags, 0o666), "wb", buffering=0) as new:
        _write_all(new, description)
        old.seek(begin)
        left = end - begin
        while left and (chunk := old.read(min(CHUNK, left))):
            left -= len(chunk)
            _write_all(new, chunk)
        if left:
            raise FlatStreamError(f"{source} became shorter while it was copied")
        sync(new.fileno())
    ended = found.ended or 0.0
    with contextlib.suppress(OSError):
        os.utime(path, (ended, ended))
    began = ended if found.began is None else found.began
    size = len(description) + end - begin
    return os.path.basename(path), Sealed(frames, size, first + frames, began, ended)
