"""Every built-in strategy and its twin, the same thing written as a plain Python subclass, do the same.

A layer of a chain of strategies is one of three variants: "builtin", the compiled class; "twin", a subclass of the
public base class that knows nothing of it; and "subclass", a subclass of the compiled class that overrides its methods
in Python only to call them. Whatever the variants in a chain, it must write the same bytes, read the same payloads and
raise the same errors: the class and all attributes, but not the wording.
"""

from __future__ import annotations

import binascii
import io
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fastcrc
import google_crc32c
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import (
    AdaptiveWatermarkPolicy,
    BoundedDeframer,
    BoundedFramer,
    Checksum,
    ChecksumDeframer,
    ChecksumFramer,
    ChecksumMismatchError,
    CompositeValidator,
    DefaultDeframer,
    DefaultFramer,
    Deframer,
    FlatStreamError,
    Framer,
    FrameSpan,
    InvalidFrameError,
    MemoryPolicy,
    NoOpPolicy,
    NoValidator,
    ObserverDeframer,
    ObserverFramer,
    ReclamationReason,
    SizeThresholdPolicy,
    SizeValidator,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
    ValidatingDeframer,
    ValidatingFramer,
    ValidationFailedError,
    Validator,
    recover,
)
from reference import framing as reference
from support.clock import Clock
from support.errors import facts
from support.extent import in_one_test, spread
from support.items import BytesItem
from support.sinks import PlainSink
from support.sources import CutReadSource, CutSource

VARIANTS = ("builtin", "twin", "subclass")

# Twins of the checksums


class TwinNoChecksum(Checksum):
    size = 0

    def calculate(self, payload):
        return 0


class TwinCrc16(Checksum):
    size = 2

    def calculate(self, payload):
        return binascii.crc_hqx(payload, 0)


class TwinCrc32(Checksum):
    size = 4

    def calculate(self, payload):
        return zlib.crc32(payload)


class TwinCrc32c(Checksum):
    size = 4

    def calculate(self, payload):
        return google_crc32c.value(bytes(payload))


class TwinCrc64(Checksum):
    size = 8

    def calculate(self, payload):
        return fastcrc.crc64.xz(bytes(payload))


class TwinXxHash64(Checksum):
    size = 8

    def calculate(self, payload):
        return xxhash.xxh3_64_intdigest(payload)


# Twins of the validators. Their name is what the built-in one calls itself.


class TwinNoValidator(Validator):
    name = "NoValidator"

    def validate(self, payload):
        pass


class TwinSizeValidator(Validator):
    name = "SizeValidator"

    def __init__(self, min_size, max_size):
        self.min_size = min_size
        self.max_size = max_size

    def validate(self, payload):
        if not self.min_size <= len(payload) <= self.max_size:
            raise ValidationFailedError(validator=self.name, reason="wrong size")


class TwinCompositeValidator(Validator):
    name = "CompositeValidator"

    def __init__(self, *validators):
        self.validators = validators

    def validate(self, payload):
        for validator in self.validators:
            validator.validate(payload)


# Twins of the framers


class TwinDefaultFramer(Framer):
    def frame_and_write(self, writer, payload):
        writer.write(len(payload).to_bytes(4, "little"))
        writer.write(payload)


class TwinChecksumFramer(Framer):
    def __init__(self, checksum):
        self.checksum = checksum

    def frame_and_write(self, writer, payload):
        size = self.checksum.size
        value = self.checksum.calculate(payload) % 2 ** (8 * size)
        writer.write(len(payload).to_bytes(4, "little") + value.to_bytes(size, "little"))
        writer.write(payload)


class TwinBoundedFramer(Framer):
    def __init__(self, inner, max_len):
        self.inner = inner
        self.max_len = max_len

    def frame_and_write(self, writer, payload):
        if len(payload) > self.max_len:
            raise InvalidFrameError(declared_len=len(payload), buffer_len=len(payload), limit=self.max_len)
        self.inner.frame_and_write(writer, payload)


class TwinObserverFramer(Framer):
    def __init__(self, inner, callback):
        self.inner = inner
        self.callback = callback

    def frame_and_write(self, writer, payload):
        self.callback(payload)
        self.inner.frame_and_write(writer, payload)


class TwinValidatingFramer(Framer):
    def __init__(self, inner, validator):
        self.inner = inner
        self.validator = validator

    def frame_and_write(self, writer, payload):
        self.validator.validate(payload)
        self.inner.frame_and_write(writer, payload)


# Twins of the deframers


class TwinDefaultDeframer(Deframer):
    checksum_size = 0

    def __init__(self, *, max_frame_len: int = 2**31, allow_empty: bool = True) -> None:
        self.max_frame_len = max_frame_len
        self.allow_empty = allow_empty

    def locate(self, data):
        if len(data) < 4:
            return 4
        length = int.from_bytes(data[:4], "little")
        if length > self.max_frame_len or (length == 0 and not self.allow_empty):
            raise InvalidFrameError(declared_len=length, buffer_len=len(data), limit=self.max_frame_len)
        start = 4 + self.checksum_size
        return FrameSpan(start, start + length, start + length)


class TwinChecksumDeframer(TwinDefaultDeframer):
    def __init__(self, checksum, **options):
        super().__init__(**options)
        self.checksum = checksum
        self.checksum_size = checksum.size

    def check(self, frame, payload):
        self.checksum.verify(int.from_bytes(frame[4 : 4 + self.checksum_size], "little"), payload)


class TwinBoundedDeframer(Deframer):
    def __init__(self, inner, max_len):
        self.inner = inner
        self.max_len = max_len

    def locate(self, data):
        found = self.inner.locate(data)
        if isinstance(found, int):
            return found
        length = found[1] - found[0]
        if length > self.max_len:
            raise InvalidFrameError(declared_len=length, buffer_len=len(data), limit=self.max_len)
        return tuple(found)

    def check(self, frame, payload):
        self.inner.check(frame, payload)


class TwinObserverDeframer(Deframer):
    def __init__(self, inner, callback):
        self.inner = inner
        self.callback = callback

    def locate(self, data):
        return self.inner.locate(data)

    def check(self, frame, payload):
        self.inner.check(frame, payload)
        self.callback(payload)


class TwinValidatingDeframer(Deframer):
    def __init__(self, inner, validator):
        self.inner = inner
        self.validator = validator

    def locate(self, data):
        return self.inner.locate(data)

    def check(self, frame, payload):
        self.inner.check(frame, payload)
        self.validator.validate(payload)


# The three variants of everything


def overriding(cls: type, *methods: str) -> type:
    """A subclass of `cls`, of the same name, that has `methods` in Python and calls those of `cls` in them."""

    def override(name: str) -> Callable[..., Any]:
        inherited = getattr(cls, name)
        return lambda self, *arguments: inherited(self, *arguments)

    return type(cls.__name__, (cls,), {name: override(name) for name in methods})


def variants(builtin: type, twin: type, *methods: str) -> dict[str, Any]:
    return {"builtin": builtin, "twin": twin, "subclass": overriding(builtin, *methods)}


CHECKSUMS = {
    "none": variants(flatstream.NoChecksum, TwinNoChecksum, "calculate", "verify"),
    "crc16": variants(flatstream.Crc16, TwinCrc16, "calculate", "verify"),
    "crc32": variants(flatstream.Crc32, TwinCrc32, "calculate"),
    "crc32c": variants(flatstream.Crc32c, TwinCrc32c, "verify"),
    "crc64": variants(flatstream.Crc64, TwinCrc64, "calculate", "verify"),
    "xxhash64": variants(flatstream.XxHash64, TwinXxHash64, "calculate", "verify"),
}
VALIDATORS = {
    "none": variants(NoValidator, TwinNoValidator, "validate"),
    "size": variants(SizeValidator, TwinSizeValidator, "validate"),
    "all": variants(CompositeValidator, TwinCompositeValidator, "validate"),
}
FRAMERS = {
    "default": variants(DefaultFramer, TwinDefaultFramer, "frame_and_write"),
    "checksum": variants(ChecksumFramer, TwinChecksumFramer, "frame_and_write"),
    "bounded": variants(BoundedFramer, TwinBoundedFramer, "frame_and_write"),
    "observed": variants(ObserverFramer, TwinObserverFramer, "frame_and_write"),
    "validated": variants(ValidatingFramer, TwinValidatingFramer, "frame_and_write"),
}
DEFRAMERS = {
    "default": variants(DefaultDeframer, TwinDefaultDeframer, "locate", "check"),
    "checksum": variants(ChecksumDeframer, TwinChecksumDeframer, "locate", "check"),
    "bounded": variants(BoundedDeframer, TwinBoundedDeframer, "locate", "check"),
    "observed": variants(ObserverDeframer, TwinObserverDeframer, "locate", "check"),
    "validated": variants(ValidatingDeframer, TwinValidatingDeframer, "locate", "check"),
}


def test_twins_know_nothing_of_the_builtin_classes():
    """Else the comparisons below would compare a thing with itself."""
    for table, base in ((CHECKSUMS, Checksum), (VALIDATORS, Validator), (FRAMERS, Framer), (DEFRAMERS, Deframer)):
        for classes in table.values():
            twin, builtin, subclass = classes["twin"], classes["builtin"], classes["subclass"]
            compiled = [cls for cls in twin.__mro__ if cls.__module__.startswith("flatstream")]
            assert compiled == [base]
            assert builtin.__module__.startswith("flatstream._core")
            assert builtin in subclass.__mro__


# Chains. A chain is a base, ("default",) or ("checksum", name), and adapters around it, the outermost last.

Layer = tuple[Any, ...]
Chain = tuple[Layer, ...]


def make_validator(rule: Layer, choose: Iterator[str]) -> Any:
    kind, *arguments = rule
    cls = VALIDATORS[kind][next(choose)]
    if kind == "all":
        return cls(*(make_validator(inner, choose) for inner in arguments))
    return cls(*arguments)


def make_chain(
    table: dict[str, dict[str, Any]], chain: Chain, choose: Iterator[str], events: list[Any], **options: Any
) -> Any:
    """The framer or deframer that `chain` describes, each layer in the variant that `choose` says."""

    def observe(payload: memoryview) -> str:
        events.append(("observed", type(payload), payload.format, payload.readonly, bytes(payload)))
        return "ignored"

    def object_to(payload: memoryview) -> None:
        observe(payload)
        if bytes(payload[:1]) == b"!":
            raise KeyError("the observer's own error")

    made: Any = None
    for kind, *arguments in chain:
        cls = table[kind if kind != "objecting" else "observed"][next(choose)]
        if kind == "default":
            made = cls(**options)
        elif kind == "checksum":
            made = cls(CHECKSUMS[arguments[0]][next(choose)](), **options)
        elif kind == "bounded":
            made = cls(made, arguments[0])
        elif kind == "observed":
            made = cls(made, observe)
        elif kind == "objecting":
            made = cls(made, object_to)
        else:
            made = cls(made, make_validator(arguments[0], choose))
    return made


def choices(chain: Chain) -> int:
    """How many layers of `chain` have variants."""

    def count(layer: Any) -> int:
        if not isinstance(layer, tuple):
            return 0
        return (2 if layer[0] == "checksum" else 1) + sum(map(count, layer[1:]))

    return sum(map(count, chain))


def shape(error: BaseException) -> Any:
    """What of an error must be the same: its class and attributes. A validator's reason is wording."""
    kind, attributes = facts(error)
    attributes.pop("reason", None)
    return kind, attributes


SIZE_RULE = ("size", 2, 9)
ALL_RULE = ("all", ("none",), ("size", 1, 12), ("size", 0, 9))

ALONE: dict[str, Chain] = {
    "DefaultFramer": (("default",),),
    "ChecksumFramer_NoChecksum": (("checksum", "none"),),
    "ChecksumFramer_Crc16": (("checksum", "crc16"),),
    "ChecksumFramer_Crc32": (("checksum", "crc32"),),
    "ChecksumFramer_Crc32c": (("checksum", "crc32c"),),
    "ChecksumFramer_Crc64": (("checksum", "crc64"),),
    "ChecksumFramer_XxHash64": (("checksum", "xxhash64"),),
    "BoundedFramer": (("default",), ("bounded", 9)),
    "ObserverFramer": (("default",), ("observed",)),
    "ObserverFramer_that_raises": (("default",), ("objecting",)),
    "ValidatingFramer_NoValidator": (("default",), ("validated", ("none",))),
    "ValidatingFramer_SizeValidator": (("default",), ("validated", SIZE_RULE)),
    "ValidatingFramer_CompositeValidator": (("default",), ("validated", ALL_RULE)),
}

# Three adapters in every order, around a checksum.
NESTED: dict[str, Chain] = {
    "_in_".join(str(layer[0]) for layer in reversed(adapters)): (("checksum", "crc32"), *adapters)
    for adapters in itertools.permutations([("bounded", 9), ("objecting",), ("validated", SIZE_RULE)])
}

every_chain = pytest.mark.parametrize(
    "chain", [pytest.param(chain, id=name.replace("Framer", "")) for name, chain in (ALONE | NESTED).items()]
)

# Payloads around all of the limits above; one that the observer objects to.
PAYLOADS = [b"", b"a", b"ab", b"!objection", b"abcdefghi", b"abcdefghij", b"!abc", b"x" * 12, b"y" * 13, b"last one"]


def all_variants(chain: Chain) -> Iterator[tuple[str, ...]]:
    """Every way to choose the variants of a chain of three layers or fewer; of longer ones, builtin and twin only."""
    count = choices(chain)
    return itertools.product(VARIANTS if count <= 3 else VARIANTS[:2], repeat=count)


# Writing


def write_events(
    chain: Chain, chosen: Sequence[str], payloads: Sequence[bytes], way: str, buffer_size: int
) -> list[Any]:
    """All that happens when `payloads` are written: what is observed, what is raised, what arrives."""
    events: list[Any] = []
    framer = make_chain(FRAMERS, chain, iter(chosen), events)
    if way == "frame_and_write":
        return events_alone(framer, payloads, events)
    sink = PlainSink()
    with StreamWriter(sink, framer, buffer_size=buffer_size) as writer:
        for payload in payloads:
            try:
                if way == "write_payloads":
                    writer.write_payloads([payload, bytearray(payload)])
                else:
                    writer.write_payload(payload)
            except (FlatStreamError, KeyError) as error:
                events.append(shape(error))
            events.append((writer.frames_written, writer.bytes_written, writer.pending_bytes))
    events.append(sink.arrived())
    return events


def events_alone(framer: Any, payloads: Sequence[bytes], events: list[Any]) -> list[Any]:
    """The same for a framer that is called without a writer."""
    for payload in payloads:
        sink = io.BytesIO()
        try:
            # A memoryview, as from a writer: a twin hands on what it is given.
            events.append(framer.frame_and_write(sink, memoryview(payload)))
        except (FlatStreamError, KeyError) as error:
            events.append(shape(error))
        events.append(sink.getvalue())
    return events


@in_one_test
@pytest.mark.parametrize("way", ["write_payload", "write_payloads", "frame_and_write"])
@every_chain
def test_framers_and_their_twins_write_the_same(chain, way):
    expected = write_events(chain, ["builtin"] * choices(chain), PAYLOADS, way, 40)
    for chosen in all_variants(chain):
        assert write_events(chain, chosen, PAYLOADS, way, 40) == expected, chosen


def test_the_comparison_of_framers_sees_bytes_errors_and_observations():
    """What the test above compares is what it should be, written out for one chain."""
    chain = (("checksum", "crc16"), ("bounded", 9), ("objecting",))
    seen = ("observed", memoryview, "B", True)
    refusal = {"offset": 9, "frame": 1, "declared_len": 10, "buffer_len": 10, "limit": 9}
    for chosen in all_variants(chain):
        assert write_events(chain, chosen, [b"abc", b"abcdefghij", b"!"], "write_payload", 0) == [
            (*seen, b"abc"),
            (1, 9, 0),
            (*seen, b"abcdefghij"),
            (InvalidFrameError, refusal),
            (1, 9, 0),
            (*seen, b"!"),
            (KeyError, {}),
            (1, 9, 0),
            b"\x03\0\0\0\xd6\x9dabc",
        ]


# Reading


# Ways to read batches: the limits of frames and of bytes.
BATCHES = {"batch": (None, None), "batch_of_3_frames_or_7_bytes": (3, 7), "batch_of_3_bytes": (None, 3)}
WAYS = ["read_message", "process_all", *BATCHES, "recover"]


def read_events(
    chain: Chain, chosen: Sequence[str], open_source: Callable[[], Any], way: str, capacity: int, **options: Any
) -> list[Any]:
    """All that happens when a stream is read to its end and beyond: payloads, observations, errors, places."""
    events: list[Any] = []
    deframer = make_chain(DEFRAMERS, chain, iter(chosen), events, **options)
    if way == "recover":
        try:
            events.append(recover(open_source(), deframer, guard=False))
        except (FlatStreamError, KeyError) as error:
            events.append(shape(error))
        return events

    def process(payload: memoryview) -> None:
        events.append(("processed", bytes(payload)))

    fatal = 0
    with StreamReader(open_source(), deframer, capacity=capacity) as reader:
        # Errors that leave the position unknown come again: two of them are the end.
        while fatal < 2:
            result: Any = None
            try:
                if way == "read_message":
                    result = reader.read_message()
                elif way == "process_all":
                    result = reader.process_all(process)
                else:
                    result = reader.read_batch(*BATCHES[way])
            except (FlatStreamError, KeyError) as error:
                events.append(shape(error))
                fatal += isinstance(error, (InvalidFrameError, UnexpectedEofError))
            else:
                if isinstance(result, memoryview):
                    events.append(bytes(result))
                elif isinstance(result, flatstream.FrameBatch):
                    events.append(([bytes(view) for view in result], result.stream_offset, bytes(result.buffer)))
                else:
                    events.append(result)
                    break
            events.append((reader.frames_read, reader.bytes_read, reader.offset))
            # After a batch it says nothing.
            if way not in BATCHES:
                events.append(reader.message_offset)
    return events


def streams_for(name: str) -> dict[str, bytes]:
    """Good and bad streams in one checksum mode."""
    good = reference.encode(PAYLOADS, name)
    size = 4 + reference.ALGORITHMS[name].size
    mismatches = bytearray(good)
    # In the third payload, the fourth (which an observer objects to) and the last.
    third, fourth = 3 * size + 1, 4 * size + 3
    for place in (third, fourth, len(good) - 1):
        mismatches[place] ^= 0x04
    long = reference.encode([b"ab", b"z" * 300, b"cd"], name)
    lying = reference.encode([b"abc", b"de"], name) + b"\xff\xff\xff\xff" + bytes(20)
    return {
        "good": good,
        "nothing": b"",
        "mismatches": bytes(mismatches),
        "torn_in_payload": good[:-3],
        "torn_in_header": good + b"\x05\0",
        "empty_among_others": reference.encode([b"a", b"bc", b"", b"", b"d", b"", b"efg", b"", b"h"], name),
        "long_frame": long,
        "lying_length": lying,
        "zeros": good + bytes(37),
    }


def checksum_of(chain: Chain) -> str:
    return chain[0][1] if chain[0][0] == "checksum" else "none"


SOURCES_AND_CAPACITIES: dict[str, tuple[Callable[[bytes], Any], int]] = {
    "buffer": (lambda data: data, 1),
    "bytesio": (io.BytesIO, 64),
    "pieces": (lambda data: CutSource(data, range(0, len(data), 5)), 8),
}


@in_one_test(step=2)
@pytest.mark.parametrize("way", WAYS)
@every_chain
def test_deframers_and_their_twins_read_the_same(chain, way):
    for name, data in streams_for(checksum_of(chain)).items():
        expected = {
            kind: read_events(chain, ["builtin"] * choices(chain), lambda: open_source(data), way, capacity)  # noqa: B023
            for kind, (open_source, capacity) in SOURCES_AND_CAPACITIES.items()
        }
        # Every variant over one of the sources in turn: all of them over all would take too long.
        kinds = itertools.cycle(SOURCES_AND_CAPACITIES)
        for chosen, kind in zip(spread(all_variants(chain), 2), kinds, strict=False):
            open_source, capacity = SOURCES_AND_CAPACITIES[kind]
            found = read_events(chain, chosen, lambda: open_source(data), way, capacity)  # noqa: B023
            assert found == expected[kind], (name, kind, chosen)


@in_one_test(step=3)
@pytest.mark.parametrize("options", [{"allow_empty": False}, {"max_frame_len": 9}, {"max_frame_len": 0}])
@pytest.mark.parametrize("base", [("default",), ("checksum", "crc32"), ("checksum", "none")], ids=lambda base: base[-1])
@pytest.mark.parametrize("bound", [None, 5, 9, 12])
def test_limits_of_deframers_and_their_twins_are_the_same(base, bound, options):
    chain = (base,) if bound is None else (base, ("bounded", bound))
    for name, data in streams_for(checksum_of(chain)).items():
        for way, source in itertools.product(["read_message", "batch", "recover"], [io.BytesIO, bytes]):
            expected = None
            for chosen in all_variants(chain):
                found = read_events(chain, chosen, lambda: source(data), way, 64, **options)  # noqa: B023
                expected = expected or found
                assert found == expected, (name, way, chosen)


def test_the_comparison_of_deframers_sees_payloads_errors_and_observations():
    """What the tests above compare is what it should be, written out for one chain."""
    chain = (("checksum", "crc16"), ("objecting",), ("validated", SIZE_RULE))
    data = reference.encode([b"abc", b"a", b"!b", b"defg", b"xy"], "crc16").replace(b"defg", b"defh")[:-1]
    stored, calculated = reference.crc16_xmodem(b"defg"), reference.crc16_xmodem(b"defh")
    seen = ("observed", memoryview, "B", True)
    torn = (UnexpectedEofError, {"offset": 34, "frame": 4, "needed": 8, "got": 7})
    for chosen in all_variants(chain):
        assert read_events(chain, chosen, lambda: data, "read_message", 1) == [
            (*seen, b"abc"),
            b"abc",
            (1, 9, 9),
            0,
            (*seen, b"a"),
            (ValidationFailedError, {"offset": 9, "frame": 1, "validator": "SizeValidator", "path": ""}),
            (1, 9, 16),
            0,
            (*seen, b"!b"),
            (KeyError, {}),
            (1, 9, 24),
            0,
            (ChecksumMismatchError, {"offset": 24, "frame": 3, "expected": stored, "calculated": calculated}),
            (1, 9, 34),
            0,
            torn,
            (1, 9, 34),
            0,
            torn,
            (1, 9, 34),
            0,
        ]


# Random chains


rules = st.recursive(
    st.one_of(
        st.just(("none",)),
        st.tuples(st.integers(0, 6), st.integers(0, 40)).map(lambda sizes: ("size", sizes[0], sum(sizes))),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda validators: ("all", *validators)),
    max_leaves=4,
)
chains = st.tuples(
    st.one_of(st.just(("default",)), st.sampled_from([("checksum", name) for name in CHECKSUMS])),
    st.lists(
        st.one_of(
            st.tuples(st.just("bounded"), st.integers(0, 50)),
            st.just(("observed",)),
            st.just(("objecting",)),
            st.tuples(st.just("validated"), rules),
        ),
        max_size=4,
    ),
).map(lambda parts: (parts[0], *parts[1]))
payload_lists = st.lists(st.binary(max_size=12) | st.binary(max_size=60) | st.sampled_from(PAYLOADS), max_size=8)


def draw_variants(data: st.DataObject, chain: Chain) -> list[str]:
    return [data.draw(st.sampled_from(VARIANTS)) for _ in range(choices(chain))]


@given(
    data=st.data(),
    chain=chains,
    payloads=payload_lists,
    way=st.sampled_from(["write_payload", "write_payloads", "frame_and_write"]),
    buffer_size=st.sampled_from([0, 1, 30, 65536]),
)
def test_random_chain_of_framers_in_any_variants_writes_the_same(data, chain, payloads, way, buffer_size):
    expected = write_events(chain, ["builtin"] * choices(chain), payloads, way, buffer_size)
    for _ in range(4):
        chosen = draw_variants(data, chain)
        assert write_events(chain, chosen, payloads, way, buffer_size) == expected, chosen


@given(
    data=st.data(),
    chain=chains,
    payloads=payload_lists,
    way=st.sampled_from(WAYS),
    capacity=st.sampled_from([1, 20, 1000]),
)
def test_random_chain_of_deframers_in_any_variants_reads_the_same(data, chain, payloads, way, capacity):
    damaged = bytearray(reference.encode(payloads, checksum_of(chain)))
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    stream = bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
    cuts = data.draw(st.lists(st.integers(0, 300), max_size=5))
    make_source: Callable[[], Any] = data.draw(
        st.sampled_from([lambda: stream, lambda: CutSource(stream, cuts), lambda: CutReadSource(stream, cuts)])
    )
    options = {"allow_empty": data.draw(st.booleans()), "max_frame_len": data.draw(st.sampled_from([2**31, 30]))}
    expected = read_events(chain, ["builtin"] * choices(chain), make_source, way, capacity, **options)
    for _ in range(4):
        chosen = draw_variants(data, chain)
        assert read_events(chain, chosen, make_source, way, capacity, **options) == expected, chosen


# Strategies by themselves


@pytest.mark.parametrize("variant", ["twin", "subclass"])
@pytest.mark.parametrize("name", CHECKSUMS)
@given(payload=st.binary(max_size=300), difference=st.integers(-3, 2**66))
def test_checksum_and_its_twin_calculate_and_verify_the_same(name, variant, payload, difference):
    builtin, other = CHECKSUMS[name]["builtin"](), CHECKSUMS[name][variant]()
    assert (other.size, other.calculate(payload)) == (builtin.size, builtin.calculate(payload))
    expected = builtin.calculate(payload) + difference
    outcomes = []
    for checksum in (builtin, other):
        try:
            outcomes.append(checksum.verify(expected, payload))
        except ChecksumMismatchError as error:
            outcomes.append(shape(error))
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0] is None) == (difference % 2 ** (8 * builtin.size) == 0)


@given(data=st.data(), rule=rules, payload=st.binary(max_size=50))
def test_validator_and_its_twin_accept_and_refuse_the_same(data, rule, payload):
    outcomes: list[Any] = []
    for chosen in (["builtin"] * choices((rule,)), *(draw_variants(data, (rule,)) for _ in range(3))):
        for form in (bytes, bytearray, memoryview):
            try:
                outcomes.append(make_validator(rule, iter(chosen)).validate(form(payload)))
            except ValidationFailedError as error:
                outcomes.append((shape(error), error.reason != ""))
    assert outcomes == outcomes[:1] * 12


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("checksum", CHECKSUMS)
@given(data=st.binary(max_size=40), max_frame_len=st.sampled_from([2**31, 20, 0]), allow_empty=st.booleans())
def test_locate_and_check_called_from_python_say_the_same(checksum, variant, data, max_frame_len, allow_empty):
    outcomes = []
    for chosen in ("builtin", variant):
        deframer = DEFRAMERS["checksum"][chosen](
            CHECKSUMS[checksum][chosen](), max_frame_len=max_frame_len, allow_empty=allow_empty
        )
        try:
            found = deframer.locate(data)
            outcomes.append(found if isinstance(found, int) else tuple(found))
            if not isinstance(found, int) and found[2] <= len(data):
                frame = memoryview(data)[: found[2]]
                outcomes.append(deframer.check(frame, frame[found[0] : found[1]]))
        except FlatStreamError as error:
            outcomes.append(shape(error))
    half = len(outcomes) // 2
    assert outcomes[:half] == outcomes[half:]


@pytest.mark.parametrize("variant", VARIANTS)
def test_fluent_methods_wrap_every_variant(variant):
    seen: list[bytes] = []
    framer = FRAMERS["checksum"][variant](CHECKSUMS["crc32"][variant]())
    deframer = DEFRAMERS["checksum"][variant](CHECKSUMS["crc32"][variant]())
    validator = VALIDATORS["size"][variant](1, 5)

    sink = PlainSink()
    chain = framer.bounded(8).observed(lambda payload: seen.append(bytes(payload))).with_validator(validator)
    with StreamWriter(sink, chain) as writer:
        writer.write_payload(b"abc")
        for refused in (b"", b"abcdef"):
            with pytest.raises(ValidationFailedError):
                writer.write_payload(refused)
    assert sink.arrived() == reference.encode([b"abc"], "crc32")
    assert seen == [b"abc"]

    stream = reference.encode([b"abc", b"abcdef", b"de", b"abcdefghi"], "crc32")
    chain = (
        deframer.with_max_frame_len(8).observed(lambda payload: seen.append(bytes(payload))).with_validator(validator)
    )
    with StreamReader(stream, chain) as reader:
        assert bytes(next(reader)) == b"abc"
        with pytest.raises(ValidationFailedError):
            reader.read_message()
        assert bytes(next(reader)) == b"de"
        with pytest.raises(InvalidFrameError) as caught:
            reader.read_message()
    assert (caught.value.declared_len, caught.value.limit, caught.value.offset) == (9, 8, 35)
    assert seen == [b"abc", b"abc", b"abcdef", b"de"]


# Memory policies


class Recording:
    """Keeps what a policy is told."""

    def on_reclaim(self, info):
        self.__dict__.setdefault("infos", []).append(info)


class TwinNoOpPolicy(Recording, MemoryPolicy):
    def should_reset(self, last_message_size, current_capacity):
        return None


class TwinAdaptiveWatermarkPolicy(Recording, MemoryPolicy):
    baseline_capacity: int

    def __init__(self, size_ratio_threshold=4, messages_to_wait=5, cooldown=None, *, baseline_capacity, clock):
        self.ratio = size_ratio_threshold
        self.wait = messages_to_wait
        self.cooldown = cooldown
        self.baseline_capacity = baseline_capacity
        self.clock = clock
        self.wasteful_times: list[float] = []

    def should_reset(self, last_message_size, current_capacity):
        if last_message_size == 0 or current_capacity / last_message_size < self.ratio:
            self.wasteful_times = []
            return None
        self.wasteful_times.append(0 if self.cooldown is None else self.clock())
        if self.cooldown is not None and self.wasteful_times[-1] - self.wasteful_times[0] >= self.cooldown:
            reason = ReclamationReason.TIME_COOLDOWN
        elif len(self.wasteful_times) >= self.wait:
            reason = ReclamationReason.MESSAGE_COUNT
        else:
            return None
        self.wasteful_times = []
        return reason


class TwinSizeThresholdPolicy(Recording, MemoryPolicy):
    baseline_capacity: int

    def __init__(self, grow_above_bytes=1 << 20, shrink_below_bytes=1 << 10, messages_to_wait=8, *, baseline_capacity):
        self.large = grow_above_bytes
        self.small = shrink_below_bytes
        self.wait = messages_to_wait
        self.baseline_capacity = baseline_capacity
        # How many small messages have come in a row since the last large one; None before there was a large one.
        self.small_in_a_row: int | None = None

    def should_reset(self, last_message_size, current_capacity):
        if last_message_size > self.large:
            self.small_in_a_row = 0
        elif self.small_in_a_row is not None:
            self.small_in_a_row = self.small_in_a_row + 1 if last_message_size < self.small else 0
            if self.small_in_a_row == self.wait:
                self.small_in_a_row = None
                return ReclamationReason.SIZE_THRESHOLD
        return None


POLICIES = {
    "noop": (NoOpPolicy, TwinNoOpPolicy),
    "adaptive": (AdaptiveWatermarkPolicy, TwinAdaptiveWatermarkPolicy),
    "threshold": (SizeThresholdPolicy, TwinSizeThresholdPolicy),
}


@st.composite
def policy_pairs(draw: st.DrawFn, kind: str) -> tuple[list[Any], list[Clock]]:
    """A built-in policy that records, its twin, and their clocks."""
    clocks = [Clock(), Clock()]
    baseline = draw(st.sampled_from([0, 64, 200]))
    arguments: tuple[Any, ...] = ()
    if kind == "adaptive":
        arguments = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.sampled_from([None, 0, 0.5, 3])))
    elif kind == "threshold":
        arguments = (draw(st.integers(0, 300)), draw(st.integers(0, 200)), draw(st.integers(1, 4)))
    builtin, twin = POLICIES[kind]
    policies = []
    for cls, clock in zip((type(builtin.__name__, (Recording, builtin), {}), twin), clocks, strict=True):
        options: dict[str, Any] = {"clock": clock} if kind == "adaptive" else {}
        if kind != "noop":
            options["baseline_capacity"] = baseline
        policies.append(cls(*arguments, **options))
    return policies, clocks


every_policy = pytest.mark.parametrize("kind", POLICIES)
sizes = st.one_of(st.integers(0, 30), st.integers(0, 600))
steps = st.lists(st.tuples(sizes, st.integers(0, 2000), st.sampled_from([0, 0.25, 1, 5])), max_size=40)


@every_policy
@given(data=st.data(), messages=steps)
def test_policy_and_its_twin_decide_the_same(kind, data, messages):
    policies, clocks = data.draw(policy_pairs(kind))
    assert policies[0].baseline_capacity == policies[1].baseline_capacity
    for size, capacity, seconds in messages:
        for clock in clocks:
            clock.now += seconds
        decisions = [policy.should_reset(size, capacity) for policy in policies]
        assert decisions[0] is decisions[1]
        assert clocks[0].asked == clocks[1].asked


@every_policy
@given(data=st.data(), messages=steps)
def test_writer_reclaims_the_same_with_a_policy_and_with_its_twin(kind, data, messages):
    policies, clocks = data.draw(policy_pairs(kind))
    runs = []
    for policy, clock in zip(policies, clocks, strict=True):
        capacities = []
        sink = io.BytesIO()
        with StreamWriter(sink, memory_policy=policy, capacity=16) as writer:
            for size, _, seconds in messages:
                clock.now += seconds
                writer.write(BytesItem(bytes(size)))
                capacities.append(len(writer.builder.Bytes))
        runs.append((capacities, getattr(policy, "infos", []), sink.getvalue(), clock.asked))
    assert runs[0] == runs[1]
    for info in runs[0][1]:
        assert info.capacity_after == policies[0].baseline_capacity < info.capacity_before


@every_policy
@given(data=st.data(), messages=steps)
def test_reader_reclaims_the_same_with_a_policy_and_with_its_twin(kind, data, messages):
    policies, clocks = data.draw(policy_pairs(kind))
    payloads = [bytes([index]) * size for index, (size, _, _) in enumerate(messages)]
    stream = reference.encode(payloads, "none")
    runs = []
    for policy, clock in zip(policies, clocks, strict=True):
        capacities = []
        with StreamReader(io.BytesIO(stream), capacity=32, memory_policy=policy) as reader:
            for (_, _, seconds), payload in zip(messages, payloads, strict=True):
                clock.now += seconds
                assert reader.read_message() == payload
                capacities.append(reader.buffer_capacity)
            assert reader.read_message() is None
        runs.append((capacities, getattr(policy, "infos", []), clock.asked))
    assert runs[0] == runs[1]


@in_one_test
@pytest.mark.parametrize(
    ("kind", "sizes", "expected"),
    [
        ("adaptive", [1000, 10, 10, 10], [(ReclamationReason.MESSAGE_COUNT, 20, 64)]),
        ("threshold", [1000, 10, 10, 10], [(ReclamationReason.SIZE_THRESHOLD, 20, 64)]),
        ("noop", [1000, 10, 10, 10], []),
    ],
)
@pytest.mark.parametrize("which", [0, 1], ids=["builtin", "twin"])
def test_the_comparison_of_policies_sees_what_they_reclaim(kind, which, sizes, expected):
    """What the tests above compare does happen: one large message, then small ones, in simple mode."""
    cls = POLICIES[kind][which]
    recording = cls if which else type(cls.__name__, (Recording, cls), {})
    arguments = {"adaptive": (4, 3, None), "threshold": (500, 100, 3), "noop": ()}[kind]
    options: dict[str, Any] = {} if kind == "noop" else {"baseline_capacity": 64}
    if kind == "adaptive":
        options["clock"] = Clock()
    policy = recording(*arguments, **options)
    with StreamWriter(io.BytesIO(), memory_policy=policy, capacity=16) as writer:
        for size in sizes:
            writer.write(BytesItem(bytes(size)))
        assert len(writer.builder.Bytes) == (64 if expected else 1024)
    infos = getattr(policy, "infos", [])
    assert [(info.reason, info.last_message_size, info.capacity_after) for info in infos] == expected
