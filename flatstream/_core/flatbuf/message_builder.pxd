from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.base.buffers cimport Chunk


cdef extern from *:
    """
    #define FS_MAX_MESSAGE_SIZE ((int64_t)1 << 31)
    """
    # The largest buffer, and so the largest message, in bytes.
    const int64_t MAX_MESSAGE_SIZE "FS_MAX_MESSAGE_SIZE"


cdef struct WrittenVtable:
    uint32_t end_offset
    uint32_t hash


# The state of a builder to which `roll_back` returns.
cdef struct Checkpoint:
    Py_ssize_t end_offset
    Py_ssize_t minalign
    Py_ssize_t vtable_count
    Py_ssize_t table_count
    int64_t read_vtable_bytes
    unsigned long generation


cdef class MessageBuilder:
    # The buffer is filled from its end towards its beginning: bytes [_head, capacity) of it are written.
    cdef Chunk chunk
    cdef uint8_t* data
    cdef Py_ssize_t capacity
    cdef Py_ssize_t _head
    cdef Py_ssize_t _minalign
    # The table being built: for each entry of its vtable the end offset of the field, or 0 if it is absent.
    cdef int64_t* entries
    cdef Py_ssize_t entry_count
    cdef Py_ssize_t entry_capacity
    # Whether a table is being built, and the end offset of the part before the last table: -1 before the first table.
    cdef bint in_table
    cdef Py_ssize_t object_end
    # The vtables of the message: equal ones are written once.
    cdef WrittenVtable* written_vtables
    cdef Py_ssize_t vtable_count
    cdef Py_ssize_t vtable_capacity
    # The tables of the message, and the bytes of their vtables, where a vtable counts for each table that has it.
    cdef Py_ssize_t table_count
    cdef int64_t read_vtable_bytes
    # The vtable that is being put together.
    cdef uint16_t* vtable_scratch
    cdef Py_ssize_t vtable_scratch_capacity
    # Whether a table, a vector or a string is being built.
    cdef bint _nested
    cdef bint _finished
    # Whether the size of the message is in front of it. Such a message is no payload.
    cdef bint size_prefixed
    # How many messages were begun.
    cdef unsigned long generation

    # The message

    cdef int allocate(self, Py_ssize_t capacity) except -1
    cdef int check_made(self) except -1
    cdef int reset(self) except -1
    cdef int clear(self) except -1
    cdef const uint8_t* finished_bytes(self, Py_ssize_t* size) noexcept
    cdef Py_ssize_t finish_message(self, int64_t root, bytes file_identifier) except -1
    cdef int compare_with_limits(self) except -1
    cdef bint is_idle(self) noexcept
    cdef int set_checkpoint(self, Checkpoint* checkpoint) noexcept
    cdef bint is_after(self, const Checkpoint* checkpoint) noexcept
    cdef int roll_back(self, const Checkpoint* checkpoint) noexcept

    # Memory

    cdef int unshare(self) except -1
    cdef int enlarge(self, Py_ssize_t needed) except -1
    cdef int prep(self, int64_t size, int64_t additional) except -1
    cdef int store(self, uint64_t bits, Py_ssize_t width) except -1
    cdef int store_bytes(self, const uint8_t* source, Py_ssize_t size) except -1
    cdef uint8_t* store_zeros(self, Py_ssize_t size) except NULL

    # Tables, offsets, vectors and strings. A method that completes a part returns its end offset.

    cdef int start_table(self, Py_ssize_t entry_count) except -1
    cdef Py_ssize_t end_table(self) except -1
    cdef Py_ssize_t write_vtable(self) except -1
    cdef int put_offset(self, int64_t target) except -1
    cdef int store_offset(self, int64_t target) except -1
    cdef uint8_t* put_struct(self, Py_ssize_t size, Py_ssize_t alignment) except NULL
    cdef int start_vector(self, Py_ssize_t size, Py_ssize_t alignment) except -1
    cdef Py_ssize_t end_vector(self, Py_ssize_t count) except -1
    cdef Py_ssize_t put_vector(
        self, const uint8_t* elements, Py_ssize_t size, Py_ssize_t alignment, Py_ssize_t count
    ) except -1
    cdef Py_ssize_t put_string(self, const uint8_t* text, Py_ssize_t size) except -1


cdef inline Py_ssize_t end_offset_of(MessageBuilder builder) noexcept:
    """Where the part written last begins, counted from the end of the buffer."""
    return builder.capacity - builder._head


cdef inline int mark_field(MessageBuilder builder, Py_ssize_t entry) noexcept:
    """Notes that the field with this entry in the vtable is the part written last. The table has such an entry."""
    builder.entries[entry] = builder.capacity - builder._head
    return 0


# Whether a finished message of the `flatbuffers` package has its size in front of it.
cdef bint has_size_prefix(const uint8_t* data, uint64_t size) noexcept nogil
# Raises FlatbufferError if `payload` is a builder whose message has its size in front of it: it is no payload.
cdef int check_no_prefix(object payload) except -1
# Raises an exception of `flatbuffers.builder`.
cdef int fail(str name, str message=*) except -1
