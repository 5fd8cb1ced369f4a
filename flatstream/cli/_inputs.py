"""The arguments and options by which commands take their inputs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flatstream._files import check_new
from flatstream.checksums import ChecksumType
from flatstream.cli._output import complain, print_json
from flatstream.cli._status import USAGE, for_each
from flatstream.tools.inputs import Input, Opened, load_schema
from flatstream.tools.inputs import expand as expand_paths

if TYPE_CHECKING:
    from flatstream.cli._encrypted import KeyFile
    from flatstream.schema import Schema

__all__ = [
    "COUNT",
    "Input",
    "Opened",
    "Source",
    "allow_empty_option",
    "count_option",
    "expand",
    "expand_one",
    "for_each_of",
    "is_folder_of_new",
    "json_option",
    "new_file_option",
    "new_paths",
    "paths_argument",
    "source_options",
    "time_field_option",
    "unique_names",
]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def expand(paths: Iterable[str]) -> list[Input]:
    """`flatstream.tools.inputs.expand`. A path that stands for nothing is an input that `for_each` tells of.

    Raises
    ------
    click.UsageError
        "-" comes twice.
    """
    try:
        return expand_paths(paths, keep_missing=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def expand_one(path: str) -> Input:
    """The only input that a path stands for; it is wrong usage if there are several."""
    inputs = expand([path])
    if len(inputs) != 1:
        raise click.UsageError(f"{path!r} stands for {len(inputs)} inputs: name one")
    return inputs[0]


def paths_argument(function: FunctionT) -> FunctionT:
    """Adds the argument `paths`: one path or more."""
    return click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())(function)


def json_option(function: FunctionT) -> FunctionT:
    """Adds the option ``--json``, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for programs.")(function)


# What stands for the name of an input in the names of several new files.
NAME = "{name}"


def is_folder_of_new(out: str) -> bool:
    """Whether a path is a folder for new files, and not a new file or a pattern.

    Raises
    ------
    FileNotFoundError
        It ends as a folder, and does not exist.
    """
    is_folder = os.path.isdir(out)
    if not is_folder and out.endswith(("/", os.sep)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), out)
    return is_folder


def unique_names(inputs: Iterable[Input]) -> list[str]:
    """The name of each input without folder and endings, for those of new files; two equal ones are wrong usage."""
    # Imported for this alone: it takes its time.
    from flatstream.tools.conversion._formats import stem_of

    names = [stem_of(one.name.rstrip("/" + os.sep)).removesuffix(".bfbs").removesuffix(".fbs") for one in inputs]
    if same := next((name for name in names if names.count(name) > 1), None):
        raise click.UsageError(f"more than one input is called {same!r}: their new files would have one name")
    return names


def new_paths(inputs: list[Input], out: str, ending: str) -> dict[str, str]:
    """The path of the new file of each input, by the input's name, if each has one new file.

    Raises
    ------
    FileExistsError, FileNotFoundError
        There is one of the new files; the folder does not exist.
    """
    if is_folder_of_new(out):
        out = os.path.join(out, NAME + ending)
    elif NAME not in out:
        if len(inputs) == 1:
            return {inputs[0].name: out}
        raise click.UsageError(
            f"{len(inputs)} inputs need a folder, or a path with {NAME}, for their new files (-o), got {out!r:.100}"
        )
    paths = [out.replace(NAME, name) for name in unique_names(inputs)]
    for path in paths:
        check_new(path)
    return {one.name: path for one, path in zip(inputs, paths, strict=True)}


def for_each_of(inputs: list[Input], action: Callable[[Input], int], *, as_json: bool = False) -> int:
    """`for_each`, where of several inputs wrong usage that names the input concerns it alone, and the others follow."""

    def one_of_several(one: Input) -> int:
        try:
            return action(one)
        except click.UsageError as error:
            if len(inputs) == 1 or one.name not in error.message:
                raise
            complain(error.message)
            if as_json:
                print_json({"path": one.name, "error": error.message, "status": USAGE})
            return USAGE

    return for_each(inputs, one_of_several, as_json=as_json)


# A number of messages. No stream has more than the greatest one, which all that counts them can hold.
COUNT = click.IntRange(0, 2**62, clamp=True)


def count_option(text: str) -> Callable[[FunctionT], FunctionT]:
    """Adds ``-n``, as `count`: how many messages are shown. `text` is its line in ``--help``."""
    return click.option(
        "-n",
        "--lines",
        "count",
        metavar="N",
        type=COUNT,
        default=10,
        show_default=True,
        help=text,
    )


def new_file_option(function: FunctionT) -> FunctionT:
    """Adds ``-o``, as `out`: the path of the file that is written."""

    def checked(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if value == "-":
            name = context.info_name
            raise click.BadParameter(f"{name} writes to a new file, and not to standard output (./- is a file)")
        return value

    return click.option(
        "-o",
        "--output",
        "out",
        required=True,
        metavar="FILE",
        type=click.Path(),
        callback=checked,
        help="The new file; compressed if its name ends in .gz, .bz2, .xz, .zst or .lz4.",
    )(function)


def time_field_option(whose: str = "the stream's") -> Callable[[FunctionT], FunctionT]:
    """Adds ``--time-field``, as `time_field`."""
    return click.option(
        "--time-field",
        metavar="NAME[:UNIT]",
        help="The field with the time of a message, and its unit: s, ms, us or ns. By default that of "
        f"{whose} description, or the one with a name as wall_time_ns.",
    )


class Source:
    """The values of the options that say how inputs are read; see `source_options`.

    Attributes
    ----------
    checksum : str or None
        None: it is found.
    schema : Schema or None
        The one of ``--schema``.
    table : str or None
        The name or file identifier of ``--table``.
    cipher : KeyFile
        Gives the ciphers of encrypted inputs, with the key of ``--key-file``.
    """

    def __init__(self, checksum: str | None, schema: str | None, table: str | None, cipher: KeyFile) -> None:
        # It stands for a Cipher.
        self.cipher: Any = cipher
        self.checksum = checksum
        self.schema: Schema | None = None if schema is None else schema_of(schema, table)
        self.table = table

    def open(self, one: Input, **options: Any) -> Opened:
        """Opens an input with these options, and those of `StreamReader`.

        Raises
        ------
        click.UsageError
            There is no such table.
        NotAStreamError, OSError, FlatStreamError
            See `Input.open`.
        """
        try:
            return one.open(self.checksum, self.schema, self.table, cipher=self.cipher, **options)
        except LookupError as error:
            raise click.UsageError(f"{one.name}: {error.args[0]}") from None


def schema_of(path: str, table: str | None) -> Schema:
    """The schema in a file or of a stream; it is wrong usage if a stream has several, and no table says which."""
    try:
        return load_schema(expand_one(path), table)
    except LookupError as error:
        raise click.UsageError(f"{path}: {error.args[0]} (--table)") from None


def checksum_option(function: FunctionT) -> FunctionT:
    """Adds ``--checksum``."""
    return click.option(
        "--checksum",
        type=click.Choice([kind.value for kind in ChecksumType]),
        metavar="NAME",
        help=f"The checksum of the frames: {', '.join(kind.value for kind in ChecksumType)}. By default it is found.",
    )(function)


TABLE_HELP = "The table of the messages: a name or a file identifier."


def key_file_option(function: FunctionT) -> FunctionT:
    """Adds ``--key-file``."""
    return click.option(
        "--key-file",
        metavar="FILE",
        type=click.Path(),
        help="The key of encrypted inputs: a file of 32 bytes, or of 64 hexadecimal digits.",
    )(function)


def source_options(function: FunctionT, *, table_help: str = TABLE_HELP, with_key: bool = True) -> FunctionT:
    """Adds ``--checksum``, ``--schema``, ``--table`` and ``--key-file``, which the function gets as one argument,
    `source`.
    """

    @checksum_option
    @click.option(
        "--schema",
        type=click.Path(),
        metavar="FILE",
        help="The schema of the messages (.fbs, .bfbs, or a stream that describes it), instead of the one that the "
        "stream describes.",
    )
    @click.option("--table", metavar="NAME", help=table_help)
    @(key_file_option if with_key else _as_it_is)
    def with_source(
        *args: Any,
        checksum: str | None,
        schema: str | None,
        table: str | None,
        key_file: str | None = None,
        **kwargs: Any,
    ) -> Any:
        from flatstream.cli._encrypted import KeyFile

        return function(*args, source=Source(checksum, schema, table, KeyFile(key_file)), **kwargs)

    return _with_parameters_of(function, with_source)


def _as_it_is(function: FunctionT) -> FunctionT:
    return function


def _with_parameters_of(function: FunctionT, wrapper: Any) -> FunctionT:
    """Gives `wrapper` the name, the text and the parameters of the function that it wraps."""
    wrapper.__name__, wrapper.__doc__, wrapper.__module__ = function.__name__, function.__doc__, function.__module__
    # click collects them in this attribute, from the last decorator to the first.
    own = getattr(wrapper, "__click_params__", [])
    wrapper.__click_params__ = [*getattr(function, "__click_params__", []), *own]
    result: FunctionT = wrapper
    return result


def allow_empty_option(function: FunctionT) -> FunctionT:
    """Adds ``--allow-empty``, as `allow_empty`: True or None."""
    return click.option(
        "--allow-empty",
        is_flag=True,
        default=None,
        flag_value=True,
        type=bool,
        help="Take every empty frame as intact. By default zeros in a damaged file are none.",
    )(function)
