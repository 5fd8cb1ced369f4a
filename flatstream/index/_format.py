"""The messages of an index, as index.fbs has them: built, and taken apart without trust.

    index       | description | Entry: Head | Entry: Blocks | Entry: Blocks | ...      frames with xxhash64

What is taken apart here is whole, verified and within bounds. Whether it fits a stream is another question.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from flatstream._core.checksums.xxh3 import xxh3_64
from flatstream._core.column_reader.blocks import MAX_HASHED
from flatstream._core.flatbuf.builder import Builder
from flatstream.errors import FlatStreamError
from flatstream.index._fields import MAX_FIELDS, IndexedField
from flatstream.reader import StreamReader
from flatstream.schema import Schema, Table
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from flatstream._core.column_reader.blocks import _Run

__all__ = [
    "CHECKSUM",
    "MAX_BLOCKS",
    "MOST_LOOKED_AT",
    "NO_INDEX",
    "OTHER_STREAM",
    "VERSION",
    "BlocksEntry",
    "Fingerprint",
    "Head",
    "Parsed",
    "encode_blocks",
    "encode_head",
    "entry_table",
    "fingerprint_of_first",
    "fingerprint_of_last",
    "parse_index",
    "was_index",
]

VERSION = 1
CHECKSUM = "xxhash64"
# A message has some 256 blocks. One with more than this many is no message of ours.
MAX_BLOCKS = 4096
# How many bytes of the first frame are hashed. It is a description, mostly, in which the time is anywhere.
MAX_HASHED_FIRST = 64 << 10
LARGEST = 2**62
# What `parse_index` says of a stream that is described as one of other messages.
OTHER_STREAM = "it is no index, but a stream of other messages"
# What it says of a file that does not begin as an index does, not even as a damaged one.
NO_INDEX = "it is no index"

# How much of a file shows whether it is an index: its description names the messages by a name in this namespace.
MOST_LOOKED_AT = 64 << 10
NAMESPACE = b"flatstream.index"

# The places of an index's first bytes that are the same in all indexes: not its checksum, nor when it was made.
CONSTANT = (range(4), range(12, 60))


@dataclass(frozen=True)
class Fingerprint:
    """By what a frame is known again: its size as it is stored, and a hash of its beginning."""

    size: int
    hash: int


def fingerprint_of_first(frame: bytes | memoryview) -> Fingerprint:
    """That of a whole frame, the first one of a stream."""
    return Fingerprint(len(frame), xxh3_64(memoryview(frame)[:MAX_HASHED_FIRST]))


def fingerprint_of_last(beginning: bytes | memoryview, size: int) -> Fingerprint:
    """That of the last frame that is covered, of `size` bytes, whose beginning is given."""
    return Fingerprint(size, xxh3_64(memoryview(beginning)[:MAX_HASHED]))


@dataclass(frozen=True)
class Head:
    """The first message of an index: of which stream it is, and what it has of it.

    Attributes
    ----------
    checksum : str
        The name of the checksum of the stream's frames, "none" without one.
    table, file_identifier : str
        The table of the messages.
    others : tuple of str or None
        The file identifiers of the stream's other tables; None if it has none.
    fields : tuple of IndexedField
        The fields, in the order of the ranges of each message.
    first_frame : Fingerprint
        That of the stream's first frame.
    begin : int
        The stream offset of the first message.
    """

    checksum: str
    table: str
    file_identifier: str
    others: tuple[str, ...] | None
    fields: tuple[IndexedField, ...]
    first_frame: Fingerprint
    begin: int


class BlocksEntry(NamedTuple):
    """A message with blocks.

    Attributes
    ----------
    begin, end : int
        Stream offsets: where the first block begins, and the last one ends.
    first_frame, frames, rows, blocks : int
        The number of the first frame; how many frames, messages of the table and blocks there are.
    last_frame : Fingerprint
        That of the last frame.
    ends, block_frames, block_rows : numpy.ndarray or array.array
        Of each block: where it ends, and how many frames and messages of the table it has.
    ranges : list of (low, high, nulls)
        Of each field of the head, with an item for each block; `nulls` is None if there are none.
    index_end : int
        Where the frame of this message ends in the index.
    """

    begin: int
    end: int
    first_frame: int
    frames: int
    rows: int
    blocks: int
    last_frame: Fingerprint
    ends: Any
    block_frames: Any
    block_rows: Any
    ranges: list[tuple[Any, Any, Any]]
    index_end: int


@dataclass(frozen=True)
class Parsed:
    """What is whole in an index.

    Attributes
    ----------
    head : Head or None
        None if there is none yet.
    entries : list of BlocksEntry
        The messages with blocks.
    head_end : int
        Where the frame of the head ends in the index.
    problem : str or None
        Why the rest of the index is of no use; None if all of it was read.
    """

    head: Head | None
    entries: list[BlocksEntry]
    head_end: int
    problem: str | None

    @property
    def end(self) -> int:
        """Where what was read ends in the index."""
        return self.entries[-1].index_end if self.entries else self.head_end


@functools.cache
def entry_table() -> Table:
    """The table of an index's messages."""
    data = resources.files("flatstream.index").joinpath("index.bfbs").read_bytes()
    table = Schema.from_bytes(data).root
    assert table is not None
    return table


def _encode(entry: dict[str, Any]) -> bytes:
    builder = Builder(16 << 10)
    entry_table().encode(builder, entry)
    return bytes(memoryview(builder))


def encode_head(head: Head) -> bytes:
    """The message of a head."""
    fields = [
        {
            "path": field.path,
            "kind": field.kind,
            "default": field.default,
            "steps": field.steps,
            "unit": field.unit,
        }
        for field in head.fields
    ]
    return _encode(
        {
            "head": {
                "version": VERSION,
                "checksum": head.checksum,
                "table": head.table,
                "file_identifier": head.file_identifier or None,
                "others": head.others,
                "fields": fields,
                "first_frame_size": head.first_frame.size,
                "first_frame_hash": head.first_frame.hash,
                "begin": head.begin,
            }
        }
    )


_VECTORS: dict[str, tuple[str, str, Literal["q", "Q", "d"]]] = {
    "signed": ("low", "high", "q"),
    "unsigned": ("low_ulong", "high_ulong", "Q"),
    "floating": ("low_double", "high_double", "d"),
}


def encode_blocks(run: _Run, fields: Sequence[IndexedField]) -> bytes:
    """The message of a run of blocks, as `BlockBuilder.take` returns it."""
    begin, first_frame, ends, frames, rows, ranges, last_size, last_hash = run
    made = []
    for field, (low, high, nulls) in zip(fields, ranges, strict=True):
        low_name, high_name, code = _VECTORS[field.form]
        each: dict[str, Any] = {low_name: _cast(low, code), high_name: _cast(high, code)}
        if nulls is not None:
            each["nulls"] = memoryview(nulls).cast("I")
        made.append(each)
    blocks: dict[str, Any] = {
        "begin": begin,
        "first_frame": first_frame,
        "ends": memoryview(ends).cast("Q"),
        "frames": memoryview(frames).cast("I"),
        "ranges": made,
        "last_frame_size": last_size,
        "last_frame_hash": last_hash,
    }
    if rows is not None:
        blocks["rows"] = memoryview(rows).cast("I")
    return _encode({"blocks": blocks})


def _cast(data: bytes, code: Literal["q", "Q", "d"]) -> Any:
    return memoryview(data).cast("d") if code == "d" else memoryview(data).cast(code)


def parse_index(data: bytes) -> Parsed:
    """What is whole in the bytes of an index, up to the first thing that is not. Never raises for what they are."""
    head: Head | None = None
    entries: list[BlocksEntry] = []
    head_end = 0
    problem = None
    reader = StreamReader(data, CHECKSUM)
    try:
        description = reader.description
        if description is None:
            return Parsed(None, [], 0, NO_INDEX if data and not was_index(data[:MOST_LOOKED_AT]) else "it is empty")
        if [root.table for root in description.roots] != [entry_table().name]:
            return Parsed(None, [], 0, OTHER_STREAM)
        for payload in reader:
            entry = entry_table().view(payload, max_tables=MAX_FIELDS + 10, max_depth=8)
            if head is None:
                if entry.head is None:
                    problem = "it has no head"
                    break
                head = _parse_head(entry.head)
                head_end = reader.offset
            elif entry.blocks is not None:
                entries.append(_parse_blocks(entry.blocks, head, entries[-1] if entries else None, reader.offset))
    except FlatStreamError as error:
        problem = f"it is damaged or torn: {error}"
    except (ValueError, UnicodeDecodeError) as error:
        problem = str(error)
    if head is None and data and not was_index(data[:MOST_LOOKED_AT]):
        problem = NO_INDEX
    if head is None and problem is None:
        problem = "it is empty"
    return Parsed(head, entries, head_end, problem)


def _parse_head(head: Any) -> Head:
    if head.version != VERSION:
        raise ValueError(f"it is of version {head.version}, and this flatstream reads version {VERSION}")
    if not 0 < len(head.fields) <= MAX_FIELDS or not 0 <= head.begin < LARGEST:
        raise ValueError("its head is wrong")
    fields = tuple(
        IndexedField(field.path, field.kind, field.default, tuple(field.steps.tolist()), field.unit)
        for field in head.fields
    )
    if len({field.path for field in fields}) < len(fields):
        raise ValueError("its head has a field twice")
    return Head(
        head.checksum,
        head.table,
        head.file_identifier or "",
        None if head.others is None else tuple(head.others),
        fields,
        Fingerprint(head.first_frame_size, head.first_frame_hash),
        head.begin,
    )


def _parse_blocks(blocks: Any, head: Head, before: BlocksEntry | None, index_end: int) -> BlocksEntry:
    ends, frames, rows, views = blocks.ends, blocks.frames, blocks.rows, blocks.ranges
    count = len(ends)
    if (
        not 0 < count <= MAX_BLOCKS
        or len(frames) != count
        or (rows is not None and len(rows) != count)
        or len(views) != len(head.fields)
    ):
        raise ValueError("it has a message whose parts do not fit each other")
    least, number = (head.begin, 0) if before is None else (before.end, before.first_frame + before.frames)
    # The numbers one by one are looked at when they are needed.
    begin, first_frame, end = blocks.begin, blocks.first_frame, int(ends[-1])
    last = Fingerprint(blocks.last_frame_size, blocks.last_frame_hash)
    frame_count = _total(frames)
    row_count = frame_count if rows is None else _total(rows)
    if (
        not least <= begin < end < LARGEST
        or not number <= first_frame < LARGEST
        or row_count > frame_count
        or not 0 < last.size <= end - begin
    ):
        raise ValueError(f"it has blocks where none can be: from offset {begin} to {end}, behind {least}")
    ranges = []
    for field, view in zip(head.fields, views, strict=True):
        low_name, high_name, _ = _VECTORS[field.form]
        low, high, nulls = view[low_name], view[high_name], view.nulls
        if (
            low is None
            or high is None
            or not len(low) == len(high) == count
            or (nulls is not None and len(nulls) != count)
        ):
            raise ValueError("it has a message whose ranges are not of its blocks")
        ranges.append((low, high, nulls))
    if rows is None:
        rows = frames
    return BlocksEntry(
        begin, end, first_frame, frame_count, row_count, count, last, ends, frames, rows, ranges, index_end
    )


def _total(counts: Any) -> int:
    """The sum of an array of NumPy, or of the standard library without it, of numbers of 32 bits."""
    return int(counts.sum()) if hasattr(counts, "sum") else sum(counts)


def was_index(content: bytes) -> bool:
    """Whether a file with this beginning is an index, or what a loss of power or damage has left of one.

    Anything else is somebody's file, and must stay.
    """
    if content[16:20] == b"FSD1" and NAMESPACE in content:
        return True
    # After a loss of power, there may be zeros where the data should be.
    kept = content.rstrip(b"\0")
    whole = _description()
    wrong = sum(kept[i] != whole[i] for part in CONSTANT for i in part if i < len(kept))
    return not wrong or (wrong == 1 and NAMESPACE in content)


@functools.cache
def _description() -> bytes:
    """The frame with which an index begins."""
    file = io.BytesIO()
    with StreamWriter(file, CHECKSUM, describe=entry_table()) as writer:
        writer.flush()
        return file.getvalue()
