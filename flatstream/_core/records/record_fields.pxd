from libc.stdint cimport int32_t, uint8_t

from flatstream._core.flatbuf.layout cimport Layout


cdef class ObjectEncoding:
    """How the values of one table or struct are found in Python objects, and in which order they are stored."""
    # The full name of the table or struct.
    cdef str name
    # The names of the fields, by their numbers.
    cdef tuple field_names
    # The names that flatc's object API gives to the fields, by their numbers; None where the name is the same.
    cdef tuple generated_names
    # The numbers of the fields that are not deprecated, by their names.
    cdef dict numbers
    # The classes whose declared fields have been compared with these names.
    cdef set checked_classes
    cdef Py_ssize_t field_count
    # The numbers of the fields that are not deprecated, in ascending order: positional values belong to these.
    cdef int32_t* positions
    cdef Py_ssize_t position_count
    # The same numbers in the order in which a table stores its fields, the widest first. Of a struct, as `positions`.
    cdef int32_t* storage_order
    # The Kind of the first of `positions`; NOTHING if there is none.
    cdef uint8_t first_kind
    # The most entries that a vtable of the table can have.
    cdef Py_ssize_t entry_count


cdef ObjectEncoding make_encoding(Layout layout, int32_t index)
# Raises RefusalError: the caller adds the path of the field and raises an exception of class `kind`.
cdef int fail(object kind, str text) except -1
cdef list field_values(ObjectEncoding encoding, object record)
cdef int set_value(ObjectEncoding encoding, list values, object name, object value) except -1
cdef str type_name(object value)
cdef object buffer_of(object value)
cdef object elements_of(object value)
