"""RecordWriter: from records of Python to the messages of a stream, by a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flatstream._core.column_writer.writer import write_columns
from flatstream._core.records.record_encoder import RecordEncoder, write
from flatstream._core.stream.encoder import Encoder

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = ["RecordWriter"]


class RecordWriter(RecordEncoder):
    """Writes records of a table of a schema to a stream: each call builds a message in compiled code and frames it.

    Parameters
    ----------
    stream_writer : StreamWriter
        Where the messages go. It stays its user's: other messages may go through it, other record writers too, and
        it is for the user to close.
    table : Table
        What the records are; see `Schema.table` and `Schema.root`.
    file_identifier : bool
        Whether each message carries the schema's file identifier. Without, messages are 4 to 8 bytes smaller.
    force_defaults : bool
        Whether values that are the default are stored as well.

    Raises
    ------
    TypeError
        An argument is not what it should be.
    ValueError
        `file_identifier` is asked for, and the schema has none.

    Notes
    -----
    A value is what Python takes for such a field: an int (or anything with ``__index__``) for an integer, a number for
    a float, a bool, 0 or 1 for a bool; of an enum also the name of an enumerator, and of flags several names with
    spaces between them; a str, or bytes of UTF-8, for a string; a record of its own for a table or a struct; a list or
    any other iterable for a vector, and for a vector of numbers anything that exports a buffer (bytes, an array, an
    array of NumPy), which is converted without an object for each element. A union ``x`` takes ``x=(variant, value)``,
    or two fields, ``x_type=variant`` and ``x=value``; a `RecordView` says itself which variant it is.

    Nothing wraps around or is cut off: what does not fit is refused, with the path of the field, and nothing of the
    record is written. A number for a float field becomes the nearest float. Values that are the default are left out,
    as flatc's own builders do, unless their field is optional. A ulong of 0 is stored: a binary schema says that the
    default is 0 where it is 2**63 or more.

    Threads may share a record writer.

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

    # The class attribute is the method itself, which is called faster than a method that calls it.
    write = write

    def __init__(
        self, stream_writer: Encoder, table: Table, *, file_identifier: bool = False, force_defaults: bool = False
    ) -> None:
        if not isinstance(stream_writer, Encoder):
            raise TypeError(f"stream_writer must be a StreamWriter, got {type(stream_writer).__name__}")
        layout, number = getattr(table, "layout", None), getattr(table, "number", None)
        if layout is None or number is None:
            raise TypeError(f"table must be a Table of a Schema, got {type(table).__name__}: {table!r:.100}")
        identifier = layout.file_identifier if file_identifier else b""
        if file_identifier and not identifier:
            raise ValueError(f"the schema of {table.name} has no file identifier")
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
        """Writes a record for each row of `columns`: all of them are built and framed in one loop in compiled code.

        Parameters
        ----------
        columns : mapping, or object with the Arrow C data interface
            A mapping of the names of fields to NumPy arrays, other buffers of numbers, lists, or arrays of Arrow; a
            structured array; or anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``: a table of pyarrow, a
            data frame of polars or pandas, a relation of duckdb. A stream is read and written array by array. A name
            with dots is a field of a table or a struct inside, ``"cpu.load"``.

        Returns
        -------
        int
            How many records were written.

        Raises
        ------
        ValueError
            A name is no field, a required one is missing, or columns are not of one length: nothing was written. Or a
            value does not fit its field, a required one is null, a name is no enumerator: the error has the path of the
            column and the row, the rows before were written, and ``error.rows_written`` says how many those are.
        TypeError
            The type of a column does not go into its field. Nothing was written.
        OSError, InvalidFrameError, ValidationFailedError, BlockingIOError
            See `StreamWriter.write_payload`; ``rows_written`` is there as well. And OSError from a stream of Arrow that
            could not go on.

        Notes
        -----
        ``docs/columns-in.md`` says what goes into what. Columns are looked at where they lie, and held until the call
        returns. The operations of other threads may come between two rows.

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

    @property
    def table(self) -> Table:
        """The table."""
        return self._table

    def __repr__(self) -> str:
        return f"<RecordWriter of {self._table.name}>" if hasattr(self, "_table") else "<RecordWriter>"
