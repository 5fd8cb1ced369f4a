# cython: boundscheck=False, wraparound=False
"""Writes records to a stream. One call builds the message of a record and frames it.

Most records consist of numbers, and their messages differ only in the values. Such a message is copied from a template
(`template.pyx`) into the place of its frame in the stream's buffer, and its values are filled in. All other messages
are built with `RecordBuilder`.
"""

from collections.abc import Mapping

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.base.endian cimport store_le
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.kinds cimport is_scalar
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.message_builder cimport MessageBuilder
from flatstream._core.flatbuf.scalars cimport pack_exact
from flatstream._core.flatbuf.template cimport MAX_MASKED_FIELDS, CacheEntry, make_template_cache
from flatstream._core.flatbuf.verifier cimport Field
from flatstream._core.framing.framer cimport FrameRun, end_frame, payload_room
from flatstream._core.records.record_builder cimport RecordBuilder
from flatstream._core.records.record_fields cimport ObjectEncoding, field_values, set_value, type_name
from flatstream._core.stream.encoder cimport Encoder

from flatstream._core.flatbuf.scalars import RefusalError


cdef extern from "Python.h":
    bint PyUnicode_CheckExact(object text)
    int PyUnicode_Compare(object left, object right) except? -1
    bint PyDict_Next(object record, Py_ssize_t* position, PyObject** key, PyObject** value)
    PyObject** PySequence_Fast_ITEMS(object record)
    PyObject* borrowed_item "PyTuple_GET_ITEM"(PyObject* names, Py_ssize_t i)
    Py_ssize_t borrowed_length "PyTuple_GET_SIZE"(PyObject* names)
    ctypedef struct PyTypeObject:
        pass
    ctypedef object (*PyCFunction)(PyObject*, PyObject*)
    ctypedef struct PyMethodDef:
        const char* ml_name
        PyCFunction ml_meth
        int ml_flags
        const char* ml_doc
    int METH_FASTCALL
    int METH_KEYWORDS
    object PyDescr_NewMethod(PyTypeObject* type, PyMethodDef* method)

# The most templates that an encoder keeps. Few combinations of fields are usual; a program that writes all combinations
# must not fill memory.
cdef Py_ssize_t MAX_TEMPLATES = 256


@cython.auto_pickle(False)
cdef class RecordEncoder(RecordBuilder):
    """Builds records of one table and frames them.

    Parameters
    ----------
    layout : Layout
        The layout of the schema.
    number : int
        The number of the table in the layout.
    encoder : Encoder
        The stream writer that frames the messages.
    file_identifier : bytes
        The four bytes that identify each message, or none.
    force_defaults : bool
        Whether values that equal the default are stored.
    consult : callable, optional
        ``consult(builder, use_builder)`` is called after a message is built and before it is framed.
        ``use_builder(other)`` replaces the builder for the following messages.
    """

    def __init__(
        self, Layout layout not None, number, encoder, *, bytes file_identifier not None=b"", bint force_defaults=False,
        consult=None
    ):
        cdef Py_ssize_t i, count
        cdef int32_t[MAX_MASKED_FIELDS] numbers
        cdef Field* fields
        if not isinstance(encoder, Encoder):
            raise TypeError(f"expected a StreamWriter, got {type(encoder).__name__}: {encoder!r:.100}")
        RecordBuilder.__init__(self, layout, number, file_identifier=file_identifier, force_defaults=force_defaults)
        self.encoder = encoder
        self.consult = consult
        count = layout.types.objects[self.number].field_count
        if count <= MAX_MASKED_FIELDS:
            fields = layout.types.objects[self.number].fields
            for i in range(count):
                numbers[i] = <int32_t>i
                if fields[i].required and not layout.objects[self.number].fields[i].deprecated:
                    self.required |= <uint64_t>1 << i
            self.templates = make_template_cache(
                layout, self.number, file_identifier, numbers, count, MAX_TEMPLATES
            )

    def _use_builder(self, builder):
        """Replaces the builder. A builder of another class is replaced by a new `Builder`."""
        self.check_made()
        if self.depth:
            raise RuntimeError(f"this {type(self).__name__} is in the middle of a record")
        self.builder = builder if type(builder) is Builder else Builder(1024)

    # Writing

    def write_record(self, record):
        """Builds a record and writes its message.

        Parameters
        ----------
        record : mapping, sequence or object with attributes
            A mapping, or another object with ``keys``, has field names as its keys. A tuple or list has values in the
            order of the schema, without deprecated fields; missing values at the end are absent. Any other object (a
            data class, a named tuple, a `RecordView`, an object of flatc's object API) has attributes with the names of
            fields, or with the names that flatc 2.0.8 or 25 gives to them (``timeNs`` for ``time_ns``). An object whose
            class flatc made, which has the name of the table and "T", must have no other attributes. A field is absent
            if its value is None or if the record has no value for it.

        Raises
        ------
        TypeError, ValueError
            A value does not fit its field, a required field is missing, or a name is not a field. The message has the
            path of the field. Nothing was written.
        OSError, InvalidFrameError, ...
            See `StreamWriter.write_payload`.
        """
        if not self.put_fast(record):
            self.put_slow(record, None, -1)

    def write_records(self, records):
        """Writes each record of an iterable, as `write_record` does.

        If a record fails, the records before it are written, and the error has its row number.

        Returns
        -------
        int
            The number of records.
        """
        cdef Py_ssize_t row = 0
        if hasattr(type(records), "__arrow_c_stream__"):
            raise TypeError(
                f"records must be an iterable of records, got {type_name(records)}: use write_columns() for columns"
            )
        # Apart: for a tuple of built-in classes and one of Python, Cython's isinstance loses the error.
        if (
            isinstance(records, (str, bytes, bytearray)) or isinstance(records, Mapping)
            or not hasattr(type(records), "__iter__")
        ):
            raise TypeError(
                f"records must be an iterable of records, got {type_name(records)}: use write_record() for one record"
            )
        for record in records:
            if not self.put_fast(record):
                self.put_slow(record, None, row)
            row += 1
        return row

    cdef bint put_fast(self, object record) except -1:
        """Writes a dict, tuple or list if `put_exact` can write its values; returns whether it did."""
        cdef PyObject* key = NULL
        cdef PyObject* value = NULL
        cdef PyObject* values[MAX_MASKED_FIELDS]
        cdef Py_ssize_t k = 0, position = 0
        cdef ObjectEncoding encoding
        self.check_made()
        if self.busy:
            return False
        if type(record) is dict:
            if len(<dict>record) > MAX_MASKED_FIELDS:
                return False
            while PyDict_Next(record, &position, &key, &value):
                if self.call_names is None or k >= len(<tuple>self.call_names) or not same_name(
                    borrowed_item(<PyObject*>self.call_names, k), key
                ):
                    break
                values[k] = value
                k += 1
            else:
                return self.put_exact(values, self.call_fields, k)
            self.cache_names(tuple(record))
            return False
        if type(record) is tuple or type(record) is list:
            encoding = self.encoding_of(self.number)
            k = len(record)
            return k <= encoding.position_count and self.put_exact(
                PySequence_Fast_ITEMS(record), encoding.positions, k
            )
        return False

    cdef int put_slow(self, object record, list values, Py_ssize_t row) except -1:
        """Writes `record`, or the record with these `values` by the numbers of the fields. An error has the path and,
        unless `row` is -1, the row.
        """
        self.check_made()
        if self.encoder is None:
            raise ValueError(f"this {type(self).__name__} is uninitialized: its __init__ did not finish")
        # Before `enter`: inside of an operation of the encoder, waiting for this object would be a deadlock.
        self.encoder._check_can_enter()
        self.enter()
        try:
            if values is None:
                values = field_values(self.encoding_of(self.number), record)
            if not self.put_exact(PySequence_Fast_ITEMS(values), NULL, len(values)):
                self.builder.clear()
                self.write_values(values)
        except BaseException as error:
            self.add_path(error, row)
            raise
        finally:
            self.clear_stacks()
            self.leave()
        return 0

    cdef int write_values(self, list values) except -1:
        """Builds and frames the message of a record; `values` are by the numbers of the fields."""
        cdef MessageBuilder builder
        cdef Py_ssize_t base, i, count = len(values)
        cdef uint64_t mask = 0
        cdef uint64_t[MAX_MASKED_FIELDS] bits
        self.table_count = 1
        base = self.push_cells(count)
        if not self.collect(self.number, values, base) or self.templates is None:
            builder = self.builder
            builder.finish_message(self.store_table(self.number, base), self.identifier)
            self.depth = 0
            if self.consult is not None:
                # Before framing: if the policy raises, nothing of the message has been written.
                self.consult(builder, self._use_builder)
            return self.encoder.put_builder(builder, False)
        self.depth = 0
        for i in range(count):
            if self.cells[base + i].present:
                mask |= <uint64_t>1 << i
                bits[i] = self.cells[base + i].bits
        return self.put_scalars_message(mask, bits)

    cdef bint put_exact(self, PyObject** values, const int32_t* numbers, Py_ssize_t count) except -1:
        """Writes a record if its values (borrowed references) are exact ints, bools, floats or None and all of them are
        valid; returns whether it did. `numbers` are the fields of the values; NULL stands for all fields in order.

        No Python code runs until the message is in the stream's buffer, so no other thread can interfere.
        """
        cdef Py_ssize_t k
        cdef int32_t i
        cdef uint64_t[MAX_MASKED_FIELDS] bits
        cdef uint64_t mask = 0
        cdef Field* fields
        cdef FieldLayout* layouts
        if self.templates is None or self.encoder is None or self.layout is None:
            return False
        fields = self.layout.types.objects[self.number].fields
        layouts = self.layout.objects[self.number].fields
        for k in range(count):
            i = numbers[k] if numbers is not NULL else <int32_t>k
            if values[k] is <PyObject*>None:
                continue
            if (
                not is_scalar(fields[i].kind) or layouts[i].paired_field >= 0 or layouts[i].deprecated
                or not pack_exact(fields[i].kind, <object>values[k], &bits[i])
            ):
                return False
            if bits[i] != layouts[i].default_bits or layouts[i].always_stored or self.force_defaults:
                mask |= <uint64_t>1 << i
        if self.required & ~mask:
            return False
        self.put_scalars_message(mask, bits)
        return True

    cdef int put_scalars_message(self, uint64_t mask, const uint64_t* bits) except -1:
        """Frames the message of a record that has the fields of `mask`. All of these are scalars; `bits` has their
        values by the numbers of the fields.
        """
        cdef const CacheEntry* template = self.templates.recent
        cdef FrameRun run
        cdef Py_ssize_t size
        cdef uint8_t* out
        if template is NULL or template.mask != mask:
            template = self.templates.add(mask)
        size = template.size
        if self.encoder.begin_run(&run):
            out = payload_room(&run, size)
            if out is not NULL:
                fill_in(self, template, bits, out)
                end_frame(&run, size)
                self.encoder.end_run(&run)
                return 0
        message = PyBytes_FromStringAndSize(NULL, size)
        fill_in(self, template, bits, <uint8_t*>PyBytes_AS_STRING(message))
        return self.encoder.put(message, <const uint8_t*>PyBytes_AS_STRING(message), size)

    cdef int cache_names(self, tuple names) except -1:
        """Looks up the fields of keywords. If one is not a field, nothing is cached; the slow path raises the error."""
        cdef Py_ssize_t k
        self.call_names = None
        if len(names) > MAX_MASKED_FIELDS:
            return 0
        for k in range(len(names)):
            number = self.layout.numbers[self.number].get(names[k])
            if number is None:
                return 0
            self.call_fields[k] = number
        self.call_names = names
        return 0


cdef inline int fill_in(
    RecordEncoder encoder, const CacheEntry* template, const uint64_t* bits, uint8_t* message
) noexcept:
    """Copies a template to `message`, where the caller has made room, and fills in its values."""
    cdef FieldLayout* layouts = encoder.layout.objects[encoder.number].fields
    cdef Py_ssize_t k
    cdef int32_t i
    memcpy(message, template.data, <size_t>template.size)
    for k in range(template.bit_count):
        i = template.bits[k]
        store_le(message + template.offsets[i], bits[i], layouts[i].size)
    return 0


cdef object write_keywords(PyObject* self, PyObject** args, Py_ssize_t given, PyObject* names):
    """`RecordWriter.write` as the interpreter calls it: `names` are the keywords, `args` their values."""
    cdef RecordEncoder encoder = <RecordEncoder>self
    cdef Py_ssize_t count = 0 if names is NULL else borrowed_length(names)
    if given:
        raise TypeError("write() takes fields as keywords only: use write_record() for a record")
    encoder.check_made()
    if names is not NULL and <PyObject*>encoder.call_names is not names:
        # A call in the source passes the same tuple of names each time; a call with ** makes a new tuple.
        if encoder.call_names is None or not same_names(<PyObject*>encoder.call_names, names):
            encoder.cache_names(<tuple>names)
    if not encoder.busy and (count == 0 or encoder.call_names is not None):
        if encoder.put_exact(args, encoder.call_fields, count):
            return None
    return write_keywords_slow(encoder, args, names, count)


cdef object write_keywords_slow(RecordEncoder encoder, PyObject** args, PyObject* names, Py_ssize_t count):
    cdef ObjectEncoding encoding = encoder.encoding_of(encoder.number)
    cdef list values = [None] * encoding.field_count
    cdef Py_ssize_t k
    try:
        for k in range(count):
            set_value(encoding, values, <object>borrowed_item(names, k), <object>args[k])
    except RefusalError as error:
        # Always raises: the error with the path of the field.
        encoder.add_path(error, -1)
    encoder.put_slow(None, values, -1)
    return None


cdef inline bint same_name(PyObject* known, PyObject* name) noexcept:
    if known is name:
        return True
    # For exact strings the comparison runs no Python code and cannot fail.
    return PyUnicode_CheckExact(<object>known) and PyUnicode_CheckExact(<object>name) and (
        PyUnicode_Compare(<object>known, <object>name) == 0
    )


cdef bint same_names(PyObject* known, PyObject* names) noexcept:
    """Whether two tuples of strings are equal."""
    cdef Py_ssize_t k, count = borrowed_length(known)
    if borrowed_length(names) != count:
        return False
    for k in range(count):
        if not same_name(borrowed_item(known, k), borrowed_item(names, k)):
            return False
    return True


cdef PyMethodDef WRITE
WRITE.ml_name = b"write"
# The cast is safe: the flags declare the arguments that the function takes.
WRITE.ml_meth = <PyCFunction><void*>write_keywords
WRITE.ml_flags = METH_FASTCALL | METH_KEYWORDS
WRITE.ml_doc = b"""write($self, /, **fields)
--

Builds the record that has these fields and writes its message.

Parameters
----------
**fields
    Values by the field names of the schema. A field without a value, or with None, is absent and reads as its default.

Raises
------
TypeError, ValueError
    A value does not fit its field, a required field is missing, or a name is not a field. The message has the path of
    the field. Nothing was written.
OSError, InvalidFrameError, ...
    See `StreamWriter.write_payload`.
"""
# METH_FASTCALL: the interpreter passes the keywords in place on its stack. A method of a Cython class builds a dict of
# them, which for three keywords costs as much as the rest of the call (B2 of asv_benchmarks/records_in.py).
write = PyDescr_NewMethod(<PyTypeObject*>RecordEncoder, &WRITE)
