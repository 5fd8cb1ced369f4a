from libc.stdint cimport int64_t

from flatstream._core.arrow.importer cimport Source, StreamOwner


cdef extern from *:
    """
    /* No sum of so many rows overflows. */
    #define FS_MOST_ROWS ((int64_t)1 << 48)
    """
    const int64_t MOST_ROWS "FS_MOST_ROWS"


cdef class Values:
    """A list of Python's, which becomes a column when the field that it is for is known."""
    cdef list values


cdef class Feed:
    """A column, or a table, and the arrays that it comes in."""
    cdef Source source
    cdef StreamOwner stream
    cdef list waiting
    # How many rows of the current array are left; those before are passed over.
    cdef int64_t left
    cdef bint advance(self) except -1
    cdef int gather(self) except -1
    cdef int64_t total(self) noexcept


cdef bint has_arrow(object value)
# What reads anything that has the Arrow C data interface; a table has no name.
cdef Feed open_feed(str name, object value)
cdef Feed feed_of(Source source)
# A Feed, Values, or a dict of them: what a column, or a mapping of columns, is made of; `depth` is how many
# mappings it is inside of.
cdef object as_input(str name, object value, int depth)
cdef dict grouped(object columns, int depth)
# Notes the path and the length of each.
cdef int measure(dict inputs, str prefix, list lengths) except -1
# Has null be what a mask hides.
cdef int hide(Source source, object mask) except -1
# A column of strings of bytes.
cdef Source joined(str path, str type_name, list values)
