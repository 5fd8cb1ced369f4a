"""The interface of what watches the frames of a writer."""

cimport cython


@cython.auto_pickle(False)
cdef class FrameWatcher:
    """Sees the frames that a writer hands to its sink; see the header."""

    cdef int see_frames(
        self, const uint8_t* data, const long long* starts, const long long* sizes, Py_ssize_t count,
        Py_ssize_t head_size, unsigned long long number, unsigned long long offset,
    ) noexcept:
        return 0

    cdef int see_buffer(
        self, const uint8_t* data, Py_ssize_t begin, const Py_ssize_t* ends, Py_ssize_t count,
        unsigned long long number, unsigned long long offset,
    ) noexcept:
        return 0

    cdef int see_message(
        self, const uint8_t* message, Py_ssize_t length, const uint8_t* head, Py_ssize_t head_size,
        const uint8_t* body, Py_ssize_t body_size, unsigned long long number, unsigned long long offset,
    ) noexcept:
        return 0

    cdef int hand_over(self, unsigned long long number, unsigned long long offset) except -1:
        return 0

    cdef int conclude(self) except -1:
        return 0

    def __reduce__(self):
        raise TypeError(f"a {type(self).__name__} can be neither pickled nor copied: it belongs to one writer")
