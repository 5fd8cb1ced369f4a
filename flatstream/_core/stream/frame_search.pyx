# cython: boundscheck=False, wraparound=False
"""The guard of recovery: is what looks like a torn tail really the end?

The checksum does not cover the length. A flipped bit in a length can make a whole file look torn from there on, and
cutting the tail would then cut intact frames. So the bytes from the tear on are searched for a frame that stands
on its own. A tear without one is a tear.
"""

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, uint8_t, uint32_t

from flatstream._core.base.buffers cimport acquire, owner_view_of
from flatstream._core.base.endian cimport load_u16, load_u32
from flatstream._core.framing.deframer cimport Deframer, Span
from flatstream._core.framing.wire cimport LENGTH_SIZE, MAX_PAYLOAD_LEN


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


cdef bint is_table_root(const uint8_t* p, Py_ssize_t size) noexcept nogil:
    """Whether a builder may have made this message with a table as its root.

    Stricter than a verifier is: it asks for what every builder does (a table behind the root offset, a vtable of at
    least its own header, fields inside the table), because here random bytes must not pass.
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
    # Nothing but padding and a string's terminator may follow it.
    return length <= size - 4 - vector and size - 4 - vector - length <= 8


# A set of places in the buffer, a bit each: a torn frame may have claimed two gigabytes.

cdef inline bint has(const uint8_t* places, Py_ssize_t at) noexcept nogil:
    return places[at >> 3] >> (at & 7) & 1


cdef inline void add(uint8_t* places, Py_ssize_t at) noexcept nogil:
    places[at >> 3] |= <uint8_t>(1 << (at & 7))


cdef inline void drop(uint8_t* places, Py_ssize_t at) noexcept nogil:
    places[at >> 3] &= <uint8_t>~(1 << (at & 7))


cdef inline int look_up_now_and_then(Py_ssize_t at) except -1:
    """Lets a signal handler raise, every 65,536 places."""
    return PyErr_CheckSignals() if at & 0xFFFF == 0 else 0


cdef class Search:
    """One search, over `size` bytes at `data`."""

    cdef Deframer deframer
    cdef object owner_view
    cdef const uint8_t* data
    cdef Py_ssize_t size
    # How many bytes of checksum speak for a frame.
    cdef Py_ssize_t evidence_bytes

    cdef Py_ssize_t frame_size(self, Py_ssize_t at) except -1:
        """The size of the frame that may be at `at`, all of it there; 0 if there is none."""
        cdef Span span
        if self.deframer.locate_is_native:
            return self.deframer.frame_size_at(self.data + at, self.size - at, MAX_PAYLOAD_LEN)
        try:
            if self.deframer.find(self.owner_view, self.data + at, self.size - at, &span):
                return 0
            return span.frame_end if span.frame_end <= self.size - at else 0
        except Exception:
            return 0

    cdef bint is_telling(self, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
        """Whether it says anything that the checksum of the frame at `at` matches.

        A run of zero bytes has the checksum 0 with CRC-16 and with any sum, and a message is full of them: so a stored
        checksum of 0 says nothing. (Of the frames of an intact stream, one of 65,536 has it with CRC-16.)
        """
        cdef Py_ssize_t i, begin = 0, end = size
        if self.deframer.locate_is_native and self.evidence_bytes:
            begin = LENGTH_SIZE
            end = LENGTH_SIZE + self.evidence_bytes
        for i in range(at + begin, at + end):
            if self.data[i]:
                return True
        return False

    cdef int weight(self, Py_ssize_t at) except -1:
        """What the frame at `at`, which is all there, is worth as evidence: 2 is enough, 0 is worse than nothing."""
        cdef Span span
        cdef const uint8_t* payload
        cdef Py_ssize_t size
        try:
            if self.deframer.find(self.owner_view, self.data + at, self.size - at, &span):
                return 0
            self.deframer.examine(self.owner_view, self.data + at, &span, True)
        except Exception:
            return 0
        payload = self.data + at + span.payload_start
        size = span.payload_end - span.payload_start
        # What a checksum of one's own is worth is not known: a sum is soon met among small numbers. A deframer of one's
        # own knows its frames better than this does.
        if not self.deframer.locate_is_native or self.evidence_bytes >= 4:
            return 2
        if self.evidence_bytes >= 2 and self.deframer.check_is_native:
            return 2
        if is_table_root(payload, size):
            return 2
        return 1 if self.evidence_bytes or is_vector_root(payload, size) else 0

    cdef Py_ssize_t through_to_the_end(self, Py_ssize_t tear) except -2:
        """Where a good frame begins from which frame follows frame up to the very end; -1 if nowhere.

        After a damaged length all later frames are still there, so they lead to the end. By chance, hardly anything
        does; therefore few checksums are calculated, however many bytes there are to search.
        """
        cdef uint8_t* leads = <uint8_t*>PyMem_RawCalloc(<size_t>(self.size // 8 + 1), 1)
        cdef Py_ssize_t at, here, first, size
        cdef int weight, sum
        if leads is NULL:
            raise MemoryError(f"no memory to search {self.size} bytes for frames beyond a torn one")
        try:
            add(leads, self.size)
            for at in range(self.size - 1, -1, -1):
                look_up_now_and_then(at)
                size = self.frame_size(at)
                if size and has(leads, at + size):
                    add(leads, at)
            for at in range(self.size):
                look_up_now_and_then(at)
                if at == tear:
                    continue
                # The first frames on the way that say something must be good. What was looked at once is not again.
                here = first = at
                sum = 0
                while here < self.size and has(leads, here):
                    drop(leads, here)
                    size = self.frame_size(here)
                    if self.is_telling(here, size):
                        weight = self.weight(here)
                        if not weight:
                            break
                        if not sum:
                            first = here
                        sum += weight
                        if sum >= 2:
                            return first
                    here += size
            return -1
        finally:
            PyMem_RawFree(leads)

    cdef Py_ssize_t in_a_row(self, Py_ssize_t tear) except -2:
        """Where several good frames stand in a row, the more the weaker their checksum; -1 if nowhere.

        For a stream that is both damaged and torn, so that nothing leads to its end.
        """
        cdef Py_ssize_t wanted = 1 if self.evidence_bytes >= 4 else 4 if self.evidence_bytes == 1 else 2
        # How many bytes may be given to checksums. It ends the search in data made of plausible lengths, where the
        # work would grow with the square of its size.
        cdef Py_ssize_t budget = (64 << 20) + 16 * self.size
        cdef Py_ssize_t at, here, size, count
        for at in range(tear + 1, self.size):
            look_up_now_and_then(at)
            here = at
            count = 0
            while here < self.size:
                size = self.frame_size(here)
                if not size or not self.is_telling(here, size):
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
        """Whether the torn frame is not torn: all bytes up to the end are a payload that has the stored checksum."""
        cdef Span span
        cdef Py_ssize_t rest = self.size - tear
        if not self.deframer.locate_is_native or not self.deframer.check_is_native or self.evidence_bytes < 2:
            return False
        span.payload_start = LENGTH_SIZE + self.evidence_bytes
        span.payload_end = rest
        span.frame_end = rest
        if rest <= span.payload_start or not self.is_telling(tear, rest):
            return False
        # Two bytes of checksum are met by chance too often to speak alone.
        if self.evidence_bytes < 4:
            if fs_popcount(load_u32(self.data + tear) ^ <uint32_t>(rest - span.payload_start)) != 1:
                return False
        try:
            self.deframer.examine(self.owner_view, self.data + tear, &span, True)
        except Exception:
            return False
        return True


def find_intact_frame(Deframer deframer not None, buffer, tear):
    """Looks for a frame that cutting the stream at `tear` would lose.

    Parameters
    ----------
    deframer : Deframer
        What tells frames apart, and good ones from others. Its observers are not called.
    buffer : bytes-like
        The last bytes of the stream, up to its end.
    tear : int
        Where in `buffer` the frame begins that is not all there. What lies before it is searched too, for frames that
        reach over it: without a checksum, the lengths may have gone wrong earlier.

    Returns
    -------
    int or None
        Where in `buffer` an intact frame begins; `tear` itself if nothing but the length of that frame is wrong.
    """
    cdef Py_buffer view
    cdef Search search = Search.__new__(Search)
    cdef Py_ssize_t found, start = tear
    search.deframer = deframer
    search.owner_view = owner_view_of(buffer, "buffer")
    acquire(search.owner_view, &view, "buffer")
    try:
        if not 0 <= start <= view.len:
            raise ValueError(f"tear must lie inside the buffer of {view.len} bytes, got {tear}")
        search.data = <const uint8_t*>view.buf
        search.size = view.len
        search.evidence_bytes = search.deframer.evidence_bytes()
        if search.is_whole_with_a_wrong_length(start):
            return start
        found = search.through_to_the_end(start)
        if found < 0:
            found = search.in_a_row(start)
        return None if found < 0 else found
    finally:
        PyBuffer_Release(&view)


def needs_history(Deframer deframer not None):
    """Whether a guard should be shown bytes before the tear: without a checksum, a wrong length is noticed late."""
    return deframer.evidence_bytes() == 0
