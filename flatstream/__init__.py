"""Framed streams of FlatBuffers messages: fast writing, detection of damage, reading without a copy."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    import flatstream._core.stream.decoder as _decoder  # noqa: F401 - checks that it exists
except ModuleNotFoundError as _missing:  # pragma: no cover - tested in a separate process
    import sys

    raise ImportError(
        "flatstream's compiled modules are missing: install the package (pip install flatstream) or, in a source tree, "
        f"run 'make build'; there is no fallback in pure Python. This Python is {sys.executable}"
    ) from _missing

from flatstream._core.flatbuf.builder import Builder
from flatstream._core.framing.framer import register_transforms
from flatstream._index_hook import register_index_access
from flatstream._open import open as open
from flatstream._salvage import SalvageReport, salvage
from flatstream._sealing import SealReport, seal
from flatstream._startup_report import StartupReport
from flatstream.checksums import (
    Checksum,
    ChecksumType,
    Crc16,
    Crc32,
    Crc32c,
    Crc64,
    NoChecksum,
    XxHash64,
)
from flatstream.description import Description
from flatstream.description._schemas import register_schemas_lazily
from flatstream.detection import Detection, detect
from flatstream.errors import (
    ChecksumMismatchError,
    DecompressionError,
    DecryptionError,
    FlatbufferError,
    FlatStreamError,
    InvalidFrameError,
    JsonError,
    SchemaError,
    UnexpectedEofError,
    ValidationFailedError,
)
from flatstream.framing import (
    BoundedDeframer,
    BoundedFramer,
    ChecksumDeframer,
    ChecksumFramer,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    Framer,
    FrameSpan,
    ObserverDeframer,
    ObserverFramer,
    TransformDeframer,
    TransformFramer,
    ValidatingDeframer,
    ValidatingFramer,
)
from flatstream.memory_policy import (
    AdaptiveWatermarkPolicy,
    MemoryPolicy,
    NoOpPolicy,
    ReclamationInfo,
    ReclamationReason,
    SizeThresholdPolicy,
)
from flatstream.parser import FrameParser, FrameSerializer
from flatstream.reader import FrameBatch, StreamReader
from flatstream.recovery import RecoveryEnd, RecoveryReport, recover, recover_file
from flatstream.serialization import Packable, StreamDeserialize, StreamSerialize
from flatstream.serializers import JsonSerializer, MessagePackSerializer, Serializer
from flatstream.validation import (
    CompositeValidator,
    NoValidator,
    SizeValidator,
    StructuralValidator,
    TableRootValidator,
    TypedValidator,
    Validator,
)
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from flatstream.columns import ColumnBatch, ColumnStream
    from flatstream.datasets import Dataset as Dataset
    from flatstream.datasets import dataset as dataset
    from flatstream.datasets.splits import read_split
    from flatstream.index import IndexReport, build_index
    from flatstream.journal import JournalReader, JournalWriter
    from flatstream.records import RecordWriter
    from flatstream.schema import RecordView, Schema
    from flatstream.transforms.ciphers import Aes256Gcm, ChaCha20Poly1305, Cipher
    from flatstream.transforms.compression import CompressedDeframer, CompressedFramer
    from flatstream.transforms.compressors import Compressor, Lz4Compressor, ZstdCompressor, train_dictionary
    from flatstream.transforms.encryption import EncryptedDeframer, EncryptedFramer, EncryptionReport

__version__ = "0.1.0"

# Without `open`, so that "from flatstream import *" does not replace the built-in function; and without `Dataset` and
# `dataset`, so that it does not import pyarrow, which may be missing.
__all__ = [
    "AdaptiveWatermarkPolicy",
    "Aes256Gcm",
    "BoundedDeframer",
    "BoundedFramer",
    "Builder",
    "ChaCha20Poly1305",
    "Checksum",
    "ChecksumDeframer",
    "ChecksumFramer",
    "ChecksumMismatchError",
    "ChecksumType",
    "Cipher",
    "ColumnBatch",
    "ColumnStream",
    "CompositeValidator",
    "CompressedDeframer",
    "CompressedFramer",
    "Compressor",
    "Crc16",
    "Crc32",
    "Crc32c",
    "Crc64",
    "DecompressionError",
    "DecryptionError",
    "DefaultDeframer",
    "DefaultFramer",
    "Deframer",
    "Description",
    "Detection",
    "EncryptedDeframer",
    "EncryptedFramer",
    "EncryptionReport",
    "FlatStreamError",
    "FlatbufferError",
    "FrameBatch",
    "FrameParser",
    "FrameSerializer",
    "FrameSpan",
    "Framer",
    "IndexReport",
    "InvalidFrameError",
    "JournalReader",
    "JournalWriter",
    "JsonError",
    "JsonSerializer",
    "Lz4Compressor",
    "MemoryPolicy",
    "MessagePackSerializer",
    "NoChecksum",
    "NoOpPolicy",
    "NoValidator",
    "ObserverDeframer",
    "ObserverFramer",
    "Packable",
    "ReclamationInfo",
    "ReclamationReason",
    "RecordView",
    "RecordWriter",
    "RecoveryEnd",
    "RecoveryReport",
    "SalvageReport",
    "Schema",
    "SchemaError",
    "SealReport",
    "Serializer",
    "SizeThresholdPolicy",
    "SizeValidator",
    "StartupReport",
    "StreamDeserialize",
    "StreamReader",
    "StreamSerialize",
    "StreamWriter",
    "StructuralValidator",
    "TableRootValidator",
    "TransformDeframer",
    "TransformFramer",
    "TypedValidator",
    "UnexpectedEofError",
    "ValidatingDeframer",
    "ValidatingFramer",
    "ValidationFailedError",
    "Validator",
    "XxHash64",
    "ZstdCompressor",
    "build_index",
    "detect",
    "read_split",
    "recover",
    "recover_file",
    "salvage",
    "seal",
    "train_dictionary",
]


# Imported on first access: journals, schemas and columns take as long to import as the rest of the package, and most
# programs do not use them.
_LAZY = {
    "Aes256Gcm": "flatstream.transforms.ciphers",
    "ChaCha20Poly1305": "flatstream.transforms.ciphers",
    "Cipher": "flatstream.transforms.ciphers",
    "ColumnBatch": "flatstream.columns",
    "ColumnStream": "flatstream.columns",
    "CompressedDeframer": "flatstream.transforms.compression",
    "CompressedFramer": "flatstream.transforms.compression",
    "Compressor": "flatstream.transforms.compressors",
    "Dataset": "flatstream.datasets",
    "EncryptedDeframer": "flatstream.transforms.encryption",
    "EncryptedFramer": "flatstream.transforms.encryption",
    "EncryptionReport": "flatstream.transforms.encryption",
    "IndexReport": "flatstream.index",
    "JournalReader": "flatstream.journal",
    "JournalWriter": "flatstream.journal",
    "Lz4Compressor": "flatstream.transforms.compressors",
    "RecordView": "flatstream.schema",
    "RecordWriter": "flatstream.records",
    "Schema": "flatstream.schema",
    "ZstdCompressor": "flatstream.transforms.compressors",
    "build_index": "flatstream.index",
    "dataset": "flatstream.datasets",
    "read_split": "flatstream.datasets.splits",
    "train_dictionary": "flatstream.transforms.compressors",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _import_schemas() -> None:
    import flatstream.schema  # noqa: F401


register_schemas_lazily(_import_schemas)


def _import_indexes() -> Any:
    import flatstream.index._writing

    return flatstream.index._writing


register_index_access(_import_indexes)


def _maker(module: str, name: str) -> Callable[..., Any]:
    """What makes the adapter `name`, whose module is imported when that is done for the first time."""

    def make(inner: Any, *arguments: Any, **options: Any) -> Any:
        import importlib

        return getattr(importlib.import_module(f"flatstream.transforms.{module}"), name)(inner, *arguments, **options)

    return make


register_transforms(
    compressed_framer=_maker("compression", "CompressedFramer"),
    compressed_deframer=_maker("compression", "CompressedDeframer"),
    encrypted_framer=_maker("encryption", "EncryptedFramer"),
    encrypted_deframer=_maker("encryption", "EncryptedDeframer"),
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY})
