# cython: boundscheck=False, wraparound=False
"""Import of columns through the Arrow C data and C stream interfaces, without any Arrow library.

A structure is moved out of its capsule, as the interface requires, and released exactly once, also after an error. The
structures of a producer are not trusted: everything that can be checked is checked before it is used. The size of a
buffer cannot be, because the interface does not state it. The data buffer of strings is assumed to end at their last
offset, and every offset is compared with this end when it is followed.
"""

import errno
import os
import sys

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport strlen

from flatstream._core.arrow.abi cimport ArrowArray, ArrowArrayStream, ArrowSchema
from flatstream._core.flatbuf.kinds cimport (
    BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, UBYTE, UINT, ULONG, USHORT,
)


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# Limit of lengths and offsets: sums and products of smaller ones do not overflow.
cdef int64_t MAX_LENGTH = <int64_t>1 << 48

NUMBER_FORMATS = {
    "c": (BYTE, 1, "int8"),
    "C": (UBYTE, 1, "uint8"),
    "s": (SHORT, 2, "int16"),
    "S": (USHORT, 2, "uint16"),
    "i": (INT, 4, "int32"),
    "I": (UINT, 4, "uint32"),
    "l": (LONG, 8, "int64"),
    "L": (ULONG, 8, "uint64"),
    "e": (HALF, 2, "float16"),
    "f": (FLOAT, 4, "float32"),
    "g": (DOUBLE, 8, "float64"),
    # Times are read as their integers.
    "tdD": (INT, 4, "date32"),
    "tdm": (LONG, 8, "date64"),
    "tts": (INT, 4, "time32[s]"),
    "ttm": (INT, 4, "time32[ms]"),
    "ttu": (LONG, 8, "time64[us]"),
    "ttn": (LONG, 8, "time64[ns]"),
    "tDs": (LONG, 8, "duration[s]"),
    "tDm": (LONG, 8, "duration[ms]"),
    "tDu": (LONG, 8, "duration[us]"),
    "tDn": (LONG, 8, "duration[ns]"),
    "tiM": (INT, 4, "interval[months]"),
}
BYTES_FORMATS = {
    "u": (BYTES32, True, "string"),
    "U": (BYTES64, True, "large_string"),
    "vu": (BYTES_VIEW, True, "string_view"),
    "z": (BYTES32, False, "binary"),
    "Z": (BYTES64, False, "large_binary"),
    "vz": (BYTES_VIEW, False, "binary_view"),
}
LIST_FORMATS = {
    "+l": (LIST32, "list"),
    "+L": (LIST64, "large_list"),
    "+vl": (LIST_VIEW32, "list_view"),
    "+vL": (LIST_VIEW64, "large_list_view"),
}
UNSUPPORTED_FORMATS = {
    "+r": "a run-end encoded array, which is not supported: decode it first",
    "+m": "a map, which FlatBuffers do not have: convert it to a list of structs first",
    "d:": "a decimal, which FlatBuffers do not have: cast it to an integer or a float first",
    "+ud": "an Arrow union, which is not supported: give a struct with one nullable child per variant",
    "+us": "an Arrow union, which is not supported: give a struct with one nullable child per variant",
    "tiD": "an interval of days, which FlatBuffers do not have",
    "tin": "an interval of months, days and nanoseconds, which FlatBuffers do not have",
}


# no_gc: clearing a cycle would remove `parts` from a column in use, and no attribute of a source refers back to it.
@cython.no_gc
cdef class Source:
    def __cinit__(self, str name not None, str type_name not None):
        self.name = name
        self.type_name = type_name
        self.parts = []

    cdef int adopt(self, list parts) except -1:
        """Makes `parts` the children of the column."""
        cdef Py_ssize_t i
        self.column.children = <Column**>PyMem_RawCalloc(<size_t>max(len(parts), 1), sizeof(Column*))
        if self.column.children is NULL:
            raise MemoryError(f"no memory for the {len(parts)} parts of a column")
        self.parts = parts
        for i in range(len(parts)):
            self.column.children[i] = &(<Source?>parts[i]).column
        self.column.child_count = len(parts)
        return 0

    def __dealloc__(self):
        PyMem_RawFree(self.column.children)


# Structures are released without the GIL: a producer may wait in `release` for a thread that needs the GIL.

@cython.no_gc
cdef class SchemaOwner:
    def __dealloc__(self):
        if self.schema.release is not NULL:
            with nogil:
                self.schema.release(&self.schema)
            self.schema.release = NULL


@cython.no_gc
cdef class ArrayOwner:
    def __dealloc__(self):
        if self.array.release is not NULL:
            with nogil:
                self.array.release(&self.array)
            self.array.release = NULL


@cython.no_gc
cdef class StreamOwner:
    cdef SchemaOwner read_schema(self):
        cdef SchemaOwner owner = SchemaOwner.__new__(SchemaOwner)
        cdef int code
        with nogil:
            code = self.stream.get_schema(&self.stream, &owner.schema)
        if code:
            # The interface does not define the output after a failure.
            owner.schema.release = NULL
            self.fail(code, "its schema")
        if owner.schema.release is NULL:
            raise ValueError("this stream of Arrow arrays returned a schema that is already released")
        return owner

    cdef ArrayOwner read_next(self):
        cdef ArrayOwner owner
        cdef int code
        if self.finished:
            return None
        owner = ArrayOwner.__new__(ArrayOwner)
        with nogil:
            code = self.stream.get_next(&self.stream, &owner.array)
        if code:
            owner.array.release = NULL
            self.finished = True
            self.fail(code, "the next array")
        if owner.array.release is NULL:
            self.finished = True
            return None
        return owner

    def fail(self, code, item):
        """Raises an OSError with the stream's own text for its failure."""
        cdef const char* text = NULL
        if self.stream.get_last_error is not NULL:
            with nogil:
                text = self.stream.get_last_error(&self.stream)
        reason = (<bytes>text).decode("utf-8", "replace") if text is not NULL else os.strerror(code)
        error = OSError(code, f"the stream of Arrow arrays could not give {item}: {reason}")
        if isinstance(error, (BlockingIOError, TimeoutError, InterruptedError)):
            # Writing a column raises these to say that the sink can be tried again later, which is not the case here.
            error = OSError(errno.EIO, f"the stream of Arrow arrays could not give {item}: {reason} (error {code})")
        raise error

    def __dealloc__(self):
        if self.stream.release is not NULL:
            with nogil:
                self.stream.release(&self.stream)
            self.stream.release = NULL


cdef SchemaOwner take_schema(object capsule):
    cdef SchemaOwner owner = SchemaOwner.__new__(SchemaOwner)
    cdef ArrowSchema* schema = <ArrowSchema*>PyCapsule_GetPointer(capsule, b"arrow_schema")
    if schema.release is NULL:
        raise ValueError("this Arrow schema was taken already")
    owner.schema = schema[0]
    schema.release = NULL
    return owner


cdef ArrayOwner take_array(object capsule):
    cdef ArrayOwner owner = ArrayOwner.__new__(ArrayOwner)
    cdef ArrowArray* array = <ArrowArray*>PyCapsule_GetPointer(capsule, b"arrow_array")
    if array.release is NULL:
        raise ValueError("this Arrow array was taken already")
    owner.array = array[0]
    array.release = NULL
    return owner


cdef StreamOwner take_stream(object capsule):
    cdef StreamOwner owner = StreamOwner.__new__(StreamOwner)
    cdef ArrowArrayStream* stream = <ArrowArrayStream*>PyCapsule_GetPointer(capsule, b"arrow_array_stream")
    if stream.release is NULL:
        raise ValueError("this stream of Arrow arrays was taken already")
    owner.stream = stream[0]
    stream.release = NULL
    if owner.stream.get_schema is NULL or owner.stream.get_next is NULL:
        raise ValueError("this stream of Arrow arrays has no function to read it with")
    return owner


cdef str decode_text(const char* text):
    """A C string of a producer as str; "" for NULL."""
    if text is NULL:
        return ""
    return (<bytes>text[:strlen(text)]).decode("utf-8", "replace")


cdef Source describe(const ArrowSchema* schema, str path, int depth):
    cdef Source source, part
    cdef Column* column
    cdef int64_t i
    cdef str format = decode_text(schema.format)
    where = f"column {path!r}" if path else "the table"
    if depth > MAX_INPUT_DEPTH:
        raise ValueError(f"{where} is nested deeper than {MAX_INPUT_DEPTH} types")
    if schema.format is NULL:
        raise ValueError(f"{where} has no Arrow type")
    if schema.n_children < 0 or (schema.n_children and schema.children is NULL):
        raise ValueError(f"{where} claims {schema.n_children} children, but has none")
    source = Source(decode_text(schema.name) if depth else path, format)
    column = &source.column
    wanted = 0
    if format == "n":
        column.form = NULLS
        source.type_name = "null"
    elif format == "b":
        column.form = BITS
        column.kind = BOOL
        source.type_name = "bool"
    elif format in NUMBER_FORMATS or format[:2] == "ts":
        column.form = NUMBERS
        column.kind, column.stride, source.type_name = NUMBER_FORMATS.get(format, (LONG, 8, timestamp_name(format)))
        column.big = sys.byteorder == "big"
    elif format in BYTES_FORMATS:
        column.form, column.text, source.type_name = BYTES_FORMATS[format]
    elif format[:2] == "w:":
        column.form = BYTES_FIXED
        column.width = checked_width(where, format[2:])
        source.type_name = f"fixed_size_binary[{column.width}]"
    elif format in LIST_FORMATS:
        column.form, source.type_name = LIST_FORMATS[format]
        wanted = 1
    elif format[:3] == "+w:":
        column.form = LIST_FIXED
        column.width = checked_width(where, format[3:])
        source.type_name = f"fixed_size_list[{column.width}]"
        wanted = 1
    elif format == "+s":
        column.form = STRUCT
        source.type_name = "struct"
        wanted = schema.n_children
    else:
        for prefix, reason in UNSUPPORTED_FORMATS.items():
            if format.startswith(prefix):
                raise TypeError(f"{where} is {reason}")
        raise TypeError(f"{where} has an unknown Arrow type: {format!r:.100}")
    if schema.n_children != wanted:
        raise ValueError(f"{where}, {source.type_name}, should have {wanted} children, but has {schema.n_children}")
    parts = []
    for i in range(schema.n_children):
        if schema.children[i] is NULL:
            raise ValueError(f"child {i} of {where} is missing")
        name = decode_text(schema.children[i].name)
        if column.form != STRUCT:
            name = f"{path}[]"
        elif path:
            name = f"{path}.{name}"
        parts.append(describe(schema.children[i], name, depth + 1))
    source.adopt(parts)
    if schema.dictionary is not NULL:
        if column.form != NUMBERS or column.kind == FLOAT or column.kind == DOUBLE or column.kind == HALF:
            raise ValueError(f"{where} is a dictionary that is indexed by {source.type_name}, not by an integer type")
        part = describe(schema.dictionary, f"{path}[dictionary]", depth + 1)
        source.dictionary = part
        column.dictionary = &part.column
        column.form = DICTIONARY
        source.type_name = f"dictionary<{source.type_name}, {part.type_name}>"
    elif wanted and column.form != STRUCT:
        source.type_name += f"<{(<Source>source.parts[0]).type_name}>"
    return source


cdef str timestamp_name(str format):
    """The name that pyarrow gives to a format such as "tsu:UTC": timestamp[us, UTC]."""
    unit, _, zone = format[2:].partition(":")
    unit = {"m": "ms", "u": "us", "n": "ns"}.get(unit, unit)
    return f"timestamp[{unit}, {zone}]" if zone else f"timestamp[{unit}]"


cdef int64_t checked_width(str where, str text) except -1:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) >= 1 << 31:
        raise ValueError(f"{where} has an Arrow type of an invalid size: {text!r:.100}")
    return int(text)


cdef int attach(Source source, ArrayOwner owner) except -1:
    attach_array(source, &owner.array, source.name)
    source.owner = owner
    return 0


cdef int fail_malformed(str path, str reason) except -1:
    where = f"column {path!r}" if path else "the table"
    raise ValueError(f"{where}: this Arrow array is malformed: {reason}")


cdef int attach_array(Source source, const ArrowArray* array, str path) except -1:
    cdef Column* column = &source.column
    cdef Source part
    cdef int64_t i, total
    cdef int buffer_count
    if array.length < 0 or array.offset < 0 or array.length > MAX_LENGTH or array.offset > MAX_LENGTH:
        fail_malformed(path, f"its length is {array.length} and its offset {array.offset}")
    if array.null_count < -1 or array.null_count > array.length:
        fail_malformed(path, f"{array.null_count} of {array.length} values are null")
    if array.n_buffers < 0 or (array.n_buffers and array.buffers is NULL):
        fail_malformed(path, f"it claims {array.n_buffers} buffers, but has none")
    if array.n_children != len(source.parts) or (array.n_children and array.children is NULL):
        fail_malformed(path, f"it should have {len(source.parts)} children, but has {array.n_children}")
    if (array.dictionary is not NULL) != (source.dictionary is not None):
        fail_malformed(path, "only one of the array and its type has a dictionary")
    if column.form == NULLS:
        buffer_count = 0
    elif column.form in (STRUCT, LIST_FIXED):
        buffer_count = 1
    elif column.form in (BYTES32, BYTES64, BYTES_VIEW, LIST_VIEW32, LIST_VIEW64):
        buffer_count = 3
    else:
        buffer_count = 2
    if array.n_buffers < buffer_count if column.form == BYTES_VIEW else array.n_buffers != buffer_count:
        # Before version 1.0 of the format, arrays of nulls had a buffer.
        if column.form != NULLS or array.n_buffers != 1:
            fail_malformed(
                path, f"an array of {source.type_name} has {buffer_count} buffers, but this one has {array.n_buffers}"
            )
    total = array.offset + array.length
    column.length = array.length
    column.offset = array.offset
    column.validity = NULL
    if buffer_count and array.null_count:
        column.validity = <const uint8_t*>array.buffers[0]
        if column.validity is NULL and array.null_count > 0 and total:
            fail_malformed(path, f"{array.null_count} values are null, but it has no validity buffer")
    if column.form in (NUMBERS, DICTIONARY, BITS, BYTES_FIXED):
        column.values = <const uint8_t*>array.buffers[1]
        if column.form == BYTES_FIXED:
            column.stride = column.width
        if column.values is NULL and total and (column.stride or column.form == BITS):
            fail_malformed(path, "it has no buffer of values")
    elif column.form == BYTES32 or column.form == BYTES64:
        column.offsets = <const uint8_t*>array.buffers[1]
        column.values = <const uint8_t*>array.buffers[2]
        # An empty array may have no offsets.
        if not total:
            column.data_size = 0
        elif column.offsets is NULL:
            fail_malformed(path, "it has no buffer of offsets")
        elif column.form == BYTES32:
            column.data_size = native_32(column.offsets + 4 * total)
        else:
            column.data_size = native_64(column.offsets + 8 * total)
        if column.data_size < 0:
            fail_malformed(path, f"its last offset is {column.data_size}")
        if column.values is NULL and column.data_size:
            fail_malformed(path, "it has no buffer of bytes")
    elif column.form == BYTES_VIEW:
        column.values = <const uint8_t*>array.buffers[1]
        column.pieces = array.buffers + 2
        column.piece_count = array.n_buffers - 3
        column.piece_sizes = <const uint8_t*>array.buffers[array.n_buffers - 1]
        if column.values is NULL and total:
            fail_malformed(path, "it has no buffer of views")
        if column.piece_sizes is NULL and column.piece_count:
            fail_malformed(path, "it has no buffer of the sizes of its buffers")
        for i in range(column.piece_count):
            if native_64(column.piece_sizes + 8 * i) < 0:
                fail_malformed(path, f"its buffer {i} has {native_64(column.piece_sizes + 8 * i)} bytes")
            if column.pieces[i] is NULL and native_64(column.piece_sizes + 8 * i):
                fail_malformed(path, f"its buffer {i} is missing")
    elif column.form in (LIST32, LIST64, LIST_VIEW32, LIST_VIEW64):
        column.offsets = <const uint8_t*>array.buffers[1]
        if column.offsets is NULL and total:
            fail_malformed(path, "it has no buffer of offsets")
        if column.form == LIST_VIEW32 or column.form == LIST_VIEW64:
            column.sizes = <const uint8_t*>array.buffers[2]
            if column.sizes is NULL and total:
                fail_malformed(path, "it has no buffer of sizes")
    for i in range(array.n_children):
        part = source.parts[i]
        if array.children[i] is NULL or array.children[i].release is NULL:
            fail_malformed(path, f"its child {i} is missing or released")
        attach_array(part, array.children[i], f"{path}.{part.name}" if path else part.name)
        if column.form == STRUCT and part.column.length < total:
            fail_malformed(path, f"its child {part.name!r} has {part.column.length} rows, but {total} are needed")
        # Division, not multiplication: the product could overflow.
        if column.form == LIST_FIXED and column.width and part.column.length // column.width < total:
            fail_malformed(path, f"it has {part.column.length} elements, but {total} lists of {column.width} need more")
    if source.dictionary is not None:
        if array.dictionary.release is NULL:
            fail_malformed(path, "its dictionary is released")
        attach_array(source.dictionary, array.dictionary, f"{path}[dictionary]")
    return 0
