# cython: boundscheck=False, wraparound=False
"""Writes the rows of columns as messages.

    columns
       |     table_input       `sources`, `lists`
       v
    inputs: an ArrayStream for each column, or for the whole table
       |     bind_table        `plan`: all errors in names and types are found here
       v
    bindings: a tree with the column of each field
       |     write_all         one window after another: rows for which each column has one array
       v
    messages: if all fields are scalars and structs, copies of a Template with the values filled in, in the encoder's
              own buffer; otherwise built by `RowBuilder` and given to the encoder one by one
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport STRUCT, Column
from flatstream._core.base.endian cimport store_le
from flatstream._core.column_writer.bound_values cimport has_value, try_fill_struct, try_scalar_bits
from flatstream._core.column_writer.plan cimport PUT_SCALAR, PUT_STRUCT, Binding
from flatstream._core.column_writer.row_builder cimport RowBuilder
from flatstream._core.column_writer.sources cimport MAX_ROWS, ArrayStream, table_input
from flatstream._core.flatbuf.layout cimport Layout
from flatstream._core.flatbuf.message_builder cimport MessageBuilder
from flatstream._core.flatbuf.template cimport (
    MAX_MASKED_FIELDS, CacheEntry, TemplateCache, find_template, make_template_cache,
)
from flatstream._core.framing.framer cimport FrameRun, end_frame, payload_room
from flatstream._core.stream.encoder cimport Encoder

# The most templates that are kept. With many optional fields, the rows can have any number of combinations of them.
cdef Py_ssize_t MAX_TEMPLATES = 4096


@cython.final
@cython.no_gc
cdef class RowWriter(RowBuilder):
    """Writes the rows of the columns of a plan."""
    # By masks, in which bit i stands for child i of the root. None if there are columns for other fields than scalars
    # and structs, or for more fields than a mask has bits.
    cdef TemplateCache templates
    # The mask of the row that was looked at last, and its template; NULL if that is not made yet.
    cdef uint64_t mask
    cdef const CacheEntry* template

    cdef int prepare_templates(self) except -1:
        cdef Py_ssize_t i
        cdef int32_t[MAX_MASKED_FIELDS] fields
        if self.root.child_count > MAX_MASKED_FIELDS:
            return 0
        for i in range(self.root.child_count):
            if self.root.children[i].action > PUT_STRUCT:
                return 0
            fields[i] = self.root.children[i].field
        self.templates = make_template_cache(
            self.layout, self.number, self.identifier, fields, self.root.child_count, MAX_TEMPLATES
        )
        return 0

    cdef int64_t write_run(self, FrameRun* run, int64_t row, int64_t rows) noexcept:
        """Makes the frames of the rows from `row` up to `rows` in place; returns the first row that has none.

        It stops at a row if there is no room for its frame, if the row has an error, or if there is no template for its
        mask: then `template` is NULL and `mask` is the missing one. Runs no Python code.
        """
        cdef Binding* bindings = self.root.children
        cdef Binding* binding
        cdef Py_ssize_t i, count = self.root.child_count, size
        cdef uint64_t mask, bits = 0
        cdef int64_t at, base = self.root.column.offset if self.root.column is not NULL else 0
        cdef const uint8_t* data
        cdef const int32_t* offsets
        cdef uint8_t* out
        cdef int present
        if self.template is NULL:
            return row
        data = self.template.data
        size = self.template.size
        offsets = self.template.offsets
        while row < rows:
            at = base + row
            mask = 0
            for i in range(count):
                binding = &bindings[i]
                if binding.action == PUT_SCALAR:
                    present = try_scalar_bits(binding, at, &bits)
                    if present <= 0:
                        if present < 0:
                            return row
                        continue
                    if bits == binding.default_bits and not binding.always_stored:
                        continue
                    binding.bits = bits
                elif not has_value(binding, at):
                    if binding.required:
                        return row
                    continue
                mask |= <uint64_t>1 << i
            if mask != self.mask:
                self.mask = mask
                self.template = find_template(self.templates, mask)
                if self.template is NULL:
                    return row
                data = self.template.data
                size = self.template.size
                offsets = self.template.offsets
            out = payload_room(run, size)
            if out is NULL:
                return row
            memcpy(out, data, <size_t>size)
            for i in range(count):
                if not mask >> i & 1:
                    continue
                binding = &bindings[i]
                if binding.action == PUT_SCALAR:
                    store_le(out + offsets[i], binding.bits, binding.width)
                elif not try_fill_struct(binding, at, out + offsets[i]):
                    return row
            end_frame(run, size)
            row += 1
        return row

    cdef int write_window(self, Encoder encoder, int64_t rows) except -1:
        """Writes the rows of the current window."""
        cdef FrameRun run
        cdef const Column* column = self.root.column
        # `write_run` does not look at nulls or dictionaries of whole rows.
        cdef bint use_templates = self.templates is not None and (
            column is NULL or column.form == STRUCT and column.validity is NULL
        )
        self.row = 0
        self.look_up_dictionaries()
        while self.row < rows:
            if use_templates:
                if self.template is NULL:
                    self.template = self.templates.add(self.mask)
                if encoder.begin_run(&run):
                    self.row = self.write_run(&run, self.row, rows)
                    encoder.end_run(&run)
                    if self.row == rows or self.template is NULL:
                        continue
            try:
                self.write_row(encoder, self.row)
            except BaseException:
                # If the sink has the beginning of the frame, the encoder holds its rest, and the row counts as written.
                self.row += encoder.frame_committed
                raise
            self.row += 1
            if not self.row & 255:
                PyErr_CheckSignals()
        return 0

    cdef int write_all(self, Encoder encoder) except -1:
        """Writes all rows, one window after another."""
        cdef ArrayStream arrays
        cdef int64_t rows
        cdef bint has_more = True
        while True:
            rows = MAX_ROWS
            for arrays in self.streams:
                has_more = arrays.advance()
                rows = min(rows, arrays.rows_left)
            if not has_more:
                return 0
            self.write_window(encoder, rows)
            self.rows_before += rows
            self.row = 0
            for arrays in self.streams:
                arrays.rows_left -= rows
                arrays.source.column.offset += rows
                arrays.source.column.length -= rows


cpdef object write_columns(Encoder encoder, Layout layout, object number, object columns, bytes identifier=b"",
                           bint force_defaults=False):
    """Builds and writes a message for each row of `columns`.

    Parameters
    ----------
    encoder : Encoder
        Frames the messages and writes them to the sink.
    layout : Layout
        The layout of the schema.
    number : int
        The number of the table in the layout.
    columns : mapping, or object with the Arrow C data interface
        Columns by the names of fields.
    identifier : bytes
        The four bytes that identify each message, or none.
    force_defaults : bool
        Whether values that equal the default are stored.

    Returns
    -------
    int
        The number of messages.

    Raises
    ------
    TypeError, ValueError
        The columns do not fit the table. Nothing was written.
    ValueError
        A value does not fit its field. The rows before it were written.
    OSError, InvalidFrameError, ...
        See `StreamWriter.write_payload`. The rows before were written.

    Notes
    -----
    Every error that the columns or the sink cause has the number of rows that were written as ``rows_written``.
    """
    cdef RowWriter writer = RowWriter.__new__(RowWriter)
    if encoder is None or layout is None or identifier is None:
        raise TypeError("write_columns needs an encoder, a layout and an identifier")
    if len(identifier) not in (0, 4):
        raise ValueError(f"a file identifier has four bytes, got {identifier!r:.100}")
    encoder.check_open()
    writer.number = layout.check_table(number)
    writer.layout = layout
    writer.types = layout.types
    writer.identifier = identifier
    writer.force_defaults = force_defaults
    writer.builder = MessageBuilder(1024)
    try:
        writer.bind_table(table_input(columns))
        writer.prepare_templates()
        writer.write_all(encoder)
    except BaseException as error:
        error.rows_written = writer.rows_before + writer.row
        raise
    return writer.rows_before
