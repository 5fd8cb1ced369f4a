from cpython.object cimport PyObject

from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.encoder cimport Encoder


cdef class Step:
    cdef object inner
    cdef bint is_ended
    cdef bint is_running

    cdef int check_idle(self) except -1
    cdef str describe_unused(self)
    cdef object send_value(self, object value)
    cdef int attempt(self, PyObject** result) except -1
    cdef int finish(self) except -1


cdef class NextItem(Step):
    cdef AsyncItems source
    # Whether the end is StopAsyncIteration. Otherwise None is returned.
    cdef bint is_iterating


cdef class AsyncItems:
    cdef object items
    cdef Decoder decoder
    cdef object reader
    # How many items it gives at most; negative: any number.
    cdef Py_ssize_t left
    # The last step, which is used again if nobody else has it.
    cdef NextItem idle


cdef class Refilled:
    cdef object items
    cdef Py_ssize_t given


cdef class AsyncEncoder:
    cdef Encoder encoder
    # Whether a write has to ask `_room` first, and whether `_schedule` was called.
    cdef bint is_gated
    cdef bint is_scheduled
    # As in AsyncItems.
    cdef WriteOne idle


cdef class WriteStep(Step):
    cdef AsyncEncoder writer
    cdef object argument

    cdef bint waits(self) except -1
    cdef object put(self, Encoder encoder)


cdef class WriteOne(WriteStep):
    pass


cdef class WriteCall(WriteStep):
    cdef object function
    cdef dict options


cdef class WriteMany(WriteStep):
    cdef Py_ssize_t position
    cdef bint is_sequence
    cdef bint is_begun
