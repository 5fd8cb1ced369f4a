# cython: boundscheck=False, wraparound=False
"""What a column can be given as: an array of NumPy, anything else with a buffer, a list, anything that speaks Arrow.

NumPy is not imported for this. Its arrays are buffers; where they are more (dates, masks, objects), their attributes
tell.
"""

import operator
import sys
from collections.abc import Mapping

cimport cython
from cpython.buffer cimport Py_buffer, PyObject_CheckBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from flatstream._core.arrow.importer cimport (
    BYTES64, DEEPEST, HALF, LIST_FIXED, NUMBERS, ArrayOwner, SchemaOwner, Source, attach, describe, take_array,
    take_schema, take_stream,
)
from flatstream._core.base.buffers cimport Chunk
from flatstream._core.flatbuf.kinds cimport (
    BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, UBYTE, UINT, ULONG, USHORT, scalar_width,
)


@cython.no_gc
cdef class Values:
    """A list of Python's, which becomes a column when the field that it is for is known."""

    def __cinit__(self, list values not None):
        self.values = values


@cython.no_gc
cdef class Feed:
    """A column, or a table, and the arrays that it comes in."""

    cdef bint advance(self) except -1:
        """Has the column be that of the next array that is not empty; False at the end."""
        cdef ArrayOwner array
        while self.left == 0:
            if self.waiting:
                array = self.waiting.pop(0)
            elif self.stream is not None:
                array = self.stream.read_next()
            else:
                array = None
            if array is None:
                return False
            attach(self.source, array)
            self.left = self.source.column.length
        return True

    cdef int gather(self) except -1:
        """Takes everything out of a stream, so that it is known how long it is."""
        cdef ArrayOwner array
        while self.stream is not None:
            array = self.stream.read_next()
            if array is None:
                self.stream = None
            elif not 0 <= array.array.length <= MOST_ROWS:
                raise ValueError(f"column {self.source.name!r} comes in an array of {array.array.length} rows")
            else:
                self.waiting.append(array)
        return 0

    cdef int64_t total(self) noexcept:
        cdef int64_t rows = self.left
        for array in self.waiting:
            rows += (<ArrayOwner>array).array.length
        return rows


cdef Feed open_feed(str name, object value):
    """What reads anything that has the Arrow C data interface."""
    cdef Feed feed = Feed.__new__(Feed)
    cdef SchemaOwner schema
    feed.waiting = []
    if hasattr(type(value), "__arrow_c_stream__"):
        feed.stream = take_stream(value.__arrow_c_stream__())
        schema = feed.stream.read_schema()
    else:
        answer = value.__arrow_c_array__()
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(f"{type(value).__name__}.__arrow_c_array__ must return two capsules, got {answer!r:.100}")
        schema = take_schema(answer[0])
        feed.waiting.append(take_array(answer[1]))
    feed.source = describe(&schema.schema, name, 0)
    return feed


cdef bint has_arrow(object value):
    return hasattr(type(value), "__arrow_c_stream__") or hasattr(type(value), "__arrow_c_array__")


cdef Feed feed_of(Source source):
    cdef Feed feed = Feed.__new__(Feed)
    feed.source = source
    feed.waiting = []
    feed.left = source.column.length
    return feed


FORMATS = {
    "?": (BOOL, "bool"), "b": (BYTE, "int8"), "B": (UBYTE, "uint8"), "e": (HALF, "float16"), "f": (FLOAT, "float32"),
    "d": (DOUBLE, "float64"),
}
SIGNED = {1: (BYTE, "int8"), 2: (SHORT, "int16"), 4: (INT, "int32"), 8: (LONG, "int64")}
UNSIGNED = {1: (UBYTE, "uint8"), 2: (USHORT, "uint16"), 4: (UINT, "uint32"), 8: (ULONG, "uint64")}


cdef object read_format(str name, str format, Py_ssize_t size):
    """Kind, name and whether the high byte is first, of the items of a buffer."""
    code = format[len(format) - 1:]
    order = format[:len(format) - 1]
    found = None
    if code in FORMATS:
        found = FORMATS[code]
    elif code in ("h", "i", "l", "q", "n"):
        found = SIGNED.get(size)
    elif code in ("H", "I", "L", "Q", "N"):
        found = UNSIGNED.get(size)
    if (
        found is None or order not in ("", "@", "=", "<", ">", "!")
        or (2 if found[0] == HALF else scalar_width(found[0])) != size
    ):
        raise TypeError(
            f"column {name!r} has items of {size} bytes in the format {format!r:.100}, which are no numbers"
        )
    return found[0], found[1], order in (">", "!") or (order not in ("<",) and sys.byteorder == "big")


cdef Source from_buffer(str name, object value):
    """The column that a buffer of one or two dimensions is."""
    cdef object view = PyMemoryView_FromObject(value)
    cdef const Py_buffer* buffer = PyMemoryView_GET_BUFFER(view)
    cdef Source source, part
    if buffer.suboffsets is not NULL:
        raise TypeError(f"column {name!r} is a buffer of pointers, which is not taken")
    if buffer.ndim not in (1, 2):
        raise TypeError(f"column {name!r} has {buffer.ndim} dimensions, where there can be one, or two for vectors")
    kind, type_name, big = read_format(name, view.format, buffer.itemsize)
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
    # Rows of numbers. Those that do not lie one after another are copied.
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


cdef int hide(Source source, object mask) except -1:
    """Has null be what a mask (bytes of 0 and 1, in the order of the rows) hides."""
    cdef bytes flags = mask
    cdef Py_ssize_t i, count = PyBytes_GET_SIZE(flags)
    cdef const uint8_t* flag = <const uint8_t*>PyBytes_AS_STRING(flags)
    cdef Chunk bits = Chunk((count + 7) // 8)
    memset(bits.data, 0, <size_t>bits.capacity)
    for i in range(count):
        if not flag[i]:
            bits.data[i >> 3] |= <uint8_t>(1 << (i & 7))
    if count != source.column.length:
        raise ValueError(f"column {source.name!r} has {source.column.length} values and a mask of {count}")
    source.column.validity = bits.data
    source.owner = (source.owner, bits)
    return 0


cdef object as_input(str name, object value, int depth):
    """A Feed, Values, or a dict of them: what a column is made of."""
    cdef Source source
    if has_arrow(value):
        return open_feed(name, value)
    if isinstance(value, Mapping):
        return grouped(value, depth)
    if isinstance(value, (list, tuple)):
        return Values(list(value))
    if isinstance(value, (str, bytes)):
        raise TypeError(f"column {name!r} must be a column of values, got one {type(value).__name__}")
    dtype = getattr(value, "dtype", None)
    mask = getattr(value, "mask", None) if dtype is not None else None
    kind = getattr(dtype, "kind", None)
    if mask is not None and getattr(value, "data", None) is not None:
        # A masked array of NumPy.
        value = value.data
    if kind == "V" and getattr(dtype, "names", None):
        if mask is not None and getattr(mask, "ndim", 0):
            raise TypeError(f"column {name!r} is a masked array of structures, which is not taken: give its fields")
        return grouped({str(part): value[part] for part in dtype.names}, depth)
    if kind is not None and kind in "OUST":
        values = value.tolist()
        if not isinstance(values, list):
            raise TypeError(f"column {name!r} has no dimension")
        # Nobody else is to have it.
        values = list(values)
        if mask is not None and getattr(mask, "ndim", 0):
            if mask.ndim != 1 or len(mask) != len(values):
                raise TypeError(f"column {name!r} has a mask of {mask.ndim} dimensions, where there can be one")
            for i, hidden in enumerate(mask.tolist()):
                if hidden:
                    values[i] = None
        return Values(values)
    hidden = None
    if kind is not None and kind in "mM" and hasattr(value, "asi8"):
        # An index of pandas, whose times may have a zone; these are their integers.
        value = value.asi8
        hidden = (value == -(2**63)).tobytes()
        if b"\x01" not in hidden:
            hidden = None
    elif kind is not None and kind in "mM":
        # Which have no code among the formats of buffers.
        value = value.view("i8" if dtype.byteorder != ">" else ">i8")
        hidden = (value == -(2**63)).tobytes()
        if b"\x01" not in hidden:
            hidden = None
    if not PyObject_CheckBuffer(value) and hasattr(type(value), "__array__"):
        # An index, or an array of pandas' own.
        array = value.__array__()
        if PyObject_CheckBuffer(array) or getattr(getattr(array, "dtype", None), "kind", None) == "O":
            return as_input(name, array, depth)
    if not PyObject_CheckBuffer(value):
        raise TypeError(
            f"column {name!r} must be a NumPy array, a buffer, a list or an object with the Arrow C data interface, "
            f"got {type(value).__name__}"
        )
    source = from_buffer(name, value)
    if mask is not None and getattr(mask, "ndim", 0):
        if mask.ndim != 1:
            raise TypeError(f"column {name!r} has a mask of {mask.ndim} dimensions, where there can be one")
        masked = mask.tobytes()
        hide(source, masked if hidden is None else bytes(map(operator.or_, masked, hidden)))
    elif hidden is not None:
        hide(source, hidden)
    return feed_of(source)


cdef dict grouped(object columns, int depth):
    """The inputs of a mapping; those whose names have a dot are put together under what stands in front of it."""
    cdef dict found = {}, names = {}
    if depth > DEEPEST:
        raise ValueError(f"columns are nested deeper than {DEEPEST} mappings")
    for name in columns:
        if not isinstance(name, str):
            raise TypeError(f"the names of columns must be str, got {name!r:.100}")
        head, dot, rest = name.partition(".")
        if dot:
            parts = names.setdefault(head, {})
            if not isinstance(parts, dict):
                raise ValueError(f"column {head!r} is there both as a whole and in parts: {name!r}")
            parts[rest] = columns[name]
        elif head in names:
            raise ValueError(f"column {head!r} is there both as a whole and in parts")
        else:
            names[head] = Whole(columns[name])
    for head, parts in names.items():
        found[head] = (
            grouped(parts, depth + 1) if isinstance(parts, dict) else as_input(head, (<Whole>parts).value, depth + 1)
        )
    return found


@cython.final
cdef class Whole:
    cdef object value

    def __cinit__(self, value):
        self.value = value


cdef int measure(dict inputs, str prefix, list lengths) except -1:
    """Notes how long each column is, in the order of the mapping."""
    for name, value in inputs.items():
        path = prefix + name
        if isinstance(value, dict):
            measure(value, path + ".", lengths)
        elif isinstance(value, Feed):
            (<Feed>value).gather()
            lengths.append((path, (<Feed>value).total()))
        else:
            lengths.append((path, len((<Values>value).values)))
    return 0


cdef Source joined(str path, str type_name, list values):
    """A column of strings of bytes."""
    cdef Source source = Source(path, type_name)
    cdef Chunk offsets = Chunk(8 * (len(values) + 1))
    cdef int64_t end = 0
    cdef Py_ssize_t i
    cdef bytes data = b"".join(values)
    memcpy(offsets.data, &end, 8)
    for i in range(len(values)):
        # Not len(), which a subclass may answer as it likes.
        end += PyBytes_GET_SIZE(values[i])
        memcpy(offsets.data + 8 * (i + 1), &end, 8)
    source.column.form = BYTES64
    source.column.length = len(values)
    source.column.offsets = offsets.data
    source.column.values = <const uint8_t*>PyBytes_AS_STRING(data)
    source.column.data_size = end
    source.owner = (offsets, data)
    return source
