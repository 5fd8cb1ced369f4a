cimport cython
from libc.stdint cimport uint8_t

from flatstream._core.framing.deframer cimport Deframer, Span
from flatstream._core.framing.wire cimport HeaderFormat
from flatstream._core.stream.frame_batch cimport FrameBatch
from flatstream._core.stream.input_buffer cimport InputBuffer
from flatstream._core.stream.losses cimport Losses


cdef class Decoder(InputBuffer):
    cdef Deframer _deframer
    # If `has_fast_path` is set, `format` is all that is needed to find frames: the deframer, a chain of bounds around a
    # built-in deframer, is not called. Payloads longer than `fast_limit` need the decoder to be held, because their
    # checksum releases the interpreter's lock.
    cdef bint has_fast_path
    cdef HeaderFormat format
    cdef Py_ssize_t fast_limit
    # The frame last found, and its stream offset.
    cdef Span span
    cdef Py_ssize_t frame_start
    cdef unsigned long long last_offset
    # How many frames were refused before it.
    cdef unsigned long long refused_before
    # The numbers of frames delivered and refused, and the size of those delivered in bytes.
    cdef unsigned long long delivered
    cdef unsigned long long refused
    cdef unsigned long long delivered_bytes
    # The error that the next read raises, or None. That read then moves past the frame of `deferred_size` bytes.
    cdef object deferred
    cdef Py_ssize_t deferred_size
    # Only in a file that is followed: the bytes up to this stream offset do not belong to zeros that run to its end.
    cdef unsigned long long zeros_end_before
    # What to do at damage (an OnError): by default, and in the operation in progress. An operation that does not raise
    # at damage uses a deframer that refuses empty payloads, unless they were allowed explicitly.
    cdef int own_mode
    cdef int mode
    cdef object allow_empty
    cdef Deframer active
    cdef Deframer strict
    # The last error about the bytes of a frame after which the position was lost. If it is the `failure`, a read that
    # resynchronizes can go on.
    cdef object damage
    cdef readonly object stop_error
    cdef Losses losses
    # Of `losses`, what the batches given so far have told.
    cdef unsigned long long told_skipped
    cdef unsigned long long told_offset
    # The longest payload among those that were looked at one by one.
    cdef Py_ssize_t longest
    # How many bytes of one frame are read before they are searched for others; the stream offset of a frame for which
    # that was done in vain, so that it is read whole.
    cdef Py_ssize_t resync_window
    cdef bint reads_whole_frames
    cdef long long trusted
    cdef bint over_window
    # The search for the next intact frames, if `searching`; `failure` is then set, so that only `next_intact_frame`
    # reads, which goes on with the search. The damaged frame begins at the stream offset `lost_from`. While `claimed` is
    # not 0, it begins at `position`, and says that it has so many bytes. Intact frames may begin at `position +
    # search_begin` or later, and `search_size` bytes from `position` on are searched next.
    cdef bint searching
    cdef unsigned long long lost_from
    cdef Py_ssize_t claimed
    cdef Py_ssize_t search_begin
    cdef Py_ssize_t search_size
    # Returns the stream offset at which the source ends; None if that is not known.
    cdef object source_size

    cdef int cache_fast_path(self) except -1
    cdef int check_open(self) except -1
    cdef int mode_of(self, object on_error) except -1
    cdef int set_mode(self, int mode) except -1

    @cython.final
    cdef object next_payload(self, int mode)

    @cython.final
    cdef object view_of(self, const uint8_t* data, Py_ssize_t size)

    cdef object awaited_payload(self, int mode, double seconds)
    cdef FrameBatch next_batch(self, Py_ssize_t max_frames, Py_ssize_t max_bytes, int mode)
    cdef int next_intact_frame(self) except -1
    cdef int next_frame(self) except -1
    cdef int next_followed_frame(self) except -1
    cdef int look(self) except -1
    cdef bint ends_in_zeros(self) except -1
    cdef int check_frame(self) except -1
    cdef int check_source_size(self) except -1
    cdef int note_first(self, object error) except -1
    cdef int gather(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1
    cdef int index_rest(
        self, FrameBatch batch, Py_ssize_t begin, Py_ssize_t* frames_left, Py_ssize_t* bytes_left
    ) except -1
    cdef int next_buffered_frame(self, Py_ssize_t bytes_left) except -1

    # Damage
    cdef int leave_out_last(self, Py_ssize_t length) except -1
    cdef int get_over(self, object error, bint refused) except -1
    cdef int skip_empty_frame(self, object error) except -1
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
