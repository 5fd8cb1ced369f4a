# cython: boundscheck=False, wraparound=False
"""What is read of each message when messages are read as columns: a tree of nodes, made of a schema and of paths.

    fields "id", "level.value", "vectors"         root (table)
                                                   +-- id          scalar                 -> column "id"
                                                   +-- level       table, on the way
                                                   |    +-- value  scalar                 -> column "level.value"
                                                   +-- vectors     table                  -> column "vectors"
                                                        +-- truths vector -- item scalar
                                                        +-- ...

A node is given slots, which are pointers to where the values of its rows are in their messages, and makes slots for its
children. The tree follows the schema, so its depth and the number of its nodes are known before any message is looked
at. Everything that is about names is done here, once.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.arrow.exporter cimport ColumnType
from flatstream._core.base.buffers cimport grow
from flatstream._core.base.checks cimport listed
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, NOTHING, OBJECT, SHORT, STRING, UBYTE, UINT, ULONG, UNION, UNION_TYPE,
    USHORT, VECTOR, is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout, Layout
from flatstream._core.flatbuf.verifier cimport Field, UnionType


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# Readers of Arrow's structures go no deeper than 64, and a table of more columns than this was chosen by mistake.
cdef int DEEPEST = 60
cdef Py_ssize_t MOST_NODES = 50_000

cdef dict LETTERS = {
    UNION_TYPE: "C", BOOL: "b", BYTE: "c", UBYTE: "C", SHORT: "s", USHORT: "S", INT: "i", UINT: "I", LONG: "l",
    ULONG: "L", FLOAT: "f", DOUBLE: "g",
}


cdef class Plan:
    """What is read of each message.

    Parameters
    ----------
    layout : Layout
        The types of the schema.
    table : int
        Which of them the messages are.
    fields : iterable of str, optional
        Paths; all fields of the table unless given.
    enums : {"dictionary", "number"}
        Whether enums are shown by their names.
    metadata : dict of str to str, optional
        What the schema of the columns says about itself. Paths that are left out are added.
    """

    def __init__(self, Layout layout not None, table, fields=None, enums="dictionary", metadata=None):
        cdef Node* root
        cdef int32_t number = layout.check_table(table)
        if self.layout is not None:
            raise TypeError("Plan.__init__ must not be called twice")
        if enums not in ("dictionary", "number"):
            raise ValueError(f"enums must be 'dictionary' or 'number', got {enums!r:.100}")
        self.layout = layout
        self.table = number
        self.enum_names = enums == "dictionary"
        self.recursive = []
        self.names = []
        self.types = []
        self.outputs = []
        root = self.add(NULL, OP_TABLE, layout.object_names[number].rpartition(".")[2].lower())
        root.object = number
        self.root = root
        if fields is None:
            for place in sorted(layout.numbers[number].values()):
                name = layout.field_names[number][place]
                self.output(self.add_field(root, place, name, name, (number,)))
        else:
            if isinstance(fields, (str, bytes)):
                raise TypeError(
                    f"fields must be an iterable of paths, got the one {type(fields).__name__} {fields!r:.100}"
                )
            seen = set()
            for path in fields:
                if not isinstance(path, str):
                    raise TypeError(f"a path of a field must be a str, got {type(path).__name__}: {path!r:.100}")
                if path in seen:
                    raise ValueError(f"field {path!r:.200} is chosen twice")
                seen.add(path)
                self.select(path)
        about = dict(metadata or {})
        if self.recursive:
            about["flatstream.recursive"] = "\n".join(self.recursive)
        self.finish_types()
        self.type = ColumnType("", "+s", False, map(self.types.__getitem__, self.outputs), metadata=about)
        self.ready = True

    cdef int output(self, Node* node) except -1:
        if node is not NULL:
            self.outputs.append(node.number)
        return 0

    # The tree

    cdef Node* add(self, Node* parent, Op op, str name) except NULL:
        cdef Node* node
        if self.node_count == MOST_NODES:
            raise ValueError(f"these are more than {MOST_NODES} columns: choose some of them by their paths")
        if self.node_count == self.capacity:
            self.nodes = <Node**>grow(
                self.nodes, &self.capacity, self.node_count + 1, sizeof(Node*), "nodes of a plan of columns"
            )
        node = <Node*>PyMem_RawCalloc(1, sizeof(Node))
        if node is NULL:
            raise MemoryError("no memory for a plan of columns")
        node.op = op
        node.number = <int32_t>self.node_count
        node.object = -1
        node.size = 4
        node.reach = 4
        node.last_shape = -1
        self.nodes[self.node_count] = node
        self.node_count += 1
        self.names.append(name)
        self.types.append(None)
        if parent is not NULL:
            node.parent = parent
            node.rank = parent.last_child.rank + 1 if parent.last_child is not NULL else 1
            node.repeats = parent.repeats or parent.op == OP_VECTOR or parent.op == OP_UNION_VECTOR
            if node.repeats:
                self.counts = True
            if parent.last_child is NULL:
                parent.child = node
            else:
                parent.last_child.next = node
            parent.last_child = node
        return node

    cdef int place_in(self, Node* node, Node* parent, uint16_t offset) except -1:
        """Says where in its parent, a table or a struct, a node is."""
        node.offset = offset
        if parent.op == OP_TABLE:
            parent.reach = max(parent.reach, <uint32_t>offset + 2)
            if node.type_offset:
                parent.reach = max(parent.reach, <uint32_t>node.type_offset + 2)
        return 0

    cdef int set_scalar(self, Node* node, uint8_t kind, int32_t index) except -1:
        node.kind = kind
        node.width = scalar_width(kind)
        node.size = node.width
        node.object = index
        if self.named(kind, index):
            numbers = (<EnumLayout>self.layout.enums[index]).by_value
            if numbers and 0 not in numbers:
                # So that rows without a value add no name to those of the enum.
                node.fill_bits = <uint64_t>(next(iter(numbers)) & 0xFFFFFFFFFFFFFFFF)
        return 0

    cdef bint named(self, uint8_t kind, int32_t index):
        """Whether numbers of this kind are shown by names."""
        if not self.enum_names or kind == BOOL or not may_be_enum(kind) or index < 0:
            return False
        return not (<EnumLayout>self.layout.enums[index]).bit_flags

    cdef Node* add_value(
        self, Node* parent, str name, str path, uint8_t kind, int32_t index, bint nullable, tuple around
    ) except? NULL:
        """A node for a value as such: of a field, an element of a vector, or a variant. NULL if it is left out."""
        cdef Node* node = NULL
        cdef bint is_struct
        if kind == STRING:
            node = self.add(parent, OP_STRING, name)
        elif kind == OBJECT:
            is_struct = self.layout.types.objects[index].is_struct
            if not is_struct and index in around:
                self.recursive.append(path)
                return NULL
            node = self.add(parent, OP_STRUCT if is_struct else OP_TABLE, name)
            node.object = index
            if is_struct:
                node.size = self.layout.types.objects[index].size
            self.add_members(node, index, path, around)
        elif is_scalar(kind):
            node = self.add(parent, OP_SCALAR, name)
            self.set_scalar(node, kind, index)
        else:
            raise SystemError(f"flatstream: a column of base type {kind}")
        node.emits = True
        node.keeps_validity = nullable
        return node

    cdef int add_members(self, Node* parent, int32_t number, str path, tuple around) except -1:
        """All fields of a table or struct."""
        cdef tuple within = (*around, number)
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"{path} is nested deeper than {DEEPEST}: choose columns of it by their paths")
        for place in sorted(self.layout.numbers[number].values()):
            name = self.layout.field_names[number][place]
            self.add_field(parent, place, name, f"{path}.{name}", within)
        self.depth -= 1
        return 0

    cdef int add_variants(self, Node* parent, int32_t index, str path, tuple around) except -1:
        """All variants of a union."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"{path} is nested deeper than {DEEPEST}: choose columns of it by their paths")
        for name, value in (<EnumLayout>self.layout.enums[index]).by_name.items():
            self.add_variant(parent, index, name, value, f"{path}.{name}", around)
        self.depth -= 1
        return 0

    cdef Node* add_variant(
        self, Node* parent, int32_t index, str name, int64_t value, str path, tuple around
    ) except? NULL:
        cdef const UnionType* known = &self.layout.types.unions[index]
        cdef Node* node
        cdef Py_ssize_t i
        for i in range(known.variant_count):
            if known.variants[i].value != value or known.variants[i].kind == NOTHING:
                continue
            node = self.add_value(parent, name, path, known.variants[i].kind, known.variants[i].index, True, around)
            if node is not NULL:
                self.set_variant(node, value)
            return node
        return NULL

    cdef int set_variant(self, Node* node, int64_t value) except -1:
        node.variant = value
        if node.op == OP_STRUCT:
            node.op = OP_STRUCT_REFERENCE
        return 0

    cdef Node* add_field(self, Node* parent, Py_ssize_t number, str name, str path, tuple around) except? NULL:
        """A field of a table or struct with all that is in it. NULL if it is left out."""
        cdef int32_t object = parent.object
        cdef const Field* field = &self.layout.types.objects[object].fields[number]
        cdef const FieldLayout* known = &self.layout.objects[object].fields[number]
        cdef bint in_table = not self.layout.types.objects[object].is_struct
        cdef bint nullable = in_table and not field.required
        cdef Node* node = NULL
        cdef Node* item = NULL
        cdef int i
        if is_scalar(field.kind):
            node = self.add_value(parent, name, path, field.kind, field.index, in_table and known.optional, around)
            if in_table and not known.optional:
                node.has_default = True
                node.fill_bits = known.default_bits
                for i in range(8):
                    node.default_bytes[i] = <uint8_t>(known.default_bits >> 8 * i)
        elif field.kind == UNION:
            node = self.add(parent, OP_UNION, name)
            node.object = field.index
            self.add_variants(node, field.index, path, around)
        elif field.kind == VECTOR and field.element == UNION:
            node = self.add(parent, OP_UNION_VECTOR, name)
            item = self.add(node, OP_UNION, "item")
            item.emits = True
            item.keeps_validity = True
            self.add_variants(item, field.index, path, around)
        elif field.kind == VECTOR and field.element == UBYTE and field.index < 0:
            node = self.add(parent, OP_BINARY, name)
        elif field.kind == VECTOR or field.kind == ARRAY:
            if field.element == OBJECT and field.index in around and (
                not self.layout.types.objects[field.index].is_struct
            ):
                self.recursive.append(path)
                return NULL
            node = self.add(parent, OP_VECTOR if field.kind == VECTOR else OP_ARRAY, name)
            self.depth += 1
            item = self.add_value(node, "item", path, field.element, field.index, False, around)
            self.depth -= 1
            # A string or a table is there by an offset.
            item.size = known.element_size
            node.length = known.length
        else:
            node = self.add_value(parent, name, path, field.kind, field.index, nullable, around)
        if node is NULL:
            return NULL
        node.emits = True
        if not is_scalar(field.kind):
            # Even a union that is required may be of a type that the schema does not know, and then is no value.
            node.keeps_validity = nullable or node.op == OP_UNION
            node.required = in_table and field.required
            node.type_offset = field.type_offset
        node.size = known.size
        self.place_in(node, parent, field.offset)
        return node

    # Paths

    cdef int select(self, str path) except -1:
        """Adds the column that a path leads to."""
        cdef Node* node = self.root
        cdef Node* end
        cdef int32_t object
        cdef bint optional = False
        cdef list parts = path.split(".")
        cdef str way = ""
        if len(parts) > DEEPEST:
            raise ValueError(f"path {path[:200]!r} is longer than {DEEPEST} names")
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            if node.op == OP_UNION:
                known = (<EnumLayout>self.layout.enums[node.object]).by_name
                if part not in known or part == "NONE":
                    names = listed(repr(name) for name in known if name != "NONE")
                    raise KeyError(f"no variant {part!r:.200} in union {way!r}; it has {names}")
                end = self.find(node, part)
                if end is NULL or last:
                    if last:
                        end = self.add_variant(node, node.object, part, known[part], path, ())
                    else:
                        end = self.hop_variant(node, part, known[part], way, path)
                optional = True
            else:
                object = node.object
                if part not in self.layout.numbers[object]:
                    where = f"{self.layout.object_names[object]}" + (f" (at {way!r})" if way else "")
                    raise KeyError(
                        f"no field {part!r:.200} in {where}; it has {listed(map(repr, self.layout.numbers[object]))}"
                    )
                number = self.layout.numbers[object][part]
                if last:
                    end = self.add_field(node, number, part, path, ())
                else:
                    end = self.find(node, part)
                    if end is NULL:
                        end = self.hop_field(node, number, part, path)
                    optional = optional or (node.op == OP_TABLE and not end.required)
            if end is NULL:
                raise ValueError(f"nothing can be read of {path!r:.200}")
            way = f"{way}.{part}" if way else part
            node = end
        node.keeps_validity = node.keeps_validity or optional
        self.outputs.append(node.number)
        self.types[node.number] = path
        return 0

    cdef Node* find(self, Node* parent, str name) except? NULL:
        """The child with this name that is only on the way, if there is one."""
        cdef Node* child = parent.child
        while child is not NULL:
            if not child.emits and self.names[child.number] == name:
                return child
            child = child.next
        return NULL

    cdef Node* hop_field(self, Node* parent, Py_ssize_t number, str name, str path) except NULL:
        cdef const Field* field = &self.layout.types.objects[parent.object].fields[number]
        cdef const FieldLayout* known = &self.layout.objects[parent.object].fields[number]
        cdef bint in_table = not self.layout.types.objects[parent.object].is_struct
        cdef Node* node
        if field.kind == OBJECT:
            node = self.add(
                parent, OP_STRUCT if self.layout.types.objects[field.index].is_struct else OP_TABLE, name
            )
        elif field.kind == UNION:
            node = self.add(parent, OP_UNION, name)
        else:
            what = "a vector" if field.kind == VECTOR else "an array" if field.kind == ARRAY else "no table or struct"
            raise ValueError(
                f"path {path!r:.200} goes through {name!r}, which is {what}: paths lead through tables, structs and "
                "variants of unions; choose the whole of it instead"
            )
        node.object = field.index
        node.size = known.size
        node.required = in_table and field.required
        node.type_offset = field.type_offset
        self.place_in(node, parent, field.offset)
        return node

    cdef Node* hop_variant(self, Node* parent, str name, int64_t value, str way, str path) except NULL:
        cdef const UnionType* known = &self.layout.types.unions[parent.object]
        cdef Py_ssize_t i
        cdef Node* node
        for i in range(known.variant_count):
            if known.variants[i].value == value and known.variants[i].kind == OBJECT:
                node = self.add(
                    parent, OP_STRUCT if self.layout.types.objects[known.variants[i].index].is_struct else OP_TABLE,
                    name,
                )
                node.object = known.variants[i].index
                if node.op == OP_STRUCT:
                    node.size = self.layout.types.objects[node.object].size
                self.set_variant(node, value)
                return node
        raise ValueError(f"path {path!r:.200} goes through {way}.{name}, which is no table or struct")

    cdef str path_of(self, int32_t number):
        """What errors call a node: the way to it, from the table of the messages."""
        cdef Node* node = self.nodes[number]
        parts = []
        while node is not NULL:
            if node.parent is NULL or not (node.parent.op == OP_VECTOR or node.parent.op == OP_ARRAY
                                           or node.parent.op == OP_UNION_VECTOR):
                parts.append(self.names[node.number])
            node = node.parent
        return ".".join(reversed(parts))

    # Types

    cdef int finish_types(self) except -1:
        """Says what comes of each node. Children are made after their parents, so the last comes first."""
        cdef Py_ssize_t i
        cdef Node* node
        for i in range(self.node_count - 1, -1, -1):
            node = self.nodes[i]
            if node.emits:
                # A path stands there if it is a column by itself.
                name = self.types[i] if self.types[i] is not None else self.names[i]
                self.types[i] = self.type_of(node, name, node.keeps_validity)
        return 0

    cdef ColumnType type_of(self, Node* node, str name, bint nullable):
        cdef list children = []
        cdef Node* child = node.child
        cdef EnumLayout known
        while child is not NULL:
            children.append(self.types[child.number])
            child = child.next
        if node.op == OP_SCALAR:
            if not self.named(node.kind, node.object):
                return ColumnType(name, LETTERS[node.kind], nullable)
            known = self.layout.enums[node.object]
            return ColumnType(
                name, LETTERS[node.kind], nullable, labels=known.by_value.values(), numbers=known.by_value
            )
        if node.op == OP_STRING:
            return ColumnType(name, "U", nullable)
        if node.op == OP_BINARY:
            return ColumnType(name, "Z", nullable)
        if node.op == OP_VECTOR or node.op == OP_UNION_VECTOR:
            return ColumnType(name, "+L", nullable, children)
        if node.op == OP_ARRAY:
            return ColumnType(name, f"+w:{node.length}", nullable, children)
        return ColumnType(name, "+s", nullable, children)

    def __dealloc__(self):
        cdef Py_ssize_t i
        cdef Node* node
        for i in range(self.node_count):
            node = self.nodes[i]
            PyMem_RawFree(node.slots.data)
            PyMem_RawFree(node.places.data)
            PyMem_RawFree(node.messages.data)
            PyMem_RawFree(node.types.data)
            PyMem_RawFree(node.shape_numbers.data)
            PyMem_RawFree(node.keys.data)
            PyMem_RawFree(node.shapes.data)
            PyMem_RawFree(node.table.data)
            PyMem_RawFree(node.validity.data)
            PyMem_RawFree(node.offsets.data)
            PyMem_RawFree(node.data.data)
            PyMem_RawFree(node)
        PyMem_RawFree(self.nodes)
