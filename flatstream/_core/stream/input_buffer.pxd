from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.base.exclusive cimport Exclusive

cdef extern from *:
    """
    /* Not an enum: Cython gives enums the type int, which cannot hold this value. */
    #define FS_MAX_CAPACITY ((Py_ssize_t)1 << 40)
    """
    # The largest chunk that may be asked for.
    const Py_ssize_t MAX_CAPACITY "FS_MAX_CAPACITY"


cdef class InputBuffer(Exclusive):
    # The source: one of the two functions, or neither if all bytes lie in the caller's buffer.
    cdef object readinto
    cdef object read
    cdef bint error_takes_nothing
    # Whether the bytes are handed in by calls (`FedDecoder`), and more may come: a read that lacks some finds no frame.
    cdef bint awaits_bytes
    # The memory being decoded: bytes [position, end) at `data` have arrived and are not read yet. `owner_view` is a
    # view of all of it, and None while there is no memory.
    cdef object owner_view
    cdef const uint8_t* data
    cdef Py_ssize_t position
    cdef Py_ssize_t end
    # The last two views that `Decoder.view_of` handed out; None before there are any.
    cdef object recent
    cdef object older
    # None if the source is a buffer.
    cdef Chunk chunk
    cdef Chunk spare
    cdef Py_ssize_t capacity
    # The size of a chunk while batches are read, if the source is large and fills chunks; 0 if it is always `capacity`.
    cdef Py_ssize_t batch_capacity
    # Whether the operation in progress reads a batch.
    cdef bint is_gathering
    # How many bytes from `position` on the decoder needs to go on.
    cdef Py_ssize_t needed
    # The stream offset of the first byte of the memory.
    cdef unsigned long long base
    # The error that every later read raises, or None.
    cdef object failure
    cdef bint shut
    # For a file that is followed, what the decoder needs to know of it (flatstream._follow.Follower); else None.
    cdef object follower
    # For a source of many parts, one after the other, which part is read (flatstream.journal._parts.Parts); else None.
    # It gives the bytes of one part, and those of the next after `advance` was called.
    cdef object parts
    # The memory policy, or None. `watched` is whether it is to be asked, `shrinking` whether it wants a smaller chunk.
    cdef object policy
    cdef Py_ssize_t baseline
    cdef bint watched
    cdef bint shrinking

    cdef int set_source(
        self, object capacity, object readinto, object read, object buffer, object memory_policy,
        bint error_takes_nothing
    ) except -1
    cdef int ensure_owner_view(self) except -1
    cdef int follows_now(self) except -1
    cdef int fill(self) except -1
    cdef int make_room(self) except -1
    cdef int provide(self, Py_ssize_t wanted) except -1
    cdef Py_ssize_t receive(self, object function, Py_ssize_t size) except -1
    cdef int locate_error(self, object error) except -1
    cdef Py_ssize_t max_held_capacity(self) noexcept
    cdef int update_watched(self) noexcept
    cdef int consult(self, Py_ssize_t size) except -1
    cdef int release_all(self) except -1
