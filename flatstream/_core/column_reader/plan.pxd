from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.arrow.exporter cimport ColumnType
from flatstream._core.flatbuf.layout cimport Layout


# What a node makes of what its slots point to.
cdef enum Op:
    OP_SCALAR
    OP_STRING
    OP_BINARY
    # An offset to a table; a struct that lies there; an offset to a struct, as unions have it.
    OP_TABLE
    OP_STRUCT
    OP_STRUCT_REFERENCE
    OP_VECTOR
    OP_ARRAY
    OP_UNION
    OP_UNION_VECTOR


cdef struct Memory:
    uint8_t* data
    size_t size
    size_t capacity


cdef struct Shape:
    # How many bytes of the entries of a vtable there are, of those that matter.
    uint32_t key_size
    # How many bytes from the table on its chosen fields take.
    uint32_t extent
    # Of a required field that is missing, the place among its siblings, counted from 1; else 0.
    int32_t missing
    uint64_t hash


cdef struct Node:
    Op op
    uint8_t kind
    uint32_t width
    # A column comes of it; else it is only on the way to some.
    bint emits
    bint keeps_validity
    bint required
    bint has_default
    # It is inside of a vector, so that a message may have it repeat what it has once.
    bint repeats
    int32_t number
    # The schema's number of what it is: of the table or struct, of the union, or of the enum; else -1.
    int32_t object
    # What it takes in its table, struct or vector, and how many elements an array has.
    uint32_t size
    uint32_t length
    uint16_t offset
    uint16_t type_offset
    # As the variant of a union: the number of its type.
    int64_t variant
    # What stands where there is no value, and the default as it would stand in a message.
    uint64_t fill_bits
    uint8_t default_bytes[8]
    Node* parent
    Node* child
    Node* last_child
    Node* next
    # Counted from 1 among its siblings.
    int32_t rank

    # Of the rows that are being read: where their values are, or NULL; what that leads to; which messages they are of
    # (NULL: each of its own, in order).
    Py_ssize_t rows
    Memory slots
    Memory places
    Memory messages
    Memory types
    Memory shape_numbers
    const uint32_t* message
    # Whether all rows have the same shape and none is absent.
    bint uniform

    # Of tables: the entries of vtables that were seen, `reach` bytes each, with zeros for what a vtable lacks.
    uint32_t reach
    Memory keys
    Memory shapes
    Memory table
    Py_ssize_t shape_count
    Py_ssize_t last_shape

    # The column so far, and up to where it was good.
    Py_ssize_t count
    Py_ssize_t null_count
    Memory validity
    Memory offsets
    Memory data
    Py_ssize_t good_count
    Py_ssize_t good_null_count
    size_t good_size


cdef class Plan:
    """What is read of each message, as a tree of nodes, with the memory that reading needs: for one reading only."""
    cdef readonly Layout layout
    cdef readonly int32_t table
    # A struct of all columns.
    cdef readonly ColumnType type
    # Paths that were left out, since they lead back into a table they are in.
    cdef readonly list recursive
    cdef Node* root
    cdef Node** nodes
    cdef Py_ssize_t node_count
    cdef Py_ssize_t capacity
    # By the numbers of nodes.
    cdef list names
    cdef list types
    # The numbers of those that are columns of the whole.
    cdef list outputs
    cdef bint enum_names
    cdef bint counts
    cdef bint ready
    # A reader has it.
    cdef bint taken
    # While it is made.
    cdef int depth

    cdef Node* add(self, Node* parent, Op op, str name) except NULL
    cdef Node* add_field(self, Node* parent, Py_ssize_t number, str name, str path, tuple around) except? NULL
    cdef Node* add_value(
        self, Node* parent, str name, str path, uint8_t kind, int32_t index, bint nullable, tuple around
    ) except? NULL
    cdef int add_members(self, Node* parent, int32_t number, str path, tuple around) except -1
    cdef int output(self, Node* node) except -1
    cdef int place_in(self, Node* node, Node* parent, uint16_t offset) except -1
    cdef bint named(self, uint8_t kind, int32_t index)
    cdef Node* add_variant(
        self, Node* parent, int32_t index, str name, int64_t value, str path, tuple around
    ) except? NULL
    cdef int set_variant(self, Node* node, int64_t value) except -1
    cdef Node* find(self, Node* parent, str name) except? NULL
    cdef Node* hop_field(self, Node* parent, Py_ssize_t number, str name, str path) except NULL
    cdef Node* hop_variant(self, Node* parent, str name, int64_t value, str way, str path) except NULL
    cdef int add_variants(self, Node* parent, int32_t index, str path, tuple around) except -1
    cdef int set_scalar(self, Node* node, uint8_t kind, int32_t index) except -1
    cdef int select(self, str path) except -1
    cdef str path_of(self, int32_t number)
    cdef int finish_types(self) except -1
    cdef ColumnType type_of(self, Node* node, str name, bint nullable)
