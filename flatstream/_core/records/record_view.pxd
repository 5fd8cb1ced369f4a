from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from flatstream._core.flatbuf.message cimport Message, OpenTable
from flatstream._core.flatbuf.verifier cimport Limits
from flatstream._core.records.field_lookup cimport ObjectFields, RecordTypes
from flatstream._core.records.json_writer cimport JsonWriter


cdef class RecordView:
    # A memoryview of the message that nobody else has, so that nobody can release it. None if the record was not made
    # by `open_message` or by the field of another record, or if the garbage collector has cleared it (it clears this
    # member first). No other member may be used while this one is None.
    cdef object payload
    cdef RecordTypes types
    cdef const ObjectFields* object_fields
    # The record that contains this one; the number of the field there, and the index in that field's vector or array.
    # None and -1 where there is none.
    cdef RecordView parent
    cdef Py_ssize_t field
    cdef Py_ssize_t element
    # The bytes of the message.
    cdef const uint8_t* data
    cdef uint64_t size
    # Of a struct only its offset is set; all of its bytes are in the message.
    cdef OpenTable table
    # The number of the object in the layout.
    cdef int32_t number
    # The number of tables from the root to this record, both included.
    cdef int32_t depth
    # Of a root that was read from a stream: the offset of its frame and the number of the frame; else -1.
    cdef int64_t offset
    cdef int64_t frame


cdef class VectorView:
    # The record that has the vector as its field.
    cdef RecordView record
    cdef Py_ssize_t field
    # The offset in the message of the vector's first element; of a vector of unions also the offset of the first type,
    # else 0.
    cdef uint64_t elements_offset
    cdef uint64_t types_offset
    # The elements in this view (a slice has some of the vector's): `count` of them, from index `first` in steps of
    # `step`. All of these indices are in the vector.
    cdef Py_ssize_t first
    cdef Py_ssize_t step
    cdef Py_ssize_t count


# The FlatbufferError for a field of a record and an element of it, or -1.
cdef object damage_error(RecordView record, Py_ssize_t field, Py_ssize_t element, str reason)
# Raises the FlatbufferError that `message` describes, for a field of a record and an element of it, or -1.
cdef int fail(RecordView record, Py_ssize_t field, Py_ssize_t element, const Message* message) except -1
# Appends a record to the text of a writer, whose options are set. With NULL, the limits are those of `to_dict`.
cdef int write_record(RecordView record, const Limits* limits, JsonWriter* writer) except -1
