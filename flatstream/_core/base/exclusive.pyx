"""Mutual exclusion of threads that costs nothing when only one thread uses the object."""

import time

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from flatstream._core.base.pickling cimport refuse_pickling


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() nogil

# In seconds: from less than the time of a system call to less than a person notices.
cdef double MIN_PAUSE = 20e-6
cdef double MAX_PAUSE = 2e-3


@cython.auto_pickle(False)
cdef class Exclusive:
    """Base class of objects that one thread at a time may operate on.

    Compiled code that calls no Python cannot be interrupted, because it holds the GIL; it only has to check `busy`.
    Code that may run Python, or block in a system call, calls `enter` before and `leave` after. Another thread then
    waits in `enter`. A reentrant call of the same thread raises RuntimeError, because the operation around it is half
    done.
    """

    def _check_reentry(self):
        """Raises RuntimeError if this thread is in the middle of another operation on the object."""
        if self.busy and self.owner == PyThread_get_thread_ident():
            raise RuntimeError(f"reentrant call: this {type(self).__name__} is in the middle of another operation")

    def __reduce__(self):
        refuse_pickling(self, "it works on a stream or a message of this process; make another one where it is needed")

    cdef int enter(self) except -1:
        cdef double pause = MIN_PAUSE
        while self.busy:
            # Polls, because a thread cannot be notified safely: a notification (of a condition, say) runs Python, and
            # if a signal handler raises there, the waiting thread is never notified. An operation takes about as long
            # as a system call, so polling loses little time.
            self._check_reentry()
            time.sleep(pause)
            # A signal that arrives between two sleeps interrupts neither of them.
            PyErr_CheckSignals()
            pause = min(2 * pause, MAX_PAUSE)
        self.busy = True
        self.owner = PyThread_get_thread_ident()
        return 0

    cdef int leave(self) except -1:
        self.busy = False
        return 0
