"""The frame of a description at the head of a stream: made for a writer, and read for a reader."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any

from flatstream._core.framing.framer import NonEmptyFramer
from flatstream.description.description import Description, checksum_name
from flatstream.framing import (
    BoundedFramer,
    ChecksumFramer,
    DefaultFramer,
    Framer,
    ObserverFramer,
    TransformFramer,
    ValidatingFramer,
)

__all__ = [
    "as_description",
    "begin_description",
    "checksum_of",
    "head_frame",
    "innermost_framer",
    "parse_description",
    "transforms_of",
]

_ADAPTERS = (BoundedFramer, NonEmptyFramer, ObserverFramer, TransformFramer, ValidatingFramer)


def as_description(
    describe: Any,
    metadata: Mapping[str, str] | None = None,
    time_field: str | None = None,
    time_unit: str | None = None,
) -> Description | None:
    """The description that the arguments `describe`, `metadata`, `time_field` and `time_unit` of a writer ask for.

    Raises
    ------
    TypeError, ValueError, KeyError
        See `Description`; or a time field without a table.
    """
    if describe is None or describe is False:
        if time_field is not None or time_unit is not None:
            raise ValueError("time_field and time_unit are about a table: pass it as describe=")
        return None if metadata is None else Description(metadata=metadata)
    if describe is True:
        return Description(metadata=metadata, time_field=time_field, time_unit=time_unit)
    if isinstance(describe, Description):
        if time_field is not None or time_unit is not None:
            raise ValueError("a Description has its time field already: pass time_field and time_unit to it")
        return describe if metadata is None else describe.with_metadata(metadata)
    return Description(describe, metadata=metadata, time_field=time_field, time_unit=time_unit)


def innermost_framer(framer: Framer) -> Framer:
    """The framer that a description goes through: without what bounds, observes, validates or transforms messages."""
    while isinstance(framer, _ADAPTERS) and type(framer).frame_and_write is Framer.frame_and_write:
        framer = framer.inner
    return framer


def checksum_of(framer: Framer) -> str | None:
    """The name of the checksum that a framer stores; None if it is not known, because the framer is Python's."""
    framer = innermost_framer(framer)
    if type(framer).frame_and_write is not Framer.frame_and_write:
        return None
    if isinstance(framer, ChecksumFramer):
        return checksum_name(framer.checksum)
    return checksum_name("none") if isinstance(framer, DefaultFramer) else None


def begin_description(description: Description, framer: Framer) -> Description:
    """The description of a stream that begins now, with frames of `framer`.

    Raises
    ------
    ValueError
        The description says another checksum, or other transforms.
    """
    import flatstream

    name = checksum_of(framer)
    if name is not None and description.checksum not in (None, name):
        raise ValueError(
            f"the description says that the checksum is {description.checksum!r:.100}, and the frames are written with "
            f"{name!r}: pass description.with_checksum({name!r})"
        )
    if name is not None:
        description = description.with_checksum(name)
    transforms = transforms_of(framer)
    if name is not None or transforms:
        made = description._with_transforms(transforms)
        if description.transforms and made is not description:
            said = " and ".join(transform.text for transform in description.transforms)
            done = " and ".join(transform.text for transform in made.transforms) or "nothing"
            raise ValueError(
                f"the description says what was done to payloads: {said:.300}; and the framer does {done:.300}. Make "
                "the description without transforms, and the writer says them"
            )
        description = made
    return description._begun(time.time_ns(), f"flatstream {flatstream.__version__}")


def transforms_of(framer: Framer) -> list[tuple[str, tuple[tuple[str, str], ...], bytes]]:
    """What the transforms of a chain do, the one that is done first at first.

    One that says nothing of itself is there with the name of its class, so that no reader takes what is stored for
    messages.
    """
    found = []
    while isinstance(framer, _ADAPTERS):
        if isinstance(framer, TransformFramer):
            found.append(framer.described or (type(framer).__name__, (), b""))
        framer = framer.inner
    return found


def head_frame(description: Description, framer: Framer) -> bytes:
    """The frame of a description, as the innermost framer of `framer` makes it."""
    frame = io.BytesIO()
    innermost_framer(framer).frame_and_write(frame, memoryview(description.to_bytes()))
    return frame.getvalue()


def parse_description(payload: memoryview) -> Description:
    """What a decoder does with the payload of a description."""
    return Description.from_bytes(payload)
