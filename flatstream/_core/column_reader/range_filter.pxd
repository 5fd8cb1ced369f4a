from libc.stdint cimport uint8_t

from flatstream._core.column_reader.plan cimport Node


# The two limits of a filter on a scalar column, as `mark_in_range` takes them.
cdef tuple limits_of(const Node* node, object low, object high)

# Sets keep[i] to whether row i of a scalar column is in the range.
cdef int mark_in_range(const Node* node, object low, object high, uint8_t* keep, Py_ssize_t count) except -1
