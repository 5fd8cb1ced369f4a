# Messages as JSON text. The functions that write run no Python code and raise nothing: they return -1 after a fault,
# which the caller turns into an exception.

from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.flatbuf.layout cimport Layout, ObjectLayout
from flatstream._core.flatbuf.message cimport Message, OpenTable
from flatstream._core.flatbuf.verifier cimport Limits, ObjectType, UnionType
from flatstream._core.records.json_numbers cimport Nonfinite
from flatstream._core.records.json_types cimport JsonEnum, JsonField, JsonTypes


cdef enum:
    # Tables inside one another, the most that records can be read with, and structs inside the last of them.
    MAX_JSON_STEPS = 1000 + 102


cdef enum JsonFault:
    NO_FAULT
    NO_MEMORY
    # `Message.what` and the rest say which part is not in the message.
    OUTSIDE
    NOT_UTF8
    UNEQUAL_VECTORS
    TOO_DEEP
    TOO_MANY_TABLES
    TOO_MANY_BYTES


cdef struct JsonStep:
    # One step of the path to a fault: a field of an object and an element of the field, or -1.
    int32_t object
    int32_t field
    Py_ssize_t element


cdef struct JsonOptions:
    # Enums by their names.
    bint enum_names
    # Numbers that the message does not store have their defaults; otherwise they are left out.
    bint defaults
    Nonfinite nonfinite
    # Spaces for each level; -1 for one line.
    int indent


cdef struct JsonWriter:
    JsonOptions options
    # The text so far: `size` bytes of `capacity`. The caller frees it with PyMem_RawFree.
    uint8_t* text
    Py_ssize_t size
    Py_ssize_t capacity
    # The message, and the types that it is read with.
    Message message
    const ObjectType* types
    const UnionType* unions
    const ObjectLayout* layouts
    JsonField** names
    const JsonEnum* enums
    # How many levels the current value is nested.
    int level
    # What was visited, and its limits.
    Limits limits
    Py_ssize_t tables
    uint64_t visited
    # The fault, a number that belongs to it, and the path to it: the innermost step first.
    JsonFault fault
    uint64_t detail
    Py_ssize_t step_count
    JsonStep[MAX_JSON_STEPS] steps


# Checks the options of `RecordView.to_json`. Raises ValueError or TypeError.
cdef int check_options(object enums, object defaults, object nonfinite, object indent, JsonOptions* options) except -1
# Describes the fault.
cdef str reason_of(const JsonWriter* writer)

# Prepares for a message whose types these are. What is written stays where it is.
cdef int set_types(JsonWriter* writer, Layout layout, JsonTypes names) noexcept
# Ensures that `size` more bytes fit.
cdef int reserve(JsonWriter* writer, Py_ssize_t size) noexcept nogil
# Writes a table that was opened, or the struct at `start`. `depth` counts the tables, this one included.
cdef int write_object(
    JsonWriter* writer, const OpenTable* table, uint64_t start, int32_t number, int32_t depth
) noexcept nogil
# Writes elements `first`, `first` + `step` ... of the vector in a field of an object; all of these are in the message.
cdef int write_elements(
    JsonWriter* writer, int32_t number, Py_ssize_t field, uint64_t elements, uint64_t types, Py_ssize_t first,
    Py_ssize_t step, Py_ssize_t count, int32_t depth
) noexcept nogil
