# The value of an int, of an instance of a subclass or of another object with __index__, as an exact int; None if it is
# something else, such as a bool. For an instance of a subclass of int no method of that class runs.
cdef object index_of(object value)
# The same for the argument `name`, with a TypeError instead of None.
cdef object exact_int(str name, object value)
# The text of a str, or of an instance of a subclass, as an exact str. No method of the subclass runs.
cdef str exact_str(object value)
# An int from `least`, which is not negative, to `most`; TypeError or ValueError if it is not.
cdef Py_ssize_t checked_int(str name, object value, Py_ssize_t least, Py_ssize_t most) except -1
# An int that is at least `least` and has no upper limit, as it is.
cdef object checked_minimum(str name, object value, object least)
# Names for the text of an error.
cdef str listed(object names)
