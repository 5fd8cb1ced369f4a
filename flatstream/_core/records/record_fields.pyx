# cython: boundscheck=False, wraparound=False
"""How field values and elements of vectors are found in Python objects: mappings, sequences, objects with attributes,
rows of NumPy.
"""

import dataclasses
import keyword
from collections.abc import Mapping

from cpython.buffer cimport PyObject_CheckBuffer
from libc.stdint cimport int32_t

from flatstream._core.base.checks cimport listed
from flatstream._core.flatbuf.kinds cimport VECTOR
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.verifier cimport Field

from flatstream._core.flatbuf.scalars import RefusalError


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# The most classes that a cache remembers: a program that creates classes all the time must not fill memory.
cdef Py_ssize_t MAX_CACHED_CLASSES = 256

cdef object MISSING = object()

# How the field values of a record are found.
cdef enum Access:
    BY_NAME
    BY_POSITION
    BY_ATTRIBUTE
    # NumPy: by the names of the dtype or by position.
    BY_DTYPE
    # The object is not a record.
    NO_RECORD

_access_by_class = {}


cdef int fail(object kind, str text) except -1:
    raise RefusalError(kind, text)


cdef str type_name(object value):
    return type(value).__name__


# Names

def declared_fields(cls):
    """The names of the fields that a named tuple or a data class declares; none for other classes."""
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return getattr(cls, "_fields", ())


def generated_name(name):
    """The attribute that flatc's object API generates for a field, or None if it has the field's own name."""
    camel = name[:1].lower()
    i = 1
    while i < len(name):
        if name[i] == "_" and i + 1 < len(name):
            i += 1
            camel += name[i].upper()
        else:
            camel += name[i]
        i += 1
    if keyword.iskeyword(camel):
        camel += "_"
    return None if camel == name else camel


cdef class ObjectEncoding:
    def __dealloc__(self):
        PyMem_RawFree(self.positions)
        PyMem_RawFree(self.storage_order)


cdef ObjectEncoding make_encoding(Layout layout, int32_t index):
    cdef ObjectEncoding encoding = ObjectEncoding.__new__(ObjectEncoding)
    cdef Field* fields = layout.types.objects[index].fields
    cdef FieldLayout* layouts = layout.objects[index].fields
    cdef bint is_struct = layout.types.objects[index].is_struct
    cdef Py_ssize_t i
    cdef int32_t number
    encoding.name = layout.object_names[index]
    encoding.field_names = layout.field_names[index]
    # Loop, not comprehension: Cython decrefs the item twice if the append fails with MemoryError.
    generated_names = []
    for name in encoding.field_names:
        generated_names.append(generated_name(name))
    encoding.generated_names = tuple(generated_names)
    encoding.numbers = layout.numbers[index]
    encoding.checked_classes = set()
    encoding.field_count = layout.types.objects[index].field_count
    encoding.positions = <int32_t*>PyMem_RawCalloc(<size_t>max(encoding.field_count, 1), sizeof(int32_t))
    encoding.storage_order = <int32_t*>PyMem_RawCalloc(<size_t>max(encoding.field_count, 1), sizeof(int32_t))
    if encoding.positions is NULL or encoding.storage_order is NULL:
        raise MemoryError("no memory for the order of fields")
    numbers = []
    for i in range(encoding.field_count):
        if not layouts[i].deprecated:
            numbers.append(i)
    for number in numbers:
        if not encoding.position_count:
            encoding.first_kind = fields[number].kind
        encoding.positions[encoding.position_count] = number
        encoding.position_count += 1
        if not is_struct:
            encoding.entry_count = max(encoding.entry_count, (fields[number].offset - 4) // 2 + 1)
    if not is_struct:
        # The order of a Template, so that a message has the same bytes with and without a template.
        numbers.sort(key=lambda i: (-<Py_ssize_t>layouts[<Py_ssize_t>i].alignment, -i))
    for i, number in enumerate(numbers):
        encoding.storage_order[i] = number
    return encoding


# Field values. Each function returns a list of values by the numbers of the fields; None stands for an absent field.

cdef int access_of(object cls) except -1:
    """How the field values of records of this class are found."""
    cdef int access
    found = _access_by_class.get(cls)
    if found is not None:
        return found
    if issubclass(cls, Mapping):
        access = BY_NAME
    elif issubclass(cls, (tuple, list)):
        access = BY_ATTRIBUTE if hasattr(cls, "_fields") else BY_POSITION
    elif dataclasses.is_dataclass(cls):
        access = BY_ATTRIBUTE
    elif hasattr(cls, "keys") and hasattr(cls, "__getitem__"):
        # The protocol of dict(): a row of sqlite3 or of pandas.
        access = BY_NAME
    elif issubclass(cls, (str, bytes, bytearray, memoryview, int, float, complex, set, frozenset, type)):
        access = NO_RECORD
    elif hasattr(cls, "dtype") and hasattr(cls, "item"):
        # A row of a structured array, which has names, or of a matrix, which has none.
        access = BY_DTYPE
    else:
        access = BY_ATTRIBUTE
    if len(_access_by_class) >= MAX_CACHED_CLASSES:
        _access_by_class.clear()
    _access_by_class[cls] = access
    return access


cdef list field_values(ObjectEncoding encoding, object record):
    cdef int access = BY_NAME if type(record) is dict else access_of(type(record))
    if access == BY_NAME:
        return values_by_name(encoding, record)
    if access == BY_DTYPE:
        names = getattr(record.dtype, "names", None)
        if names is not None and not record.shape:
            return values_by_name(encoding, {name: record[name] for name in names})
        if record.shape:
            return values_by_position(encoding, list(record))
    elif access == BY_POSITION:
        return values_by_position(encoding, record)
    elif access == BY_ATTRIBUTE and record is not None:
        return values_by_attribute(encoding, record)
    fail(
        TypeError,
        f"expected a record of {encoding.name} (a mapping, a tuple, a list or an object with its fields as "
        f"attributes), got {type_name(record)}: {record!r:.100}"
    )


cdef list values_by_position(ObjectEncoding encoding, object record):
    """`record` is a list or a tuple."""
    cdef list values
    cdef Py_ssize_t k, given
    if record and access_of(type(record[0])) == BY_NAME and not encoding.first_kind >= VECTOR:
        fail(
            TypeError,
            f"expected the values of one {encoding.name}, got a {type_name(record)} of records: "
            "use write_records() for several records"
        )
    values = [None] * encoding.field_count
    given = len(record)
    if given > encoding.position_count:
        fail(
            ValueError,
            f"expected at most {encoding.position_count} values for the fields of {encoding.name}, got {given}"
        )
    for k in range(given):
        values[encoding.positions[k]] = record[k]
    return values


cdef list values_by_name(ObjectEncoding encoding, object record):
    cdef list values = [None] * encoding.field_count
    for name, value in (record if isinstance(record, Mapping) else dict(record)).items():
        set_value(encoding, values, name, value)
    return values


cdef int set_value(ObjectEncoding encoding, list values, object name, object value) except -1:
    """Sets the value of the field with this name."""
    number = encoding.numbers.get(name)
    if number is None:
        if not isinstance(name, str):
            fail(TypeError, f"expected the name of a field, got {type_name(name)}: {name!r:.100}")
        if name in encoding.field_names:
            fail(ValueError, f"field {name!r} of {encoding.name} is deprecated")
        fail(ValueError, f"{encoding.name} has no field {name!r:.100}; it has {listed(encoding.numbers)}")
    values[<Py_ssize_t>number] = value
    return 0


cdef list values_by_attribute(ObjectEncoding encoding, object record):
    cdef list values = [None] * encoding.field_count
    cdef Py_ssize_t k, found = 0
    cdef int32_t i
    if type(record) not in encoding.checked_classes:
        for name in declared_fields(type(record)):
            if name not in encoding.numbers and name not in encoding.generated_names:
                # Raises the error for an unknown name.
                set_value(encoding, values, name, None)
        if len(encoding.checked_classes) >= MAX_CACHED_CLASSES:
            encoding.checked_classes.clear()
        encoding.checked_classes.add(type(record))
    for k in range(encoding.position_count):
        i = encoding.positions[k]
        value = getattr(record, encoding.field_names[i], MISSING)
        if value is MISSING and encoding.generated_names[i] is not None:
            value = getattr(record, encoding.generated_names[i], MISSING)
        if value is not MISSING:
            values[i] = value
            found += 1
    if not found and encoding.position_count:
        fail(
            TypeError,
            f"expected a record of {encoding.name}, whose attributes are {listed(encoding.numbers)}; got "
            f"{type_name(record)} with none of them: {record!r:.100}"
        )
    return values


# Elements of vectors

cdef object buffer_of(object value):
    """An object that exports the elements of an array as a buffer, or `value` itself if there is none."""
    kind = type(value)
    if kind is list or kind is tuple or kind is bytes:
        return value
    if hasattr(kind, "mask") and getattr(value.mask, "any", None) is not None and value.mask.any():
        fail(ValueError, "an element of a vector must not be masked")
    if not PyObject_CheckBuffer(value):
        if not hasattr(kind, "__array__"):
            return value
        # For example a Series of pandas: __array__() returns a NumPy array.
        value = value.__array__()
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", None) in ("m", "M"):
        # Times: NumPy stores them as integers of 64 bits, but the buffer protocol has no format for them.
        return value.view("i8")
    return value


cdef object elements_of(object value):
    """The elements of a vector in a list or tuple that no other code can change."""
    if type(value) is tuple:
        return value
    # Apart: for a tuple of built-in classes and one of Python, Cython's isinstance loses the error.
    if (
        isinstance(value, (str, bytes, bytearray)) or isinstance(value, Mapping)
        or not hasattr(type(value), "__iter__")
    ):
        fail(TypeError, f"expected a sequence, got {type_name(value)}: {value!r:.100}")
    tolist = getattr(value, "tolist", None)
    if callable(tolist) and getattr(value, "dtype", None) is not None and getattr(value.dtype, "names", None) is None:
        if getattr(value, "ndim", 1) == 1:
            return list(tolist())
    return list(value)
