from cpython.object cimport PyObject

from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.encoder cimport Encoder


cdef class Step:
    cdef object inner
    cdef bint is_ended

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


cdef class AsyncEncoder:
    cdef Encoder encoder
    cdef bint is_gated
    cdef bint is_scheduled


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
