"""What is in the segments of a journal, and where they are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from flatstream.checksums import ChecksumType
from flatstream.framing import Deframer
from flatstream.tools._walk import Damage, Totals, first_error
from flatstream.validation import Validator

__all__ = ["JournalTotals", "examine_journal"]


class JournalTotals(NamedTuple):
    """What `examine_journal` found.

    Attributes
    ----------
    totals : Totals
        The frames and damaged places of all segments.
    segments, lost_segments : int
        How many there are, and how many are known to be missing.
    missing : int
        How many frame numbers belong to no frame, as far as segments were read.
    writer : str or None
        The process that writes.
    state : {"intact", "torn", "damaged"}
    """

    totals: Totals
    segments: int
    lost_segments: int
    missing: int
    writer: str | None
    state: Literal["intact", "torn", "damaged"]


def examine_journal(
    directory: str,
    checksum: Any,
    *,
    everything: bool,
    validator: Validator | None = None,
    step: Callable[[int], object] | None = None,
) -> JournalTotals:
    """Looks at each segment of a journal.

    Parameters
    ----------
    directory : str
        The folder.
    checksum : ChecksumType, str or None
        By default that of the journal.
    everything : bool
        Whether to read segments that are sealed, and have the size that they were sealed with.
    validator : Validator, optional
        Verifies the messages that are read.
    step : callable, optional
        Gets the number of bytes of the segments that are done.
    """
    from flatstream.journal._examine import checksum_of, deframer_of, examine, read_folder
    from flatstream.journal._segment_files import damage_at, open_segment

    folder = read_folder(directory)
    totals = Totals()
    missing = 0
    is_damaged = bool(folder.lost)
    # Segments without a byte show no checksum.
    if any(os.path.exists(segment.path) and os.path.getsize(segment.path) for segment in folder.segments):
        kind = checksum_of(folder, None if checksum is None else ChecksumType(checksum).value)
        deframer: Deframer = deframer_of(kind)
        if validator is not None:
            deframer = deframer.with_validator(validator)
        for found in examine(folder, deframer, everything=everything):
            name = os.path.basename(found.segment.path)
            before, totals.frames = totals.frames, totals.frames + found.frames
            totals.end += found.size
            content = found.content
            if found.state == "torn" and content is not None and content.torn is not None:
                torn = Damage(content.torn, content.size, "torn", "it ends inside a frame", totals.frames, name)
                totals.add_damage(torn)
            elif found.state == "unreadable":
                is_damaged = True
                totals.add_damage(Damage(0, 0, "frame", f"it cannot be read: {found.reason}", before, name))
            elif found.state == "damaged":
                is_damaged = True
                missing += sum(damage.next - damage.first for damage in found.damage)
                ranges = [] if content is None else list(zip(content.lost_ranges, content.frames_before, strict=True))
                for (begin, end), frames in ranges:
                    with open_segment(found.segment) as file:
                        error = first_error(file, deframer, begin, found.reason or "")
                        if (block := damage_at(file, begin)) is not None:
                            error = "frame", block
                    totals.add_damage(Damage(begin, end, *error, before + frames, name))
                if not ranges:
                    # Frames are missing at its end, or it was not read.
                    reason = found.reason or "some of its bytes are no frames"
                    totals.add_damage(Damage(found.size, found.size, "frame", reason, totals.frames, name))
            if step is not None:
                step(totals.end)
    gone = folder.lost.values()
    totals.lost_bytes += sum(lost.bytes for lost in gone)
    return JournalTotals(
        totals,
        len(folder.segments),
        len(folder.lost),
        missing + sum(lost.frames for lost in gone),
        folder.writer,
        "damaged" if is_damaged else "torn" if totals.damaged_places else "intact",
    )
