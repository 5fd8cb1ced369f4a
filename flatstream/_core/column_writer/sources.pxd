from libc.stdint cimport int64_t

from flatstream._core.arrow.importer cimport Source, StreamOwner


cdef extern from *:
    """
    /* Limit of the rows of one array: sums of row numbers below it do not overflow. */
    #define FS_MAX_ROWS ((int64_t)1 << 48)
    """
    const int64_t MAX_ROWS "FS_MAX_ROWS"


cdef class PythonList:
    """A column given as a Python list. It is converted when the type of its field is known."""
    cdef list values


cdef class ArrayStream:
    """A column, or a table, and the arrays that hold its rows."""
    # Its buffers are those of the current array.
    cdef Source source
    # The producer of further arrays; None if there is none, or if it has been read to its end.
    cdef StreamOwner stream
    # Arrays that have been read and come before those of `stream`.
    cdef list pending
    # Rows of the current array that are not written yet. The source begins at the first of them.
    cdef int64_t rows_left
    cdef bint advance(self) except -1
    cdef int read_all(self) except -1
    cdef int64_t total_rows(self) noexcept


# An ArrayStream over the array that is attached to the source.
cdef ArrayStream stream_of(Source source)
# An input is an ArrayStream, a PythonList, or a dict of inputs by their names.
cdef object table_input(object columns)
# Makes null the values that the mask hides. It has one byte for each row: 0, or 1 to hide the value.
cdef int apply_mask(Source source, object mask) except -1
# A column of byte strings from a list of bytes.
cdef Source bytes_column(str path, str type_name, list values)
