"""The one place that takes, owns and hands out memory.

`acquire` is how every function of the package takes bytes from a caller. `Lease` and `Chunk` are the two owners that a
payload view can have: a caller's own object, or memory of ours. `slice_view` makes the views.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release
from cpython.buffer cimport PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    void* PyMem_RawMalloc(size_t n) nogil
    void* PyMem_RawRealloc(void* p, size_t n) nogil
    void PyMem_RawFree(void* p) nogil


cdef int acquire(object obj, Py_buffer* view, str what) except -1:
    """Takes the C-contiguous bytes of `obj`; the caller releases `view`.

    Accepts whatever exports a contiguous buffer: bytes, bytearray, memoryview, mmap, array.array, a NumPy array of any
    item type. Raises TypeError for anything else and BufferError for memory that is strided; `what` names the argument.
    """
    if not PyObject_CheckBuffer(obj):
        if isinstance(obj, str):
            raise TypeError(f"{what} must be a bytes-like object, got str: encode it first")
        raise TypeError(f"{what} must be a bytes-like object, got {type(obj).__name__}")
    try:
        PyObject_GetBuffer(obj, view, PyBUF_SIMPLE)
    except (BufferError, ValueError) as error:
        # NumPy says ValueError where memoryview says BufferError, and a released memoryview or a closed mmap say
        # ValueError too: those are not about the layout.
        if "contiguous" in str(error):
            raise BufferError(f"{what} must be C-contiguous, got a strided {type(obj).__name__}") from error
        raise
    return 0


cdef void* try_grow(void* memory, Py_ssize_t* capacity, Py_ssize_t needed, size_t item_size) noexcept nogil:
    """Returns an array with room for `needed` items, at least one, or NULL if there is no memory for it.

    The capacity at least doubles, so that appending takes constant time per item on average.
    """
    cdef Py_ssize_t max_capacity = PY_SSIZE_T_MAX // <Py_ssize_t>item_size, enlarged
    cdef void* moved
    if needed <= capacity[0] and memory is not NULL:
        return memory
    if needed > max_capacity:
        return NULL
    enlarged = max(needed, 2 * capacity[0] if capacity[0] <= max_capacity // 2 else max_capacity, 16)
    moved = PyMem_RawRealloc(memory, <size_t>enlarged * item_size)
    if moved is not NULL:
        capacity[0] = enlarged
    return moved


cdef void* grow(void* memory, Py_ssize_t* capacity, Py_ssize_t needed, size_t item_size, str what) except NULL:
    """Returns an array with room for `needed` items, or raises MemoryError; `what` names the items, in the plural."""
    cdef void* moved = try_grow(memory, capacity, needed, item_size)
    if moved is NULL:
        raise MemoryError(f"no memory for {needed} {what}")
    return moved


# It holds a memoryview and not a Py_buffer, which the garbage collector would not follow. Nor would a Py_buffer taken
# from a caller's memoryview do: the collector clears a memoryview whether or not somebody has a buffer of it.
cdef class Lease:
    def __cinit__(self, object obj, str what not None):
        cdef Py_buffer checked
        acquire(obj, &checked, what)
        PyBuffer_Release(&checked)
        self.source = PyMemoryView_FromObject(obj)
        self.data = PyMemoryView_GET_BUFFER(self.source).buf
        self.size = PyMemoryView_GET_BUFFER(self.source).len

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, True, flags)


cdef class Chunk:
    def __cinit__(self, Py_ssize_t capacity, bint writable=False):
        # At least one byte, so that the pointer is never NULL.
        self.data = <uint8_t*>PyMem_RawMalloc(<size_t>max(capacity, 1))
        if self.data is NULL:
            raise MemoryError(f"no memory for a chunk of {capacity} bytes")
        self.capacity = capacity
        self.writable = writable

    cdef int resize(self, Py_ssize_t capacity) except -1:
        cdef uint8_t* data
        if self.exports:
            raise BufferError("cannot resize a chunk that is being looked at")
        data = <uint8_t*>PyMem_RawRealloc(self.data, <size_t>max(capacity, 1))
        if data is NULL:
            raise MemoryError(f"no memory to grow a chunk from {self.capacity} to {capacity} bytes")
        self.data = data
        self.capacity = capacity
        return 0

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.capacity, not self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1

    def __dealloc__(self):
        PyMem_RawFree(self.data)


cdef class IndexArray:
    cdef int reserve(self, Py_ssize_t capacity) except -1:
        cdef long long* data
        if self.exports:
            raise BufferError("cannot resize an index that is being looked at")
        data = <long long*>PyMem_RawRealloc(self.data, <size_t>max(capacity, 1) * sizeof(long long))
        if data is NULL:
            raise MemoryError(f"no memory for an index of {capacity} frames")
        self.data = data
        self.capacity = capacity
        return 0

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the index of a batch is read-only")
        self.shape[0] = self.length
        self.strides[0] = sizeof(long long)
        buffer.obj = self
        buffer.buf = self.data
        buffer.len = self.length * <Py_ssize_t>sizeof(long long)
        buffer.readonly = True
        buffer.itemsize = sizeof(long long)
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = b"q"
        buffer.ndim = 1
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1

    def __dealloc__(self):
        PyMem_RawFree(self.data)


cdef object owner_view_of(object source, str what):
    """A read-only memoryview of unsigned bytes over all of `source`, whatever its own item type and shape."""
    if type(source) is bytes:
        return PyMemoryView_FromObject(source)
    return PyMemoryView_FromObject(Lease(source, what))


cdef extern from *:
    """
    /* Whether nobody but its one holder can see the view, so that it may become another of the same memory: no
     * reference, weak reference or buffer of it is left, and it was not released. */
    static inline int fs_is_forgotten(PyObject *view, PyObject *owner_view) {
    #ifdef Py_GIL_DISABLED
        (void)view; (void)owner_view;
        return 0;
    #else
        PyMemoryViewObject *v = (PyMemoryViewObject *)view;
        return Py_REFCNT(view) == 1 && PyMemoryView_Check(view) &&
               v->mbuf == ((PyMemoryViewObject *)owner_view)->mbuf && v->weakreflist == NULL && v->exports == 0 &&
               !(v->flags & _Py_MEMORYVIEW_RELEASED);
    #endif
    }
    static inline void fs_forget_hash(PyObject *view) { ((PyMemoryViewObject *)view)->hash = -1; }
    """
    bint fs_is_forgotten(PyObject* view, PyObject* owner_view) noexcept
    void fs_forget_hash(PyObject* view) noexcept


cdef inline bint show(Py_buffer* buffer, const Py_buffer* whole, const uint8_t* start, Py_ssize_t length) noexcept:
    """Has a view's own copy of the buffer be `length` bytes at `start`, if they lie inside `whole`; returns whether."""
    # Cheap beside the allocation, and the last place that can refuse a wild pointer.
    if start < <const uint8_t*>whole.buf or length < 0 or length > whole.len - (start - <const uint8_t*>whole.buf):
        return False
    buffer.buf = <void*>start
    buffer.len = length
    buffer.shape[0] = length
    return True


cdef bint try_reuse_view(PyObject* view, object owner_view, const uint8_t* start, Py_ssize_t length) noexcept:
    """Makes `view`, a result of `slice_view(owner_view, ...)`, show other bytes of it if no holder of `view` is left;
    returns whether it did.
    """
    if not fs_is_forgotten(view, <PyObject*>owner_view) or not show(
        PyMemoryView_GET_BUFFER(<object>view), PyMemoryView_GET_BUFFER(owner_view), start, length
    ):
        return False
    fs_forget_hash(view)
    return True


cdef object slice_view(object owner_view, const uint8_t* start, Py_ssize_t length):
    """A memoryview of the `length` bytes at `start`, which lie inside the memory of the memoryview `owner_view`.

    The view shares the owner of `owner_view` and keeps it alive. The bounds are moved in the view's own copy of the
    buffer, which saves the slice object and the index arithmetic of `owner_view[a:b]`.
    """
    cdef object view = PyMemoryView_FromObject(owner_view)
    if not show(PyMemoryView_GET_BUFFER(view), PyMemoryView_GET_BUFFER(owner_view), start, length):
        raise SystemError("flatstream: a payload view outside its chunk")
    return view
