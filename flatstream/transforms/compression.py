"""`CompressedFramer` and `CompressedDeframer`: each payload is compressed by itself, and the result is framed.

What the inner framer gets as its payload:

     0   1
     +---+---------------------------------------+
     | m | the payload, compressed by method m   |
     +---+---------------------------------------+

     m = 0         the payload as it is: compressed, it would not be shorter
         1         a frame of Zstandard (RFC 8878), which declares the size of its content
         2         the size of the payload (u32, LE) and a block of LZ4
         3 - 127   for later versions of this package; refused
         128 - 255 a compressor of the application; refused unless the deframer is given that compressor

The checksum is in the inner frame, so it covers the bytes that are stored, with the first one. An empty payload is
stored as one byte, so a frame without any bytes is none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from flatstream._core.base.checks import int_argument
from flatstream._core.base.pickling import rebuild
from flatstream._core.framing.stored import StoredDeframer, StoredFramer
from flatstream.errors import DecompressionError, FlatbufferError, InvalidFrameError
from flatstream.framing import Deframer, Framer
from flatstream.transforms._zstd import ZSTD
from flatstream.transforms.compressors import (
    DEFAULT_LEVEL,
    LZ4,
    LZ4_LEVELS,
    LZ4_NUMBER,
    STORED,
    ZSTD_NUMBER,
    BytesLike,
    Compressor,
    Lz4Compressor,
    ZstdCompressor,
    builtin_compressor,
    check_compressor,
    decompress_function,
    zstd_levels,
)

__all__ = [
    "COMPRESSION",
    "MAX_PAYLOAD_LEN",
    "CompressedDeframer",
    "CompressedFramer",
    "described_deframer",
    "described_framer",
]

# The name of this transform in descriptions.
COMPRESSION = "compression"

# What a payload may become by default. It is as large as the largest messages that are usual, and small enough for a
# process that reads from a peer that it does not trust.
MAX_PAYLOAD_LEN = 64 << 20

# What fits into the length field of a frame.
LARGEST = 2**32 - 1


class CompressedFramer(StoredFramer):
    """Compresses each payload; `inner` frames the result, behind a byte that says how it is compressed.

    A payload that would not become shorter is stored as it is. Adapters around this framer, such as bounds and
    observers, get the payload as it was; those inside, what is stored.

    Parameters
    ----------
    inner : Framer
        Frames what is stored; its checksum covers that. An `EncryptedFramer` encrypts it.
    compressor : Compressor
        The method: `ZstdCompressor`, `Lz4Compressor`, or one of your own.

    Raises
    ------
    TypeError, ValueError
        `inner` is no Framer, or compresses already, or has a validator, which would see compressed bytes; `compressor`
        is no Compressor.

    Examples
    --------
    >>> import io
    >>> from flatstream import ChecksumFramer, Crc32, Lz4Compressor, StreamReader, StreamWriter
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, ChecksumFramer(Crc32()).compressed(Lz4Compressor()), describe=True) as writer:
    ...     writer.write_payload(bytes(10_000))
    >>> len(sink.getvalue()) < 500
    True
    >>> with StreamReader(sink.getvalue(), "crc32") as reader:
    ...     [len(payload) for payload in reader]
    [10000]
    """

    _compressor: Compressor

    def __init__(self, inner: Framer, compressor: Compressor) -> None:
        checked = check_compressor(compressor)
        _check_once(inner, CompressedFramer)
        super().__init__(inner)
        self._compressor = checked
        self._set_compress(checked.compress, checked.number)

    @property
    def compressor(self) -> Compressor:
        """The method."""
        return self._compressor

    @property
    def described(self) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
        """What a description says of this transform: its name, its parameters, and the dictionary."""
        compressor = self._compressor
        parameters = sorted({**dict(compressor.parameters), "method": compressor.name}.items())
        return COMPRESSION, tuple(parameters), bytes(compressor.dictionary)

    def start(self, after: bytes | None = None) -> CompressedFramer:
        """The framer of one stream: this one, unless `inner` or the compressor have another for it."""
        _check_made(self)
        inner, compressor = self.inner.start(after), self._compressor.start()
        if inner is self.inner and compressor is self._compressor:
            return self
        return self._copy(inner, compressor)

    def with_inner(self, inner: Framer) -> CompressedFramer:
        """The same around another framer."""
        return self._copy(inner, self._compressor)

    def _copy(self, inner: Framer, compressor: Compressor) -> CompressedFramer:
        made: CompressedFramer = rebuild(type(self), CompressedFramer, (inner, compressor), {})
        made.__dict__.update({name: value for name, value in self.__dict__.items() if name not in made.__dict__})
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r}, {self._compressor!r})"

    def __reduce__(self) -> Any:
        return rebuild, (type(self), CompressedFramer, (self.inner, self._compressor), {}), self.__dict__


class CompressedDeframer(StoredDeframer):
    """Decompresses each payload that `inner` accepts, as the byte before it says.

    Parameters
    ----------
    inner : Deframer
        Finds the frames, and compares the checksums of what is stored.
    decompressor : Compressor, or iterable of Compressor, optional
        The methods that are taken, beside payloads that are stored as they are. By default Zstandard without a
        dictionary, and LZ4; their packages are imported for the first payload that needs them.
    max_payload_len : int
        How many bytes a payload may have: 64 MiB by default. The size that it declares is compared with it before
        memory is taken, and it is never decompressed further.

    Raises
    ------
    TypeError, ValueError
        `inner` is no Deframer, or decompresses already; `decompressor` is no Compressor; `max_payload_len` is wrong.

    Notes
    -----
    While reading, DecompressionError is raised for a payload that is damaged, has another method, or would become too
    large. Its frame is consumed, and the next read gives the next one. ImportError: the package of its method is not
    installed.

    Examples
    --------
    >>> from flatstream import DefaultDeframer, StreamReader, Lz4Compressor
    >>> data = b"\\x02" + Lz4Compressor().compress(bytes(1000))
    >>> stream = len(data).to_bytes(4, "little") + data
    >>> with StreamReader(stream, DefaultDeframer().compressed()) as reader:
    ...     [len(payload) for payload in reader]
    [1000]
    """

    _given: tuple[Compressor, ...] | None
    _methods: dict[int, Compressor]

    def __init__(
        self,
        inner: Deframer,
        decompressor: Compressor | Iterable[Compressor] | None = None,
        *,
        max_payload_len: int = MAX_PAYLOAD_LEN,
    ) -> None:
        limit = int_argument("max_payload_len", max_payload_len, 0, LARGEST)
        given = _given_methods(decompressor)
        _check_once(inner, CompressedDeframer)
        super().__init__(inner)
        self._given = given
        self._methods = {method.number: method for method in given or ()}
        self._set_limit(limit)

    @property
    def decompressors(self) -> tuple[Compressor, ...] | None:
        """The methods that were given; None for Zstandard and LZ4."""
        return self._given

    def _too_short(self) -> NoReturn:
        raise _refused("the payload is empty: a compressed one has at least the byte that says how")

    def _too_long(self, size: int) -> NoReturn:
        raise _refused(f"a payload of {size:,} bytes is longer than the limit of {self.max_payload_len:,}")

    def _unpack_of(self, method: int) -> Callable[[memoryview, int], BytesLike]:
        return decompress_function(self._compressor_of(method))

    def _compressor_of(self, method: int) -> Compressor:
        found = self._methods.get(method)
        if found is None and self._given is None:
            found = builtin_compressor(method)
        if found is None:
            taken = sorted({STORED, *(self._methods if self._given is not None else (ZSTD_NUMBER, LZ4_NUMBER))})
            raise _refused(f"the payload is compressed by method {method}, and expected is one of {taken}")
        self._methods[method] = found
        return found

    def probe(self, payload: memoryview) -> None:
        """Raises DecompressionError if these bytes cannot be what is stored for a payload; nothing is decompressed."""
        if not payload:
            self._too_short()
        elif payload[0] != STORED:
            self._compressor_of(payload[0]).probe(payload[1:], self.max_payload_len)

    def with_max_frame_len(self, max_frame_len: int) -> CompressedDeframer:
        """The same with another limit of payloads, and around an inner deframer with another limit of its own."""
        limit = int_argument("max_frame_len", max_frame_len, 0, LARGEST)
        # What is stored as it is takes one byte more.
        return self._copy(self.inner.with_max_frame_len(min(limit + 1, LARGEST)), self._given, limit)

    def start(self) -> CompressedDeframer:
        """The deframer of one stream: this one, unless `inner` or a method have another for it."""
        _check_made(self)
        inner = self.inner.start()
        given = None if self._given is None else tuple(method.start() for method in self._given)
        same = given is None or all(one is other for one, other in zip(given, self._given or (), strict=True))
        return self if inner is self.inner and same else self._copy(inner, given, self.max_payload_len)

    def with_inner(self, inner: Deframer) -> CompressedDeframer:
        """The same around another deframer."""
        return self._copy(inner, self._given, self.max_payload_len)

    def _copy(self, inner: Deframer, given: tuple[Compressor, ...] | None, limit: int) -> CompressedDeframer:
        made: CompressedDeframer = rebuild(type(self), CompressedDeframer, (inner, given), {"max_payload_len": limit})
        made.__dict__.update({name: value for name, value in self.__dict__.items() if name not in made.__dict__})
        return made

    def __repr__(self) -> str:
        given = "" if self._given is None else f", {list(self._given)!r}"
        limit = "" if self.max_payload_len == MAX_PAYLOAD_LEN else f", max_payload_len={self.max_payload_len}"
        return f"{type(self).__name__}({self.inner!r}{given}{limit})"

    def __reduce__(self) -> Any:
        arguments = (self.inner, self._given)
        options = {"max_payload_len": self.max_payload_len}
        return rebuild, (type(self), CompressedDeframer, arguments, options), self._own_state()

    def _own_state(self) -> dict[str, Any] | None:
        own = {"_given", "_methods"}
        return {name: value for name, value in self.__dict__.items() if name not in own} or None


def _refused(reason: str) -> DecompressionError:
    return DecompressionError(validator=COMPRESSION, reason=reason)


def _check_made(adapter: CompressedFramer | CompressedDeframer) -> None:
    if adapter.inner is None:
        raise TypeError(f"{type(adapter).__name__}.__init__ was not called")


def _given_methods(decompressor: Any) -> tuple[Compressor, ...] | None:
    if decompressor is None:
        return None
    if isinstance(decompressor, Compressor):
        return (check_compressor(decompressor, "decompressor"),)
    try:
        methods = tuple(decompressor)
    except TypeError:
        raise TypeError(
            f"decompressor must be a Compressor, an iterable of them or None, got {decompressor!r:.100}"
        ) from None
    numbers = [check_compressor(method, "decompressor").number for method in methods]
    for number in numbers:
        if numbers.count(number) > 1:
            raise ValueError(f"two decompressors have the number {number}")
    return methods


def _check_once(inner: Any, kind: type) -> None:
    """Raises TypeError if a chain has a transform of this kind already."""
    while (found := getattr(inner, "inner", None)) is not None and isinstance(inner, (Framer, Deframer)):
        if isinstance(inner, kind):
            raise TypeError(
                f"{type(inner).__name__} inside of another: a payload is compressed once; leave one of them out"
            )
        inner = found


# From descriptions


def _described_method(parameters: Mapping[str, str]) -> str:
    method = parameters.get("method", "")
    if method not in (ZSTD, LZ4):
        raise InvalidFrameError(
            f"the description says that payloads are compressed by {method!r:.100}, which is not built in: pass the "
            "deframer or framer with that compressor, as in deframer=DefaultDeframer().compressed(MyCompressor())"
        )
    return method


def _described_zstd(level: int, dictionary: bytes) -> ZstdCompressor:
    try:
        return ZstdCompressor(level, dictionary)
    except ValueError as error:
        raise FlatbufferError(f"the dictionary in the description is damaged: {error}") from error


def described_deframer(inner: Deframer, parameters: Mapping[str, str], data: bytes) -> CompressedDeframer:
    """The deframer around `inner` that undoes a compression as a description says it.

    Raises
    ------
    InvalidFrameError
        The method is not built in.
    FlatbufferError
        The dictionary is damaged.
    ImportError
        The package that its dictionary needs is not installed.
    """
    method = _described_method(parameters)
    if method == ZSTD and data:
        return CompressedDeframer(inner, _described_zstd(DEFAULT_LEVEL, data))
    return CompressedDeframer(inner)


def described_framer(inner: Framer, parameters: Mapping[str, str], data: bytes) -> CompressedFramer:
    """The framer around `inner` that compresses as a description says; see `described_deframer`."""
    method = _described_method(parameters)
    try:
        level = int(parameters.get("level", ""))
    except ValueError:
        level = DEFAULT_LEVEL if method == ZSTD else 0
    if method == ZSTD:
        lowest, highest = zstd_levels()
        return CompressedFramer(inner, _described_zstd(min(max(level, lowest), highest), data or b""))
    return CompressedFramer(inner, Lz4Compressor(min(max(level, LZ4_LEVELS[0]), LZ4_LEVELS[1])))
