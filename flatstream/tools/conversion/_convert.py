"""`convert`: its arguments, the way of one source to its new file, and several sources on several processes."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from flatstream._core.base.checks import int_argument
from flatstream._endpoints import is_path
from flatstream._files import check_new
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.schema import Schema, Table
from flatstream.serializers import Serializer
from flatstream.tools._objects import serializer_of
from flatstream.tools._times import UNITS
from flatstream.tools.conversion._compressors import as_compression
from flatstream.tools.conversion._files import NewFile
from flatstream.tools.conversion._formats import FORMATS, ending_of, format_of_name, format_of_source, stem_of
from flatstream.tools.conversion._options import ArgumentError, Known, Losses, OnUnsupported, Options, table_for_columns
from flatstream.tools.conversion._report import ConvertReport
from flatstream.tools.conversion._sources import Source, StreamSource
from flatstream.tools.conversion._targets import Target
from flatstream.tools.inputs import Input, expand, load_schema
from flatstream.transforms.ciphers import Cipher
from flatstream.transforms.compressors import Compressor

__all__ = ["convert", "make_options", "make_tasks_of_sources", "open_source"]

# By format: the module and the class that reads it, and those that write it. Imported when they are needed.
SOURCES = {
    "parquet": "_arrow:ParquetSource",
    "arrow": "_arrow:ArrowSource",
    "arrows": "_arrow:ArrowSource",
    "csv": "_arrow:CsvSource",
    "jsonl": "_json_lines:JsonSource",
    "mcap": "_mcap:McapSource",
    "fb": "_sources:PrefixedSource",
}
TARGETS = {
    "fs": "_targets:StreamTarget",
    "parquet": "_arrow:ParquetTarget",
    "arrow": "_arrow:ArrowTarget",
    "arrows": "_arrow:ArrowStreamTarget",
    "csv": "_arrow:CsvTarget",
    "jsonl": "_targets:JsonTarget",
    "mcap": "_mcap:McapTarget",
    "fb": "_targets:PrefixedTarget",
}

# Of streams whose messages are the objects of a serializer.
OBJECT_TARGETS = {"csv": "_objects:ObjectCsvTarget", "jsonl": "_objects:ObjectJsonTarget"}

_Failed = Callable[[str, Exception], object]

# What stands for the name of a source in the names of several new files.
NAME = "{name}"


@dataclass(frozen=True)
class _Task:
    """One conversion. It can be pickled if the progress is None."""

    one: Input
    out: Any
    from_format: str
    from_compression: str
    to_format: str
    to_compression: str


def convert(
    source: Any,
    out: Any,
    *,
    from_format: str | None = None,
    to_format: str | None = None,
    schema: Schema | str | os.PathLike[str] | None = None,
    table: Table | str | None = None,
    checksum: Checksum | ChecksumType | str | None = None,
    to_checksum: Checksum | ChecksumType | str | None = None,
    fields: Iterable[str] | None = None,
    where: Any = None,
    on_error: Literal["raise", "skip", "stop", "resync"] = "raise",
    on_unsupported: OnUnsupported = "raise",
    enums: Literal["dictionary", "number"] = "dictionary",
    time_field: str | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    compression: str | None = None,
    compressor: Compressor | str | None = None,
    describe: bool = True,
    cipher: Cipher | None = None,
    decrypt: bool = False,
    progress: Callable[[int, int | None], object] | None = None,
    failed: Callable[[str, Exception], object] | None = None,
    processes: int = 1,
) -> ConvertReport | list[ConvertReport]:
    """Converts a file of messages to another format, in batches. The source is not changed, and no file is overwritten.

    Parameters
    ----------
    source : path, or iterable of paths
        A stream, also a compressed one; a journal, which is a folder; or a file of another format. "-" is standard
        input. Several sources each become a new file.
    out : path or binary file object
        The new file, which must not exist. Until it is complete, it is called ``<out>.partial-<number of the process>``
        and it is removed after an error. For several sources: a folder, or a path with ``{name}``, which stands for the
        name of a source without its ending.
    from_format, to_format : str, optional
        "fs" (streams and journals), "parquet", "arrow", "arrows" (an Arrow IPC stream), "csv", "jsonl", "mcap" or "fb"
        (size-prefixed FlatBuffers). By default by the ending, and for a source by its first bytes.
    schema : Schema or path, optional
        The schema of the messages. Described streams, MCAP, and the Parquet and Arrow files that `convert` made, have
        it; other sources need it, unless frames pass from a stream to a stream.
    table : Table or str, optional
        Which messages, if there are several tables: its name, its file identifier, or a topic of MCAP; the root table
        of the schema by default.
    checksum, to_checksum : Checksum, ChecksumType or its name, optional
        Those of a stream that is read, which is found by default, and of one that is written: by default that of the
        source, and none for sources that have none.
    fields : iterable of str, optional
        Paths of fields, as for `StreamReader.columns`, for Parquet, Arrow, CSV and JSON lines. All by default.
    where : condition or list of conditions, optional
        Which messages; see `StreamReader.columns`. Or a function of the Table and of the stream's
        Description, or None, which returns them.
    on_error : {"raise", "skip", "stop", "resync"}
        What happens at damage of a stream; see `StreamReader`. "raise" leaves no new file.
    on_unsupported : {"raise", "json", "omit"}
        What happens to a field that the new format cannot carry: an error that names it; JSON text in its place, from
        which the way back makes the field again; or it is left out. docs/convert.md lists what each format can carry.
    enums : {"dictionary", "number"}
        Enums as names or as numbers.
    time_field, time_unit : str, optional
        For MCAP and descriptions: the integer field with the time of a message, and its unit, "s", "ms", "us" or "ns",
        since 1970; or both, as in ``"sampled:ms"``. By default the one that the source says, or whose name says it, as
        ``time_ns``.
    compression : str, optional
        Inside of Parquet ("snappy" by default, "zstd", "gzip", "none"), Arrow ("lz4", "zstd"; none by default) and MCAP
        ("zstd" by default, "lz4", "none"). Streams, CSV, JSON lines and "fb" are compressed as a whole if the name ends
        with .gz, .bz2, .xz, .zst or .lz4.
    compressor : Compressor or str, optional
        How each message of a new stream is compressed (docs/compression.md): by default as in the source, if that is a
        stream. A str is "zstd", "lz4" or "none", with a level as in "zstd:9"; "zstd:9:dict" trains a dictionary from
        the first MiB of messages.
    describe : bool
        Whether a new stream begins with a description, and MCAP, Parquet and Arrow files have it in their metadata, if
        the schema is known. It is that of the source if it has one.
    cipher : Cipher, optional
        For encrypted streams. Others are refused then.
    decrypt : bool
        Whether what was encrypted may be written as it is read. New files are not encrypted, so an encrypted source is
        refused without it.
    progress : callable, optional
        ``progress(done, total)`` gets the bytes of the sources that were read, and how many there are, or None.
    failed : callable, optional
        ``failed(path, error)`` gets each of several sources that cannot be converted, and the others are. By default
        the error is raised.
    processes : int
        On how many processes several sources are converted. Scripts need ``if __name__ == "__main__":`` then.

    Returns
    -------
    ConvertReport or list of ConvertReport
        A list if `source` is an iterable, or a folder or a pattern that stands for several.

    Raises
    ------
    FileExistsError
        A new file exists.
    ValueError, TypeError
        An argument is wrong; the schema is not known; the new format cannot carry a field; a value of the source does
        not fit its field.
    LookupError
        There is no such table or field.
    ImportError
        pyarrow or mcap is not installed.
    FlatStreamError, OSError, EOFError
        The source is damaged, or no stream; it cannot be read, or the new file cannot be written.

    Notes
    -----
    Of several sources, those that were converted before an error keep their new files. About 64 MiB of messages, and
    what the new format makes of them, are in memory at a time.

    Examples
    --------
    >>> import os, tempfile
    >>> from flatstream import RecordWriter, Schema, StreamWriter
    >>> from flatstream.tools import convert
    >>> table = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Disk")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "disks.fs")
    ...     with StreamWriter(path) as writer:
    ...         RecordWriter(writer, table).write(name="sda")
    ...     report = convert(path, os.path.join(folder, "disks.csv"), checksum="none", table=table)
    ...     with open(os.path.join(folder, "disks.csv")) as file:
    ...         header = file.readline()
    >>> report.messages, header[:29]
    (1, '"name","counters.read_count",')
    """
    _check_choices(from_format, to_format, on_error, on_unsupported, enums, time_unit)
    if isinstance(fields, str):
        raise TypeError(f"fields must be an iterable of paths, got a str: {fields!r:.100}")
    options = make_options(
        schema,
        table,
        checksum=checksum,
        to_checksum=None if to_checksum is None else as_checksum(to_checksum),
        fields=None if fields is None else tuple(fields),
        where=where,
        on_error=on_error,
        on_unsupported=on_unsupported,
        enums=enums,
        time_field=time_field,
        time_unit=time_unit,
        compression=compression,
        compressor=compressor,
        describe=describe,
        cipher=cipher,
        decrypt=bool(decrypt),
        progress=progress,
    )
    if failed is not None and not callable(failed):
        raise TypeError(f"failed must be callable, got {type(failed).__name__}")
    int_argument("processes", processes, 1, 1024)
    is_one = is_path(source)
    inputs = _inputs([source] if is_one else source)
    is_one = is_one and len(inputs) == 1 and not _stands_for_several(out)
    tasks = _tasks(inputs, out, from_format, to_format, is_one)
    if as_compression(compressor) is not None and tasks[0].to_format != "fs":
        raise ArgumentError(
            f"compressor= compresses the messages of streams, and the new format is {FORMATS[tasks[0].to_format].title}"
        )
    if processes == 1 or len(tasks) == 1:
        reports = _Progress(options, tasks).run(None if is_one else failed)
    else:
        reports = _on_processes(tasks, options, processes, failed)
    return reports[0] if is_one else reports


def make_options(schema: Any, table: Any, **others: Any) -> Options:
    """The options, with the schema loaded."""
    progress = others.get("progress")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, got {type(progress).__name__}")
    path, _, unit = (others.get("time_field") or "").partition(":")
    if unit:
        if others.get("time_unit") not in (None, unit):
            raise ArgumentError(f"time_field says the unit {unit!r}, and time_unit {others['time_unit']!r}")
        others |= {"time_field": path, "time_unit": unit}
    made = None if schema is None else load_schema(schema)
    if isinstance(table, Table):
        if made is not None and made != table.schema:
            raise ArgumentError("expected either a schema or a Table, which has one; got both, of different schemas")
        made, table = table.schema, table.name
    return Options(schema=made, table=table, **others)


def make_tasks_of_sources(sources: Any) -> list[_Task]:
    """The sources of a tool that writes no files of these formats, for `open_source`."""
    tasks = []
    for one in _inputs(sources):
        found = ("fs", "") if one.kind == "journal" else format_of_source(one.name)
        tasks.append(_Task(one, None, *found, "", ""))
    return tasks


def _check_choices(*values: Any) -> None:
    formats = (None, *FORMATS)
    choices = {
        "from_format": formats,
        "to_format": formats,
        "on_error": ("raise", "skip", "stop", "resync"),
        "on_unsupported": ("raise", "json", "omit"),
        "enums": ("dictionary", "number"),
        "time_unit": (None, *UNITS),
    }
    for (name, known), value in zip(choices.items(), values, strict=True):
        if value not in known:
            listed = ", ".join(repr(one) for one in known if one is not None)
            raise ArgumentError(f"{name} must be one of {listed}, got {value!r:.100}")


def _inputs(sources: Any) -> list[Input]:
    try:
        paths = [os.fspath(path) for path in sources]
    except TypeError:
        raise TypeError(f"source must be a path or an iterable of paths, got {sources!r:.100}") from None
    found = expand(paths)
    if not found:
        raise ArgumentError("source must have at least one path")
    return found


# Where several new files go


def _stands_for_several(out: Any) -> bool:
    return is_path(out) and (NAME in os.fspath(out) or os.path.isdir(out) or os.fspath(out).endswith(("/", os.sep)))


def _tasks(inputs: list[Input], out: Any, from_format: str | None, to_format: str | None, is_one: bool) -> list[_Task]:
    if not is_one and not _stands_for_several(out):
        raise ArgumentError(
            f"{len(inputs)} sources need a folder, or a path with {NAME}, for their new files, got "
            + (f"{os.fspath(out)!r:.100}" if is_path(out) else "a file object")
        )
    name = os.fspath(out) if is_path(out) else ""
    if os.path.isdir(name) or name.endswith(("/", os.sep)):
        if to_format is None:
            raise ArgumentError("a folder does not say the format of the new files: pass to_format= (--to)")
        name = os.path.join(name, NAME + ending_of(to_format))
    found, compression = format_of_name(name)
    to_format = to_format or found
    if to_format is None:
        endings = ", ".join(ending for known in FORMATS.values() for ending in known.endings)
        raise ArgumentError(f"the ending of {name!r} is none of {endings}: pass to_format= (--to)")
    if compression and not FORMATS[to_format].compressible:
        raise ArgumentError(
            f"{FORMATS[to_format].title} is not compressed as a whole: leave out the ending {compression}"
        )
    tasks = []
    for one in inputs:
        own_format, own_compression = ("fs", "") if one.kind == "journal" else format_of_source(one.name)
        target = name.replace(NAME, stem_of(one.name.rstrip("/" + os.sep))) if is_path(out) else out
        tasks.append(_Task(one, target, from_format or own_format, own_compression, to_format, compression))
    if is_path(out):
        _check_new([task.out for task in tasks])
    return tasks


def _check_new(paths: list[str]) -> None:
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ArgumentError(f"two sources would become {path!r}: convert them one by one")
        check_new(path)
    folder = os.path.dirname(paths[0])
    if folder and not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)


# One conversion


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"flatstream.tools.conversion.{module}"), name)


def open_source(task: _Task, options: Options) -> Source:
    """Opens the source of a task."""
    if task.from_format == "fs":
        return StreamSource(task.one, options, may_decrypt=options.decrypt)
    if task.one.kind == "remote":
        raise ArgumentError(f"{FORMATS[task.from_format].title} cannot be read from a URL: {task.one.name}")
    source: Source = _load(SOURCES[task.from_format])(task.one, task.from_compression, options)
    return source


def _serializer(task: _Task, known: Known, options: Options) -> Serializer | None:
    """What makes objects of the messages, if they are no FlatBuffers and become JSON lines or CSV."""
    if task.to_format not in OBJECT_TARGETS or known.tables or options.schema is not None:
        return None
    found: Serializer | None = serializer_of(known.description)
    return found


def _run(task: _Task, options: Options, report_progress: Callable[[int | None], object]) -> ConvertReport:
    """Converts one source."""
    options = replace(options, losses=(losses := Losses()))
    with (
        open_source(task, options) as source,
        NewFile(task.out, task.to_compression, sealed=task.to_format == "fs") as new,
    ):
        serializer = _serializer(task, source.known, options)
        if options.where is not None and serializer is None:
            table = table_for_columns(source.known, "where=")
            options = replace(options, where=options.conditions_for(table, source.known))
        options = replace(options, tick=lambda: report_progress(source.position()))
        target: Target
        if serializer is not None:
            target = _load(OBJECT_TARGETS[task.to_format])(new.file, serializer, options)
        else:
            target = _load(TARGETS[task.to_format])(new.file, source.known, options)
        try:
            for reader in source.readers():
                target.write(reader)
                losses.note(reader)
                report_progress(source.position())
                if losses.stop_error is not None:
                    break
            target.finish()
        except BaseException as error:
            # What it still writes is removed with the file.
            with suppress(Exception):
                target.abort()
            if type(error).__module__.startswith("pyarrow") and not isinstance(error, (ValueError, OSError)):
                # Some of its errors are none of Python's kinds.
                raise ValueError(str(error)) from error
            raise
        size = new.finish()
        return ConvertReport(
            task.one.name,
            task.out if is_path(task.out) else None,
            task.from_format,
            task.to_format,
            target.messages,
            size,
            target.checksum,
            losses.others,
            target.omitted,
            losses.skipped,
            losses.lost_bytes,
            losses.stop_error,
        )


class _Progress:
    """Conversions one after another, and how far they are together."""

    def __init__(self, options: Options, tasks: list[_Task]) -> None:
        self.options, self.tasks = options, tasks
        # Of a compressed one, the place in what it holds is known.
        sizes = [None if task.from_compression else task.one.size for task in tasks]
        self.total = None if None in sizes else sum(size or 0 for size in sizes)
        self.done = 0

    def tell(self, position: int | None) -> None:
        if self.options.progress is not None and position is not None:
            self.options.progress(self.done + position, self.total)

    def run(self, failed: _Failed | None) -> list[ConvertReport]:
        reports = []
        for task in self.tasks:
            try:
                reports.append(_run(task, self.options, self.tell))
            except Exception as error:
                if len(self.tasks) > 1:
                    error.add_note(f"while {task.one.name} was converted to {task.out}")
                if failed is None:
                    raise
                failed(task.one.name, error)
            self.done += task.one.size or 0
            self.tell(0)
        return reports


def _ignore_interrupts() -> None:
    """Begins a process of a pool: Ctrl-C, which all processes get, ends what it does, and not its waiting for more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_alone(task: _Task, options: Options) -> ConvertReport:
    """Converts one source in a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _run(task, options, lambda position: None)
    finally:
        _ignore_interrupts()


def _on_processes(tasks: list[_Task], options: Options, processes: int, failed: _Failed | None) -> list[ConvertReport]:
    progress = _Progress(options, tasks)
    # Not forked: threads of this process may hold locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(tasks)), context, _ignore_interrupts)
    try:
        silent = replace(options, progress=None)
        futures = [pool.submit(_run_alone, task, silent) for task in tasks]
        reports = []
        for task, future in zip(tasks, futures, strict=True):
            try:
                reports.append(future.result())
            except Exception as error:
                error.add_note(f"while {task.one.name} was converted to {task.out}")
                if failed is None or isinstance(error, BrokenExecutor):
                    raise
                failed(task.one.name, error)
            progress.done += task.one.size or 0
            progress.tell(0)
        return reports
    finally:
        # Those that did not begin yet do not begin after an error.
        pool.shutdown(wait=True, cancel_futures=True)
