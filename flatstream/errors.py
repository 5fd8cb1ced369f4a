"""The exceptions of this package.

Every error about a stream has two attributes that say where it happened: ``offset`` is the position of the first byte
of the frame, counted from where reading or writing began, and ``frame`` is the number of the frame, counted from 0. A
strategy need not set them: the reader or writer does.
"""

from __future__ import annotations

__all__ = [
    "ChecksumMismatchError",
    "DecompressionError",
    "DecryptionError",
    "FlatStreamError",
    "FlatbufferError",
    "InvalidFrameError",
    "JsonError",
    "SchemaError",
    "UnexpectedEofError",
    "ValidationFailedError",
]


class FlatStreamError(Exception):
    """Base of every error that this package defines.

    An ``OSError`` from a source or a sink is not converted: it reaches the caller unchanged.

    Attributes
    ----------
    offset : int or None
        Stream offset of the frame, in bytes.
    frame : int or None
        Number of the frame, counted from 0.
    next_intact_offset : int or None
        Only of an error that recovery raised: the stream offset of the nearest intact frame behind the damage; None if
        none was found.
    """

    next_intact_offset: int | None = None

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
        # By default, pickle calls the class with `args`, which lacks the keyword-only arguments.
        return (self.__class__.__new__, (self.__class__, *self.args), self.__dict__)


class InvalidFrameError(FlatStreamError, ValueError):
    """Bytes that cannot be a frame, or a payload that must not be framed.

    Attributes
    ----------
    declared_len : int or None
        The payload length in the header, or the length of the payload to be framed.
    buffer_len : int or None
        The number of bytes that were available when the frame was rejected.
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
    """The checksum of the payload differs from the one stored in the frame.

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
        The number of bytes of the frame, counted from its first, that are needed to continue.
    got : int or None
        The number of bytes of the frame that the stream has.
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
    """A validator rejected a payload.

    Attributes
    ----------
    validator : str
        The name of the validator.
    reason : str
        The reason, as text.
    path : str
        The path of the invalid field in the message, for example ``monster.inventory[3]``; empty if it is unknown.
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
        super().__init__(message, offset=offset, frame=frame)
        self.validator = validator
        self.reason = reason
        self.path = path


class DecompressionError(ValidationFailedError):
    """A payload that cannot be decompressed, or that would become larger than the limit.

    The frame is consumed: the next read gives the frame after it.
    """


class DecryptionError(ValidationFailedError):
    """A frame that an encrypted stream does not accept: it was changed, moved or repeated, or its key is another one.

    The message is the same in every case, so that nobody who sends forged frames learns from it what was wrong. The
    frame is consumed: the next read gives the frame after it.
    """


class JsonError(FlatStreamError, ValueError):
    """A text that is no JSON, or no record of its table.

    Attributes
    ----------
    path : str
        The path of the field that is wrong, for example ``inventory[3]``; empty if it is the text as a whole.
    line, column : int or None
        Where it is in the text, in characters, counted from 1.
    """

    def __init__(
        self,
        message: str = "invalid JSON",
        *,
        path: str = "",
        line: int | None = None,
        column: int | None = None,
        offset: int | None = None,
        frame: int | None = None,
    ) -> None:
        super().__init__(message, offset=offset, frame=frame)
        self.path = path
        self.line = line
        self.column = column

    def _where(self) -> str:
        place = super()._where()
        return place if self.line is None else f" (line {self.line}, column {self.column}){place}"


class FlatbufferError(FlatStreamError, ValueError):
    """A payload that is not a FlatBuffer of the expected type, or a builder whose message is not finished."""


class SchemaError(FlatStreamError, ValueError):
    """The text of a schema (.fbs) that flatc does not compile.

    Attributes
    ----------
    path : str or None
        The file with the fault: the schema, or one that it includes; None if the schema was given as text.
    line : int or None
        The line with the fault, counted from 1; None if flatc tells none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str | None = None,
        line: int | None = None,
        offset: int | None = None,
        frame: int | None = None,
    ) -> None:
        super().__init__(message, offset=offset, frame=frame)
        self.path = path
        self.line = line
