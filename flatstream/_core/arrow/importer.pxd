from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from flatstream._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema


# Types inside of types: as many as messages may have tables inside of tables by default, and few enough for the stack.
cdef enum:
    DEEPEST = 64


# How the values of a column lie in memory.
cdef enum Form:
    # No memory at all: every value is null.
    NULLS = 1
    # Numbers, `stride` bytes from one to the next.
    NUMBERS
    # A bit each.
    BITS
    # Strings of bytes between two offsets of 32 or of 64 bits; views of 16 bytes; `width` bytes each.
    BYTES32
    BYTES64
    BYTES_VIEW
    BYTES_FIXED
    # Lists: between two offsets, by an offset and a size, or of `width` elements each.
    LIST32
    LIST64
    LIST_VIEW32
    LIST_VIEW64
    LIST_FIXED
    STRUCT
    # Numbers of the values in `dictionary`.
    DICTIONARY


# Kind of the verifier (BOOL to DOUBLE) for numbers, and one that FlatBuffers do not have.
cdef enum:
    HALF = 32


cdef struct Column:
    uint8_t form
    # Of numbers, and of what a dictionary is indexed by.
    uint8_t kind
    # Of strings of bytes: whether they are to be UTF-8.
    bint text
    # Whether numbers have their high byte first.
    bint big
    # Of BYTES_FIXED and LIST_FIXED.
    int64_t width
    # Row i, of `length`, is the element `offset` + i of the memory.
    int64_t length
    int64_t offset
    # A bit each, 0 for null; or NULL if there are no nulls.
    const uint8_t* validity
    const uint8_t* values
    Py_ssize_t stride
    # Of lists and strings: `entries` offsets, and sizes.
    const uint8_t* offsets
    const uint8_t* sizes
    # Of strings, how many bytes `values` has.
    int64_t data_size
    # Of views: the memory they look into, and how large each piece is.
    const void** pieces
    const uint8_t* piece_sizes
    int64_t piece_count
    Py_ssize_t child_count
    Column** children
    Column* dictionary


cdef inline int64_t native_32(const uint8_t* p) noexcept nogil:
    """A signed number of 32 bits in the machine's own order, wherever it lies."""
    cdef int32_t value = 0
    memcpy(&value, p, 4)
    return value


cdef inline int64_t native_64(const uint8_t* p) noexcept nogil:
    cdef int64_t value = 0
    memcpy(&value, p, 8)
    return value


cdef class Source:
    """A column as somebody gave it, or a part of one: what it is called, where its bytes are, and who owns them."""
    cdef Column column
    cdef readonly str name
    # What it is to its owner: an Arrow type, a NumPy one.
    cdef readonly str type_name
    # Source, of lists and structs.
    cdef readonly list parts
    cdef Source dictionary
    # What owns the memory.
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
    # None at the end.
    cdef ArrayOwner read_next(self)


cdef SchemaOwner take_schema(object capsule)
cdef ArrayOwner take_array(object capsule)
cdef StreamOwner take_stream(object capsule)

# The column that a schema describes, without any memory yet; `depth` is how many types it is inside of.
cdef Source describe(const ArrowSchema* schema, str path, int depth)
# Has the column be that of `array`, after everything in it was checked that can be.
cdef int attach(Source source, ArrayOwner owner) except -1
