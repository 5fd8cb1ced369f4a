# cython: boundscheck=False, wraparound=False
"""The plan for reading messages as columns: a tree of nodes, built from a schema and a list of paths.

    fields "id", "level.value", "vectors"         root (table)
                                                   +-- id          scalar                 -> column "id"
                                                   +-- level       table, step of a path
                                                   |    +-- value  scalar                 -> column "level.value"
                                                   +-- vectors     table                  -> column "vectors"
                                                        +-- truths vector -- item scalar
                                                        +-- ...

A node receives the locations of its rows, which are pointers to the field of each row in its message, and computes the
locations of its children. The tree follows the schema, so its depth and its number of nodes are fixed before the first
message is read. All names are resolved here, once.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.arrow.exporter cimport ColumnType
from flatstream._core.base.buffers cimport grow
from flatstream._core.base.checks cimport exact_str, listed
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, NOTHING, OBJECT, SHORT, STRING, UBYTE, UINT, ULONG, UNION, UNION_TYPE,
    USHORT, VECTOR, is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout, Layout
from flatstream._core.flatbuf.verifier cimport Field, Variant, find_variant


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# Arrow libraries read schemas up to a depth of 64. A selection of more than MAX_NODES columns is a mistake.
cdef int MAX_COLUMN_DEPTH = 60
cdef Py_ssize_t MAX_NODES = 50_000

# Arrow's formats of the scalar kinds.
cdef dict FORMATS = {
    UNION_TYPE: "C", BOOL: "b", BYTE: "c", UBYTE: "C", SHORT: "s", USHORT: "S", INT: "i", UINT: "I", LONG: "l",
    ULONG: "L", FLOAT: "f", DOUBLE: "g",
}


cdef class ReadPlan:
    """The fields to read from each message.

    Parameters
    ----------
    layout : Layout
        The types of the schema.
    table : int
        Index of the messages' table in the schema.
    fields : iterable of str, optional
        Paths of the fields; all fields of the table by default.
    enums : {"dictionary", "number"}
        Whether an enum column has names or numbers.
    metadata : dict of str to str, optional
        Metadata for the schema of the columns. The paths that are left out are added to it.
    absent : {"default", "null"}
        Whether a number that a message does not store has its default, or is null.
    """

    def __init__(
        self, Layout layout not None, table, fields=None, enums="dictionary", metadata=None, absent="default"
    ):
        cdef Node* root
        cdef int32_t number = layout.check_table(table)
        if self.layout is not None:
            raise TypeError("ReadPlan.__init__ must not be called twice")
        if enums not in ("dictionary", "number"):
            raise ValueError(f"enums must be 'dictionary' or 'number', got {enums!r:.100}")
        if absent not in ("default", "null"):
            raise ValueError(f"absent must be 'default' or 'null', got {absent!r:.100}")
        self.absent_is_null = absent == "null"
        self.layout = layout
        self.table = number
        self.enum_names = enums == "dictionary"
        self.recursive = []
        self.names = []
        self.types = []
        self.outputs = []
        root = self.add(NULL, OP_TABLE, layout.object_names[number].rpartition(".")[2].lower())
        root.type_index = number
        self.root = root
        if fields is None:
            for field in sorted(layout.numbers[number].values()):
                name = layout.field_names[number][field]
                self.add_output(self.add_field(root, field, name, name, (number,)))
        else:
            if isinstance(fields, (str, bytes)):
                raise TypeError(
                    f"fields must be an iterable of paths, got a single {type(fields).__name__}: {fields!r:.100}"
                )
            seen = set()
            for path in fields:
                if not isinstance(path, str):
                    raise TypeError(f"the path of a field must be a str, got {type(path).__name__}: {path!r:.100}")
                path = exact_str(path)
                if path in seen:
                    raise ValueError(f"field {path!r:.200} is selected twice")
                seen.add(path)
                self.add_path(path)
        metadata = dict(metadata or {})
        if self.recursive:
            metadata["flatstream.recursive"] = "\n".join(self.recursive)
        self.set_types()
        self.type = ColumnType("", "+s", False, map(self.types.__getitem__, self.outputs), metadata=metadata)
        self.ready = True

    cdef int add_output(self, Node* node) except -1:
        if node is not NULL:
            self.outputs.append(node.number)
        return 0

    # The tree

    cdef Node* add(self, Node* parent, Op op, str name) except NULL:
        cdef Node* node
        if self.node_count == MAX_NODES:
            raise ValueError(f"the selection has more than {MAX_NODES} columns: select some of them by their paths")
        if self.node_count == self.capacity:
            self.nodes = <Node**>grow(
                self.nodes, &self.capacity, self.node_count + 1, sizeof(Node*), "nodes of a plan to read columns"
            )
        node = <Node*>PyMem_RawCalloc(1, sizeof(Node))
        if node is NULL:
            raise MemoryError("no memory for a plan to read columns")
        node.op = op
        node.number = <int32_t>self.node_count
        node.type_index = -1
        node.size = 4
        node.vtable_reach = 4
        node.last_shape = -1
        self.nodes[self.node_count] = node
        self.node_count += 1
        self.names.append(name)
        self.types.append(None)
        if parent is not NULL:
            node.parent = parent
            node.rank = parent.last_child.rank + 1 if parent.last_child is not NULL else 1
            node.in_vector = parent.in_vector or parent.op == OP_VECTOR or parent.op == OP_UNION_VECTOR
            if node.in_vector:
                self.has_vectors = True
            if parent.last_child is NULL:
                parent.child = node
            else:
                parent.last_child.next = node
            parent.last_child = node
        return node

    cdef int set_offset(self, Node* node, Node* parent, uint16_t offset) except -1:
        """Sets the offset of a node in its parent, a table or a struct."""
        node.offset = offset
        if parent.op == OP_TABLE:
            parent.vtable_reach = max(parent.vtable_reach, <uint32_t>offset + 2)
            if node.type_offset:
                parent.vtable_reach = max(parent.vtable_reach, <uint32_t>node.type_offset + 2)
        return 0

    cdef int set_scalar(self, Node* node, uint8_t kind, int32_t index) except -1:
        node.kind = kind
        node.width = scalar_width(kind)
        node.size = node.width
        node.type_index = index
        if self.shows_names(kind, index):
            numbers = (<EnumLayout>self.layout.enums[index]).by_value
            if numbers and 0 not in numbers:
                # The number of a row without a value must have a name, or its digits would be added to the names.
                node.fill_bits = <uint64_t>(next(iter(numbers)) & 0xFFFFFFFFFFFFFFFF)
        return 0

    cdef bint shows_names(self, uint8_t kind, int32_t index):
        """Whether numbers of this kind are represented by the names of an enum."""
        if not self.enum_names or kind == BOOL or not may_be_enum(kind) or index < 0:
            return False
        return not (<EnumLayout>self.layout.enums[index]).bit_flags

    cdef Node* add_value(
        self, Node* parent, str name, str path, uint8_t kind, int32_t index, bint nullable, tuple ancestors
    ) except? NULL:
        """Adds a node for the value of a field, of an element of a vector, or of a variant. NULL if it is left out."""
        cdef Node* node = NULL
        cdef bint is_struct
        if kind == STRING:
            node = self.add(parent, OP_STRING, name)
        elif kind == OBJECT:
            is_struct = self.layout.types.objects[index].is_struct
            if not is_struct and index in ancestors:
                self.recursive.append(path)
                return NULL
            node = self.add(parent, OP_STRUCT if is_struct else OP_TABLE, name)
            node.type_index = index
            if is_struct:
                node.size = self.layout.types.objects[index].size
            self.add_members(node, index, path, ancestors)
        elif is_scalar(kind):
            node = self.add(parent, OP_SCALAR, name)
            self.set_scalar(node, kind, index)
        else:
            raise SystemError(f"flatstream: a column of base type {kind}")
        node.has_column = True
        node.keeps_validity = nullable
        return node

    cdef int add_members(self, Node* parent, int32_t number, str path, tuple ancestors) except -1:
        """Adds all fields of a table or struct."""
        cdef tuple with_parent = (*ancestors, number)
        self.depth += 1
        if self.depth > MAX_COLUMN_DEPTH:
            raise ValueError(f"{path} is nested deeper than {MAX_COLUMN_DEPTH}: select fields in it by their paths")
        for field in sorted(self.layout.numbers[number].values()):
            name = self.layout.field_names[number][field]
            self.add_field(parent, field, name, f"{path}.{name}", with_parent)
        self.depth -= 1
        return 0

    cdef int add_variants(self, Node* parent, int32_t index, str path, tuple ancestors) except -1:
        """Adds all variants of a union."""
        cdef EnumLayout enum = self.layout.enums[index]
        self.depth += 1
        if self.depth > MAX_COLUMN_DEPTH:
            raise ValueError(f"{path} is nested deeper than {MAX_COLUMN_DEPTH}: select fields in it by their paths")
        for name, value in enum.by_name.items():
            self.add_variant(parent, index, name, enum.bits_of(value), f"{path}.{name}", ancestors)
        self.depth -= 1
        return 0

    cdef Node* add_variant(
        self, Node* parent, int32_t index, str name, uint64_t type, str path, tuple ancestors
    ) except? NULL:
        cdef const Variant* variant = find_variant(&self.layout.types.unions[index], type)
        cdef Node* node
        if variant is NULL or variant.kind == NOTHING:
            return NULL
        node = self.add_value(parent, name, path, variant.kind, variant.index, True, ancestors)
        if node is not NULL:
            self.set_variant(node, type)
        return node

    cdef int set_union(self, Node* node, int32_t index) except -1:
        node.type_index = index
        node.width = self.layout.types.unions[index].type_width
        return 0

    cdef int set_variant(self, Node* node, uint64_t type) except -1:
        node.variant = type
        if node.op == OP_STRUCT:
            node.op = OP_STRUCT_REFERENCE
        return 0

    cdef Node* add_field(self, Node* parent, Py_ssize_t number, str name, str path, tuple ancestors) except? NULL:
        """Adds a field of a table or struct, with everything inside it. NULL if it is left out."""
        cdef int32_t object = parent.type_index
        cdef const Field* field = &self.layout.types.objects[object].fields[number]
        cdef const FieldLayout* field_layout = &self.layout.objects[object].fields[number]
        cdef bint in_table = not self.layout.types.objects[object].is_struct
        cdef bint nullable = in_table and not field.required
        cdef Node* node = NULL
        cdef Node* item = NULL
        cdef int i
        if is_scalar(field.kind):
            nullable = in_table and (field_layout.optional or self.absent_is_null)
            node = self.add_value(parent, name, path, field.kind, field.index, nullable, ancestors)
            if in_table and not nullable:
                node.has_default = True
                node.fill_bits = field_layout.default_bits
                for i in range(8):
                    node.default_bytes[i] = <uint8_t>(field_layout.default_bits >> 8 * i)
        elif field.kind == UNION:
            node = self.add(parent, OP_UNION, name)
            self.set_union(node, field.index)
            self.add_variants(node, field.index, path, ancestors)
        elif field.kind == VECTOR and field.element == UNION:
            node = self.add(parent, OP_UNION_VECTOR, name)
            node.width = self.layout.types.unions[field.index].type_width
            item = self.add(node, OP_UNION, "item")
            self.set_union(item, field.index)
            item.has_column = True
            item.keeps_validity = True
            self.add_variants(item, field.index, path, ancestors)
        elif field.kind == VECTOR and field.element == UBYTE and field.index < 0:
            node = self.add(parent, OP_BINARY, name)
        elif field.kind == VECTOR or field.kind == ARRAY:
            if field.element == OBJECT and field.index in ancestors and (
                not self.layout.types.objects[field.index].is_struct
            ):
                self.recursive.append(path)
                return NULL
            node = self.add(parent, OP_VECTOR if field.kind == VECTOR else OP_ARRAY, name)
            self.depth += 1
            item = self.add_value(node, "item", path, field.element, field.index, False, ancestors)
            self.depth -= 1
            # The size of the element as it is stored: a string or a table is stored as an offset.
            item.size = field_layout.element_size
            node.length = field_layout.length
        else:
            node = self.add_value(parent, name, path, field.kind, field.index, nullable, ancestors)
        if node is NULL:
            return NULL
        node.has_column = True
        if not is_scalar(field.kind):
            # Even a required union can have a type that is not in the schema: its row is null.
            node.keeps_validity = nullable or node.op == OP_UNION
            node.required = in_table and field.required
            node.type_offset = field.type_offset
        node.size = field_layout.size
        self.set_offset(node, parent, field.offset)
        return node

    # Paths

    cdef int add_path(self, str path) except -1:
        """Adds the column at the end of a path, and a node for each step of the path that has none yet."""
        cdef Node* node = self.root
        cdef Node* end
        cdef int32_t object
        cdef bint optional = False
        cdef EnumLayout enum
        cdef list parts = path.split(".")
        cdef str prefix = ""
        if len(parts) > MAX_COLUMN_DEPTH:
            raise ValueError(f"path {path[:200]!r} has more than {MAX_COLUMN_DEPTH} names")
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            if node.op == OP_UNION:
                enum = self.layout.enums[node.type_index]
                variants = enum.by_name
                if part not in variants or part == "NONE":
                    names = listed(repr(name) for name in variants if name != "NONE")
                    raise KeyError(f"no variant {part!r:.200} in union {prefix!r}; it has {names}")
                end = self.find_step(node, part)
                if end is NULL or last:
                    if last:
                        end = self.add_variant(node, node.type_index, part, enum.bits_of(variants[part]), path, ())
                    else:
                        end = self.add_variant_step(node, part, enum.bits_of(variants[part]), prefix, path)
                optional = True
            else:
                object = node.type_index
                if part not in self.layout.numbers[object]:
                    where = f"{self.layout.object_names[object]}" + (f" (at {prefix!r})" if prefix else "")
                    raise KeyError(
                        f"no field {part!r:.200} in {where}; it has {listed(map(repr, self.layout.numbers[object]))}"
                    )
                number = self.layout.numbers[object][part]
                if last:
                    end = self.add_field(node, number, part, path, ())
                else:
                    end = self.find_step(node, part)
                    if end is NULL:
                        end = self.add_field_step(node, number, part, path)
                    optional = optional or (node.op == OP_TABLE and not end.required)
            if end is NULL:
                raise ValueError(f"path {path!r:.200} leads to no value that can be read")
            prefix = f"{prefix}.{part}" if prefix else part
            node = end
        node.keeps_validity = node.keeps_validity or optional
        self.outputs.append(node.number)
        self.types[node.number] = path
        return 0

    cdef Node* find_step(self, Node* parent, str name) except? NULL:
        """The child with this name that is a step of another path, or NULL."""
        cdef Node* child = parent.child
        while child is not NULL:
            if not child.has_column and self.names[child.number] == name:
                return child
            child = child.next
        return NULL

    cdef Node* add_field_step(self, Node* parent, Py_ssize_t number, str name, str path) except NULL:
        cdef const Field* field = &self.layout.types.objects[parent.type_index].fields[number]
        cdef const FieldLayout* field_layout = &self.layout.objects[parent.type_index].fields[number]
        cdef bint in_table = not self.layout.types.objects[parent.type_index].is_struct
        cdef Node* node
        if field.kind == OBJECT:
            node = self.add(
                parent, OP_STRUCT if self.layout.types.objects[field.index].is_struct else OP_TABLE, name
            )
        elif field.kind == UNION:
            node = self.add(parent, OP_UNION, name)
            self.set_union(node, field.index)
        else:
            kind = "a vector" if field.kind == VECTOR else "an array" if field.kind == ARRAY else "no table or struct"
            raise ValueError(
                f"path {path!r:.200} goes through {name!r}, which is {kind}: a path can go through tables, structs and "
                f"variants of unions only; select {name!r} as a whole instead"
            )
        node.type_index = field.index
        node.size = field_layout.size
        node.required = in_table and field.required
        node.type_offset = field.type_offset
        self.set_offset(node, parent, field.offset)
        return node

    cdef Node* add_variant_step(self, Node* parent, str name, uint64_t type, str prefix, str path) except NULL:
        cdef const Variant* variant = find_variant(&self.layout.types.unions[parent.type_index], type)
        cdef Node* node
        if variant is NULL or variant.kind != OBJECT:
            raise ValueError(f"path {path!r:.200} goes through {prefix}.{name}, which is no table or struct")
        node = self.add(parent, OP_STRUCT if self.layout.types.objects[variant.index].is_struct else OP_TABLE, name)
        node.type_index = variant.index
        if node.op == OP_STRUCT:
            node.size = self.layout.types.objects[variant.index].size
        self.set_variant(node, type)
        return node

    cdef str path_of(self, int32_t number):
        """The path from the root to a node, for error messages."""
        cdef Node* node = self.nodes[number]
        parts = []
        while node is not NULL:
            if node.parent is NULL or not (node.parent.op == OP_VECTOR or node.parent.op == OP_ARRAY
                                           or node.parent.op == OP_UNION_VECTOR):
                parts.append(self.names[node.number])
            node = node.parent
        return ".".join(reversed(parts))

    # Types

    cdef int set_types(self) except -1:
        """Sets the type of each column, last to first: children, whose numbers are higher, come before their parent."""
        cdef Py_ssize_t i
        cdef Node* node
        for i in range(self.node_count - 1, -1, -1):
            node = self.nodes[i]
            if node.has_column:
                # `add_path` has put the path here for a column of its own.
                name = self.types[i] if self.types[i] is not None else self.names[i]
                self.types[i] = self.type_of(node, name, node.keeps_validity)
        return 0

    cdef ColumnType type_of(self, Node* node, str name, bint nullable):
        cdef list children = []
        cdef Node* child = node.child
        cdef EnumLayout enum_layout
        while child is not NULL:
            children.append(self.types[child.number])
            child = child.next
        if node.op == OP_SCALAR:
            if not self.shows_names(node.kind, node.type_index):
                return ColumnType(name, FORMATS[node.kind], nullable)
            enum_layout = self.layout.enums[node.type_index]
            return ColumnType(
                name, FORMATS[node.kind], nullable, labels=enum_layout.by_value.values(), numbers=enum_layout.by_value
            )
        if node.op == OP_STRING:
            return ColumnType(name, "U", nullable)
        if node.op == OP_BINARY:
            return ColumnType(name, "Z", nullable)
        if node.op == OP_VECTOR or node.op == OP_UNION_VECTOR:
            return ColumnType(name, "+L", nullable, children)
        if node.op == OP_ARRAY:
            return ColumnType(name, f"+w:{node.length}", nullable, children)
        return ColumnType(name, "+s", nullable, children, presence=not children)

    def __dealloc__(self):
        cdef Py_ssize_t i
        cdef Node* node
        for i in range(self.node_count):
            node = self.nodes[i]
            PyMem_RawFree(node.locations.data)
            PyMem_RawFree(node.objects.data)
            PyMem_RawFree(node.message_indices.data)
            PyMem_RawFree(node.union_types.data)
            PyMem_RawFree(node.shape_numbers.data)
            PyMem_RawFree(node.shape_keys.data)
            PyMem_RawFree(node.shapes.data)
            PyMem_RawFree(node.shape_table.data)
            PyMem_RawFree(node.validity.data)
            PyMem_RawFree(node.offsets.data)
            PyMem_RawFree(node.data.data)
            PyMem_RawFree(node)
        PyMem_RawFree(self.nodes)
