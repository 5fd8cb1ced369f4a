from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.arrow.exporter cimport ColumnType
from flatstream._core.flatbuf.layout cimport Layout


# How a node reads the bytes at its locations.
cdef enum Op:
    OP_SCALAR
    OP_STRING
    OP_BINARY
    # The location holds an offset to a table; the struct itself; an offset to a struct (the variant of a union).
    OP_TABLE
    OP_STRUCT
    OP_STRUCT_REFERENCE
    OP_VECTOR
    OP_ARRAY
    OP_UNION
    OP_UNION_VECTOR


# An array that grows, allocated with PyMem_Raw so that it can grow without the GIL; see `column_memory`.
cdef struct Memory:
    uint8_t* data
    size_t size
    size_t capacity


# The entries of a vtable for the selected fields, and what follows from them; see `vtable_shapes`.
cdef struct VtableShape:
    # Bytes of vtable entries that are compared.
    uint32_t key_size
    # Bytes from the start of the table to the end of its last selected field.
    uint32_t extent
    # Rank of the first required field that is missing; 0 if none is.
    int32_t missing
    uint64_t hash


cdef struct Node:
    Op op
    uint8_t kind
    # Bytes of a scalar, or of the type of a union (of each, in a vector of unions).
    uint32_t width
    # Whether the node produces a column. If not, it is only a step on the path to one.
    bint has_column
    # Whether the column records which rows are null.
    bint keeps_validity
    bint required
    bint has_default
    # Whether the node is inside a vector, so that a message can refer to the same bytes more than once.
    bint in_vector
    # Index in `ReadPlan.nodes`.
    int32_t number
    # Index in the schema of the table, struct, union or enum; -1 if the type is none of these.
    int32_t type_index
    # Bytes at a location of this node, and the number of elements of a fixed array.
    uint32_t size
    uint32_t length
    # In a table: offset in the vtable of the field's entry, and of the entry of a union's type. In a struct: offset of
    # the field.
    uint16_t offset
    uint16_t type_offset
    # Of a variant of a union: its type, as a message stores it.
    uint64_t variant
    # Value of rows that have none, and the default as the bytes of a message.
    uint64_t fill_bits
    uint8_t default_bytes[8]
    Node* parent
    Node* child
    Node* last_child
    Node* next
    # Position among its siblings, counted from 1.
    int32_t rank

    # The rows that are being read. `locations`: where the field or element of each row is stored, NULL if it is absent.
    # `objects`: the table or struct of each row. `row_messages`: the message of each row; NULL if row i is of message
    # i, else it points to this node's `message_indices` or an ancestor's.
    Py_ssize_t rows
    Memory locations
    Memory objects
    Memory message_indices
    Memory union_types
    Memory shape_numbers
    const uint32_t* row_messages
    # Whether no row is absent and, for tables, all have the same shape.
    bint uniform

    # Tables only: the shapes seen so far. `shape_keys` has `vtable_reach` bytes for each, padded with zeros;
    # `shape_table` is a hash table of their numbers. `vtable_reach` is the end of the last selected entry in a vtable.
    uint32_t vtable_reach
    Memory shape_keys
    Memory shapes
    Memory shape_table
    Py_ssize_t shape_count
    Py_ssize_t last_shape

    # The column so far, and its lengths before the batch that is being read.
    Py_ssize_t count
    Py_ssize_t null_count
    Memory validity
    Memory offsets
    Memory data
    Py_ssize_t good_count
    Py_ssize_t good_null_count
    size_t good_size


cdef class ReadPlan:
    """The fields to read from each message, as a tree of nodes, and the memory for reading them. Serves one reader."""
    cdef readonly Layout layout
    cdef readonly int32_t table
    # A struct of all columns.
    cdef readonly ColumnType type
    # Paths that are left out because they lead to a table inside itself.
    cdef readonly list recursive
    cdef Node* root
    cdef Node** nodes
    cdef Py_ssize_t node_count
    cdef Py_ssize_t capacity
    # By node number.
    cdef list names
    cdef list types
    # Node numbers of the columns, in order.
    cdef list outputs
    cdef bint enum_names
    # Whether an absent number is null although it has a default.
    cdef bint absent_is_null
    # Whether any node is inside a vector.
    cdef bint has_vectors
    cdef bint ready
    # Whether the plan is in use: by a reader, from its start on, or by `read_messages`.
    cdef bint taken
    # Nesting depth, while the tree is built.
    cdef int depth

    cdef Node* add(self, Node* parent, Op op, str name) except NULL
    cdef Node* add_field(self, Node* parent, Py_ssize_t number, str name, str path, tuple ancestors) except? NULL
    cdef Node* add_value(
        self, Node* parent, str name, str path, uint8_t kind, int32_t index, bint nullable, tuple ancestors
    ) except? NULL
    cdef int add_members(self, Node* parent, int32_t number, str path, tuple ancestors) except -1
    cdef int add_output(self, Node* node) except -1
    cdef int set_offset(self, Node* node, Node* parent, uint16_t offset) except -1
    cdef bint shows_names(self, uint8_t kind, int32_t index)
    cdef Node* add_variant(
        self, Node* parent, int32_t index, str name, uint64_t type, str path, tuple ancestors
    ) except? NULL
    cdef int set_union(self, Node* node, int32_t index) except -1
    cdef int set_variant(self, Node* node, uint64_t type) except -1
    cdef Node* find_step(self, Node* parent, str name) except? NULL
    cdef Node* add_field_step(self, Node* parent, Py_ssize_t number, str name, str path) except NULL
    cdef Node* add_variant_step(self, Node* parent, str name, uint64_t type, str prefix, str path) except NULL
    cdef int add_variants(self, Node* parent, int32_t index, str path, tuple ancestors) except -1
    cdef int set_scalar(self, Node* node, uint8_t kind, int32_t index) except -1
    cdef int add_path(self, str path) except -1
    cdef str path_of(self, int32_t number)
    cdef int set_types(self) except -1
    cdef ColumnType type_of(self, Node* node, str name, bint nullable)
