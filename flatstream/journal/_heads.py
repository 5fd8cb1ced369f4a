"""The descriptions with which segments begin: making them, and finding them again.

A description (`flatstream.Description`) is an ordinary frame, which has no number. Readers take it off the head of a
segment. So a writer that describes nothing must not begin a segment with a message that looks like one.
"""

from __future__ import annotations

import contextlib
import io
import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple

# What makes descriptions is imported now: a disk that fails when a writer is opened must not fail an import.
import flatstream.description._types  # noqa: F401
from flatstream.checksums import Checksum
from flatstream.description import Description
from flatstream.description.description import may_describe
from flatstream.description.head import begin_description
from flatstream.framing import Deframer, framer_for
from flatstream.journal._layout import DIGITS, IDENTITY, Segment, list_cursors, list_segments
from flatstream.journal._numbers import MARKED_BYTES, find_first_frame
from flatstream.journal._recovery import SegmentReport
from flatstream.journal._segment_files import SegmentFile, open_segment
from flatstream.journal._segment_map import open_piece

__all__ = [
    "NO_JOURNAL",
    "Continuation",
    "Heads",
    "continue_descriptions",
    "description_beside",
    "find_identity",
    "newest_description",
    "read_description",
]

# In the metadata: the identity of the journal, and the number of the first frame as in the name of the segment.
JOURNAL_KEY = "journal.id"
FIRST_KEY = "journal.first"
# Where the identity is not known.
NO_JOURNAL = "0" * 32


class _Template:
    """The payload of a description, in which the time and the number of the first frame are filled in."""

    def __init__(self, description: Description, journal: str) -> None:
        def made(created_ns: int, digit: str) -> bytes:
            first = {JOURNAL_KEY: journal, FIRST_KEY: digit * DIGITS}
            return description._changed(created_ns=created_ns).with_metadata(first).to_bytes()

        # Where the bytes differ, when all bytes of the time and all digits of the number do.
        base = made(0x0101010101010101, "0")
        self._payload = base
        self._time = _difference(base, made(0x0202020202020202, "0"), 8)
        self._first = _difference(base, made(0x0101010101010101, "1"), DIGITS)

    def filled(self, first: int) -> bytearray:
        payload = bytearray(self._payload)
        payload[self._time : self._time + 8] = time.time_ns().to_bytes(8, "little")
        payload[self._first : self._first + DIGITS] = b"%0*d" % (DIGITS, first)
        return payload


def _difference(one: bytes, other: bytes, size: int) -> int:
    at = next(i for i, (x, y) in enumerate(zip(one, other, strict=True)) if x != y)
    assert one[at + size :] == other[at + size :]
    return at


class Heads:
    """Makes the frames of the descriptions with which the segments of one writer begin.

    Parameters
    ----------
    description : Description or None
        What is said of the messages; None if segments begin with their first message.
    checksum : Checksum
        That of the frames.
    journal : str
        The identity of the journal.

    Raises
    ------
    ValueError
        The description is of frames with another checksum, or too large.
    """

    def __init__(self, description: Description | None, checksum: Checksum, journal: str) -> None:
        self._framer = framer_for(checksum)
        # Where the payload of a frame begins.
        self._header_size = 4 + checksum.size
        self._journal = journal
        self._template = None if description is None else self._template_of(description)

    def _template_of(self, description: Description) -> _Template:
        return _Template(begin_description(description, self._framer), self._journal)

    def frame(self, first: int) -> bytes:
        """What a segment begins with whose first frame is `first`: the frame of its description, or nothing."""
        return b"" if self._template is None else self._framed(self._template, first)

    def least_frame(self, first: int) -> bytes:
        """The frame of a description that says nothing of the messages."""
        return self._framed(self._template_of(Description()), first)

    def _framed(self, template: _Template, first: int) -> bytes:
        frame = io.BytesIO()
        self._framer.frame_and_write(frame, memoryview(template.filled(first)))
        return frame.getvalue()

    def parse(self, frame: bytes) -> Description | None:
        """The description in such a frame; None if there are no bytes."""
        return Description.from_bytes(frame[self._header_size :]) if frame else None

    def is_needed_before(self, data: memoryview | Sequence[memoryview]) -> bool:
        """Whether the first message of `data`, whole frames or the pieces of one, looks like a description."""
        if isinstance(data, memoryview):
            size = int.from_bytes(data[:4], "little")
            payload = data[self._header_size : self._header_size + MARKED_BYTES]
        else:
            payload, size = data[-1][:MARKED_BYTES], len(data[-1])
        # If nothing but the header is offered, it is not known, and a description does no harm.
        return len(payload) < min(size, MARKED_BYTES) or may_describe(bytes(payload), size)


def read_description(file: SegmentFile, deframer: Deframer) -> Description | None:
    """The description with which a segment begins; None if it has none that is intact."""
    first = find_first_frame(file, deframer)
    if first is None or not (first.is_whole and first.is_description):
        return None
    with open_piece(file, 0, first.size, deframer) as reader:
        return reader.description


def newest_description(segments: Sequence[Segment], deframer: Deframer) -> Description | None:
    """The description of the last segment that has frames; None if that has none. Segments whose beginning is damaged
    or not there yet are passed over.
    """
    for segment in reversed(segments):
        # Retention may remove it meanwhile.
        with contextlib.suppress(FileNotFoundError), open_segment(segment) as file:
            first = find_first_frame(file, deframer)
            if first is None or not first.is_whole:
                continue
            if not first.is_description:
                return None
            if (found := read_description(file, deframer)) is not None:
                return found
    return None


def description_beside(segments: Sequence[Segment], segment: Segment, deframer: Deframer) -> Description | None:
    """The description that a segment had whose beginning is damaged: that of the segments around it, if those agree."""
    before = [one for one in segments if one.first < segment.first]
    behind = [one for one in segments if one.first > segment.first]
    found = [newest_description(before, deframer), newest_description(behind[::-1], deframer)]
    known = [one for one in found if one is not None]
    return known[0] if known and known[0].matches(known[-1]) else None


def find_identity(directory: str, deframer: Deframer) -> str:
    """The identity of a journal whose `journal.json` is lost: the one that its registered readers or its segments know,
    so that cursors go on to be right; otherwise a new one.
    """
    segments = list_segments(directory)
    known = {one.journal for one in list_cursors(directory).values()} if segments else set()
    if len(known) == 1:
        return known.pop()
    described = newest_description(segments, deframer)
    identity = "" if described is None else described.metadata.get(JOURNAL_KEY, "")
    return identity if IDENTITY.fullmatch(identity) else uuid.uuid4().hex


class Continuation(NamedTuple):
    """How a writer goes on in a journal.

    Attributes
    ----------
    description : Description or None
        What its segments begin with.
    last : Description or None
        That of the last segment, if writing goes on there.
    ends_last : bool
        Whether the last segment has frames that are described otherwise, so that a new segment begins.
    clears_last : bool
        Whether the last segment has nothing but another description, which is to be cut off.
    """

    description: Description | None
    last: Description | None
    ends_last: bool
    clears_last: bool


def continue_descriptions(
    reports: Sequence[SegmentReport], wanted: Description | None, deframer: Deframer
) -> Continuation:
    """How to go on in a journal with segments of which `recover_segments` has made `reports`.

    Parameters
    ----------
    wanted : Description or None
        What the writer was given. If it says nothing of the messages, it says what the last segment says of them.

    Raises
    ------
    ValueError
        The journal has messages that readers of `wanted` cannot read.
    """
    known = newest_description([Segment(report.path, report.first) for report in reports], deframer)
    last = None
    if reports and reports[-1].bytes:
        with open_segment(Segment(reports[-1].path, reports[-1].first)) as file:
            last = read_description(file, deframer)
    if wanted is None:
        return Continuation(None, last, False, False)
    if known is not None and not (wanted.roots or wanted.serializer or wanted.transforms):
        theirs = {key: value for key, value in known.metadata.items() if key not in (JOURNAL_KEY, FIRST_KEY)}
        mine = known._changed(created_ns=None, created_by=wanted.created_by, metadata=())
        wanted = mine.with_metadata(wanted.metadata or theirs)
    if (
        known is not None
        and (known.roots or known.serializer)
        and not wanted.matches(known)
        and (found := _problems(wanted, known))
    ):
        raise ValueError(
            f"the journal's messages are described as {known!r:.200}, and describe says {wanted!r:.200}, with which "
            f"they cannot be read: {'; '.join(found)[:1000]}"
        )
    if not reports or not reports[-1].bytes or (last is not None and wanted.matches(last)):
        return Continuation(wanted, last, False, False)
    if not reports[-1].frames:
        return Continuation(wanted, None, False, last is not None)
    # A segment without a description, written before there were any, goes on if the new one says no more.
    return Continuation(wanted, last, bool(wanted.roots) or last is not None, False)


def _problems(new: Description, old: Description) -> list[str]:
    """Why readers of the messages that `new` describes cannot read those of `old`, in words; empty if they can."""
    problems = []
    if (new.serializer, new.transforms) != (old.serializer, old.transforms):
        problems.append("its messages have another serializer or other transforms")
    tables = new.tables
    known = old.tables
    if len(known) == 1 and len(tables) > 1:
        # They may have no identifier: nobody needed one.
        known = {"": next(iter(known.values()))}
    for identifier, before in known.items():
        after = tables.get(identifier)
        kind = f"with the file identifier {identifier!r}" if identifier else "without a file identifier"
        if after is None:
            hint = f', as in {{"": {before.name}, ...}}' if len(old.roots) == 1 and not identifier else ""
            problems.append(f"it has no table {kind}, and had {before.name}{hint}")
        elif after.name != before.name:
            problems.append(f"the table {kind} is {after.name}, and was {before.name}")
        elif after.schema != before.schema:
            problems += map(str, after.schema.check_evolution(before.schema))
    return problems
