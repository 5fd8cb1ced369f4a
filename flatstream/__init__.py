"""Framed streams of FlatBuffers messages: fast writing, detection of damage, reading without a copy."""

from typing import TYPE_CHECKING, Any

try:
    import flatstream._core.stream.decoder as _decoder  # noqa: F401 - checks that it exists
except ModuleNotFoundError as _missing:  # pragma: no cover - tested in a separate process
    raise ImportError(
        "flatstream's compiled modules are missing: install the package (pip install flatstream) or, in a source tree, "
        "run 'make build'; there is no fallback in pure Python"
    ) from _missing

from flatstream._core.flatbuf.builder import Builder
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
from flatstream.reader import FrameBatch, StreamReader
from flatstream.recovery import RecoveryEnd, RecoveryReport, recover, recover_file
from flatstream.serialization import Packable, StreamDeserialize, StreamSerialize
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
    from flatstream.journal import JournalReader, JournalWriter
    from flatstream.records import RecordWriter
    from flatstream.schema import RecordView, Schema

__version__ = "0.1.0"

# Without `open`, so that "from flatstream import *" does not replace the built-in function.
__all__ = [
    "AdaptiveWatermarkPolicy",
    "BoundedDeframer",
    "BoundedFramer",
    "Builder",
    "Checksum",
    "ChecksumDeframer",
    "ChecksumFramer",
    "ChecksumMismatchError",
    "ChecksumType",
    "ColumnBatch",
    "ColumnStream",
    "CompositeValidator",
    "Crc16",
    "Crc32",
    "Crc32c",
    "Crc64",
    "DefaultDeframer",
    "DefaultFramer",
    "Deframer",
    "Description",
    "Detection",
    "FlatStreamError",
    "FlatbufferError",
    "FrameBatch",
    "FrameSpan",
    "Framer",
    "InvalidFrameError",
    "JournalReader",
    "JournalWriter",
    "JsonError",
    "MemoryPolicy",
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
    "SizeThresholdPolicy",
    "SizeValidator",
    "StartupReport",
    "StreamDeserialize",
    "StreamReader",
    "StreamSerialize",
    "StreamWriter",
    "StructuralValidator",
    "TableRootValidator",
    "TypedValidator",
    "UnexpectedEofError",
    "ValidatingDeframer",
    "ValidatingFramer",
    "ValidationFailedError",
    "Validator",
    "XxHash64",
    "detect",
    "recover",
    "recover_file",
    "salvage",
    "seal",
]


# Imported on first access: journals, schemas and columns take as long to import as the rest of the package, and most
# programs do not use them.
_LAZY = {
    "ColumnBatch": "flatstream.columns",
    "ColumnStream": "flatstream.columns",
    "JournalReader": "flatstream.journal",
    "JournalWriter": "flatstream.journal",
    "RecordView": "flatstream.schema",
    "RecordWriter": "flatstream.records",
    "Schema": "flatstream.schema",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _import_schemas() -> None:
    import flatstream.schema  # noqa: F401


register_schemas_lazily(_import_schemas)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
