"""RecordWriter: writes Python records to a stream as messages of a schema."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.column_writer.writer import write_columns
from flatstream._core.flatbuf.builder import Builder
from flatstream._core.records.json_reader import JsonReader
from flatstream._core.records.record_encoder import RecordEncoder, write
from flatstream._core.stream.encoder import Encoder
from flatstream.errors import JsonError

if TYPE_CHECKING:
    from flatstream.description import Description
    from flatstream.schema import Table

__all__ = ["RecordWriter"]


class RecordWriter(RecordEncoder):
    """Writes records of one table of a schema to a stream. Each call builds a message and frames it in compiled code.

    Parameters
    ----------
    stream_writer : StreamWriter
        The stream that the messages are written to. Other messages and other record writers can use it too. It stays
        open: closing it is up to the caller.
    table : Table
        The type of the records; see `Schema.table` and `Schema.root`.
    file_identifier : bool, optional
        Whether each message carries the schema's file identifier, by which readers tell the types in a stream apart; it
        is that of the root table. Without it, messages are 4 to 8 bytes smaller. By default, messages carry one if the
        stream is described as one of several tables, and then the one that the description has for `table`.
    force_defaults : bool
        Whether values that equal the default are stored.

    Raises
    ------
    TypeError
        An argument has the wrong type.
    ValueError
        `file_identifier` is true, and the schema has no file identifier or `table` is not its root; or the schema was
        loaded with `size_prefixed`.

    Notes
    -----
    An integer field takes an int or an object with ``__index__``, a float field a number, a bool field a bool, 0 or 1.
    An enum field also takes the name of an enumerator, and an enum of flags several names separated by spaces. A string
    field takes a str or bytes of UTF-8, a table or struct a record, a vector a list or another iterable. A vector of
    numbers also takes an object that exports a buffer (bytes, `array`, NumPy), which is converted without a Python
    object for each element; an array of ubyte in a struct takes bytes. A null in a Series or an array is an error, and
    does not become NaN. A union ``x`` takes ``x=(variant, value)``, or two fields, ``x_type=variant`` and ``x=value``,
    or a `RecordView`, whose type is the variant. What `RecordView.to_dict` returns is a record. `docs/records.md` has
    the complete list.

    A value that does not fit its field is an error with the path of the field, and nothing of the record is written:
    values never wrap around and are never truncated. A number for a float field is rounded to the nearest float. A
    value that equals the default is not stored, as in flatc's builders, unless its field is optional. A ulong of 0 is
    always stored: a binary schema gives 0 for a default of 2**63 or more.

    Thread-safe: threads can share a record writer.

    Examples
    --------
    >>> import io
    >>> from flatstream import Schema, StreamReader, StreamWriter
    >>> table = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Disk")
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink) as writer:
    ...     records = RecordWriter(writer, table)
    ...     records.write(name="sda", counters=(1, 2, 3, 4, 5, 6))
    ...     records.write_record({"name": "sdb"})
    >>> writer.frames_written
    2
    """

    # The compiled method itself: a Python method that calls it costs more.
    write = write

    def __init__(
        self,
        stream_writer: Encoder,
        table: Table,
        *,
        file_identifier: bool | None = None,
        force_defaults: bool = False,
    ) -> None:
        if not isinstance(stream_writer, Encoder):
            hint = ""
            if hasattr(stream_writer, "write_message"):
                hint = ": build each record with table.encode(builder, ...), and pass the builder to its write_message"
            raise TypeError(f"stream_writer must be a StreamWriter, got {type(stream_writer).__name__}{hint}")
        layout, number = getattr(table, "layout", None), getattr(table, "number", None)
        if layout is None or number is None:
            hint = "; its root table is schema.root" if hasattr(table, "root") else ""
            raise TypeError(f"table must be a Table of a Schema, got {type(table).__name__}: {table!r:.100}{hint}")
        if file_identifier is None:
            identifier = _described_identifier(getattr(stream_writer, "description", None), table)
        else:
            identifier = table._identifier() if file_identifier else b""
        super().__init__(
            layout,
            number,
            stream_writer,
            file_identifier=identifier,
            force_defaults=force_defaults,
            consult=getattr(stream_writer, "_builder_consultant", None),
        )
        self._table = table
        self._columns_to = (stream_writer, layout, number)
        self._options = (identifier, force_defaults)

    def write_columns(self, columns: Any) -> int:
        """Writes a record for each row of `columns`. One loop in compiled code builds and frames all of them.

        Parameters
        ----------
        columns : mapping, or object with the Arrow C data interface
            A mapping from field names to NumPy arrays, other buffers of numbers, lists or Arrow arrays; a structured
            array; or an object with ``__arrow_c_stream__`` or ``__arrow_c_array__``: a table of pyarrow, a data frame
            of polars or pandas, a relation of duckdb. A stream is read and written array by array. A name with dots is
            a field of a table or struct inside the record, for example ``"cpu.load"``.

        Returns
        -------
        int
            The number of records written.

        Raises
        ------
        ValueError
            Before anything is written: a name is not a field, a required field is missing, or the columns have
            different lengths. In the middle of writing: a value does not fit its field, a required value is null, or a
            name is not an enumerator. The error then has the path of the column and the row; the rows before it were
            written, and ``error.rows_written`` is their number.
        TypeError
            The type of a column does not match its field. Nothing was written.
        OSError, InvalidFrameError, ValidationFailedError, BlockingIOError
            See `StreamWriter.write_payload`; these errors have ``rows_written`` too. Also OSError if a stream of Arrow
            fails.

        Notes
        -----
        ``docs/columns-in.md`` lists the types of columns for each type of field. Columns are read in place and kept
        until the call returns. Operations of other threads on the stream can take place between two rows.

        Examples
        --------
        >>> import io
        >>> from array import array
        >>> from flatstream import Schema, StreamWriter
        >>> table = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Disk")
        >>> with StreamWriter(io.BytesIO()) as writer:
        ...     RecordWriter(writer, table).write_columns({"name": ["sda", "sdb", None]})
        3
        """
        identifier, force_defaults = self._options
        return write_columns(*self._columns_to, columns, identifier, force_defaults)

    def write_json_lines(self, source: Any, *, unknown: Literal["raise", "skip"] = "raise") -> int:
        """Writes a record for each line of JSON lines.

        Parameters
        ----------
        source : str, bytes-like, file object or iterable
            The text; a file that is open for reading, in either mode; or an iterable of lines, each of which is str or
            bytes-like. Empty lines are left out.
        unknown : {"raise", "skip"}
            Whether a field that the table does not have is an error, or is left out.

        Returns
        -------
        int
            The number of records written.

        Raises
        ------
        JsonError
            A line is no record of the table, see `Table.from_json`; ``error.line`` is its number. The lines before it
            are written, and ``error.rows_written`` is the number of their records.
        OSError, InvalidFrameError, ...
            See `StreamWriter.write_payload`; these errors have ``rows_written`` too.

        Examples
        --------
        >>> import io
        >>> from flatstream import Schema, StreamWriter
        >>> table = Schema.from_file("examples/telemetry.bfbs").root
        >>> with StreamWriter(io.BytesIO()) as writer:
        ...     RecordWriter(writer, table).write_json_lines('{"host": "alpha"}\\n{"host": "beta"}\\n')
        2
        """
        identifier, force_defaults = self._options
        stream_writer, layout, number = self._columns_to
        reader = JsonReader(layout, number)
        builder = Builder(1024)
        written = 0
        for place, each in enumerate(_lines_of(source), 1):
            try:
                line = _checked_line(each)
                if not line.strip():
                    continue
                builder.Clear()
                reader._encode_json(
                    builder, line, file_identifier=identifier, force_defaults=force_defaults, unknown=unknown
                )
                stream_writer.write_finished(builder)
            except Exception as error:
                error.rows_written = written  # type: ignore[attr-defined]
                if isinstance(error, JsonError):
                    error.line = place
                raise
            written += 1
        return written

    @property
    def table(self) -> Table:
        """The table of the records."""
        return self._table

    def __repr__(self) -> str:
        return f"<RecordWriter of {self._table.name}>" if hasattr(self, "_table") else "<RecordWriter>"


def _lines_of(source: Any) -> Iterator[Any]:
    """The lines of JSON lines, with or without their ends."""
    if isinstance(source, str):
        # Not splitlines(), which also splits at characters that a JSON string may have.
        return iter(source.split("\n"))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return iter(io.BytesIO(source))
    if not hasattr(type(source), "__iter__"):
        raise TypeError(f"source must be text, a file or an iterable of lines, got {type(source).__name__}")
    return iter(source)


def _checked_line(line: Any) -> str | bytes:
    if isinstance(line, (str, bytes)):
        return line
    try:
        return bytes(memoryview(line))
    except TypeError:
        raise TypeError(f"a line must be str or bytes-like, got {type(line).__name__}: {line!r:.100}") from None


def _described_identifier(description: Description | None, table: Table) -> bytes:
    """The file identifier that a description of several tables has for one of them."""
    if description is None or len(description.roots) < 2:
        return b""
    identifiers = (identifier for identifier, described in description.tables.items() if described == table)
    return next(identifiers, "").encode("latin-1")
