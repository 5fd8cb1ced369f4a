# cython: boundscheck=False, wraparound=False
"""Messages that are built once, to be copied and filled in.

If two messages of a table have the same fields, all of them numbers or structs, then they differ only in the values of
these fields. So `MessageBuilder` builds one such message, and every other one is a copy with the values stored into it.
"""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.base.checks cimport index_of
from flatstream._core.flatbuf.kinds cimport OBJECT, is_scalar
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.message_builder cimport MessageBuilder, end_offset_of, mark_field
from flatstream._core.flatbuf.verifier cimport Field, ObjectType


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


# It cannot be part of a reference cycle.
@cython.no_gc
cdef class Template:
    """A message in which only the values of its fields are missing.

    Parameters
    ----------
    layout : Layout
        The types of the schema.
    number : int
        The number of the table.
    fields : iterable of int
        The numbers of the fields that the message has. They are numbers and structs.
    identifier : bytes
        The file identifier of the message, four bytes or none.

    Raises
    ------
    ValueError
        The table does not have a field, or a field is neither a number nor a struct.
    """

    def __init__(self, Layout layout not None, number, fields, bytes identifier not None=b""):
        cdef int32_t table = layout.check_table(number)
        cdef Py_ssize_t count = layout.types.objects[table].field_count, i
        cdef bytearray present = bytearray(count + 1)
        if self.chunk is not None:
            raise TypeError("Template.__init__ must not be called twice")
        for field in fields:
            index = index_of(field)
            if index is None or not 0 <= index < count:
                raise ValueError(f"{layout.object_names[table]} has {count} fields, there is no {field!r:.100}")
            i = index
            present[i] = 1
        fill(self, layout, table, <const uint8_t*><char*>present, identifier)

    @property
    def message(self):
        """The bytes of the message, with zeros for the values of the fields."""
        return self.data[:self.size] if self.chunk is not None else b""

    def offset(self, field):
        """The offset of the value of this field from the beginning of the message, or None."""
        index = index_of(field)
        if index is None or not 0 <= index < self.field_count or self.offsets[<Py_ssize_t>index] < 0:
            return None
        return self.offsets[<Py_ssize_t>index]

    def __dealloc__(self):
        PyMem_RawFree(self.offsets)


cdef Template make_template(Layout layout, int32_t number, const uint8_t* present, bytes identifier):
    cdef Template made = Template.__new__(Template)
    fill(made, layout, number, present, identifier)
    return made


cdef int fill(Template made, Layout layout, int32_t number, const uint8_t* present, bytes identifier) except -1:
    cdef ObjectType* table = &layout.types.objects[number]
    cdef FieldLayout* fields = layout.objects[number].fields
    cdef Field* field
    cdef MessageBuilder builder = MessageBuilder(256)
    cdef Py_ssize_t i, size = 0, entry_count = 0, root
    cdef uint32_t alignment = 256
    cdef const uint8_t* message
    if len(identifier) not in (0, 4):
        raise ValueError(f"a file identifier has four bytes, got {identifier!r:.100}")
    # An earlier call may have failed.
    PyMem_RawFree(made.offsets)
    made.offsets = <int32_t*>PyMem_RawCalloc(<size_t>max(table.field_count, 1), sizeof(int32_t))
    if made.offsets is NULL:
        raise MemoryError("no memory for the offsets of fields")
    made.field_count = table.field_count
    for i in range(table.field_count):
        made.offsets[i] = -1
        field = &table.fields[i]
        if present[i] and not is_scalar(field.kind) and not (
            field.kind == OBJECT and layout.types.objects[field.index].is_struct
        ):
            raise ValueError(
                f"{layout.object_names[number]}.{layout.field_names[number][i]} is neither a scalar nor a struct"
            )
        # The entry in the vtable differs from the number of the field if the schema leaves out numbers.
        entry_count = max(entry_count, (field.offset - 4) // 2 + 1)
    builder.start_table(entry_count)
    # The largest alignment first, so that no padding is needed between fields.
    while alignment:
        for i in range(table.field_count - 1, -1, -1):
            if present[i] and fields[i].alignment == alignment:
                builder.put_struct(fields[i].size, alignment)
                mark_field(builder, (table.fields[i].offset - 4) // 2)
                made.offsets[i] = <int32_t>end_offset_of(builder)
        alignment >>= 1
    root = builder.end_table()
    builder.finish_message(root, identifier)
    message = builder.finished_bytes(&size)
    made.chunk = Chunk(size)
    memcpy(made.chunk.data, message, <size_t>size)
    made.data = made.chunk.data
    made.size = size
    for i in range(table.field_count):
        if made.offsets[i] >= 0:
            # Until here an end offset: the size of the message was not known.
            made.offsets[i] = <int32_t>(size - made.offsets[i])
    return 0


# It cannot be part of a reference cycle.
@cython.final
@cython.no_gc
cdef class TemplateCache:
    def __dealloc__(self):
        self.drop()

    cdef int drop(self) noexcept:
        """Empties the cache."""
        cdef Py_ssize_t i
        for i in range(self.capacity):
            PyMem_RawFree(self.entries[i].offsets)
        PyMem_RawFree(self.entries)
        self.entries = NULL
        self.recent = NULL
        self.capacity = 0
        self.count = 0
        return 0

    cdef int enlarge(self) except -1:
        """Doubles the hash table, or empties the cache if it is full."""
        # First: allocating a list can start the garbage collector, and Python code that it runs can call `add`.
        cdef list no_templates = []
        cdef bint full = self.count >= self.max_count
        cdef Py_ssize_t i, capacity = 16 if full or not self.capacity else 2 * self.capacity
        cdef CacheEntry* entries = <CacheEntry*>PyMem_RawCalloc(<size_t>capacity, sizeof(CacheEntry))
        cdef CacheEntry* old
        cdef Py_ssize_t old_capacity
        if entries is NULL:
            raise MemoryError(f"no memory for {capacity} templates")
        self.recent = NULL
        if full:
            # A program that writes this many kinds of messages gains nothing from templates.
            self.drop()
            self.templates = no_templates
        old = self.entries
        old_capacity = self.capacity
        self.entries = entries
        self.capacity = capacity
        for i in range(old_capacity):
            if old[i].data is not NULL:
                probe(self, old[i].mask)[0] = old[i]
        PyMem_RawFree(old)
        return 0

    cdef const CacheEntry* add(self, uint64_t mask) except NULL:
        cdef const CacheEntry* known = find_template(self, mask)
        cdef CacheEntry* entry
        cdef bytearray present
        cdef Template template
        cdef Py_ssize_t i
        if known is not NULL:
            self.recent = known
            return known
        present = bytearray(self.layout.types.objects[self.number].field_count + 1)
        for i in range(self.field_count):
            if mask >> i & 1:
                present[self.fields[i]] = 1
        template = make_template(self.layout, self.number, <const uint8_t*><char*>present, self.identifier)
        if 2 * self.count + 2 > self.capacity:
            self.enlarge()
        # From here on no Python code runs.
        entry = probe(self, mask)
        if entry.data is NULL:
            self.templates.append(template)
            # One allocation for both arrays.
            entry.offsets = <int32_t*>PyMem_RawCalloc(<size_t>max(self.field_count, 1), sizeof(int32_t) + 1)
            if entry.offsets is NULL:
                raise MemoryError("no memory for the offsets of fields")
            entry.bits = <uint8_t*>(entry.offsets + self.field_count)
            for i in range(self.field_count):
                if mask >> i & 1:
                    entry.offsets[i] = template.offsets[self.fields[i]]
                    entry.bits[entry.bit_count] = <uint8_t>i
                    entry.bit_count += 1
            entry.mask = mask
            entry.data = template.data
            entry.size = template.size
            self.count += 1
        self.recent = entry
        return entry


cdef TemplateCache make_template_cache(
    Layout layout, int32_t number, bytes identifier, const int32_t* fields, Py_ssize_t field_count,
    Py_ssize_t max_count
):
    cdef TemplateCache cache = TemplateCache.__new__(TemplateCache)
    cdef Py_ssize_t i
    if field_count > MAX_MASKED_FIELDS:
        raise ValueError(f"templates take at most {MAX_MASKED_FIELDS} fields, got {field_count}")
    cache.layout = layout
    cache.number = number
    cache.identifier = identifier
    for i in range(field_count):
        cache.fields[i] = fields[i]
    cache.field_count = field_count
    cache.max_count = max_count
    cache.templates = []
    return cache
