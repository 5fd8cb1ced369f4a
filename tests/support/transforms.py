"""Transforms of every kind, with their twins. ``@every_transform`` gives a test each of them as ``case``.

``CASES`` are by name. A transform of the package is one more `Case` in it: the contract tests (`transforms/
test_transform_contract.py` and its neighbours) then run over it, without a twin if it stores something else each time.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from flatstream import (
    Aes256Gcm,
    CompressedDeframer,
    CompressedFramer,
    Deframer,
    EncryptedDeframer,
    EncryptedFramer,
    Framer,
    Lz4Compressor,
    StreamWriter,
    TransformDeframer,
    TransformFramer,
    ValidationFailedError,
    ZstdCompressor,
)
from reference import transforms as reference
from support.modes import MODES, Mode

KEY = bytes(range(32))


def refused(reason: str) -> ValidationFailedError:
    return ValidationFailedError(validator="test", reason=reason)


class XorFramer(TransformFramer):
    """Keeps the length."""

    def transform(self, payload: memoryview) -> bytes:
        return bytes(byte ^ 0x5A for byte in payload)


class XorDeframer(TransformDeframer):
    def restore(self, payload: memoryview) -> bytes:
        return bytes(byte ^ 0x5A for byte in payload)


class ReversingFramer(TransformFramer):
    """A letter before the payload, which is stored from its end on."""

    def transform(self, payload: memoryview) -> bytearray:
        return bytearray(b"R" + bytes(payload[::-1]))


class ReversingDeframer(TransformDeframer):
    def restore(self, payload: memoryview) -> bytearray:
        self.probe(payload)
        return bytearray(bytes(payload[1:])[::-1])

    def probe(self, payload: memoryview) -> None:
        if bytes(payload[:1]) != b"R":
            raise refused("no R")


class ZlibFramer(TransformFramer):
    def transform(self, payload: memoryview) -> bytes:
        return zlib.compress(payload, 1)


class ZlibDeframer(TransformDeframer):
    def restore(self, payload: memoryview) -> bytes:
        try:
            return zlib.decompress(payload)
        except zlib.error as error:
            raise refused(str(error)) from None

    def probe(self, payload: memoryview) -> None:
        if len(payload) < 6 or payload[0] != 0x78:
            raise refused("no zlib")


class PlainFramer(TransformFramer):
    """Stores what it gets."""

    def transform(self, payload: memoryview) -> memoryview:
        return payload


class PlainDeframer(TransformDeframer):
    """Gives the stored bytes: views of the reader's own memory."""

    def restore(self, payload: memoryview) -> memoryview:
        return payload


class NumberingFramer(TransformFramer):
    """Numbers messages, from a frame that begins the stream to one that ends it."""

    described = ("numbers", (("width", "4"),), b"")
    number: int
    following: int

    def start(self, after: bytes | None = None) -> Framer:
        made = self.with_inner(self.inner.start(after))
        made.number = made.following = 0
        return made

    def begin(self) -> list[bytes]:
        return [*super().begin(), self.inner_frame(b"B")]

    def transform(self, payload: memoryview) -> bytes:
        self.following = self.number + 1
        return b"D" + self.number.to_bytes(4, "little") + bytes(payload)

    def accepted(self) -> None:
        # It may be told twice of one frame.
        self.number = self.following

    def finish(self) -> list[bytes]:
        return [self.inner_frame(b"F" + self.number.to_bytes(4, "little")), *super().finish()]


class NumberingDeframer(TransformDeframer):
    """Refuses a number that is not the next one, unless the reader passed over frames.

    ``tolerated`` are the calls of `tolerate`. With `needs_end`, a stream without its last frame cannot end.
    """

    needs_end = False

    def __init__(self, inner: Deframer, *, needs_end: bool = False) -> None:
        super().__init__(inner)
        self.needs_end = needs_end

    def start(self) -> Deframer:
        made = self.with_inner(self.inner.start())
        made.number, made.may_be_later, made.has_end = None, False, False
        made.tolerated = []
        return made

    number: int | None
    may_be_later: bool
    has_end: bool
    tolerated: list[bool]

    @property
    def state(self) -> tuple[int | None, bool, bool]:
        return self.number, self.may_be_later, self.has_end

    def rewind(self, state: Any) -> None:
        self.number, self.may_be_later, self.has_end = state

    def passed_over(self) -> None:
        self.may_be_later = True

    def tolerate(self, gaps: bool) -> None:
        self.tolerated.append(gaps)

    def probe(self, payload: memoryview) -> None:
        kind = bytes(payload[:1])
        if kind not in (b"B", b"D", b"F") or len(payload) < (1 if kind == b"B" else 5):
            raise refused("no number")

    def restore(self, payload: memoryview) -> memoryview | None:
        self.probe(payload)
        kind = bytes(payload[:1])
        if kind == b"B":
            if self.number is not None:
                raise refused("a second beginning")
            self.number, self.may_be_later = 0, False
            return None
        number = int.from_bytes(payload[1:5], "little")
        if number != self.number and not (self.may_be_later and number >= (self.number or 0)):
            raise refused(f"number {number} after {self.number}")
        self.may_be_later = False
        if kind == b"F":
            self.number, self.has_end = number, True
            return None
        self.number = number + 1
        return payload[5:]

    def end(self) -> None:
        if self.needs_end and not self.has_end:
            raise refused("no end")


@dataclass(frozen=True)
class Case:
    """A chain of transforms around a framer and a deframer, and what it does in plain Python, if that is known.

    `controls` are how many frames of its own stand before and behind the messages; `is_strict` is whether, in mode
    "raise", a reader refuses every frame behind a damaged one.
    """

    name: str
    framer: Callable[[Framer], Framer]
    deframer: Callable[[Deframer], Deframer]
    twin: reference.Twin | None = None
    controls: tuple[int, int] = (0, 0)
    is_strict: bool = False
    keeps_empty: bool = False

    def write(self, payloads: Sequence[bytes], mode: Mode = MODES["none"], **options: Any) -> bytes:
        """The stream of these payloads."""
        sink = io.BytesIO()
        with StreamWriter(sink, self.framer(mode.framer()), **options) as writer:
            writer.write_payloads(payloads)
        return sink.getvalue()


def around(outer: reference.Twin, inner: reference.Twin) -> reference.Twin:
    """What a transform around another does. Frames that the inner one takes off or refuses, the outer never sees."""

    def read(frames: Sequence[bytes | None]) -> list[reference.Outcome]:
        found = inner.read(frames)
        # What was refused is lost for the outer one, as damage is.
        passed: list[bytes | None] = []
        for outcome in found:
            if outcome != reference.CONTROL:
                passed.append(outcome if isinstance(outcome, bytes) else None)
        made = iter(outer.read(passed))
        both: list[reference.Outcome] = []
        for outcome in found:
            if outcome == reference.CONTROL:
                both.append(outcome)
                continue
            result = next(made)
            both.append(result if isinstance(outcome, bytes) else outcome)
        return both

    return reference.Twin(lambda payloads: inner.store(outer.store(payloads)), read)


def _compressed(make: Callable[[], Any]) -> tuple[Callable[[Framer], Framer], Callable[[Deframer], Deframer]]:
    return (lambda inner: CompressedFramer(inner, make())), (lambda inner: CompressedDeframer(inner))


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("xor", XorFramer, XorDeframer, reference.XOR, keeps_empty=True),
        Case("plain", PlainFramer, PlainDeframer, reference.stateless(bytes, bytes), keeps_empty=True),
        Case("reverse", ReversingFramer, ReversingDeframer, reference.REVERSE),
        Case("zlib", ZlibFramer, ZlibDeframer, reference.ZLIB),
        Case("numbers", NumberingFramer, NumberingDeframer, reference.NUMBERS, (1, 1)),
        Case(
            "zlib around numbers",
            lambda inner: ZlibFramer(NumberingFramer(inner)),
            lambda inner: ZlibDeframer(NumberingDeframer(inner)),
            around(reference.ZLIB, reference.NUMBERS),
            (1, 1),
        ),
        Case(
            "numbers around zlib",
            lambda inner: NumberingFramer(ZlibFramer(inner)),
            lambda inner: NumberingDeframer(ZlibDeframer(inner)),
            around(reference.NUMBERS, reference.ZLIB),
            (1, 1),
        ),
        Case(
            "numbers around numbers",
            lambda inner: NumberingFramer(NumberingFramer(inner)),
            lambda inner: NumberingDeframer(NumberingDeframer(inner)),
            around(reference.NUMBERS, reference.NUMBERS),
            (2, 2),
        ),
        Case("zstd", *_compressed(ZstdCompressor)),
        Case("lz4", *_compressed(Lz4Compressor)),
        Case(
            "encrypted",
            lambda inner: EncryptedFramer(inner, Aes256Gcm(KEY)),
            lambda inner: EncryptedDeframer(inner, Aes256Gcm(KEY)),
            None,
            (1, 1),
            is_strict=True,
        ),
        Case(
            "zstd around encrypted",
            lambda inner: CompressedFramer(EncryptedFramer(inner, Aes256Gcm(KEY)), ZstdCompressor()),
            lambda inner: CompressedDeframer(EncryptedDeframer(inner, Aes256Gcm(KEY))),
            None,
            (1, 1),
            is_strict=True,
        ),
    )
}

every_transform = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
every_twin = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if case.twin is not None]
)
every_state = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if case.controls != (0, 0)]
)
