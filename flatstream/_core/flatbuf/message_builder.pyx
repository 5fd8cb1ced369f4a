# cython: boundscheck=False, wraparound=False
"""Building a message: memory, alignment, tables with their vtables, vectors and strings.

A message is written from its end to its beginning. The position of a part is its end offset, the distance from the
part's first byte to the end of the buffer: it stays the same when the buffer grows.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from flatstream._core.base.buffers cimport Chunk, grow
from flatstream._core.base.endian cimport load_u16, load_u32, store_le
from flatstream._core.flatbuf.kinds cimport USHORT

import warnings

from flatstream._core.flatbuf.kinds import NUMBER_FLAGS
from flatstream.errors import FlatbufferError


cdef extern from "Python.h":
    void PyMem_RawFree(void* p) nogil


# The default limits of verifiers: `Limits` in `verifier`.
cdef Py_ssize_t MAX_TABLES = 1_000_000
cdef int64_t MAX_APPARENT_SIZE = <int64_t>1 << 31


cdef int fail(str name, str message="") except -1:
    """Raises the exception `name` of `flatbuffers.builder`: code that catches the package's errors catches ours."""
    # Imported here, not at the top: `flatbuffers` imports NumPy if it is installed.
    from flatbuffers import builder
    error = getattr(builder, name)
    raise error(message) if message else error()


cdef class MessageBuilder:
    """Builds messages for the compiled modules; `Builder` adds the interface of `flatbuffers.Builder`.

    Parameters
    ----------
    capacity : int
        The size of the buffer at first, in bytes. It doubles whenever it is full, up to 2 GiB.
    """

    def __cinit__(self, *args, **kwargs):
        self._minalign = 1
        self.object_end = -1

    def __init__(self, Py_ssize_t capacity=1024):
        self.allocate(capacity)

    def __dealloc__(self):
        PyMem_RawFree(self.entries)
        PyMem_RawFree(self.written_vtables)
        PyMem_RawFree(self.vtable_scratch)

    # The message

    cdef int allocate(self, Py_ssize_t capacity) except -1:
        """Allocates a buffer of this size, filled with zeros."""
        if not 0 <= capacity <= MAX_MESSAGE_SIZE:
            fail("BuilderSizeError", "flatbuffers: Cannot create Builder larger than 2 gigabytes.")
        self.chunk = zeros(capacity)
        self.data = self.chunk.data
        self.capacity = capacity
        return self.reset()

    cdef int check_made(self) except -1:
        # The garbage collector, too, sets it to None when it breaks a cycle.
        if self.chunk is None:
            raise ValueError("this builder has no buffer: its __init__ was not called, or it is being collected")
        return 0

    cdef int reset(self) except -1:
        """Begins another message in the same buffer."""
        self.generation += 1
        self.in_table = False
        self.object_end = -1
        self._head = self.capacity
        self._minalign = 1
        self.vtable_count = 0
        self.table_count = 0
        self.read_vtable_bytes = 0
        self._nested = False
        self._finished = False
        self.size_prefixed = False
        return 0

    cdef int clear(self) except -1:
        """Begins another message; in another buffer if there are views of this one."""
        self.check_made()
        if self.chunk.exports:
            self.chunk = zeros(self.capacity)
            self.data = self.chunk.data
        return self.reset()

    cdef const uint8_t* finished_bytes(self, Py_ssize_t* size) noexcept:
        """Returns the finished message, which is valid until the builder is used again, or NULL. A size-prefixed one
        counts as none.
        """
        if not self._finished or self.size_prefixed or self.chunk is None:
            return NULL
        size[0] = self.capacity - self._head
        return self.data + self._head

    cdef Py_ssize_t finish_message(self, int64_t root, bytes file_identifier) except -1:
        """Ends the message with the offset of its root; returns where in the buffer it begins.

        `root` is an end offset. The file identifier has four bytes, or none.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(file_identifier)
        # First: a warning can run code of the program, and raises if the program makes errors of warnings.
        self.compare_with_limits()
        self.prep(self._minalign, 4 + size)
        if size:
            self.store_bytes(<const uint8_t*>PyBytes_AS_STRING(file_identifier), size)
        self.store_offset(root)
        self._finished = True
        return self._head

    cdef int compare_with_limits(self) except -1:
        """Warns of a message that readers refuse by default."""
        # A verifier reads a vtable once as a whole, and once more entry by entry.
        cdef int64_t size = end_offset_of(self) + 2 * self.read_vtable_bytes
        if self.table_count <= MAX_TABLES and size <= MAX_APPARENT_SIZE:
            return 0
        limits = []
        if self.table_count > MAX_TABLES:
            limits.append(f"max_tables={self.table_count}")
        if size > MAX_APPARENT_SIZE:
            limits.append(f"max_apparent_size={size}")
        warnings.warn(
            f"a message of {self.table_count} tables in {end_offset_of(self)} bytes exceeds a default limit of readers "
            f"and verifiers: to be read it needs {' and '.join(limits)}", RuntimeWarning, stacklevel=1,
        )
        return 0

    cdef bint is_idle(self) noexcept:
        """Whether a part can be written: the message is not finished, and no part is being built."""
        return not self._finished and not self._nested

    cdef int set_checkpoint(self, Checkpoint* checkpoint) noexcept:
        checkpoint.end_offset = end_offset_of(self)
        checkpoint.minalign = self._minalign
        checkpoint.vtable_count = self.vtable_count
        checkpoint.table_count = self.table_count
        checkpoint.read_vtable_bytes = self.read_vtable_bytes
        checkpoint.generation = self.generation
        return 0

    cdef bint is_after(self, const Checkpoint* checkpoint) noexcept:
        """Whether the builder still builds the message of the checkpoint."""
        return self.generation == checkpoint.generation and self.is_idle()

    cdef int roll_back(self, const Checkpoint* checkpoint) noexcept:
        """Discards the parts written since the checkpoint."""
        # The buffer may have grown, and Python code that has run since may have cleared the builder.
        if end_offset_of(self) >= checkpoint.end_offset:
            self._head = self.capacity - checkpoint.end_offset
            self._minalign = checkpoint.minalign
            self.vtable_count = min(self.vtable_count, checkpoint.vtable_count)
            self.table_count = min(self.table_count, checkpoint.table_count)
            self.read_vtable_bytes = min(self.read_vtable_bytes, checkpoint.read_vtable_bytes)
            self._nested = False
            self.in_table = False
        return 0

    # Memory

    cdef int unshare(self) except -1:
        """Continues in a copy of the buffer if views of it exist."""
        cdef Chunk chunk
        self.check_made()
        if not self.chunk.exports:
            return 0
        chunk = Chunk(self.capacity)
        memcpy(chunk.data, self.chunk.data, <size_t>self.capacity)
        self.chunk = chunk
        self.data = chunk.data
        return 0

    cdef int enlarge(self, Py_ssize_t needed) except -1:
        """Doubles the buffer until there are `needed` bytes in front of the head."""
        cdef Py_ssize_t used = self.capacity - self._head, capacity = self.capacity
        cdef Chunk chunk
        self.check_made()
        while capacity - used < needed:
            if capacity == MAX_MESSAGE_SIZE:
                fail("BuilderSizeError", "flatbuffers: cannot grow buffer beyond 2 gigabytes")
            capacity = min(2 * capacity, <Py_ssize_t>MAX_MESSAGE_SIZE) or 1
        chunk = Chunk(capacity)
        memset(chunk.data, 0, <size_t>(capacity - self.capacity))
        memcpy(chunk.data + (capacity - self.capacity), self.data, <size_t>self.capacity)
        self.chunk = chunk
        self.data = chunk.data
        self._head += capacity - self.capacity
        self.capacity = capacity
        return 0

    cdef int prep(self, int64_t size, int64_t additional) except -1:
        """Makes room for an element of `size` bytes that is followed by `additional` more, and aligns it."""
        cdef int64_t padding, needed
        if size > self._minalign:
            self._minalign = size
        padding = (-(self.capacity - self._head + additional)) & (size - 1)
        # A caller of `Builder.Prep` may give negative sizes; the head must still not leave the buffer.
        needed = max(padding + size + additional, padding)
        if self._head < needed:
            self.enlarge(needed)
        elif self.chunk is None or self.chunk.exports:
            self.unshare()
        if padding > 0:
            self._head -= padding
            memset(self.data + self._head, 0, <size_t>padding)
        return 0

    cdef int store(self, uint64_t bits, Py_ssize_t width) except -1:
        """Puts the low `width` bytes of `bits` in front of the message."""
        # Checked again: Python code may have run since `prep` made room, or `Builder.Place` was called without it.
        if self._head < width:
            self.enlarge(width)
        elif self.chunk is None or self.chunk.exports:
            self.unshare()
        self._head -= width
        store_le(self.data + self._head, bits, width)
        return 0

    cdef int store_bytes(self, const uint8_t* source, Py_ssize_t size) except -1:
        """Puts `size` bytes in front of the message."""
        if self._head < size:
            self.enlarge(size)
        elif self.chunk is None or self.chunk.exports:
            self.unshare()
        self._head -= size
        if size:
            memcpy(self.data + self._head, source, <size_t>size)
        return 0

    cdef uint8_t* store_zeros(self, Py_ssize_t size) except NULL:
        """Puts `size` zero bytes in front of the message; returns their address, which is valid until the next call."""
        if self._head < size:
            self.enlarge(size)
        elif self.chunk is None or self.chunk.exports:
            self.unshare()
        self._head -= size
        memset(self.data + self._head, 0, <size_t>size)
        return self.data + self._head

    # Tables

    cdef int start_table(self, Py_ssize_t entry_count) except -1:
        """Begins a table whose vtable has at most `entry_count` entries; `mark_field` sets them."""
        if entry_count > self.entry_capacity or self.entries is NULL:
            self.entries = <int64_t*>grow(
                self.entries, &self.entry_capacity, entry_count, sizeof(int64_t), "fields of a table"
            )
        memset(self.entries, 0, <size_t>entry_count * sizeof(int64_t))
        self.entry_count = entry_count
        self.in_table = True
        self.object_end = self.capacity - self._head
        self._nested = True
        return 0

    cdef Py_ssize_t end_table(self) except -1:
        """Ends the table with its vtable; returns the end offset of the table."""
        self._nested = False
        return self.write_vtable()

    cdef Py_ssize_t write_vtable(self) except -1:
        """Ends the table with its vtable, or with the offset of an equal one; returns the end offset of the table."""
        cdef Py_ssize_t table, count = self.entry_count, i, size, known, vtable = 0
        cdef int64_t distance
        cdef uint32_t hash = 2166136261
        if not self.in_table:
            raise TypeError("there is no table to end: 'NoneType' object is not reversible")
        self.prep(4, 0)
        self.store(0, 4)
        table = self.capacity - self._head
        while count and self.entries[count - 1] == 0:
            count -= 1
        if count + 2 > self.vtable_scratch_capacity:
            self.vtable_scratch = <uint16_t*>grow(
                self.vtable_scratch, &self.vtable_scratch_capacity, count + 2, sizeof(uint16_t), "entries of a vtable"
            )
        size = 2 * (count + 2)
        for i in range(count - 1, -1, -1):
            distance = table - self.entries[i] if self.entries[i] else 0
            check_entry(distance)
            self.vtable_scratch[i + 2] = <uint16_t>distance
        check_entry(table - self.object_end)
        check_entry(size)
        self.vtable_scratch[0] = <uint16_t>size
        self.vtable_scratch[1] = <uint16_t>(table - self.object_end)
        for i in range(count + 2):
            hash = (hash ^ self.vtable_scratch[i]) * 16777619
            # Entries are little-endian.
            store_le(<uint8_t*>(self.vtable_scratch + i), self.vtable_scratch[i], 2)
        for i in range(self.vtable_count):
            if self.written_vtables[i].hash != hash:
                continue
            known = self.written_vtables[i].end_offset
            # The bytes are compared too: hashes collide, and code can overwrite a vtable through `Builder.Bytes`.
            if known >= size and memcmp(self.data + self.capacity - known, self.vtable_scratch, <size_t>size) == 0:
                vtable = known
                break
        if not vtable:
            if self.vtable_count == self.vtable_capacity:
                self.written_vtables = <WrittenVtable*>grow(
                    self.written_vtables, &self.vtable_capacity, self.vtable_count + 1, sizeof(WrittenVtable), "vtables"
                )
            self.prep(2, size - 2)
            self.store_bytes(<const uint8_t*>self.vtable_scratch, size)
            vtable = self.capacity - self._head
            self.written_vtables[self.vtable_count].end_offset = <uint32_t>vtable
            self.written_vtables[self.vtable_count].hash = hash
            self.vtable_count += 1
        store_le(self.data + self.capacity - table, <uint64_t>(vtable - table), 4)
        self.table_count += 1
        self.read_vtable_bytes += size
        self.in_table = False
        return table

    # Offsets and structs

    cdef int put_offset(self, int64_t target) except -1:
        """Puts the distance to the part with this end offset in front of the message, aligned."""
        self.prep(4, 0)
        return self.store_offset(target)

    cdef int store_offset(self, int64_t target) except -1:
        """Like `put_offset`, if the message is aligned already."""
        if target > self.capacity - self._head:
            fail("OffsetArithmeticError", "flatbuffers: Offset arithmetic error.")
        return self.store(<uint64_t>(self.capacity - self._head - target + 4), 4)

    cdef uint8_t* put_struct(self, Py_ssize_t size, Py_ssize_t alignment) except NULL:
        """Puts a struct of zeros in front of the message; returns its address, which is valid until the next call."""
        self.prep(alignment, size)
        return self.store_zeros(size)

    # Vectors and strings

    cdef int start_vector(self, Py_ssize_t size, Py_ssize_t alignment) except -1:
        """Makes room for a vector whose elements take `size` bytes, and aligns them. `store_bytes`, `store_zeros`,
        `store` or `store_offset` write the elements, the last one first, and `end_vector` the length.
        """
        if size > MAX_MESSAGE_SIZE:
            fail("BuilderSizeError", "flatbuffers: cannot grow buffer beyond 2 gigabytes")
        self.prep(4, size)
        return self.prep(alignment, size)

    cdef Py_ssize_t end_vector(self, Py_ssize_t count) except -1:
        """Ends a vector of `count` elements with its length; returns its end offset."""
        self.store(<uint64_t>count, 4)
        return self.capacity - self._head

    cdef Py_ssize_t put_vector(
        self, const uint8_t* elements, Py_ssize_t size, Py_ssize_t alignment, Py_ssize_t count
    ) except -1:
        """Writes a vector of `count` elements, which are `size` bytes as a message stores them; returns its end offset.
        """
        self.start_vector(size, alignment)
        self.store_bytes(elements, size)
        return self.end_vector(count)

    cdef Py_ssize_t put_string(self, const uint8_t* text, Py_ssize_t size) except -1:
        """Writes a string, with a zero byte behind it; returns its end offset."""
        if size > MAX_MESSAGE_SIZE:
            fail("BuilderSizeError", "flatbuffers: cannot grow buffer beyond 2 gigabytes")
        self.prep(4, size + 1)
        self.store(0, 1)
        self.store_bytes(text, size)
        return self.end_vector(size)


cdef bint is_table(const uint8_t* data, uint64_t size, uint64_t offset, uint64_t first) noexcept nogil:
    """Whether a table can be at `offset`, with a vtable at `first` or later, so that both end inside of the message."""
    cdef int64_t vtable
    cdef uint64_t vtable_size, table_size
    if offset & 3 or offset + 4 > size:
        return False
    vtable = <int64_t>offset - <int64_t><int32_t>load_u32(data + offset)
    if vtable & 1 or vtable < <int64_t>first or <uint64_t>vtable + 4 > size:
        return False
    vtable_size = load_u16(data + vtable)
    table_size = load_u16(data + vtable + 2)
    return (
        vtable_size >= 4 and not vtable_size & 1 and <uint64_t>vtable + vtable_size <= size
        and table_size >= 4 and offset + table_size <= size
    )


cdef bint has_size_prefix(const uint8_t* data, uint64_t size) noexcept nogil:
    """The builder of the package does not know whether it wrote one, so this judges by the bytes.

    With a prefix, the first number is the size of what follows, and the second leads to the root. Without, the first
    leads to the root: if it had that value, the root would be in the last four bytes, so a table without fields. A
    message that can be such a table counts as prefixed only if the second number leads to another table. There a
    message without a prefix has its file identifier, padding, a vtable or the length of a vector: as an offset, all of
    these lead to no table.
    """
    cdef uint64_t root
    if size < 12 or size > <uint64_t>MAX_MESSAGE_SIZE or load_u32(data) != size - 4:
        return False
    root = 4 + <uint64_t>load_u32(data + 4)
    if root < 8 or root > size - 4:
        return False
    # If both lead to the same table, the message reads the same in both ways.
    return root != size - 4 if is_table(data, size, root, 8) else not is_table(data, size, size - 4, 4)


cdef int check_no_prefix(object payload) except -1:
    if isinstance(payload, MessageBuilder) and (<MessageBuilder>payload).size_prefixed:
        raise FlatbufferError(
            "the builder was finished with FinishSizePrefixed, but a frame has its own length, and without the prefix "
            "the message would be misaligned: call Finish(root) instead"
        )
    return 0


cdef Chunk zeros(Py_ssize_t capacity):
    cdef Chunk chunk = Chunk(capacity)
    memset(chunk.data, 0, <size_t>max(capacity, 1))
    return chunk


cdef int check_entry(int64_t value) except -1:
    """Raises the error of the `flatbuffers` package for a number that does not fit in an entry of a vtable."""
    if not 0 <= value <= 0xFFFF:
        from flatbuffers import number_types
        number_types.enforce_number(value, getattr(number_types, NUMBER_FLAGS[USHORT]))
    return 0
