from flatstream._core.flatbuf.layout cimport Layout
from flatstream._core.stream.encoder cimport Encoder

cpdef object write_columns(Encoder encoder, Layout layout, object number, object columns, bytes identifier=*,
                           bint force_defaults=*)
