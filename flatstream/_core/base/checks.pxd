# An argument that must be an int and no bool; TypeError if it is not.
cdef int check_int(str name, object value) except -1
# An int from `least`, which is not negative, to `most`; TypeError or ValueError if it is not.
cdef Py_ssize_t checked_int(str name, object value, Py_ssize_t least, Py_ssize_t most) except -1
# An int that is at least `least` and has no upper limit, as it is.
cdef object checked_minimum(str name, object value, object least)
# Names for the text of an error.
cdef str listed(object names)
