from libc.stdint cimport uint8_t


# What sees the frames that a writer hands to its sink. The base class does nothing with them.
#
# The writer calls these methods while it is held, when all that it counts is right: the frames that are seen are
# accepted, and `hand_over` follows when the sink has them. None of them may write to the writer. The numbers and the
# offsets are those of this writer, the description included in the offsets, and not in the numbers.
cdef class FrameWatcher:
    # Whether what is stored are the messages themselves. Otherwise each comes through `see_message`, none by
    # `see_frames`.
    cdef readonly bint sees_stored

    # `count` frames that follow one another at `data`, and where their payloads begin and how long they are. An error
    # is the watcher's own business.
    cdef int see_frames(
        self, const uint8_t* data, const long long* starts, const long long* sizes, Py_ssize_t count,
        Py_ssize_t head_size, unsigned long long number, unsigned long long offset,
    ) noexcept
    # Frames in the buffer of a writer, the first of which begins at `begin`, and where each ends.
    cdef int see_buffer(
        self, const uint8_t* data, Py_ssize_t begin, const Py_ssize_t* ends, Py_ssize_t count,
        unsigned long long number, unsigned long long offset,
    ) noexcept
    # One frame, of two pieces, and its message.
    cdef int see_message(
        self, const uint8_t* message, Py_ssize_t length, const uint8_t* head, Py_ssize_t head_size,
        const uint8_t* body, Py_ssize_t body_size, unsigned long long number, unsigned long long offset,
    ) noexcept
    # The sink has all frames that were accepted: the next one has this number and begins at this offset. Only what a
    # signal handler raises may come out of it.
    cdef int hand_over(self, unsigned long long number, unsigned long long offset) except -1
    # No more frames come. It is called again if a signal handler raised in it.
    cdef int conclude(self) except -1
