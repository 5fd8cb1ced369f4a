# cython: boundscheck=False, wraparound=False
"""Vectors of numbers and of structs as read-only NumPy arrays that share the memory of the message.

NumPy is imported when the first array is requested. Without it, vectors of numbers are arrays of the standard library.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.flatbuf.kinds cimport ARRAY, BOOL, OBJECT, UBYTE, scalar_width
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.verifier cimport Field

from array import array as PlainArray
from importlib import import_module
from sys import byteorder

# By Kind: the type codes of the standard library's arrays, and the format strings of NumPy.
TYPE_CODES = (None, "B", None, "b", "B", "h", "H", "i", "I", "q", "Q", "f", "d")
BIG_ENDIAN = byteorder == "big"
FORMATS = (None, "u1", "?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")


# no_gc: it refers to a layout and to objects of NumPy, none of which refers back to it.
@cython.final
@cython.no_gc
@cython.auto_pickle(False)
cdef class ArrayTypes:
    """The NumPy dtypes of the scalars and structs of a schema."""

    def __init__(self, *args, **kwargs):
        raise TypeError("ArrayTypes are made for the first array of a schema")

    cdef object struct_dtype(self, int32_t object):
        """The dtype of a struct: the same bytes, each field at its offset."""
        cdef const Field* fields = self.layout.types.objects[object].fields
        cdef const FieldLayout* layouts = self.layout.objects[object].fields
        cdef const Field* field
        cdef Py_ssize_t j, field_count = self.layout.types.objects[object].field_count
        known = self.struct_dtypes.get(object)
        if known is not None:
            return known
        formats = []
        for j in range(field_count):
            field = &fields[j]
            element = field.element if field.kind == ARRAY else field.kind
            dtype = self.struct_dtype(field.index) if element == OBJECT else self.dtypes[element]
            formats.append((dtype, (layouts[j].length,)) if field.kind == ARRAY else dtype)
        known = self.dtype({
            "names": list(self.layout.field_names[object]), "formats": formats,
            "itemsize": self.layout.types.objects[object].size,
            "offsets": [fields[j].offset for j in range(field_count)],
        })
        self.struct_dtypes[object] = known
        return known

    cdef list bool_offsets(self, int32_t object):
        """The offsets of the bytes of a struct that are bools."""
        cdef const Field* fields = self.layout.types.objects[object].fields
        cdef const FieldLayout* layouts = self.layout.objects[object].fields
        cdef const Field* field
        cdef Py_ssize_t j, count
        offsets = []
        for j in range(self.layout.types.objects[object].field_count):
            field = &fields[j]
            element = field.element if field.kind == ARRAY else field.kind
            if element != BOOL and element != OBJECT:
                continue
            count = <Py_ssize_t>layouts[j].length if field.kind == ARRAY else 1
            inner = [0] if element == BOOL else self.bool_offsets(field.index)
            width = 1 if element == BOOL else self.layout.types.objects[field.index].size
            offsets += [field.offset + i * width + offset for i in range(count) for offset in inner]
        return offsets


cdef ArrayTypes load_array_types(Layout layout):
    """Imports NumPy."""
    cdef ArrayTypes types
    try:
        # import_module, not an import statement: Cython's statement accepts None in sys.modules as the module, and
        # None there is the usual way to make a module unavailable.
        numpy = import_module("numpy")
    except ImportError as error:
        raise ImportError(
            "to_numpy() needs NumPy, which cannot be imported: install it (pip install numpy), or use to_list()"
        ) from error
    types = ArrayTypes.__new__(ArrayTypes)
    types.layout = layout
    types.frombuffer = numpy.frombuffer
    types.dtype = numpy.dtype
    types.dtypes = [None if name is None else numpy.dtype(name) for name in FORMATS]
    types.struct_dtypes = {}
    return types


# Arrays get this owner, not the memoryview itself: whoever has an array can reach its owner, and could release a
# memoryview. The owner holds the memoryview, so that the chunk behind it counts an export.
@cython.final
@cython.auto_pickle(False)
cdef class ArrayMemory:
    """The part of a message's memory that an array shares."""
    cdef object payload
    cdef const uint8_t* data
    cdef Py_ssize_t size

    def __init__(self, *args, **kwargs):
        raise TypeError("an ArrayMemory is made together with its array")

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self.payload is None:
            raise BufferError("this ArrayMemory has no memory: it was not made together with an array")
        PyBuffer_FillInfo(buffer, self, <void*>self.data, self.size, True, flags)


cdef object share_memory(ArrayTypes types, object payload, const uint8_t* data, uint64_t size, object dtype):
    """A read-only array over `size` bytes at `data`; it keeps `payload` alive."""
    cdef ArrayMemory owner = ArrayMemory.__new__(ArrayMemory)
    owner.payload = payload
    owner.data = data
    owner.size = <Py_ssize_t>size
    return types.frombuffer(owner, dtype)


cdef object scalar_array(ArrayTypes types, object payload, const uint8_t* data, uint8_t kind, uint64_t count):
    """An array of `count` numbers at `data`."""
    cdef uint64_t i
    if kind == BOOL:
        for i in range(count):
            if data[i] > 1:
                # NumPy's behaviour is undefined for a bool that is neither 0 nor 1: copy.
                array = share_memory(types, payload, data, count, types.dtypes[UBYTE]) != 0
                array.setflags(write=False)
                return array
    return share_memory(types, payload, data, count * scalar_width(kind), types.dtypes[kind])


cdef object plain_array(const uint8_t* data, uint8_t kind, uint64_t count):
    cdef uint64_t i
    if kind == BOOL:
        return [data[i] != 0 for i in range(count)]
    numbers = PlainArray(TYPE_CODES[kind], (<const char*>data)[:count * scalar_width(kind)])
    if BIG_ENDIAN:
        numbers.byteswap()
    return numbers


cdef object struct_array(
    ArrayTypes types, object payload, const uint8_t* data, int32_t object, Py_ssize_t count, Py_ssize_t step
):
    """An array of `count` structs, every `step`-th in memory. `data` is the one at the lowest address, which is the
    last element if `step` is negative.
    """
    cdef uint64_t size = types.layout.types.objects[object].size
    cdef Py_ssize_t i, offset, distance = abs(step)
    array = share_memory(
        types, payload, data, size * <uint64_t>((count - 1) * distance + 1) if count else 0, types.struct_dtype(object)
    )[::step or 1]
    offsets = types.bool_offsets(object)
    for offset in offsets:
        for i in range(count):
            if data[<uint64_t>(i * distance) * size + <uint64_t>offset] > 1:
                # As above: copy, and make each bool 0 or 1.
                array = array.copy()
                raw = array.view("u1").reshape(count, size)
                raw[:, offsets] = raw[:, offsets] != 0
                array.setflags(write=False)
                return array
    return array
