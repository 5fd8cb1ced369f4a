from libc.stdint cimport uint8_t

from flatstream._core.column_reader.plan cimport ReadPlan


# The conditions that `parse_conditions` gives, each with the node of its column in a plan that has them by their paths:
# tuples (number of the node, Condition).
cdef list conditions_on(ReadPlan plan, list parsed)

# Sets keep[i] to whether all conditions hold for row i of the plan's columns. With `release`, numbers are compared with
# the GIL released.
cdef int mark_rows(ReadPlan plan, list conditions, uint8_t* keep, Py_ssize_t count, bint release) except -1
