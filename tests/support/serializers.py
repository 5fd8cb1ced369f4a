"""A serializer as an application has one."""

from __future__ import annotations

from flatstream import Serializer


class Text(Serializer):
    """Texts in UTF-8."""

    name = "text"

    def dumps(self, item: str) -> bytes:
        return item.encode()

    def loads(self, payload: memoryview) -> str:
        return str(payload, "utf-8")
