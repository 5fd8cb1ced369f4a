"""A thread that notices when the interpreter's lock is released."""

from __future__ import annotations

import binascii
import gc
import sys
import threading
import time
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Any

import fastcrc
import google_crc32c

from flatstream import (
    Crc16,
    Crc32,
    Crc32c,
    Crc64,
    StreamReader,
)
from reference import framing as reference

# From this many bytes on the lock is released: RELEASE_FROM of flatstream/_core/checksums/kernel.pxd.
RELEASE_FROM = 262_144


# In seconds: how long to wait for a thread that should come to its end at once, and how long to go on with attempts of
# which the first should do.
PATIENCE = 60
ATTEMPTING = 5


# Longer than any run of the tests.
NO_FORCED_SWITCHES = 1000.0
CRCS = [Crc16, Crc32, Crc32c, Crc64]


# Takes a millisecond or more, which is a long time for a thread that only waits for the lock.
LARGE = bytes(1 << 24)


LARGE_VALUE = zlib.crc32(LARGE)


def frame(payload: bytes) -> bytes:
    """The frame of `payload` with its CRC-32."""
    return len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload


class Bystander:
    """A thread that runs when, and only when, the running one lets go of the interpreter's lock.

    `wake` has it wait for the lock, and then call a function. The thread that wakes it goes on and knows by `began`
    whether the other has run in the meantime. `outcome` lets go of the lock, waits for the function to return, and
    gives what it returned, or the exception that it raised.
    """

    def __init__(self) -> None:
        self.woken = threading.Lock()
        self.finished = threading.Lock()
        self.function: Callable[[], Any] | None = None
        self.began = False
        self.pending = False
        self.result: Any = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.interval = sys.getswitchinterval()

    def run(self) -> None:
        # Both locks are always locked, except to pass the turn on. The thread that waits in acquire() has let go of the
        # interpreter's lock, and asks for it when it wakes up.
        while True:
            self.woken.acquire()
            if self.function is None:
                return
            self.began = True
            try:
                self.result = self.function()
            except Exception as error:
                self.result = error
            self.finished.release()

    def __enter__(self) -> Bystander:
        # A finalizer might close a file, which releases the lock.
        gc.collect()
        gc.disable()
        sys.setswitchinterval(NO_FORCED_SWITCHES)
        self.woken.acquire()
        self.finished.acquire()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.setswitchinterval(self.interval)
        gc.enable()
        if self.pending:
            self.outcome()
        self.function = None
        self.woken.release()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def wake(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.began = False
        self.pending = True
        self.woken.release()

    def outcome(self) -> Any:
        assert self.finished.acquire(timeout=PATIENCE), "the bystander waits for ever"
        self.pending = False
        return self.result

    def run_during(self, operation: Callable[[], Any]) -> None:
        """Repeats `operation` until the bystander, once woken, has run while it lasted."""
        deadline = time.monotonic() + ATTEMPTING
        while not self.began:
            assert time.monotonic() < deadline, "the lock was never released"
            operation()


class Discard:
    """A sink that takes everything and lets go of nothing."""

    def write(self, data: Any) -> int:
        return len(data)


def batch(stream: bytes, deframer: Any = None, **limits: Any) -> int:
    found = StreamReader(stream, deframer or Crc32()).read_batch(**limits)
    assert found is not None
    return len(found)


# The reference's own take a second for 256 KiB. These are others' as well.
QUICK = {
    "crc16": reference.Algorithm(2, lambda data: binascii.crc_hqx(data, 0)),
    "crc32": reference.Algorithm(4, zlib.crc32),
    "crc32c": reference.Algorithm(4, google_crc32c.value),
    "crc64": reference.Algorithm(8, fastcrc.crc64.xz),
    "xxhash64": reference.ALGORITHMS["xxhash64"],
}
