"""``flatstream info``: what files, journals and pipes are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from flatstream._remote import is_url
from flatstream.cli._app import exit_statuses
from flatstream.cli._encrypted import missing_texts
from flatstream.cli._inputs import (
    Input,
    Source,
    expand,
    json_option,
    paths_argument,
    source_options,
    time_field_option,
)
from flatstream.cli._output import (
    Progress,
    complain,
    count_text,
    duration_text,
    print_json,
    print_line,
    print_table,
    size_text,
    time_text,
)
from flatstream.cli._status import DAMAGED, ERROR, INTACT, for_each
from flatstream.description._schemas import PER_SECOND
from flatstream.errors import FlatStreamError
from flatstream.tools._indexes import IndexInfo
from flatstream.tools.inputs import passed_over
from flatstream.tools.inspection import StreamInfo, info
from flatstream.transforms.described import is_encrypted

__all__ = ["command"]

FOUND_BY = {
    "description": "as its description says",
    "detection": "found by trying; the stream does not say it",
    "journal": "as journal.json says",
    "empty file": "any",
    None: "as --checksum says",
}

# The widest label, and two spaces.
LABEL = 14


@click.command(epilog=exit_statuses())
@paths_argument
@click.option("-s", "--short", is_flag=True, help="Print one line for each input.")
@click.option("--check", is_flag=True, help="Compare each payload with its checksum, in large files too.")
@time_field_option()
@json_option
@source_options
def command(
    paths: tuple[str, ...], short: bool, check: bool, time_field: str | None, as_json: bool, source: Source
) -> int:
    """Say what files, journals and pipes are.

    That is: the checksum and how it is known, the number of frames and bytes, the time from the first message to the
    last, the schema, what the stream says of itself, and whether it is intact, or where it is not. For a file that is
    no stream it says what it seems to be (exit status 4).

    Payloads of more than 64 MiB are not checked: the frames are counted by their headers (see --check, and verify).
    """
    known: list[StreamInfo] = []

    def show(one: Input) -> int:
        with Progress(one.name, one.size) as progress:
            try:
                found = info(
                    one,
                    checksum=source.checksum,
                    schema=source.schema,
                    table=source.table,
                    time=time_field,
                    check=check or None,
                    cipher=source.cipher,
                    progress=progress,
                )
            except FlatStreamError:
                raise
            except (LookupError, ValueError) as error:
                raise click.UsageError(f"{one.name}: {error.args[0]}") from None
        if as_json:
            print_json(found.to_dict())
        elif short:
            known.append(found)
        else:
            for line in text_of(found):
                print_line(line)
        return status_of_info(found)

    inputs = expand(paths)
    for path in paths:
        if number := passed_over(path):
            complain(
                f"{path}: {count_text(number, 'other file')} not looked at: no name of a stream, which ends with .fs"
            )
    status = for_each(inputs, show, as_json=as_json)
    if known:
        print_table(SHORT, [short_of(found) for found in known], right=("frames", "size"))
        if any(map(is_unchecked, known)):
            print_line("* payloads not checked: --check or flatstream verify checks them")
    return status


def status_of_info(found: StreamInfo) -> int:
    """The exit status that an input calls for."""
    if found.state is None:
        return ERROR
    return INTACT if found.state == "intact" else DAMAGED


def text_of(found: StreamInfo) -> Iterator[str]:
    """The lines that tell of an input."""
    named = "standard input" if found.path == "-" else found.path
    yield f"{named}: {found.what}"
    for label, text in rows_of(found):
        yield f"  {label:{LABEL}}{text}"


def rows_of(found: StreamInfo) -> Iterator[tuple[str, str]]:
    """What is known of an input, each with its label."""
    if found.kind == "empty":
        return
    if found.size is not None:
        exact = "" if found.size < 10_000 else f" ({count_text(found.size, 'byte')})"
        yield "size", f"{size_text(found.size)}{exact}"
    if found.kind == "foreign":
        if found.hint is not None:
            yield "what to do", found.hint
        return
    if found.segments is not None:
        lost = f", and {found.lost_segments} lost" if found.lost_segments else ""
        yield "segments", f"{count_text(found.segments)}{lost}"
    assert found.frames is not None
    intact = " intact" if found.state == "damaged" else ""
    others = " (with those that begin and end parts)" if found.unreadable and is_encrypted(found.description) else ""
    yield "frames", f"{count_text(found.frames)}{intact}{others}{payloads_text(found)}"
    if found.checksum is not None:
        yield "checksum", f"{found.checksum} ({FOUND_BY[found.found_by]})"
    yield "intact", intact_text(found)
    if found.unreadable is not None:
        yield "messages", f"cannot be read: {found.unreadable}"
    elif found.payload_bytes and found.size and found.description is not None and found.description.transforms:
        share = f"{100 * found.size / found.payload_bytes:.0f} %"
        yield "stored", f"{size_text(found.size)} for {size_text(found.payload_bytes)} of messages ({share})"
    if found.seems is not None:
        word = "encrypted" if found.seems == "encryption" else "compressed"
        yield "payloads", f"begin as {word} ones, and no description says so: read them with deframer=...{word}(...)"
    if found.encryption is not None:
        parts = count_text(found.encryption.parts, "part")
        if found.encryption.is_complete:
            yield "encryption", f"{parts}, each with all of its frames and its end"
        else:
            yield "encryption", "; ".join([parts, *missing_texts(found.encryption)])
    if found.writer is not None:
        yield "written by", found.writer
    yield from times_of(found)
    if found.index is not None:
        yield "index", index_text(found, found.index)
    yield from schema_of(found)
    if found.description is not None:
        yield from description_of(found)


def payloads_text(found: StreamInfo) -> str:
    """How large the payloads are."""
    if not found.frames or found.payload_bytes is None or found.largest is None:
        return ""
    mean = found.payload_bytes / found.frames
    if found.largest * found.frames == found.payload_bytes:
        return f", payloads of {size_text(found.largest)}"
    if size_text(round(mean)) == size_text(found.largest):
        return f", payloads of at most {size_text(found.largest)}"
    return f", payloads of {size_text(round(mean))} on average, at most {size_text(found.largest)}"


def intact_text(found: StreamInfo) -> str:
    """Whether an input is intact, or where it is not."""
    path = "PATH" if found.path == "-" else found.path
    if found.state == "intact":
        if is_unchecked(found):
            return "as far as headers show; payloads not checked: flatstream verify checks them"
        if found.checksum == "none":
            return "yes: frame follows frame to the end (without a checksum, payloads cannot be checked)"
        return "yes: each payload matches its checksum"
    gone = f"{count_text(found.lost_segments, 'segment')} lost" if found.lost_segments else ""
    if not found.damage:
        return f"no: {gone}"
    first = found.damage[0]
    if found.hint is not None:
        return f"no: {first.reason}; {found.hint}"
    where = f"offset {first.begin:,}" if first.segment is None else f"offset {first.begin:,} of {first.segment}"
    if found.state == "torn":
        return (
            f"no: a torn tail of {count_text(first.end - first.begin, 'byte')} from {where} on ({first.reason}); "
            f"flatstream recover {path} cuts it off, and keeps a copy"
        )
    places = f"{count_text(found.damaged_places, 'damaged place')}, {count_text(found.lost_bytes, 'byte')} lost"
    return (
        f"no: {f'{gone}, ' if gone else ''}{places}; the first at {where}: {first.reason}; "
        "flatstream verify lists them, flatstream salvage copies what is intact"
    )


def times_of(found: StreamInfo) -> Iterator[tuple[str, str]]:
    """From when to when, and how fast."""
    if found.time_field is None or found.time_unit is None:
        if found.tables and found.frames and found.unreadable is None:
            yield "time", "not known: no field says that it is one, with its unit; --time-field NAME:UNIT names it"
        return
    if found.first_time is None or found.last_time is None:
        if found.frames:
            none = "the last message has none"
            if found.first_time is None:
                none = "the first message has none" if found.last_time else "the first and the last message have none"
            yield "time", f"not known: {none} ({found.time_field})"
        return
    begin, end = (shortened(time_text(value, found.time_unit)) for value in (found.first_time, found.last_time))
    seconds = found.seconds
    assert seconds is not None
    yield "time", f"{begin} to {end} ({duration_text(seconds)}), by {found.time_field}"
    if found.rate is not None:
        yield (
            "rate",
            f"{found.rate:,.4g} messages a second" if found.rate < 1e4 else f"{found.rate:,.0f} messages a second",
        )


def index_text(found: StreamInfo, index: IndexInfo) -> str:
    """What its index has, or why it is left aside."""
    command = f"flatstream index {found.path}" if not is_url(found.path) else "flatstream index, where the file is,"
    anew = f"{command} builds it anew"
    if index.is_foreign:
        # It may be somebody's only copy of something.
        anew = f"{command} leaves such a file as it is: move it away first"
    if index.is_useless:
        return f"not used: {index.reason}"
    if not index.segments and index.reason is not None:
        return f"left aside: {index.reason}; {anew}"
    text = f"{', '.join(index.fields) or 'no field'} in {count_text(index.blocks, 'block')}"
    if (known := index.ranges.get(found.time_field or "")) is not None and found.time_unit is not None:
        begin, end = (shortened(time_text(int(value), found.time_unit)) for value in known)
        text += f", {begin} to {end}"
    if index.segments is not None and found.segments is not None:
        # A writer may have begun further segments meanwhile.
        segments = max(index.segments, found.segments)
        text += f"; of {count_text(index.segments)} of {count_text(segments, 'segment')}"
    if found.size is not None and index.reason is None:
        text += f"; {size_text(index.size)}, for {size_text(index.covered)} of messages"
    if index.segments is None:
        # A journal's writer continues those of its segments. What is damaged gets none.
        intact_end = index.stream_size
        if found.damage and found.damage[-1].end >= intact_end:
            intact_end = found.damage[-1].begin
        if index.end < intact_end:
            text += f"; covers {size_text(index.end)} of {size_text(index.stream_size)}: {command} continues it"
    if index.left_aside:
        text += f"; {count_text(index.left_aside)} left aside: {index.reason}; {anew}"
    return text


def shortened(time: str) -> str:
    """A time without thousandths, millionths or billionths that are 0."""
    while time.endswith("000Z") and "." in time:
        time = f"{time.removesuffix('000Z').removesuffix('.')}Z"
    return time


def schema_of(found: StreamInfo) -> Iterator[tuple[str, str]]:
    """Which types the messages have."""
    if found.tables:
        source = "as its description says"
        if found.schema_from == "argument":
            roots = () if found.description is None else found.description.roots
            said = ", ".join(root.table for root in roots)
            source = f"as --schema says{f'; the description says {said}' if said else ''}"
        many = len(found.tables) > 1
        names = [f"{name} ({identifier})" if many and identifier else name for identifier, name in found.tables.items()]
        yield "schema", f"{', '.join(names)} ({source})"
    elif found.description is not None and found.description.serializer:
        # What stands at the place of a file identifier is none.
        yield "schema", "none: the messages are objects of a serializer"
        return
    else:
        yield "schema", "not known: the stream does not say it; --schema FILE names it"
    counts = {identifier or "none": count for identifier, count in found.identifiers.items()}
    if found.looked_at and set(counts) != {"none"}:
        of = "" if found.looked_at == found.frames else f" of the {count_text(found.looked_at, 'message')} looked at"
        each = ", ".join(name if len(counts) == 1 else f"{name} {count:,}" for name, count in counts.items())
        yield "identifiers", f"{each}{of}" if len(counts) > 1 or of == "" else f"{each} (all{of})"


def description_of(found: StreamInfo) -> Iterator[tuple[str, str]]:
    """What a stream says of itself."""
    description = found.description
    if description.created_ns:
        by = f", by {description.created_by}" if description.created_by else ""
        yield "begun", f"{time_text(description.created_ns // 10**9, 's')}{by}"
    for name, value in description.metadata.items():
        yield "metadata", f"{name} = {value}"
    for transform in description.transforms:
        yield "transform", transform.text
    if description.serializer:
        yield "serializer", str(description.serializer)


def is_unchecked(found: StreamInfo) -> bool:
    """Whether an input is intact as far as headers show."""
    return found.state == "intact" and found.checked == "headers"


SHORT = ("path", "what", "checksum", "frames", "size", "state", "schema", "from", "span")


def short_of(found: StreamInfo) -> list[str | None]:
    """An input in one row."""
    begin = None
    if found.first_time is not None and found.time_unit is not None:
        begin = time_text(found.first_time // PER_SECOND[found.time_unit])
    return [
        found.path,
        re.split("[,;:]", found.what.removeprefix("a ").removeprefix("an "))[0],
        found.checksum,
        None if found.frames is None else count_text(found.frames),
        None if found.size is None else size_text(found.size),
        f"{found.state or '-'}{'*' if is_unchecked(found) else ''}",
        ", ".join(found.tables.values()) or None,
        begin,
        None if found.seconds is None else duration_text(found.seconds),
    ]
