"""``flatstream schema``: the schema of a stream or a file, as text, binary or JSON, or beside an older one."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Input, expand_one, schema_of
from flatstream.cli._output import is_terminal, print_json, print_line, write_bytes
from flatstream.cli._status import DAMAGED, INTACT, for_each

if TYPE_CHECKING:
    from flatstream.schema import Schema

__all__ = ["command"]


@click.command(epilog=exit_statuses())
@click.argument("path", metavar="PATH", type=click.Path())
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["fbs", "bfbs", "json"]),
    default="fbs",
    show_default=True,
    help="Text for flatc, a binary schema, or JSON for programs.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write to a new file.")
@click.option(
    "--check-against",
    type=click.Path(),
    metavar="OLD",
    help="List what would break readers of the schema in OLD, a schema file or a stream. Status 1 if something does.",
)
@click.option("--table", metavar="NAME", help="Of a stream with several schemas: a table of the one that is meant.")
def command(path: str, form: str, output: str | None, check_against: str | None, table: str | None) -> int:
    """Show the schema of a stream or a file, or compare it with an older one.

    PATH is a stream or journal that describes its schema, a text (.fbs), or a binary schema (.bfbs).
    """
    old = None if check_against is None else schema_of(check_against, table)

    def show(one: Input) -> int:
        schema = schema_of(one.name, table)
        if old is not None:
            issues = schema.check_evolution(old)
            if form == "json":
                print_json([{"kind": issue.kind, "path": issue.path, "message": issue.message} for issue in issues])
            else:
                for issue in issues:
                    print_line(str(issue))
                if not issues:
                    print_line(f"{path} can take the place of {check_against}: nothing breaks readers")
            return DAMAGED if issues else INTACT
        write(schema, form, None if output == "-" else output)
        return INTACT

    return for_each([expand_one(path)], show)


def write(schema: Schema, form: str, output: str | None) -> None:
    """Prints a schema, or writes it to a new file."""
    if form == "bfbs":
        if output is None and is_terminal(sys.stdout):
            raise click.UsageError("a binary schema is not shown on a terminal: name a file with --output")
        data = schema.to_bytes()
    elif form == "json":
        data = json.dumps(content_of(schema), ensure_ascii=False, indent=1).encode() + b"\n"
    else:
        data = schema.to_fbs().encode()
    if output is None:
        write_bytes(data)
        return
    # Imported for this alone: it takes its time.
    from flatstream.tools.conversion._files import NewFile

    with NewFile(output, "") as new:
        new.file.write(data)
        new.finish()


def content_of(schema: Schema) -> dict[str, Any]:
    """The types of a schema, as JSON has them."""
    return {
        "root": None if schema.root is None else schema.root.name,
        "file_identifier": schema.file_identifier,
        "file_extension": schema.file_extension,
        "tables": {
            name: {
                "fields": [dataclasses.asdict(field) for field in table.fields.values()],
                "attributes": table.attributes,
                "documentation": table.documentation,
            }
            for name, table in schema.tables.items()
        },
        "structs": {
            name: dataclasses.asdict(struct)
            | {"fields": [dataclasses.asdict(field) for field in struct.fields.values()]}
            for name, struct in schema.structs.items()
        },
        "enums": {name: dataclasses.asdict(enum) for name, enum in schema.enums.items()},
    }
