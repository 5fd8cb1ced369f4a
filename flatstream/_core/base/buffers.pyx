"""Acquiring, owning and exporting memory. No other module does this.

Every function of the package takes bytes from a caller with `acquire`. A payload view has one of two owners: a `Lease`,
which holds the caller's object, or a `Chunk`, which is allocated here. `slice_view` makes the views.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release
from cpython.buffer cimport PyBuffer_IsContiguous, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    void* PyMem_RawMalloc(size_t n) nogil
    void* PyMem_RawRealloc(void* p, size_t n) nogil
    void PyMem_RawFree(void* p) nogil


cdef int acquire(object obj, Py_buffer* view, str what) except -1:
    """Gets the C-contiguous bytes of `obj`. The caller must release `view`.

    Accepts every object that exports a contiguous buffer: bytes, bytearray, memoryview, mmap, array.array, a NumPy
    array of any item type. Raises TypeError for other objects and BufferError for strided memory; `what` is the name of
    the argument in the message.
    """
    if not PyObject_CheckBuffer(obj):
        if isinstance(obj, str):
            raise TypeError(f"{what} must be a bytes-like object, got str: encode it first")
        raise TypeError(f"{what} must be a bytes-like object, got {type(obj).__name__}")
    try:
        PyObject_GetBuffer(obj, view, PyBUF_SIMPLE)
    except (BufferError, ValueError) as error:
        # For strided memory, NumPy raises ValueError and memoryview raises BufferError. A released memoryview and a
        # closed mmap raise ValueError, too, but not because of the layout.
        if "contiguous" in str(error):
            raise BufferError(f"{what} must be C-contiguous, got a strided {type(obj).__name__}") from error
        raise
    return 0


cdef bytes exact_bytes(object value):
    if PyBytes_CheckExact(value):
        return value
    if isinstance(value, bytes):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if isinstance(value, bytearray):
        return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(value), PyByteArray_GET_SIZE(value))
    raise TypeError(f"expected bytes or bytearray, got {type(value).__name__}")


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


# Holds a memoryview of its own. The garbage collector does not traverse a Py_buffer, and it clears a memoryview even
# while a Py_buffer of it is in use, so holding a Py_buffer of a caller's memoryview would not be safe.
cdef class Lease:
    def __cinit__(self, object obj, str what not None):
        cdef Py_buffer checked
        acquire(obj, &checked, what)
        PyBuffer_Release(&checked)
        self.source = PyMemoryView_FromObject(obj)
        # A class in Python can export another buffer each time.
        if not PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(self.source), c"C"):
            raise BufferError(f"{what} must be C-contiguous, got a strided {type(obj).__name__}")
        self.data = PyMemoryView_GET_BUFFER(self.source).buf
        self.size = PyMemoryView_GET_BUFFER(self.source).len

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, True, flags)


cdef class Chunk:
    def __cinit__(self, Py_ssize_t capacity, bint writable=False):
        # At least one byte, so that the pointer is never NULL.
        self.data = <uint8_t*>PyMem_RawMalloc(<size_t>max(capacity, 1))
        if self.data is NULL:
            raise MemoryError(f"cannot allocate a chunk of {capacity} bytes")
        self.capacity = capacity
        self.writable = writable

    cdef int resize(self, Py_ssize_t capacity) except -1:
        cdef uint8_t* data
        if self.exports:
            raise BufferError("cannot resize a chunk while views of it exist")
        data = <uint8_t*>PyMem_RawRealloc(self.data, <size_t>max(capacity, 1))
        if data is NULL:
            raise MemoryError(f"cannot resize a chunk from {self.capacity} to {capacity} bytes: out of memory")
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
            raise BufferError("cannot resize an index while views of it exist")
        data = <long long*>PyMem_RawRealloc(self.data, <size_t>max(capacity, 1) * sizeof(long long))
        if data is NULL:
            raise MemoryError(f"cannot allocate an index of {capacity} frames")
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
    """A read-only memoryview of all bytes of `source`, as unsigned bytes; `source` may have any item type and shape."""
    if type(source) is bytes:
        return PyMemoryView_FromObject(source)
    return PyMemoryView_FromObject(Lease(source, what))


cdef extern from *:
    """
    /* Whether only the caller refers to the view, so that it can be changed to show other bytes of the same memory:
     * there is no other reference, weak reference or buffer of it, and it is not released. */
    static inline int fs_is_unshared(PyObject *view, PyObject *owner_view) {
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
    bint fs_is_unshared(PyObject* view, PyObject* owner_view) noexcept
    void fs_forget_hash(PyObject* view) noexcept


cdef inline bint set_bounds(
    Py_buffer* buffer, const Py_buffer* whole, const uint8_t* start, Py_ssize_t length
) noexcept:
    """Sets `buffer`, a view's copy of `whole`, to `length` bytes at `start`.

    Returns False, and changes nothing, if `whole` does not contain these bytes.
    """
    # The last bounds check before the bytes are exported. Its cost is small compared with allocating the view.
    if start < <const uint8_t*>whole.buf or length < 0 or length > whole.len - (start - <const uint8_t*>whole.buf):
        return False
    buffer.buf = <void*>start
    buffer.len = length
    buffer.shape[0] = length
    return True


cdef bint try_reuse_view(PyObject* view, object owner_view, const uint8_t* start, Py_ssize_t length) noexcept:
    """Sets `view`, a result of `slice_view(owner_view, ...)`, to other bytes of `owner_view`.

    Returns False, and changes nothing, if anything but the caller refers to `view`, or if `owner_view` does not contain
    the bytes.
    """
    if not fs_is_unshared(view, <PyObject*>owner_view) or not set_bounds(
        PyMemoryView_GET_BUFFER(<object>view), PyMemoryView_GET_BUFFER(owner_view), start, length
    ):
        return False
    fs_forget_hash(view)
    return True


cdef object slice_view(object owner_view, const uint8_t* start, Py_ssize_t length):
    """A memoryview of `length` bytes at `start`, which must be inside the memory of the memoryview `owner_view`.

    The view has the same owner as `owner_view` and keeps it alive. Only the bounds in the view's copy of the buffer are
    changed, which saves the slice object and the index arithmetic of `owner_view[a:b]`.
    """
    cdef object view = PyMemoryView_FromObject(owner_view)
    if not set_bounds(PyMemoryView_GET_BUFFER(view), PyMemoryView_GET_BUFFER(owner_view), start, length):
        raise SystemError("flatstream: a payload view is outside its chunk")
    return view
