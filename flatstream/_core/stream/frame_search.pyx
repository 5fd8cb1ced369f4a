# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The search beyond damage: does a stream that looks torn really end there?

The checksum does not cover the length field. After a bit flip in a length, a whole file can look torn from that frame
on, and cutting its tail would remove intact frames. So the bytes from the tear on are searched for a frame that is
intact. If there is none, the stream is torn.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, uint8_t, uint32_t

from flatstream._core.base.buffers cimport owner_view_of
from flatstream._core.base.endian cimport load_u16, load_u32
from flatstream._core.framing.deframer cimport Deframer, Span, whole_payload_at
from flatstream._core.framing.wire cimport LENGTH_SIZE, HeaderFormat


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define fs_popcount(x) __builtin_popcount(x)
    #else
    #include <intrin.h>
    #define fs_popcount(x) __popcnt(x)
    #endif
    """
    int fs_popcount(uint32_t x) noexcept nogil

# Signal handlers run between blocks of this many offsets.
cdef enum:
    BLOCK = 1 << 16

# Search.weight of a frame whose checks are enough evidence alone.
cdef enum:
    ENOUGH = 2


cdef bint is_table_root(const uint8_t* p, Py_ssize_t size) noexcept nogil:
    """Whether a builder may have made this message with a table as its root.

    Stricter than a verifier: it requires what every builder produces (the table behind the root offset, a vtable of at
    least its own header, fields inside the table), because random bytes must not pass.
    """
    cdef Py_ssize_t table, vtable, vtable_size, table_size, field, i
    if size < 12:
        return False
    table = load_u32(p)
    if table < 4 or table & 3 or table > size - 4:
        return False
    vtable = table - <Py_ssize_t><int32_t>load_u32(p + table)
    if vtable < 4 or vtable & 1 or vtable > size - 4:
        return False
    vtable_size = load_u16(p + vtable)
    table_size = load_u16(p + vtable + 2)
    if vtable_size < 4 or vtable_size & 1 or vtable_size > size - vtable:
        return False
    if table_size < 4 or table_size > size - table:
        return False
    for i in range(4, vtable_size, 2):
        field = load_u16(p + vtable + i)
        if field and (field < 4 or field >= table_size):
            return False
    return True


cdef bint is_vector_root(const uint8_t* p, Py_ssize_t size) noexcept nogil:
    """Whether a builder may have made this message with a string or a vector of bytes as its root."""
    cdef Py_ssize_t vector, length
    if size < 8:
        return False
    vector = load_u32(p)
    if vector < 4 or vector > 12 or vector & 3 or vector > size - 4:
        return False
    length = load_u32(p + vector)
    # Only padding and the terminator of a string may follow it.
    return length <= size - 4 - vector and size - 4 - vector - length <= 8


# A set of offsets in the data, with a bit for each: a torn frame may have claimed two gigabytes.

cdef inline bint contains(const uint8_t* offsets, Py_ssize_t at) noexcept nogil:
    return offsets[at >> 3] >> (at & 7) & 1


cdef inline void add(uint8_t* offsets, Py_ssize_t at) noexcept nogil:
    offsets[at >> 3] |= <uint8_t>(1 << (at & 7))


cdef inline void remove(uint8_t* offsets, Py_ssize_t at) noexcept nogil:
    offsets[at >> 3] &= <uint8_t>~(1 << (at & 7))


cdef void chain_block(
    const unsigned char[::1] data, const HeaderFormat* format, Py_ssize_t begin, Py_ssize_t end, uint8_t* chained
) noexcept nogil:
    """Adds to the set `chained` the offsets from `begin` to `end` at which a chain of frames begins that ends where
    `data` ends. The set has these offsets from `end` on, and the size of `data`. Checksums are not compared.
    """
    cdef Py_ssize_t at, length, size = data.shape[0]
    cdef HeaderFormat header = format[0]
    for at in range(end - 1, begin - 1, -1):
        length = whole_payload_at(&data[at], size - at, &header, header.max_length)
        if length >= 0 and contains(chained, at + header.header_size + length):
            add(chained, at)


cdef uint8_t* new_set(Py_ssize_t size) except NULL:
    """An empty set of offsets from 0 to `size`; the caller frees it."""
    cdef uint8_t* offsets = <uint8_t*>PyMem_RawCalloc(<size_t>(size // 8 + 1), 1)
    if offsets is NULL:
        raise MemoryError(f"no memory to search {size} bytes for frames beyond a torn one")
    return offsets


def chained_offsets(const unsigned char[::1] data not None, Deframer deframer not None):
    """The offsets in `data` at which a chain of frames begins that ends exactly where `data` ends.

    This is the first pass of `find_intact_frame`. Checksums are not compared.

    Parameters
    ----------
    data : contiguous buffer of unsigned bytes
        The bytes to search.
    deframer : Deframer
        A deframer whose ``locate`` is built in.

    Returns
    -------
    list of int

    Raises
    ------
    TypeError
        The ``locate`` of `deframer` is written in Python.
    BufferError, ValueError
        `data` is strided or has other items.
    """
    cdef HeaderFormat format
    cdef Py_ssize_t at, size = data.shape[0]
    cdef uint8_t* chained
    if not deframer.locate_is_native:
        raise TypeError(f"expected a deframer whose locate() is built in, got {deframer!r}")
    deframer.get_format(&format)
    chained = new_set(size)
    try:
        add(chained, size)
        with nogil:
            chain_block(data, &format, 0, size, chained)
        return [at for at in range(size) if contains(chained, at)]
    finally:
        PyMem_RawFree(chained)


cdef class Search:
    """One search over `data`."""

    cdef Deframer deframer
    # If `is_native`, `format` is all that is needed to find frames.
    cdef bint is_native
    cdef HeaderFormat format
    cdef object owner_view
    cdef const unsigned char[::1] data
    cdef Py_ssize_t size
    # The size of the checksum, which is the evidence for a frame.
    cdef Py_ssize_t evidence_bytes

    cdef Py_ssize_t frame_size(self, Py_ssize_t at) except -1:
        """The size of the frame that may begin at `at`, if it is whole; otherwise 0."""
        cdef Span span
        cdef Py_ssize_t length
        if self.is_native:
            length = whole_payload_at(&self.data[at], self.size - at, &self.format, self.format.max_length)
            return self.format.header_size + length if length >= 0 else 0
        try:
            if self.deframer.find(self.owner_view, &self.data[at], self.size - at, &span):
                return 0
            return span.frame_end if span.frame_end <= self.size - at else 0
        except Exception:
            return 0

    cdef bint is_evidence(self, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
        """Whether a matching checksum of the frame at `at` is evidence for the frame.

        A run of zero bytes has the checksum 0 with CRC-16 and with any sum, and messages contain many zero bytes. So a
        stored checksum of 0 is no evidence. (Of the frames of an intact stream, one of 65,536 has it with CRC-16.)
        """
        cdef Py_ssize_t i, begin = 0, end = size
        if self.is_native and self.evidence_bytes:
            begin = LENGTH_SIZE
            end = LENGTH_SIZE + self.evidence_bytes
        for i in range(at + begin, at + end):
            if self.data[i]:
                return True
        return False

    cdef int weight(self, Py_ssize_t at) except -1:
        """How strong the evidence of the whole frame at `at` is: ENOUGH, 1 for some, or 0 for a frame that is not good.
        """
        cdef Span span
        cdef const uint8_t* payload
        cdef Py_ssize_t size
        try:
            if self.deframer.find(self.owner_view, &self.data[at], self.size - at, &span):
                return 0
            self.deframer.examine(self.owner_view, &self.data[at], &span, True)
        except Exception:
            return 0
        payload = &self.data[at] + span.payload_start
        size = span.payload_end - span.payload_start
        # How strong a checksum written in Python is, is unknown: small numbers often have the right sum. A deframer
        # written in Python knows its frames better than this search does.
        if not self.is_native or self.evidence_bytes >= 4:
            return ENOUGH
        if self.evidence_bytes >= 2 and self.deframer.check_is_native:
            return ENOUGH
        if is_table_root(payload, size):
            return ENOUGH
        return 1 if self.evidence_bytes or is_vector_root(payload, size) else 0

    cdef int mark_chains(self, uint8_t* chained) except -1:
        """Adds to the set `chained` the offsets at which a chain of frames begins that ends where the data ends."""
        cdef Py_ssize_t at, size, begin, end = self.size
        add(chained, end)
        while end > 0:
            PyErr_CheckSignals()
            begin = max(end - BLOCK, 0)
            if self.is_native:
                chain_block(self.data, &self.format, begin, end, chained)
            else:
                for at in range(end - 1, begin - 1, -1):
                    size = self.frame_size(at)
                    if size and contains(chained, at + size):
                        add(chained, at)
            end = begin
        return 0

    cdef Py_ssize_t find_chain(self, Py_ssize_t tear) except -2:
        """The offset of a good frame from which frame follows frame exactly to the end of the data; -1 if there is
        none.

        After a damaged length, all later frames are intact, so they lead to the end. Random bytes hardly ever do.
        Therefore few checksums are calculated, however many bytes are searched.
        """
        cdef uint8_t* chained = new_set(self.size)
        cdef Py_ssize_t at, here, first, size
        cdef int weight, sum
        try:
            self.mark_chains(chained)
            for at in range(self.size):
                if at % BLOCK == 0:
                    PyErr_CheckSignals()
                if at == tear:
                    continue
                # The first frames of the chain that are evidence must be good. Each offset is examined once.
                here = first = at
                sum = 0
                while here < self.size and contains(chained, here):
                    remove(chained, here)
                    size = self.frame_size(here)
                    if self.is_evidence(here, size):
                        weight = self.weight(here)
                        if not weight:
                            break
                        if not sum:
                            first = here
                        sum += weight
                        if sum >= ENOUGH:
                            return first
                    here += size
            return -1
        finally:
            PyMem_RawFree(chained)

    cdef Py_ssize_t find_row(self, Py_ssize_t tear) except -2:
        """The offset of several good frames in a row, more of them for a weaker checksum; -1 if there are none.

        For a stream that is both damaged and torn, in which no chain leads to the end.
        """
        cdef Py_ssize_t wanted = 1 if self.evidence_bytes >= 4 else 4 if self.evidence_bytes == 1 else 2
        # How many bytes may be checked. This ends the search in data made of plausible lengths, where the work would
        # grow with the square of the size.
        cdef Py_ssize_t budget = (64 << 20) + 16 * self.size
        cdef Py_ssize_t at, here, size, count
        for at in range(tear + 1, self.size):
            if at % BLOCK == 0:
                PyErr_CheckSignals()
            here = at
            count = 0
            while here < self.size:
                size = self.frame_size(here)
                if not size or not self.is_evidence(here, size):
                    break
                budget -= size
                if budget < 0:
                    return -1
                if not self.weight(here):
                    break
                here += size
                count += 1
                if count == wanted:
                    return at
        return -1

    cdef int is_whole_with_a_wrong_length(self, Py_ssize_t tear) except -1:
        """Whether only the length of the torn frame is wrong: the bytes up to the end have the stored checksum."""
        cdef Span span
        cdef Py_ssize_t rest = self.size - tear
        if not self.is_native or not self.deframer.check_is_native or self.evidence_bytes < 2:
            return False
        span.payload_start = LENGTH_SIZE + self.evidence_bytes
        span.payload_end = rest
        span.frame_end = rest
        if rest <= span.payload_start or not self.is_evidence(tear, rest):
            return False
        # A checksum of two bytes matches by chance too often. So the length must differ in one bit only.
        if self.evidence_bytes < 4:
            if fs_popcount(load_u32(&self.data[tear]) ^ <uint32_t>(rest - span.payload_start)) != 1:
                return False
        try:
            self.deframer.examine(self.owner_view, &self.data[tear], &span, True)
        except Exception:
            return False
        return True


def find_intact_frame(Deframer deframer not None, buffer, tear):
    """Looks for a frame that cutting the stream at `tear` would remove.

    Parameters
    ----------
    deframer : Deframer
        Finds and checks the frames. Its observers are not called.
    buffer : bytes-like
        The last bytes of the stream, up to its end.
    tear : int
        The offset in `buffer` of the frame that is not whole. The bytes before it are searched too, for frames that
        reach over it: without a checksum, a wrong length may not be noticed at once.

    Returns
    -------
    int or None
        The offset in `buffer` of an intact frame; `tear` itself if only the length of that frame is wrong.
    """
    cdef Search search = Search.__new__(Search)
    cdef Py_ssize_t found, start = tear
    search.deframer = deframer
    search.is_native = deframer.locate_is_native
    if search.is_native:
        deframer.get_format(&search.format)
    search.owner_view = owner_view_of(buffer, "buffer")
    search.data = search.owner_view
    search.size = search.data.shape[0]
    if not 0 <= start <= search.size:
        raise ValueError(f"tear must lie inside the buffer of {search.size} bytes, got {tear}")
    search.evidence_bytes = deframer.evidence_bytes()
    if search.is_whole_with_a_wrong_length(start):
        return start
    found = search.find_chain(start)
    if found < 0:
        found = search.find_row(start)
    return None if found < 0 else found


def needs_history(Deframer deframer not None):
    """Whether the search needs bytes before the tear: without a checksum, a wrong length is noticed late."""
    return deframer.evidence_bytes() == 0
