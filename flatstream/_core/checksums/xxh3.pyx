"""XXH3-64, taken from the `xxhash` package.

Its extension module carries the reference implementation and exports the C functions, so that the address of one can be
looked up once, at import, and called for each frame without a Python call. Where a platform hides them (no `dlsym`, or
a build with hidden symbols) the package's public function is called instead; both give the same values.
"""

import os

import xxhash

from flatstream._core.checksums.crc cimport checksum_kernel


cdef extern from *:
    """
    #ifdef _WIN32
    static void *fs_symbol(const char *file, const char *name) { (void)file; (void)name; return NULL; }
    #else
    #include <dlfcn.h>
    /* RTLD_NOLOAD: only a library that is loaded already. Its handle is kept, so that it is never unloaded. */
    static void *fs_symbol(const char *file, const char *name) {
        void *library = dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
        return library ? dlsym(library, name) : NULL;
    }
    #endif
    """
    void* fs_symbol(const char* file, const char* name) noexcept

# XXH64_hash_t XXH3_64bits(const void* input, size_t length): its type is that of every kernel here.
cdef checksum_kernel KERNEL = NULL
KERNEL_NAME = ""


cdef checksum_kernel xxh3_64_kernel() noexcept:
    return KERNEL


def _find_kernel():
    global KERNEL, KERNEL_NAME
    cdef bytes path, symbol
    # An explicit request for the public function, so that tests can run both ways.
    if os.environ.get("FLATSTREAM_XXH3", "") == "python":
        return
    path = os.fsencode(getattr(xxhash._xxhash, "__file__", ""))
    # The first picks the widest vectors that the processor has; the second is what the build allowed.
    for symbol in (b"XXH3_64bits_dispatch", b"XXH3_64bits"):
        KERNEL = <checksum_kernel>fs_symbol(path, symbol)
        if KERNEL is not NULL:
            KERNEL_NAME = symbol.decode()
            break
    # The test vector of the design: a function of that name that is something else must not be used.
    if KERNEL is not NULL and KERNEL(<const unsigned char*>b"123456789", 9) != xxhash.xxh3_64_intdigest(b"123456789"):
        KERNEL = NULL
        KERNEL_NAME = ""


_find_kernel()
