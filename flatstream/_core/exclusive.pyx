"""One thread at a time, at no cost while there is only one."""

import threading


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() nogil


cdef class Exclusive:
    """An object whose operations exclude one another.

    The interpreter's lock already keeps compiled code that calls nothing from being interrupted, so such code need only
    look at `busy`. Around anything that may run Python or block in the system, `enter` and `leave` hold the object: another
    thread waits for its turn, and a call from inside an operation of the same thread is refused, since half of that
    operation has happened.
    """

    cdef int enter(self) except -1:
        while self.busy:
            self.wait()
        self.busy = True
        self.owner = PyThread_get_thread_ident()
        return 0

    cdef int leave(self) except -1:
        self.busy = False
        if self.waiters:
            with self.condition:
                self.condition.notify()
        return 0

    cdef int wait(self) except -1:
        if self.owner == PyThread_get_thread_ident():
            raise RuntimeError(f"reentrant call: this {type(self).__name__} is in the middle of another operation")
        if self.condition is None:
            self.condition = threading.Condition()
        self.waiters += 1
        try:
            with self.condition:
                if self.busy:
                    # A time limit, because an exception from a signal handler can strike between the end of an
                    # operation and its notification.
                    self.condition.wait(0.05)
        finally:
            self.waiters -= 1
        return 0
