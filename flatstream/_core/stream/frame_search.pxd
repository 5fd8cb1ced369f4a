from flatstream._core.framing.deframer cimport Deframer

cpdef (Py_ssize_t, Py_ssize_t) find_next_frames(
    Deframer deframer, object buffer, Py_ssize_t begin, bint at_end, Py_ssize_t longest, Py_ssize_t usual=*
) except *
