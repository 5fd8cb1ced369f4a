from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.flatbuf.layout cimport Layout


cdef class ArrayTypes:
    cdef Layout layout
    # numpy.frombuffer and numpy.dtype.
    cdef object frombuffer
    cdef object dtype
    # The dtypes of scalars, by Kind.
    cdef list dtypes
    # The dtypes of structs made so far, by the number of the object.
    cdef dict struct_dtypes

    cdef object struct_dtype(self, int32_t object)
    cdef list bool_offsets(self, int32_t object)


cdef ArrayTypes load_array_types(Layout layout)
# Both need a view of the message that nobody else can release, and elements that all lie in the message.
cdef object scalar_array(ArrayTypes types, object payload, const uint8_t* data, uint8_t kind, uint64_t count)
# The same numbers without NumPy, copied: an array.array, or a list of bool.
cdef object plain_array(const uint8_t* data, uint8_t kind, uint64_t count)
cdef object struct_array(
    ArrayTypes types, object payload, const uint8_t* data, int32_t object, Py_ssize_t count, Py_ssize_t step
)
