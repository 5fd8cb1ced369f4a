# cython: boundscheck=False, wraparound=False
"""Records of Python, built into messages as a schema says.

A record is taken apart from the outside in and built from the inside out. `collect` goes through the fields of a table
once: numbers become the bytes that they are stored as, structs are put together in `scratch`, and what a table refers
to by an offset (strings, vectors, other tables) is built at once. `store_table` then writes the table itself, the
widest fields first, so that no byte is lost to alignment; nothing in it runs Python.
"""

import dataclasses
import keyword
from collections.abc import Mapping

from cpython.buffer cimport Py_buffer, PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_CheckBuffer
from cpython.buffer cimport PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from flatstream._core.base.buffers cimport grow
from flatstream._core.base.checks cimport listed
from flatstream._core.base.endian cimport store_le
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.kinds cimport (
    NOTHING, OBJECT, STRING, UNION, UNION_TYPE, VECTOR, is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout, Layout
from flatstream._core.flatbuf.message_builder cimport (
    MAX_MESSAGE_SIZE, Checkpoint, MessageBuilder, end_offset_of, mark_field,
)
from flatstream._core.flatbuf.scalars cimport (
    ElementClass, class_of_format, same_layout, store_elements, pack_exact, pack_scalar, UNKNOWN_CLASS,
)
from flatstream._core.flatbuf.verifier cimport Field, UnionType, find_not_utf8
from flatstream._core.records.record_view cimport RecordView

from flatstream._core.flatbuf.scalars import RefusalError
from flatstream.errors import FlatbufferError


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# Tables inside tables, the root included: what verifiers accept if nobody says otherwise. It is also the end of a
# record that holds itself.
cdef Py_ssize_t DEEPEST = 64
# And structs inside of those, of which the schema has at most so many.
cdef Py_ssize_t MOST_STEPS = 64 + 101
# How many classes are remembered: a program that makes classes all the time must not fill memory.
cdef Py_ssize_t MOST_CLASSES = 256

cdef object MISSING = object()

# How the values of a record are got at.
cdef enum Access:
    BY_NAME
    BY_POSITION
    BY_ATTRIBUTE
    BY_DTYPE
    NO_RECORD

_accesses = {}


cdef int access_of(object cls) except -1:
    cdef int access
    found = _accesses.get(cls)
    if found is not None:
        return found
    if issubclass(cls, Mapping):
        access = BY_NAME
    elif issubclass(cls, (tuple, list)):
        access = BY_ATTRIBUTE if hasattr(cls, "_fields") else BY_POSITION
    elif dataclasses.is_dataclass(cls):
        access = BY_ATTRIBUTE
    elif hasattr(cls, "keys") and hasattr(cls, "__getitem__"):
        # As dict() takes it: a row of sqlite3, or of pandas.
        access = BY_NAME
    elif issubclass(cls, (str, bytes, bytearray, memoryview, int, float, complex, set, frozenset, type)):
        access = NO_RECORD
    elif hasattr(cls, "dtype") and hasattr(cls, "item"):
        # A row of a structured array, which has names, or one of a matrix.
        access = BY_DTYPE
    else:
        access = BY_ATTRIBUTE
    if len(_accesses) >= MOST_CLASSES:
        _accesses.clear()
    _accesses[cls] = access
    return access


def declared_fields(cls):
    """The names of the fields that a named tuple or a data class says it has; others say nothing."""
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return getattr(cls, "_fields", ())


def generated_name(name):
    """What the object API calls the attribute of a field, or None if it is the same."""
    camel = name[:1].lower()
    i = 1
    while i < len(name):
        if name[i] == "_" and i + 1 < len(name):
            i += 1
            camel += name[i].upper()
        else:
            camel += name[i]
        i += 1
    if keyword.iskeyword(camel):
        camel += "_"
    return None if camel == name else camel


cdef class ObjectPlan:
    def __dealloc__(self):
        PyMem_RawFree(self.positions)
        PyMem_RawFree(self.order)


cdef ObjectPlan make_plan(Layout layout, int32_t index):
    cdef ObjectPlan plan = ObjectPlan.__new__(ObjectPlan)
    cdef Field* fields = layout.types.objects[index].fields
    cdef FieldLayout* layouts = layout.objects[index].fields
    cdef bint is_struct = layout.types.objects[index].is_struct
    cdef Py_ssize_t i
    cdef int32_t number
    plan.title = layout.object_names[index]
    plan.names = layout.field_names[index]
    # No comprehension: in Cython's, an item is let go of twice if there is no memory to append it.
    others = []
    for name in plan.names:
        others.append(generated_name(name))
    plan.others = tuple(others)
    plan.numbers = layout.numbers[index]
    plan.known_classes = set()
    plan.count = layout.types.objects[index].field_count
    plan.positions = <int32_t*>PyMem_RawCalloc(<size_t>max(plan.count, 1), sizeof(int32_t))
    plan.order = <int32_t*>PyMem_RawCalloc(<size_t>max(plan.count, 1), sizeof(int32_t))
    if plan.positions is NULL or plan.order is NULL:
        raise MemoryError("no memory for the order of fields")
    known = []
    for i in range(plan.count):
        if not layouts[i].deprecated:
            known.append(i)
    for number in known:
        plan.positions[plan.position_count] = number
        plan.position_count += 1
        if not is_struct:
            plan.entry_count = max(plan.entry_count, (fields[number].offset - 4) // 2 + 1)
    if not is_struct:
        # As in a Template, so that both ways lead to the same bytes.
        known.sort(key=lambda i: (-<Py_ssize_t>layouts[<Py_ssize_t>i].alignment, -i))
    for number in known:
        plan.order[plan.order_count] = number
        plan.order_count += 1
    return plan


cdef int refuse(object kind, str text) except -1:
    raise RefusalError(kind, text)


cdef class RecordBuilder(Exclusive):
    """Builds records of a table into messages.

    Parameters
    ----------
    layout : Layout
        The types of the schema.
    number : int
        Which of its objects the records are: a table.
    file_identifier : bytes
        Four bytes that every message carries, or none.
    force_defaults : bool
        Whether values that are the default are stored as well.
    """

    def __cinit__(self, *args, **kwargs):
        self.number = -1

    def __init__(
        self, Layout layout not None, number, *, bytes file_identifier not None=b"", bint force_defaults=False
    ):
        if self.steps is not NULL:
            raise TypeError(f"{type(self).__name__}.__init__ must not be called twice")
        if len(file_identifier) not in (0, 4):
            raise ValueError(f"a file identifier has four bytes, got {file_identifier!r:.100}")
        self.number = layout.check_table(number)
        self.layout = layout
        self.builder = Builder(1024)
        self.identifier = file_identifier
        self.force_defaults = force_defaults
        self.plans = [None] * layout.object_count
        self.steps = <Step*>PyMem_RawCalloc(<size_t>MOST_STEPS, sizeof(Step))
        if self.steps is NULL:
            raise MemoryError("no memory for the places of a record")

    def __dealloc__(self):
        PyMem_RawFree(self.steps)
        PyMem_RawFree(self.cells)
        PyMem_RawFree(self.scratch)

    cdef int check_made(self) except -1:
        # None is what the garbage collector leaves of the parts of a cycle.
        if self.steps is NULL or self.layout is None or self.builder is None or self.plans is None:
            raise ValueError(f"this {type(self).__name__} was never completed")
        return 0

    cdef ObjectPlan plan_of(self, int32_t index):
        plan = self.plans[index]
        if plan is None:
            plan = make_plan(self.layout, index)
            self.plans[index] = plan
        return plan

    def encode(self, builder, record):
        """Builds a record with `builder` and finishes the message.

        Returns
        -------
        int
            Where in ``builder.Bytes`` the message begins, as from ``Finish``.

        Raises
        ------
        TypeError, ValueError
            See `write_record`. What the builder held before is still there.
        FlatbufferError
            The builder holds a finished message, or one that is being built.
        """
        cdef MessageBuilder target, own
        cdef Checkpoint checkpoint
        cdef int64_t root
        if type(builder) is not Builder:
            raise TypeError(f"builder must be a flatstream.Builder, got {type(builder).__name__}")
        self.check_made()
        target = builder
        target.check_made()
        if not target.is_idle():
            raise FlatbufferError(
                "the builder holds a finished message: call its Clear() first" if builder.finished
                else "the builder is in the middle of a table or a vector"
            )
        target.set_checkpoint(&checkpoint)
        self.enter()
        own = self.builder
        try:
            self.builder = target
            root = self.put_table(self.number, record)
            if not target.is_after(&checkpoint):
                raise RuntimeError("the builder was used by the record that was being built in it")
            return target.finish_message(root, self.identifier)
        except BaseException as error:
            target.roll_back(&checkpoint)
            self.explain(error, -1)
            raise
        finally:
            self.builder = own
            self.rewind()
            self.leave()

    cdef int rewind(self) noexcept:
        self.depth = self.tables = self.cell_count = self.scratch_size = 0
        return 0

    cdef object where(self, Py_ssize_t row):
        """The path of the value at hand, with the number of its record if there are many."""
        cdef Py_ssize_t i
        path = ""
        for i in range(self.depth):
            if self.steps[i].field >= 0:
                path += "." + self.layout.field_names[self.steps[i].object][self.steps[i].field]
            if self.steps[i].element >= 0:
                path += f"[{self.steps[i].element}]"
        path = path[1:]
        if row < 0:
            return path
        return f"row {row}, {path}" if path else f"row {row}"

    cdef int explain(self, object error, Py_ssize_t row) except -1:
        """Raises what a RefusalError stands for; in another error it notes the place."""
        if isinstance(error, RefusalError):
            kind, text = error.args
            where = self.where(row)
            raise kind(f"{where}: {text}" if where else text) from None
        if self.depth:
            error.add_note(f"at {self.where(row)}")
        elif row >= 0:
            error.add_note(f"at row {row}")
        return 0

    # Taking a record apart

    cdef list fetch(self, int32_t index, object record):
        """The values of a record by the numbers of its fields; None for what it does not have."""
        cdef ObjectPlan plan = self.plan_of(index)
        cdef int access = BY_NAME if type(record) is dict else access_of(type(record))
        cdef list values
        cdef Py_ssize_t k, given
        if access == BY_NAME:
            return self.fetch_named(plan, record)
        if access == BY_DTYPE:
            names = getattr(record.dtype, "names", None)
            if names is not None and not record.shape:
                return self.fetch_named(plan, {name: record[name] for name in names})
            if not record.shape:
                access = NO_RECORD
            else:
                record = list(record)
                access = BY_POSITION
        if access == BY_POSITION:
            if record and access_of(type(record[0])) == BY_NAME and not (
                self.layout.types.objects[index].fields[plan.positions[0]].kind >= VECTOR
            ):
                refuse(
                    TypeError,
                    f"expected the values of one {plan.title}, got a {type(record).__name__} of records: "
                    "write_records() takes many"
                )
            values = [None] * plan.count
            given = len(record)
            if given > plan.position_count:
                refuse(
                    ValueError,
                    f"expected at most {plan.position_count} values for the fields of "
                    f"{self.layout.object_names[index]}, got {given}"
                )
            for k in range(given):
                values[plan.positions[k]] = record[k]
            return values
        if access == BY_ATTRIBUTE and record is not None:
            return self.fetch_attributes(plan, record)
        refuse(
            TypeError,
            f"expected a record of {self.layout.object_names[index]} (a mapping, a tuple, a list or an object with its "
            f"fields as attributes), got {type(record).__name__}: {record!r:.100}"
        )

    cdef list fetch_named(self, ObjectPlan plan, object record):
        cdef list values = [None] * plan.count
        for name, value in (record if isinstance(record, Mapping) else dict(record)).items():
            self.assign(plan, values, name, value)
        return values

    cdef int assign(self, ObjectPlan plan, list values, object name, object value) except -1:
        number = plan.numbers.get(name)
        if number is None:
            if not isinstance(name, str):
                refuse(TypeError, f"expected the name of a field, got {type(name).__name__}: {name!r:.100}")
            if name in plan.names:
                refuse(ValueError, f"field {name!r} of {plan.title} is deprecated")
            refuse(ValueError, f"{plan.title} has no field {name!r:.100}; it has {listed(plan.numbers)}")
        values[<Py_ssize_t>number] = value
        return 0

    cdef list fetch_attributes(self, ObjectPlan plan, object record):
        cdef list values = [None] * plan.count
        cdef Py_ssize_t k, found = 0
        cdef int32_t i
        if type(record) not in plan.known_classes:
            for name in declared_fields(type(record)):
                if name not in plan.numbers and name not in plan.others:
                    self.assign(plan, values, name, None)
            if len(plan.known_classes) >= MOST_CLASSES:
                plan.known_classes.clear()
            plan.known_classes.add(type(record))
        for k in range(plan.position_count):
            i = plan.positions[k]
            value = getattr(record, plan.names[i], MISSING)
            if value is MISSING and plan.others[i] is not None:
                value = getattr(record, plan.others[i], MISSING)
            if value is not MISSING:
                values[i] = value
                found += 1
        if not found and plan.position_count:
            refuse(
                TypeError,
                f"expected a record of {plan.title}, whose attributes are {listed(plan.numbers)}; got "
                f"{type(record).__name__} with none of them: {record!r:.100}"
            )
        return values

    cdef int enter_object(self, int32_t index) except -1:
        if self.depth == MOST_STEPS:
            refuse(ValueError, f"records are nested deeper than {MOST_STEPS} levels")
        self.steps[self.depth].object = index
        self.steps[self.depth].field = -1
        self.steps[self.depth].element = -1
        self.depth += 1
        return 0

    cdef Py_ssize_t push_cells(self, Py_ssize_t count) except -1:
        """Room for `count` more cells, empty; returns the number of the first."""
        cdef Py_ssize_t base = self.cell_count
        if count > MAX_MESSAGE_SIZE:
            refuse(ValueError, f"{count} elements are more than a message can hold")
        if base + count > self.cell_capacity:
            self.cells = <Cell*>grow(
                self.cells, &self.cell_capacity, base + count, sizeof(Cell), "parts of a record"
            )
        if count:
            memset(self.cells + base, 0, <size_t>count * sizeof(Cell))
        self.cell_count = base + count
        return base

    cdef Py_ssize_t push_scratch(self, Py_ssize_t size) except -1:
        """Room for `size` more bytes, zero; returns where they begin."""
        cdef Py_ssize_t base = self.scratch_size
        if size > MAX_MESSAGE_SIZE:
            refuse(ValueError, f"{size} bytes are more than a message can hold")
        if base + size > self.scratch_capacity or self.scratch is NULL:
            self.scratch = <uint8_t*>grow(self.scratch, &self.scratch_capacity, base + size, 1, "bytes of a record")
        if size:
            memset(self.scratch + base, 0, <size_t>size)
        self.scratch_size = base + size
        return base

    cdef EnumLayout enum_of(self, uint8_t kind, int32_t index):
        return self.layout.enums[index] if may_be_enum(kind) and index >= 0 else None

    cdef bint collect(self, int32_t index, list values, Py_ssize_t base) except -1:
        """Makes the cells from `base` on what is to be stored for `values`; returns whether all are numbers."""
        cdef Field* field
        cdef FieldLayout* layout
        cdef Py_ssize_t count = len(values)
        cdef int32_t i
        cdef uint64_t bits = 0
        cdef bint numbers = True
        self.enter_object(index)
        for i in range(count):
            field = &self.layout.types.objects[index].fields[i]
            layout = &self.layout.objects[index].fields[i]
            self.steps[self.depth - 1].field = i
            self.steps[self.depth - 1].element = -1
            value = values[i]
            if layout.deprecated:
                continue
            if field.kind == UNION:
                self.collect_union(index, i, values, base)
            elif field.kind == VECTOR and field.element == UNION:
                self.collect_unions(index, i, values, base)
            elif layout.paired_field >= 0:
                # The type of a union, which is looked at with it.
                continue
            elif value is None:
                pass
            elif is_scalar(field.kind):
                if not pack_exact(field.kind, value, &bits):
                    pack_scalar(field.kind, self.enum_of(field.kind, field.index), value, &bits)
                if bits != layout.default_bits or layout.always_stored or self.force_defaults:
                    self.cells[base + i].bits = bits
                    self.cells[base + i].present = True
                continue
            elif field.kind == OBJECT and self.layout.types.objects[field.index].is_struct:
                bits = <uint64_t>self.push_scratch(self.layout.types.objects[field.index].size)
                self.fill_struct(field.index, <Py_ssize_t>bits, value)
                self.cells[base + i].bits = bits
                self.cells[base + i].present = True
            else:
                if field.kind == VECTOR:
                    bits = <uint64_t>self.put_vector(index, i, value)
                else:
                    bits = <uint64_t>self.put_child(field.kind, field.index, value)
                self.cells[base + i].bits = bits
                self.cells[base + i].present = True
            if self.cells[base + i].present:
                numbers = False
            elif field.required:
                refuse(ValueError, "a required field is missing")
        return numbers

    cdef int collect_union(self, int32_t index, int32_t i, list values, Py_ssize_t base) except -1:
        """A union and its type: both are stored, or neither."""
        cdef Field* field = &self.layout.types.objects[index].fields[i]
        cdef int32_t paired_field = self.layout.objects[index].fields[i].paired_field
        cdef uint64_t type_bits = 0
        cdef int64_t place
        place = self.put_union(field.index, i, paired_field, values[paired_field], values[i], &type_bits)
        if place:
            self.cells[base + i].bits = <uint64_t>place
            self.cells[base + i].present = True
            self.cells[base + paired_field].bits = type_bits
            self.cells[base + paired_field].present = True
        return 0

    cdef int64_t put_union(
        self, int32_t union_index, int32_t field, int32_t type_field, object type, object value, uint64_t* type_bits
    ) except -1:
        """Builds the value of a union, which these two fields are for; returns where it is, or 0 if there is none."""
        cdef EnumLayout enum = self.layout.enums[union_index]
        cdef UnionType* known = &self.layout.types.unions[union_index]
        cdef Py_ssize_t k = 0
        if value is None and type is None:
            return 0
        if type is None:
            if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, int)):
                type, value = value
            else:
                type = self.variant_of(union_index, value)
            pack_scalar(UNION_TYPE, enum, type, type_bits)
        else:
            if isinstance(value, tuple) and len(value) == 2 and value[0] in enum.by_name:
                # It might be the first field of a record. But then somebody may have meant the other.
                refuse(
                    ValueError,
                    f"its type is given twice, by {type!r:.100} and in {value!r:.100}; if that is a record, give a list"
                )
            # What is wrong with the type is wrong with the field of the type.
            self.steps[self.depth - 1].field = type_field
            pack_scalar(UNION_TYPE, enum, type, type_bits)
            self.steps[self.depth - 1].field = field
        for k in range(known.variant_count):
            if known.variants[k].value == <int64_t>type_bits[0]:
                break
        else:
            refuse(
                ValueError, f"expected a variant of {enum.name} ({listed(enum.by_name)}), got {type!r:.100}"
            )
        name = enum.by_value.get(type_bits[0])
        if known.variants[k].kind == NOTHING:
            if value is not None:
                refuse(ValueError, f"its type says {name}, so there can be no value, got {type_name(value)}")
            return 0
        if isinstance(value, dict) and value.keys() <= enum.by_name.keys() and name in value:
            # As columns have it: a part for each variant, of which one has the value.
            others = set()
            for other in value:
                if value[other] is not None and other != name:
                    others.add(other)
            if others:
                refuse(ValueError, f"its type says {name}, but there is a value for {listed(sorted(others))}")
            value = value[name]
        if value is None:
            refuse(ValueError, f"its type says {name}, but there is no value")
        return self.put_child(known.variants[k].kind, known.variants[k].index, value)

    def variant_of(self, Py_ssize_t union_index, value):
        """The number of the variant that a view of a record is, since nobody has said."""
        cdef UnionType* known
        cdef Py_ssize_t k
        self.check_made()
        if not 0 <= union_index < len(self.layout.enums):
            raise ValueError(f"there is no union {union_index}")
        known = &self.layout.types.unions[union_index]
        name = view_name(value)
        found = []
        for k in range(known.variant_count):
            if known.variants[k].kind == OBJECT and self.layout.object_names[known.variants[k].index] == name:
                found.append(known.variants[k].value)
        if len(found) != 1:
            refuse(
                TypeError,
                f"expected (variant, value) or a field for the type, of {self.layout.enums[union_index].name}; "
                f"got {type_name(value)}: {value!r:.100}"
            )
        return found[0]

    cdef int collect_unions(self, int32_t index, int32_t i, list values, Py_ssize_t base) except -1:
        """A vector of unions and the vector of their types."""
        cdef Field* field = &self.layout.types.objects[index].fields[i]
        cdef int32_t paired_field = self.layout.objects[index].fields[i].paired_field
        cdef uint64_t type_bits = 0
        cdef int64_t place
        cdef Py_ssize_t k, count, places, types
        if values[i] is None and values[paired_field] is None:
            return 0
        items = elements_of([] if values[i] is None else values[i])
        kinds = values[paired_field]
        if kinds is None:
            kinds = [None] * len(items)
        else:
            # Types are bytes, and may come as such.
            kinds = list(kinds) if isinstance(kinds, (bytes, bytearray)) else elements_of(kinds)
        count = len(items)
        if len(kinds) != count:
            refuse(ValueError, f"expected as many values as types, got {count} and {len(kinds)}")
        places = self.push_cells(count)
        types = self.push_scratch(count)
        for k in range(count):
            self.steps[self.depth - 1].element = k
            place = self.put_union(field.index, i, paired_field, kinds[k], items[k], &type_bits)
            if not place:
                refuse(ValueError, "a vector of unions has no place for one without a value")
            self.cells[places + k].bits = <uint64_t>place
            self.scratch[types + k] = <uint8_t>type_bits
        self.steps[self.depth - 1].element = -1
        self.cells[base + i].bits = <uint64_t>self.put_places(places, count, 4)
        self.cells[base + i].present = True
        self.cells[base + paired_field].bits = <uint64_t>self.put_block(types, count, 1, count)
        self.cells[base + paired_field].present = True
        return 0

    # Building

    cdef int64_t put_table(self, int32_t index, object record) except -1:
        """Builds a table; returns where it is, from the end of the message."""
        cdef Py_ssize_t base, cells = self.cell_count, scratch = self.scratch_size
        cdef list values
        cdef int64_t place
        if self.tables == DEEPEST:
            refuse(ValueError, f"tables are nested deeper than {DEEPEST}: no verifier accepts that")
        self.tables += 1
        values = self.fetch(index, record)
        base = self.push_cells(len(values))
        self.collect(index, values, base)
        place = self.store_table(index, base)
        self.depth -= 1
        self.tables -= 1
        self.cell_count = cells
        self.scratch_size = scratch
        return place

    cdef int64_t store_table(self, int32_t index, Py_ssize_t base) except -1:
        """Writes the table whose fields are in the cells from `base` on. Runs no Python."""
        cdef ObjectPlan plan = self.plan_of(index)
        cdef Field* fields = self.layout.types.objects[index].fields
        cdef FieldLayout* layouts = self.layout.objects[index].fields
        cdef MessageBuilder builder = self.builder
        cdef Py_ssize_t k
        cdef int32_t i
        cdef Cell* cell
        builder.start_table(plan.entry_count)
        for k in range(plan.order_count):
            i = plan.order[k]
            cell = &self.cells[base + i]
            if not cell.present:
                continue
            if is_scalar(fields[i].kind):
                builder.prep(layouts[i].size, 0)
                builder.store(cell.bits, layouts[i].size)
            elif fields[i].kind == OBJECT and self.layout.types.objects[fields[i].index].is_struct:
                builder.prep(layouts[i].alignment, layouts[i].size)
                builder.store_bytes(self.scratch + <Py_ssize_t>cell.bits, layouts[i].size)
            else:
                builder.put_offset(<int64_t>cell.bits)
            mark_field(builder, (fields[i].offset - 4) // 2)
        return builder.end_table()

    cdef int64_t put_child(self, uint8_t kind, int32_t index, object value) except -1:
        """What an offset leads to: a string, a table, or a struct as a variant of a union."""
        cdef Py_ssize_t at, size
        if kind == STRING:
            return self.put_string(value)
        if not self.layout.types.objects[index].is_struct:
            return self.put_table(index, value)
        size = self.layout.types.objects[index].size
        at = self.push_scratch(size)
        self.fill_struct(index, at, value)
        self.builder.prep(self.layout.objects[index].alignment, size)
        self.builder.store_bytes(self.scratch + at, size)
        self.scratch_size = at
        return end_offset_of(self.builder)

    cdef int64_t put_string(self, object value) except -1:
        cdef Py_ssize_t size = 0
        cdef const uint8_t* text = NULL
        cdef int64_t wrong
        if type(value) is not str:
            if isinstance(value, bytes):
                text = <const uint8_t*>PyBytes_AS_STRING(value)
                size = PyBytes_GET_SIZE(value)
                wrong = find_not_utf8(text, <uint64_t>size)
                if wrong >= 0:
                    refuse(ValueError, f"expected UTF-8, got bytes that are not: see byte {wrong} of {value!r:.100}")
                return self.builder.put_string(text, size)
            if not isinstance(value, str):
                refuse(TypeError, f"expected a str, or bytes of UTF-8, got {type_name(value)}: {value!r:.100}")
        try:
            text = <const uint8_t*>PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError as error:
            refuse(ValueError, f"expected text, got half of a character at {error.start} of {value!r:.100}")
        return self.builder.put_string(text, size)

    cdef int64_t put_vector(self, int32_t index, int32_t i, object value) except -1:
        cdef Field* field = &self.layout.types.objects[index].fields[i]
        cdef uint32_t alignment = self.layout.objects[index].fields[i].element_alignment
        cdef Py_ssize_t k, base, count, depth = self.depth
        cdef int64_t place
        if is_scalar(field.element):
            return self.put_scalars(field.element, field.index, alignment, value)
        if field.element == OBJECT and self.layout.types.objects[field.index].is_struct:
            return self.put_structs(field.index, alignment, value)
        items = elements_of(value)
        count = len(items)
        base = self.push_cells(count)
        for k in range(count):
            self.steps[depth - 1].element = k
            if items[k] is None:
                refuse(ValueError, "a vector has no place for None")
            place = self.put_child(field.element, field.index, items[k])
            self.cells[base + k].bits = <uint64_t>place
        self.steps[depth - 1].element = -1
        return self.put_places(base, count, alignment)

    cdef int64_t put_places(self, Py_ssize_t base, Py_ssize_t count, uint32_t alignment) except -1:
        """A vector of the offsets of what the cells from `base` on say, which are let go."""
        cdef MessageBuilder builder = self.builder
        cdef Py_ssize_t k
        builder.start_vector(4 * count, alignment)
        for k in range(count - 1, -1, -1):
            builder.store_offset(<int64_t>self.cells[base + k].bits)
        self.cell_count = base
        return builder.end_vector(count)

    cdef int64_t put_block(self, Py_ssize_t at, Py_ssize_t size, uint32_t alignment, Py_ssize_t count) except -1:
        """A vector of `count` elements, the `size` bytes at `at` in `scratch`, which are let go."""
        self.scratch_size = at
        return self.builder.put_vector(self.scratch + at, size, alignment, count)

    cdef int64_t put_structs(self, int32_t index, uint32_t alignment, object value) except -1:
        cdef Py_ssize_t size = self.layout.types.objects[index].size, k, at, count, depth = self.depth
        items = elements_of(value)
        count = len(items)
        if count > MAX_MESSAGE_SIZE // size:
            refuse(ValueError, f"{count} structs are more than a message can hold")
        at = self.push_scratch(count * size)
        for k in range(count):
            self.steps[depth - 1].element = k
            self.fill_struct(index, at + k * size, items[k])
        self.steps[depth - 1].element = -1
        return self.put_block(at, count * size, alignment, count)

    cdef int64_t put_scalars(self, uint8_t kind, int32_t index, uint32_t alignment, object value) except -1:
        """A vector of numbers: of a buffer without an object for each element, and of the same type without a look."""
        cdef Py_buffer view
        cdef Py_ssize_t width = scalar_width(kind), count, at, k = 0
        cdef ElementClass element
        cdef bint swapped = False
        value = as_buffer(value)
        if not PyObject_CheckBuffer(value) or (width > 1 and isinstance(value, (bytes, bytearray))):
            items = elements_of(value)
            count = len(items)
            if count > MAX_MESSAGE_SIZE // width:
                refuse(ValueError, f"{count} elements are more than a message can hold")
            at = self.push_scratch(count * width)
            self.fill_scalars(kind, index, at, items, count)
            return self.put_block(at, count * width, alignment, count)
        PyObject_GetBuffer(value, &view, PyBUF_FORMAT | PyBUF_STRIDES)
        try:
            if view.ndim != 1:
                refuse(ValueError, f"expected one dimension, got {view.ndim} of {type_name(value)}")
            count = view.shape[0]
            if count > MAX_MESSAGE_SIZE // width:
                refuse(ValueError, f"{count} elements are more than a message can hold")
            element = class_of_format(view.format, view.itemsize, &swapped)
            if element == UNKNOWN_CLASS:
                items = elements_of(value)
                at = self.push_scratch(count * width)
                if len(items) != count:
                    refuse(ValueError, f"expected {count} elements, got {len(items)}")
                self.fill_scalars(kind, index, at, items, count)
                return self.put_block(at, count * width, alignment, count)
            if same_layout(kind, element, view.itemsize) and not swapped and (
                view.strides is NULL or view.strides[0] == width or count < 2
            ):
                return self.builder.put_vector(<const uint8_t*>view.buf, count * width, alignment, count)
            at = self.push_scratch(count * width)
            try:
                store_elements(kind, &view, element, swapped, self.scratch + at, &k)
            except RefusalError:
                self.steps[self.depth - 1].element = k
                raise
            return self.put_block(at, count * width, alignment, count)
        finally:
            PyBuffer_Release(&view)

    cdef int fill_scalars(self, uint8_t kind, int32_t index, Py_ssize_t at, object items, Py_ssize_t count) except -1:
        """Stores the numbers of a list or tuple, one by one, in `scratch`."""
        cdef EnumLayout enum = self.enum_of(kind, index)
        cdef Py_ssize_t k, width = scalar_width(kind), depth = self.depth
        cdef uint64_t bits = 0
        for k in range(count):
            value = items[k]
            if not pack_exact(kind, value, &bits):
                self.steps[depth - 1].element = k
                if value is None:
                    refuse(ValueError, "a vector has no place for None")
                pack_scalar(kind, enum, value, &bits)
                self.steps[depth - 1].element = -1
            store_le(self.scratch + at + k * width, bits, width)
        return 0

    cdef int fill_struct(self, int32_t index, Py_ssize_t at, object record) except -1:
        """Stores a struct at `at` in `scratch`, where there is room for it and all bytes are zero."""
        cdef list values = self.fetch(index, record)
        cdef Field* field
        cdef FieldLayout* layout
        cdef Py_ssize_t count = len(values)
        cdef int32_t i
        cdef uint64_t bits = 0
        self.enter_object(index)
        for i in range(count):
            field = &self.layout.types.objects[index].fields[i]
            layout = &self.layout.objects[index].fields[i]
            if layout.deprecated:
                continue
            self.steps[self.depth - 1].field = i
            self.steps[self.depth - 1].element = -1
            value = values[i]
            if value is None:
                refuse(ValueError, f"a {self.layout.object_names[index]} is a struct, which has all of its fields")
            if is_scalar(field.kind):
                if not pack_exact(field.kind, value, &bits):
                    pack_scalar(field.kind, self.enum_of(field.kind, field.index), value, &bits)
                store_le(self.scratch + at + field.offset, bits, layout.size)
            elif field.kind == OBJECT:
                self.fill_struct(field.index, at + field.offset, value)
            else:
                self.fill_array(index, i, at + field.offset, value)
        self.depth -= 1
        return 0

    cdef int fill_array(self, int32_t index, int32_t i, Py_ssize_t at, object value) except -1:
        """Stores an array of a struct; it has as many elements as the schema says."""
        cdef Field* field = &self.layout.types.objects[index].fields[i]
        cdef Py_ssize_t k, count = self.layout.objects[index].fields[i].length
        cdef Py_ssize_t size = self.layout.objects[index].fields[i].element_size
        # Also of an array of numbers: these are short, and `tolist` gives ints and floats.
        items = elements_of(value)
        if len(items) != count:
            refuse(ValueError, f"expected {count} elements, got {len(items)}")
        if is_scalar(field.element):
            return self.fill_scalars(field.element, field.index, at, items, count)
        for k in range(count):
            self.steps[self.depth - 1].element = k
            self.fill_struct(field.index, at + k * size, items[k])
        return 0


cdef str type_name(object value):
    return type(value).__name__


cdef object view_name(object value):
    """The full name of the table or struct that a view of a record shows; None of anything else."""
    return value.__table__ if type(value) is RecordView else None


cdef object as_buffer(object value):
    """What of an array's own kind exports its elements as a buffer, if anything does; else the value as it is."""
    kind = type(value)
    if kind is list or kind is tuple or kind is bytes:
        return value
    if hasattr(kind, "mask") and getattr(value.mask, "any", None) is not None and value.mask.any():
        refuse(ValueError, "a vector has no place for what is masked")
    if not PyObject_CheckBuffer(value):
        if not hasattr(kind, "__array__"):
            return value
        # A Series, say. What it makes is an array of NumPy.
        value = value.__array__()
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", None) in ("m", "M"):
        # NumPy has no buffer format for times; they are integers of 64 bits.
        return value.view("i8")
    return value


cdef object elements_of(object value):
    """The elements of a vector, in a list or tuple that nobody else can change."""
    if type(value) is tuple:
        return value
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not hasattr(type(value), "__iter__"):
        refuse(TypeError, f"expected a sequence, got {type_name(value)}: {value!r:.100}")
    tolist = getattr(value, "tolist", None)
    if callable(tolist) and getattr(value, "dtype", None) is not None and getattr(value.dtype, "names", None) is None:
        if getattr(value, "ndim", 1) == 1:
            return list(tolist())
    return list(value)
