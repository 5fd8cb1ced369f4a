"""The exception tree.

Every error that speaks of a stream carries where it happened: ``offset``, the position of the frame's first byte
counted from where reading or writing began, and ``frame``, its number counted from 0. A strategy that raises one of
these need not know either; the reader fills them in.
"""

from __future__ import annotations

__all__ = [
    "ChecksumMismatchError",
    "FlatStreamError",
    "FlatbufferError",
    "InvalidFrameError",
    "UnexpectedEofError",
    "ValidationFailedError",
]


class FlatStreamError(Exception):
    """Base of every error that this package defines.

    ``OSError`` from a source or a sink is not among them: the device's own error reaches the caller as it is.

    Attributes
    ----------
    offset : int or None
        Stream offset, in bytes, of the frame concerned.
    frame : int or None
        Number of the frame concerned, counted from 0.
    """

    def __init__(self, message: str = "", *, offset: int | None = None, frame: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.frame = frame

    def _where(self) -> str:
        places = []
        if self.frame is not None:
            places.append(f"frame {self.frame}")
        if self.offset is not None:
            places.append(f"stream offset {self.offset}")
        return f" ({', '.join(places)})" if places else ""

    def __str__(self) -> str:
        return f"{self.message}{self._where()}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # The keyword-only attributes do not fit into `args`, which is what pickle would call the class with.
        return (self.__class__.__new__, (self.__class__,), self.__dict__)


class InvalidFrameError(FlatStreamError, ValueError):
    """Bytes that can be no frame, or a payload that may not be framed.

    Attributes
    ----------
    declared_len : int or None
        The payload length that the header claims, or that the payload has.
    buffer_len : int or None
        How many bytes were at hand when the frame was refused.
    limit : int or None
        The largest payload length allowed.
    """

    def __init__(
        self,
        message: str = "invalid frame",
        *,
        declared_len: int | None = None,
        buffer_len: int | None = None,
        limit: int | None = None,
        offset: int | None = None,
        frame: int | None = None,
    ) -> None:
        super().__init__(message, offset=offset, frame=frame)
        self.declared_len = declared_len
        self.buffer_len = buffer_len
        self.limit = limit


class ChecksumMismatchError(FlatStreamError, ValueError):
    """The payload does not have the checksum that is stored beside it.

    Attributes
    ----------
    expected : int or None
        The checksum stored in the frame.
    calculated : int or None
        The checksum of the payload as it was read.
    """

    def __init__(
        self,
        message: str = "",
        *,
        expected: int | None = None,
        calculated: int | None = None,
        offset: int | None = None,
        frame: int | None = None,
    ) -> None:
        if not message:
            message = "checksum mismatch"
            if expected is not None and calculated is not None:
                message += f": the frame stores {expected:#x}, its payload gives {calculated:#x}"
        super().__init__(message, offset=offset, frame=frame)
        self.expected = expected
        self.calculated = calculated


class UnexpectedEofError(FlatStreamError, EOFError):
    """The stream ends inside a frame.

    Attributes
    ----------
    needed : int or None
        How many bytes of the frame, counted from its first, are needed to go on.
    got : int or None
        How many are there.
    """

    def __init__(
        self,
        message: str = "",
        *,
        needed: int | None = None,
        got: int | None = None,
        offset: int | None = None,
        frame: int | None = None,
    ) -> None:
        if not message:
            message = "the stream ends inside a frame"
            if needed is not None and got is not None:
                message += f": {needed} bytes of it are needed, {got} are there"
        super().__init__(message, offset=offset, frame=frame)
        self.needed = needed
        self.got = got


class ValidationFailedError(FlatStreamError, ValueError):
    """A validator refused a payload.

    Attributes
    ----------
    validator : str
        The name of the validator that refused.
    reason : str
        Why, in words.
    path : str
        Which field of the message is wrong, like ``monster.inventory[3]``; empty if that is not known.
    """

    def __init__(
        self,
        message: str = "",
        *,
        validator: str = "",
        reason: str = "",
        path: str = "",
        offset: int | None = None,
        frame: int | None = None,
    ) -> None:
        if not message:
            where = f"{path}: " if path else ""
            message = f"{validator or 'validator'} refused the payload: {where}{reason or 'no reason given'}"
        super().__init__(
            message,
            offset=offset,
            frame=frame,
        )
        self.validator = validator
        self.reason = reason
        self.path = path


class FlatbufferError(FlatStreamError, ValueError):
    """A payload that is not the FlatBuffer it was said to be, or a builder that has not finished one."""
