from flatstream._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema
from flatstream._core.base.buffers cimport Chunk


cdef class ColumnType:
    """What a column holds: Arrow's type, in the letters of the C data interface."""
    cdef readonly str name
    cdef readonly str format
    cdef readonly bint nullable
    cdef readonly tuple children
    # Of an enum that is shown by its names: these, and the numbers they stand for, which is what is stored.
    cdef readonly tuple labels
    cdef readonly tuple numbers
    cdef readonly dict metadata
    # As the structures want them.
    cdef bytes name_bytes
    cdef bytes format_bytes
    cdef bytes metadata_bytes
    cdef int check(self) except -1


cdef class ColumnData:
    """The values of a column, never changed once they are there. Which of the parts there are depends on the type."""
    cdef readonly ColumnType type
    cdef readonly Py_ssize_t length
    cdef readonly Py_ssize_t null_count
    # A byte for each value: whether there is one.
    cdef readonly Chunk validity
    # Numbers side by side (a byte for each bool), or the bytes of all strings.
    cdef readonly Chunk data
    # Of strings and lists, one more than there are: where each begins in `data` or the child, as int64.
    cdef readonly Chunk offsets
    cdef readonly tuple children


# Fills the structure, whose `release` the caller has to call even if this fails.
cdef int export_type(ColumnType type, ArrowSchema* out) except -1
cdef int export_data(ColumnData column, ArrowArray* out) except -1
