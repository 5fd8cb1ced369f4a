"""What is known of the index of a file, or of those of a journal's segments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flatstream._index_hook import index_paths
from flatstream._ranges import RangeFile, open_ranges, ranges_of
from flatstream._remote import is_url, size_of_url

if TYPE_CHECKING:
    from flatstream.index import FileIndex, UnusableIndex
    from flatstream.schema import Table

__all__ = ["IndexInfo", "index_of_file", "index_of_journal"]


@dataclass(frozen=True)
class IndexInfo:
    """The index of a file, or those of a journal's segments.

    Attributes
    ----------
    fields : tuple of str
        The fields of which it has the ranges; none if it is left aside.
    blocks, size, covered : int
        How many blocks it has, how many bytes, and how many bytes of the stream the blocks have.
    end, stream_size : int
        Where the last block ends, and how many bytes the stream has; of a journal, the sums.
    ranges : dict
        The lowest and the highest value of each field in all blocks; without fields that have none.
    reason : str or None
        Why it is left aside; of a journal, the first of them.
    segments, left_aside : int or None
        Of a journal: how many segments have an index that fits, and how many one that is left aside.
    """

    fields: tuple[str, ...] = ()
    blocks: int = 0
    size: int = 0
    covered: int = 0
    ranges: Mapping[str, tuple[int, int] | tuple[float, float]] = field(default_factory=dict)
    reason: str | None = None
    segments: int | None = None
    left_aside: int | None = None
    end: int = 0
    stream_size: int = 0

    @property
    def is_useless(self) -> bool:
        """Whether the stream can be read from its beginning only, so that no index is used."""
        from flatstream.index.reading import UNSEEKABLE

        return self.reason is not None and self.reason == UNSEEKABLE

    @property
    def is_foreign(self) -> bool:
        """Whether what is in the place of the index is none, so that it is not replaced."""
        from flatstream.index._format import NO_INDEX, OTHER_STREAM

        return self.reason in (NO_INDEX, OTHER_STREAM)


def index_of_file(path: str, table: Table | None, checksum: str | None) -> IndexInfo | None:
    """What is known of the index of a file, or of one at a URL; None if it has none."""
    found = _load(path, lambda: open_ranges(path), table, checksum)
    return None if found is None else _info_of([found])


def index_of_journal(directory: str, table: Table | None, checksum: str | None) -> IndexInfo | None:
    """What is known of the indexes of a journal's segments; None if there are none."""
    from flatstream.journal._layout import list_segments
    from flatstream.journal._segment_files import open_segment

    found: list[tuple[FileIndex | UnusableIndex, int]] = []
    for segment in list_segments(directory):
        # Retention may remove it.
        with suppress(FileNotFoundError):
            one = _load(segment.path, lambda segment=segment: ranges_of(open_segment(segment)), table, checksum)  # type: ignore[misc]
            if one is not None:
                found.append(one)
    if not found:
        return None
    from flatstream.index import FileIndex

    info = _info_of(found)
    usable = sum(isinstance(one, FileIndex) for one, _ in found)
    return IndexInfo(**vars(info) | {"segments": usable, "left_aside": len(found) - usable})


def _load(
    path: str, open_bytes: Callable[[], RangeFile], table: Table | None, checksum: str | None
) -> tuple[FileIndex | UnusableIndex, int] | None:
    """The index, and the size of the stream; None if there is none."""
    names = index_paths(path)
    # At a URL, only reading it shows whether there is one.
    name = next((name for name in names if is_url(name) or os.path.lexists(name)), None)
    if name is None:
        return None
    # Imported for a file that has an index: it takes longer than all else of telling about a stream.
    from flatstream.index import UnusableIndex, load_index

    try:
        with open_bytes() as stream:
            found = load_index(path, stream, table=table, checksum=checksum)
            if isinstance(found, UnusableIndex) and found.path is None:
                return None
            return found, stream.size
    except ImportError as error:
        return UnusableIndex(str(error), name), 0


def _info_of(known: list[tuple[FileIndex | UnusableIndex, int]]) -> IndexInfo:
    from flatstream.index import FileIndex, UnusableIndex

    found = [one for one, _ in known]
    usable = [one for one in found if isinstance(one, FileIndex)]
    ranges: dict[str, tuple[int, int] | tuple[float, float]] = {}
    for one in usable:
        for path, each in one.statistics.items():
            # A block without a value has the highest number as its lowest one.
            has_value = each.low <= each.high
            if has_value.any():
                low, high = each.low[has_value].min().item(), each.high[has_value].max().item()
                before = ranges.get(path, (low, high))
                ranges[path] = min(low, before[0]), max(high, before[1])
    return IndexInfo(
        tuple(dict.fromkeys(each.path for one in usable for each in one.fields)),
        sum(len(one) for one in usable),
        sum((size_of_url(one.path) or 0) if is_url(one.path) else os.path.getsize(one.path) for one in usable),
        sum(int((one.ends - one.offsets).sum()) for one in usable),
        ranges,
        next((one.reason for one in found if isinstance(one, UnusableIndex)), None),
        end=sum(one.covered for one in usable),
        stream_size=sum(size for one, size in known if isinstance(one, FileIndex)),
    )
