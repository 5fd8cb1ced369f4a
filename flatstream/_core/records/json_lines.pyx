# cython: boundscheck=False, wraparound=False
"""Records as JSON lines: one line for each, several lines in a chunk."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize

from flatstream._core.base.checks cimport index_of
from flatstream._core.base.pickling cimport refuse_pickling
from flatstream._core.records.json_writer cimport JsonOptions, JsonWriter, check_options, reserve
from flatstream._core.records.record_iterator cimport RecordIterator
from flatstream._core.records.record_view cimport RecordView, write_record

from flatstream._core.stream.decoder import Decoder


cdef extern from "Python.h":
    void PyMem_RawFree(void* p) nogil

# The chunks of a file: large enough that the calls around them cost nothing beside the lines.
cdef enum:
    CHUNK_SIZE = 65536


@cython.final
@cython.auto_pickle(False)
cdef class JsonLines:
    """An iterator over chunks of JSON lines; see `Table.json_lines`.

    A class and not a generator: after an error it continues with the next record.

    Attributes
    ----------
    lines : int
        How many lines were given so far.
    """
    cdef object records
    cdef JsonOptions options
    cdef Py_ssize_t chunk_size
    cdef readonly unsigned long long lines
    # The error behind the lines that were given, which the next call raises.
    cdef object error

    def __init__(self, *args, **kwargs):
        raise TypeError("an iterator over JSON lines is made by Table.json_lines")

    def __iter__(self):
        return self

    def __reduce__(self):
        refuse_pickling(self, "it reads a stream of this process")

    def __next__(self):
        cdef JsonWriter writer
        cdef Py_ssize_t whole = 0
        cdef unsigned long long count = 0
        if self.records is None:
            raise ValueError("this JsonLines is uninitialized: Table.json_lines makes iterators over JSON lines")
        if self.error is not None:
            error = self.error
            self.error = None
            raise error
        writer.options = self.options
        writer.text = NULL
        writer.size = 0
        writer.capacity = 0
        try:
            try:
                while writer.size < self.chunk_size:
                    record = next(self.records, None)
                    if record is None:
                        break
                    if type(record) is not RecordView:
                        raise TypeError(f"expected records, got {type(record).__name__}: {record!r:.100}")
                    write_record(record, NULL, &writer)
                    if reserve(&writer, 1):
                        raise MemoryError("no memory for JSON lines")
                    writer.text[writer.size] = c"\n"
                    writer.size += 1
                    whole = writer.size
                    count += 1
            except Exception as error:
                # First the lines before it.
                if not count:
                    raise
                self.error = error
            if not count:
                raise StopIteration
            self.lines += count
            return PyBytes_FromStringAndSize(<const char*>writer.text, whole)
        finally:
            PyMem_RawFree(writer.text)


def json_lines(records, *, enums="name", defaults=False, nonfinite="string", chunk_size=None):
    """Records as JSON lines.

    Parameters
    ----------
    records : iterable of RecordView
        Records of any tables, for example `StreamReader.records`, or a generator that selects some of them.
    enums, defaults, nonfinite
        See `RecordView.to_json`.
    chunk_size : int, optional
        See `Table.json_lines`.

    Returns
    -------
    JsonLines
        An iterator over chunks, see `Table.json_lines`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type or value; during the iteration, an object of `records` is no record.
    FlatbufferError
        During the iteration: a record of a message that was not verified is damaged, or exceeds a limit.

    Examples
    --------
    >>> from flatstream.schema import Schema, json_lines
    >>> table = Schema.from_file("examples/telemetry.bfbs").root
    >>> record = table.view(bytes.fromhex("08000000 04000400 04000000"))
    >>> list(json_lines([record, record]))
    [b'{}\\n{}\\n']
    """
    cdef JsonLines lines = JsonLines.__new__(JsonLines)
    check_options(enums, defaults, nonfinite, None, &lines.options)
    if chunk_size is None:
        # A line of a file that is being written must not wait for the next one.
        follows = type(records) is RecordIterator and (<RecordIterator>records).decoder._is_following
        lines.chunk_size = 1 if follows else CHUNK_SIZE
    else:
        size = index_of(chunk_size)
        if size is None:
            raise TypeError(f"chunk_size must be an int, got {type(chunk_size).__name__}: {chunk_size!r:.100}")
        if not 1 <= size <= 1 << 30:
            raise ValueError(f"chunk_size must be 1 to {1 << 30}, got {size}")
        lines.chunk_size = size
    if isinstance(records, Decoder):
        raise TypeError("records must be an iterable of records, got a reader: use table.json_lines(reader)")
    lines.records = iter(records)
    return lines
