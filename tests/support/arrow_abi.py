"""The structures of the Arrow C data interface, and producers that can be wrong in any way."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any


class ArrowSchema(ctypes.Structure):
    pass


class ArrowArray(ctypes.Structure):
    pass


class ArrowArrayStream(ctypes.Structure):
    pass


# Called without the interpreter's lock, as a library in C does.
SCHEMA_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowSchema))
ARRAY_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowArray))
STREAM_RELEASE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ArrowArrayStream))
GET_SCHEMA = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ArrowArrayStream), ctypes.POINTER(ArrowSchema))
GET_NEXT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ArrowArrayStream), ctypes.POINTER(ArrowArray))
GET_ERROR = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(ArrowArrayStream))
ArrowSchema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowSchema))),
    ("dictionary", ctypes.POINTER(ArrowSchema)),
    ("release", SCHEMA_RELEASE),
    ("private_data", ctypes.c_void_p),
]
ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(ArrowArray))),
    ("dictionary", ctypes.POINTER(ArrowArray)),
    ("release", ARRAY_RELEASE),
    ("private_data", ctypes.c_void_p),
]
ArrowArrayStream._fields_ = [
    ("get_schema", GET_SCHEMA),
    ("get_next", GET_NEXT),
    ("get_last_error", GET_ERROR),
    ("release", STREAM_RELEASE),
    ("private_data", ctypes.c_void_p),
]

PyCapsule_New = ctypes.pythonapi.PyCapsule_New
PyCapsule_New.restype = ctypes.py_object
PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Producer:
    """An object with the Arrow C data interface that says what it is told to, and counts what is released.

    Parameters
    ----------
    format : str
        Of the column.
    length : int
        How many rows it has.
    buffers : sequence of bytes or None
        As they stand in memory.
    children : sequence of Producer
    dictionary : Producer, optional
    overrides
        Fields of the structures as they are to be in the end, however wrong, with ``schema_`` or ``array_`` in front.
    """

    def __init__(
        self,
        format: str,
        length: int = 0,
        buffers: Sequence[bytes | None] = (),
        children: Sequence[Producer] = (),
        dictionary: Producer | None = None,
        name: str = "",
        null_count: int = 0,
        offset: int = 0,
        **overrides: Any,
    ) -> None:
        self.released = {"schema": 0, "array": 0, "child schema": 0, "child array": 0}
        self.children, self.dictionary, self.overrides = list(children), dictionary, overrides
        self.format, self.name, self.length = format, name, length
        self.null_count, self.offset = null_count, offset
        # No more than they need, so that the sanitizers see who reads on.
        self.buffers = [
            None if data is None else ctypes.create_string_buffer(data, max(len(data), 1)) for data in buffers
        ]
        self.kept: list[Any] = []

    def schema(self, inside: bool = False) -> ArrowSchema:
        made = ArrowSchema()
        made.format, made.name = self.format.encode(), self.name.encode()
        made.n_children = len(self.children)
        parts = [child.schema(True) for child in self.children]
        made.children = (ctypes.POINTER(ArrowSchema) * max(len(parts), 1))(*[ctypes.pointer(part) for part in parts])
        if self.dictionary is not None:
            inner = self.dictionary.schema(True)
            made.dictionary = ctypes.pointer(inner)
            parts.append(inner)

        def release(pointer: Any) -> None:
            self.released["child schema" if inside else "schema"] += 1
            for part in parts:
                if part.release:
                    part.release(ctypes.pointer(part))
            pointer[0].release = SCHEMA_RELEASE()

        made.release = SCHEMA_RELEASE(release)
        for name, value in self.overrides.items():
            if name.startswith("schema_"):
                setattr(made, name.removeprefix("schema_"), value)
        self.kept.append((made, parts, made.release))
        return made

    def array(self, inside: bool = False) -> ArrowArray:
        made = ArrowArray()
        made.length, made.null_count, made.offset = self.length, self.null_count, self.offset
        made.n_buffers, made.n_children = len(self.buffers), len(self.children)
        addresses = [None if data is None else ctypes.addressof(data) for data in self.buffers]
        made.buffers = (ctypes.c_void_p * max(len(addresses), 1))(*addresses)
        parts = [child.array(True) for child in self.children]
        made.children = (ctypes.POINTER(ArrowArray) * max(len(parts), 1))(*[ctypes.pointer(part) for part in parts])
        if self.dictionary is not None:
            inner = self.dictionary.array(True)
            made.dictionary = ctypes.pointer(inner)
            parts.append(inner)

        def release(pointer: Any) -> None:
            self.released["child array" if inside else "array"] += 1
            for part in parts:
                if part.release:
                    part.release(ctypes.pointer(part))
            pointer[0].release = ARRAY_RELEASE()

        made.release = ARRAY_RELEASE(release)
        for name, value in self.overrides.items():
            if name.startswith("array_"):
                setattr(made, name.removeprefix("array_"), value)
        self.kept.append((made, parts, made.release))
        return made

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        schema, array = self.schema(), self.array()
        return (
            PyCapsule_New(ctypes.addressof(schema), b"arrow_schema", None),
            PyCapsule_New(ctypes.addressof(array), b"arrow_array", None),
        )


class StreamProducer:
    """A stream of arrays of a `Producer`, of which some may fail.

    `steps` are what each call gives: a Producer, or an errno. After the last comes the end.
    """

    def __init__(
        self,
        first: Producer,
        steps: Sequence[Producer | int],
        message: bytes | None = b"the disk is on fire",
        schema_code: int = 0,
        **overrides: Any,
    ) -> None:
        self.first, self.steps, self.message, self.schema_code = first, list(steps), message, schema_code
        self.overrides = overrides
        self.released = 0
        self.kept: list[Any] = []

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        made = ArrowArrayStream()
        steps = iter(self.steps)
        text = None if self.message is None else ctypes.create_string_buffer(self.message)

        def get_schema(pointer: Any, out: Any) -> int:
            if self.schema_code:
                return self.schema_code
            schema = self.first.schema()
            ctypes.memmove(out, ctypes.addressof(schema), ctypes.sizeof(ArrowSchema))
            return 0

        def get_next(pointer: Any, out: Any) -> int:
            step = next(steps, None)
            if isinstance(step, int):
                # What is in the output then says nothing.
                ctypes.memset(out, 0xAB, ctypes.sizeof(ArrowArray))
                return step
            if step is None:
                ctypes.memset(out, 0, ctypes.sizeof(ArrowArray))
                return 0
            array = step.array()
            ctypes.memmove(out, ctypes.addressof(array), ctypes.sizeof(ArrowArray))
            return 0

        def get_last_error(pointer: Any) -> int | None:
            return None if text is None else ctypes.addressof(text)

        def release(pointer: Any) -> None:
            self.released += 1
            pointer[0].release = STREAM_RELEASE()

        made.get_schema, made.get_next = GET_SCHEMA(get_schema), GET_NEXT(get_next)
        made.get_last_error, made.release = GET_ERROR(get_last_error), STREAM_RELEASE(release)
        for name, value in self.overrides.items():
            setattr(made, name, value)
        self.kept.append((made, text, get_schema, get_next, get_last_error, release))
        return PyCapsule_New(ctypes.addressof(made), b"arrow_array_stream", None)


get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
get_pointer.restype = ctypes.c_void_p
get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def structure(capsule: Any, name: bytes, kind: Any) -> Any:
    return kind.from_address(get_pointer(capsule, name))


def release(made: Any) -> None:
    made.release(ctypes.pointer(made))


def copy_of(made: Any) -> Any:
    """Moves a structure to memory of our own, as a consumer does."""
    moved = type(made)()
    ctypes.memmove(ctypes.addressof(moved), ctypes.addressof(made), ctypes.sizeof(made))
    made.release = type(made.release)()
    return moved
