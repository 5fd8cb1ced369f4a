# cython: boundscheck=False, wraparound=False, binding=False, embedsignature=True, embedsignature.format=clinic
"""A compiled drop-in for `flatbuffers.Builder`, over `MessageBuilder`.

Generated code and the object API run on it unchanged: it has the same methods and attributes, writes the same bytes and
raises the same exceptions. It converts exact ints, bools and floats in C. Any other number, for example an object that
has ``__index__``, goes through the number types of the `flatbuffers` package, so that the result is the same there.

Positions that callers give and get are end offsets; see `message_builder`.
"""

import operator
import struct
import warnings

from cpython.buffer cimport Py_buffer, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport int64_t, uint8_t, uint64_t

from flatstream._core.base.buffers cimport acquire
from flatstream._core.base.endian cimport load_u16
from flatstream._core.base.pickling cimport refuse_pickling
from flatstream._core.flatbuf.kinds cimport (
    BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, UBYTE, UINT, ULONG, USHORT, Kind, scalar_width,
)
from flatstream._core.flatbuf.message_builder cimport MAX_MESSAGE_SIZE, MessageBuilder, end_offset_of, fail
from flatstream._core.flatbuf.scalars cimport pack_exact

from flatstream._core.flatbuf.kinds import NUMBER_FLAGS


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    unsigned long long PyLong_AsUnsignedLongLong(object number) except? -1
    const Py_ssize_t PY_SSIZE_T_MAX

# The size of a vtable has 16 bits, so at most 32,765 fields can be present. But a table may be started with more, as
# long as the last ones stay absent.
cdef Py_ssize_t MAX_FIELDS = 1 << 24


cdef int pack_number(Kind kind, object x, uint64_t* bits) except -1:
    """Stores the bytes of `x`, as a number of this kind, in the low bytes of `bits`.

    Raises the errors of the package.
    """
    if pack_exact(<uint8_t>kind, x, bits):
        return 0
    if kind == ULONG and type(x) is int and 0 <= x <= 0xFFFFFFFFFFFFFFFF:
        bits[0] = PyLong_AsUnsignedLongLong(x)
        return 0
    return pack_number_slow(kind, x, bits)


cdef int pack_number_slow(Kind kind, object x, uint64_t* bits) except -1:
    """Does `pack_number` with the package's own number types."""
    from flatbuffers import number_types
    flags = getattr(number_types, NUMBER_FLAGS[<int>kind])
    number_types.enforce_number(x, flags)
    bits[0] = int.from_bytes(flags.packer_type.pack(x), "little")
    return 0


cdef int check_number(Kind kind, object x) except -1:
    """Raises the errors of the package's `enforce_number`; converts nothing."""
    cdef uint64_t bits = 0
    if type(x) is int or type(x) is bool:
        if kind < FLOAT:
            pack_number(kind, x, &bits)
        return 0
    if type(x) is float and kind >= FLOAT:
        return 0
    from flatbuffers import number_types
    number_types.enforce_number(x, getattr(number_types, NUMBER_FLAGS[<int>kind]))
    return 0


cdef class Builder(MessageBuilder):
    """Builds FlatBuffers; a compiled drop-in for `flatbuffers.Builder`.

    Parameters
    ----------
    initialSize : int
        The size of the buffer at first, in bytes. It doubles whenever it is full, up to 2 GiB.

    Raises
    ------
    flatbuffers.builder.BuilderSizeError
        `initialSize` is negative or more than 2 GiB; later, a message is larger than 2 GiB.

    Notes
    -----
    Methods, attributes, bytes and exceptions are those of `flatbuffers.Builder`, with these differences:

    - The builder itself is a bytes-like object: ``memoryview(builder)`` is the finished message, without a copy.
    - ``Bytes`` is a writable memoryview, not a bytearray. As long as a view of the buffer exists, the builder does not
      change that memory: after `Clear`, or when building continues, it uses other memory. Until then, bytes written
      into a kept ``Bytes`` show in the message.
    - ``Place`` and ``Pad`` make room where the package would write over the end of the buffer.
    - ``GrowByteBuffer`` leaves the head at the beginning of the message.
    - ``current_vtable`` and ``vtables`` are copies. They, ``Bytes``, ``objectEnd`` and ``sharedStrings`` cannot be
      assigned.
    - A builder cannot be copied or pickled, and its methods do not call methods that a subclass overrides.
    - If a number is in the range of its type and still cannot be packed, the message stays unchanged; in the package
      its head moves.

    Only one thread at a time may use a builder.

    Examples
    --------
    >>> builder = Builder(64)
    >>> builder.StartObject(1)
    >>> builder.PrependUint32Slot(0, 7, 0)
    >>> builder.Finish(builder.EndObject())
    44
    >>> bytes(builder).hex(" ", 4)
    '0c000000 00000600 08000400 06000000 07000000'
    """

    MAX_BUFFER_SIZE = 2**31

    def __init__(self, initialSize=1024):
        # Compare before converting, so that a value of a wrong type fails as it does in flatbuffers.
        if not (0 <= initialSize <= MAX_MESSAGE_SIZE):
            fail("BuilderSizeError", "flatbuffers: Cannot create Builder larger than 2 gigabytes.")
        self.allocate(operator.index(initialSize))
        self.has_vector_length = False

    cdef int reset(self) except -1:
        MessageBuilder.reset(self)
        self._force_defaults = False
        self.shared = None
        return 0

    def Clear(self):
        """Discards the message and begins another. Views of the message stay unchanged."""
        self.clear()
        self._vector_length = None
        self.has_vector_length = True

    # The finished message

    def Output(self):
        """A copy of the finished message, as a bytearray.

        Raises
        ------
        flatbuffers.builder.BuilderNotFinishedError
            `Finish` was not called.
        """
        self.check_made()
        if not self._finished:
            fail("BuilderNotFinishedError")
        return PyByteArray_FromStringAndSize(<char*>self.data + self._head, end_offset_of(self))

    def __reduce__(self):
        refuse_pickling(self, "take bytes(memoryview(builder)) of a finished message")

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        self.check_made()
        if not self._finished:
            raise BufferError("the builder is not finished: call its Finish(root) before looking at the message")
        if flags & PyBUF_WRITABLE:
            raise BufferError("the finished message is read-only: Bytes can be written")
        # The view is a view of the chunk: it keeps the chunk alive, and the chunk counts it.
        PyObject_GetBuffer(self.chunk, buffer, flags)
        buffer.buf = <void*>(self.data + self._head)
        buffer.len = end_offset_of(self)

    def __releasebuffer__(self, Py_buffer* buffer):
        # The chunk counts its views. But NumPy assumes that an object without this method never changes its memory, and
        # keeps no view of it.
        pass

    @property
    def Bytes(self):
        """The whole buffer, as a writable memoryview. The message is at its end; see `Head`."""
        self.check_made()
        self.unshare()
        self.chunk.writable = True
        try:
            return PyMemoryView_FromObject(self.chunk)
        finally:
            self.chunk.writable = False

    def Head(self):
        """The index in `Bytes` at which the message begins."""
        return self._head

    def Offset(self):
        """The number of bytes written so far, which is the end offset of the part written last."""
        return end_offset_of(self)

    # State

    @property
    def head(self):
        """The index in `Bytes` at which the message begins. Code that writes into `Bytes` itself assigns it."""
        return self._head

    @head.setter
    def head(self, value):
        cdef Py_ssize_t head = value
        if not 0 <= head <= self.capacity:
            raise ValueError(f"head must be from 0 to {self.capacity}, the size of the buffer, got {value}")
        self._head = head

    @property
    def nested(self):
        """Whether an object, a vector or a string is being built."""
        return self._nested

    @nested.setter
    def nested(self, value):
        self._nested = value

    @property
    def finished(self):
        """Whether `Finish` was called."""
        return self._finished

    @finished.setter
    def finished(self, value):
        self._finished = value

    @property
    def forceDefaults(self):
        """The last argument of `ForceDefaults`."""
        return self._force_defaults

    @forceDefaults.setter
    def forceDefaults(self, value):
        self._force_defaults = value

    @property
    def minalign(self):
        """The largest alignment of any part of the message, in bytes."""
        return self._minalign

    @minalign.setter
    def minalign(self, value):
        cdef Py_ssize_t minalign = value
        if not 0 <= minalign <= MAX_MESSAGE_SIZE:
            raise ValueError(f"minalign must be from 0 to {MAX_MESSAGE_SIZE}, got {value}")
        self._minalign = minalign

    @property
    def current_vtable(self):
        """The end offset of each field of the table being built, or 0 for an absent one; None if there is no table."""
        cdef Py_ssize_t i
        return [self.entries[i] for i in range(self.entry_count)] if self.in_table else None

    @property
    def objectEnd(self):
        """The end offset of the part before the table being built; None before the first table."""
        return self.object_end if self.object_end >= 0 else None

    @property
    def vtables(self):
        """The end offsets of the vtables written so far. A key has the entries of the vtable, from the last to the
        first, and the size of its table.
        """
        cdef Py_ssize_t i, j, size, end_offset
        cdef const uint8_t* table
        cdef dict found = {}
        if self.vtable_count:
            self.check_made()
        for i in range(self.vtable_count):
            end_offset = self.written_vtables[i].end_offset
            table = self.data + self.capacity - end_offset
            # A vtable may have been overwritten through `Bytes`.
            size = min(<Py_ssize_t>load_u16(table), end_offset)
            entries = [load_u16(table + j) for j in range(size - 2, 2, -2)]
            found[(*entries, load_u16(table + 2))] = end_offset
        return found

    @property
    def vectorNumElems(self):
        """The number of elements that the vector being built will have."""
        if not self.has_vector_length:
            raise AttributeError("vectorNumElems")
        return self._vector_length

    @vectorNumElems.setter
    def vectorNumElems(self, value):
        self._vector_length = value
        self.has_vector_length = True

    @property
    def sharedStrings(self):
        """The end offsets of the strings of `CreateSharedString`; None before the first."""
        return self.shared

    def ForceDefaults(self, forceDefaults):
        """Sets whether fields that have their default are written, too."""
        self._force_defaults = forceDefaults

    # Memory

    def GrowByteBuffer(self):
        """Doubles the buffer."""
        if self.capacity == MAX_MESSAGE_SIZE:
            fail("BuilderSizeError", "flatbuffers: cannot grow buffer beyond 2 gigabytes")
        # Unlike in the package, the head stays at the beginning of the message.
        self.enlarge((min(2 * self.capacity, <Py_ssize_t>MAX_MESSAGE_SIZE) or 1) - end_offset_of(self))

    def Pad(self, n):
        """Puts `n` zero bytes in front of the message."""
        cdef int64_t count
        if n <= 0:
            return
        count = checked_size(n)
        if count > MAX_MESSAGE_SIZE:
            fail("BuilderSizeError", "flatbuffers: cannot grow buffer beyond 2 gigabytes")
        if count > 0:
            self.store_zeros(count)

    def Prep(self, size, additionalBytes):
        """Makes room for an element of `size` bytes that is followed by `additionalBytes` more, and aligns it."""
        self.prep(checked_size(size), checked_size(additionalBytes))

    # Tables

    cdef int check_nested(self) except -1:
        if not self._nested:
            fail("IsNotNestedError")
        return 0

    cdef int check_not_nested(self) except -1:
        if self._nested:
            fail("IsNestedError")
        return 0

    def assertNested(self):
        """Raises IsNotNestedError unless an object, a vector or a string is being built."""
        self.check_nested()

    def assertNotNested(self):
        """Raises IsNestedError if an object, a vector or a string is being built."""
        self.check_not_nested()

    cdef int check_inline(self, object x) except -1:
        check_number(UINT, x)
        if x != end_offset_of(self):
            fail(
                "StructIsNotInlineError",
                "flatbuffers: Tried to write a Struct at an Offset that is different from the current Offset of the "
                "Builder.",
            )
        return 0

    def assertStructIsInline(self, obj):
        """Raises StructIsNotInlineError unless `obj` is the end offset of the part written last."""
        self.check_inline(obj)

    def StartObject(self, numfields):
        """Begins a table of at most `numfields` fields."""
        self.check_not_nested()
        number = operator.index(numfields)
        if number > MAX_FIELDS:
            raise ValueError(f"numfields must be at most {MAX_FIELDS}, got {number}")
        self.start_table(number if number > 0 else 0)

    cdef int mark_slot(self, object o) except -1:
        """Notes that field `o` is the part written last. Python code may have run since `StartObject`."""
        cdef Py_ssize_t entry
        if not self._nested:
            fail("IsNotNestedError")
        if not self.in_table:
            raise TypeError("'NoneType' object does not support item assignment")
        try:
            entry = o
        except OverflowError:
            entry = PY_SSIZE_T_MAX
        if entry < 0:
            entry += self.entry_count
        if not 0 <= entry < self.entry_count:
            raise IndexError(f"field {o} of a table that was started with {self.entry_count} fields")
        self.entries[entry] = end_offset_of(self)
        return 0

    def Slot(self, slotnum):
        """Notes that field `slotnum` of the table is the part written last."""
        self.mark_slot(slotnum)

    def WriteVtable(self):
        """Ends the table with its vtable; `EndObject` calls it."""
        return self.write_vtable()

    def EndObject(self):
        """Ends the table, and returns its end offset."""
        self.check_nested()
        return self.end_table()

    # Offsets

    cdef int prepend_offset(self, object off) except -1:
        """Puts the distance to the part with the end offset `off` in front of the message, aligned."""
        cdef int64_t target
        self.prep(4, 0)
        if type(off) is not int:
            if not (off <= end_offset_of(self)):
                fail("OffsetArithmeticError", "flatbuffers: Offset arithmetic error.")
            return self.place_number(UINT, end_offset_of(self) - off + 4)
        if off > end_offset_of(self):
            fail("OffsetArithmeticError", "flatbuffers: Offset arithmetic error.")
        if off < -MAX_MESSAGE_SIZE:
            return self.place_number(UINT, end_offset_of(self) - off + 4)
        target = off
        return self.store(<uint64_t>(end_offset_of(self) - target + 4), 4)

    def PrependUOffsetTRelative(self, off):
        """Puts the distance to the part with the end offset `off` in front of the message, aligned."""
        self.prepend_offset(off)

    def PrependSOffsetTRelative(self, off):
        """Like `PrependUOffsetTRelative`, with a signed distance."""
        self.prep(4, 0)
        if not (off <= end_offset_of(self)):
            fail("OffsetArithmeticError", "flatbuffers: Offset arithmetic error.")
        self.place_number(INT, end_offset_of(self) - off + 4)

    def PrependUOffsetTRelativeSlot(self, o, x, d):
        """Puts the distance to the part with the end offset `x` into field `o`, unless `x` is `d` and defaults are not
        forced.
        """
        if x != d or self._force_defaults:
            self.prepend_offset(x)
            self.mark_slot(o)

    def PrependStructSlot(self, v, x, d):
        """Notes that field `v` is the struct with the end offset `x`, which was written last, unless `x` is `d`."""
        check_number(UINT, d)
        if x != d:
            self.check_inline(x)
            self.mark_slot(v)

    # Vectors and strings

    def StartVector(self, elemSize, numElems, alignment):
        """Begins a vector of `numElems` elements of `elemSize` bytes each."""
        cdef int64_t size
        self.check_not_nested()
        self._nested = True
        self._vector_length = numElems
        self.has_vector_length = True
        size = checked_size(elemSize * numElems)
        self.prep(4, size)
        self.prep(checked_size(alignment), size)
        return end_offset_of(self)

    cdef object close_vector(self):
        self.check_nested()
        self._nested = False
        if not self.has_vector_length:
            raise AttributeError("vectorNumElems")
        self.place_number(UINT, self._vector_length)
        self._vector_length = None
        return end_offset_of(self)

    def EndVector(self, numElems=None):
        """Ends the vector, and returns its end offset. `numElems` is deprecated."""
        if numElems:
            self.check_nested()
            self._nested = False
            # Compiled code has no Python frame, so level 1 is the caller.
            warnings.warn("numElems is deprecated.", DeprecationWarning, stacklevel=1)
            if numElems != self.vectorNumElems:
                fail("EndVectorLengthMismatched")
            self._nested = True
        return self.close_vector()

    cdef object end_bytes(self, Py_ssize_t end_offset):
        """Ends a string or a vector of bytes that `MessageBuilder` has written; returns its end offset."""
        self._vector_length = None
        self.has_vector_length = True
        self._nested = False
        return end_offset

    def CreateString(self, s, encoding="utf-8", errors="strict"):
        """Writes a string (a str, or its bytes), and returns its end offset."""
        cdef Py_ssize_t size = 0
        cdef const char* text
        cdef Py_buffer view
        self.check_not_nested()
        self._nested = True
        if type(s) is str and encoding == "utf-8" and errors == "strict":
            text = PyUnicode_AsUTF8AndSize(s, &size)
            return self.end_bytes(self.put_string(<const uint8_t*>text, size))
        if isinstance(s, str):
            # As in the package also by an `encode` of a subclass: the buffer that comes back is measured, not trusted.
            s = s.encode(encoding, errors)
        elif isinstance(s, bytes):
            return self.end_bytes(self.put_string(<const uint8_t*>PyBytes_AS_STRING(s), PyBytes_GET_SIZE(s)))
        elif not isinstance(s, bytearray):
            raise TypeError("non-string passed to CreateString")
        acquire(s, &view, "s")
        try:
            return self.end_bytes(self.put_string(<const uint8_t*>view.buf, view.len))
        finally:
            PyBuffer_Release(&view)

    def CreateSharedString(self, s, encoding="utf-8", errors="strict"):
        """Like `CreateString`, but writes equal strings only once."""
        if not self.shared:
            self.shared = {}
        elif s in self.shared:
            return self.shared[s]
        end_offset = self.CreateString(s, encoding, errors)
        self.shared[s] = end_offset
        return end_offset

    def CreateByteVector(self, x):
        """Writes a vector of bytes (bytes or bytearray), and returns its end offset."""
        cdef Py_ssize_t size
        cdef Py_buffer view
        self.check_not_nested()
        self._nested = True
        if isinstance(x, bytes):
            size = PyBytes_GET_SIZE(x)
            return self.end_bytes(self.put_vector(<const uint8_t*>PyBytes_AS_STRING(x), size, 1, size))
        if not isinstance(x, bytearray):
            raise TypeError("non-byte vector passed to CreateByteVector")
        acquire(x, &view, "x")
        try:
            return self.end_bytes(self.put_vector(<const uint8_t*>view.buf, view.len, 1, view.len))
        finally:
            PyBuffer_Release(&view)

    def CreateNumpyVector(self, x):
        """Writes a vector from a one-dimensional NumPy array, and returns its end offset."""
        from flatbuffers import builder
        cdef Py_buffer view
        numpy = builder.np
        if numpy is None:
            raise builder.NumpyRequiredForThisFeature("Numpy was not found.")
        if not isinstance(x, numpy.ndarray):
            raise TypeError("non-numpy-ndarray passed to CreateNumpyVector")
        if x.dtype.kind not in ("b", "i", "u", "f"):
            raise TypeError("numpy-ndarray holds elements of unsupported datatype")
        if x.ndim > 1:
            raise TypeError("multidimensional-ndarray passed to CreateNumpyVector")
        item_size, count = x.itemsize, x.size
        self.StartVector(item_size, count, x.dtype.alignment)
        little = x if x.dtype.str[0] == "<" else x.byteswap(inplace=False)
        # A subclass may define its own bytes: a masked array fills in the masked elements.
        data = numpy.ascontiguousarray(little) if type(little) is numpy.ndarray else little.tobytes(order="C")
        acquire(data, &view, "x")
        try:
            if view.len != item_size * count:
                raise ValueError(f"expected {count} elements of {item_size} bytes, got {view.len} bytes")
            self.store_bytes(<const uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        self._vector_length = count
        return self.close_vector()

    # Finishing

    cdef object finish(self, object root, bint size_prefix, object file_identifier):
        cdef int64_t size = 4
        check_number(UINT, root)
        self.compare_with_limits()
        if file_identifier is not None:
            size += 4
        if size_prefix:
            size += 4
        self.prep(self._minalign, size)
        if file_identifier is not None:
            self.prep(4, 4)
            # struct raises the package's error for an identifier that does not have four bytes.
            identifier = bytes(struct.unpack(">BBBB", file_identifier))
            self.store_bytes(<const uint8_t*>PyBytes_AS_STRING(identifier), 4)
        self.prepend_offset(root)
        if size_prefix:
            self.prepend_number(INT, end_offset_of(self))
        self.size_prefixed = size_prefix
        self._finished = True
        return self._head

    def Finish(self, rootTable, file_identifier=None):
        """Ends the message, whose root is the table with the end offset `rootTable`; returns `Head`."""
        return self.finish(rootTable, False, file_identifier)

    def FinishSizePrefixed(self, rootTable, file_identifier=None):
        """Like `Finish`, with the size of the message in front of it. No writer takes such a message: its frame has a
        length already, and without the prefix the message would be misaligned.
        """
        return self.finish(rootTable, True, file_identifier)

    # Numbers

    cdef int prepend_number(self, Kind kind, object x) except -1:
        self.prep(scalar_width(<uint8_t>kind), 0)
        return self.place_number(kind, x)

    cdef int place_number(self, Kind kind, object x) except -1:
        cdef uint64_t bits = 0
        pack_number(kind, x, &bits)
        return self.store(bits, scalar_width(<uint8_t>kind))

    cdef int prepend_slot(self, Kind kind, object o, object x, object d) except -1:
        cdef uint64_t bits = 0, default = 0
        if type(x) is int and type(d) is int and kind < FLOAT:
            pack_number(kind, x, &bits)
            pack_number(kind, d, &default)
            if bits == default and not self._force_defaults:
                return 0
        elif type(x) is float and type(d) is float and kind >= FLOAT:
            if PyFloat_AS_DOUBLE(x) == PyFloat_AS_DOUBLE(d) and not self._force_defaults:
                return 0
        else:
            if x is not None:
                check_number(kind, x)
            if d is not None:
                check_number(kind, d)
            if not (x != d or (self._force_defaults and d is not None)):
                return 0
        self.prepend_number(kind, x)
        return self.mark_slot(o)

    def Prepend(self, flags, off):
        """Puts `off`, a number of the type that `flags` describes, in front of the message, aligned."""
        self.prep(checked_size(flags.bytewidth), 0)
        self.Place(off, flags)

    def Place(self, x, flags):
        """Puts `x`, a number of the type that `flags` describes, in front of the message without aligning it."""
        from flatbuffers import number_types
        number_types.enforce_number(x, flags)
        cdef bytes data = flags.packer_type.pack(x)
        self.store_bytes(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def PrependSlot(self, flags, o, x, d):
        """Puts `x`, a number of the type that `flags` describes, into field `o`, unless it is `d`."""
        from flatbuffers import number_types
        if x is not None:
            number_types.enforce_number(x, flags)
        if d is not None:
            number_types.enforce_number(d, flags)
        if x != d or (self._force_defaults and d is not None):
            self.Prepend(flags, x)
            self.mark_slot(o)

    def PrependBoolSlot(self, o, x, d, /):
        """Puts `x`, a bool, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(BOOL, o, x, d)

    def PrependByteSlot(self, o, x, d, /):
        """Puts `x`, an unsigned number of 8 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(UBYTE, o, x, d)

    def PrependUint8Slot(self, o, x, d, /):
        """Puts `x`, an unsigned number of 8 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(UBYTE, o, x, d)

    def PrependUint16Slot(self, o, x, d, /):
        """Puts `x`, an unsigned number of 16 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(USHORT, o, x, d)

    def PrependUint32Slot(self, o, x, d, /):
        """Puts `x`, an unsigned number of 32 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(UINT, o, x, d)

    def PrependUint64Slot(self, o, x, d, /):
        """Puts `x`, an unsigned number of 64 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(ULONG, o, x, d)

    def PrependInt8Slot(self, o, x, d, /):
        """Puts `x`, a signed number of 8 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(BYTE, o, x, d)

    def PrependInt16Slot(self, o, x, d, /):
        """Puts `x`, a signed number of 16 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(SHORT, o, x, d)

    def PrependInt32Slot(self, o, x, d, /):
        """Puts `x`, a signed number of 32 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(INT, o, x, d)

    def PrependInt64Slot(self, o, x, d, /):
        """Puts `x`, a signed number of 64 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(LONG, o, x, d)

    def PrependFloat32Slot(self, o, x, d, /):
        """Puts `x`, a float of 32 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(FLOAT, o, x, d)

    def PrependFloat64Slot(self, o, x, d, /):
        """Puts `x`, a float of 64 bits, into field `o`, unless it is `d` and defaults are not forced."""
        self.prepend_slot(DOUBLE, o, x, d)

    def PrependBool(self, x):
        """Puts `x`, a bool, in front of the message, aligned."""
        self.prepend_number(BOOL, x)

    def PrependByte(self, x):
        """Puts `x`, an unsigned number of 8 bits, in front of the message, aligned."""
        self.prepend_number(UBYTE, x)

    def PrependUint8(self, x):
        """Puts `x`, an unsigned number of 8 bits, in front of the message, aligned."""
        self.prepend_number(UBYTE, x)

    def PrependUint16(self, x):
        """Puts `x`, an unsigned number of 16 bits, in front of the message, aligned."""
        self.prepend_number(USHORT, x)

    def PrependUint32(self, x):
        """Puts `x`, an unsigned number of 32 bits, in front of the message, aligned."""
        self.prepend_number(UINT, x)

    def PrependUint64(self, x):
        """Puts `x`, an unsigned number of 64 bits, in front of the message, aligned."""
        self.prepend_number(ULONG, x)

    def PrependInt8(self, x):
        """Puts `x`, a signed number of 8 bits, in front of the message, aligned."""
        self.prepend_number(BYTE, x)

    def PrependInt16(self, x):
        """Puts `x`, a signed number of 16 bits, in front of the message, aligned."""
        self.prepend_number(SHORT, x)

    def PrependInt32(self, x):
        """Puts `x`, a signed number of 32 bits, in front of the message, aligned."""
        self.prepend_number(INT, x)

    def PrependInt64(self, x):
        """Puts `x`, a signed number of 64 bits, in front of the message, aligned."""
        self.prepend_number(LONG, x)

    def PrependFloat32(self, x):
        """Puts `x`, a float of 32 bits, in front of the message, aligned."""
        self.prepend_number(FLOAT, x)

    def PrependFloat64(self, x):
        """Puts `x`, a float of 64 bits, in front of the message, aligned."""
        self.prepend_number(DOUBLE, x)

    def PlaceVOffsetT(self, x):
        """Puts an offset of 16 bits in front of the message without aligning it."""
        self.place_number(USHORT, x)

    def PlaceSOffsetT(self, x):
        """Puts a signed offset of 32 bits in front of the message without aligning it."""
        self.place_number(INT, x)

    def PlaceUOffsetT(self, x):
        """Puts an offset of 32 bits in front of the message without aligning it."""
        self.place_number(UINT, x)

    def PrependVOffsetT(self, x):
        """Puts an offset of 16 bits in front of the message, aligned."""
        self.prepend_number(USHORT, x)


cdef int64_t checked_size(object value) except? -1:
    """Returns `value`, a number of bytes, limited so that sums of a few of them do not overflow."""
    # Compare before converting, so that a value of a wrong type fails as it does in flatbuffers; and again afterwards,
    # because a class can compare as it likes.
    if value > 2 * MAX_MESSAGE_SIZE:
        fail("BuilderSizeError", "flatbuffers: cannot grow buffer beyond 2 gigabytes")
    number = operator.index(value)
    if number > 2 * MAX_MESSAGE_SIZE:
        fail("BuilderSizeError", "flatbuffers: cannot grow buffer beyond 2 gigabytes")
    if number < -2 * MAX_MESSAGE_SIZE:
        raise ValueError(f"expected a number of bytes, got {number}")
    return number
