from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.verifier cimport Field, Limits


cdef struct Slot:
    # An interned name, which the RecordTypes keep alive, or NULL.
    PyObject* name
    int32_t number
    # Of a number in a table: its place in the vtable, what it is, and its bytes; else `width` is 0.
    uint16_t offset
    uint8_t kind
    uint8_t width


cdef struct Shape:
    # An object of the schema, as its records want it. The arrays of fields are those of the layout.
    const Field* fields
    const FieldLayout* layouts
    Py_ssize_t field_count
    uint32_t size
    bint is_struct
    # The fields by the addresses of their names: `mask` + 1 slots, a power of two, of which half are empty. (One is
    # declared. They are not behind a pointer, since following it is what takes longest.)
    size_t mask
    Slot slots[1]


cdef class RecordTypes:
    cdef readonly Layout layout
    cdef Shape** shapes
    # Interned names of fields by the numbers of objects.
    cdef list names
    # numpy.frombuffer and numpy.dtype, and types of arrays by the kinds of numbers and by the numbers of structs; None
    # before the first array is asked for.
    cdef object frombuffer
    cdef object dtype
    cdef list dtypes
    cdef dict struct_dtypes
    # What is verified is held to these, which are the verifier's own unless it is told others.
    cdef Limits limits
    # Whether __init__ came to its end.
    cdef bint ready

    cdef int32_t check_root(self, object number) except -1
    cdef int load_numpy(self) except -1
    cdef int32_t find(self, int32_t object, object name) except -2
    cdef object struct_dtype(self, int32_t object)
    cdef list truth_places(self, int32_t object)


cdef inline size_t slot_of(PyObject* name, size_t mask) noexcept:
    # Objects are aligned to 16 bytes.
    return ((<size_t>name >> 4) ^ (<size_t>name >> 11)) & mask


cdef inline const Slot* find_interned(const Shape* shape, PyObject* name) noexcept:
    """The field with this name, if that is an interned string; else NULL."""
    cdef size_t i = slot_of(name, shape.mask)
    # At least half of the slots are empty.
    while shape.slots[i].name is not NULL:
        if shape.slots[i].name == name:
            return &shape.slots[i]
        i = (i + 1) & shape.mask
    return NULL


cdef inline bint is_special(str name) except -1:
    """Whether it is a name that Python keeps for itself."""
    return len(name) > 4 and name.startswith("__") and name.endswith("__")
