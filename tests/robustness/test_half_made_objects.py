"""Objects whose ``__init__`` was not called, failed, or was called twice; adapters around themselves: errors, no crash.

Each runs in a process of its own, since what is tested is that it survives. In compiled classes no attribute is
missing: what nobody has set is None or 0 in there, and must not be followed.
"""

from __future__ import annotations

import pytest

from support.extent import in_one_test
from support.processes import survives

# __init__ was not called

TRANSFORM_FRAMERS = ["TransformFramer", "CompressedFramer", "EncryptedFramer"]
TRANSFORM_DEFRAMERS = ["TransformDeframer", "CompressedDeframer", "EncryptedDeframer"]
FRAMERS = ["ChecksumFramer", "BoundedFramer", "ObserverFramer", "ValidatingFramer", *TRANSFORM_FRAMERS]
DEFRAMERS = [
    "DefaultDeframer",
    "ChecksumDeframer",
    "BoundedDeframer",
    "ObserverDeframer",
    "ValidatingDeframer",
    *TRANSFORM_DEFRAMERS,
]
OTHERS = [
    "StreamReader",
    "StreamWriter",
    "FrameParser",
    "FrameSerializer",
    "FrameBatch",
    "ZstdCompressor",
    "Lz4Compressor",
    "Aes256Gcm",
    "ChaCha20Poly1305",
    "JsonSerializer",
    "MessagePackSerializer",
    "flatstream.aio.AsyncStreamReader",
    "flatstream.aio.AsyncStreamWriter",
    "flatstream.aio.AsyncFileReader",
    "flatstream.aio.AsyncFileWriter",
    "flatstream.aio.AsyncRecordWriter",
    "flatstream.aio.Connection",
    "flatstream.aio.Server",
    "SizeValidator",
    "CompositeValidator",
    "AdaptiveWatermarkPolicy",
    "SizeThresholdPolicy",
]


@in_one_test
@pytest.mark.parametrize("name", FRAMERS)
def test_framer_that_forgets_super_init_is_refused_when_writing(name: str) -> None:
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
write_with(Forgetful())
write_with(Forgetful().bounded(5))
write_with(BoundedFramer(Forgetful(), 100).observed(len))
attempt(Forgetful().frame_and_write, io.BytesIO(), b"abc")
"""
    assert survives(code) == ["TypeError Forgetful.__init__ was not called"] * 4


@in_one_test
@pytest.mark.parametrize("name", FRAMERS)
def test_framer_with_a_start_of_its_own_that_forgets_super_init_is_refused(name: str) -> None:
    # The default `start` refuses it when the writer is made; with this one, the first message does.
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
    def start(self, after=None): return self
write_with(Forgetful())
write_with(Forgetful().bounded(5))
serializer = attempt(FrameSerializer, Forgetful())
if serializer is not None:
    attempt(serializer.write_payload, b"abc")
"""
    lines = survives(code)
    assert [line for line in lines if line != "no error FrameSerializer"] == (
        ["TypeError Forgetful.__init__ was not called"] * 3
    )


@in_one_test
@pytest.mark.parametrize("name", DEFRAMERS)
def test_deframer_that_forgets_super_init_is_refused_when_reading(name: str) -> None:
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
read_with(Forgetful())
read_with(Forgetful().bounded(5))
attempt(Forgetful().locate, b"\\x03\\x00\\x00\\x00abc")
frame = memoryview(b"\\x03\\x00\\x00\\x00abc")
attempt(Forgetful().check, frame, frame[4:])
attempt(recover, TWO_FRAMES, Forgetful())
"""
    assert survives(code) == ["TypeError Forgetful.__init__ was not called"] * 11


@in_one_test
@pytest.mark.parametrize("name", DEFRAMERS)
def test_deframer_with_a_start_of_its_own_that_forgets_super_init_is_refused(name: str) -> None:
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
    def start(self): return self
read_with(Forgetful())
read_with(Forgetful().bounded(5))
def parse():
    parser = FrameParser(Forgetful())
    parser.feed(TWO_FRAMES)
    return parser.read_message()
attempt(parse)
"""
    assert survives(code) == ["TypeError Forgetful.__init__ was not called"] * 9


@in_one_test
@pytest.mark.parametrize("name", DEFRAMERS)
def test_deframer_with_a_locate_of_its_own_that_forgets_super_init_is_refused(name: str) -> None:
    # It gets as far as the check, which is its base's.
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
    def locate(self, data): return FrameSpan(4, 7, 7)
read_with(Forgetful())
attempt(recover, TWO_FRAMES, Forgetful())
attempt(recover, TWO_FRAMES[:9], Forgetful())
"""
    assert survives(code) == ["TypeError Forgetful.__init__ was not called"] * 6


@pytest.mark.parametrize("name", ["StreamReader", "StreamWriter"])
def test_stream_that_forgets_super_init_refuses_everything(name: str) -> None:
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
stream = Forgetful()
calls = {{
    "StreamReader": ["read_message", "__next__", "read_batch", "detach"],
    "StreamWriter": ["flush", "detach"],
}}
for method in calls[{name!r}]:
    attempt(getattr(stream, method))
if {name!r} == "StreamReader":
    attempt(stream.process_all, len)
    attempt(list, stream.batches())
else:
    attempt(stream.write_payload, b"abc")
    attempt(stream.write_payloads, [b"abc"])
"""
    lines = survives(code)
    assert len(lines) == {"StreamReader": 6, "StreamWriter": 4}[name]
    assert not [line for line in lines if line.startswith("no error")]


@pytest.mark.parametrize("name", ["SizeValidator", "CompositeValidator"])
def test_validator_that_forgets_super_init_is_refused(name: str) -> None:
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
attempt(lambda: StreamWriter(io.BytesIO(), DefaultFramer().with_validator(Forgetful())).write_payload(b"abc"))
attempt(lambda: StreamReader(TWO_FRAMES, DefaultDeframer().with_validator(Forgetful())).read_message())
attempt(Forgetful().validate, b"abc")
"""
    lines = survives(code)
    assert len(lines) == 3
    assert not [line for line in lines if line.startswith("no error")]


@pytest.mark.parametrize("name", ["AdaptiveWatermarkPolicy", "SizeThresholdPolicy"])
def test_policy_that_forgets_super_init_is_refused(name: str) -> None:
    code = f"""
class Forgetful({name}):
    def __init__(self): pass
attempt(lambda: StreamReader(TWO_FRAMES, memory_policy=Forgetful()))
attempt(lambda: StreamWriter(io.BytesIO(), memory_policy=Forgetful()))
attempt(Forgetful().should_reset, 1, 100000)
"""
    lines = survives(code)
    assert len(lines) == 3
    assert all(line.startswith("TypeError") for line in lines), lines


EVERY_MEMBER = """
import flatstream.aio

class Forgetful({name}):
    def __init__(self): pass

def use(value):
    for name in sorted(dir(value)):
        if name in ("__init__", "__class__", "__getattribute__", "__del__", "__init_subclass__", "__subclasshook__"):
            continue
        try:
            member = getattr(value, name)
        except Exception:
            continue
        if not callable(member):
            continue
        frame = memoryview(b"\\x03\\x00\\x00\\x00abc")
        for arguments in ((), (0,), (b"abc",), (frame, frame[4:]), (io.BytesIO(), b"abc"), (None,), (1, 2), ([b"a"],)):
            try:
                member(*arguments)
            except Exception:
                pass

use(Forgetful())
use({name}.__new__({name}))
print("survived")
"""


@in_one_test
@pytest.mark.parametrize("name", FRAMERS + DEFRAMERS + OTHERS)
def test_every_member_of_an_object_that_was_not_made_survives_being_used(name: str) -> None:
    assert survives(EVERY_MEMBER.format(name=name))[-1] == "survived"


# __init__ failed, and the object is used all the same

HALF = """
class Half({name}):
    def __init__(self, *arguments, **options):
        try:
            super().__init__(*arguments, **options)
        except (TypeError, ValueError):
            pass
"""


@in_one_test
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ChecksumFramer", "Half(5)"),
        ("BoundedFramer", "Half(DefaultFramer(), -1)"),
        ("ObserverFramer", "Half(DefaultFramer(), 5)"),
        ("ValidatingFramer", "Half(DefaultFramer(), 5)"),
        ("ValidatingFramer", "Half(5, NoValidator())"),
        ("TransformFramer", "Half(5)"),
        ("CompressedFramer", "Half(5, ZstdCompressor())"),
        ("CompressedFramer", "Half(DefaultFramer(), 5)"),
        ("EncryptedFramer", "Half(5, Aes256Gcm(bytes(32)))"),
        ("EncryptedFramer", "Half(DefaultFramer(), 5)"),
    ],
)
def test_framer_whose_init_failed_is_refused_when_writing(name: str, arguments: str) -> None:
    lines = survives(HALF.format(name=name) + f"write_with({arguments})\nwrite_with({arguments}.bounded(9))")
    assert len(lines) == 2
    assert not [line for line in lines if line.startswith("no error")]


@in_one_test
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ChecksumDeframer", "Half(5)"),
        ("ChecksumDeframer", "Half(Crc32(), max_frame_len=-1)"),
        ("BoundedDeframer", "Half(DefaultDeframer(), -1)"),
        ("ObserverDeframer", "Half(DefaultDeframer(), 5)"),
        ("ValidatingDeframer", "Half(DefaultDeframer(), 5)"),
        ("ValidatingDeframer", "Half(5, NoValidator())"),
        ("TransformDeframer", "Half(5)"),
        ("CompressedDeframer", "Half(5)"),
        ("CompressedDeframer", "Half(DefaultDeframer(), 5)"),
        ("EncryptedDeframer", "Half(5, Aes256Gcm(bytes(32)))"),
        ("EncryptedDeframer", "Half(DefaultDeframer(), 5)"),
    ],
)
def test_deframer_whose_init_failed_is_refused_when_reading(name: str, arguments: str) -> None:
    lines = survives(HALF.format(name=name) + f"read_with({arguments})\nattempt(recover, TWO_FRAMES, {arguments})")
    assert len(lines) == 5
    assert not [line for line in lines if line.startswith("no error")]


def test_stream_whose_init_failed_is_refused() -> None:
    code = (
        HALF.format(name="StreamReader")
        + "attempt(Half(TWO_FRAMES, 5).read_message)\nattempt(Half(TWO_FRAMES, capacity=0).read_batch)\n"
        + HALF.format(name="FrameParser")
        + "attempt(Half(5).read_message)\nattempt(Half(capacity=0).feed, b'abc')\n"
        + HALF.format(name="FrameSerializer")
        + "attempt(Half(5).write_payload, b'abc')\nattempt(Half(buffer_size=-1).write_payload, b'abc')\n"
        + HALF.format(name="StreamWriter")
        + "attempt(Half(io.BytesIO(), 5).write_payload, b'abc')\n"
        + "attempt(Half(io.BytesIO(), buffer_size=-1).write_payload, b'abc')\n"
    )
    lines = survives(code)
    assert len(lines) == 8
    assert not [line for line in lines if line.startswith("no error")]


# __init__ called again


def test_calling_init_again_survives() -> None:
    code = """
import itertools
makers = [lambda: TWO_FRAMES, lambda: io.BytesIO(TWO_FRAMES), lambda: b"", lambda: io.BytesIO(TWO_FRAMES * 1000)]
for first, second in itertools.product(makers, makers):
    for reads in (0, 1, 2):
        reader = StreamReader(first(), capacity=16)
        kept = []
        for number in range(reads):
            try:
                kept.append(reader.read_message())
            except Exception:
                pass
        for deframer in (None, ChecksumType.CRC32):
            try:
                reader.__init__(second(), deframer)
                for payload in reader:
                    kept.append(bytes(payload))
                reader.read_batch()
                reader.detach()
            except Exception:
                pass
        list(map(lambda view: view and bytes(view), kept))
writer = StreamWriter(io.BytesIO(), buffer_size=100)
for size in (0, 10, 100, 1000):
    writer.write_payload(b"abc")
    try:
        writer.__init__(io.BytesIO(), ChecksumType.CRC32, buffer_size=size)
    except Exception:
        pass
    writer.write_payload(b"x" * 50)
writer.close()
print("survived")
"""
    assert survives(code) == ["survived"]


# Adapters around themselves, and too many of them

AROUND_ITSELF = {
    "framer": "a = DefaultFramer().bounded(9)\nattempt(a.__init__, a, 9)\nwrite_with(a)",
    "deframer": "a = DefaultDeframer().bounded(9)\nattempt(a.__init__, a, 9)\nread_with(a)",
    "validator": (
        "a = CompositeValidator(NoValidator())\nattempt(a.__init__, a)\n"
        "attempt(a.validate, b'abc')\nwrite_with(DefaultFramer().with_validator(a))"
    ),
}


@pytest.mark.parametrize("kind", list(AROUND_ITSELF))
def test_adapter_around_itself_survives(kind: str) -> None:
    lines = survives(AROUND_ITSELF[kind])
    # Refused when it is made, or when it is used.
    assert [line for line in lines if not line.startswith("no error")]


@in_one_test
@pytest.mark.parametrize("strategy", ["DefaultFramer()", "DefaultDeframer()"])
@pytest.mark.parametrize("count", [1000, 300_000])
def test_very_many_adapters_survive(count: int, strategy: str) -> None:
    use = "write_with" if "Framer" in strategy else "read_with"
    code = f"""
chain = {strategy}
try:
    for number in range({count}):
        chain = chain.bounded(100)
except RecursionError:
    print("no more")
{use}(chain)
del chain
print("survived")
"""
    assert survives(code)[-1] == "survived"


# Copies


def test_copies_of_public_objects_survive() -> None:
    code = """
import copy, pickle
reader = StreamReader(TWO_FRAMES)
things = [
    StreamReader(TWO_FRAMES).read_batch(), reader, StreamWriter(io.BytesIO()),
    Crc32(), XxHash64(), ChecksumFramer(Crc16()), DefaultFramer().bounded(5), ChecksumDeframer(Crc16()),
    DefaultDeframer().bounded(5).observed(len).with_validator(NoValidator()), SizeValidator(1, 5),
    CompositeValidator(SizeValidator(1, 5)), AdaptiveWatermarkPolicy(), SizeThresholdPolicy(), NoOpPolicy(),
]
for thing in things:
    for make in (copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        try:
            copied = make(thing)
        except Exception:
            continue
        repr(copied)
        if isinstance(copied, FrameBatch):
            assert [bytes(payload) for payload in copied] == [b"abc", b"de"]
        if isinstance(copied, SizeValidator):
            copied.validate(b"abc")
        if isinstance(copied, Framer):
            copied.frame_and_write(io.BytesIO(), b"abc")
        if isinstance(copied, Deframer):
            copied.locate(TWO_FRAMES)
        if isinstance(copied, (StreamReader, StreamWriter)):
            raise SystemExit("two streams that share one position")
print("survived")
"""
    assert survives(code) == ["survived"]
