"""What reading leaves out of a damaged stream: how a caller asks for it, and the account of it."""

from bisect import insort

cimport cython

NAMES = {
    "raise": ON_ERROR_RAISE, "skip": ON_ERROR_SKIP, "stop": ON_ERROR_STOP, "resync": ON_ERROR_RESYNC,
}


cdef int on_error_of(object value, int default) except -1:
    """The OnError for an argument `on_error`; `default` for None.

    Raises
    ------
    ValueError
        It is something else.
    """
    if value is None:
        return default
    found = NAMES.get(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"on_error must be 'raise', 'skip', 'stop' or 'resync', got {value!r:.100}")
    return found


@cython.auto_pickle(False)
cdef class Losses:
    """The ranges of a stream that reading left out."""

    def __cinit__(self):
        self.ranges = []

    cdef int add(self, unsigned long long start, unsigned long long end) except -1:
        """Adds the range from `start` to `end`, in which one frame is known to be lost, or more that nobody can count.
        """
        cdef unsigned long long last
        if not self.ranges or start > self.end():
            self.ranges.append((start, end))
        else:
            first, last = self.ranges[-1]
            if start == last:
                self.ranges[-1] = (first, end)
            else:
                # Threads that share a reader need not report in order.
                insort(self.ranges, (start, end))
        self.skipped += 1
        self.lost_bytes += end - start
        return 0

    cdef unsigned long long end(self) except? 0:
        """The stream offset at which the last range ends; 0 if there is none."""
        return self.ranges[-1][1] if self.ranges else 0

    cdef list since(self, unsigned long long offset):
        """The ranges, and the part of a range, behind `offset`."""
        cdef Py_ssize_t i = len(self.ranges)
        cdef unsigned long long start, end
        found = []
        while i:
            i -= 1
            start, end = self.ranges[i]
            if end <= offset:
                break
            found.append((max(start, offset), end))
        found.reverse()
        return found
