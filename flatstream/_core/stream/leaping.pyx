# cython: boundscheck=False, wraparound=False
"""Leaping from frame to frame by their headers alone, without reading payloads.

Nothing is checked but that each length is one that the deframer accepts: a wrong length that is accepted leads astray,
as it does with any reader. So this serves to cut a stream into pieces, which are then read and checked by a reader.
"""

from typing import NamedTuple

from flatstream._core.base.checks cimport checked_int
from flatstream._core.base.endian cimport load_u32
from flatstream._core.framing.deframer cimport Deframer
from flatstream._core.framing.wire cimport HeaderFormat

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

# From this many bytes on the GIL is released: leaping over frames of 64 bytes takes 10 us for them.
cdef enum:
    RELEASE_FROM_BYTES = 1 << 18

# How much `boundaries` reads at a time: it stays in the processor's caches (Leaping of asv_benchmarks/deframing.py).
cdef enum:
    WINDOW = 1 << 18

# How much it reads where frames are longer than that: there will be one header in it.
cdef enum:
    HEADER_WINDOW = 1 << 12


class Leap(NamedTuple):
    """Where leaping over frames came to.

    Attributes
    ----------
    end : int
        The offset behind the last whole frame.
    frames : int
        The number of whole frames before it.
    needed : int
        How many bytes from `end` on the next frame needs to be whole, as far as that is known: those of its header if
        the header is not whole. 0 if the data, or what was asked for, ends at `end`.
    invalid : bool
        Whether the length in the header at `end` is one that the deframer refuses. Then `needed` is 0.
    """

    end: int
    frames: int
    needed: int
    invalid: bool


cdef struct Position:
    Py_ssize_t place
    Py_ssize_t frames
    Py_ssize_t needed
    bint invalid


cdef int leap_over(
    const unsigned char[::1] data, const HeaderFormat* format, Py_ssize_t stop, Py_ssize_t max_frames,
    Position* position
) noexcept nogil:
    """Moves `position` over the whole frames in `data`: to the first end of a frame at or behind `stop`, and over at
    most `max_frames` frames. Each length is loaded once, so that it is harmless if the data changes meanwhile.
    """
    cdef Py_ssize_t size = data.shape[0], place = position.place, frames = 0, header = format.header_size, length
    cdef Py_ssize_t shortest = format.min_length, longest = format.max_length
    position.needed = 0
    position.invalid = False
    while place < stop and frames < max_frames:
        # `place` is at most `size`. Subtracted, so that no sum can overflow.
        if size - place < header:
            position.needed = header if place < size else 0
            break
        length = load_u32(&data[place])
        if length < shortest or length > longest:
            position.invalid = True
            break
        if length > size - place - header:
            position.needed = header + length
            break
        place += header + length
        frames += 1
    position.place = place
    position.frames += frames
    return 0


cdef int format_of(Deframer deframer, HeaderFormat* format) except -1:
    """Sets `format`, and returns 1, if the headers that this deframer finds have a fixed form."""
    if not deframer.locate_is_native:
        return 0
    deframer.get_format(format)
    # An empty header, as of an object that was never completed, would be leapt over for ever.
    return format.header_size > 0


def leap(
    const unsigned char[::1] data not None, Deframer deframer not None, begin=0, *, stop=None, max_frames=None
):
    """Leaps over the whole frames in `data` by their headers.

    Parameters
    ----------
    data : contiguous buffer of unsigned bytes
        Bytes of a stream.
    deframer : Deframer
        What a reader of the stream finds frames with. Payloads are not checked, restored or counted as messages: of an
        encrypted stream, or one with a description, some frames are none.
    begin : int
        Where in `data` a frame begins.
    stop : int, optional
        Ends at the first end of a frame at or behind this place in `data`. By default the end of the data.
    max_frames : int, optional
        The most frames to leap over.

    Returns
    -------
    Leap or None
        Where it came to, counted from the beginning of `data`. None if frames have no headers of a fixed form: some
        ``locate()`` of the deframer is defined in Python.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, or is outside of the data.
    """
    cdef HeaderFormat format
    cdef Position position
    cdef Py_ssize_t last, size = data.shape[0], count = PY_SSIZE_T_MAX
    if max_frames is not None:
        count = checked_int("max_frames", max_frames, 0, PY_SSIZE_T_MAX)
    if not format_of(deframer, &format):
        return None
    position.place = checked_int("begin", begin, 0, size)
    position.frames = 0
    last = size if stop is None else checked_int("stop", stop, 0, PY_SSIZE_T_MAX)
    if min(last, size) - position.place >= RELEASE_FROM_BYTES:
        with nogil:
            leap_over(data, &format, last, count, &position)
    else:
        leap_over(data, &format, last, count, &position)
    return Leap(position.place, position.frames, position.needed, bool(position.invalid))


cdef Py_ssize_t leap_in_window(
    const unsigned char[::1] data, Py_ssize_t wanted, const HeaderFormat* format, Position* position, Py_ssize_t read,
    Py_ssize_t frames, Py_ssize_t whole, Py_ssize_t step, Py_ssize_t* next_place, list found
) except -1:
    """Moves `position` over the frames in the window `data` at the offset `read`, before which there are `frames`
    frames. Adds the boundaries to `found`, and returns the size of the window.
    """
    cdef Py_ssize_t size = data.shape[0], place
    if size > wanted:
        raise ValueError(f"read_at() was asked for {wanted} bytes and returned {size}")
    position.place = min(position.place, size)
    while True:
        # With the GIL: a window takes 10 us.
        leap_over(data, format, next_place[0] - read, PY_SSIZE_T_MAX, position)
        place = read + position.place
        if place < next_place[0] or next_place[0] == whole:
            return size
        found.append((place, frames + position.frames))
        next_place[0] = place + min(step, whole - place)


def boundaries(read_at, size, Deframer deframer not None, begin=0, every=4 << 20, *, window=WINDOW):
    """Finds where frames begin in a stream, about every `every` bytes, by their headers.

    Parameters
    ----------
    read_at : callable
        ``read_at(offset, size)`` returns a bytes-like object of at most `size` bytes of the stream from that offset on.
        Fewer than there should be mean that the stream ends there.
    size : int
        The size of the stream in bytes.
    deframer : Deframer
        See `leap`.
    begin : int
        The offset of a frame.
    every : int
        The least distance of two boundaries, except that the last one may be nearer. It is the first frame behind this
        distance that counts, so pieces are longer by up to one frame.
    window : int
        How many bytes to read at a time, at least 16. Of longer frames, little more than the headers is read.

    Returns
    -------
    list of (int, int), or None
        Offsets of frames, each with the number of frames between `begin` and it: the first is ``(begin, 0)``, the last
        the end of the last whole frame. If that is not `size`, the stream is torn or damaged there. None as for `leap`.
        Exceptions of `read_at` reach the caller.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type or range; `read_at` returned more than it was asked for.
    """
    cdef HeaderFormat format
    cdef Position position
    cdef Py_ssize_t whole, place, place_before, read, step, room, next_place, wanted, got, known
    cdef bint is_short
    # Frames before `place`.
    cdef Py_ssize_t frames = 0
    if not callable(read_at):
        raise TypeError(f"read_at must be callable, got {type(read_at).__name__}")
    whole = checked_int("size", size, 0, PY_SSIZE_T_MAX)
    place = checked_int("begin", begin, 0, whole)
    step = checked_int("every", every, 1, PY_SSIZE_T_MAX)
    room = checked_int("window", window, 16, 1 << 30)
    if not format_of(deframer, &format):
        return None
    cdef list found = [(place, 0)]
    next_place = place + min(step, whole - place)
    read = place_before = place
    while read < whole:
        if place - read < room:
            # The next place in order, although the beginning of it may be the rest of a frame: 64 KiB frames took 2.5
            # times as long from a disk when only that was left out.
            wanted = min(room, whole - read)
        else:
            # With the last byte of the frame that is passed over, which shows that the stream has it.
            read = place - 1
            wanted = min(HEADER_WINDOW, whole - read)
        part = read_at(read, wanted)
        if part is None:
            raise TypeError("read_at() must return a bytes-like object, got None")
        position.place = place - read
        position.frames = 0
        got = leap_in_window(part, wanted, &format, &position, read, frames, whole, step, &next_place, found)
        # Before the next call: the memory may be used again.
        part = None
        is_short = got < wanted
        known = got - position.place
        if read + position.place < place:
            # The stream was cut inside of the frame before.
            if found[len(found) - 1][0] == place:
                found.pop()
            place = place_before
            frames -= 1
            break
        place = read + position.place
        read += wanted
        frames += position.frames
        if is_short or position.invalid or position.needed > whole - place:
            # The stream is shorter than it was, or no whole frame follows.
            break
        if known >= format.header_size:
            # The next frame ends behind the window.
            place_before = place
            place += position.needed
            frames += 1
            if place >= next_place:
                found.append((place, frames))
                next_place = place + min(step, whole - place)
        elif known:
            # Its header is not whole.
            read = place
    if found[len(found) - 1][0] != place:
        found.append((place, frames))
    return found
