# cython: boundscheck=False, wraparound=False
"""The result of reading many frames at once."""

import operator

from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport IndexArray, slice_view
from flatstream._core.base.pickling cimport refuse_pickling


cdef class FrameBatch:
    """The payloads of many frames in one chunk: a sequence of read-only memoryviews.

    Attributes
    ----------
    buffer : memoryview
        The bytes of all these frames, headers included. It shares the memory of the chunk, which does not change while
        a view of it is held. If the deframer restores payloads (a transform), their bytes alone, one after another, in
        memory that belongs to the batch.
    offsets, lengths : memoryview of int64, shape (n,)
        Where each payload begins in `buffer`, and its size in bytes. NumPy takes them without a copy.
    stream_offset : int
        The stream offset of the first frame.
    frame_offsets : memoryview of int64, shape (n,)
        The stream offset of each frame.
    skipped, lost_bytes, lost_ranges : int, int, list of (int, int)
        What was left out because of damage since the batch before, or since reading began; see `StreamReader`. None of
        it lies between frames of this batch.
    """

    def __cinit__(self):
        self.starts = IndexArray.__new__(IndexArray)
        self.sizes = IndexArray.__new__(IndexArray)
        self.buffer = memoryview(b"")

    def __init__(self):
        raise TypeError("a FrameBatch is made by StreamReader.read_batch")

    @property
    def frame_offsets(self):
        """The stream offset of each frame: a memoryview of int64, shape (n,)."""
        cdef Py_ssize_t i, count = self.starts.length
        cdef IndexArray places
        if self.places is None:
            places = IndexArray.__new__(IndexArray)
            places.reserve(count)
            for i in range(count):
                places.data[i] = <long long>self.begin_of(i)
            places.length = count
            self.places = places
        return PyMemoryView_FromObject(self.places)

    @property
    def lost_bytes(self):
        """How many bytes were left out since the batch before."""
        return sum(end - start for start, end in self.losses or ())

    @property
    def lost_ranges(self):
        """Where they are: a list of (start, end), in stream offsets."""
        return list(self.losses or ())

    def __len__(self):
        return self.starts.length

    def __getitem__(self, index):
        cdef Py_ssize_t i
        if isinstance(index, slice):
            return [self.view(i) for i in range(*index.indices(self.starts.length))]
        number = operator.index(index)
        if not -self.starts.length <= number < self.starts.length:
            raise IndexError(f"frame {index} of a batch of {self.starts.length}")
        i = number
        if i < 0:
            i += self.starts.length
        return self.view(i)

    def __iter__(self):
        cdef Py_ssize_t i
        for i in range(self.starts.length):
            yield self.view(i)

    def __repr__(self):
        return f"<FrameBatch of {self.starts.length} frames at stream offset {self.stream_offset}>"

    def __reduce__(self):
        refuse_pickling(self, "its payloads are views of memory; take bytes(payload) of each")

    cdef object view(self, Py_ssize_t i):
        return slice_view(
            self.buffer,
            <const uint8_t*>PyMemoryView_GET_BUFFER(self.buffer).buf + self.starts.data[i],
            <Py_ssize_t>self.sizes.data[i],
        )

    def _range_of(self, Py_ssize_t i):
        """Where frame `i`, counted from 0, begins and ends in the stream."""
        if not 0 <= i < self.starts.length:
            raise IndexError(f"frame {i} of a batch of {self.starts.length}")
        return self.begin_of(i), self.end_of(i)

    cdef unsigned long long begin_of(self, Py_ssize_t i) noexcept:
        """The stream offset of frame `i`."""
        if self.places is not None:
            return <unsigned long long>self.places.data[i]
        return self.stream_offset + <unsigned long long>(self.starts.data[i] - self.starts.data[0])

    cdef unsigned long long end_of(self, Py_ssize_t i) noexcept:
        """The stream offset at which frame `i` ends. (Inside of a batch, frames follow one another.)"""
        return self.begin_of(i + 1) if i + 1 < self.starts.length else self.frames_end

    cdef int tell_losses(self, unsigned long long skipped, list ranges) except -1:
        """Stores what was lost before this batch."""
        self.skipped = skipped
        self.losses = ranges
        return 0

    cdef int reserve(self, Py_ssize_t capacity) except -1:
        """Makes room for the index of `capacity` frames."""
        self.starts.reserve(capacity)
        self.sizes.reserve(capacity)
        if self.places is not None:
            self.places.reserve(capacity)
        return 0
