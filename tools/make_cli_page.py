"""Writes docs/cli.md from the commands themselves.

    python tools/make_cli_page.py

tests/cli/test_cli_page.py compares the page with the commands.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import click  # noqa: E402

from flatstream.cli._app import COMMANDS, app  # noqa: E402
from flatstream.cli._status import STATUSES  # noqa: E402

PAGE = ROOT / "docs" / "cli.md"

HEAD = """# The command line

`make cli-page` writes this page from the commands.

`flatstream` looks at streams, checks, repairs and converts them. `python -m flatstream` is the same program.

```sh
pip install 'flatstream[cli]'
```

Until wheels are published, install from a clone. That needs Python 3.11 or later with its headers, a C compiler and
make:

```sh
make wheel                                        # writes dist/flatstream-*.whl, in some minutes
pip install "$(ls "$PWD"/dist/flatstream-*.whl)[cli,schema]"
```

The extras add what some commands need: `schema` reads .fbs files, `compression` .zst and .lz4 files, `remote` URLs,
`columns` and `mcap` are for `convert`, `plot` is for `plot`. A command that lacks one says which.

Checksum and schema are found: a stream that describes itself says both, and of others the checksum is found by trying.
A path that is `-` is standard input. A folder that is no journal stands for the `.fs` files and the journals in it.

```sh
flatstream info capture.fs            # what is it, and is it intact?
flatstream info --short captures/     # a line for each file and journal of a folder
flatstream verify --json *.fs         # one JSON object a line, for programs
ssh host cat capture.fs | flatstream info -
```

Results go to standard output, errors and progress bars to standard error. An error takes one line: `flatstream COMMAND:
PATH: what is wrong`; the other inputs are still looked at, also if a path is an empty folder or a pattern without a
match (status 4). Progress is shown on a terminal only, for work of more than a second. Ctrl-C ends a command at once.
With `--json`, each line is one JSON object; an input that cannot be read has the keys `path`, `error` and `status`.

Only `recover` changes an input. Commands that write refuse to overwrite a file.

## Exit status

The worst of all inputs counts.

| status | meaning |
|---|---|
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD + "\n".join(f"| {number} | {text} |" for number, text in STATUSES.items()) + "\n"]
    context = click.Context(app, info_name="flatstream", **app.context_settings)
    for title, section in COMMANDS.items():
        parts.append(f"## {title}\n")
        for name in section:
            command = app.get_command(context, name)
            assert command is not None
            parts += about(name, command, context)
    return "\n".join(parts)


def about(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    """The part of the page about one command."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"### flatstream {name}\n"
    usage = " ".join(["flatstream", name, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield f"```text\n{paragraph[2:]}\n```\n"
        else:
            yield f"{paragraph}\n"
    rows = [row for option in command.params if isinstance(option, click.Option) and (row := row_of(option))]
    if rows:
        yield "\n".join(["| option | what |", "|---|---|", *rows]) + "\n"


def row_of(option: click.Option) -> str | None:
    """A row of the table of options."""
    if option.hidden:
        return None
    names = ", ".join(sorted(option.opts, key=len))
    if not option.is_flag:
        names += f" {value_of(option)}"
    text = " ".join((option.help or "").split())
    if option.show_default and option.default is not None:
        text += f" By default {option.default}."
    names, text = (part.replace("|", "\\|") for part in (names, text))
    return f"| `{names}` | {text} |"


def value_of(option: click.Option) -> str:
    """What stands for the value of an option."""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return " or ".join(map(str, option.type.choices))
    return option.type.name.upper()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
