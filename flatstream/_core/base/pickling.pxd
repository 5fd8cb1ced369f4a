cdef tuple reduced(object instance, object base, tuple args, dict kwargs)
cdef int refuse_pickling(object instance, str reason) except -1
