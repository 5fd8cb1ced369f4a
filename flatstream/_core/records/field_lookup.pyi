from typing import final

from flatstream._core.flatbuf.layout import Layout

@final
class RecordTypes:
    @property
    def layout(self) -> Layout: ...
    def __init__(self, layout: Layout) -> None: ...
