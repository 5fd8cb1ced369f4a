# How many forks lie between the process that imported the module and this one.
cdef unsigned long FORKS

cdef struct Waiter:
    # A thread that waits for its turn. `lock` is held, and released to wake the thread; then `is_woken` is set.
    unsigned long thread
    void* lock
    bint is_woken
    Waiter* next


cdef class Exclusive:
    # Whether a thread is in the middle of an operation, which thread, and in which process (the value of FORKS) it
    # began. Once it is over, the owner and the process are those of the last operation.
    cdef bint busy
    cdef unsigned long owner
    cdef unsigned long entered_in
    # The threads that wait for their turn, in the order of their turns. `leave` wakes the first one.
    cdef Waiter* first

    cdef int enter(self) except -1
    cdef bint enter_within(self, double seconds) except -1
    cdef int leave(self) except -1
    cdef bint is_abandoned(self) noexcept
    cdef int add_waiter(self, Waiter* waiter) noexcept
    cdef bint is_waiting(self, const Waiter* waiter) noexcept
    cdef int remove_waiter(self, Waiter* waiter) noexcept
    cdef int wake_first(self) noexcept
    cdef int forget_waiters_of_the_parent(self) except -1
