"""Parsers that get a stream in pieces, and what a reader of the whole stream makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from flatstream import FlatStreamError, FrameParser, StreamReader
from support.errors import facts

# A message with its stream offset and number, or the facts of an error.
Event = tuple[Any, ...]


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` cut at these offsets. Two equal ones give an empty piece."""
    ends = [0, *sorted(cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


def hand_in(parser: FrameParser, piece: bytes, lent: bool) -> None:
    """Hands a piece to a parser: by `feed`, or through buffers that it lends."""
    if not lent:
        parser.feed(piece)
        return
    rest = memoryview(piece)
    while True:
        buffer = parser.get_buffer()
        size = min(len(rest), len(buffer))
        buffer[:size] = rest[:size]
        parser.buffer_updated(size)
        rest = rest[size:]
        if not rest:
            return


def _event_of(error: FlatStreamError) -> Event:
    kind, values = facts(error)
    # How many bytes of the frame had arrived depends on the pieces.
    return kind, sorted((name, value) for name, value in values.items() if name != "buffer_len")


def events_of(reader: Any, last: list[BaseException], **options: Any) -> Iterator[Event]:
    """What reads give until one gives None or an error that was raised before; `last` keeps the last error."""
    while True:
        try:
            batch = reader.read_batch(1, **options)
        except FlatStreamError as error:
            if last and last[-1] is error:
                return
            last.append(error)
            yield _event_of(error)
            continue
        if batch is None:
            return
        (payload,) = batch
        yield reader.message_number, batch.stream_offset, bytes(payload)


def results_of(reader: Any) -> tuple[Any, ...]:
    """What a reader counts, after it has read all."""
    stop = reader.stop_error
    return (
        reader.frames_read,
        reader.bytes_read,
        reader.skipped,
        reader.lost_ranges,
        None if stop is None else _event_of(stop),
    )


def read_whole(data: bytes, deframer: Any, **options: Any) -> tuple[list[Event], tuple[Any, ...]]:
    """What a `StreamReader` makes of a stream."""
    reader = StreamReader(data, deframer, **options)
    return list(events_of(reader, [])), results_of(reader)


def parse_pieces(
    pieces: Iterable[bytes], deframer: Any, *, lent: Iterable[bool] = (False,), **options: Any
) -> tuple[list[Event], tuple[Any, ...]]:
    """What a `FrameParser` makes of a stream in pieces, each read as far as it goes before the next is handed in.

    `lent` says, for one piece after the other and then again from the first, how it is handed in.
    """
    parser = FrameParser(deframer, **options)
    events: list[Event] = []
    errors: list[BaseException] = []
    for piece, is_lent in zip(pieces, itertools.cycle(lent), strict=False):
        hand_in(parser, piece, is_lent)
        events += events_of(parser, errors)
    parser.feed_eof()
    events += events_of(parser, errors)
    return events, results_of(parser)
