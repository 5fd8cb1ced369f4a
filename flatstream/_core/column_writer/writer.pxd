from flatstream._core.flatbuf.layout cimport Layout
from flatstream._core.stream.encoder cimport Encoder

# Writes a message of the table with this number for each row of `columns`; returns how many.
cpdef object write_columns(Encoder encoder, Layout layout, object number, object columns, bytes identifier=*,
                           bint force_defaults=*)
