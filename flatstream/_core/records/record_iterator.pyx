# cython: boundscheck=False, wraparound=False
"""Messages opened as records: one message, or each message of a stream."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.base.buffers cimport owner_view_of
from flatstream._core.base.endian cimport load_u32
from flatstream._core.base.pickling cimport refuse_pickling
from flatstream._core.flatbuf.layout cimport identifier_of
from flatstream._core.flatbuf.message cimport Message, is_other, open_root
from flatstream._core.flatbuf.message_builder cimport check_no_prefix
from flatstream._core.flatbuf.verifier cimport verify_object
from flatstream._core.records.field_lookup cimport RecordTypes
from flatstream._core.records.record_filter cimport RecordFilter
from flatstream._core.records.record_view cimport RecordView, fail
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.losses cimport ON_ERROR_RAISE, ON_ERROR_STOP

from flatstream._core.stream.decoder import FIRST_FAILED
from flatstream.errors import FlatbufferError, ValidationFailedError


cdef RecordView open_message(
    RecordTypes types, int32_t number, object payload, bint verify, int64_t offset, int64_t frame
):
    """The root of a message. With `verify` the whole message is verified first.

    `payload` is a memoryview of the whole message that the caller gives to nobody else. `offset` and `frame` are the
    position of the message in its stream, or -1.
    """
    cdef Py_buffer* buffer = PyMemoryView_GET_BUFFER(payload)
    cdef RecordView record
    cdef Message message
    message.data = <const uint8_t*>buffer.buf
    message.size = <uint64_t>buffer.len
    if is_other(message.data, message.size, identifier_of(types.layout, number)):
        error = FlatbufferError(
            types.layout.reason_of_other(number, message.data),
            offset=None if offset < 0 else offset, frame=None if frame < 0 else frame,
        )
        if not frame:
            error.add_note(FIRST_FAILED)
        raise error
    if verify:
        failure = verify_object(types.layout.types, number, message.data, buffer.len, &types.limits)
        if failure is not None:
            error = ValidationFailedError(
                validator=types.layout.object_names[number], path=failure[0], reason=failure[1],
                offset=None if offset < 0 else offset, frame=None if frame < 0 else frame,
            )
            if not frame:
                error.add_note(FIRST_FAILED)
            raise error
    record = RecordView.__new__(RecordView)
    record.types = types
    record.object_fields = types.object_fields[number]
    record.field = -1
    record.element = -1
    record.data = message.data
    record.size = message.size
    record.number = number
    record.depth = 1
    record.offset = offset
    record.frame = frame
    record.payload = payload
    if open_root(&message, &record.table):
        try:
            fail(record, -1, -1, &message)
        except FlatbufferError as error:
            if not frame:
                error.add_note(FIRST_FAILED)
            raise
    return record


@cython.final
@cython.auto_pickle(False)
cdef class RecordIterator:
    """The messages of a reader as records; see `StreamReader.records`.

    A class and not a generator, because a generator ends once it has raised: after an error this iterator continues
    with the next message.

    Attributes
    ----------
    others : int
        How many messages with another file identifier were skipped (``on_other="skip"``).
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("an iterator over records is made by StreamReader.records")

    def __iter__(self):
        return self

    def __reduce__(self):
        refuse_pickling(self, "it reads a stream of this process")

    def __next__(self):
        cdef Decoder decoder = self.decoder
        if decoder is None or self.types is None:
            raise ValueError("this RecordIterator is uninitialized: StreamReader.records makes iterators over records")
        if self.is_plain:
            payload = decoder.next_payload(ON_ERROR_RAISE)
            if payload is not None:
                return open_message(
                    self.types, self.number, payload, self.verify, <int64_t>decoder.last_offset,
                    <int64_t>(decoder.delivered + decoder.refused_before) - 1,
                )
        # A function of its own: its exception handlers would cost the lines above 2 ns a message (R1).
        return self.next_selected(decoder)

    cdef RecordView next_selected(self, Decoder decoder):
        """The next record that `on_other`, `on_error`, `where` and `limit` let through; StopIteration at the end."""
        cdef RecordTypes types = self.types
        cdef int32_t number = self.number
        cdef RecordView record
        cdef Py_buffer* buffer
        cdef unsigned long long end
        while True:
            payload = None
            if not self.stopped and (self.selected is None or self.selected.wants_more(decoder)):
                payload = decoder.next_payload(self.mode)
                if payload is None:
                    payload = decoder.awaited_payload(self.mode, INFINITY)
            if payload is None:
                if self.selected is not None:
                    self.selected.report(decoder)
                raise StopIteration
            if self.tables is not None:
                table = self.table_of(payload)
                if table is not None:
                    types, number = table
                elif self.skipping:
                    self.others += 1
                    PyErr_CheckSignals()
                    continue
                else:
                    number = -1
            elif self.skipping:
                buffer = PyMemoryView_GET_BUFFER(payload)
                if is_other(
                    <const uint8_t*>buffer.buf, <uint64_t>buffer.len, identifier_of(types.layout, self.number)
                ):
                    self.others += 1
                    # This loop can go on for long without running Python code.
                    PyErr_CheckSignals()
                    continue
            try:
                if number < 0:
                    raise self.other_error(payload, decoder)
                record = open_message(
                    types, number, payload, self.verify, <int64_t>decoder.last_offset,
                    <int64_t>(decoder.delivered + decoder.refused_before) - 1,
                )
                if self.selected is None or self.selected.takes(record):
                    return record
            except (FlatbufferError, ValidationFailedError) as error:
                if self.mode == ON_ERROR_RAISE:
                    raise
                end = decoder.end_of_last(PyMemoryView_GET_BUFFER(payload).len)
                if self.mode == ON_ERROR_STOP:
                    decoder.stop_before(error, decoder.last_offset, end, end, 1, decoder.state_before)
                    self.stopped = True
                else:
                    decoder.losses.add(decoder.last_offset, end)
                PyErr_CheckSignals()

    cdef tuple table_of(self, object payload):
        """The types and the number of the table that a message of a mixed stream is of; None if there is none."""
        cdef Py_buffer* buffer = PyMemoryView_GET_BUFFER(payload)
        table = self.tables.get(identifier_in(<const uint8_t*>buffer.buf, <uint64_t>buffer.len), self)
        return self.tables.get(0) if table is self else table

    cdef object other_error(self, object payload, Decoder decoder):
        """The error for a message of a mixed stream that is of none of its tables."""
        found = bytes(payload[4:8])
        known = ", ".join(repr(int(number).to_bytes(4, "little")) for number, table in self.tables.items() if table)
        has_one = identifier_in(payload_data(payload), len(payload))
        what = f"has the file identifier {found!r}" if has_one else "has none"
        error = FlatbufferError(
            f"expected a message with one of the file identifiers {known}: it {what}",
            offset=decoder.last_offset, frame=decoder.delivered + decoder.refused_before - 1,
        )
        if not error.frame:
            error.add_note(FIRST_FAILED)
        return error


cdef inline const uint8_t* payload_data(object payload) noexcept:
    return <const uint8_t*>PyMemoryView_GET_BUFFER(payload).buf


cdef inline uint32_t identifier_in(const uint8_t* data, uint64_t size) noexcept nogil:
    """The file identifier that a message carries, 0 if none (see `is_other`)."""
    # No identifier is 1: it would be no printable ASCII.
    return load_u32(data + 4) if is_other(data, size, 1) else 0


def view_message(
    RecordTypes types not None, number, payload, bint verify, tuple limits not None=(64, 1_000_000, 2**31)
):
    """The root of `payload` as a record of table `number`; see `Table.view`. `limits` is (max_depth, max_tables,
    max_apparent_size).
    """
    cdef int32_t root = types.check_root(number)
    check_no_prefix(payload)
    return open_message(types.with_limits(limits), root, owner_view_of(payload, "payload"), verify, -1, -1)


def iterate_records(
    RecordTypes types not None, number, reader, bint verify, tuple limits not None=(64, 1_000_000, 2**31),
    on_other="raise", on_error=None, RecordFilter selected=None
):
    """An iterator over the messages of `reader` as records of table `number`; see `StreamReader.records` and, for
    `limits`, `view_message`.
    """
    cdef RecordIterator records
    cdef int32_t root = types.check_root(number)
    if not isinstance(reader, Decoder):
        raise TypeError(f"reader must be a StreamReader, got {type(reader).__name__}: {reader!r:.100}")
    cdef int mode = (<Decoder>reader).mode_of(on_error)
    records = RecordIterator.__new__(RecordIterator)
    records.decoder = reader
    records.skipping = types.layout.check_on_other(on_other, root)
    records.types = types.with_limits(limits)
    records.number = root
    records.verify = verify
    records.mode = mode
    records.selected = selected
    records.is_plain = mode == ON_ERROR_RAISE and not records.skipping and selected is None
    return records


def iterate_mixed_records(
    dict tables not None, reader, bint verify, tuple limits not None=(64, 1_000_000, 2**31), on_other="raise",
    on_error=None, RecordFilter selected=None
):
    """An iterator over the messages of `reader`, each as a record of the table with its file identifier.

    `tables` are the RecordTypes and the number of each table, by its identifier, or None for a table whose messages are
    others; b"" is that of all other messages. The other arguments are those of `iterate_records`.
    """
    cdef RecordIterator records
    cdef RecordTypes types = None
    if not isinstance(reader, Decoder):
        raise TypeError(f"reader must be a StreamReader, got {type(reader).__name__}: {reader!r:.100}")
    if on_other not in ("raise", "skip"):
        raise ValueError(f"on_other must be 'raise' or 'skip', got {on_other!r:.100}")
    made = {}
    for identifier, table in tables.items():
        if table is not None:
            types, number = table
            table = types.with_limits(limits), types.check_root(number)
        made[int.from_bytes(identifier, "little")] = table
    if types is None:
        raise ValueError("expected one table or more, got none")
    records = RecordIterator.__new__(RecordIterator)
    records.mode = (<Decoder>reader).mode_of(on_error)
    records.decoder = reader
    records.tables = made
    records.types = types
    records.skipping = on_other == "skip"
    records.verify = verify
    records.selected = selected
    return records
