from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.flatbuf.layout cimport EnumLayout, Layout
from flatstream._core.flatbuf.message_builder cimport MessageBuilder


cdef struct Step:
    # Where a value goes: a field of an object, and an element of it, or -1.
    int32_t object
    int32_t field
    Py_ssize_t element


cdef struct Cell:
    # What is to be stored for a field: the bytes of a number, where in the message a child is, or where in `scratch`
    # a struct is.
    uint64_t bits
    bint present


cdef class ObjectPlan:
    """How records of one table or struct are taken apart and stored."""
    cdef str title
    # By the numbers of fields.
    cdef tuple names
    # What generated code calls them where that differs, or None.
    cdef tuple others
    cdef dict numbers
    # Classes whose declared fields were compared with these names.
    cdef set known_classes
    cdef Py_ssize_t count
    # The numbers of the fields that are there, in order: what positional values are for.
    cdef int32_t* positions
    cdef Py_ssize_t position_count
    # And those that are stored, the widest first. Of a struct, in order.
    cdef int32_t* order
    cdef Py_ssize_t order_count
    # How many entries a vtable has at most.
    cdef Py_ssize_t entry_count


cdef class RecordBuilder(Exclusive):
    cdef readonly Layout layout
    cdef readonly int32_t number
    cdef MessageBuilder builder
    cdef bint force_defaults
    cdef bytes identifier
    # By the numbers of objects: ObjectPlan, or None before it is needed.
    cdef list plans
    # What is in the middle of being built. Stacks: each level adds to them and takes its own away.
    cdef Step* steps
    cdef Py_ssize_t depth
    cdef Py_ssize_t tables
    cdef Cell* cells
    cdef Py_ssize_t cell_count
    cdef Py_ssize_t cell_capacity
    cdef uint8_t* scratch
    cdef Py_ssize_t scratch_size
    cdef Py_ssize_t scratch_capacity

    cdef int check_made(self) except -1
    cdef ObjectPlan plan_of(self, int32_t index)
    cdef int rewind(self) noexcept
    cdef object where(self, Py_ssize_t row)
    cdef int explain(self, object error, Py_ssize_t row) except -1
    cdef list fetch(self, int32_t index, object record)
    cdef list fetch_named(self, ObjectPlan plan, object record)
    cdef list fetch_attributes(self, ObjectPlan plan, object record)
    cdef int assign(self, ObjectPlan plan, list values, object name, object value) except -1
    cdef int enter_object(self, int32_t index) except -1
    cdef Py_ssize_t push_cells(self, Py_ssize_t count) except -1
    cdef Py_ssize_t push_scratch(self, Py_ssize_t size) except -1
    cdef bint collect(self, int32_t index, list values, Py_ssize_t base) except -1
    cdef int collect_union(self, int32_t index, int32_t field, list values, Py_ssize_t base) except -1
    cdef int collect_unions(self, int32_t index, int32_t field, list values, Py_ssize_t base) except -1
    cdef int64_t put_union(
        self, int32_t union_index, int32_t field, int32_t type_field, object type, object value, uint64_t* type_bits
    ) except -1
    cdef int64_t put_table(self, int32_t index, object record) except -1
    cdef int64_t store_table(self, int32_t index, Py_ssize_t base) except -1
    cdef int64_t put_child(self, uint8_t kind, int32_t index, object value) except -1
    cdef int64_t put_string(self, object value) except -1
    cdef int64_t put_vector(self, int32_t index, int32_t field, object value) except -1
    cdef int64_t put_scalars(self, uint8_t kind, int32_t index, uint32_t alignment, object value) except -1
    cdef int64_t put_structs(self, int32_t index, uint32_t alignment, object value) except -1
    cdef int64_t put_places(self, Py_ssize_t base, Py_ssize_t count, uint32_t alignment) except -1
    cdef int64_t put_block(self, Py_ssize_t at, Py_ssize_t size, uint32_t alignment, Py_ssize_t count) except -1
    cdef int fill_struct(self, int32_t index, Py_ssize_t at, object record) except -1
    cdef int fill_array(self, int32_t index, int32_t field, Py_ssize_t at, object value) except -1
    cdef int fill_scalars(self, uint8_t kind, int32_t index, Py_ssize_t at, object value, Py_ssize_t count) except -1
    cdef EnumLayout enum_of(self, uint8_t kind, int32_t index)
