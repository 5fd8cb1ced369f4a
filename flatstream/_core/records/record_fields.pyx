# cython: boundscheck=False, wraparound=False
"""How field values and elements of vectors are found in Python objects: mappings, sequences, objects with attributes,
rows of NumPy.
"""

import dataclasses
import keyword
from collections.abc import Mapping

from cpython.buffer cimport PyObject_CheckBuffer
from libc.stdint cimport int32_t

from flatstream._core.base.checks cimport exact_str, listed
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

# NumPy's time that is none, as its integer.
cdef object NAT = -(2**63)

# Of the dtypes of durations and of points in time.
cdef tuple TIME_KINDS = ("m", "M")

# How the field values of a record are found.
cdef enum Access:
    BY_NAME
    BY_POSITION
    BY_ATTRIBUTE
    # NumPy: by the names of the dtype or by position.
    BY_DTYPE
    # The object is not a record.
    NO_RECORD

# Who made the class of a record with attributes.
cdef enum Origin:
    OWN_CLASS
    # flatc's object API.
    GENERATED
    # It inherits from a class of flatc's object API.
    EXTENDED

# How the objects of a class say which of their elements are null.
cdef enum Nulls:
    NO_NULLS
    BY_MASK
    BY_IS_NULL
    BY_ISNA

_access_by_class = {}
_nulls_by_class = {}


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


def with_word_breaks(name, breaks_after_digits):
    """A name in lower case, with an underscore before each capital or digit that follows a small letter: "useRMSNorm"
    becomes "use_rmsnorm". With `breaks_after_digits` also before each capital that follows a digit.
    """
    cdef str words = "", last = ""
    for letter in name:
        if letter.isupper() or letter.isdigit():
            if last.islower() or breaks_after_digits and last.isdigit() and letter.isupper():
                words += "_"
        words += letter.lower()
        last = letter
    return words


def camel_case(words):
    """The words of a name without the underscores: "use_rmsnorm" becomes "useRmsnorm". Of two underscores one stays."""
    cdef str camel = ""
    cdef bint after_underscore = False
    for i, letter in enumerate(words):
        if after_underscore:
            camel += letter.upper()
            after_underscore = False
        elif letter == "_" and i + 1 < len(words):
            after_underscore = True
        else:
            camel += letter
    return camel


def generated_names(name):
    """The attributes that flatc's object API makes of a field: as flatc 2.0.8 names it, and as flatc 25 does if that
    differs. They can be equal to the field's own name.
    """
    cdef str old, new
    old = camel_case(with_word_breaks(f"{name}_" if keyword.iskeyword(name) else name, False))
    new = with_word_breaks(name, True)
    if new[:1] == "_" and len(new) > 1:
        # flatc 25 keeps a leading underscore.
        new = "_" + camel_case(new[1:] if new[1] == "_" else new)
    else:
        new = camel_case(new)
    if keyword.iskeyword(new):
        new += "_"
    return (old,) if new == old else (old, new)


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
    encoding.numbers = layout.numbers[index]
    # Loop, not comprehension: Cython decrefs the item twice if the append fails with MemoryError.
    attribute_names = []
    known_attributes = set(encoding.numbers)
    ignored_attributes = set()
    for name in encoding.field_names:
        names = (name,)
        for other in generated_names(name):
            # A name that another field has in the schema belongs to that field.
            if other not in encoding.field_names and other not in names:
                names += (other,)
        attribute_names.append(names)
        (known_attributes if name in encoding.numbers else ignored_attributes).update(names)
    encoding.attribute_names = tuple(attribute_names)
    encoding.known_attributes = frozenset(known_attributes)
    encoding.ignored_attributes = frozenset(ignored_attributes)
    encoding.checked_classes = {}
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
        # A copy of an instance of a subclass, whose methods can say what they like.
        if type(record) is not tuple and type(record) is not list:
            record = list(record)
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
    number = encoding.numbers.get(exact_str(name) if isinstance(name, str) else name)
    if number is None:
        if not isinstance(name, str):
            fail(TypeError, f"expected the name of a field, got {type_name(name)}: {name!r:.100}")
        if name in encoding.field_names:
            fail(ValueError, f"field {name!r} of {encoding.name} is deprecated")
        fail(ValueError, f"{encoding.name} has no field {name!r:.100}; it has {listed(encoding.numbers)}")
    values[<Py_ssize_t>number] = value
    return 0


cdef int origin_of(ObjectEncoding encoding, object cls) except -1:
    """Whether flatc's object API made this class for the table or struct, which shows in its name: that of the table
    and "T".
    """
    name = encoding.name.rpartition(".")[2] + "T"
    if dataclasses.is_dataclass(cls):
        return OWN_CLASS
    for base in type.mro(cls):
        if base.__name__ == name:
            return GENERATED if base is cls else EXTENDED
    return OWN_CLASS


cdef dict own_attributes(object record):
    """The attributes of an object of a generated class, or of one that extends it; None if it has no dict."""
    own = getattr(record, "__dict__", None)
    if type(own) is not dict:
        return None
    return own


cdef int check_all_known(ObjectEncoding encoding, object record, dict own) except -1:
    """Raises an error if an attribute of a generated class belongs to no field: its value would be lost. flatc makes
    attributes of deprecated fields too.
    """
    unknown = []
    for name in list(own):
        if name not in encoding.known_attributes and name not in encoding.ignored_attributes:
            unknown.append(str(name))
    if not unknown:
        return 0
    fail(
        ValueError,
        f"{type_name(record)} has attributes that are no fields of {encoding.name}: {listed(unknown)}. It has "
        f"{listed(encoding.numbers)}"
    )


cdef list values_by_attribute(ObjectEncoding encoding, object record):
    cdef list values = [None] * encoding.field_count
    cdef Py_ssize_t k, found = 0
    cdef int32_t i
    cdef dict own = None
    origin = encoding.checked_classes.get(type(record))
    if origin is None:
        for name in declared_fields(type(record)):
            if name not in encoding.known_attributes:
                # Raises the error for an unknown name.
                set_value(encoding, values, name, None)
        origin = origin_of(encoding, type(record))
        if len(encoding.checked_classes) >= MAX_CACHED_CLASSES:
            encoding.checked_classes.clear()
        encoding.checked_classes[type(record)] = origin
    if origin != OWN_CLASS:
        own = own_attributes(record)
    for k in range(encoding.position_count):
        i = encoding.positions[k]
        for name in <tuple>encoding.attribute_names[i]:
            # A generated class has methods, whose names a schema can have for fields.
            value = getattr(record, name, MISSING) if own is None else own.get(name, MISSING)
            if value is not MISSING:
                values[i] = value
                found += 1
                break
    # Each field has taken one attribute, so an object with as many attributes has no others.
    if own is not None and origin == GENERATED and found != len(own):
        check_all_known(encoding, record, own)
    if not found and encoding.position_count:
        fail(
            TypeError,
            f"expected a record of {encoding.name}, whose attributes are {listed(encoding.numbers)}; got "
            f"{type_name(record)} with none of them: {record!r:.100}"
        )
    return values


# Elements of vectors

cdef Py_ssize_t null_in(object value) except -2:
    """What counts as null: a masked element of NumPy's masked arrays; what `is_null` says of a Series of polars or an
    array of pyarrow; and what `isna` says of a Series or array of pandas with a nullable type. NaN is a number. For
    NaT see `integers_of_times`.
    """
    cdef int nulls
    kind = type(value)
    if kind is list or kind is tuple or kind is bytes:
        return -1
    found = _nulls_by_class.get(kind)
    if found is None:
        found = (
            # A Series of pandas has a method of this name.
            BY_MASK if not callable(getattr(kind, "mask", len)) else BY_IS_NULL if hasattr(kind, "is_null")
            else BY_ISNA if hasattr(kind, "isna") else NO_NULLS
        )
        if len(_nulls_by_class) >= MAX_CACHED_CLASSES:
            _nulls_by_class.clear()
        _nulls_by_class[kind] = found
    nulls = found
    if nulls == NO_NULLS:
        return -1
    if nulls == BY_MASK:
        flags = value.mask
        if getattr(flags, "any", None) is None:
            return -1
        if getattr(flags, "ndim", 0) != 1:
            return -1
        # The flags of structures are structures, with a flag for each of their fields.
        if getattr(flags.dtype, "names", None):
            flags = [any(flags_of(each)) for each in flags.tolist()]
    elif nulls == BY_IS_NULL:
        flags = value.is_null()
    elif hasattr(getattr(value, "dtype", None), "na_value"):
        flags = value.isna()
    else:
        # A type of NumPy.
        return -1
    for name in ("to_pylist", "to_list", "tolist"):
        convert = getattr(flags, name, None)
        if convert is not None:
            flags = convert()
            break
    try:
        return list(flags).index(True)
    except ValueError:
        return -1


cdef list flags_of(object flag):
    """The flags of a structure of flags, those of the structures and arrays inside of it included."""
    cdef list flat = []
    if not isinstance(flag, (tuple, list)):
        return [flag]
    for part in flag:
        flat += flags_of(part)
    return flat


cdef object integers_of_times(object value, Py_ssize_t* null):
    """An array of times of NumPy, or a Series of them, as an array of their integers; any other value as it is. `null`
    becomes the index of the first NaT, which `null_in` does not look for, or -1.
    """
    null[0] = -1
    kind = type(value)
    if kind is list or kind is tuple or kind is bytes:
        return value
    if getattr(getattr(value, "dtype", None), "kind", None) not in TIME_KINDS:
        return value
    if not PyObject_CheckBuffer(value) and hasattr(kind, "__array__"):
        # Of times with a zone, __array__() returns objects.
        value = value.__array__()
        if getattr(getattr(value, "dtype", None), "kind", None) not in TIME_KINDS:
            return value
    # NumPy stores them as integers of 64 bits, but the buffer protocol has no format for them.
    value = value.view(">i8" if getattr(value.dtype, "byteorder", "=") == ">" else "i8")
    if value.ndim == 1:
        null[0] = (value == NAT).tobytes().find(b"\x01")
    return value


cdef object buffer_of(object value, Py_ssize_t* null):
    """An object that exports the elements of an array as a buffer, or `value` itself if there is none. For `null` see
    `integers_of_times`.
    """
    null[0] = -1
    kind = type(value)
    if kind is list or kind is tuple or kind is bytes:
        return value
    if not PyObject_CheckBuffer(value):
        if not hasattr(kind, "__array__"):
            return value
        # For example a Series of pandas: __array__() returns a NumPy array.
        value = value.__array__()
    return integers_of_times(value, null)


cdef object elements_of(object value):
    """The elements of a vector in a list or tuple that no other code can change."""
    if type(value) is tuple:
        return value
    if type(value) is list:
        return list(value)
    if hasattr(type(value), "to_pylist"):
        # An array of pyarrow, whose elements are objects of pyarrow.
        value = value.to_pylist()
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
