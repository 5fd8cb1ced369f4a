from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.decoder cimport Decoder
from flatstream._core.flatbuf.access cimport OpenTable
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

    cdef int load_numpy(self) except -1
    cdef int32_t find(self, int32_t object, object name) except -2
    cdef object struct_dtype(self, int32_t object)
    cdef list truth_places(self, int32_t object)


cdef class RecordView:
    # A memoryview of the message that nobody else is given, so that nobody can release it; None if this was never made
    # by `open_message`, or was taken apart by the garbage collector, which comes to this member first. Nothing else may
    # be looked at then.
    cdef object payload
    cdef RecordTypes types
    cdef const Shape* shape
    # The record that this one is part of, and where: the number of the field, and of an element of it, or -1.
    cdef RecordView parent
    cdef Py_ssize_t field
    cdef Py_ssize_t element
    cdef const uint8_t* data
    cdef uint64_t size
    # Of a struct only its place, of which all bytes are in the message.
    cdef OpenTable table
    cdef int32_t number
    # How many tables deep it is; that of a root is 1.
    cdef int32_t depth
    # Of a root: where its frame begins in a stream, and its number; -1 if there is none.
    cdef int64_t offset
    cdef int64_t frame


cdef class VectorView:
    # Whose field it is.
    cdef RecordView record
    cdef Py_ssize_t field
    # Where the first element of the vector is in the message, and of a vector of unions the first of their types.
    cdef uint64_t start
    cdef uint64_t kinds
    # Which elements of it are shown: so many, from `first` in steps of `step`. All these are in the vector.
    cdef Py_ssize_t first
    cdef Py_ssize_t step
    cdef Py_ssize_t count

    cdef object read(self, Py_ssize_t i)


cdef class RecordIterator:
    cdef Decoder decoder
    cdef RecordTypes types
    cdef int32_t number
    cdef bint verify
