from collections.abc import Callable
from typing import Any, NoReturn

from typing_extensions import Buffer, disjoint_base

from flatstream._core.framing.transform import TransformDeframer, TransformFramer

@disjoint_base
class ZstdUnpack:
    def __init__(
        self,
        make: Callable[[], Any],
        error: type[Exception],
        explain: Callable[[Any, int], bytes],
        fail: Callable[[Exception], Exception],
        own_id: int,
    ) -> None: ...
    def __call__(self, data: Buffer, max_size: int) -> bytes: ...

@disjoint_base
class Lz4Unpack:
    def __init__(
        self,
        decompress: Callable[[Any], bytes],
        error: type[Exception],
        explain: Callable[[Any, int], object],
        fail: Callable[[Exception], Exception],
    ) -> None: ...
    def __call__(self, data: Buffer, max_size: int) -> bytes: ...

@disjoint_base
class StoredFramer(TransformFramer):
    def transform(self, payload: memoryview) -> bytes: ...
    def _set_compress(self, compress: Callable[[memoryview], bytes | bytearray | memoryview], mark: int) -> None: ...

@disjoint_base
class StoredDeframer(TransformDeframer):
    @property
    def max_payload_len(self) -> int: ...
    def restore(self, payload: memoryview) -> bytes | bytearray | memoryview: ...
    def _set_limit(self, limit: int) -> None: ...
    def _too_short(self) -> NoReturn: ...
    def _too_long(self, size: int) -> NoReturn: ...
    def _unpack_of(self, method: int) -> Callable[[memoryview, int], bytes | bytearray | memoryview]: ...
