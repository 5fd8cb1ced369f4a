from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from flatstream._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema


# Limit of nested types: equal to the verifier's default limit of nested tables, and low enough for the stack.
cdef enum:
    MAX_INPUT_DEPTH = 64


# The memory layout of a column.
cdef enum Form:
    # No buffers: every value is null.
    NULLS = 1
    # Numbers, `stride` bytes apart.
    NUMBERS
    # One bit per value.
    BITS
    # Byte strings: between two 32-bit or 64-bit offsets; as views of 16 bytes; `width` bytes each.
    BYTES32
    BYTES64
    BYTES_VIEW
    BYTES_FIXED
    # Lists: between two offsets; by an offset and a size; `width` elements each.
    LIST32
    LIST64
    LIST_VIEW32
    LIST_VIEW64
    LIST_FIXED
    STRUCT
    # Indices into `dictionary`.
    DICTIONARY


# The kind of float16, which FlatBuffers do not have; an addition to the scalar kinds (BOOL to DOUBLE) of the verifier.
cdef enum:
    HALF = 32


cdef struct Column:
    uint8_t form
    # Kind of the numbers, or of a dictionary's indices.
    uint8_t kind
    # Whether byte strings must be UTF-8.
    bint text
    # Whether numbers are big-endian.
    bint big
    # Size of a BYTES_FIXED or LIST_FIXED.
    int64_t width
    # Number of rows; row i is element `offset` + i of the buffers.
    int64_t length
    int64_t offset
    # One bit per element, 0 for null. NULL if there are no nulls.
    const uint8_t* validity
    const uint8_t* values
    Py_ssize_t stride
    # Offsets of strings and lists, and sizes of list views.
    const uint8_t* offsets
    const uint8_t* sizes
    # Strings: size of `values` in bytes.
    int64_t data_size
    # String views: the data buffers they refer to, and the size of each.
    const void** pieces
    const uint8_t* piece_sizes
    int64_t piece_count
    Py_ssize_t child_count
    Column** children
    Column* dictionary


cdef inline int64_t native_32(const uint8_t* p) noexcept nogil:
    """Loads a signed 32-bit number in the machine's byte order from an address of any alignment."""
    cdef int32_t value = 0
    memcpy(&value, p, 4)
    return value


cdef inline int64_t native_64(const uint8_t* p) noexcept nogil:
    """Loads a signed 64-bit number in the machine's byte order from an address of any alignment."""
    cdef int64_t value = 0
    memcpy(&value, p, 8)
    return value


cdef class Source:
    """A column from the caller, or a part of one: its name, its buffers and their owner."""
    cdef Column column
    cdef readonly str name
    # Its Arrow or NumPy type, for error messages.
    cdef readonly str type_name
    # The Sources of the children of a list or struct.
    cdef readonly list parts
    cdef Source dictionary
    # The object that owns the buffers.
    cdef object owner
    cdef int adopt(self, list parts) except -1


cdef class SchemaOwner:
    cdef ArrowSchema schema


cdef class ArrayOwner:
    cdef ArrowArray array


cdef class StreamOwner:
    cdef ArrowArrayStream stream
    cdef bint finished
    cdef SchemaOwner read_schema(self)
    # Returns None at the end.
    cdef ArrayOwner read_next(self)


# Each moves a structure out of its capsule.
cdef SchemaOwner take_schema(object capsule)
cdef ArrayOwner take_array(object capsule)
cdef StreamOwner take_stream(object capsule)

# The column that a schema describes, without buffers. `depth` is the number of types that enclose it.
cdef Source describe(const ArrowSchema* schema, str path, int depth)
# Sets the buffers of the column to those of an array, after checking all that can be checked.
cdef int attach(Source source, ArrayOwner owner) except -1
