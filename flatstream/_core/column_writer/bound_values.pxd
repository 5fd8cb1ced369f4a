# The values that bindings get from one row, for the loop over rows: no Python code runs, and no error is raised. A
# value that cannot be converted here is left to `RowBuilder`, which raises the error.

from libc.math cimport isinf
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport BITS, NUMBERS, Column
from flatstream._core.base.endian cimport load_u16, load_u32, load_u64, low_bytes, store_le
from flatstream._core.column_writer.plan cimport PUT_SCALAR, PUT_STRUCT, Binding
from flatstream._core.column_writer.values cimport (
    REAL_NUMBER, ULONG_NUMBER, NumberForm, bit_at, load_number, number_at, resolve, sign_extended, width_of,
)
from flatstream._core.flatbuf.kinds cimport BOOL, DOUBLE, FLOAT, ULONG, least_of, most_of


# What is known about a name in a dictionary of enumerators.
cdef enum NameState:
    NAME_KNOWN
    NAME_NULL
    # Not an enumerator, or not UTF-8: an error in each row that has it.
    NAME_UNKNOWN


cdef inline int convert(const Binding* binding, const Column* column, int64_t at, uint64_t* bits) noexcept nogil:
    """Converts element `at` to the bytes of a scalar; returns 1, or -1 if it cannot be stored unchanged."""
    cdef int64_t value = 0
    cdef double real = 0.0
    cdef float narrow
    cdef uint32_t low = 0
    cdef NumberForm form
    if column.form != NUMBERS and column.form != BITS:
        return -1
    if column.kind == binding.kind and column.form == NUMBERS and binding.kind != BOOL:
        # Without a conversion, so that a NaN keeps its bits.
        bits[0] = load_number(column.values + at * column.stride, binding.width, column.big)
        return 1
    form = number_at(column, at, &value, &real)
    if binding.kind == DOUBLE or binding.kind == FLOAT:
        if binding.kind == DOUBLE:
            if form != REAL_NUMBER:
                real = <double><uint64_t>value if form == ULONG_NUMBER else <double>value
            memcpy(bits, &real, 8)
            return 1
        if form == REAL_NUMBER:
            narrow = <float>real
            if isinf(narrow) and not isinf(real):
                return -1
        else:
            # Rounded once: by way of a double it would be rounded twice.
            narrow = <float><uint64_t>value if form == ULONG_NUMBER else <float>value
        memcpy(&low, &narrow, 4)
        bits[0] = low
        return 1
    if form == REAL_NUMBER:
        return -1
    if binding.kind == ULONG:
        if value < 0 and form != ULONG_NUMBER:
            return -1
    elif form == ULONG_NUMBER or value < least_of(binding.kind) or value > most_of(binding.kind):
        return -1
    bits[0] = low_bytes(<uint64_t>value, binding.width)
    return 1


cdef inline int try_scalar_bits(const Binding* binding, int64_t row, uint64_t* bits) noexcept nogil:
    """The bytes of a scalar; returns 1, 0 if it is null, or -1 if it is for `RowBuilder.scalar_bits`."""
    cdef const Column* column = binding.column
    cdef int64_t at = 0, index
    cdef int present
    if binding.same_layout:
        at = column.offset + row
        if column.validity is not NULL and not bit_at(column.validity, at):
            return 0
        if binding.width == 8:
            bits[0] = load_u64(column.values + at * column.stride)
        elif binding.width == 4:
            bits[0] = load_u32(column.values + at * column.stride)
        elif binding.width == 2:
            bits[0] = load_u16(column.values + at * column.stride)
        else:
            bits[0] = column.values[at * column.stride]
        return 1
    if binding.name_values is not NULL:
        at = column.offset + row
        if column.validity is not NULL and not bit_at(column.validity, at):
            return 0
        index = sign_extended(
            load_number(column.values + at * column.stride, width_of(column.kind), column.big), column.kind
        )
        if index < 0 or index >= binding.name_count:
            return -1
        bits[0] = binding.name_values[index]
        return 1 if binding.name_states[index] == NAME_KNOWN else 0 if binding.name_states[index] == NAME_NULL else -1
    present = resolve(&column, row, &at)
    if present <= 0:
        return present
    return convert(binding, column, at, bits)


cdef inline bint try_fill_struct(const Binding* binding, int64_t row, uint8_t* out) noexcept nogil:
    """Stores the fields of a struct at `out`; returns False if the struct is for `RowBuilder.fill_struct`."""
    cdef Py_ssize_t i
    cdef int64_t at = row
    cdef uint64_t bits = 0
    cdef const Binding* child
    cdef const Column* column = binding.column
    if column is not NULL and resolve(&column, row, &at) != 1:
        return False
    for i in range(binding.child_count):
        child = &binding.children[i]
        if child.action == PUT_SCALAR:
            if try_scalar_bits(child, at, &bits) != 1:
                return False
            store_le(out + child.offset, bits, child.width)
        elif child.action == PUT_STRUCT:
            if not try_fill_struct(child, at, out + child.offset):
                return False
        else:
            return False
    return True


cdef inline bint has_value(const Binding* binding, int64_t row) noexcept nogil:
    """Whether the column is not null in this row or, without a column, whether any of the parts is not null."""
    cdef Py_ssize_t i
    cdef int64_t at = 0
    cdef const Column* column = binding.column
    if column is not NULL:
        # An index outside of the dictionary counts as a value: reading it raises the error.
        return resolve(&column, row, &at) != 0
    for i in range(binding.child_count):
        if has_value(&binding.children[i], row):
            return True
    return False
