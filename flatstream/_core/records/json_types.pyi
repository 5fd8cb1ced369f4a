from typing import final

from flatstream._core.flatbuf.layout import Layout

@final
class JsonTypes:
    def __init__(self, layout: Layout) -> None: ...
