# cython: boundscheck=False, wraparound=False
"""Messages made once, to be copied and filled in.

All messages of a table that have the same fields, and nothing but scalars and structs, differ in the values of these
fields alone. So the `Builder` makes one of them, and each of the others is a copy with a few numbers stored into it.
"""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout, is_scalar
from flatstream._core.flatbuf.verifier cimport OBJECT, Field, ObjectType


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


# It holds nothing that could lead back to it.
@cython.no_gc
cdef class Template:
    """A message with room for values.

    Parameters
    ----------
    layout : Layout
        Of the schema.
    number : int
        Of the table.
    fields : iterable of int
        The numbers of the fields that the message has: scalars and structs.
    identifier : bytes
        The file identifier of the message, or none.

    Raises
    ------
    ValueError
        A field is not there, or neither scalar nor struct.
    """

    def __init__(self, Layout layout not None, number, fields, bytes identifier not None=b""):
        cdef int32_t table = layout.check_table(number)
        cdef Py_ssize_t count = layout.types.objects[table].field_count, i
        cdef bytearray present = bytearray(count + 1)
        if self.chunk is not None:
            raise TypeError("Template.__init__ must not be called twice")
        for field in fields:
            if not isinstance(field, int) or not 0 <= field < count:
                raise ValueError(f"{layout.object_names[table]} has {count} fields, there is no {field!r:.100}")
            i = field
            present[i] = 1
        fill(self, layout, table, <const uint8_t*><char*>present, identifier)

    @property
    def message(self):
        """The bytes, with zeros in the place of values."""
        return self.data[:self.size] if self.chunk is not None else b""

    def place(self, field):
        """At which byte of the message the value of this field begins, or None."""
        if not isinstance(field, int) or not 0 <= field < self.field_count or self.places[<Py_ssize_t>field] < 0:
            return None
        return self.places[<Py_ssize_t>field]

    def __dealloc__(self):
        PyMem_RawFree(self.places)


cdef Template make_template(Layout layout, int32_t number, const uint8_t* present, bytes identifier):
    cdef Template made = Template.__new__(Template)
    fill(made, layout, number, present, identifier)
    return made


cdef int fill(Template made, Layout layout, int32_t number, const uint8_t* present, bytes identifier) except -1:
    cdef ObjectType* table = &layout.types.objects[number]
    cdef FieldLayout* fields = layout.objects[number].fields
    cdef Field* field
    cdef Builder builder = Builder(256)
    cdef Py_ssize_t i, size = 0, slots = 0
    cdef uint32_t alignment = 256
    cdef const uint8_t* message
    if len(identifier) not in (0, 4):
        raise ValueError(f"a file identifier has four bytes, got {identifier!r:.100}")
    made.places = <int32_t*>PyMem_RawCalloc(<size_t>max(table.field_count, 1), sizeof(int32_t))
    if made.places is NULL:
        raise MemoryError("no memory for the places of fields")
    made.field_count = table.field_count
    for i in range(table.field_count):
        made.places[i] = -1
        field = &table.fields[i]
        if present[i] and not is_scalar(field.kind) and not (
            field.kind == OBJECT and layout.types.objects[field.index].is_struct
        ):
            raise ValueError(
                f"{layout.object_names[number]}.{layout.field_names[number][i]} is neither a scalar nor a struct"
            )
        # The place in the vtable, which is not the number if a schema passes over some.
        slots = max(slots, (field.offset - 4) // 2 + 1)
    builder.start_object(slots)
    # What is aligned most comes first, so that nothing has to be left free between fields.
    while alignment:
        for i in range(table.field_count - 1, -1, -1):
            if present[i] and fields[i].alignment == alignment:
                builder.prep(alignment, fields[i].size)
                builder._head -= fields[i].size
                memset(builder.data + builder._head, 0, fields[i].size)
                builder.mark_slot((table.fields[i].offset - 4) // 2)
                made.places[i] = <int32_t>(builder.capacity - builder._head)
        alignment >>= 1
    root = builder.EndObject()
    builder.finish(root, False, identifier if identifier else None)
    message = builder.finished_bytes(&size)
    made.chunk = Chunk(size)
    memcpy(made.chunk.data, message, <size_t>size)
    made.data = made.chunk.data
    made.size = size
    for i in range(table.field_count):
        if made.places[i] >= 0:
            # Counted from the end until now, since that alone was known.
            made.places[i] = <int32_t>(size - made.places[i])
    return 0
