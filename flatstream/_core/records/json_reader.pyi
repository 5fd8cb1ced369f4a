from typing import Any, Literal, final

from typing_extensions import Buffer

from flatstream._core.flatbuf.builder import Builder
from flatstream._core.flatbuf.layout import Layout
from flatstream._core.records.json_scanner import JsonScanner

@final
class JsonReader(JsonScanner):
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
