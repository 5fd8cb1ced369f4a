# cython: boundscheck=False, wraparound=False
"""Columns taken apart for pickling, and made again from parts that may hold anything.

The export and the conversions of a column rely on what the reader of columns guarantees: memory for all rows, offsets
that grow and stay inside of the content, strings of UTF-8. `column_from_parts` copies each part and then checks it.
"""

from pickle import PickleBuffer

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.exporter cimport ColumnData, ColumnType, check_data
from flatstream._core.base.buffers cimport Chunk, acquire
from flatstream._core.base.checks cimport checked_int
from flatstream._core.flatbuf.verifier cimport find_not_utf8

from flatstream._core.arrow.exporter import WIDTHS


def parts_of(ColumnData column not None, int protocol):
    """The arguments with which `column_from_parts` makes the column again.

    From protocol 5 on, memory is given as PickleBuffer, which a caller can have transferred without a copy.
    """
    check_data(column)
    cdef str format = column.type.format
    cdef Py_ssize_t length = column.length, size = 0
    validity = content = offsets = None
    if column.null_count:
        validity = part_of(column.validity, length, protocol)
    if column.offsets is not None:
        offsets = part_of(column.offsets, 8 * (length + 1), protocol)
    if column.data is not None:
        if format in WIDTHS:
            size = length * <Py_ssize_t>WIDTHS[format]
        else:
            size = (<const int64_t*>column.offsets.data)[length]
        content = part_of(column.data, size, protocol)
    return column.type, length, validity, content, offsets, column.children


cdef object part_of(Chunk chunk, Py_ssize_t size, int protocol):
    if size > chunk.capacity:
        raise SystemError("flatstream: a column is shorter than its length")
    view = memoryview(chunk)[:size]
    return PickleBuffer(view) if protocol >= 5 else bytes(view)


def column_from_parts(type, length, validity, content, offsets, children):
    """A column with a copy of these parts.

    Parameters
    ----------
    type : ColumnType
        The type of the column.
    length : int
        The number of rows.
    validity : bytes-like or None
        A byte for each row, 0 for null and 1 for any other; None if no row is null.
    content : bytes-like or None
        The numbers, with one byte per bool; or the bytes of all strings. None for other types.
    offsets : bytes-like or None
        Of strings and lists, ``length + 1`` offsets as int64; None for other types.
    children : tuple of ColumnData
        As many as the type has.

    Raises
    ------
    TypeError, ValueError
        The parts do not make a column of this type.
    """
    cdef ColumnData column = ColumnData.__new__(ColumnData)
    cdef ColumnType known
    cdef Py_ssize_t rows, i, size, nulls = 0
    if not isinstance(type, ColumnType) or not isinstance(children, tuple):
        raise TypeError(f"expected a ColumnType and a tuple of columns, got {type!r:.100} and {children!r:.100}")
    known = type
    known.check()
    rows = checked_int("the number of rows", length, 0, 2**59)
    column.type = known
    column.length = rows
    if len(children) != len(known.children):
        raise ValueError(f"{known!r} has {len(known.children)} children, got {len(children)}")
    for i in range(len(children)):
        if not isinstance(children[i], ColumnData) or (<ColumnData>children[i]).type is None:
            raise TypeError(f"expected a column, got {children[i]!r:.100}")
        if not same_type((<ColumnData>children[i]).type, known.children[i]):
            raise ValueError(f"{known!r} has a child {known.children[i]!r}, got {(<ColumnData>children[i]).type!r}")
    if validity is not None:
        column.validity = copy_of(validity, rows, known, "validity")
        for i in range(rows):
            if column.validity.data[i] > 1:
                raise ValueError(f"the validity of row {i} of {known!r} is neither 0 nor 1")
            nulls += not column.validity.data[i]
        column.null_count = nulls
        if not nulls:
            column.validity = None
    format = known.format
    if format in WIDTHS:
        check_counts(known, 0, content is not None, offsets is None)
        size = WIDTHS[format]
        column.data = copy_of(content, rows * size, known, "numbers")
        if format == "b":
            for i in range(rows):
                if column.data.data[i] > 1:
                    raise ValueError(f"row {i} of {known!r} is neither 0 nor 1")
    elif format in ("U", "Z"):
        check_counts(known, 0, content is not None, offsets is not None)
        column.offsets = offsets_of(offsets, rows, known)
        column.data = copy_of(content, (<const int64_t*>column.offsets.data)[rows], known, "content")
        if format == "U":
            check_utf8(column)
    elif format == "+L":
        check_counts(known, 1, content is None, offsets is not None)
        column.offsets = offsets_of(offsets, rows, known)
        check_rows(known, children[0], (<const int64_t*>column.offsets.data)[rows])
    elif format == "+s":
        check_counts(known, len(children), content is None, offsets is None)
        for child in children:
            check_rows(known, child, rows)
    else:
        check_counts(known, 1, content is None, offsets is None)
        kind, _, digits = format.partition(":")
        if kind != "+w" or not digits.isascii() or not digits.isdigit() or len(digits) > 10:
            raise ValueError(f"no column of this package has the format {format!r:.100}")
        check_rows(known, children[0], rows * int(digits))
    # Last: a column without children counts as incomplete.
    column.children = children
    return column


cdef bint same_type(ColumnType one, ColumnType other):
    """Whether a column of one type can stand for a column of the other. The children were checked when it was made."""
    return one is other or (
        one.format == other.format and one.name == other.name and one.labels == other.labels
        and one.numbers == other.numbers and one.presence == other.presence
        and len(one.children) == len(other.children)
        and all([same_type(mine, theirs) for mine, theirs in zip(one.children, other.children)])
    )


cdef int check_counts(ColumnType type, Py_ssize_t children, bint content_fits, bint offsets_fit) except -1:
    if len(type.children) != children or not content_fits or not offsets_fit:
        raise ValueError(f"{type!r} is made of other parts than these")
    return 0


cdef int check_rows(ColumnType type, ColumnData child, object rows) except -1:
    if child.length != rows:
        raise ValueError(f"{type!r} needs {rows} rows of {child.type!r}, got {child.length}")
    return 0


cdef Chunk copy_of(object part, Py_ssize_t size, ColumnType type, str what):
    """A copy of `part`, which must have `size` bytes."""
    cdef Py_buffer view
    cdef Chunk chunk
    acquire(part, &view, what)
    try:
        if view.len != size:
            raise ValueError(f"the {what} of {type!r} must have {size} bytes, got {view.len}")
        chunk = Chunk(size)
        memcpy(chunk.data, view.buf, <size_t>size)
        return chunk
    finally:
        PyBuffer_Release(&view)


cdef Chunk offsets_of(object part, Py_ssize_t rows, ColumnType type):
    """A copy of the offsets: they begin with 0 and never become smaller."""
    cdef Chunk chunk = copy_of(part, 8 * (rows + 1), type, "offsets")
    cdef const int64_t* offsets = <const int64_t*>chunk.data
    cdef Py_ssize_t i
    if offsets[0] != 0:
        raise ValueError(f"the offsets of {type!r} must begin with 0, got {offsets[0]}")
    for i in range(rows):
        if offsets[i + 1] < offsets[i]:
            raise ValueError(f"the offsets of {type!r} become smaller at row {i}")
    return chunk


cdef int check_utf8(ColumnData column) except -1:
    cdef const int64_t* offsets = <const int64_t*>column.offsets.data
    cdef Py_ssize_t i
    for i in range(column.length):
        if find_not_utf8(column.data.data + offsets[i], <uint64_t>(offsets[i + 1] - offsets[i])) >= 0:
            raise ValueError(f"row {i} of {column.type!r} is not UTF-8")
    return 0
