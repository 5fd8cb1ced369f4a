# The wire format. Only this file defines where the fields of a frame lie.
#
#      0                4               4+C                     4+C+L
#      +----------------+----------------+-----------------------+
#      | payload length |    checksum    |        payload        |
#      | L: u32, LE     | C bytes, LE    |        L bytes        |
#      +----------------+----------------+-----------------------+
#
# C is the size of the checksum: 0 to 8 bytes, agreed out of band. The checksum covers the payload only: neither the
# length field nor the checksum itself. A stream is a sequence of frames, with nothing before, between or after them.
# These are the bytes of the Rust crate `flatstream` 0.2.7. Each reads the files of the other, so the format must never
# change.

from flatstream._core.checksums.kernel cimport checksum_kernel

cdef enum:
    LENGTH_SIZE = 4
    MAX_HEADER_SIZE = 12

cdef extern from *:
    """
    /* Not an enum: Cython gives enums the type int, which cannot hold this value. */
    #define FS_MAX_PAYLOAD_LEN ((Py_ssize_t)0xFFFFFFFF)
    """
    # The largest length that the length field can hold.
    const Py_ssize_t MAX_PAYLOAD_LEN "FS_MAX_PAYLOAD_LEN"


cdef struct HeaderFormat:
    # A chain of framers or deframers, reduced to the values that the loops over frames need.
    #
    # Length field and checksum together.
    Py_ssize_t header_size
    Py_ssize_t checksum_size
    # The payload lengths that are accepted.
    Py_ssize_t min_length
    Py_ssize_t max_length
    # NULL if no checksum is calculated: there is none, or a loop cannot calculate it.
    checksum_kernel kernel
