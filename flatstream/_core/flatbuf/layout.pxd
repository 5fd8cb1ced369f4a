from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.flatbuf.kinds cimport is_scalar, may_be_enum, scalar_width
from flatstream._core.flatbuf.verifier cimport Types


cdef struct FieldLayout:
    # Of a scalar: the bytes of its default, in the low ones. 0 if it is optional, and so has none.
    uint64_t default_bits
    # How many bytes the field takes in its table or struct: a number, a struct, an array, or an offset of 4.
    uint32_t size
    # And to what that is aligned.
    uint32_t alignment
    # Of a vector or an array: the bytes of an element, or 4 if that is an offset; else 0.
    uint32_t element_size
    # And to what the elements are aligned, `force_align` included.
    uint32_t element_alignment
    # Of an array: how many elements.
    uint32_t length
    # Of a union (or a vector of them), the number of the field of its type, and the other way round; else -1.
    int32_t paired_field
    # A scalar without a default: absent is not the same as 0.
    bint optional
    bint deprecated
    # Whether a value that is the default is stored all the same: the field is optional, or nobody knows its default.
    bint always_stored


cdef struct ObjectLayout:
    uint32_t alignment
    # As many as `Types.objects` says.
    FieldLayout* fields


cdef class EnumLayout:
    cdef readonly str name
    cdef readonly bint is_union
    cdef readonly bint bit_flags
    # What an enumerator is stored as: one of Kind.
    cdef readonly int kind
    cdef readonly dict by_name
    cdef readonly dict by_value


cdef class Layout:
    """The types of a schema, as what reads and writes messages wants them: `Types`, and what that leaves out.

    Indices are the same as in `types`. Never changed once it is made.
    """
    cdef readonly Types types
    cdef ObjectLayout* objects
    cdef Py_ssize_t object_count
    # By the numbers of objects: full names; names of fields, by their numbers; numbers of fields that are not
    # deprecated, by their names.
    cdef readonly tuple object_names
    cdef readonly tuple field_names
    cdef readonly tuple numbers
    # EnumLayout by the numbers of enums.
    cdef readonly tuple enums
    cdef readonly bytes file_identifier
    # Whether __init__ came to its end.
    cdef bint ready

    # The number of an object that is a table, checked.
    cdef int32_t check_table(self, object number) except -1
