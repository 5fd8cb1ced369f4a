"""The program: its commands, which are imported when they are run, and how it ends."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from flatstream.cli import _output
from flatstream.cli._status import CLOSED_PIPE, ERROR, INTERRUPTED, STATUSES, USAGE
from flatstream.errors import FlatStreamError

__all__ = ["COMMANDS", "app", "exit_statuses", "run"]

PROGRAM = "flatstream"

# The environment variable by which a shell gets completions from click.
VARIABLE = "_FLATSTREAM_COMPLETE"

# Each command is `command` of the module of its name. What it does is said here too, so that --help imports none.
COMMANDS = {
    "Look": {
        "info": "Say what files, journals and pipes are.",
        "head": "Show the first messages of each input.",
        "tail": "Show the last messages of each input.",
        "cat": "Show the messages of all inputs, one input after the other.",
        "follow": "Show the last messages of each input, and further ones as they are written, until Ctrl-C.",
        "verify": "Check every frame, and every message by its schema.",
        "plot": "Draw fields of messages over time, in the terminal or as a picture.",
        "schema": "Show the schema of a stream or a file, or compare it with an older one.",
    },
    "Repair": {
        "recover": "Cut off the torn tails that crashes leave, and keep a copy of them.",
        "salvage": "Copy what is intact in damaged files and journals.",
    },
    "Find": {
        "index": "Build the index of each file, by which a part of it is found without reading all.",
    },
    "Copy and convert": {
        "convert": "Convert streams and journals to other formats, and back.",
        "merge": "Write the messages of all inputs to a new stream, in the order of their times.",
        "split": "Write the messages of a stream to several new ones, by time, size or count.",
        "sample": "Write every N-th message of a stream to a new one, or some at random.",
    },
    "Others": {
        "completion": "Print the script by which a shell completes commands, options and paths.",
    },
}

WIDTH = 100


def exit_statuses() -> str:
    """What the exit statuses mean, for the end of help pages."""
    lines = [f"  {number:<4} {text}" for number, text in STATUSES.items()]
    return "\b\nExit status:\n" + "\n".join(lines)


class Commands(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None if there is none."""
        if not any(cmd_name in section for section in COMMANDS.values()):
            return None
        command: click.Command = importlib.import_module(f"flatstream.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            import difflib

            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; they are {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        _output.set_command(name)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(list(section.items()))


def _version(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and not context.resilient_parsing:
        import flatstream

        _output.print_line(f"{PROGRAM} {flatstream.__version__}")
        context.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def app() -> None:
    """Look at streams of FlatBuffers messages, check, repair and convert them.

    PATH is a file, a journal (a folder), another folder with .fs files and journals in it, a pattern such as '*.fs', or
    - for standard input. Checksum and schema are found: give them only for streams that do not say them.
    """


app.epilog = f"flatstream COMMAND --help shows what a command takes.\n\n{exit_statuses()}"


def run(arguments: Sequence[str]) -> int:
    """Runs one command, prints its errors in one line each, and returns the exit status."""
    if instruction := os.environ.get(VARIABLE):
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, PROGRAM, VARIABLE, instruction)
    # Paths may have bytes that are no text.
    for stream in (sys.stdout, sys.stderr):
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="backslashreplace")
    _output.set_command(None)
    try:
        status = _invoke(arguments)
        _output.flush_output()
        return status
    except click.UsageError as error:
        context = error.ctx
        command = PROGRAM if context is None else context.command_path
        _output.complain(f"{_sentence(error)}{_hint(error)} (see {command} --help)")
        return USAGE
    except BrokenPipeError:
        _output.give_up_output()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        _output.complain("interrupted")
        return INTERRUPTED
    except _output.OutputError as error:
        _output.give_up_output()
        _output.complain(str(error))
        return ERROR
    except click.ClickException as error:
        _output.complain(error.format_message())
        return ERROR
    except (OSError, EOFError, FlatStreamError, ImportError) as error:
        # Of no input: those are told by `for_each`.
        _output.complain(_output.message_of(error))
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            # The interpreter would try again at its end, and change the exit status.
            _output.give_up_output()
        return ERROR


def _invoke(arguments: Sequence[str]) -> int:
    try:
        with app.make_context(PROGRAM, list(arguments)) as context:
            return int(app.invoke(context) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        # Without a command, the help page is an answer, and not the one that a script waits for.
        sys.stderr.write(f"{error.ctx.get_help()}\n" if error.ctx is not None else "")
        return USAGE
    except click.exceptions.Exit as end:
        return end.exit_code


def _hint(error: click.UsageError) -> str:
    """What to write instead of options that similar programs have."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None or error.possibilities:
        return ""
    known = {name for parameter in error.ctx.command.params for name in parameter.opts}
    name = error.option_name
    if "--lines" in known and (name.lstrip("-").isdecimal() or name in ("--limit", "--count", "-c")):
        return f"; the number of messages is -n {name.lstrip('-') if name.lstrip('-').isdecimal() else 'N'}"
    if name in ("-f", "--follow") and error.ctx.info_name == "tail":
        return "; messages as they are written: flatstream follow"
    return "; the new file is -o FILE" if "--output" in known and name in ("--out", "-O") else ""


def _sentence(error: click.UsageError) -> str:
    """The message of click, as our own messages are: without a full stop at its end, and beginning small."""
    text = error.format_message().rstrip(".")
    first, _, _ = text.partition(" ")
    return text if first.isupper() or not first.istitle() else text[0].lower() + text[1:]
