# cython: boundscheck=False, wraparound=False
"""The result of reading many frames at once."""

import operator

from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport IndexArray, slice_view
from flatstream._core.base.pickling cimport refuse_pickling


cdef class FrameBatch:
    """The payloads of many frames in one chunk: a sequence of read-only memoryviews.

    Attributes
    ----------
    buffer : memoryview
        The bytes of all these frames, headers included. It shares the memory of the chunk, which does not change while
        a view of it is held.
    offsets, lengths : memoryview of int64, shape (n,)
        Where each payload begins in `buffer`, and its size in bytes. NumPy takes them without a copy.
    stream_offset : int
        The stream offset of ``buffer[0]``.
    """

    def __cinit__(self):
        self.starts = IndexArray.__new__(IndexArray)
        self.sizes = IndexArray.__new__(IndexArray)
        self.buffer = memoryview(b"")

    def __init__(self):
        raise TypeError("a FrameBatch is made by StreamReader.read_batch")

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

    cdef int reserve(self, Py_ssize_t capacity) except -1:
        """Makes room for the index of `capacity` frames."""
        self.starts.reserve(capacity)
        self.sizes.reserve(capacity)
        return 0
