# cython: boundscheck=False, wraparound=False
"""The fields of each table and struct of a schema, by their names."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t

from flatstream._core.flatbuf.kinds cimport is_scalar, scalar_width
from flatstream._core.flatbuf.layout cimport Layout
from flatstream._core.flatbuf.verifier cimport Limits, check_limits
from flatstream._core.records.json_types cimport JsonTypes
from flatstream._core.records.message_arrays cimport ArrayTypes, load_array_types

from sys import intern


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


# no_gc: it refers to strings, a layout and the types of arrays, none of which refers back to it.
@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class RecordTypes:
    """The types that the records of a schema share: its layout, and the fields of each object by their names.

    Parameters
    ----------
    layout : Layout
        The layout of the schema.
    """

    def __init__(self, Layout layout not None):
        cdef Py_ssize_t i, j
        cdef ObjectFields* fields
        cdef NameEntry* entry
        cdef size_t entry_count, k
        if self.layout is not None:
            raise TypeError("RecordTypes.__init__ must not be called twice")
        if not layout.ready:
            raise ValueError("the layout is incomplete: its __init__ did not finish")
        check_limits(64, 1_000_000, 2**31, &self.limits)
        self.layout = layout
        self.names = [list(map(intern, names)) for names in layout.field_names]
        self.object_fields = <ObjectFields**>PyMem_RawCalloc(
            <size_t>max(layout.object_count, 1), sizeof(ObjectFields*)
        )
        if self.object_fields is NULL:
            raise MemoryError("no memory for the types of records")
        for i in range(layout.object_count):
            entry_count = 2
            while entry_count < <size_t>(2 * layout.types.objects[i].field_count):
                entry_count *= 2
            fields = <ObjectFields*>PyMem_RawCalloc(1, sizeof(ObjectFields) + entry_count * sizeof(NameEntry))
            if fields is NULL:
                raise MemoryError("no memory for the names of fields")
            self.object_fields[i] = fields
            fields.fields = layout.types.objects[i].fields
            fields.layouts = layout.objects[i].fields
            fields.field_count = layout.types.objects[i].field_count
            fields.size = layout.types.objects[i].size
            fields.is_struct = layout.types.objects[i].is_struct
            fields.mask = entry_count - 1
            for j in range(fields.field_count):
                field_name = self.names[i][j]
                if fields.layouts[j].deprecated or is_special(field_name):
                    continue
                k = hash_address(<PyObject*>field_name, fields.mask)
                while fields.entries[k].name is not NULL:
                    k = (k + 1) & fields.mask
                entry = &fields.entries[k]
                entry.name = <PyObject*>field_name
                entry.number = <int32_t>j
                if is_scalar(fields.fields[j].kind) and not fields.is_struct:
                    entry.offset = fields.fields[j].offset
                    entry.kind = fields.fields[j].kind
                    entry.width = <uint8_t>scalar_width(entry.kind)
        self.ready = True

    cdef RecordTypes with_limits(self, tuple limits):
        """The same types with other limits, given as `check_limits` takes them; these types if the limits are theirs.

        Records refer to the limits that they were opened with by referring to their types.
        """
        cdef RecordTypes other
        cdef Limits checked
        max_depth, max_tables, max_apparent_size = limits
        check_limits(max_depth, max_tables, max_apparent_size, &checked)
        if (
            checked.max_depth == self.limits.max_depth and checked.max_tables == self.limits.max_tables
            and checked.max_apparent_size == self.limits.max_apparent_size
        ):
            return self
        other = RecordTypes.__new__(RecordTypes)
        other.origin = self if self.origin is None else self.origin
        other.layout = self.layout
        other.object_fields = self.object_fields
        other.names = self.names
        other.limits = checked
        other.ready = self.ready
        return other

    cdef int32_t check_root(self, object number) except -1:
        """`number`, checked to be that of a table: the root of a message is always one."""
        if not self.ready:
            raise ValueError("the RecordTypes are incomplete: their __init__ did not finish")
        return self.layout.check_table(number)

    cdef int32_t find(self, int32_t object, object name) except -2:
        """The number of the field with this name, or -1. `name` need not be interned."""
        number = (<dict>self.layout.numbers[object]).get(name)
        return -1 if number is None else <int32_t>number

    cdef ArrayTypes array_types(self):
        """The types of arrays. The first call imports NumPy."""
        if self.origin is not None:
            return self.origin.array_types()
        if self.arrays is None:
            self.arrays = load_array_types(self.layout)
        return self.arrays

    cdef ArrayTypes find_array_types(self):
        """The types of arrays, or None without NumPy. Whether there is one is found out once, as a failed import costs
        as much as reading a thousand numbers.
        """
        if self.origin is not None:
            return self.origin.find_array_types()
        if self.arrays is None and not self.lacks_numpy:
            try:
                self.arrays = load_array_types(self.layout)
            except ImportError:
                self.lacks_numpy = True
        return self.arrays

    cdef JsonTypes json_types(self):
        """The names of the schema as JSON text."""
        if self.origin is not None:
            return self.origin.json_types()
        if self.json is None:
            self.json = JsonTypes(self.layout)
        return self.json

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.origin is not None:
            return
        if self.object_fields is not NULL:
            for i in range(self.layout.object_count):
                PyMem_RawFree(self.object_fields[i])
        PyMem_RawFree(self.object_fields)
