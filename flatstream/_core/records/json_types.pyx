# cython: boundscheck=False, wraparound=False
"""The names of a schema's fields and enumerators, as the text that JSON has for them."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

from flatstream._core.flatbuf.layout cimport EnumLayout, Layout
from flatstream._core.records.json_numbers cimport prepare_numbers


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


# no_gc: it refers to a layout and to bytes.
@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class JsonTypes:
    def __init__(self, Layout layout not None):
        cdef Py_ssize_t i, j
        cdef EnumLayout enum
        cdef JsonField* field
        cdef dict nested
        if self.layout is not None:
            raise TypeError("JsonTypes.__init__ must not be called twice")
        if not layout.ready:
            raise ValueError("the layout is incomplete: its __init__ did not finish")
        prepare_numbers()
        self.layout = layout
        self.texts = []
        self.objects = <JsonField**>PyMem_RawCalloc(<size_t>max(layout.object_count, 1), sizeof(JsonField*))
        self.enums = <JsonEnum*>PyMem_RawCalloc(<size_t>max(len(layout.enums), 1), sizeof(JsonEnum))
        if self.objects is NULL or self.enums is NULL:
            raise MemoryError("no memory for the names of a schema")
        nested = layout.nested
        for i in range(layout.object_count):
            names = layout.field_names[i]
            self.objects[i] = <JsonField*>PyMem_RawCalloc(<size_t>max(len(names), 1), sizeof(JsonField))
            if self.objects[i] is NULL:
                raise MemoryError("no memory for the names of fields")
            for j in range(<Py_ssize_t>len(names)):
                field = &self.objects[i][j]
                field.key = self.text_of(names[j], b":", &field.key_size)
                field.nested = nested.get((i, j), -1)
                field.is_key = layout.keys.get(i) == j
        for i in range(<Py_ssize_t>len(layout.enums)):
            enum = layout.enums[i]
            self.enums[i].bit_flags = enum.bit_flags
            values = sorted((enum.bits_of(value), name) for value, name in enum.by_value.items())
            self.enums[i].names = <JsonName*>PyMem_RawCalloc(<size_t>max(len(values), 1), sizeof(JsonName))
            if self.enums[i].names is NULL:
                raise MemoryError("no memory for the names of an enum")
            for j in range(<Py_ssize_t>len(values)):
                bits, name = values[j]
                self.enums[i].names[j].bits = bits
                self.enums[i].names[j].text = self.text_of(name, b"", &self.enums[i].names[j].size)
                self.enums[i].count = j + 1

    cdef const char* text_of(self, object name, bytes after, Py_ssize_t* size) except NULL:
        """A name in quotes, followed by `after`."""
        # Imported here, because most programs that load a schema need no JSON.
        from json.encoder import encode_basestring
        cdef bytes text = encode_basestring(name).encode() + after
        self.texts.append(text)
        size[0] = PyBytes_GET_SIZE(text)
        return PyBytes_AS_STRING(text)

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.layout is not None:
            for i in range(self.layout.object_count if self.objects is not NULL else 0):
                PyMem_RawFree(self.objects[i])
            for i in range(len(self.layout.enums) if self.enums is not NULL else 0):
                PyMem_RawFree(self.enums[i].names)
        PyMem_RawFree(self.objects)
        PyMem_RawFree(self.enums)


cdef const JsonName* find_name(const JsonEnum* enum, uint64_t bits) noexcept nogil:
    """The name of a value, or NULL if it has none."""
    cdef Py_ssize_t low = 0, high = enum.count, middle
    if bits < <uint64_t>high and enum.names[bits].bits == bits:
        # Most enums count from 0.
        return &enum.names[bits]
    while low < high:
        middle = (low + high) // 2
        if enum.names[middle].bits < bits:
            low = middle + 1
        else:
            high = middle
    return &enum.names[low] if low < enum.count and enum.names[low].bits == bits else NULL
