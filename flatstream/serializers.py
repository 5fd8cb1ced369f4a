"""Serializers: messages that are no FlatBuffers, as JSON and MessagePack."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from flatstream.errors import ValidationFailedError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["JsonSerializer", "MessagePackSerializer", "Serializer", "as_serializer", "known_serializer", "refusal"]

INSTALL = "pip install 'flatstream[msgpack]'"

# What `loads` raises for a payload that it cannot load.
REFUSALS = (ValueError, RecursionError)


class Serializer:
    """How objects become payloads and payloads objects. To be subclassed.

    A subclass sets `name`, and writes `dumps` and `loads`. Threads may call both at once.

    Attributes
    ----------
    name : str
        What the description of a stream calls it.

    Examples
    --------
    >>> import io
    >>> from flatstream import StreamReader, StreamWriter
    >>> class Text(Serializer):
    ...     name = "text"
    ...
    ...     def dumps(self, item):
    ...         return item.encode()
    ...
    ...     def loads(self, payload):
    ...         return str(payload, "utf-8")
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, serializer=Text()) as writer:
    ...     writer.write("abc")
    >>> list(StreamReader(sink.getvalue()).objects(Text()))
    ['abc']
    """

    name: str = ""

    def dumps(self, item: Any) -> Buffer:
        """The payload of `item`, as a bytes-like object. What it raises reaches the caller; nothing is written."""
        raise NotImplementedError(f"{type(self).__name__} has no method dumps(item)")

    def loads(self, payload: memoryview) -> Any:
        """The object in a payload, a read-only memoryview that may be kept.

        Raises
        ------
        ValueError
            It is none. `StreamReader.objects` raises a ValidationFailedError then, or does what `on_error` says. Any
            other exception, but for RecursionError, reaches the caller as it is.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method loads(payload)")

    # The same as functions that may be faster, for the writer and the reader.

    @property
    def _dumps(self) -> Callable[[Any], Any]:
        return self.dumps

    @property
    def _loads(self) -> Callable[[Any], Any]:
        return self.loads

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r:.100}>"


class _OfLibrary(Serializer):
    """Over an encoder and a decoder, which are called without a method in between unless a subclass has its own."""

    _encode: Callable[[Any], bytes]
    _decode: Callable[[Any], Any]

    def __init__(self, type: Any = None, *, default: Callable[[Any], Any] | None = None) -> None:
        if default is not None and not callable(default):
            raise TypeError(f"default must be callable, got {default!r:.100}")
        self._type = type
        self._default = default
        self._encode, self._decode = self._functions()

    def _functions(self) -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
        raise NotImplementedError

    @property
    def type(self) -> Any:
        """The type of the objects that `loads` makes; None for any."""
        return self._type

    def dumps(self, item: Any) -> bytes:
        """See `Serializer`."""
        return self._encode(item)

    def loads(self, payload: Buffer) -> Any:
        """See `Serializer`. A payload that is refused is a ValidationFailedError."""
        try:
            return self._decode(payload)
        except REFUSALS as error:
            raise refusal(self.name, error) from error

    @property
    def _dumps(self) -> Callable[[Any], Any]:
        return self._encode if type(self).dumps is _OfLibrary.dumps else self.dumps

    @property
    def _loads(self) -> Callable[[Any], Any]:
        return self._decode if type(self).loads is _OfLibrary.loads else self.loads

    def __getstate__(self) -> dict[str, Any]:
        # The functions of the library cannot be pickled.
        return {name: value for name, value in self.__dict__.items() if name not in ("_encode", "_decode")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._encode, self._decode = self._functions()


class JsonSerializer(_OfLibrary):
    """JSON in UTF-8: by msgspec where it is installed, else by the standard library.

    Parameters
    ----------
    type : type, optional
        What `loads` makes of a payload, and checks that it is: a dataclass, a ``msgspec.Struct``, a TypedDict,
        ``list[int]`` and so on (see the documentation of msgspec). By default what JSON has: dict, list, str, int,
        float, bool and None.
    default : callable, optional
        ``default(object)`` gives what is written in place of an object that has no form in JSON.

    Raises
    ------
    ImportError
        `type` is given, and msgspec is not installed.
    TypeError
        `default` is not callable; or msgspec does not know how to make `type`.

    Notes
    -----
    Objects that both libraries can write are read back as the same objects, whichever of them wrote and reads; the
    bytes may differ (``1e16`` and ``1e+16``). msgspec also writes dataclasses, `datetime`, UUID, Decimal, sets, bytes
    (as base64) and other types, and NaN and infinity as null, which the standard library refuses (TypeError,
    ValueError). The standard library also reads texts with half of a surrogate pair.

    Examples
    --------
    >>> serializer = JsonSerializer()
    >>> serializer.dumps({"host": "a", "load": 0.5})
    b'{"host":"a","load":0.5}'
    >>> serializer.loads(b'[1, "two"]')
    [1, 'two']
    """

    name = "json"

    def _functions(self) -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
        try:
            library = importlib.import_module("msgspec.json")
        except ImportError:
            if self._type is not None:
                raise ImportError(f"JsonSerializer(type) is done by msgspec: {INSTALL}") from None
            return _standard_json(self._default)
        return _msgspec_functions(library, self._type, self._default)


class MessagePackSerializer(_OfLibrary):
    """MessagePack, by msgspec.

    Parameters
    ----------
    type : type, optional
        What `loads` makes of a payload, and checks that it is; see `JsonSerializer`. By default what MessagePack has:
        dict, list, str, bytes, int, float, bool, None, `datetime.datetime`, and ``msgspec.msgpack.Ext``.
    default : callable, optional
        ``default(object)`` gives what is written in place of an object that has no form in MessagePack.

    Raises
    ------
    ImportError
        msgspec is not installed.
    TypeError
        `default` is not callable; or msgspec does not know how to make `type`.

    Examples
    --------
    >>> serializer = MessagePackSerializer()
    >>> serializer.dumps({"host": "a"}).hex(" ")
    '81 a4 68 6f 73 74 a1 61'
    >>> serializer.loads(b"\\x92\\x01\\xc4\\x01\\xff")
    [1, b'\\xff']
    """

    name = "msgpack"

    def _functions(self) -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
        try:
            library = importlib.import_module("msgspec.msgpack")
        except ImportError:
            raise ImportError(f"MessagePack is read and written by msgspec: {INSTALL}") from None
        return _msgspec_functions(library, self._type, self._default)


def _msgspec_functions(
    library: Any, type: Any, default: Callable[[Any], Any] | None
) -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
    decoder = library.Decoder() if type is None else library.Decoder(type)
    return library.Encoder(enc_hook=default).encode, decoder.decode


def _standard_json(default: Callable[[Any], Any] | None) -> tuple[Callable[[Any], bytes], Callable[[Any], Any]]:
    import json

    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default)
    decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)

    def encode(item: Any) -> bytes:
        return encoder.encode(item).encode()

    def decode(payload: Any) -> Any:
        return decoder.decode(str(payload, "utf-8"))

    return encode, decode


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"a number is out of range: {text:.100}")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"JSON has no {text}")


# By name. Pickle is none of them: who writes a payload of pickle runs code where it is read.
_KNOWN: dict[str, Callable[[], Serializer]] = {"json": JsonSerializer, "msgpack": MessagePackSerializer}


def as_serializer(value: Any) -> Serializer:
    """The serializer that an argument stands for: itself, or one of a known name.

    Raises
    ------
    TypeError, ValueError
        `value` is no serializer and no name of one.
    ImportError
        Its library is not installed.
    """
    if isinstance(value, str):
        if value not in _KNOWN:
            raise ValueError(
                f"no serializer is called {value!r:.100}: pass {' or '.join(map(repr, _KNOWN))}, or a Serializer"
            )
        return _KNOWN[value]()
    if not isinstance(value, Serializer):
        hint = " (an instance is needed)" if isinstance(value, type) and issubclass(value, Serializer) else ""
        raise TypeError(f"serializer must be a Serializer or the name of one, got {value!r:.100}{hint}")
    name = value.name
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a Serializer must be a str that is not empty, got {name!r:.100}: {value!r:.100}")
    return value


def known_serializer(name: str | None) -> Serializer | None:
    """The serializer of a name that is known here, otherwise None.

    Raises
    ------
    ImportError
        Its library is not installed.
    """
    return None if name is None or name not in _KNOWN else _KNOWN[name]()


def refusal(name: str, error: BaseException) -> ValidationFailedError:
    """The error for a payload of which a serializer says that it cannot be loaded."""
    if isinstance(error, ValidationFailedError):
        return error
    return ValidationFailedError(validator=name, reason=str(error) or type(error).__name__)
