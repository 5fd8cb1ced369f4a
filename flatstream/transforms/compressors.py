"""Compressors: what makes a payload smaller, and gives it back.

Each message is compressed by itself, so that it can be read without those before it. A dictionary, which is made once
from a sample of messages, gives a small message what it would otherwise have to repeat.
"""

from __future__ import annotations

import functools
import importlib
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flatstream._core.framing.stored import Lz4Unpack
from flatstream.errors import DecompressionError
from flatstream.transforms._zstd import INSTALL, ZSTD, Unpacker, make_unpacker, standard_zstd

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Buffer

# What the functions of a compressor may return.
BytesLike = bytes | bytearray | memoryview

__all__ = [
    "DEFAULT_LEVEL",
    "LZ4",
    "LZ4_LEVELS",
    "LZ4_NUMBER",
    "STORED",
    "ZSTD_NUMBER",
    "Compressor",
    "Lz4Compressor",
    "ZstdCompressor",
    "builtin_compressor",
    "check_compressor",
    "decompress_function",
    "train_dictionary",
    "zstd_levels",
]

# The byte before a payload (docs/wire-format.md). Those from 3 on to 127 are for later versions of this package.
STORED = 0
ZSTD_NUMBER = 1
LZ4_NUMBER = 2
FIRST_OWN_NUMBER = 128

DEFAULT_LEVEL = 3

# Of lz4: no block becomes larger than so many times its own size.
LZ4 = "lz4"
LZ4_RATIO = 255
LZ4_HEADER = 4
LZ4_LEVELS = (0, 12)

# Larger ones make frames of the telemetry events no smaller (asv_benchmarks/compression.py).
DICTIONARY_SIZE = 4 << 10
# Fewer messages are no sample. Shorter ones are left out: the library compares sequences of 8 bytes, and reads behind
# its memory if those samples that it chooses to train with have fewer bytes in all (zstd 1.5.7).
FEWEST_SAMPLES = 8
SHORTEST_SAMPLE = 8


class Compressor:
    """A method of compression; subclass it to define another.

    A subclass defines ``number``, ``name``, ``compress`` and ``decompress``.

    Attributes
    ----------
    number : int
        The byte that stands before a payload compressed in this way: 1 is Zstandard and 2 is LZ4, in whatever library;
        128 to 255 are for other methods. (0 is a payload that is stored as it is, and 3 to 127 are reserved.)
    name : str
        The name of the method in descriptions and error messages; by default the name of the class.
    parameters : tuple of (str, str)
        What the description of a stream says of the method beside its name; by default nothing.
    dictionary : bytes
        What the description gives to readers, so that they can decompress; by default b"".

    Notes
    -----
    The built-in compressors can be shared by streams and threads. Messages that they compress release the interpreter's
    lock.

    Examples
    --------
    >>> import zlib
    >>> class Deflate(Compressor):
    ...     number, name = 128, "deflate"
    ...     def compress(self, payload):
    ...         return zlib.compress(payload)
    ...     def decompress(self, data, max_size):
    ...         undo = zlib.decompressobj()
    ...         payload = undo.decompress(data, max_size + 1)
    ...         if not undo.eof or undo.unused_data or len(payload) > max_size:
    ...             raise flatstream.DecompressionError("damaged, or too large")
    ...         return payload
    >>> import flatstream
    >>> Deflate().decompress(Deflate().compress(bytes(100)), 100) == bytes(100)
    True
    """

    number: int = 0
    parameters: tuple[tuple[str, str], ...] = ()
    dictionary: bytes = b""

    @property
    def name(self) -> str:
        """The name of the method."""
        return type(self).__name__

    def compress(self, payload: memoryview) -> BytesLike:
        """The compressed bytes of a payload.

        Parameters
        ----------
        payload : memoryview
            Of bytes, read-only, and valid during the call only.

        Returns
        -------
        bytes-like
            If they are not fewer than the payload has, the payload is stored as it is.
        """
        raise TypeError(f"{type(self).__name__} must define compress(payload)")

    def decompress(self, data: memoryview, max_size: int) -> BytesLike:
        """The payload of which `data` are all the compressed bytes.

        Nothing in `data` may be trusted: a few bytes can claim to be, or become, gigabytes. An implementation checks a
        size that they declare before it allocates memory, and stops when they become more than `max_size` bytes.

        Raises
        ------
        DecompressionError
            `data` is damaged, or would become larger than `max_size`.
        """
        raise TypeError(f"{type(self).__name__} must define decompress(data, max_size)")

    def probe(self, data: memoryview, max_size: int) -> None:
        """Raises if `data` cannot be what `decompress` takes, as far as that is seen without decompressing it.

        A search for intact frames behind damage calls it, mostly with bytes that are no frame. By default they can be.
        """

    def start(self) -> Self:
        """The compressor for one stream: this one, or another with a context of its own."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def check_compressor(compressor: Any, name: str = "compressor") -> Compressor:
    """`compressor` itself, if it is one that has a number and a name.

    Raises
    ------
    TypeError, ValueError
        It is none; or its number or its name is none.
    """
    if not isinstance(compressor, Compressor):
        raise TypeError(f"{name} must be an instance of Compressor, got {compressor!r:.100}")
    kind = type(compressor).__name__
    number, title = compressor.number, compressor.name
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{kind}.number must be an int, got {number!r:.100}")
    if number not in (ZSTD_NUMBER, LZ4_NUMBER) and not FIRST_OWN_NUMBER <= number <= 255:
        raise ValueError(
            f"{kind}.number must be {ZSTD_NUMBER} (Zstandard), {LZ4_NUMBER} (LZ4), or from {FIRST_OWN_NUMBER} to 255 "
            f"for another method, got {number}"
        )
    if not isinstance(title, str) or not title:
        raise TypeError(f"{kind}.name must be a str that is not empty, got {title!r:.100}")
    return compressor


def _checked_level(level: Any, lowest: int, highest: int, method: str) -> int:
    if isinstance(level, bool):
        raise TypeError(f"level must be an int, got {level!r}")
    try:
        number = operator.index(level)
    except TypeError:
        raise TypeError(f"level must be an int, got {level!r:.100}") from None
    if not lowest <= number <= highest:
        raise ValueError(f"level must be from {lowest} to {highest} for {method}, got {number}")
    return number


def zstd_levels() -> tuple[int, int]:
    """The lowest and the highest level of Zstandard."""
    lowest, highest = standard_zstd().CompressionParameter.compression_level.bounds()
    return lowest, highest


class ZstdCompressor(Compressor):
    """Zstandard: each payload becomes a frame of RFC 8878 that declares its size.

    Parameters
    ----------
    level : int
        From 1, which is fast, to 22, which is slow and makes the smallest frames; negative ones are faster still.
    dictionary : bytes-like, optional
        From `train_dictionary`. A reader needs the same one; a stream's description has it.

    Raises
    ------
    TypeError, ValueError
        An argument is wrong; `dictionary` is no Zstandard dictionary.
    ImportError
        ``backports.zstd`` is not installed (before Python 3.14).

    Examples
    --------
    >>> compressor = ZstdCompressor(level=6)
    >>> data = compressor.compress(b"one and one and one and one and one and one")
    >>> len(data), compressor.decompress(data, 1000)
    (23, b'one and one and one and one and one and one')
    """

    number = ZSTD_NUMBER

    def __init__(self, level: int = DEFAULT_LEVEL, dictionary: Buffer | None = None) -> None:
        zstd = standard_zstd()
        self._level = _checked_level(level, *zstd_levels(), ZSTD)
        self.dictionary = _checked_dictionary(zstd, dictionary)
        self._dictionary = zstd.ZstdDict(self.dictionary) if self.dictionary else None
        self._make = zstd.ZstdCompressor
        self._frame_end = zstd.ZstdCompressor.FLUSH_FRAME
        # Contexts that nobody uses now. Each call takes one: threads, and a process that forks, cannot get in each
        # other's way.
        self._free: list[Any] = []
        self._unpacker_: Unpacker | None = None

    @property
    def name(self) -> str:
        """The name of the method: "zstd"."""
        return ZSTD

    @property
    def level(self) -> int:
        """The level."""
        return self._level

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:  # type: ignore[override]
        """What a description says of it: its level."""
        return (("level", str(self._level)),)

    @property
    def dictionary_id(self) -> int:
        """The number of the dictionary, by which frames name it; 0 without one."""
        return 0 if self._dictionary is None else int(self._dictionary.dict_id)

    def compress(self, payload: Buffer) -> bytes:
        """The frame of a payload."""
        try:
            context = self._free.pop()
        except IndexError:
            context = self._make(self._level, zstd_dict=self._dictionary)
        frame: bytes = context.compress(payload, self._frame_end)
        self._free.append(context)
        return frame

    def decompress(self, data: Buffer, max_size: int) -> bytes:
        """The payload in a frame; see `Compressor.decompress`.

        The frame must declare its size, and be alone: frames that can be skipped, and several frames, are refused.
        """
        return self._unpacker.unpack(data, max_size)

    def probe(self, data: Buffer, max_size: int) -> None:
        """Raises DecompressionError if the header is not that of a frame that `decompress` takes."""
        self._unpacker.size_of(data, max_size)

    @property
    def _unpacker(self) -> Unpacker:
        found = self._unpacker_
        if found is None:
            # Later than the compressor: many only compress.
            found = self._unpacker_ = make_unpacker(self.dictionary)
        return found

    def __repr__(self) -> str:
        dictionary = f", dictionary=<{len(self.dictionary)} bytes>" if self.dictionary else ""
        return f"{type(self).__name__}(level={self._level}{dictionary})"

    def __reduce__(self) -> Any:
        return type(self), (self._level, self.dictionary or None)


class Lz4Compressor(Compressor):
    """LZ4: each payload becomes its size in 4 bytes, little-endian, and a block of LZ4.

    Blocks and not frames of LZ4: for a message of 100 bytes, the header and the end of such a frame would add 19 bytes,
    and what they declare beyond the size (block sizes, checksums) is in the frame of the stream already.

    Parameters
    ----------
    level : int
        0 is fast; 1 to 12 search longer, and make smaller blocks that are read as fast.

    Raises
    ------
    TypeError, ValueError
        `level` is wrong.
    ImportError
        The package ``lz4`` is not installed.

    Examples
    --------
    >>> compressor = Lz4Compressor()
    >>> data = compressor.compress(bytes(1000))
    >>> len(data), compressor.decompress(data, 1000) == bytes(1000)
    (18, True)
    """

    number = LZ4_NUMBER

    def __init__(self, level: int = 0) -> None:
        self._level = _checked_level(level, *LZ4_LEVELS, LZ4)
        lz4 = _lz4_block()
        self._compress: Callable[..., bytes] = lz4.compress
        if self._level:
            self._compress = functools.partial(lz4.compress, mode="high_compression", compression=self._level)
        self._unpack = Lz4Unpack(lz4.decompress, lz4.LZ4BlockError, _check_lz4, _lz4_damaged)

    @property
    def name(self) -> str:
        """The name of the method: "lz4"."""
        return LZ4

    @property
    def level(self) -> int:
        """The level."""
        return self._level

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:  # type: ignore[override]
        """What a description says of it: its level."""
        return (("level", str(self._level)),)

    def compress(self, payload: Buffer) -> BytesLike:
        """The size and the block of a payload. One of more than 2,113,929,216 bytes is not compressed."""
        try:
            return self._compress(payload)
        except OverflowError:
            return memoryview(payload)

    def decompress(self, data: Buffer, max_size: int) -> bytes:
        """The payload in a block, behind its size; see `Compressor.decompress`."""
        return self._unpack(data, max_size)

    def probe(self, data: Buffer, max_size: int) -> None:
        """Raises DecompressionError if the size is not one that `decompress` takes."""
        _check_lz4(data, max_size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(level={self._level})"

    def __reduce__(self) -> Any:
        return type(self), (self._level,)


def _lz4_block() -> Any:
    try:
        return importlib.import_module("lz4.block")
    except ImportError:
        raise ImportError(f"LZ4 needs the package lz4: {INSTALL}") from None


def _check_lz4(data: Any, max_size: int) -> None:
    """Raises DecompressionError if a block does not have the size before it, as far as that is seen."""
    view = memoryview(data)
    size = int.from_bytes(view[:LZ4_HEADER], "little")
    if len(view) <= LZ4_HEADER:
        raise _lz4_refused(f"{len(view)} bytes are no size and no block")
    if size > max_size:
        raise _lz4_refused(f"the block declares a content of {size:,} bytes, more than the limit of {max_size:,}")
    if size > LZ4_RATIO * (len(view) - LZ4_HEADER):
        raise _lz4_refused(f"the block declares a content of {size:,} bytes, and its {len(view)} bytes hold less")


def _lz4_damaged(error: Exception) -> DecompressionError:
    return _lz4_refused(f"the block is damaged ({error})")


def _lz4_refused(reason: str) -> DecompressionError:
    return DecompressionError(validator=LZ4, reason=reason)


def decompress_function(compressor: Compressor) -> Callable[[memoryview, int], BytesLike]:
    """``compressor.decompress``, or what that calls."""
    if isinstance(compressor, ZstdCompressor) and type(compressor).decompress is ZstdCompressor.decompress:
        return compressor._unpacker.unpack
    if isinstance(compressor, Lz4Compressor) and type(compressor).decompress is Lz4Compressor.decompress:
        return compressor._unpack
    return compressor.decompress


def builtin_compressor(number: int) -> Compressor | None:
    """The compressor that decompresses payloads behind this byte, if it is Zstandard or LZ4.

    Raises
    ------
    ImportError
        Its package is not installed.
    """
    if number == ZSTD_NUMBER:
        return ZstdCompressor()
    return Lz4Compressor() if number == LZ4_NUMBER else None


# Dictionaries


def _checked_dictionary(zstd: Any, dictionary: Any) -> bytes:
    if dictionary is None:
        return b""
    try:
        content = bytes(memoryview(dictionary))
    except TypeError:
        raise TypeError(f"dictionary must be bytes-like or None, got {type(dictionary).__name__}") from None
    if not content:
        return b""
    try:
        # The first reads the number of the dictionary, and the second its tables.
        zstd.ZstdDecompressor(zstd.ZstdDict(content))
    except (ValueError, zstd.ZstdError):
        raise ValueError(
            f"expected a Zstandard dictionary, as train_dictionary makes it, got {len(content)} bytes that begin with "
            f"{content[:8]!r}"
        ) from None
    return content


def train_dictionary(samples: Iterable[Buffer], size: int = DICTIONARY_SIZE) -> bytes:
    """Makes a dictionary for `ZstdCompressor` from a sample of messages.

    Parameters
    ----------
    samples : iterable of bytes-like objects
        Messages like those that will be compressed, such as the payloads of a reader: a thousand or more, with 100
        times as many bytes as the dictionary in all. They are copied once. Those of fewer than 8 bytes do not count.
    size : int
        How many bytes the dictionary has at most. It stands in the description of each stream once, and a context has
        it in memory in a form that is some times as large.

    Returns
    -------
    bytes
        The dictionary, of at most `size` bytes. The same sample gives the same one, with the same version of the
        library.

    Raises
    ------
    TypeError
        `samples` are not bytes-like objects, or `size` is no int.
    ValueError
        There are too few samples or too few bytes in them, or `size` is smaller than 256.
    ImportError
        ``backports.zstd`` is not installed (before Python 3.14).

    Examples
    --------
    >>> events = [b"host=alpha service=web sequence=%d status=ok" % number for number in range(2000)]
    >>> dictionary = train_dictionary(events[::2], 1024)
    >>> plain, small = ZstdCompressor(), ZstdCompressor(dictionary=dictionary)
    >>> len(events[1]), len(plain.compress(events[1])), len(small.compress(events[1])) < 30
    (43, 52, True)
    """
    zstd = standard_zstd()
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"size must be an int, got {size!r:.100}")
    if size < 256:
        raise ValueError(f"size must be at least 256 bytes, got {size}")
    if isinstance(samples, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"samples must be an iterable of messages, got one {type(samples).__name__}")
    chosen = []
    for number, sample in enumerate(samples):
        try:
            view = memoryview(sample)
        except TypeError:
            raise TypeError(f"sample {number} must be bytes-like, got {type(sample).__name__}") from None
        if view.nbytes >= SHORTEST_SAMPLE:
            chosen.append(view.cast("B"))
    total = sum(map(len, chosen))
    if len(chosen) < FEWEST_SAMPLES or total < size:
        raise ValueError(
            f"a dictionary of {size:,} bytes needs {FEWEST_SAMPLES} messages or more with as many bytes in all, and "
            f"better 100 times as many; got {len(chosen):,} messages of {SHORTEST_SAMPLE} bytes or more, with "
            f"{total:,} bytes in all"
        )
    try:
        content: bytes = zstd.train_dict(chosen, size).dict_content
    except zstd.ZstdError as error:
        raise ValueError(
            f"no dictionary can be made of these {len(chosen):,} messages of {total:,} bytes in all ({error}): take "
            "more of them, or messages that have more in common"
        ) from error
    return content
