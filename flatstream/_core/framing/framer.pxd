from libc.stdint cimport uint8_t, uint32_t

from flatstream._core.base.endian cimport low_bytes, store_le, store_u32
from flatstream._core.checksums.checksum cimport Checksum
from flatstream._core.framing.validator cimport Validator
from flatstream._core.framing.wire cimport LENGTH_SIZE, HeaderFormat


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* Copies payloads of 16 to 128 bytes inline; the last 16 bytes overlap those before. A call of memcpy takes longer
     * than such a copy (write_payloads of 64 bytes: F5 of asv_benchmarks/framing.py). */
    static inline void fs_copy(uint8_t *to, const uint8_t *from, size_t size) {
        if (size - 16 <= 112) {
            size_t last = size - 16;
            for (size_t i = 0; i < last; i += 16) memcpy(to + i, from + i, 16);
            memcpy(to + last, from + last, 16);
        } else {
            memcpy(to, from, size);
        }
    }
    """
    void fs_copy(uint8_t* to, const uint8_t* data, size_t size) noexcept nogil


cdef struct FrameRun:
    # A cursor for frames that are made where they will lie. `start_run` sets it.
    HeaderFormat format
    # Ends of frames are counted from here.
    uint8_t* base
    # The next frame begins at `out`, and `room` bytes are left for it.
    uint8_t* out
    Py_ssize_t room
    # Where to store the end of the next frame, and how many ends can still be stored.
    Py_ssize_t* end
    Py_ssize_t slots
    # The number of frames made so far.
    Py_ssize_t count


cdef struct FrameEnds:
    # The output of `frame_payloads_into`: `used` bytes of the memory are taken, and `ends[:count]` is where the frames
    # in it end. There is room for `capacity` ends.
    Py_ssize_t* ends
    Py_ssize_t count
    Py_ssize_t capacity
    Py_ssize_t used


cdef inline void start_run(
    FrameRun* run, const HeaderFormat* format, uint8_t* base, Py_ssize_t capacity, const FrameEnds* ends
) noexcept nogil:
    """Sets the cursor to the first free byte of the `capacity` bytes at `base`."""
    run.format = format[0]
    run.base = base
    run.out = base + ends.used
    run.room = capacity - ends.used
    run.end = ends.ends + ends.count
    run.slots = ends.capacity - ends.count
    run.count = 0


cdef inline uint8_t* payload_room(FrameRun* run, Py_ssize_t length) noexcept nogil:
    """Where to put the next frame's payload of `length` bytes, or NULL if there is no room for it.

    The bytes become a frame only by `end_frame`; a second call of this function discards them.
    """
    if (
        length > run.format.max_length or length < run.format.min_length
        or length > run.room - run.format.header_size or not run.slots
    ):
        return NULL
    return run.out + run.format.header_size


cdef inline void end_frame(FrameRun* run, Py_ssize_t length) noexcept nogil:
    """Makes a frame of the `length` bytes that were put at the result of `payload_room`."""
    cdef Py_ssize_t size = run.format.header_size + length
    store_u32(run.out, <uint32_t>length)
    if run.format.kernel is not NULL:
        store_le(
            run.out + LENGTH_SIZE,
            low_bytes(
                run.format.kernel(run.out + run.format.header_size, <size_t>length), run.format.checksum_size
            ),
            run.format.checksum_size,
        )
    run.out += size
    run.room -= size
    run.end[0] = run.out - run.base
    run.end += 1
    run.slots -= 1
    run.count += 1


cdef Py_ssize_t frame_payloads_into(
    object payloads, Py_ssize_t first, const HeaderFormat* format, unsigned char[::1] out, FrameEnds* ends
) noexcept


cdef class Framer:
    # frame_and_write() of this class or of an inner framer is Python's, and must be called for each frame.
    cdef bint in_python
    # Something in the chain needs the payload as a memoryview.
    cdef bint needs_view
    # Something in the chain is a transform (transform.pyx): it frames other bytes than those of the payload.
    cdef bint has_transform
    cdef int depth
    cdef int examine(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1
    cdef Py_ssize_t header(self, object owner_view, const uint8_t* data, Py_ssize_t length, uint8_t* out) except -1


cdef class DefaultFramer(Framer):
    pass


cdef class ChecksumFramer(Framer):
    cdef Checksum _checksum
    cdef Py_ssize_t size


cdef class FramerAdapter(Framer):
    cdef Framer _inner
    cdef int adapt(self, object inner) except -1
    cdef int check_inner(self) except -1
    cdef object around(self, object inner)
    cdef object converted(self, object owner_view)


cdef class BoundedFramer(FramerAdapter):
    cdef readonly Py_ssize_t max_len


cdef class NonEmptyFramer(FramerAdapter):
    pass


cdef class ObserverFramer(FramerAdapter):
    cdef readonly object callback


cdef class ValidatingFramer(FramerAdapter):
    cdef Validator _validator


cdef class FrameCollector:
    cdef bytearray data
    cdef bint done

cdef bytes collect_frame(Framer framer, object payload)
cdef bint get_framer_format(Framer framer, HeaderFormat* format) noexcept
cdef object copied_attributes(object adapter, object base, tuple args)
cdef object make_transform(str name, object inner, tuple args, dict options)
cdef int check_callable(object callback) except -1
cdef Py_ssize_t checked_limit(str name, object value) except -1
cdef int checked_depth(int depth, object already) except -1
