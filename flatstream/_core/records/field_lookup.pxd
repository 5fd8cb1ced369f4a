from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.verifier cimport Field, Limits
from flatstream._core.records.json_types cimport JsonTypes
from flatstream._core.records.message_arrays cimport ArrayTypes


cdef struct NameEntry:
    # An interned string that the RecordTypes keep alive; NULL in an empty entry.
    PyObject* name
    # The number of the field.
    int32_t number
    # For a scalar field of a table: its offset in the vtable, its kind and its width in bytes. `width` is 0 for any
    # other field.
    uint16_t offset
    uint8_t kind
    uint8_t width


cdef struct ObjectFields:
    # The fields of one table or struct. `fields` and `layouts` belong to the layout.
    const Field* fields
    const FieldLayout* layouts
    Py_ssize_t field_count
    # Of a struct: its size in bytes.
    uint32_t size
    bint is_struct
    # Hash table from the address of a name to its field: linear probing, load factor at most 1/2. It has `mask` + 1
    # entries, a power of two, allocated together with this struct: following a pointer to them costs more than the
    # rest of a lookup.
    size_t mask
    NameEntry entries[1]


cdef class RecordTypes:
    cdef readonly Layout layout
    # By the number of the object.
    cdef ObjectFields** object_fields
    # The interned names of the fields, by the number of the object.
    cdef list names
    # None until the first array is requested.
    cdef ArrayTypes arrays
    # Whether NumPy was looked for and is not there.
    cdef bint lacks_numpy
    # None until the first record is written as JSON.
    cdef JsonTypes json
    # They apply to verification and to each call of `to_dict` and ``==``.
    cdef Limits limits
    # The types that own `object_fields`, if these differ from them in their limits only; else None.
    cdef RecordTypes origin
    # Whether __init__ has finished.
    cdef bint ready

    cdef RecordTypes with_limits(self, tuple limits)
    cdef int32_t check_root(self, object number) except -1
    cdef int32_t find(self, int32_t object, object name) except -2
    cdef ArrayTypes array_types(self)
    cdef ArrayTypes find_array_types(self)
    cdef JsonTypes json_types(self)


cdef inline size_t hash_address(PyObject* name, size_t mask) noexcept:
    # Objects are aligned to 16 bytes: the low four bits are always 0.
    return ((<size_t>name >> 4) ^ (<size_t>name >> 11)) & mask


cdef inline const NameEntry* find_interned(const ObjectFields* fields, PyObject* name) noexcept:
    """The entry of the field with this name; NULL if there is none or if `name` is not interned."""
    cdef size_t i = hash_address(name, fields.mask)
    # The loop ends: at least half of the entries are empty.
    while fields.entries[i].name is not NULL:
        if fields.entries[i].name == name:
            return &fields.entries[i]
        i = (i + 1) & fields.mask
    return NULL


cdef inline bint is_special(str name) except -1:
    """Whether Python reserves this name: two underscores at each end."""
    return len(name) > 4 and name.startswith("__") and name.endswith("__")
