"""Mutual exclusion of threads that costs nothing when only one thread uses the object."""

import os
import time

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc

from flatstream._core.base.pickling cimport refuse_pickling


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() nogil
    void* PyThread_allocate_lock()
    void PyThread_free_lock(void* lock)
    int PyThread_acquire_lock(void* lock, int wait)
    int PyThread_acquire_lock_timed(void* lock, long long microseconds, int interruptible) nogil
    void PyThread_release_lock(void* lock)
    int NOWAIT_LOCK
    int PY_LOCK_ACQUIRED

# How long a waiter sleeps before it looks for signals, in microseconds. A signal interrupts the sleep, unless it came
# just before it or was delivered to another thread.
cdef enum:
    LOOK_EVERY = 50_000

# The thread that made this process by the last fork: the only one of the parent's that goes on here.
cdef unsigned long FORKING_THREAD = 0


def _count_fork():
    global FORKS, FORKING_THREAD
    FORKS += 1
    FORKING_THREAD = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


@cython.auto_pickle(False)
cdef class Exclusive:
    """Base class of objects that one thread at a time may operate on.

    Compiled code that calls no Python cannot be interrupted, because it holds the GIL; it only has to check `busy`.
    Code that may run Python, or block in a system call, calls `enter` before and `leave` after. Other threads then wait
    in `enter`, and get their turns in the order in which they came: a thread that leaves and enters again stands behind
    them. A reentrant call of the same thread raises RuntimeError, because the operation around it is half done.

    After a fork, the child's copy of an object that another thread was in raises RuntimeError: the operation will never
    end there.
    """

    def _check_can_enter(self):
        """Raises RuntimeError if this thread can never enter: it is in the middle of another operation on the object,
        or a thread was that this process does not have.
        """
        if self.is_abandoned():
            raise RuntimeError(
                f"this {type(self).__name__} was in use by another thread when the process forked, so the child's copy "
                "is in the middle of an operation for ever: the child must make its own"
            )
        if self.busy and self.owner == PyThread_get_thread_ident():
            raise RuntimeError(f"reentrant call: this {type(self).__name__} is in the middle of another operation")

    def _call_exclusively(self, function):
        """Calls ``function()`` as one operation and returns its result."""
        self.enter()
        try:
            return function()
        finally:
            self.leave()

    def __reduce__(self):
        refuse_pickling(self, "it works on a stream or a message of this process; make another one where it is needed")

    cdef int enter(self) except -1:
        """Begins an operation, after those of the threads that wait already."""
        if self.busy or self.first is not NULL:
            self.enter_within(-1)
            return 0
        self.busy = True
        self.owner = PyThread_get_thread_ident()
        self.entered_in = FORKS
        return 0

    cdef bint enter_within(self, double seconds) except -1:
        """`enter` that waits for at most that many seconds; negative: for ever. Returns whether it has entered."""
        cdef double end = time.monotonic() + seconds
        cdef unsigned long forks = FORKS
        cdef Waiter* waiter
        cdef bint is_acquired
        self._check_can_enter()
        waiter = <Waiter*>PyMem_RawMalloc(sizeof(Waiter))
        if waiter is NULL:
            raise MemoryError("no memory to wait for another thread")
        waiter.thread = PyThread_get_thread_ident()
        waiter.is_woken = False
        waiter.lock = PyThread_allocate_lock()
        if waiter.lock is NULL:
            PyMem_RawFree(waiter)
            raise MemoryError("no lock to wait for another thread")
        PyThread_acquire_lock(waiter.lock, NOWAIT_LOCK)
        if self.entered_in != FORKS:
            self.forget_waiters_of_the_parent()
        self.add_waiter(waiter)
        try:
            # Between this check and the statements behind the loop no other thread can run.
            while self.busy or self.first is not waiter:
                if seconds >= 0 and time.monotonic() >= end:
                    return False
                with nogil:
                    is_acquired = PyThread_acquire_lock_timed(waiter.lock, LOOK_EVERY, True) == PY_LOCK_ACQUIRED
                if is_acquired:
                    waiter.is_woken = False
                # If a handler raises, the turn passes to the next waiter, below.
                PyErr_CheckSignals()
                if forks != FORKS:
                    # The handler has forked, and this is the child. It may also have used the object there.
                    forks = FORKS
                    if self.entered_in != FORKS:
                        self.forget_waiters_of_the_parent()
                    if not self.is_waiting(waiter):
                        self.add_waiter(waiter)
            self.busy = True
            self.owner = waiter.thread
            self.entered_in = FORKS
            return True
        finally:
            self.remove_waiter(waiter)
            # A lock must be released before it is freed.
            if not waiter.is_woken:
                PyThread_release_lock(waiter.lock)
            PyThread_free_lock(waiter.lock)
            PyMem_RawFree(waiter)

    cdef int leave(self) except -1:
        """Ends the operation, and wakes the thread that is next. Nothing here can be interrupted."""
        self.busy = False
        return self.wake_first()

    cdef bint is_abandoned(self) noexcept:
        """Whether the object is in the middle of an operation of a thread that only the parent process has."""
        return self.busy and self.entered_in != FORKS and self.owner != FORKING_THREAD

    cdef int wake_first(self) noexcept:
        if self.first is not NULL and not self.first.is_woken:
            self.first.is_woken = True
            PyThread_release_lock(self.first.lock)
        return 0

    cdef int add_waiter(self, Waiter* waiter) noexcept:
        """Puts a waiter at the end of the queue; or, if its thread waits already, before itself: a signal handler that
        runs during a wait must be done before that wait can go on.
        """
        cdef Waiter** link = &self.first
        while link[0] is not NULL and link[0].thread != waiter.thread:
            link = &link[0].next
        waiter.next = link[0]
        link[0] = waiter
        return 0

    cdef bint is_waiting(self, const Waiter* waiter) noexcept:
        """Whether a waiter is in the queue."""
        cdef const Waiter* other = self.first
        while other is not NULL and other is not waiter:
            other = other.next
        return other is waiter

    cdef int remove_waiter(self, Waiter* waiter) noexcept:
        """Takes a waiter out of the queue. If its turn had come and it has not entered, wakes the next one."""
        cdef Waiter** link = &self.first
        while link[0] is not NULL and link[0] is not waiter:
            link = &link[0].next
        if link[0] is waiter:
            link[0] = waiter.next
        return 0 if self.busy else self.wake_first()

    cdef int forget_waiters_of_the_parent(self) except -1:
        """Empties the queue in a child process, which has none of the threads in it."""
        self._check_can_enter()
        # What they allocated is not freed: it belongs to calls that never end here.
        self.first = NULL
        self.entered_in = FORKS
        return 0
