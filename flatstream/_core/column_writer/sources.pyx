# cython: boundscheck=False, wraparound=False
"""The forms in which a caller gives columns: NumPy arrays, other buffers, lists, and objects with the Arrow C data
interface.

NumPy is not imported for this. Its arrays are buffers; dates, masks, strings and objects, which the buffer protocol
cannot describe, are recognized by the attributes of the array.
"""

import operator
from collections.abc import Mapping

cimport cython
from cpython.buffer cimport Py_buffer, PyObject_CheckBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from flatstream._core.arrow.importer cimport (
    BYTES64, HALF, LIST_FIXED, MAX_INPUT_DEPTH, NUMBERS, ArrayOwner, SchemaOwner, Source, attach, describe, take_array,
    take_schema, take_stream,
)
from flatstream._core.base.buffers cimport Chunk
from flatstream._core.base.checks cimport exact_str
from flatstream._core.flatbuf.kinds cimport (
    BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, UBYTE, UINT, ULONG, USHORT,
)
from flatstream._core.flatbuf.scalars cimport (
    BOOL_CLASS, FLOAT_CLASS, SIGNED_CLASS, UNSIGNED_CLASS, ElementClass, class_of_format,
)

# By the class and the size of the elements of a buffer: their kind, and the name of their type in error messages.
cdef dict NUMBER_TYPES = {
    (<int>SIGNED_CLASS, 1): (BYTE, "int8"),
    (<int>SIGNED_CLASS, 2): (SHORT, "int16"),
    (<int>SIGNED_CLASS, 4): (INT, "int32"),
    (<int>SIGNED_CLASS, 8): (LONG, "int64"),
    (<int>UNSIGNED_CLASS, 1): (UBYTE, "uint8"),
    (<int>UNSIGNED_CLASS, 2): (USHORT, "uint16"),
    (<int>UNSIGNED_CLASS, 4): (UINT, "uint32"),
    (<int>UNSIGNED_CLASS, 8): (ULONG, "uint64"),
    (<int>BOOL_CLASS, 1): (BOOL, "bool"),
    (<int>FLOAT_CLASS, 2): (HALF, "float16"),
    (<int>FLOAT_CLASS, 4): (FLOAT, "float32"),
    (<int>FLOAT_CLASS, 8): (DOUBLE, "float64"),
}


@cython.no_gc
cdef class PythonList:
    def __cinit__(self, list values not None):
        self.values = values


@cython.no_gc
cdef class ArrayStream:
    cdef bint advance(self) except -1:
        """If the current array has no rows left, attaches the next array that has rows. Returns False at the end."""
        cdef ArrayOwner array
        while self.rows_left == 0:
            if self.pending:
                array = self.pending.pop(0)
            elif self.stream is not None:
                array = self.stream.read_next()
            else:
                array = None
            if array is None:
                return False
            attach(self.source, array)
            self.rows_left = self.source.column.length
        return True

    cdef int read_all(self) except -1:
        """Reads the stream to its end, so that the number of rows is known."""
        cdef ArrayOwner array
        while self.stream is not None:
            array = self.stream.read_next()
            if array is None:
                self.stream = None
            elif not 0 <= array.array.length <= MAX_ROWS:
                raise ValueError(
                    f"column {self.source.name!r} has an array with an invalid number of rows: {array.array.length}"
                )
            else:
                self.pending.append(array)
        return 0

    cdef int64_t total_rows(self) noexcept:
        cdef int64_t rows = self.rows_left
        for array in self.pending:
            rows += (<ArrayOwner>array).array.length
        return rows


cdef ArrayStream stream_of(Source source):
    cdef ArrayStream arrays = ArrayStream.__new__(ArrayStream)
    arrays.source = source
    arrays.pending = []
    arrays.rows_left = source.column.length
    return arrays


# Arrow

cdef bint has_arrow(object value):
    return hasattr(type(value), "__arrow_c_stream__") or hasattr(type(value), "__arrow_c_array__")


cdef ArrayStream open_arrow(str name, object value):
    """The arrays of an object with the Arrow C data interface. The name of a table is empty."""
    cdef ArrayStream arrays = ArrayStream.__new__(ArrayStream)
    cdef SchemaOwner schema
    arrays.pending = []
    if hasattr(type(value), "__arrow_c_stream__"):
        arrays.stream = take_stream(value.__arrow_c_stream__())
        schema = arrays.stream.read_schema()
    else:
        capsules = value.__arrow_c_array__()
        if not isinstance(capsules, tuple) or len(capsules) != 2:
            raise TypeError(f"{type(value).__name__}.__arrow_c_array__ must return two capsules, got {capsules!r:.100}")
        schema = take_schema(capsules[0])
        arrays.pending.append(take_array(capsules[1]))
    arrays.source = describe(&schema.schema, name, 0)
    return arrays


# Buffers

cdef Source buffer_column(str name, object value):
    """The column in a buffer of one dimension; with two dimensions a column of lists of the same length."""
    cdef object view = PyMemoryView_FromObject(value)
    cdef const Py_buffer* buffer = PyMemoryView_GET_BUFFER(view)
    cdef Source source, part
    cdef ElementClass element
    cdef bint big = False
    if buffer.suboffsets is not NULL:
        raise TypeError(f"column {name!r} is a buffer of pointers, which is not supported")
    if buffer.ndim not in (1, 2):
        raise TypeError(f"column {name!r} has {buffer.ndim} dimensions, but only 1 is supported, or 2 for vectors")
    element = class_of_format(buffer.format, buffer.itemsize, &big)
    number_type = NUMBER_TYPES.get((<int>element, buffer.itemsize))
    if number_type is None:
        raise TypeError(
            f"column {name!r} has items of {buffer.itemsize} bytes in the format {view.format!r:.100}, which are not "
            "numbers"
        )
    kind, type_name = number_type
    source = Source(name, type_name)
    source.owner = view
    source.column.form = NUMBERS
    source.column.kind = kind
    source.column.big = big
    source.column.length = buffer.shape[0]
    source.column.values = <const uint8_t*>buffer.buf
    source.column.stride = buffer.strides[0]
    if buffer.ndim == 1:
        return source
    # The elements of all lists form one column with one stride, so an array that is not contiguous is copied.
    if not view.c_contiguous:
        source.owner = view.tobytes()
        source.column.values = <const uint8_t*>PyBytes_AS_STRING(source.owner)
    part = source
    part.column.stride = buffer.itemsize
    part.column.length = buffer.shape[0] * buffer.shape[1]
    source = Source(name, f"{type_name} in rows of {buffer.shape[1]}")
    source.owner = part.owner
    source.column.form = LIST_FIXED
    source.column.width = buffer.shape[1]
    source.column.length = buffer.shape[0]
    source.adopt([part])
    return source


cdef int apply_mask(Source source, object mask) except -1:
    cdef bytes flags = mask
    cdef Py_ssize_t i, count = PyBytes_GET_SIZE(flags)
    cdef const uint8_t* flag = <const uint8_t*>PyBytes_AS_STRING(flags)
    cdef Chunk bits = Chunk((count + 7) // 8)
    memset(bits.data, 0, <size_t>bits.capacity)
    for i in range(count):
        if not flag[i]:
            bits.data[i >> 3] |= <uint8_t>(1 << (i & 7))
    if count != source.column.length:
        raise ValueError(f"column {source.name!r} has {source.column.length} values, but its mask has {count}")
    source.column.validity = bits.data
    source.owner = (source.owner, bits)
    return 0


cdef Source bytes_column(str path, str type_name, list values):
    cdef Source source = Source(path, type_name)
    cdef Chunk offsets = Chunk(8 * (len(values) + 1))
    cdef int64_t end = 0
    cdef Py_ssize_t i
    # The values are exact: what `join` takes of an instance of a subclass need not be its bytes.
    cdef bytes data = b"".join(values)
    memcpy(offsets.data, &end, 8)
    for i in range(len(values)):
        end += PyBytes_GET_SIZE(<bytes>values[i])
        memcpy(offsets.data + 8 * (i + 1), &end, 8)
    if end != PyBytes_GET_SIZE(data):
        raise SystemError("flatstream: byte strings that changed while they were joined")
    source.column.form = BYTES64
    source.column.length = len(values)
    source.column.offsets = offsets.data
    source.column.values = <const uint8_t*>PyBytes_AS_STRING(data)
    source.column.data_size = end
    source.owner = (offsets, data)
    return source


# Inputs

cdef bint is_mask(object mask):
    """Whether the `mask` attribute of an array has a flag for each value. NumPy's `nomask` has no dimensions."""
    return mask is not None and bool(getattr(mask, "ndim", 0))


cdef int check_mask(str name, object mask) except -1:
    if mask.ndim != 1:
        raise TypeError(f"column {name!r} has a mask of {mask.ndim} dimensions, but only 1 is supported")
    return 0


cdef object mask_of_times(object integers):
    """The mask of the NaT among times, which are given as their 64-bit integers; None if there are none."""
    mask = (integers == -(2**63)).tobytes()
    return mask if b"\x01" in mask else None


cdef object as_input(str name, object value, int depth):
    """The input for one column. `depth` is the number of mappings around it."""
    cdef Source source
    if depth > MAX_INPUT_DEPTH + 1:
        raise ValueError(f"column {name!r:.100} is nested deeper than {MAX_INPUT_DEPTH} mappings")
    if has_arrow(value):
        return open_arrow(name, value)
    if isinstance(value, Mapping):
        return group_columns(value, depth)
    if isinstance(value, (list, tuple)):
        return PythonList(list(value))
    if isinstance(value, (str, bytes)):
        raise TypeError(f"column {name!r} must be a column of values, got a single {type(value).__name__}")
    dtype = getattr(value, "dtype", None)
    mask = getattr(value, "mask", None) if dtype is not None else None
    kind = getattr(dtype, "kind", None)
    if mask is not None and getattr(value, "data", None) is not None:
        # A masked array of NumPy.
        value = value.data
    if kind == "V" and getattr(dtype, "names", None):
        if is_mask(mask):
            raise TypeError(
                f"column {name!r} is a masked array of structures, which is not supported: pass its fields as columns"
            )
        return group_columns({str(part): value[part] for part in dtype.names}, depth)
    if kind is not None and kind in "OUST":
        values = value.tolist()
        if not isinstance(values, list):
            raise TypeError(f"column {name!r} is an array without dimensions")
        # A copy that no other code can change.
        values = list(values)
        if is_mask(mask):
            check_mask(name, mask)
            # Both are copies, so their lengths are what they are.
            flags = list(mask.tolist())
            if len(flags) != len(values):
                raise TypeError(f"column {name!r} has {len(values)} values, but its mask has {len(flags)}")
            for i in range(len(values)):
                if flags[i]:
                    values[i] = None
        return PythonList(values)
    times_mask = None
    if kind is not None and kind in "mM":
        # An index of pandas, whose times can have a zone, gives their integers as `asi8`. NumPy's times are viewed as
        # integers, because the buffer protocol has no format for times.
        value = value.asi8 if hasattr(value, "asi8") else value.view("i8" if dtype.byteorder != ">" else ">i8")
        times_mask = mask_of_times(value)
        if times_mask is not None and getattr(value, "ndim", 1) == 2:
            row, element = divmod(times_mask.find(b"\x01"), value.shape[1])
            raise ValueError(f"column '{name}[{element}]', row {row}: an element of a vector must not be null")
    if not PyObject_CheckBuffer(value) and hasattr(type(value), "__array__"):
        # An index or an extension array of pandas.
        array = value.__array__()
        if PyObject_CheckBuffer(array) or getattr(getattr(array, "dtype", None), "kind", None) == "O":
            # One level deeper: an object can return itself.
            return as_input(name, array, depth + 1)
    if not PyObject_CheckBuffer(value):
        raise TypeError(
            f"column {name!r} must be a NumPy array, a buffer, a list or an object with the Arrow C data interface, "
            f"got {type(value).__name__}"
        )
    source = buffer_column(name, value)
    if is_mask(mask):
        check_mask(name, mask)
        masked = mask.tobytes()
        apply_mask(source, masked if times_mask is None else bytes(map(operator.or_, masked, times_mask)))
    elif times_mask is not None:
        apply_mask(source, times_mask)
    return stream_of(source)


cdef dict group_columns(object columns, int depth):
    """The inputs of a mapping. Columns whose names have a dot become a dict under the part of the name before it."""
    cdef dict inputs = {}, names = {}
    if depth > MAX_INPUT_DEPTH:
        raise ValueError(f"columns are nested deeper than {MAX_INPUT_DEPTH} mappings")
    for name in columns:
        if not isinstance(name, str):
            raise TypeError(f"the names of columns must be str, got {name!r:.100}")
        column = columns[name]
        name = exact_str(name)
        head, dot, rest = name.partition(".")
        if dot:
            parts = names.setdefault(head, {})
            if not isinstance(parts, dict):
                raise ValueError(f"column {head!r} is given both as a whole and in parts: {name!r}")
            parts[rest] = column
        elif head in names:
            raise ValueError(f"column {head!r} is given both as a whole and in parts")
        else:
            names[head] = WholeColumn(column)
    for head, parts in names.items():
        inputs[head] = (
            group_columns(parts, depth + 1) if isinstance(parts, dict)
            else as_input(head, (<WholeColumn>parts).value, depth + 1)
        )
    return inputs


@cython.final
cdef class WholeColumn:
    """A column whose name has no dot. The class tells a column that is a dict from a dict of parts."""
    cdef object value

    def __cinit__(self, value):
        self.value = value


cdef int append_lengths(dict inputs, str prefix, list lengths) except -1:
    """Appends the path and the length of each column, in the order of the mapping."""
    for name, value in inputs.items():
        path = prefix + name
        if isinstance(value, dict):
            append_lengths(value, path + ".", lengths)
        elif isinstance(value, ArrayStream):
            (<ArrayStream>value).read_all()
            lengths.append((path, (<ArrayStream>value).total_rows()))
        else:
            lengths.append((path, len((<PythonList>value).values)))
    return 0


cdef object table_input(object columns):
    """The input for a whole table: an ArrayStream, or a dict of inputs that all have the same length."""
    cdef list lengths = []
    if has_arrow(columns):
        return open_arrow("", columns)
    if isinstance(columns, Mapping):
        inputs = group_columns(columns, 0)
    elif getattr(getattr(columns, "dtype", None), "names", None):
        inputs = as_input("", columns, 0)
    else:
        raise TypeError(
            "columns must be a mapping of names to arrays, or have the Arrow C data interface, got "
            f"{type(columns).__name__}" + (
                ": collect() it first" if hasattr(columns, "collect")
                else ": write_records() takes a list of records" if isinstance(columns, (list, tuple))
                else ""
            )
        )
    append_lengths(inputs, "", lengths)
    if not lengths:
        raise ValueError("there are no columns, so the number of rows is unknown")
    for name, length in lengths:
        if length != lengths[0][1]:
            raise ValueError(
                f"all columns must have the same length: {lengths[0][0]!r} has {lengths[0][1]} rows and {name!r} "
                f"{length}"
            )
    return inputs
