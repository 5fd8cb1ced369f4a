"""The messages of a stream as objects, which a serializer makes."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.math cimport INFINITY

from flatstream._core.base.pickling cimport refuse_pickling
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.losses cimport ON_ERROR_RAISE, ON_ERROR_STOP

from flatstream._core.stream.decoder import FIRST_FAILED


@cython.final
@cython.auto_pickle(False)
cdef class ObjectIterator:
    """The messages of a decoder as objects; see `StreamReader.objects`.

    A class and not a generator, because a generator ends once it has raised: after an error this iterator continues
    with the next message.

    Parameters
    ----------
    decoder : Decoder
        The source of the messages.
    loads : callable
        Makes an object of a payload.
    refusals : tuple of exception types
        What `loads` raises for a payload that it cannot load. It is damage then, with which `on_error` says what to do.
    refusal : callable
        ``refusal(error)`` gives the FlatStreamError for such a payload.
    on_error : str, optional
        See `StreamReader`; by default what the decoder does.
    """
    cdef Decoder decoder
    cdef object loads
    cdef tuple refusals
    cdef object refusal
    cdef int mode
    cdef bint stopped

    def __init__(self, Decoder decoder not None, loads, tuple refusals not None, refusal, on_error=None):
        self.mode = decoder.mode_of(on_error)
        self.loads = loads
        self.refusals = refusals
        self.refusal = refusal
        self.decoder = decoder

    def __iter__(self):
        return self

    def __reduce__(self):
        refuse_pickling(self, "it reads a stream of this process")

    def __next__(self):
        cdef Decoder decoder = self.decoder
        cdef unsigned long long offset, frame, end = 0
        if decoder is None:
            raise TypeError("ObjectIterator.__init__ was not called")
        while not self.stopped:
            payload = decoder.next_payload(self.mode)
            if payload is None:
                payload = decoder.awaited_payload(self.mode, INFINITY)
                if payload is None:
                    break
            # Before the call: `loads` may read from this stream.
            offset = decoder.last_offset
            frame = decoder.delivered + decoder.refused_before - 1
            state = decoder.state_before
            if self.mode != ON_ERROR_RAISE:
                end = decoder.end_of_last(PyMemoryView_GET_BUFFER(payload).len)
            try:
                return self.loads(payload)
            except self.refusals as error:
                self.refuse(decoder, error, offset, end, frame, state)
        raise StopIteration

    cdef int refuse(
        self, Decoder decoder, object error, unsigned long long offset, unsigned long long end,
        unsigned long long frame, object state
    ) except -1:
        """Does what `on_error` says with a payload that could not be loaded. Its frame is from `offset` to `end`."""
        made = self.refusal(error)
        if made.offset is None:
            made.offset, made.frame = offset, frame
            if not frame:
                made.add_note(FIRST_FAILED)
        if self.mode == ON_ERROR_RAISE:
            if made is error:
                raise made
            raise made from error
        if self.mode == ON_ERROR_STOP:
            decoder.stop_before(made, offset, end, end, 1, state)
            self.stopped = True
        else:
            decoder.losses.add(offset, end)
        # This loop can go on for long without running Python code.
        PyErr_CheckSignals()
        return 0
