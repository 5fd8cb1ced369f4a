# cython: boundscheck=False, wraparound=False
"""The types of a schema for reading and writing messages: defaults, sizes, alignments and names.

The verifier's `Types` has only the parts that decide whether bytes are a valid message. `Layout` adds the rest, by the
same numbers.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.base.checks cimport index_of
from flatstream._core.base.endian cimport load_u32
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BYTE, INT, LONG, NOTHING, OBJECT, SHORT, UBYTE, ULONG, UNION, VECTOR, is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.verifier cimport Field, Types


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


@cython.no_gc
@cython.auto_pickle(False)
cdef class EnumLayout:
    """An enum, or a union with the numbers of its variants.

    Parameters
    ----------
    name : str
        The full name.
    is_union, bit_flags : bool
        Whether it is a union, and whether its values are masks of flags.
    kind : int
        The `Kind` that a value is stored as.
    values : sequence of (str, int)
        Names and values. If several names have the same value, the first one is shown.
    """

    def __init__(self, str name not None, bint is_union, bint bit_flags, int kind, values):
        if self.by_name is not None:
            raise TypeError("EnumLayout.__init__ must not be called twice")
        self.name = name
        self.is_union = is_union
        self.bit_flags = bit_flags
        self.kind = kind
        self.by_value = {}
        for known, value in values:
            self.by_value.setdefault(int(value), str(known))
        self.by_name = {str(known): int(value) for known, value in values}

    cdef object value_of(self, uint64_t bits):
        # As an int of Python, which does not overflow.
        cdef object value = bits
        cdef object end = 2 ** <object>(8 * scalar_width(<uint8_t>self.kind))
        if self.kind in (BYTE, SHORT, INT, LONG) and value >= end // 2:
            return value - end
        return value

    cdef uint64_t bits_of(self, object value) except? 0:
        return <uint64_t>(value & (2 ** <object>(8 * scalar_width(<uint8_t>self.kind)) - 1))


# It holds names, `Types` and enums, so it cannot be part of a cycle.
@cython.no_gc
@cython.auto_pickle(False)
cdef class Layout:
    """The sizes, alignments, defaults and names of the objects of a schema.

    Parameters
    ----------
    types : Types
        The same objects, for the verifier.
    objects : sequence of (name, alignment, fields)
        Each of `fields` is (name, default_bits, size, alignment, element_size, element_alignment, length, paired_field,
        optional, deprecated); see `FieldLayout`.
    enums : sequence of EnumLayout
        In the order of their numbers in `types`.
    file_identifier : bytes
        Four bytes, or none.
    root : int
        The number of the root table, or -1.
    nested, hashes, keys : dict, optional
        Attributes of fields that JSON depends on; see `Layout` in layout.pxd.

    Notes
    -----
    The sizes are compared with `types`, so that reading a field by its size never leaves the memory that the verifier
    checked.
    """

    def __init__(
        self, Types types not None, objects, enums, bytes file_identifier not None, int32_t root=-1, *,
        dict nested=None, dict hashes=None, dict keys=None
    ):
        cdef Py_ssize_t i, j
        cdef FieldLayout* field
        if self.objects is not NULL:
            raise TypeError("Layout.__init__ must not be called twice")
        if not types.ready:
            raise ValueError("these types were never completed")
        if len(objects) != types.object_count or len(enums) != types.union_count:
            raise ValueError(
                f"expected {types.object_count} objects and {types.union_count} enums, "
                f"got {len(objects)} and {len(enums)}"
            )
        if len(file_identifier) not in (0, 4):
            raise ValueError(f"a file identifier has four bytes, got {file_identifier!r:.100}")
        for enum in enums:
            if not isinstance(enum, EnumLayout) or (<EnumLayout>enum).by_name is None:
                raise TypeError(f"expected an EnumLayout, got {enum!r:.100}")
        self.objects = <ObjectLayout*>PyMem_RawCalloc(<size_t>max(len(objects), 1), sizeof(ObjectLayout))
        if self.objects is NULL:
            raise MemoryError("no memory for the layout of a schema")
        self.object_count = len(objects)
        self.types = types
        self.enums = tuple(enums)
        self.file_identifier = file_identifier
        self.identifier = load_u32(<const uint8_t*>PyBytes_AS_STRING(file_identifier)) if file_identifier else 0
        self.root = root
        self.object_names = tuple(str(name) for name, _, _ in objects)
        self.field_names = tuple(tuple(str(described[0]) for described in fields) for _, _, fields in objects)
        self.numbers = tuple(
            {str(described[0]): number for number, described in enumerate(fields) if not described[9]}
            for _, _, fields in objects
        )
        for i in range(self.object_count):
            _, alignment, fields = objects[i]
            if len(fields) != types.objects[i].field_count:
                raise ValueError(f"object {i} has {types.objects[i].field_count} fields, got {len(fields)}")
            if alignment not in (1, 2, 4, 8, 16, 32):
                raise ValueError(
                    f"object {i} has an alignment of {alignment!r:.100} bytes, expected a power of two to 32"
                )
            self.objects[i].alignment = alignment
            self.objects[i].fields = <FieldLayout*>PyMem_RawCalloc(<size_t>max(len(fields), 1), sizeof(FieldLayout))
            if self.objects[i].fields is NULL:
                raise MemoryError("no memory for the layout of fields")
            for j in range(types.objects[i].field_count):
                field = &self.objects[i].fields[j]
                (
                    _, field.default_bits, field.size, field.alignment, field.element_size, field.element_alignment,
                    field.length, field.paired_field, field.optional, field.deprecated,
                ) = fields[j]
                self.check_field(i, j)
        self.nested = dict(nested or {})
        self.hashes = dict(hashes or {})
        self.keys = dict(keys or {})
        for (i, j), number in self.nested.items():
            if not 0 <= i < self.object_count or not 0 <= j < types.objects[i].field_count or (
                types.objects[i].fields[j].element != UBYTE
            ):
                raise ValueError(f"field {j} of object {i} is no vector of ubyte, so it holds no message")
            self.check_is_table(number)
        self.ready = True

    def check_field(self, Py_ssize_t i, Py_ssize_t j):
        """Raises ValueError unless the numbers of this field are consistent with each other and with `types`."""
        cdef Types types = self.types
        if types is None or not 0 <= i < self.object_count or self.objects[i].fields is NULL:
            raise ValueError(f"there is no object {i}")
        if not 0 <= j < types.objects[i].field_count:
            raise ValueError(f"object {i} has no field {j}")
        cdef Field* known = &types.objects[i].fields[j]
        cdef FieldLayout* field = &self.objects[i].fields[j]
        cdef Field* paired
        cdef uint8_t kind
        cdef uint64_t element, size
        cdef int32_t paired_field = field.paired_field
        where = f"field {j} of object {i}"
        for alignment in (field.alignment, field.element_alignment):
            if alignment not in (1, 2, 4, 8, 16, 32, 64, 128, 256):
                raise ValueError(f"{where} has an alignment of {alignment} bytes, expected a power of two to 256")
        if known.kind == VECTOR or known.kind == ARRAY:
            element = self.inline_size(known.element, known.index)
            if element != field.element_size:
                raise ValueError(f"an element of {where} has {element} bytes, got {field.element_size}")
            size = element * field.length if known.kind == ARRAY else 4
        else:
            size = self.inline_size(known.kind, known.index)
        if size != field.size:
            raise ValueError(f"{where} has {size} bytes, got {field.size}")
        if types.objects[i].is_struct:
            if known.offset + size > types.objects[i].size:
                raise ValueError(f"{where} ends outside of its struct")
            if known.kind in (NOTHING, VECTOR, UNION) or (known.kind == OBJECT or known.element == OBJECT) and (
                not types.objects[known.index].is_struct
            ):
                raise ValueError(f"{where} cannot be in a struct")
        elif known.offset < 4 or known.offset & 1:
            raise ValueError(f"{where} has the vtable offset {known.offset}, expected an even number from 4")
        # A binary schema stores defaults as signed numbers. For an unsigned default that does not fit, flatc writes 0.
        field.always_stored = field.optional or (known.kind == ULONG and field.default_bits == 0)
        if paired_field != -1 and not 0 <= paired_field < types.objects[i].field_count:
            raise ValueError(f"{where} is paired with field {paired_field}, which does not exist")
        inner = known.element if known.kind in (VECTOR, ARRAY) else known.kind
        if inner == UNION and (paired_field == -1 or types.objects[i].fields[paired_field].offset != known.type_offset):
            raise ValueError(f"{where} is a union without a type")
        if inner == UNION:
            # Its type is read and written by the width that the verifier checks.
            paired = &types.objects[i].fields[paired_field]
            kind = paired.element if known.kind == VECTOR else paired.kind
            if (paired.kind == VECTOR) != (known.kind == VECTOR) or not is_scalar(kind) or (
                scalar_width(kind) != types.unions[known.index].type_width
            ):
                raise ValueError(f"{where} is a union whose type is stored in another way than the union says")
        if may_be_enum(inner) and known.index != -1 and not 0 <= known.index < len(self.enums):
            raise ValueError(f"{where} has the enum {known.index}, but there are {len(self.enums)} enums")

    def inline_size(self, int kind, Py_ssize_t index):
        """The bytes that a value of this kind takes in its table, struct or vector: 4 if that is an offset."""
        if kind == OBJECT and self.types is not None and 0 <= index < self.object_count:
            if self.types.objects[index].is_struct:
                return self.types.objects[index].size
        return scalar_width(<unsigned char>kind)

    cdef bint check_on_other(self, object on_other, int32_t number) except -1:
        if not isinstance(on_other, str) or on_other not in ("raise", "skip"):
            raise ValueError(f"on_other must be 'raise' or 'skip', got {on_other!r:.100}")
        if on_other == "skip" and not identifier_of(self, number):
            raise ValueError(
                f"on_other='skip' needs a file identifier, and {self.object_names[number]} has none: it is that of a "
                "schema's root table"
            )
        return on_other == "skip"

    cdef str reason_of_other(self, int32_t number, const uint8_t* data):
        return (
            f"the message has the file identifier {(<const char*>data)[4:8].decode('latin-1')!r}, but that of "
            f"{self.object_names[number]} is {self.file_identifier.decode('latin-1')!r}"
        )

    cdef int32_t check_table(self, object number) except -1:
        if not self.ready:
            raise ValueError("this layout was never completed")
        return self.check_is_table(number)

    cdef int32_t check_is_table(self, object number) except -1:
        index = index_of(number)
        if index is None or not 0 <= index < self.object_count:
            raise ValueError(f"there is no object {number!r:.100}: the schema has {self.object_count}")
        if self.types.objects[<Py_ssize_t>index].is_struct:
            raise ValueError(f"object {index} is a struct, not a table")
        return index

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.objects is not NULL:
            for i in range(self.object_count):
                PyMem_RawFree(self.objects[i].fields)
        PyMem_RawFree(self.objects)
