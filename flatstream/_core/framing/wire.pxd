# The wire format. This file owns it; no other knows where a field of a frame lies.
#
#      0                4               4+C                     4+C+L
#      +----------------+----------------+-----------------------+
#      | payload length |    checksum    |        payload        |
#      | L: u32, LE     | C bytes, LE    |        L bytes        |
#      +----------------+----------------+-----------------------+
#
# C is the checksum's size: 0 to 8 bytes, agreed out of band. The checksum covers the payload and nothing else: neither
# the length nor itself. A stream is frames, one after another, with nothing before, between or after them. These are
# the bytes of the Rust crate `flatstream` 0.2.7; files written by either are read by the other, so none of this may
# ever change.

cdef enum:
    LENGTH_SIZE = 4
    MAX_HEADER_SIZE = 12

cdef extern from *:
    """
    /* Not an enum: Cython takes those for int, which does not hold it. */
    #define FS_MAX_PAYLOAD_LEN ((Py_ssize_t)0xFFFFFFFF)
    """
    # The largest length that the header can express.
    const Py_ssize_t MAX_PAYLOAD_LEN "FS_MAX_PAYLOAD_LEN"
