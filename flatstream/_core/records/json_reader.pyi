from typing import Any, Literal, final

from typing_extensions import Buffer

from flatstream._core.flatbuf.builder import Builder
from flatstream._core.flatbuf.layout import Layout
from flatstream._core.records.record_builder import RecordBuilder

NUMBER_NAMES: dict[int, str]
NUMBER_RANGES: dict[int, str]

@final
class JsonReader(RecordBuilder):
    def __init__(
        self, layout: Layout, number: Any, *, file_identifier: bytes = b"", force_defaults: bool = False
    ) -> None: ...
    def _encode_json(
        self,
        builder: Builder,
        text: str | Buffer,
        *,
        file_identifier: bytes = b"",
        force_defaults: bool = False,
        unknown: Literal["raise", "skip"] = "raise",
    ) -> int: ...
