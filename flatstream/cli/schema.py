"""``flatstream schema``: the schemas of streams and files, as text, binary or JSON, or beside an older one."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Input, expand, for_each_of, json_option, new_paths, paths_argument, schema_of
from flatstream.cli._output import is_terminal, print_json, print_line, printable, write_bytes, write_text
from flatstream.cli._status import DAMAGED, INTACT

if TYPE_CHECKING:
    from flatstream.schema import Schema

__all__ = ["command"]


@click.command(epilog=exit_statuses())
@paths_argument
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["fbs", "bfbs", "json"]),
    help="Text for flatc (fbs, the default), a binary schema (bfbs), or JSON.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="Write to a new file; for several inputs to a folder, or a path with {name}.",
)
@click.option(
    "--check-against",
    type=click.Path(),
    metavar="OLD",
    help="List what would break readers of the schema in OLD, a schema file or a stream. Status 1 if something does.",
)
@click.option("--table", metavar="NAME", help="Of a stream with several schemas: a table of the one that is meant.")
@json_option
def command(
    paths: tuple[str, ...],
    form: str | None,
    output: str | None,
    check_against: str | None,
    table: str | None,
    as_json: bool,
) -> int:
    """Show the schema of a stream or a file, or compare it with an older one.

    PATH is a stream or journal that describes its schema, a text (.fbs), or a binary schema (.bfbs). Of several, each
    is shown under its name, or compared.
    """
    inputs = expand(paths)
    is_one = len(inputs) == 1
    output = None if output == "-" else output
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json is another form than --format {form}: leave out one of them")
    if as_json and output is not None:
        raise click.UsageError("--json prints on standard output: write a file with --format json --output FILE")
    # Several documents are told apart by their lines.
    as_lines = as_json or (form == "json" and not is_one and (output is None or check_against is not None))
    form = form or "fbs"
    if form == "bfbs" and output is None and check_against is None and not is_one:
        raise click.UsageError("several binary schemas do not go to standard output: name a folder with --output")
    old = None if check_against is None else schema_of(check_against, table)
    new = {} if output is None or old is not None else new_paths(inputs, output, f".{form}")

    shown: list[str] = []

    def show(one: Input) -> int:
        schema = schema_of(one.name, table)
        if old is not None:
            issues = schema.check_evolution(old)
            found = [{"kind": issue.kind, "path": issue.path, "message": issue.message} for issue in issues]
            if as_lines:
                print_json({"path": one.name, "against": check_against, "issues": found})
            elif form == "json":
                print_json(found)
            else:
                for issue in issues:
                    print_line(str(issue) if is_one else f"{one.name}: {issue}")
                if not issues:
                    print_line(f"{one.name} can take the place of {check_against}: nothing breaks readers")
            return DAMAGED if issues else INTACT
        if as_lines:
            print_json({"path": one.name, **content_of(schema)})
            return INTACT
        if output is None and not is_one:
            write_text(f"{chr(10) if shown else ''}==> {printable(one.name)} <==\n")
            shown.append(one.name)
        write(schema, form, new.get(one.name))
        return INTACT

    return for_each_of(inputs, show, as_json=as_lines)


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
