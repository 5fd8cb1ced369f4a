from libc.stdint cimport int32_t, uint8_t

from flatstream._core.flatbuf.layout cimport Layout


cdef class ObjectEncoding:
    """How the values of one table or struct are found in Python objects, and in which order they are stored."""
    # The full name of the table or struct.
    cdef str name
    # The names of the fields, by their numbers.
    cdef tuple field_names
    # By the numbers of the fields: a tuple of the names that an attribute for the field can have. The first is the
    # field's own, the others are those of flatc's object API.
    cdef tuple attribute_names
    # All of these names, those of deprecated fields excepted; and those of deprecated fields.
    cdef frozenset known_attributes
    cdef frozenset ignored_attributes
    # The numbers of the fields that are not deprecated, by their names.
    cdef dict numbers
    # By class, for classes whose declared fields have been compared with these names: its Origin.
    cdef dict checked_classes
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
cdef object buffer_of(object value, Py_ssize_t* null)
cdef object integers_of_times(object value, Py_ssize_t* null)
# The place of the first null of a Series or array, or -1.
cdef Py_ssize_t null_in(object value) except -2
cdef object elements_of(object value)
