"""Objects that a serializer made of messages, as JSON texts and as cells."""

from __future__ import annotations

import base64
import json
import math
from functools import partial
from typing import Any

__all__ = ["csv_cell", "json_text", "serializer_of", "value_at"]


def serializer_of(description: Any) -> Any:
    """The serializer that a description names, if it is known here; otherwise None.

    Raises
    ------
    ImportError
        Its library is not installed.
    """
    if description is None or description.serializer is None:
        return None
    from flatstream.serializers import known_serializer

    return known_serializer(description.serializer)


def json_text(value: Any) -> str:
    """An object as JSON in one line: bytes in base64, times in ISO 8601, NaN and infinity as texts.

    Raises
    ------
    ValueError
        It is nested too deeply.
    """
    try:
        try:
            return _compact(value)
        except (TypeError, ValueError):
            return _compact(_plain(value))
    except RecursionError:
        raise ValueError("the object is nested too deeply to be shown") from None


_compact = partial(json.dumps, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """The object with what JSON does not have as texts."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _text(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "code") and hasattr(value, "data"):
        # An extension type of MessagePack.
        return {"code": value.code, "data": _plain(bytes(value.data))}
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, (list, tuple, dict)):
        return json_text(value)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def value_at(value: Any, path: str) -> Any:
    """What an object has at a path, which dots lead into the dicts inside of it; None if it has nothing there."""
    while isinstance(value, dict):
        if path in value:
            return value[path]
        name, dot, path = path.partition(".")
        if not dot:
            return None
        value = value.get(name)
    return None


def csv_cell(value: Any) -> str:
    """A value as a cell of CSV: texts in quotes, nothing for None, and JSON text for what has parts."""
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value) if isinstance(value, bool) else str(value)
    text = (
        value if isinstance(value, str) else _text(value) if not isinstance(value, (dict, list)) else json_text(value)
    )
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
