# cython: boundscheck=False, wraparound=False
"""The records of a stream for which conditions hold, up to a number of them: the options of `StreamReader.records`."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.base.checks cimport checked_int
from flatstream._core.base.pickling cimport refuse_pickling
from flatstream._core.flatbuf.kinds cimport OBJECT, STRING, UNION, is_scalar, scalar_width
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout, Layout
from flatstream._core.flatbuf.message cimport (
    Message, OpenTable, field_offset, follow_offset, open_table, open_vector, reach,
)
from flatstream._core.flatbuf.verifier cimport Field, Variant, find_not_utf8, find_variant
from flatstream._core.records.conditions cimport Condition, condition_of, key_of, takes_key
from flatstream._core.records.field_lookup cimport RecordTypes
from flatstream._core.records.record_numbers cimport load_bits
from flatstream._core.records.record_view cimport RecordView, damage_error, fail
from flatstream._core.stream.decoder cimport Decoder


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# After so many messages, signals are looked at, other threads get their turn, and `progress` is called.
cdef enum:
    MESSAGES_BETWEEN_REPORTS = 4096


# How the search for a value ends.
cdef enum Found:
    DAMAGED = -1
    ABSENT = 0
    NUMBER = 1
    TEXT = 2


cdef struct Value:
    # The key of a number, or where a string begins and its length.
    int64_t key
    uint64_t start
    uint64_t length


@cython.final
cdef class RecordFilter:
    """What an iterator over records gives.

    Parameters
    ----------
    types : RecordTypes
        The types of the schema.
    number : int
        The number of the messages' table.
    conditions : list
        The result of `parse_conditions`. Their paths must exist, as a ReadPlan finds.
    limit : int, optional
        The most records to give.
    progress : callable, optional
        Called with the number of records given and the offset in the stream, every few thousand messages and at the
        end.
    """

    def __init__(self, RecordTypes types not None, number, list conditions not None, limit=None, progress=None):
        cdef Py_ssize_t longest = 0, count = 0
        cdef int32_t table = types.check_root(number)
        if self.conditions is not None:
            raise TypeError("RecordFilter.__init__ must not be called twice")
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, got {type(progress).__name__}")
        self.limit = -1 if limit is None else checked_int("limit", limit, 0, 2**62)
        self.progress = progress
        for parsed in conditions:
            longest += 1 + (<str>parsed[0]).count(".")
        self.steps = <Step*>PyMem_RawCalloc(<size_t>max(longest, 1), sizeof(Step))
        if self.steps is NULL:
            raise MemoryError("no memory for conditions")
        made = []
        self.starts = [0]
        for parsed in conditions:
            made.append(add_steps(self.steps, &count, types.layout, table, parsed))
            self.starts.append(count)
        # Last: a filter without conditions counts as incomplete.
        self.conditions = made

    def __reduce__(self):
        refuse_pickling(self, "it belongs to an iterator over a stream of this process")

    cdef bint wants_more(self, Decoder decoder) except -1:
        """Whether another message is to be read."""
        if self.seen - self.reported >= MESSAGES_BETWEEN_REPORTS:
            PyErr_CheckSignals()
            with nogil:
                pass
            self.report(decoder)
        return self.limit < 0 or self.given < self.limit

    cdef bint takes(self, RecordView record) except -1:
        """Whether all conditions hold for a record, which is then counted as given."""
        cdef Condition condition
        cdef Message message
        cdef Value value = Value(0, 0, 0)
        cdef Py_ssize_t i, begin, end
        cdef int found
        self.seen += 1
        message.data = record.data
        message.size = record.size
        # The compiler does not see that these are set whenever a string is found.
        value.start = 0
        value.length = 0
        for i in range(len(self.conditions)):
            condition = self.conditions[i]
            begin = self.starts[i]
            end = self.starts[i + 1]
            found = find_value(&self.steps[begin], end - begin, &message, &record.table, &value)
            if found == DAMAGED:
                fail(record, self.steps[begin].field, -1, &message)
            if found == ABSENT:
                return False
            if found == NUMBER:
                if not takes_key(condition, value.key):
                    return False
                continue
            if find_not_utf8(record.data + value.start, value.length) >= 0:
                raise damage_error(
                    record, self.steps[begin].field, -1, f"the string at byte {value.start - 4} is not UTF-8"
                )
            if not condition.takes_text(record.data + value.start, <Py_ssize_t>value.length):
                return False
        self.given += 1
        return True

    cdef int report(self, Decoder decoder) except -1:
        """Calls `progress`, unless it was called for these messages."""
        if self.progress is not None and self.seen != self.reported:
            self.reported = self.seen
            self.progress(self.given, decoder.offset)
        self.reported = self.seen
        return 0

    def __dealloc__(self):
        PyMem_RawFree(self.steps)


cdef Condition add_steps(Step* steps, Py_ssize_t* count, Layout layout, int32_t table, tuple parsed):
    """Adds the steps to the value that a condition is about, at most as many as its path has names."""
    cdef int32_t index = table, first
    cdef Py_ssize_t i = 0
    cdef Step* step = NULL
    cdef const Field* field
    cdef const FieldLayout* field_layout
    cdef const Variant* variant
    cdef EnumLayout enum
    cdef list parts = (<str>parsed[0]).split(".")
    cdef bint at_value = False
    cdef uint8_t kind = 0
    first = layout.numbers[index][parts[0]]
    while i < len(parts) and not at_value:
        number = layout.numbers[index][parts[i]]
        field = &layout.types.objects[index].fields[<Py_ssize_t>number]
        field_layout = &layout.objects[index].fields[<Py_ssize_t>number]
        step = &steps[count[0]]
        count[0] += 1
        step.field = first
        step.in_struct = layout.types.objects[index].is_struct
        step.entry = field.offset
        kind = field.kind
        if kind == OBJECT:
            step.kind = STEP_STRUCT if layout.types.objects[field.index].is_struct else STEP_TABLE
            step.size = layout.types.objects[field.index].size
        elif kind == UNION and i + 1 < len(parts):
            i += 1
            enum = layout.enums[field.index]
            step.variant = enum.bits_of(enum.by_name[parts[i]])
            step.type_entry = field.type_offset
            step.type_kind = layout.types.objects[index].fields[field_layout.paired_field].kind
            variant = find_variant(&layout.types.unions[field.index], step.variant)
            if variant is not NULL:
                kind = variant.kind
                index = variant.index
            if kind == STRING:
                step.kind = STEP_VARIANT_STRING
                at_value = True
            elif kind == OBJECT:
                step.kind = STEP_VARIANT_STRUCT if layout.types.objects[index].is_struct else STEP_VARIANT_TABLE
                step.size = layout.types.objects[index].size
            else:
                break
            i += 1
            continue
        elif is_scalar(kind):
            step.kind = STEP_NUMBER
            step.number_kind = kind
            step.optional = field_layout.optional
            step.default_bits = field_layout.default_bits
            at_value = True
        elif kind == STRING:
            step.kind = STEP_STRING
            at_value = True
        else:
            break
        index = field.index
        i += 1
    if not at_value or i < len(parts):
        # The error for what is no number or string.
        return condition_of(layout, parsed, OBJECT, -1)
    return condition_of(layout, parsed, kind, index)


cdef int find_value(
    const Step* steps, Py_ssize_t count, Message* message, const OpenTable* root, Value* value
) noexcept nogil:
    """Follows the steps from a root to a value. After DAMAGED, `message` has the reason."""
    cdef OpenTable table = root[0]
    # Of the struct that was reached last; all of its bytes are in the message.
    cdef uint64_t base = 0, place, target = 0
    cdef const Step* step
    cdef Py_ssize_t i
    cdef uint32_t width
    for i in range(count):
        step = &steps[i]
        place = base + step.entry if step.in_struct else field_offset(message, &table, step.entry)
        if step.kind == STEP_NUMBER:
            if not place:
                if step.optional:
                    return ABSENT
                value.key = key_of(step.number_kind, step.default_bits)
                return NUMBER
            width = scalar_width(step.number_kind)
            if reach(message, place, width, b"a number"):
                return DAMAGED
            value.key = key_of(step.number_kind, load_bits(message.data + place, width))
            return NUMBER
        if step.kind >= STEP_VARIANT_TABLE and step.kind <= STEP_VARIANT_STRING:
            target = field_offset(message, &table, step.type_entry)
            if not target:
                return ABSENT
            width = scalar_width(step.type_kind)
            if reach(message, target, width, b"the type of a union"):
                return DAMAGED
            if load_bits(message.data + target, width) != step.variant:
                return ABSENT
        if not place:
            return ABSENT
        if step.kind == STEP_STRUCT:
            if reach(message, place, step.size, b"a struct"):
                return DAMAGED
            base = place
        elif step.kind == STEP_STRING or step.kind == STEP_VARIANT_STRING:
            return DAMAGED if open_vector(message, place, 1, &value.start, &value.length) else TEXT
        elif follow_offset(message, place, &target):
            return DAMAGED
        elif step.kind == STEP_VARIANT_STRUCT:
            if reach(message, target, step.size, b"a struct"):
                return DAMAGED
            base = target
        elif open_table(message, target, &table):
            return DAMAGED
    # Not reached: the last step is to a value.
    return ABSENT
