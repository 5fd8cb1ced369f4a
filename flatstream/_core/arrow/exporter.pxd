from flatstream._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema
from flatstream._core.base.buffers cimport Chunk


cdef class ColumnType:
    """The Arrow type of a column, as a format of the C data interface."""
    cdef readonly str name
    cdef readonly str format
    cdef readonly bint nullable
    cdef readonly tuple children
    # For an enum that is exported as a dictionary: its names, and the number of each. The column stores numbers.
    cdef readonly tuple labels
    cdef readonly tuple numbers
    cdef readonly dict metadata
    # A struct without fields, exported as a column of bools: true where it is not null.
    cdef readonly bint presence
    # Encoded for the C structures.
    cdef bytes name_bytes
    cdef bytes format_bytes
    cdef bytes metadata_bytes
    # How deep the children are nested: 0 without children.
    cdef int depth
    cdef int check(self) except -1


cdef class ColumnData:
    """The values of a column. They never change. A part that the type does not use is None."""
    cdef readonly ColumnType type
    cdef readonly Py_ssize_t length
    cdef readonly Py_ssize_t null_count
    # One byte per value: 0 for null. None if there are no nulls.
    cdef readonly Chunk validity
    # The numbers (one byte per bool), or the bytes of all strings.
    cdef readonly Chunk data
    # Strings and lists: length + 1 offsets into `data` or the child, as int64.
    cdef readonly Chunk offsets
    cdef readonly tuple children


# Raises TypeError for a column that was never completed.
cdef int check_data(ColumnData column) except -1

# Both fill a structure. The caller must release it even if they fail.
cdef int export_type(ColumnType type, ArrowSchema* out) except -1
cdef int export_data(ColumnData column, ArrowArray* out) except -1
