"""``flatstream verify``: every frame, and every message by its schema."""

from __future__ import annotations

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._encrypted import missing_texts
from flatstream.cli._inputs import (
    Input,
    Source,
    allow_empty_option,
    expand,
    json_option,
    paths_argument,
    source_options,
)
from flatstream.cli._output import Progress, count_text, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, INTACT, for_each
from flatstream.tools.checking import VerifyReport, verify

__all__ = ["command"]


@click.command(epilog=exit_statuses())
@paths_argument
@click.option("-q", "--quiet", is_flag=True, help="Print only inputs that are not intact.")
@allow_empty_option
@json_option
@source_options
def command(paths: tuple[str, ...], quiet: bool, allow_empty: bool | None, as_json: bool, source: Source) -> int:
    """Check every frame, and every message by its schema.

    Lists the damage with offsets in bytes. Objects of JSON and MessagePack are loaded. Without a schema, payloads are
    compared with their checksums only, and of an encrypted stream without a key, what is stored. Nothing is changed:
    recover cuts a torn tail off, salvage copies what is intact.
    """

    def check(one: Input) -> int:
        with Progress(one.name, one.size) as progress:
            try:
                report = verify(
                    one,
                    checksum=source.checksum,
                    schema=source.schema,
                    table=source.table,
                    allow_empty=allow_empty,
                    cipher=source.cipher,
                    progress=progress,
                )
            except LookupError as error:
                raise click.UsageError(f"{one.name}: {error.args[0]}") from None
        if as_json:
            print_json(report.to_dict())
        elif not quiet or report.state != "intact":
            tell(report)
        return INTACT if report.state == "intact" else DAMAGED

    return for_each(expand(paths), check, as_json=as_json)


def tell(report: VerifyReport) -> None:
    """Prints what was found in an input."""
    named = "standard input" if report.path == "-" else report.path
    if not report.bytes and report.segments is None:
        print_line(f"{named}: empty")
        return
    facts = [f"{count_text(report.frames, 'intact frame')}, {size_text(report.bytes)}"]
    if report.segments is not None:
        facts.append(count_text(report.segments, "segment"))
    if report.checksum is not None:
        facts.append("no checksum" if report.checksum == "none" else f"checksum {report.checksum}")
    if report.serializer is not None:
        facts.append(f"messages are objects ({report.serializer})")
    elif report.unreadable is not None:
        facts.append(f"messages not verified: {report.unreadable}")
    else:
        facts.append(f"messages of {', '.join(report.tables)}" if report.tables else "messages not verified: no schema")
    print_line(f"{named}: {report.state}; {'; '.join(facts)}")
    for damage in report.damage:
        place = f"{damage.segment}, " if damage.segment is not None else ""
        size = f"{count_text(damage.end - damage.begin, 'byte')} from offset {damage.begin:,} on"
        word = "torn tail: " if damage.kind == "torn" else ""
        print_line(f"  {place}{size}, after {count_text(damage.frame, 'intact frame')}: {word}{damage.reason}")
    if report.damaged_places > len(report.damage):
        print_line(f"  and {count_text(report.damaged_places - len(report.damage), 'more place')}")
    if report.encryption is not None:
        for text in missing_texts(report.encryption):
            print_line(f"  {text}")
    if report.lost_segments:
        print_line(f"  {count_text(report.lost_segments, 'sealed segment')} lost: there are no such files")
    if report.state == "damaged" and (report.damaged_places or report.encryption is None):
        missing = f", {count_text(report.missing, 'frame number')} missing" if report.missing else ""
        print_line(
            f"  {count_text(report.damaged_places, 'place')}, {count_text(report.lost_bytes, 'byte')} lost{missing}"
        )
