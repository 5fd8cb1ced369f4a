from flatstream._core.framing.deframer cimport Deframer
from flatstream._core.stream.input_buffer cimport InputBuffer
from flatstream._core.stream.losses cimport Losses


cdef class ResyncBuffer(InputBuffer):
    # The deframer that the operation in progress uses.
    cdef Deframer active
    # The transforms of the deframer of this stream, the innermost first; None if it has none. With `has_state`, their
    # states before the frame last checked, and those behind it when it was refused; see `uncount_refused`.
    cdef list stages
    cdef bint has_state
    cdef object state_before
    cdef object state_refused
    # Whether the next frame may be a description, which is no message, and whether it is known to be one. It is found
    # by the `innermost` deframer.
    cdef bint is_ahead
    cdef bint is_description
    cdef Deframer innermost
    # While a damaged description is searched: its size, as its header says; else 0.
    cdef Py_ssize_t description_end
    # The numbers of frames delivered and refused, and the size of those delivered in bytes.
    cdef unsigned long long delivered
    cdef unsigned long long refused
    cdef unsigned long long delivered_bytes
    # The longest payload among those that were looked at one by one.
    cdef Py_ssize_t longest
    cdef Losses losses
    # The last error about the bytes of a frame after which the position was lost. If it is the `failure`, a read that
    # resynchronizes can go on.
    cdef object damage
    # How many bytes of one frame are read before they are searched for others; the stream offset of a frame for which
    # that was done in vain, so that it is read whole.
    cdef Py_ssize_t resync_window
    cdef bint reads_whole_frames
    cdef long long trusted
    cdef bint over_window
    # The search for the next intact frames, if `searching`; `failure` is then set, so that only the decoder's
    # `next_intact_frame` reads, which goes on with the search. The damaged frame begins at the stream offset
    # `lost_from`. While `claimed` is not 0, it begins at `position`, and says that it has so many bytes. Intact frames
    # may begin `search_begin` bytes behind `position`, or later; the next search is shown `search_size` bytes. If
    # `ended`, the end of the source was seen, and no more bytes are read: those that come later, because somebody goes
    # on writing the file, belong to a frame of which the first part is told as lost.
    cdef bint searching
    cdef bint ended
    cdef unsigned long long lost_from
    cdef Py_ssize_t claimed
    cdef Py_ssize_t search_begin
    cdef Py_ssize_t search_size

    cdef object get_states(self)
    cdef int set_states(self, object states) except -1
    cdef int pass_over(self) except -1
    cdef int end_head(self) except -1
    cdef int begin_search(self, object error, Py_ssize_t claimed) except -1
    cdef int end_search(self, Py_ssize_t found) except -1
    cdef int search(self) except -1
    cdef bint is_buffer(self) noexcept
    cdef int is_intact_behind_claim(self, bint* at_end) except -1
    cdef Py_ssize_t true_size(self, bint at_end) except -1
    cdef Py_ssize_t find_from(self, Py_ssize_t begin, Py_ssize_t size, bint at_end, Py_ssize_t* undecided) except -2
    cdef bint is_inside_a_frame(self, Py_ssize_t begin, Py_ssize_t found, Py_ssize_t size) noexcept
    cdef Py_ssize_t longest_payload(self) noexcept
    cdef int await_bytes(self) except -1

    cdef int release_all(self) except -1
