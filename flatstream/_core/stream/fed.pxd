from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.stream.decoder cimport Decoder


cdef class Room:
    # Free bytes of a chunk, and how many buffers of them are held.
    cdef Chunk chunk
    cdef uint8_t* data
    cdef Py_ssize_t size
    cdef Py_ssize_t exports


cdef class FedDecoder(Decoder):
    # What `get_buffer` handed out last, and its view; the view is None when it is not out.
    cdef Room room
    cdef object lent
    # While bytes for a search are awaited: the stream offset up to which they are to have come.
    cdef unsigned long long search_from

    # The longest payload that is stored, for a deframer with transforms.
    cdef Py_ssize_t max_stored_len

    cdef Py_ssize_t exceeded_limit(self) noexcept
    cdef int check_can_take(self) except -1
    cdef bint is_written(self) noexcept
    cdef int take_back(self) except -1
    cdef int reserve(self, Py_ssize_t size) except -1
    cdef int reserve_room(self) except -1
    cdef int change_chunk(self, Py_ssize_t wanted) except -1
