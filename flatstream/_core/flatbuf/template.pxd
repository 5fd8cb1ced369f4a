from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.flatbuf.layout cimport Layout


cdef class Template:
    """A finished message with zeros for the values of its fields.

    A copy becomes a message of its own when the values of all these fields are stored in it. A template never changes.
    """
    # Owns the message, which is at `data`.
    cdef Chunk chunk
    cdef const uint8_t* data
    cdef readonly Py_ssize_t size
    # By the numbers of the table's fields, `field_count` of them: the offset of the field's value from the beginning of
    # the message (the value takes the `size` of its FieldLayout, all of it inside the message), or -1 if the message
    # does not have the field.
    cdef int32_t* offsets
    cdef Py_ssize_t field_count


cdef enum:
    MAX_MASKED_FIELDS = 64


# A template for loops over records. Bit i of a mask stands for the i-th field of the cache.
cdef struct CacheEntry:
    uint64_t mask
    # The message, or NULL if the entry is free.
    const uint8_t* data
    Py_ssize_t size
    # By the bits: the offset of the field's value from the beginning of the message, if the mask has the bit.
    int32_t* offsets
    # The bits of the mask, in order.
    uint8_t* bits
    Py_ssize_t bit_count


cdef class TemplateCache:
    """Templates of one table, by the mask of the fields that they have. At most 64 fields have a bit."""
    cdef Layout layout
    cdef int32_t number
    cdef bytes identifier
    # By the bits: the number of the field.
    cdef int32_t[MAX_MASKED_FIELDS] fields
    cdef Py_ssize_t field_count
    # Hash table from mask to template: power-of-two size, linear probing, load factor below 1/2.
    cdef CacheEntry* entries
    cdef Py_ssize_t capacity
    cdef Py_ssize_t count
    cdef Py_ssize_t max_count
    # Keeps the memory of the messages.
    cdef list templates
    # The entry that `add` returned last, or NULL.
    cdef const CacheEntry* recent

    # The entry of a mask, valid until the next call; the template is made if there is none.
    cdef const CacheEntry* add(self, uint64_t mask) except NULL
    cdef int drop(self) noexcept
    cdef int enlarge(self) except -1

cdef inline CacheEntry* probe(TemplateCache cache, uint64_t mask) noexcept nogil:
    """The entry of a mask, or the free one in which it belongs. The hash table must have memory."""
    cdef Py_ssize_t i = <Py_ssize_t>((mask * <uint64_t>0x9E3779B97F4A7C15) >> 40)
    while True:
        i &= cache.capacity - 1
        if cache.entries[i].data is NULL or cache.entries[i].mask == mask:
            return &cache.entries[i]
        i += 1


cdef inline const CacheEntry* find_template(TemplateCache cache, uint64_t mask) noexcept nogil:
    """The entry of a mask, valid until `TemplateCache.add` is called, or NULL."""
    cdef CacheEntry* entry
    if not cache.capacity:
        return NULL
    entry = probe(cache, mask)
    return entry if entry.data is not NULL else NULL


# `present` has a byte for each field of the table with this number: not 0 if the message has the field. Raises
# ValueError if the message has a field that is neither a number nor a struct. The identifier has four bytes, or none.
cdef Template make_template(Layout layout, int32_t number, const uint8_t* present, bytes identifier)
# `fields` has the numbers of at most 64 fields, by their bits. The cache is emptied when it has `max_count` templates.
cdef TemplateCache make_template_cache(
    Layout layout, int32_t number, bytes identifier, const int32_t* fields, Py_ssize_t field_count,
    Py_ssize_t max_count
)
