"""The serializer of a stream: what its description names, and what an argument asks for."""

from __future__ import annotations

from typing import Any

from flatstream.description.description import Description
from flatstream.serializers import Serializer, as_serializer, known_serializer

__all__ = ["serializer_to_read", "serializer_to_write", "with_serializer"]


def with_serializer(description: Description | None, serializer: Serializer | None) -> Description | None:
    """The description of a stream that is written with `serializer`.

    Raises
    ------
    ValueError
        It says something else.
    """
    if description is None or serializer is None:
        return description
    _check(description, serializer)
    return description if description.serializer is not None else description._changed(serializer=serializer.name)


def serializer_to_write(description: Description | None, serializer: Serializer | None) -> Serializer | None:
    """What `write` of a writer uses: `serializer`, or else the one that the description of the stream names.

    None for FlatBuffers, and if the description names one that is not known here.

    Raises
    ------
    ValueError
        The description says something else than `serializer`.
    ImportError
        The library of the one that it names is not installed.
    """
    if serializer is not None:
        if description is not None:
            _check(description, serializer)
        return serializer
    return None if description is None else known_serializer(description.serializer)


def serializer_to_read(description: Description | None, wanted: Any) -> Serializer:
    """The serializer for `StreamReader.objects`: `wanted`, or if that is None the one that the description names.

    Raises
    ------
    TypeError, ValueError
        `wanted` is no serializer, or the description says something else; or there is none.
    ImportError
        Its library is not installed.
    """
    if wanted is not None:
        serializer = as_serializer(wanted)
        if description is not None:
            _check(description, serializer)
        return serializer
    name = None if description is None else description.serializer
    if name is None:
        if description is not None and description.roots:
            raise ValueError(f"the messages are FlatBuffers ({description!r:.200}), which records() reads")
        what = "the stream does not describe itself" if description is None else "its description names no serializer"
        raise ValueError(f"{what}: pass the serializer, as in objects('json')")
    found = known_serializer(name)
    if found is None:
        raise ValueError(f"the serializer {name!r:.100}, which the description names, is not known here: pass it")
    return found


def _check(description: Description, serializer: Serializer) -> None:
    if description.serializer is not None and description.serializer != serializer.name:
        raise ValueError(
            f"the description names the serializer {description.serializer!r:.100}, and {serializer.name!r:.100} is "
            "given"
        )
    if description.serializer is None and description.roots:
        raise ValueError(
            f"the description says that the messages are FlatBuffers ({description!r:.200}), and the serializer "
            f"{serializer.name!r:.100} is given"
        )
