# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The search beyond damage: where do intact frames begin again, and does a stream that looks torn really end there?

The checksum does not cover the length field. After a bit flip in a length, a whole file can look torn from that frame
on, and cutting its tail would remove intact frames. So the bytes from the tear on are searched for a frame that is
intact. If there is none, the stream is torn. A reader that goes on behind damage searches in the same way.

In data that is full of small numbers nearly every offset could be the length of a long frame. The CRC of a frame is
calculated from those of the bytes before its ends (crc_ranges.pyx), so that all of these frames can be examined.
Comparing another checksum costs as much as the frame is long. So frames are examined in the order of their cost, those
that are about as long as the ones already read before all others, and the nearest one wins in the end: when a frame is
found, the longer ones are examined before it only. What may be spent grows with the size of the data, so that the time
does too. If that is not enough, the offsets are searched block by block, so that a frame that would have been examined
soon is found behind others that cost too much.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, uint8_t, uint32_t

from flatstream._core.base.buffers cimport owner_view_of
from flatstream._core.base.endian cimport load_le, load_u16, load_u32, load_u64, low_bytes
from flatstream._core.checksums.crc_ranges cimport (
    RANGE_FROM, CrcKind, CrcRanges, begin_ranges, crc_kind_of, crc_of_range, end_ranges,
)
from flatstream._core.framing.deframer cimport Deframer, Span, checksum_matches, whole_payload_at
from flatstream._core.framing.wire cimport LENGTH_SIZE, MAX_PAYLOAD_LEN, HeaderFormat


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

# Evidence is counted in quarters of what is enough.
cdef enum:
    ENOUGH = 4

# How many frames that are no evidence (see `Search.is_evidence`) may follow one another in a row of frames.
cdef enum:
    MAX_IDLE_FRAMES = 16

# Frames of at most this many bytes, or of 4 times the longest frame seen, are examined first; then those that are up to
# CLASS_FACTOR times as long; and so on.
cdef enum:
    FIRST_CLASS = 4096
    CLASS_FACTOR = 16

# How many bytes may be examined: so many, and so many for each byte that is searched. (16 MiB take about a second with
# a built-in checksum.) A checksum in Python takes about a hundred times as long. With a CRC, it is enough for a frame
# at each offset.
cdef enum:
    BUDGET = 64 << 20
    BUDGET_FACTOR = 512
    CRC_BUDGET_FACTOR = 1024
    PYTHON_BUDGET_FACTOR = 16

# The same before it is not known whether a stream is torn. (16 MiB then take about five seconds. In 8 MiB of random
# bytes, this is enough for all frames.)
cdef enum:
    GUARD_BUDGET_FACTOR = 4096

# If the budget is spent, so many offsets at a time are searched, each time with a new one.
cdef enum:
    RETRY_BLOCK = 1 << 20

# What examining a frame costs at least, counted in bytes, and what it costs at most with `crc_ranges`.
cdef enum:
    FRAME_COST = 64
    MAX_CRC_COST = FRAME_COST + RANGE_FROM

# From this size of the data on, CRCs are calculated with `crc_ranges`.
cdef enum:
    CRC_RANGES_FROM = 1 << 13


# What `Scan.followed` and `Search.frame_size` may be.
cdef enum:
    ANY = 2
    UNDECIDED = -1

# How many bytes are examined at a time; signal handlers run in between.
cdef enum:
    SLICE = 1 << 24


cdef struct Scan:
    # Where the scan is.
    Py_ssize_t at
    # The payload lengths that are examined in this pass: greater than `low`, at most `high`.
    Py_ssize_t low
    Py_ssize_t high
    # The longest payload found of frames that are whole.
    Py_ssize_t longest
    # True: the frames that the end of the stream follows, or a length from `least` to `high`. False: all others. ANY.
    int followed
    Py_ssize_t least
    # NULL unless the checksum is a CRC and the data are not short.
    const CrcRanges* ranges
    bint at_end
    Py_ssize_t budget
    # The first offset at which a frame may begin that is not whole.
    Py_ssize_t undecided


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


cdef bint is_zero(const uint8_t* p, Py_ssize_t size) noexcept nogil:
    """Whether the `size` bytes at `p` are zero."""
    cdef Py_ssize_t i
    for i in range(size):
        if p[i]:
            return False
    return True


cdef Py_ssize_t zeros_before(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    """How many bytes at the end of the `size` bytes at `data` are zero."""
    cdef Py_ssize_t at = size
    while at and not data[at - 1]:
        at -= 1
    return size - at


cdef bint is_followed(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t at, const HeaderFormat* format, const Scan* scan
) noexcept nogil:
    """Whether the end of the stream or a length that `scan` expects follows a frame that ends at `at`."""
    cdef Py_ssize_t length
    if size - at < LENGTH_SIZE:
        return not scan.at_end or size == at
    length = load_u32(data + at)
    return max(format.min_length, scan.least) <= length <= scan.high


cdef inline bint has_its_checksum(
    const uint8_t* data, Py_ssize_t at, Py_ssize_t length, const HeaderFormat* format, const Scan* scan
) noexcept nogil:
    """`checksum_matches` for the whole frame at the offset `at`."""
    if scan.ranges is NULL:
        return checksum_matches(data + at, length, format)
    return load_le(data + at + LENGTH_SIZE, format.checksum_size) == low_bytes(
        crc_of_range(scan.ranges, at + format.header_size, at + format.header_size + length), format.checksum_size
    )


cdef bint next_candidate(
    const uint8_t* data, Py_ssize_t size, Py_ssize_t end, const HeaderFormat* format, Scan* scan
) noexcept nogil:
    """Moves `scan.at` to the next offset before `end` at which a frame begins that belongs to this pass and may be
    intact: a built-in checksum matches, or there is none and the payload looks like a message.

    Returns False if it stopped elsewhere: at `end`, or after SLICE bytes were examined, or when the budget was spent.
    """
    cdef HeaderFormat header = format[0]
    cdef Py_ssize_t at = scan.at, length, available, zeros, cost, spent = 0
    while at < end and spent < SLICE and scan.budget >= 0:
        available = size - at
        if available < LENGTH_SIZE:
            scan.undecided = min(scan.undecided, at)
            at = end
            break
        if available >= 16 and not load_u64(data + at) and not load_u64(data + at + 8):
            # Five headers of zeros begin here, none of which is evidence. Long runs of zeros are common.
            at += 5
            continue
        length = load_u32(data + at)
        if length < header.min_length or length > header.max_length:
            at += 1
            continue
        if length > available - header.header_size:
            scan.undecided = min(scan.undecided, at)
            at += 1
            continue
        if length <= scan.low or length > scan.high:
            scan.longest = max(scan.longest, length)
            at += 1
            continue
        if scan.followed != ANY and (
            scan.followed != is_followed(data, size, at + header.header_size + length, &header, scan)
        ):
            at += 1
            continue
        if header.checksum_size == 0:
            spent += FRAME_COST
            if is_table_root(data + at + header.header_size, length) or (
                is_vector_root(data + at + header.header_size, length)
            ):
                scan.at = at
                return True
        else:
            # See `Search.is_evidence`.
            zeros = header.checksum_size + (0 if header.checksum_size >= 4 else length)
            if not is_zero(data + at + LENGTH_SIZE, zeros):
                cost = FRAME_COST + length
                if scan.ranges is not NULL:
                    cost = min(cost, MAX_CRC_COST)
                spent += cost
                scan.budget -= cost
                if scan.budget >= 0 and has_its_checksum(data, at, length, &header, scan):
                    scan.at = at
                    return True
        at += 1
    scan.at = at
    return False


cdef class Search:
    """One search over `data`."""

    cdef Deframer deframer
    # If `is_native`, `format` is all that is needed to find frames. Not so without a checksum if payloads are restored
    # by a transform: what is stored does not look like messages, and only the transform's `probe` says something.
    cdef bint is_native
    # Whether `format` says where a frame begins and ends. (Such a frame need not be a good one, see `is_native`.)
    cdef bint locates_natively
    cdef HeaderFormat format
    cdef object owner_view
    cdef const unsigned char[::1] view
    cdef const uint8_t* data
    cdef Py_ssize_t size
    # The size of the checksum, which is the evidence for a frame.
    cdef Py_ssize_t evidence_bytes
    # Whether the stream ends where the data end.
    cdef bint at_end
    # Where the zeros begin with which the stream ends.
    cdef Py_ssize_t zero_start
    # How many bytes may still be examined; negative if they were not enough. `stopped` is whether no frame was found,
    # and not all of them were examined.
    cdef Py_ssize_t budget
    cdef bint stopped
    # The first offset that more bytes could turn into a match.
    cdef Py_ssize_t undecided
    # The offsets at which a chain of frames begins that ends where the stream ends; NULL where that is not needed.
    cdef uint8_t* chained
    # Used if `has_ranges`.
    cdef CrcRanges ranges
    cdef bint has_ranges

    def __dealloc__(self):
        PyMem_RawFree(self.chained)
        if self.has_ranges:
            end_ranges(&self.ranges)

    cdef int prepare(self, Deframer deframer, object buffer, bint at_end, Py_ssize_t tear=-1) except -1:
        """Begins a search. No chain of frames leads over the offset `tear`, where the stream may be torn."""
        cdef const CrcKind* kind
        self.deframer = deframer
        self.locates_natively = deframer.locate_is_native
        self.is_native = deframer.locate_is_native and not (deframer.has_transform and not deframer.evidence_bytes())
        if self.locates_natively:
            deframer.get_format(&self.format)
        self.owner_view = owner_view_of(buffer, "buffer")
        self.view = self.owner_view
        self.size = self.view.shape[0]
        self.data = &self.view[0] if self.size else NULL
        self.evidence_bytes = deframer.evidence_bytes()
        self.at_end = at_end
        self.grant(self.size)
        self.undecided = self.size
        self.zero_start = self.size
        if at_end:
            self.zero_start -= zeros_before(self.data, self.size)
        if self.is_native and deframer.check_is_native and self.size >= CRC_RANGES_FROM:
            kind = crc_kind_of(self.format.kernel)
            if kind is not NULL:
                begin_ranges(&self.ranges, kind, self.data, self.size)
                self.has_ranges = True
                self.grant(self.size)
        if at_end and not self.evidence_bytes and self.size:
            self.chained = new_set(self.size)
            self.mark_chains(tear)
        return 0

    cdef Py_ssize_t frame_size(self, Py_ssize_t at) except -2:
        """The size of the frame that begins at `at`, if it is whole; 0 if no frame begins there; UNDECIDED if one may.
        """
        cdef Span span
        cdef Py_ssize_t length, available = self.size - at
        if available == 0:
            return UNDECIDED
        if self.locates_natively:
            length = whole_payload_at(self.data + at, available, &self.format, self.format.max_length)
            if length >= 0:
                return self.format.header_size + length
            if available >= LENGTH_SIZE:
                length = load_u32(self.data + at)
                if length < self.format.min_length or length > self.format.max_length:
                    return 0
            return UNDECIDED
        try:
            if not self.deframer.find(self.owner_view, self.data + at, available, &span) and (
                span.frame_end <= available
            ):
                return span.frame_end
        except Exception:
            return 0
        return UNDECIDED

    cdef bint is_evidence(self, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
        """Whether a matching checksum of the frame at `at` is evidence for the frame.

        A run of zero bytes has the checksum 0 with CRC-16 and with any sum, and messages contain many zero bytes. So a
        stored checksum of 0 over zeros is no evidence. (With a checksum of 4 bytes or more, only zeros have it.)
        """
        cdef Py_ssize_t begin = 0, end = size
        if self.is_native:
            begin = LENGTH_SIZE
            if self.evidence_bytes >= 4:
                end = LENGTH_SIZE + self.evidence_bytes
        return not is_zero(self.data + at + begin, end - begin)

    cdef int grant(self, Py_ssize_t size) noexcept:
        """Sets the budget for a search of `size` offsets."""
        cdef Py_ssize_t factor = PYTHON_BUDGET_FACTOR
        if self.has_ranges:
            factor = CRC_BUDGET_FACTOR
        elif self.deframer.check_is_native:
            factor = BUDGET_FACTOR
        self.budget = BUDGET + size * factor
        return 0

    cdef int weight(self, Py_ssize_t at) except -1:
        """How strong the evidence of the whole frame at `at` is, in quarters of what is enough; 0 for a frame that is
        not good.
        """
        cdef Span span
        cdef const uint8_t* payload
        cdef Py_ssize_t size
        cdef bint is_table, is_last
        try:
            if self.deframer.find(self.owner_view, self.data + at, self.size - at, &span):
                return 0
            self.deframer.examine(self.owner_view, self.data + at, &span, True)
        except Exception:
            return 0
        if self.evidence_bytes >= 4:
            return ENOUGH
        payload = self.data + at + span.payload_start
        size = span.payload_end - span.payload_start
        # Zeros behind a frame are what a file system leaves.
        is_last = self.at_end and at + span.frame_end >= self.zero_start
        if not self.is_native:
            if self.deframer.has_transform and self.deframer.locate_is_native:
                # Their lengths agree, and the transform may take anything.
                return ENOUGH // 2 if self.chained is not NULL and contains(self.chained, at) else ENOUGH // 4
            # A deframer written in Python knows its frames better than this search does.
            return ENOUGH if is_last else ENOUGH // 2
        is_table = not self.deframer.has_transform and is_table_root(payload, size)
        if not self.evidence_bytes:
            if is_table and self.chained is not NULL and contains(self.chained, at):
                return ENOUGH
            return ENOUGH // 2 if is_table or is_vector_root(payload, size) else 0
        # How strong a checksum written in Python is, is unknown: small numbers often have the right sum.
        if self.evidence_bytes >= 2 and (is_table or (is_last and self.deframer.check_is_native)):
            return ENOUGH
        return ENOUGH // 4 if self.evidence_bytes == 1 else ENOUGH // 2

    cdef bint begins_row(self, Py_ssize_t begin) except -1:
        """Whether good frames follow one another from `begin` on that are enough evidence together."""
        cdef Py_ssize_t here = begin, size
        cdef int weight, sum = 0, idle = 0
        while True:
            size = self.frame_size(here)
            if size <= 0:
                if size == UNDECIDED:
                    self.undecided = min(self.undecided, begin)
                return False
            self.budget -= FRAME_COST + (size if self.evidence_bytes else 0)
            if self.budget < 0:
                return False
            if self.is_evidence(here, size):
                weight = self.weight(here)
                if not weight:
                    return False
                sum += weight
                if sum >= ENOUGH:
                    return True
                idle = 0
            else:
                # Empty frames stand between others; a row does not begin with them, nor consist of them.
                idle += 1
                if here == begin or idle > MAX_IDLE_FRAMES:
                    return False
                if self.is_native and not self.evidence_bytes:
                    if size > LENGTH_SIZE:
                        return False
                elif not self.weight(here):
                    return False
            here += size

    cdef int mark_chains(self, Py_ssize_t tear) except -1:
        """Adds to the set `chained` the offsets at which a chain of frames begins that ends where the data end and does
        not lead over `tear`.
        """
        cdef Py_ssize_t at, size, begin, end = self.size
        add(self.chained, end)
        while end > 0:
            PyErr_CheckSignals()
            begin = max(end - BLOCK, 0)
            if begin < tear < end:
                begin = tear
            if self.locates_natively:
                chain_block(self.view, &self.format, begin, end, self.chained)
            else:
                for at in range(end - 1, begin - 1, -1):
                    size = self.frame_size(at)
                    if size > 0 and contains(self.chained, at + size):
                        add(self.chained, at)
            if begin == tear:
                remove(self.chained, tear)
            end = begin
        return 0

    cdef Py_ssize_t find_chain(self, Py_ssize_t begin, Py_ssize_t end) except -2:
        """The first offset from `begin` on and before `end` at which good frames begin that lead exactly to the end of
        the stream; -1 if there is none. Only for deframers without a checksum, whose chains are marked.
        """
        cdef Py_ssize_t at
        for at in range(begin, end):
            if at % BLOCK == 0:
                PyErr_CheckSignals()
            if contains(self.chained, at) and self.begins_row(at):
                return at
        return -1

    cdef Py_ssize_t find(self, Py_ssize_t begin, Py_ssize_t longest, Py_ssize_t usual) except -2:
        """The nearest offset from `begin` on at which intact frames begin; -1 if there is none, or, if `stopped`, none
        was found. `longest` is the length of the longest payload seen, and `usual` that of most of them, or 0.
        """
        cdef Py_ssize_t found, at, size
        found = self.find_before(begin, self.size, longest, usual)
        if found >= 0 or self.budget >= 0:
            return found
        # Not all offsets were looked at.
        self.undecided = min(self.undecided, begin)
        if self.size - begin <= RETRY_BLOCK:
            self.stopped = True
            return -1
        for at in range(begin, self.size, RETRY_BLOCK):
            size = min(RETRY_BLOCK, self.size - at)
            self.grant(size)
            found = self.find_before(at, at + size, longest, usual)
            if found >= 0:
                self.stopped = False
                return found
            if self.budget < 0:
                self.stopped = True
        return -1

    cdef Py_ssize_t find_before(
        self, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t longest, Py_ssize_t usual
    ) except -2:
        """The nearest offset from `begin` on and before `end` at which intact frames begin; -1 if there is none. (If
        the budget is spent: the nearest one found so far.)
        """
        cdef Py_ssize_t at, found = -1
        cdef Scan scan
        cdef int followed
        if not self.is_native:
            for at in range(begin, end):
                PyErr_CheckSignals()
                if self.begins_row(at):
                    return at
                if self.budget < 0:
                    return -1
            return -1
        scan.longest = 0
        scan.least = 0
        scan.ranges = &self.ranges if self.has_ranges else NULL
        if not self.evidence_bytes:
            scan.low = -1
            scan.high = MAX_PAYLOAD_LEN
            scan.followed = ANY
            return self.find_in_pass(begin, end, &scan)
        if usual and not self.has_ranges:
            # Frames that are about as long as most are, and followed by such a length.
            usual = min(usual, MAX_PAYLOAD_LEN)
            scan.followed = True
            scan.least = usual - usual // 8
            scan.low = scan.least - 1
            scan.high = usual + usual // 8
            found = self.find_in_pass(begin, end, &scan)
            if found >= 0:
                end = found
            scan.least = 0
        for followed in (True, False):
            scan.followed = followed
            scan.low = -1
            scan.high = max(FIRST_CLASS, 4 * min(longest, MAX_PAYLOAD_LEN))
            # The first pass, which is over all offsets that the others are, finds the longest frame.
            while scan.low < 0 or scan.low < scan.longest:
                if self.budget < 0:
                    return found
                at = self.find_in_pass(begin, end, &scan)
                if at >= 0:
                    found = end = at
                scan.low = scan.high
                scan.high *= CLASS_FACTOR
        return found

    cdef Py_ssize_t find_in_pass(self, Py_ssize_t begin, Py_ssize_t end, Scan* scan) except -2:
        """`find` for the frames of one pass, before `end`."""
        cdef Py_ssize_t stop
        cdef bint is_candidate
        scan.at = begin
        scan.at_end = self.at_end
        while scan.at < end:
            PyErr_CheckSignals()
            scan.budget = self.budget
            scan.undecided = self.undecided
            stop = min(end, scan.at + BLOCK)
            with nogil:
                is_candidate = next_candidate(self.data, self.size, stop, &self.format, scan)
            self.budget = scan.budget
            self.undecided = scan.undecided
            if is_candidate:
                if self.begins_row(scan.at):
                    return scan.at
                scan.at += 1
            if self.budget < 0:
                return -1
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
            if fs_popcount(load_u32(self.data + tear) ^ <uint32_t>(rest - span.payload_start)) != 1:
                return False
        try:
            self.deframer.examine(self.owner_view, self.data + tear, &span, True)
        except Exception:
            return False
        return True


class SearchStoppedError(Exception):
    """The data are so full of plausible lengths that the search for intact frames had to stop."""


cdef Py_ssize_t found_or_stopped(Search search, Py_ssize_t found) except -2:
    if search.stopped:
        raise SearchStoppedError
    return found


def find_intact_frame(Deframer deframer not None, buffer, Py_ssize_t tear, Py_ssize_t longest=0):
    """Looks for a frame that cutting the stream at `tear` would remove.

    Parameters
    ----------
    deframer : Deframer
        Finds and checks the frames. Its observers are not called.
    buffer : bytes-like
        The last bytes of the stream, up to its end.
    tear : int
        The offset in `buffer` of the frame that is not whole. Without a checksum, the bytes before it are searched too,
        for frames that reach over it: there a wrong length may not be noticed at once.
    longest : int
        See `find_next_frames`.

    Returns
    -------
    int or None
        The offset in `buffer` of the nearest intact frame; `tear` itself if only the length of that frame is wrong.

    Raises
    ------
    SearchStoppedError
        The data are so full of plausible lengths that there may be an intact frame that was not found.
    """
    cdef Search search = Search.__new__(Search)
    cdef Py_ssize_t found = -1
    search.prepare(deframer, buffer, True, tear)
    if deframer.check_is_native:
        search.budget = BUDGET + search.size * GUARD_BUDGET_FACTOR
    if not 0 <= tear <= search.size:
        raise ValueError(f"tear must lie inside the buffer of {search.size} bytes, got {tear}")
    if search.is_whole_with_a_wrong_length(tear):
        return tear
    if not search.evidence_bytes:
        found = search.find_chain(0, tear)
    if found < 0 and tear < search.size:
        found = found_or_stopped(search, search.find(tear + 1, longest, longest))
    return None if found < 0 else found


def find_frames(Deframer deframer not None, buffer, Py_ssize_t begin, bint at_end, Py_ssize_t longest):
    """`find_next_frames` that returns the offset or None, and raises SearchStoppedError where that gives up."""
    cdef Search search = Search.__new__(Search)
    cdef Py_ssize_t found
    search.prepare(deframer, buffer, at_end)
    if not 0 <= begin <= search.size:
        raise ValueError(f"begin must lie inside the buffer of {search.size} bytes, got {begin}")
    found = found_or_stopped(search, search.find(begin, longest, longest))
    return None if found < 0 else found


cpdef (Py_ssize_t, Py_ssize_t) find_next_frames(
    Deframer deframer, object buffer, Py_ssize_t begin, bint at_end, Py_ssize_t longest, Py_ssize_t usual=0
) except *:
    """The nearest offset from `begin` on at which intact frames begin, enough of them to be no accident.

    One frame is enough with a checksum of 4 bytes or more; with a shorter one, several in a row are, or one that ends
    where the stream ends, or one whose payload looks like a message. Without a checksum, payloads must look like
    messages: those of several frames in a row, or of one from which frame follows frame to the end of the stream.

    Parameters
    ----------
    deframer : Deframer
        Finds and checks the frames. Its observers are not called, and what it raises is not passed on.
    buffer : bytes-like
        The bytes to search. Nothing is copied.
    begin : int
        The first offset that is a possible answer.
    at_end : bool
        Whether the stream ends where `buffer` ends.
    longest : int
        The length of the longest payload of the stream seen so far, 0 for none. Much longer frames are examined last.
    usual : int, optional
        The length of most payloads seen so far, 0 if that is not known. Such frames are examined first.

    Returns
    -------
    found : int
        The offset in `buffer`; -1 if none was found. With a CRC, there is none then. With another checksum, the data
        may be so full of plausible lengths that not all could be examined (in about two seconds for 16 MiB). Of each
        mebibyte, those of usual lengths were.
    undecided : int
        The first offset that more bytes could turn into an answer, or ``len(buffer)``.

    Raises
    ------
    ValueError, TypeError, BufferError
        An argument is wrong. Damage raises nothing.
    """
    cdef Search search
    cdef Py_ssize_t found
    if deframer is None:
        raise TypeError("deframer must be an instance of Deframer, got None")
    search = Search.__new__(Search)
    search.prepare(deframer, buffer, at_end)
    if not 0 <= begin <= search.size:
        raise ValueError(f"begin must lie inside the buffer of {search.size} bytes, got {begin}")
    if longest < 0:
        raise ValueError(f"longest must not be negative, got {longest}")
    if usual < 0:
        raise ValueError(f"usual must not be negative, got {usual}")
    found = search.find(begin, longest, usual or longest)
    return found, search.size if at_end else search.undecided


def has_wrong_length(Deframer deframer not None, buffer):
    """Whether `buffer` is one frame of which only the length is wrong: the rest of it has the checksum that it stores.
    (Only with a built-in checksum. With CRC-16, the length must differ in a single bit.)
    """
    cdef Search search = Search.__new__(Search)
    search.prepare(deframer, buffer, False)
    return bool(search.is_whole_with_a_wrong_length(0))


def evidence_bytes_of(Deframer deframer not None):
    """The size of the checksum that each frame matches, in bytes; 0 if there is none."""
    return deframer.evidence_bytes()


def header_size_of(Deframer deframer not None):
    """The size of a frame's header, in bytes; None if the ``locate`` of `deframer` is written in Python."""
    cdef HeaderFormat format
    if not deframer.locate_is_native:
        return None
    deframer.get_format(&format)
    return format.header_size


def trailing_zeros(const unsigned char[::1] data not None):
    """How many of the last bytes of `data` are zero."""
    cdef Py_ssize_t size = data.shape[0]
    return zeros_before(&data[0], size) if size else 0


def largest_of(const long long[::1] numbers not None):
    """The largest of the numbers, or 0."""
    cdef long long largest = 0
    cdef Py_ssize_t i
    for i in range(numbers.shape[0]):
        largest = max(largest, numbers[i])
    return largest
