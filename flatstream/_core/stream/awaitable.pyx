# cython: boundscheck=False, wraparound=False
"""Awaitables that end at once when there is nothing to wait for: the compiled part of `flatstream.aio`.

A coroutine for each message would cost more than the message. Here an ``await`` is one object, whose first step looks
for the message, or for room to write one. Only if there is none it goes on to await something of the event loop.

Everything happens in that last step: what is read is taken in it, and what is written is accepted in it. So a task that
is cancelled while it waits has taken nothing from the stream, and has given it nothing.
"""

# States of a step. `state` and `inner` are its fields.
#
# state   | what holds                          | what a send does                       | how it is left
# --------|-------------------------------------|----------------------------------------|------------------------------
# new     | inner is None                       | tries; without success: gets what to   | success, an error, or
#         |                                     | await, and yields what that yields     | `throw`: ended; else waiting
# waiting | inner is the iterator of what is    | passes on to inner; when that returns, | the same
#         | awaited                             | tries again                            |
# ended   | inner is None; nothing is held      | raises RuntimeError                    | never
#
# While a step is being done, code that it calls (an iterator of payloads, a framer) cannot send to it, nor end it.

from types import GenericAlias

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t

from flatstream._core.base.checks cimport checked_int
from flatstream._core.base.pickling cimport refuse_pickling
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.encoder cimport Encoder
from flatstream._core.stream.input_buffer cimport MAX_CAPACITY

cdef extern from "Python.h":
    ctypedef struct PyAsyncMethods:
        void* am_anext
        void* am_send
    ctypedef PyObject* (*iternextfunc)(PyObject*) noexcept
    ctypedef struct TypeSlots "PyTypeObject":
        iternextfunc tp_iternext
        PyAsyncMethods* tp_as_async
    TypeSlots* Py_TYPE(object o)
    PyObject* PyErr_Occurred() noexcept
    int PyErr_ExceptionMatches(PyObject* kind) noexcept
    void PyErr_Clear() noexcept
    PyObject* PyExc_StopIteration
    # 0 with what it returned, 1 with what it yielded, -1 with an exception.
    int PyIter_Send(object iterator, object value, PyObject** result) except -1

cdef extern from *:
    """
    static inline int fs_has_two_references(PyObject *o) {
    #ifdef Py_GIL_DISABLED
        (void)o;
        return 0;
    #else
        return Py_REFCNT(o) == 2;
    #endif
    }
    """
    bint fs_has_two_references(PyObject* o) noexcept

# What a step returns, as C functions for `am_send` do.
cdef enum:
    RETURNED = 0
    YIELDED = 1


@cython.auto_pickle(False)
cdef class Step:
    """One operation that is awaited. Event loops take it for a coroutine, so that it may become a task."""

    def __cinit__(self):
        # Until its maker has filled it.
        self.is_ended = True

    def __init__(self, *args, **kwargs):
        raise TypeError(f"a {type(self).__name__} is made by the readers and writers of flatstream.aio")

    def __del__(self):
        # As coroutines do: an `await` that was forgotten before a write loses the message.
        if not self.is_ended and self.inner is None:
            PyErr_WarnEx(RuntimeWarning, self.describe_unused().encode(), 1)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send_value(None)

    def send(self, value, /):
        """Does a step, as a coroutine's ``send``."""
        return self.send_value(value)

    def throw(self, *arguments):
        """Ends it with an exception, as a coroutine's ``throw``. Nothing was read or written."""
        if not arguments:
            raise TypeError("throw() takes the exception")
        self.check_idle()
        if self.inner is None:
            self.finish()
            error = arguments[1] if len(arguments) > 1 and arguments[1] is not None else arguments[0]
            if isinstance(error, type):
                error = error()
            if not isinstance(error, BaseException):
                raise TypeError(f"throw() takes an exception, got {error!r:.100}")
            raise error
        try:
            yielded = self.inner.throw(*arguments)
        except StopIteration:
            # What is awaited has dealt with it, and is done.
            self.inner = None
        except BaseException:
            self.finish()
            raise
        else:
            return yielded
        return self.send_value(None)

    def close(self):
        """Ends it, as a coroutine's ``close``. Nothing was read or written."""
        self.check_idle()
        inner = self.inner
        self.finish()
        if inner is not None:
            inner.close()

    def __reduce__(self):
        refuse_pickling(self, "it is an operation on a stream of this process")

    cdef object send_value(self, object value):
        cdef PyObject* result = NULL
        cdef int status = send_step(self, value, &result)
        cdef object given = <object>result
        Py_DECREF(given)
        if status == YIELDED:
            return given
        raise StopIteration(given)

    cdef int check_idle(self) except -1:
        if self.is_running:
            raise ValueError("this operation is being done: code that it calls can neither go on with it nor end it")
        return 0

    cdef str describe_unused(self):
        """What it says if it is dropped before it was awaited."""
        return f"a {type(self).__name__} was never awaited"

    cdef int attempt(self, PyObject** result) except -1:
        """Tries. Returns RETURNED with a new reference in `result`, or YIELDED, and then has set `inner`."""
        raise NotImplementedError

    cdef int finish(self) except -1:
        """Lets go of everything that it holds."""
        self.is_ended = True
        self.inner = None
        return 0


cdef int send_step(Step self, object value, PyObject** result) except -1:
    cdef int status
    cdef PyObject* given = NULL
    result[0] = NULL
    self.check_idle()
    if self.is_ended:
        raise RuntimeError("this operation was awaited already: each await needs a call of its own")
    self.is_running = True
    try:
        while True:
            if self.inner is not None:
                status = PyIter_Send(self.inner, value, &given)
                if status == YIELDED:
                    result[0] = given
                    return YIELDED
                Py_DECREF(<object>given)
                given = NULL
                self.inner = None
                value = None
            if self.attempt(result) == RETURNED:
                self.finish()
                return RETURNED
    except BaseException:
        self.finish()
        raise
    finally:
        self.is_running = False


cdef inline bint is_unshared(Step step) noexcept:
    """Whether only the reader or writer that keeps it, and the caller's variable, have a step that has ended.

    It is then used again: making one takes as long as reading a small message (X1 of asv_benchmarks/goals.py).
    """
    return fs_has_two_references(<PyObject*>step)


cdef object awaited(object awaitable):
    """The iterator of what is to be awaited."""
    return awaitable.__await__()


# Reading


@cython.final
@cython.auto_pickle(False)
cdef class NextItem(Step):
    """The next item of an iterator over what a parser has; awaits more bytes for the parser as long as there is none.
    """

    cdef int attempt(self, PyObject** result) except -1:
        cdef AsyncItems source = self.source
        cdef object items, waiting = None
        cdef PyObject* item
        if source is None or source.decoder is None:
            # Cleared by the garbage collector.
            raise ValueError("the reader is gone")
        items = source.items
        if source.left:
            # NULL without an exception is the end of what there is, as is StopIteration.
            item = Py_TYPE(items).tp_iternext(<PyObject*>items)
            if item is not NULL:
                if source.left > 0:
                    source.left -= 1
                result[0] = item
                return RETURNED
            if PyErr_Occurred() is not NULL:
                if not PyErr_ExceptionMatches(PyExc_StopIteration):
                    return raise_current()
                PyErr_Clear()
            # A parser that stopped at damage gives nothing more, however many bytes come.
            if not source.decoder.stopped:
                waiting = (source if source.reader is None else source.reader)._more()
        if waiting is None:
            if self.is_iterating:
                raise StopAsyncIteration
            Py_INCREF(None)
            result[0] = <PyObject*>None
            return RETURNED
        self.inner = awaited(waiting)
        return YIELDED

    cdef str describe_unused(self):
        return f"an operation of {type(self.source).__name__} was never awaited: it has read nothing"

    cdef int finish(self) except -1:
        self.is_ended = True
        self.inner = None
        self.source = None
        return 0


cdef int raise_current() except -1:
    """Raises the exception that a C function has set."""
    return -1


@cython.auto_pickle(False)
cdef class AsyncItems:
    """An asynchronous iterator over the items of an iterator.

    Parameters
    ----------
    items : iterator
        Gives items as long as `decoder` has the bytes for them, and then ends until it has more.
    decoder : Decoder
        The parser that the items come from.
    reader : object, optional
        Its ``_more()`` returns an awaitable that ends when `decoder` has got more bytes, or None at the end of the
        stream. By default it is the instance itself.
    limit : int, optional
        After so many items it ends, and so does `items`.
    """

    def __init__(self, items, decoder, reader=None, limit=None):
        if Py_TYPE(items).tp_iternext is NULL:
            raise TypeError(f"items must be an iterator, got {type(items).__name__}")
        if not isinstance(decoder, Decoder):
            raise TypeError(f"decoder must be a Decoder, got {type(decoder).__name__}")
        self.items = items
        self.decoder = decoder
        self.reader = reader
        self.left = -1 if limit is None else checked_int("limit", limit, 0, MAX_CAPACITY)

    def __aiter__(self):
        return self

    def __anext__(self):
        return next_item(self, True)

    def __reduce__(self):
        refuse_pickling(self, "it reads a stream of this process")

    @classmethod
    def __class_getitem__(cls, item, /):
        """The class itself, with the type of its items for type checkers."""
        return GenericAlias(cls, item)

    def _next_or_none(self):
        """`__anext__` that gives None at the end."""
        return next_item(self, False)

    @property
    def _has_stopped(self):
        """Whether the last operation ended at damage, as ``on_error="stop"`` says."""
        return self.decoder is not None and self.decoder.stopped

    @property
    def _awaits_description(self):
        """Whether it is not known yet if the stream begins with a description."""
        cdef Decoder decoder = self.decoder
        if decoder is None or decoder.shut:
            return False
        return decoder.is_ahead and decoder.failure is None and decoder.deferred is None


@cython.final
@cython.auto_pickle(False)
cdef class Refilled:
    """An iterator over the items of one iterable after another: it ends, and goes on when it was filled again."""

    def __init__(self):
        self.items = iter(())

    def __iter__(self):
        return self

    def __next__(self):
        # `next` raises StopIteration.
        item = next(self.items)
        self.given += 1
        return item

    def _refill(self, items, /):
        """Gives the items of an iterable from now on."""
        self.items = iter(items)
        self.given = 0

    @property
    def _given(self):
        """How many of them were given."""
        return self.given

    def __reduce__(self):
        refuse_pickling(self, "it reads a stream of this process")


cdef NextItem next_item(AsyncItems source, bint is_iterating):
    cdef NextItem step = source.idle
    if step is None or not step.is_ended or not is_unshared(step):
        if source.decoder is None:
            raise ValueError(f"{type(source).__name__}.__init__ was not called")
        step = NextItem.__new__(NextItem)
        source.idle = step
    step.is_ended = False
    step.source = source
    step.is_iterating = is_iterating
    return step


# Writing


@cython.auto_pickle(False)
cdef class AsyncEncoder:
    """Writes to an encoder whose sink never blocks: a write waits, before it begins, until the sink may take more.

    A subclass has ``_room()``, which returns what a write has to await, or None if it need not; and ``_schedule()``,
    which has the encoder's buffer handed over soon.
    """

    def __init__(self, encoder):
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder must be an Encoder, got {type(encoder).__name__}")
        self.encoder = encoder

    @property
    def _is_gated(self):
        """Whether a write has to ask `_room` first."""
        return self.is_gated

    @_is_gated.setter
    def _is_gated(self, bint value):
        self.is_gated = value

    @property
    def _is_scheduled(self):
        """Whether `_schedule` was called, and what it has scheduled was not done yet."""
        return self.is_scheduled

    @_is_scheduled.setter
    def _is_scheduled(self, bint value):
        self.is_scheduled = value

    @cython.binding(False)
    @cython.embedsignature(True)
    @cython.embedsignature.format("clinic")
    def write_payload(self, payload, /):
        """Writes a finished message, any C-contiguous buffer of at most 2**32 - 1 bytes.

        The bytes may be changed as soon as it was awaited.
        """
        cdef WriteOne step = self.idle
        if step is None or not step.is_ended or not is_unshared(step):
            step = WriteOne.__new__(WriteOne)
            self.idle = step
        step.is_ended = False
        step.writer = self
        step.argument = payload
        return step

    def write_payloads(self, payloads, /):
        """Writes each of `payloads`, an iterable of bytes-like objects, in order.

        It waits between them, too, so that the memory that it needs does not grow with their number. If it is
        cancelled, or one of them is refused, those before it are written; `frames_written` says how many. An iterator
        has given no more than those, and the one that was refused.
        """
        cdef WriteMany step
        if isinstance(payloads, (bytes, bytearray, memoryview, str)) or not hasattr(type(payloads), "__iter__"):
            raise TypeError(f"payloads must be an iterable of bytes-like objects, got one {type(payloads).__name__}")
        step = WriteMany.__new__(WriteMany)
        step.is_ended = False
        step.writer = self
        step.argument = payloads
        step.is_sequence = type(payloads) is list or type(payloads) is tuple
        return step

    def _call(self, function, *arguments, **options):
        """Calls ``function(*arguments, **options)``, which writes to the encoder, when there is room."""
        cdef WriteCall step = WriteCall.__new__(WriteCall)
        step.is_ended = False
        step.writer = self
        step.function = function
        step.argument = arguments
        step.options = options
        return step

    def __reduce__(self):
        refuse_pickling(self, "it writes to a stream of this process")


@cython.auto_pickle(False)
cdef class WriteStep(Step):
    """A write. It is done in one step, without waiting, when there is room."""

    cdef int attempt(self, PyObject** result) except -1:
        cdef AsyncEncoder writer = self.writer
        cdef object value = None
        if writer is None or writer.encoder is None:
            # Cleared by the garbage collector, or __init__ was not called.
            raise ValueError("the writer is gone, or was never made")
        try:
            if writer.is_gated and self.waits():
                return YIELDED
            value = self.put(writer.encoder)
            if value is self:
                # It is not done.
                return YIELDED
        finally:
            # Also after an error: frames before it may be accepted.
            if writer.encoder.used != writer.encoder.start and not writer.is_scheduled:
                writer.is_scheduled = True
                writer._schedule()
        Py_INCREF(value)
        result[0] = <PyObject*>value
        return RETURNED

    cdef bint waits(self) except -1:
        """Whether there is no room; then `inner` is what to await."""
        waiting = self.writer._room()
        if waiting is None:
            return False
        self.inner = awaited(waiting)
        return True

    cdef object put(self, Encoder encoder):
        """Writes, and returns what the caller gets; or sets `inner`, and returns itself."""
        raise NotImplementedError

    cdef str describe_unused(self):
        return f"an operation of {type(self.writer).__name__} was never awaited: it has written nothing"

    cdef int finish(self) except -1:
        self.is_ended = True
        self.inner = None
        self.writer = None
        self.argument = None
        return 0


@cython.final
@cython.auto_pickle(False)
cdef class WriteOne(WriteStep):
    """Writes one payload."""

    cdef object put(self, Encoder encoder):
        encoder.write_one(self.argument)


@cython.final
@cython.auto_pickle(False)
cdef class WriteCall(WriteStep):
    """Calls a function that writes."""

    cdef object put(self, Encoder encoder):
        return self.function(*self.argument, **self.options)

    cdef int finish(self) except -1:
        WriteStep.finish(self)
        self.function = None
        self.options = None
        return 0


@cython.final
@cython.auto_pickle(False)
cdef class WriteMany(WriteStep):
    """Writes many payloads."""

    cdef object put(self, Encoder encoder):
        if not self.is_sequence:
            if not self.is_begun:
                self.argument = iter(self.argument)
                self.is_begun = True
            for payload in self.argument:
                encoder.write_one(payload)
                if self.writer.is_gated and self.waits():
                    return self
            return None
        # The length is read again in each turn: a write may run Python code, which may change the sequence.
        while self.position < len(self.argument):
            if self.writer.is_gated and self.waits():
                return self
            self.position = encoder.put_run(self.argument, self.position)
            if self.position < len(self.argument):
                encoder.write_one(self.argument[self.position])
                self.position += 1
        return None


def iterates_asynchronously_in_c(cls):
    """A class decorator for subclasses of AsyncItems that do not override `__anext__`: see `iterates_in_c`."""
    if not issubclass(cls, AsyncItems) or cls.__anext__ is not AsyncItems.__anext__:
        raise TypeError(f"{cls.__name__} does not have the iteration of AsyncItems")
    (<TypeSlots*>cls).tp_as_async.am_anext = (<TypeSlots*>AsyncItems).tp_as_async.am_anext
    return cls


cdef int send_next(NextItem self, object value, PyObject** result) except -1:
    """`send_step` for a step that finds its item at once, without what that needs for others: X1 of
    asv_benchmarks/goals.py.
    """
    cdef AsyncItems source = self.source
    cdef object items
    cdef PyObject* item
    if source is not None and self.inner is None and source.left < 0 and source.decoder is not None:
        items = source.items
        item = Py_TYPE(items).tp_iternext(<PyObject*>items)
        if item is not NULL:
            self.is_ended = True
            self.source = None
            result[0] = item
            return RETURNED
        if PyErr_Occurred() is not NULL:
            if not PyErr_ExceptionMatches(PyExc_StopIteration):
                self.is_ended = True
                self.source = None
                return raise_current()
            PyErr_Clear()
    return send_step(self, value, result)


cdef int send_one(WriteOne self, object value, PyObject** result) except -1:
    """`send_step` for a payload that is framed in the buffer at once."""
    cdef AsyncEncoder writer = self.writer
    cdef object payload
    if writer is not None and self.inner is None and not writer.is_gated and writer.encoder is not None:
        payload = self.argument
        if type(payload) is bytes and writer.encoder.put_directly(
            <const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
        ):
            self.is_ended = True
            self.writer = None
            self.argument = None
            if not writer.is_scheduled:
                writer.is_scheduled = True
                writer._schedule()
            Py_INCREF(None)
            result[0] = <PyObject*>None
            return RETURNED
    return send_step(self, value, result)


cdef int set_send(object cls, void* function) except -1:
    """Has the interpreter call a function itself. Without it, each result would travel in a StopIteration."""
    (<TypeSlots*>cls).tp_as_async.am_send = function
    return 0


for _cls in (Step, WriteStep, WriteCall, WriteMany):
    set_send(_cls, <void*>send_step)
set_send(NextItem, <void*>send_next)
set_send(WriteOne, <void*>send_one)
