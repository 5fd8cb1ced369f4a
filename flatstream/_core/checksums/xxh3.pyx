# cython: boundscheck=False, wraparound=False
"""XXH3-64, taken from the `xxhash` package.

The extension module of that package contains the reference implementation and exports its C functions. The address of
one is looked up once, at import, and called for each frame without a Python call. Where a platform hides the functions
(no `dlsym`, or a build with hidden symbols), the package's public function is called instead; both give the same
values.
"""

import os

import xxhash

from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.checksums.kernel cimport RELEASE_FROM, checksum_kernel


cdef extern from *:
    """
    #ifdef _WIN32
    static void *fs_symbol(const char *file, const char *name) { (void)file; (void)name; return NULL; }
    #else
    #include <dlfcn.h>
    /* RTLD_NOLOAD: only a library that is loaded already. The handle is kept open, so that it is never unloaded. */
    static void *fs_symbol(const char *file, const char *name) {
        void *library = dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
        return library ? dlsym(library, name) : NULL;
    }
    #endif
    """
    void* fs_symbol(const char* file, const char* name) noexcept

# XXH64_hash_t XXH3_64bits(const void* input, size_t length): the signature of every kernel.
cdef checksum_kernel KERNEL = NULL
KERNEL_NAME = ""


cdef checksum_kernel xxh3_64_kernel() noexcept:
    return KERNEL


cdef uint64_t xxh3_64_of(const unsigned char[::1] data) noexcept nogil:
    # `&data[0]` is valid only if there is a byte.
    if not data.shape[0]:
        return KERNEL(<const uint8_t*>b"", 0)
    return KERNEL(&data[0], <size_t>data.shape[0])


def xxh3_64(const unsigned char[::1] data not None):
    """The XXH3-64, with seed 0, of contiguous memory of unsigned bytes; it may be read-only or empty.

    The GIL is released for large memory.

    Raises
    ------
    TypeError
        `data` is None or not bytes-like.
    ValueError, BufferError
        `data` is strided, has several dimensions, or its items are not unsigned bytes.

    Examples
    --------
    >>> f"{xxh3_64(b'123456789'):X}"
    '72DCB18B67A17DFF'
    """
    cdef uint64_t value
    if KERNEL is NULL:
        return xxhash.xxh3_64_intdigest(data)
    if data.shape[0] < RELEASE_FROM:
        return xxh3_64_of(data)
    with nogil:
        value = xxh3_64_of(data)
    return value


def _find_kernel():
    global KERNEL, KERNEL_NAME
    cdef bytes path, symbol
    # Requests the public function, so that tests can run both.
    if os.environ.get("FLATSTREAM_XXH3", "") == "python":
        return
    path = os.fsencode(getattr(xxhash._xxhash, "__file__", ""))
    # The first chooses the widest vector instructions of the processor; the second uses those chosen at compile time.
    for symbol in (b"XXH3_64bits_dispatch", b"XXH3_64bits"):
        KERNEL = <checksum_kernel>fs_symbol(path, symbol)
        if KERNEL is not NULL:
            KERNEL_NAME = symbol.decode()
            break
    # A known value: a function of the same name that calculates something else must not be used.
    if KERNEL is not NULL and KERNEL(<const unsigned char*>b"123456789", 9) != xxhash.xxh3_64_intdigest(b"123456789"):
        KERNEL = NULL
        KERNEL_NAME = ""


_find_kernel()
