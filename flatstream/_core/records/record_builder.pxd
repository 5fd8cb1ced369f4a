from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.flatbuf.layout cimport EnumLayout, Layout
from flatstream._core.flatbuf.message_builder cimport MessageBuilder
from flatstream._core.records.record_fields cimport ObjectEncoding


cdef struct PathStep:
    # One step of the path to a value: a field of an object and an element of the field, or -1.
    int32_t object
    int32_t field
    Py_ssize_t element


cdef struct Cell:
    # What a table stores for a field: the bytes of a scalar; the end offset of a string, vector or table in the
    # message; or the offset of a struct in `scratch`.
    uint64_t bits
    bint present


cdef class RecordBuilder(Exclusive):
    cdef Layout layout
    # The number of the table.
    cdef int32_t number
    cdef MessageBuilder builder
    cdef bint force_defaults
    cdef bytes identifier
    # By the number of the object: its ObjectEncoding, or None until it is needed.
    cdef list encodings
    # The state of the record being built: three stacks, on which each nested object has its own part. The first has
    # the path to the current value.
    cdef PathStep* steps
    cdef Py_ssize_t depth
    # The tables that are being built, each inside the one before.
    cdef Py_ssize_t table_count
    # A cell for each field of a table and for each element of a vector of offsets.
    cdef Cell* cells
    cdef Py_ssize_t cell_count
    cdef Py_ssize_t cell_capacity
    # The bytes of structs, and of vectors that are converted element by element.
    cdef uint8_t* scratch
    cdef Py_ssize_t scratch_size
    cdef Py_ssize_t scratch_capacity

    cdef int check_made(self) except -1
    cdef ObjectEncoding encoding_of(self, int32_t index)
    cdef int clear_stacks(self) noexcept
    cdef object path_of_value(self, Py_ssize_t row)
    cdef int add_path(self, object error, Py_ssize_t row) except -1
    cdef int push_step(self, int32_t index) except -1
    cdef Py_ssize_t push_cells(self, Py_ssize_t count) except -1
    cdef Py_ssize_t push_scratch(self, Py_ssize_t size) except -1
    # In these, `index` is the number of an object and `i` that of one of its fields.
    cdef bint collect(self, int32_t index, list values, Py_ssize_t base) except -1
    cdef int collect_union(self, int32_t index, int32_t i, list values, Py_ssize_t base) except -1
    cdef int collect_unions(self, int32_t index, int32_t i, list values, Py_ssize_t base) except -1
    cdef int64_t put_union(
        self, int32_t index, int32_t i, object type, object value, uint64_t* type_bits
    ) except -1
    cdef bint is_inside(self, int32_t index) noexcept
    cdef object variant_of(self, int32_t union_index, object value)
    cdef str example_of(self, int32_t union_index)
    cdef int64_t put_table(self, int32_t index, object record) except -1
    cdef int64_t store_table(self, int32_t index, Py_ssize_t base) except -1
    cdef int64_t put_child(self, uint8_t kind, int32_t index, object value) except -1
    cdef int64_t put_string(self, object value) except -1
    cdef int64_t put_vector(self, int32_t index, int32_t i, object value) except -1
    cdef int check_no_nulls(self, object value) except -1
    cdef int fail_null(self, Py_ssize_t place) except -1
    cdef int64_t put_scalars(self, uint8_t kind, int32_t index, uint32_t alignment, object value) except -1
    cdef int64_t put_structs(self, int32_t index, uint32_t alignment, object value) except -1
    cdef int64_t put_offset_vector(self, Py_ssize_t base, Py_ssize_t count, uint32_t alignment) except -1
    cdef int64_t put_scratch_vector(
        self, Py_ssize_t start, Py_ssize_t size, uint32_t alignment, Py_ssize_t count
    ) except -1
    cdef int fill_struct(self, int32_t index, Py_ssize_t start, object record) except -1
    cdef int fill_array(self, int32_t index, int32_t i, Py_ssize_t start, object value) except -1
    cdef int fill_scalars(
        self, uint8_t kind, int32_t index, Py_ssize_t start, object items, Py_ssize_t count
    ) except -1
    cdef EnumLayout enum_of(self, uint8_t kind, int32_t index)


cdef MessageBuilder checked_builder(object builder)
