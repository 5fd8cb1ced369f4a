from libc.stdint cimport int32_t, uint64_t

from flatstream._core.flatbuf.layout cimport Layout


cdef struct JsonName:
    # A value as the low bytes of a message store it, and its name in quotes.
    uint64_t bits
    const char* text
    Py_ssize_t size


cdef struct JsonEnum:
    # In ascending order of the bits.
    JsonName* names
    Py_ssize_t count
    bint bit_flags


cdef struct JsonField:
    # The name in quotes, with a colon.
    const char* key
    Py_ssize_t key_size
    # The number of the table that the bytes of this vector are a message of (the attribute `nested_flatbuffer`), or -1.
    int32_t nested
    # Whether it is the key of its table: flatc writes its default, too.
    bint is_key


cdef class JsonTypes:
    """The names of a schema as JSON text. They never change once they are made."""
    cdef Layout layout
    # By the number of the object, and of the enum.
    cdef JsonField** objects
    cdef JsonEnum* enums
    # The bytes objects that hold the text.
    cdef list texts

    cdef const char* text_of(self, object name, bytes after, Py_ssize_t* size) except NULL


cdef const JsonName* find_name(const JsonEnum* enum, uint64_t bits) noexcept nogil
