from libc.stdint cimport int32_t, uint8_t

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.flatbuf.layout cimport Layout


cdef class Template:
    """A finished message that has room for values: all bytes but those of the fields are as they will be.

    A copy of it becomes a message when the value of every field that it was made with is stored at its place. It is
    never changed once it is made.
    """
    cdef Chunk chunk
    # The message.
    cdef const uint8_t* data
    cdef readonly Py_ssize_t size
    # By the numbers of the table's fields, `field_count` of them: at which byte of the message the value of the field
    # begins (it takes the `size` of its FieldLayout, all of them inside the message), or -1 if the message has none.
    cdef int32_t* places
    cdef Py_ssize_t field_count


# `present` has a byte for each field of the table with this number, which is not 0 for those that the message has. Only
# scalars and structs can be among them, or ValueError is raised. The identifier has four bytes, or none.
cdef Template make_template(Layout layout, int32_t number, const uint8_t* present, bytes identifier)
