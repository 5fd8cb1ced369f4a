"""Errors of devices, and a limit on the size of files."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


def device_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: a write takes what fits, the next one fails with EFBIG."""
    # Python ignores SIGXFSZ, so that the error is all that happens.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
