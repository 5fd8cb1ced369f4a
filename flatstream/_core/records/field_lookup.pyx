# cython: boundscheck=False, wraparound=False
"""How the records of a schema are read: its fields by their names, and what NumPy calls their types."""

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t

from flatstream._core.flatbuf.kinds cimport ARRAY, BOOL, OBJECT, is_scalar, scalar_width
from flatstream._core.flatbuf.layout cimport Layout
from flatstream._core.flatbuf.verifier cimport Field, check_limits

from importlib import import_module
from sys import intern


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# By the numbers of Kind.
FORMS = (None, "u1", "?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")


# It holds names, a layout and what NumPy is asked for, so it cannot be part of a cycle.
@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class RecordTypes:
    """How the records of a schema are read: its layout, with the fields of each object by their names.

    Parameters
    ----------
    layout : Layout
        Of the schema.
    """

    def __init__(self, Layout layout not None):
        cdef Py_ssize_t i, j
        cdef Shape* shape
        cdef Slot* slot
        cdef size_t slots, place
        if self.layout is not None:
            raise TypeError("RecordTypes.__init__ must not be called twice")
        if not layout.ready:
            raise ValueError("this layout was never completed")
        check_limits(64, 1_000_000, 2**31, &self.limits)
        self.layout = layout
        self.struct_dtypes = {}
        self.names = [list(map(intern, names)) for names in layout.field_names]
        self.shapes = <Shape**>PyMem_RawCalloc(<size_t>max(layout.object_count, 1), sizeof(Shape*))
        if self.shapes is NULL:
            raise MemoryError("no memory for the records of a schema")
        for i in range(layout.object_count):
            slots = 2
            while slots < <size_t>(2 * layout.types.objects[i].field_count):
                slots *= 2
            shape = <Shape*>PyMem_RawCalloc(1, sizeof(Shape) + slots * sizeof(Slot))
            if shape is NULL:
                raise MemoryError("no memory for the names of fields")
            self.shapes[i] = shape
            shape.fields = layout.types.objects[i].fields
            shape.layouts = layout.objects[i].fields
            shape.field_count = layout.types.objects[i].field_count
            shape.size = layout.types.objects[i].size
            shape.is_struct = layout.types.objects[i].is_struct
            shape.mask = slots - 1
            for j in range(shape.field_count):
                field_name = self.names[i][j]
                if shape.layouts[j].deprecated or is_special(field_name):
                    continue
                place = slot_of(<PyObject*>field_name, shape.mask)
                while shape.slots[place].name is not NULL:
                    place = (place + 1) & shape.mask
                slot = &shape.slots[place]
                slot.name = <PyObject*>field_name
                slot.number = <int32_t>j
                if is_scalar(shape.fields[j].kind) and not shape.is_struct:
                    slot.offset = shape.fields[j].offset
                    slot.kind = shape.fields[j].kind
                    slot.width = <uint8_t>scalar_width(slot.kind)
        self.ready = True

    cdef int32_t check_root(self, object number) except -1:
        """`number` as that of a table, which a message may begin with."""
        if not self.ready:
            raise ValueError("these types were never completed")
        return self.layout.check_table(number)

    cdef int32_t find(self, int32_t object, object name) except -2:
        """The number of a field by any string that is equal to its name, or -1."""
        known = (<dict>self.layout.numbers[object]).get(name)
        return -1 if known is None else <int32_t>known

    cdef int load_numpy(self) except -1:
        try:
            # Not a statement: Cython's takes None for a module, which is how one is made to be missing.
            numpy = import_module("numpy")
        except ImportError as error:
            raise ImportError(
                "vectors of numbers are NumPy arrays, and NumPy cannot be imported: install it (pip install numpy), or "
                "use to_dict()"
            ) from error
        self.dtype = numpy.dtype
        self.dtypes = [None if form is None else numpy.dtype(form) for form in FORMS]
        self.frombuffer = numpy.frombuffer
        return 0

    cdef object struct_dtype(self, int32_t object):
        """What NumPy calls a struct: the same bytes, with the fields at their places."""
        cdef const Shape* shape = self.shapes[object]
        cdef const Field* field
        cdef Py_ssize_t j
        known = self.struct_dtypes.get(object)
        if known is not None:
            return known
        formats = []
        for j in range(shape.field_count):
            field = &shape.fields[j]
            inner = field.element if field.kind == ARRAY else field.kind
            form = self.struct_dtype(field.index) if inner == OBJECT else self.dtypes[inner]
            formats.append((form, (shape.layouts[j].length,)) if field.kind == ARRAY else form)
        known = self.dtype({
            "names": self.names[object], "formats": formats, "itemsize": shape.size,
            "offsets": [shape.fields[j].offset for j in range(shape.field_count)],
        })
        self.struct_dtypes[object] = known
        return known

    cdef list truth_places(self, int32_t object):
        """Which bytes of a struct are truth values."""
        cdef const Shape* shape = self.shapes[object]
        cdef const Field* field
        cdef Py_ssize_t j, count
        places = []
        for j in range(shape.field_count):
            field = &shape.fields[j]
            inner = field.element if field.kind == ARRAY else field.kind
            if inner != BOOL and inner != OBJECT:
                continue
            count = <Py_ssize_t>shape.layouts[j].length if field.kind == ARRAY else 1
            inside = [0] if inner == BOOL else self.truth_places(field.index)
            width = 1 if inner == BOOL else self.shapes[field.index].size
            places += [field.offset + i * width + place for i in range(count) for place in inside]
        return places

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.shapes is not NULL:
            for i in range(self.layout.object_count):
                PyMem_RawFree(self.shapes[i])
        PyMem_RawFree(self.shapes)
