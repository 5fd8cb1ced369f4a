from flatstream._core.framing.deframer cimport Deframer, DeframerAdapter
from flatstream._core.framing.framer cimport Framer, FramerAdapter


cdef class TransformFramer(FramerAdapter):
    pass


cdef class TransformDeframer(DeframerAdapter):
    # Whether a subclass defines `state`.
    cdef bint has_state


cdef list framers_of(Framer framer)
cdef list deframers_of(Deframer deframer)
cdef list accepters_of(Framer framer)
cdef bint has_own_frames(Framer framer) except -1
