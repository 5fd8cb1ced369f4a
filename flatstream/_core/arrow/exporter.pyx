# cython: boundscheck=False, wraparound=False
"""Export of columns through the Arrow C data and C stream interfaces, without a copy and without any Arrow library.

The values of a column are collected by the room `column_reader`.

An exported structure owns its memory and a reference to the Python objects whose buffers it points to. The consumer
calls `release` when done, from any thread; this frees the memory and drops the reference. A structure that no consumer
moves out of its capsule is released with the capsule. Each child owns its memory too, because a consumer may move a
child out and release it later.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_INCREF, PyObject
from libc.errno cimport EINVAL, EIO, ENOMEM
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from flatstream._core.arrow.abi cimport ARROW_FLAG_NULLABLE, ArrowArray, ArrowArrayStream, ArrowSchema
from flatstream._core.base.buffers cimport Chunk


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil
    int Py_IsInitialized() nogil
    void Py_DecRef(PyObject* obj)

# The deepest plan to read columns has some 60 levels. Types are exported recursively, and the stack is finite.
cdef enum:
    MAX_TYPE_DEPTH = 100

# Bytes per number, by format.
WIDTHS = {"b": 1, "c": 1, "C": 1, "s": 2, "S": 2, "i": 4, "I": 4, "l": 8, "L": 8, "f": 4, "g": 8}


cdef struct SchemaHolder:
    PyObject* owner
    ArrowSchema** children


cdef struct ArrayHolder:
    # A list of the objects that own the buffers.
    PyObject* owner
    ArrowArray** children
    const void* buffers[3]


cdef struct StreamHolder:
    PyObject* source
    PyObject* last_error


# no_gc here and below: the attributes are strings, numbers, buffers and objects of these classes, which form no cycles.
@cython.no_gc
cdef class ColumnType:
    """The type of a column.

    Parameters
    ----------
    name, format : str
        The name, and the Arrow type as a format of the C data interface.
    nullable : bool
        Whether the column may contain nulls.
    children : iterable of ColumnType
        The item of a list; the fields of a struct.
    labels, numbers : sequence, optional
        The names of an enum and their numbers. The column is exported as a dictionary, and `format` is that of the
        numbers.
    metadata : dict of str to str, optional
        Metadata of the type.
    presence : bool
        Whether a struct without fields is exported as bools that are true where it is not null. Files of Parquet, and
        the libraries that read them, have no struct without fields.
    """

    def __init__(self, str name not None, str format not None, bint nullable, children=(), labels=None, numbers=None,
                 metadata=None, bint presence=False):
        if self.name is not None:
            raise TypeError("ColumnType.__init__ must not be called twice")
        cdef int depth = 0
        members = tuple(children)
        for child in members:
            if not isinstance(child, ColumnType) or (<ColumnType>child).children is None:
                raise TypeError(f"expected a ColumnType, got {child!r:.100}")
            depth = max(depth, (<ColumnType>child).depth + 1)
        if depth > MAX_TYPE_DEPTH:
            raise ValueError(f"the type of a column is nested deeper than {MAX_TYPE_DEPTH}")
        if (labels is None) != (numbers is None) or labels is not None and len(labels) != len(numbers):
            raise ValueError("labels and numbers must be given together and have the same length")
        if labels is not None and format not in WIDTHS:
            raise ValueError(f"the format of an enum must be that of a number, got {format!r}")
        if presence and (format != "+s" or members):
            raise ValueError("only a struct without fields can be exported as its presence")
        # Check again: iterating over the arguments may have run code that called this method.
        if self.name is not None:
            raise TypeError("ColumnType.__init__ must not be called twice")
        self.format = format
        self.nullable = nullable
        if labels is not None:
            self.labels = tuple(map(str, labels))
            self.numbers = tuple(map(int, numbers))
        self.metadata = dict(metadata or {})
        self.name_bytes = name.encode()
        self.format_bytes = b"b" if presence else format.encode() if labels is None else b"i"
        self.presence = presence
        self.metadata_bytes = encode_metadata(self.metadata) if self.metadata else None
        self.depth = depth
        self.children = members
        self.name = name

    cdef int check(self) except -1:
        if self.name is None:
            raise TypeError("ColumnType.__init__ was not called")
        return 0

    def __arrow_c_schema__(self):
        """The type as a capsule of an ArrowSchema."""
        cdef ArrowSchema* out = <ArrowSchema*>PyMem_RawCalloc(1, sizeof(ArrowSchema))
        if out is NULL:
            raise MemoryError("no memory to export a schema")
        capsule = PyCapsule_New(out, b"arrow_schema", destroy_schema_capsule)
        export_type(self, out)
        return capsule

    def __reduce__(self):
        self.check()
        return ColumnType, (
            self.name, self.format, self.nullable, self.children, self.labels, self.numbers, self.metadata,
            self.presence,
        )

    def __repr__(self):
        return f"<ColumnType {self.name!r} {self.format!r}>"


cdef bytes encode_size(Py_ssize_t size):
    if size > 0x7FFFFFFF:
        raise ValueError("the metadata of a column type is larger than 2 GiB")
    cdef int32_t number = <int32_t>size
    return (<char*>&number)[:4]


cdef bytes encode_metadata(dict metadata):
    """Metadata as the C data interface encodes it: the number of pairs, then each string after its length, as int32 in
    the machine's byte order.
    """
    parts = [encode_size(len(metadata))]
    for pair in metadata.items():
        for text in pair:
            encoded = str(text).encode()
            parts += [encode_size(len(encoded)), encoded]
    return b"".join(parts)


@cython.no_gc
cdef class ColumnData:
    """The values of a column, made by the reader of columns."""

    def __init__(self):
        raise TypeError("a ColumnData is made by the reader of columns")

    def __arrow_c_array__(self, requested_schema=None):
        """The type and the values as capsules of an ArrowSchema and an ArrowArray.

        `requested_schema` is ignored, as the protocol allows: a consumer that wants another type converts the array.
        """
        check_data(self)
        cdef ArrowArray* out = <ArrowArray*>PyMem_RawCalloc(1, sizeof(ArrowArray))
        if out is NULL:
            raise MemoryError("no memory to export an array")
        capsule = PyCapsule_New(out, b"arrow_array", destroy_array_capsule)
        export_data(self, out)
        return self.type.__arrow_c_schema__(), capsule

    def __reduce_ex__(self, protocol):
        # Imported here, because that module uses this class.
        from flatstream._core.arrow.column_parts import column_from_parts, parts_of
        return column_from_parts, parts_of(self, protocol)


cdef int check_data(ColumnData column) except -1:
    if column.type is None or column.children is None:
        raise TypeError("this ColumnData was never completed")
    return 0


# Types


cdef void release_schema(ArrowSchema* schema) noexcept nogil:
    cdef SchemaHolder* holder = <SchemaHolder*>schema.private_data
    cdef int64_t i
    for i in range(schema.n_children):
        if holder.children[i] is not NULL:
            if holder.children[i].release is not NULL:
                holder.children[i].release(holder.children[i])
            PyMem_RawFree(holder.children[i])
    PyMem_RawFree(holder.children)
    if schema.dictionary is not NULL:
        if schema.dictionary.release is not NULL:
            schema.dictionary.release(schema.dictionary)
        PyMem_RawFree(schema.dictionary)
    drop_reference(holder.owner)
    PyMem_RawFree(holder)
    schema.release = NULL


cdef void drop_reference(PyObject* owner) noexcept nogil:
    """Drops a reference with the GIL held. After the interpreter has ended, the reference is leaked."""
    if owner is not NULL and Py_IsInitialized():
        with gil:
            Py_DecRef(owner)


cdef void destroy_schema_capsule(object capsule) noexcept:
    cdef ArrowSchema* schema = <ArrowSchema*>PyCapsule_GetPointer(capsule, b"arrow_schema")
    if schema.release is not NULL:
        schema.release(schema)
    PyMem_RawFree(schema)


cdef int export_type(ColumnType type, ArrowSchema* out) except -1:
    type.check()
    begin_schema(out, type, len(type.children))
    out.format = PyBytes_AS_STRING(type.format_bytes)
    out.name = PyBytes_AS_STRING(type.name_bytes)
    if type.metadata_bytes is not None:
        out.metadata = PyBytes_AS_STRING(type.metadata_bytes)
    if type.nullable:
        out.flags = ARROW_FLAG_NULLABLE
    cdef Py_ssize_t i
    for i in range(len(type.children)):
        export_type(<ColumnType>type.children[i], out.children[i])
    if type.labels is not None:
        out.dictionary = <ArrowSchema*>PyMem_RawCalloc(1, sizeof(ArrowSchema))
        if out.dictionary is NULL:
            raise MemoryError("no memory to export a schema")
        begin_schema(out.dictionary, type, 0)
        out.dictionary.format = b"u"
        out.dictionary.name = b""
        out.dictionary.flags = ARROW_FLAG_NULLABLE
    return 0


cdef int begin_schema(ArrowSchema* out, object owner, Py_ssize_t children) except -1:
    cdef SchemaHolder* holder = <SchemaHolder*>PyMem_RawCalloc(1, sizeof(SchemaHolder))
    cdef Py_ssize_t i
    if holder is NULL:
        raise MemoryError("no memory to export a schema")
    memset(out, 0, sizeof(ArrowSchema))
    Py_INCREF(owner)
    holder.owner = <PyObject*>owner
    out.private_data = holder
    out.release = release_schema
    holder.children = <ArrowSchema**>PyMem_RawCalloc(<size_t>max(children, 1), sizeof(ArrowSchema*))
    if holder.children is NULL:
        raise MemoryError("no memory to export a schema")
    out.n_children = children
    out.children = holder.children
    for i in range(children):
        holder.children[i] = <ArrowSchema*>PyMem_RawCalloc(1, sizeof(ArrowSchema))
        if holder.children[i] is NULL:
            raise MemoryError("no memory to export a schema")
    return 0


# Values


cdef void release_array(ArrowArray* array) noexcept nogil:
    cdef ArrayHolder* holder = <ArrayHolder*>array.private_data
    cdef int64_t i
    for i in range(array.n_children):
        if holder.children[i] is not NULL:
            if holder.children[i].release is not NULL:
                holder.children[i].release(holder.children[i])
            PyMem_RawFree(holder.children[i])
    PyMem_RawFree(holder.children)
    if array.dictionary is not NULL:
        if array.dictionary.release is not NULL:
            array.dictionary.release(array.dictionary)
        PyMem_RawFree(array.dictionary)
    drop_reference(holder.owner)
    PyMem_RawFree(holder)
    array.release = NULL


cdef void destroy_array_capsule(object capsule) noexcept:
    cdef ArrowArray* array = <ArrowArray*>PyCapsule_GetPointer(capsule, b"arrow_array")
    if array.release is not NULL:
        array.release(array)
    PyMem_RawFree(array)


cdef int begin_array(ArrowArray* out, list owners, Py_ssize_t children) except -1:
    cdef ArrayHolder* holder = <ArrayHolder*>PyMem_RawCalloc(1, sizeof(ArrayHolder))
    cdef Py_ssize_t i
    if holder is NULL:
        raise MemoryError("no memory to export an array")
    memset(out, 0, sizeof(ArrowArray))
    Py_INCREF(owners)
    holder.owner = <PyObject*>owners
    out.private_data = holder
    out.buffers = holder.buffers
    out.release = release_array
    holder.children = <ArrowArray**>PyMem_RawCalloc(<size_t>max(children, 1), sizeof(ArrowArray*))
    if holder.children is NULL:
        raise MemoryError("no memory to export an array")
    out.n_children = children
    out.children = holder.children
    for i in range(children):
        holder.children[i] = <ArrowArray*>PyMem_RawCalloc(1, sizeof(ArrowArray))
        if holder.children[i] is NULL:
            raise MemoryError("no memory to export an array")
    return 0


cdef Chunk pack_bits(Chunk values, Py_ssize_t length):
    """Packs `length` bytes of 0 or 1 into bits, the least significant bit first."""
    cdef Py_ssize_t i, size = (length + 7) // 8
    cdef Chunk packed = Chunk(size)
    cdef const uint8_t* source = values.data
    cdef uint8_t* target = packed.data
    if values.capacity < length:
        raise SystemError("flatstream: a column is shorter than its length")
    for i in range(length // 8):
        target[i] = (
            source[0] | source[1] << 1 | source[2] << 2 | source[3] << 3 | source[4] << 4 | source[5] << 5
            | source[6] << 6 | source[7] << 7
        )
        source += 8
    if length & 7:
        target[size - 1] = 0
        for i in range(length & 7):
            target[size - 1] |= <uint8_t>(source[i] << i)
    return packed


cdef int export_data(ColumnData column, ArrowArray* out) except -1:
    check_data(column)
    cdef ColumnType type = column.type
    cdef str format = type.format
    cdef list owners = []
    cdef Py_ssize_t i, children = len(column.children)
    cdef Chunk validity = None, first = None, second = None
    type.check()
    begin_array(out, owners, children)
    out.length = column.length
    out.null_count = column.null_count
    if column.null_count:
        validity = pack_bits(column.validity, column.length)
    if type.labels is not None:
        first = export_labels(column, out)
    elif type.presence:
        first = Chunk((column.length + 7) // 8)
        memset(first.data, 0xFF, <size_t>((column.length + 7) // 8))
    elif format == "b":
        first = pack_bits(column.data, column.length)
    elif format in ("U", "Z"):
        first = column.offsets
        second = column.data
    elif format == "+L":
        first = column.offsets
    elif format in WIDTHS:
        first = column.data
    out.n_buffers = 1 if first is None else 2 if second is None else 3
    for i, chunk in enumerate((validity, first, second)):
        if chunk is not None:
            owners.append(chunk)
            out.buffers[i] = (<Chunk>chunk).data
    for i in range(children):
        export_data(<ColumnData>column.children[i], out.children[i])
    return 0


cdef int64_t number_at(const uint8_t* data, Py_ssize_t i, str format) noexcept:
    """Number `i` of an integer column; an unsigned 64-bit number is reinterpreted as signed."""
    if format == "c" or format == "b":
        return (<const signed char*>data)[i]
    if format == "C":
        return data[i]
    if format == "s":
        return (<const short*>data)[i]
    if format == "S":
        return (<const unsigned short*>data)[i]
    if format == "i":
        return (<const int32_t*>data)[i]
    if format == "I":
        return (<const uint32_t*>data)[i]
    return (<const int64_t*>data)[i]


cdef Chunk export_labels(ColumnData column, ArrowArray* out):
    """The numbers of an enum as indices into a dictionary of its names. A number without a name adds its digits."""
    cdef ColumnType type = column.type
    cdef Chunk codes = Chunk(column.length * 4)
    cdef int32_t* target = <int32_t*>codes.data
    cdef const uint8_t* source = column.data.data
    cdef int32_t code_of[256]
    cdef int32_t code = -1
    cdef int64_t number, last = 0
    cdef Py_ssize_t i
    cdef bint narrow = type.format in ("c", "C")
    cdef bint unsigned = type.format == "L"
    cdef list labels = list(type.labels)
    cdef dict codes_by_number = {}
    if column.data.capacity < column.length * <Py_ssize_t>WIDTHS[type.format]:
        raise SystemError("flatstream: a column is shorter than its length")
    for i, value in enumerate(type.numbers):
        codes_by_number.setdefault(value, i)
    if narrow:
        for i in range(256):
            code_of[i] = codes_by_number.get(i if type.format == "C" else i - 256 if i > 127 else i, -1)
        for i in range(column.length):
            code = code_of[source[i]]
            if code < 0:
                code = <int32_t>len(labels)
                labels.append(str(number_at(source, i, type.format)))
                code_of[source[i]] = code
            target[i] = code
    else:
        for i in range(column.length):
            number = number_at(source, i, type.format)
            if code < 0 or number != last:
                value = <uint64_t>number if unsigned else number
                found = codes_by_number.get(value)
                if found is None:
                    found = codes_by_number[value] = len(labels)
                    labels.append(str(value))
                code = found
                last = number
            target[i] = code
    out.dictionary = <ArrowArray*>PyMem_RawCalloc(1, sizeof(ArrowArray))
    if out.dictionary is NULL:
        raise MemoryError("no memory to export an array")
    export_strings(list(map(str.encode, labels)), out.dictionary)
    return codes


cdef int export_strings(list texts, ArrowArray* out) except -1:
    """Exports encoded strings as an Arrow array of utf8."""
    cdef Chunk offsets = Chunk(4 * (len(texts) + 1))
    cdef int32_t* target = <int32_t*>offsets.data
    cdef Py_ssize_t i, end = 0
    cdef bytes content = b"".join(texts)
    if len(content) > 0x7FFFFFFF:
        raise ValueError("the names of an enum are larger than 2 GiB")
    begin_array(out, [offsets, content], 0)
    target[0] = 0
    for i in range(len(texts)):
        end += len(texts[i])
        target[i + 1] = <int32_t>end
    out.length = len(texts)
    out.n_buffers = 3
    out.buffers[1] = target
    out.buffers[2] = PyBytes_AS_STRING(content)
    return 0


# Streams


cdef int errno_of(object error) except -1:
    if isinstance(error, OSError) and isinstance(error.errno, int) and 0 < error.errno < 10_000:
        return error.errno
    if isinstance(error, OSError):
        return EIO
    return ENOMEM if isinstance(error, MemoryError) else EINVAL


cdef int note_error(ArrowArrayStream* stream, object error) noexcept:
    """Stores the text of an exception for `get_last_error`; returns its errno."""
    cdef StreamHolder* holder = <StreamHolder*>stream.private_data
    cdef PyObject* before = holder.last_error
    holder.last_error = NULL
    Py_DecRef(before)
    try:
        lines = [f"{type(error).__name__}: {error}"]
        # The notes that a traceback shows. `__notes__` can be set to any object.
        notes = getattr(error, "__notes__", None)
        if isinstance(notes, list):
            lines += [note for note in notes if isinstance(note, str)]
        text = "\n".join(lines).encode("utf-8", "replace").replace(b"\0", b"?")
        Py_INCREF(text)
        holder.last_error = <PyObject*>text
        return errno_of(error)
    except BaseException:
        return EINVAL


cdef int get_schema(ArrowArrayStream* stream, ArrowSchema* out) noexcept nogil:
    with gil:
        memset(out, 0, sizeof(ArrowSchema))
        try:
            export_type((<object>(<StreamHolder*>stream.private_data).source).type, out)
            return 0
        except BaseException as error:
            if out.release is not NULL:
                out.release(out)
            return note_error(stream, error)


cdef int get_next(ArrowArrayStream* stream, ArrowArray* out) noexcept nogil:
    with gil:
        memset(out, 0, sizeof(ArrowArray))
        try:
            column = (<object>(<StreamHolder*>stream.private_data).source).next_data()
            if column is not None:
                export_data(<ColumnData?>column, out)
            return 0
        except BaseException as error:
            if out.release is not NULL:
                out.release(out)
            return note_error(stream, error)


cdef const char* get_last_error(ArrowArrayStream* stream) noexcept nogil:
    cdef StreamHolder* holder = <StreamHolder*>stream.private_data
    if holder.last_error is NULL:
        return NULL
    with gil:
        return PyBytes_AS_STRING(<bytes>holder.last_error)


cdef void release_stream(ArrowArrayStream* stream) noexcept nogil:
    cdef StreamHolder* holder = <StreamHolder*>stream.private_data
    drop_reference(holder.source)
    drop_reference(holder.last_error)
    PyMem_RawFree(holder)
    stream.release = NULL


cdef void destroy_stream_capsule(object capsule) noexcept:
    cdef ArrowArrayStream* stream = <ArrowArrayStream*>PyCapsule_GetPointer(capsule, b"arrow_array_stream")
    if stream.release is not NULL:
        stream.release(stream)
    PyMem_RawFree(stream)


def export_stream(source):
    """A capsule of an ArrowArrayStream.

    Parameters
    ----------
    source : object
        Has `type`, a ColumnType, and `next_data()`, which returns a ColumnData of this type, or None at the end. If it
        raises an exception, the consumer gets the text of the exception.
    """
    cdef ArrowArrayStream* out = <ArrowArrayStream*>PyMem_RawCalloc(1, sizeof(ArrowArrayStream))
    cdef StreamHolder* holder = <StreamHolder*>PyMem_RawCalloc(1, sizeof(StreamHolder))
    if out is NULL or holder is NULL:
        PyMem_RawFree(out)
        PyMem_RawFree(holder)
        raise MemoryError("no memory to export a stream")
    Py_INCREF(source)
    holder.source = <PyObject*>source
    out.get_schema = get_schema
    out.get_next = get_next
    out.get_last_error = get_last_error
    out.release = release_stream
    out.private_data = holder
    return PyCapsule_New(out, b"arrow_array_stream", destroy_stream_capsule)
