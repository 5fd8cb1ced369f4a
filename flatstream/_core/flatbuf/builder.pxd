from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.base.buffers cimport Chunk


cdef enum Number:
    BOOL
    UINT8
    INT8
    UINT16
    INT16
    UINT32
    INT32
    UINT64
    INT64
    FLOAT32
    FLOAT64


cdef class Builder:
    # The buffer is filled from its end towards its beginning: bytes [head, capacity) of it are written.
    cdef Chunk chunk
    cdef uint8_t* data
    cdef Py_ssize_t capacity
    cdef Py_ssize_t _head
    cdef Py_ssize_t _minalign
    # The object being built: for each field where it ends, counted from the buffer's end, or 0.
    cdef int64_t* slots
    cdef Py_ssize_t slot_count
    cdef Py_ssize_t slot_capacity
    # Whether there is one, and where the last one ends: -1 before the first.
    cdef bint has_slots
    cdef Py_ssize_t object_end
    # The vtables written so far: where each begins, counted from the buffer's end, and a hash of its bytes.
    cdef Py_ssize_t* vtable_places
    cdef uint32_t* vtable_hashes
    cdef Py_ssize_t vtable_count
    cdef Py_ssize_t vtable_capacity
    # Room to put a vtable together.
    cdef uint16_t* scratch
    cdef Py_ssize_t scratch_capacity
    cdef bint _nested
    cdef object _force_defaults
    cdef bint _finished
    cdef object _vector_length
    cdef bint has_vector_length
    cdef object shared
    # How often it was cleared.
    cdef unsigned long generation

    cdef const uint8_t* finished_bytes(self, Py_ssize_t* size) noexcept
    cdef int reset(self) except -1
    cdef int check_made(self) except -1
    cdef int unshare(self) except -1
    cdef int grow(self, Py_ssize_t needed) except -1
    cdef int prep(self, int64_t size, int64_t additional) except -1
    cdef int store(self, uint64_t bits, Py_ssize_t width) except -1
    cdef int store_bytes(self, const uint8_t* source, Py_ssize_t size) except -1
    cdef int prepend_number(self, Number kind, object x) except -1
    cdef int place_number(self, Number kind, object x) except -1
    cdef int prepend_slot(self, Number kind, object o, object x, object d) except -1
    cdef int start_object(self, Py_ssize_t count) except -1
    cdef int put_offset(self, int64_t place) except -1
    cdef int mark_slot(self, object o) except -1
    cdef int prepend_offset(self, object off) except -1
    cdef int check_nested(self) except -1
    cdef int check_not_nested(self) except -1
    cdef int check_inline(self, object x) except -1
    cdef int reserve_scratch(self, Py_ssize_t count) except -1
    cdef Py_ssize_t write_vtable(self) except -1
    cdef object end_vector(self)
    cdef object put_vector(self, const uint8_t* source, Py_ssize_t size, bint terminated)
    cdef object finish(self, object root, bint size_prefix, object file_identifier)
