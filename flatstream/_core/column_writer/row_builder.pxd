from libc.stdint cimport int64_t, uint8_t, uint64_t

cimport cython

from flatstream._core.arrow.importer cimport Column
from flatstream._core.column_writer.plan cimport Binding, WritePlan
from flatstream._core.flatbuf.message_builder cimport MessageBuilder
from flatstream._core.stream.encoder cimport Encoder


cdef class RowBuilder(WritePlan):
    """Builds messages from the rows of the columns of a plan."""
    cdef bytes identifier
    # A window is a run of rows for which each column has one array. `rows_before` is the number of rows before the
    # current window, `row` the row of this window that is being written.
    cdef int64_t rows_before
    cdef int64_t row
    cdef MessageBuilder builder
    # Stack of the end offsets of elements, until their vectors are written.
    cdef Py_ssize_t* end_offsets
    cdef Py_ssize_t end_offset_count
    cdef Py_ssize_t end_offset_capacity

    # Errors

    @cython.final
    cdef int fail(self, const Binding* binding, object kind, str reason) except -1

    @cython.final
    cdef int fail_missing(self, const Binding* binding) except -1

    @cython.final
    cdef int fail_null_part(self, const Binding* binding) except -1

    @cython.final
    cdef int fail_index(self, const Binding* binding) except -1

    @cython.final
    cdef int fail_bytes(self, const Binding* binding) except -1

    @cython.final
    cdef int fail_elements(self, const Binding* binding) except -1

    # Scalars

    @cython.final
    cdef int scalar_bits(self, Binding* binding, int64_t row, uint64_t* bits) except -1

    @cython.final
    cdef int look_up_name(self, Binding* binding, str name, uint64_t* bits) except -1

    @cython.final
    cdef int look_up_dictionaries(self) except -1

    # Structs

    @cython.final
    cdef int fill_struct(self, Binding* binding, int64_t row, uint8_t* out) except -1

    @cython.final
    cdef int fill_value(self, Binding* binding, int64_t row, uint8_t* out) except -1

    @cython.final
    cdef int put_struct(self, Binding* binding, int64_t row) except -1

    # Parts of a message, which return their end offset

    @cython.final
    cdef Py_ssize_t put_string(self, Binding* binding, const Column* column, int64_t at) except -1

    @cython.final
    cdef int check_vector_size(self, Binding* binding, int64_t count) except -1

    @cython.final
    cdef int start_vector(self, Binding* binding, int64_t count) except -1

    @cython.final
    cdef int push_end_offset(self, Py_ssize_t end_offset) except -1

    @cython.final
    cdef Py_ssize_t put_vector(self, Binding* binding, const Column* column, int64_t at) except -1

    @cython.final
    cdef bint is_left_out(self, const Binding* binding, uint64_t type) noexcept
    cdef Py_ssize_t put_union(self, Binding* binding, int64_t row, bint has_type, uint64_t type) except -1

    @cython.final
    cdef Py_ssize_t put_union_vector(
        self, Binding* binding, const Column* column, int64_t at, int64_t row
    ) except -1

    @cython.final
    cdef Py_ssize_t put_part(self, Binding* binding, int64_t row) except -1

    @cython.final
    cdef Py_ssize_t put_table(self, Binding* binding, int64_t row) except -1

    # Messages

    @cython.final
    cdef int write_row(self, Encoder encoder, int64_t row) except -1
