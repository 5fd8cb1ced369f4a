"""One thread at a time, at no cost while there is only one."""

import time

cimport cython
from cpython.exc cimport PyErr_CheckSignals


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() nogil

# In seconds: from less than a system call takes to what a person does not notice.
cdef double SHORTEST_PAUSE = 20e-6
cdef double LONGEST_PAUSE = 2e-3


@cython.auto_pickle(False)
cdef class Exclusive:
    """An object whose operations exclude one another.

    The interpreter's lock already keeps compiled code that calls nothing from being interrupted, so such code need only
    look at `busy`. Around anything that may run Python or block in the system, `enter` and `leave` hold the object:
    another thread waits for its turn, and a call from inside an operation of the same thread is refused, since half of
    that operation has happened.
    """

    def _check_reentry(self):
        """Raises RuntimeError if this thread is in the middle of another operation of the object."""
        if self.busy and self.owner == PyThread_get_thread_ident():
            raise RuntimeError(f"reentrant call: this {type(self).__name__} is in the middle of another operation")

    cdef int enter(self) except -1:
        cdef double pause = SHORTEST_PAUSE
        while self.busy:
            # Nobody is woken up: whatever wakes another thread (a condition, say) runs Python, and a signal handler
            # that raises there would leave it waiting for ever. A turn takes as long as a system call, so little is
            # lost.
            self._check_reentry()
            time.sleep(pause)
            # A signal that came between two sleeps interrupts neither.
            PyErr_CheckSignals()
            pause = min(2 * pause, LONGEST_PAUSE)
        self.busy = True
        self.owner = PyThread_get_thread_ident()
        return 0

    cdef int leave(self) except -1:
        self.busy = False
        return 0
