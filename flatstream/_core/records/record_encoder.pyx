# cython: boundscheck=False, wraparound=False
"""Records into a stream: each is built and framed by one call.

Most records of an agent are numbers and nothing else. Their message is the same each time but for the values: a
`Pattern` has the rest of it ready, and the message is made where its frame will lie.
"""

from collections.abc import Mapping

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.base.endian cimport store_le
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout, is_scalar
from flatstream._core.flatbuf.scalars cimport take_exact
from flatstream._core.flatbuf.template cimport Template, make_template
from flatstream._core.flatbuf.verifier cimport Field
from flatstream._core.framing.framer cimport FrameRun, end_frame, payload_room
from flatstream._core.records.record_builder cimport ObjectPlan, RecordBuilder
from flatstream._core.stream.encoder cimport Encoder

from flatstream._core.flatbuf.scalars import RefusalError


cdef extern from "Python.h":
    bint PyUnicode_CheckExact(object text)
    int PyUnicode_Compare(object left, object right) except? -1
    bint PyDict_Next(object record, Py_ssize_t* place, PyObject** key, PyObject** value)
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

# How many patterns are kept: a program writes few kinds of records, and one that writes all kinds must not fill memory.
cdef Py_ssize_t MOST_PATTERNS = 256
# Records have fewer fields as a rule, and the bits of one number say which of them are there.
cdef Py_ssize_t MOST_FIELDS = 64


@cython.no_gc
cdef class Pattern:
    pass


cdef class RecordEncoder(RecordBuilder):
    """Builds records of a table and frames them.

    Parameters
    ----------
    layout : Layout
        The types of the schema.
    number : int
        Which of its objects the records are: a table.
    encoder : Encoder
        Where the messages go.
    file_identifier : bytes
        Four bytes that every message carries, or none.
    force_defaults : bool
        Whether values that are the default are stored as well.
    consult : callable, optional
        ``consult(builder, use_builder)`` is called with the builder of each message that is built, before it is framed;
        ``use_builder(other)`` has the next messages built with another.
    """

    def __init__(
        self, Layout layout not None, number, encoder, *, bytes file_identifier not None=b"", bint force_defaults=False,
        consult=None
    ):
        cdef Py_ssize_t i
        cdef Field* fields
        if not isinstance(encoder, Encoder):
            raise TypeError(f"expected a StreamWriter, got {type(encoder).__name__}: {encoder!r:.100}")
        RecordBuilder.__init__(self, layout, number, file_identifier=file_identifier, force_defaults=force_defaults)
        self.encoder = encoder
        self.consult = consult
        self.patterns = {}
        fields = layout.types.objects[self.number].fields
        self.patterned = layout.types.objects[self.number].field_count <= MOST_FIELDS
        if self.patterned:
            for i in range(layout.types.objects[self.number].field_count):
                if fields[i].required and not layout.objects[self.number].fields[i].deprecated:
                    self.required |= <uint64_t>1 << i

    def use_builder(self, builder):
        """Builds with `builder` from now on; with one of its own kind if that is another."""
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
            A mapping, or anything else with ``keys``, has the names of fields as its keys. A tuple or list has values
            in the order of the fields of the schema, those that are deprecated left out; there may be fewer. Of
            anything else (a data class, a named tuple, a `RecordView`, an object of the object API) the attributes
            count that are called what a field is called; what generated code makes of the name (``timeNs`` of
            ``time_ns``) counts as well. None stands for an absent field, as does a name that is not there.

        Raises
        ------
        TypeError, ValueError
            A value is not what its field takes, a required one is missing, or there is no field of this name. The
            message says which, with the path. Nothing was written.
        OSError, InvalidFrameError, ...
            See `StreamWriter.write_payload`.
        """
        if not self.put_simple(record):
            self.write_located(record, None, -1)

    def write_records(self, records):
        """Writes each of `records`, an iterable, like `write_record`.

        If one fails, those before it are written, and the error has its number.

        Returns
        -------
        int
            How many there were.
        """
        cdef Py_ssize_t row = 0
        if hasattr(type(records), "__arrow_c_stream__"):
            raise TypeError(f"records must be an iterable of records: write_columns() takes a {type(records).__name__}")
        if isinstance(records, (str, bytes, bytearray, Mapping)) or not hasattr(type(records), "__iter__"):
            raise TypeError(
                f"records must be an iterable of records, got one {type(records).__name__}: write_record() takes one"
            )
        for record in records:
            if not self.put_simple(record):
                self.write_located(record, None, row)
            row += 1
        return row

    cdef bint put_simple(self, object record) except -1:
        """Writes a dict, tuple or list if it holds nothing but numbers that fit; returns whether it did."""
        cdef PyObject* key = NULL
        cdef PyObject* value = NULL
        cdef PyObject* values[64]
        cdef Py_ssize_t k = 0, place = 0
        cdef ObjectPlan plan
        self.check_made()
        if self.busy:
            return False
        if type(record) is dict:
            if len(<dict>record) > MOST_FIELDS:
                return False
            while PyDict_Next(record, &place, &key, &value):
                if self.call_names is None or k >= len(<tuple>self.call_names) or not same_name(
                    borrowed_item(<PyObject*>self.call_names, k), key
                ):
                    break
                values[k] = value
                k += 1
            else:
                return self.put_exact(values, self.call_fields, k)
            self.learn_names(tuple(record))
            return False
        if type(record) is tuple or type(record) is list:
            plan = self.plan_of(self.number)
            k = len(record)
            return k <= plan.position_count and self.put_exact(PySequence_Fast_ITEMS(record), plan.positions, k)
        return False

    cdef int write_located(self, object record, list values, Py_ssize_t row) except -1:
        """Writes `record`, or the record with these `values`, and says in an error where it happened."""
        self.check_made()
        if self.encoder is None:
            raise ValueError(f"this {type(self).__name__} has nothing to write to")
        # In the middle of the encoder's own operation it must not be waited for.
        self.encoder._check_reentry()
        self.enter()
        try:
            if values is None:
                values = self.fetch(self.number, record)
            if not self.put_exact(PySequence_Fast_ITEMS(values), NULL, len(values)):
                self.begin()
                self.write_values(values)
        except BaseException as error:
            self.explain(error, row)
            raise
        finally:
            self.rewind()
            self.leave()
        return 0

    cdef int write_values(self, list values) except -1:
        """Builds the message of the record with these values and frames it."""
        cdef Builder builder
        cdef Py_ssize_t base, i, count = len(values)
        cdef uint64_t mask = 0
        cdef uint64_t[64] bits
        self.tables = 1
        base = self.push_cells(count)
        if not self.collect(self.number, values, base) or not self.patterned:
            builder = self.builder
            builder.finish(self.store_table(self.number, base), False, self.identifier or None)
            self.depth = 0
            if self.consult is not None:
                # Before it is framed, so that an error of the policy's leaves nothing of it written.
                self.consult(builder, self.use_builder)
            return self.encoder.put_builder(builder, False)
        self.depth = 0
        for i in range(count):
            if self.cells[base + i].present:
                mask |= <uint64_t>1 << i
                bits[i] = self.cells[base + i].bits
        return self.put_numbers(mask, bits)

    cdef bint put_exact(self, PyObject** values, const int32_t* numbers, Py_ssize_t count) except -1:
        """Writes the record that has these values, borrowed, in the fields `numbers`; returns whether it did. NULL
        stands for all fields.

        It does if they are exact ints, bools, floats or None and nothing is wrong with any. Until the message is in the
        buffer no Python runs, so that no other thread can come between.
        """
        cdef Py_ssize_t k
        cdef int32_t i
        cdef uint64_t[64] bits
        cdef uint64_t mask = 0
        cdef Field* fields
        cdef FieldLayout* layouts
        if not self.patterned or self.encoder is None or self.layout is None:
            return False
        fields = self.layout.types.objects[self.number].fields
        layouts = self.layout.objects[self.number].fields
        for k in range(count):
            i = numbers[k] if numbers is not NULL else <int32_t>k
            if values[k] is <PyObject*>None:
                continue
            if (
                not is_scalar(fields[i].kind) or layouts[i].paired_field >= 0 or layouts[i].deprecated
                or not take_exact(fields[i].kind, <object>values[k], &bits[i])
            ):
                return False
            if bits[i] != layouts[i].default_bits or layouts[i].always_stored or self.force_defaults:
                mask |= <uint64_t>1 << i
        if self.required & ~mask:
            return False
        self.put_numbers(mask, bits)
        return True

    cdef int put_numbers(self, uint64_t mask, const uint64_t* bits) except -1:
        """Frames the message of a record that has the fields of `mask`, all of them numbers, by their numbers in
        `bits`.
        """
        cdef Pattern pattern = self.recent
        cdef Template template
        cdef FrameRun run
        cdef uint8_t* out
        if pattern is None or pattern.mask != mask:
            pattern = self.pattern_of(mask)
        template = pattern.template
        if self.encoder.begin_run(&run):
            out = payload_room(&run, template.size)
            if out is not NULL:
                fill_in(self, pattern, bits, out)
                end_frame(&run, template.size)
                self.encoder.end_run(&run)
                return 0
        message = PyBytes_FromStringAndSize(NULL, template.size)
        fill_in(self, pattern, bits, <uint8_t*>PyBytes_AS_STRING(message))
        return self.encoder.put(message, <const uint8_t*>PyBytes_AS_STRING(message), template.size)

    cdef Pattern pattern_of(self, uint64_t mask):
        cdef Pattern pattern = self.patterns.get(mask)
        cdef int32_t i
        cdef uint8_t[64] present
        if pattern is None:
            pattern = Pattern.__new__(Pattern)
            pattern.mask = mask
            for i in range(MOST_FIELDS):
                present[i] = mask >> i & 1
                if present[i]:
                    pattern.fields[pattern.count] = <uint8_t>i
                    pattern.count += 1
            pattern.template = make_template(self.layout, self.number, present, self.identifier)
            if len(self.patterns) >= MOST_PATTERNS:
                self.patterns.clear()
            self.patterns[mask] = pattern
        self.recent = pattern
        return pattern

    cdef int learn_names(self, tuple names) except -1:
        """Finds out which fields the keywords of a call are. Raises nothing, and notes nothing, if one is none."""
        cdef Py_ssize_t k
        self.call_names = None
        if len(names) > MOST_FIELDS:
            return 0
        for k in range(len(names)):
            number = self.layout.numbers[self.number].get(names[k])
            if number is None:
                return 0
            self.call_fields[k] = number
        self.call_names = names
        return 0


cdef inline int fill_in(RecordEncoder encoder, Pattern pattern, const uint64_t* bits, uint8_t* message) noexcept:
    """Makes the message of a pattern with these numbers at `message`, where there is room for it."""
    cdef Template template = pattern.template
    cdef FieldLayout* layouts = encoder.layout.objects[encoder.number].fields
    cdef Py_ssize_t k
    cdef int32_t i
    memcpy(message, template.data, <size_t>template.size)
    for k in range(pattern.count):
        i = pattern.fields[k]
        store_le(message + template.places[i], bits[i], layouts[i].size)
    return 0


cdef object write_keywords(PyObject* self, PyObject** args, Py_ssize_t given, PyObject* names):
    """`RecordWriter.write`: what the interpreter calls for it, without a dictionary of the keywords."""
    cdef RecordEncoder encoder = <RecordEncoder>self
    cdef Py_ssize_t count = 0 if names is NULL else borrowed_length(names)
    if given:
        raise TypeError("write() takes fields as keywords, and nothing else: write_record() takes a record")
    encoder.check_made()
    if names is not NULL and <PyObject*>encoder.call_names is not names:
        # The names of a call are the same tuple each time, unless they come out of a dictionary.
        if encoder.call_names is None or not same_names(<PyObject*>encoder.call_names, names):
            encoder.learn_names(<tuple>names)
    if not encoder.busy and (count == 0 or encoder.call_names is not None):
        if encoder.put_exact(args, encoder.call_fields, count):
            return None
    return write_slowly(encoder, args, names, count)


cdef object write_slowly(RecordEncoder encoder, PyObject** args, PyObject* names, Py_ssize_t count):
    cdef ObjectPlan plan = encoder.plan_of(encoder.number)
    cdef list values = [None] * plan.count
    cdef Py_ssize_t k
    try:
        for k in range(count):
            encoder.assign(plan, values, <object>borrowed_item(names, k), <object>args[k])
    except RefusalError as error:
        encoder.explain(error, -1)
    encoder.write_located(None, values, -1)
    return None


cdef inline bint same_name(PyObject* known, PyObject* name) noexcept:
    if known is name:
        return True
    # Of these the comparison runs no Python, and cannot fail.
    return PyUnicode_CheckExact(<object>known) and PyUnicode_CheckExact(<object>name) and (
        PyUnicode_Compare(<object>known, <object>name) == 0
    )


cdef bint same_names(PyObject* known, PyObject* names) noexcept:
    """Whether two tuples hold the same strings."""
    cdef Py_ssize_t k, count = borrowed_length(known)
    if borrowed_length(names) != count:
        return False
    for k in range(count):
        if not same_name(borrowed_item(known, k), borrowed_item(names, k)):
            return False
    return True


cdef PyMethodDef WRITE
WRITE.ml_name = b"write"
# The flags say what arguments it really takes.
WRITE.ml_meth = <PyCFunction><void*>write_keywords
WRITE.ml_flags = METH_FASTCALL | METH_KEYWORDS
WRITE.ml_doc = b"""write($self, /, **fields)
--

Builds the record that has these fields and writes its message.

Parameters
----------
**fields
    By the schema's own names. What is left out, or None, is absent: it reads as its default.

Raises
------
TypeError, ValueError
    There is no field of this name, a value is not what its field takes, or a required one is missing. The message says
    which, with the path. Nothing was written.
OSError, InvalidFrameError, ...
    See `StreamWriter.write_payload`.
"""
# A method that the interpreter gives the keywords as they lie on its stack: making a dictionary of three takes as long
# as the rest of the call (B2 of asv_benchmarks/records_in.py).
write = PyDescr_NewMethod(<PyTypeObject*>RecordEncoder, &WRITE)
