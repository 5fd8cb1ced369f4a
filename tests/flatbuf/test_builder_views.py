"""Views of a finished message hold what they showed; and the limits of a builder."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import io
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.builder import (
    BuilderSizeError,
)
from hypothesis import given
from hypothesis import strategies as st

from flatstream import Builder
from support.builders import Twins, finished_builder
from support.extent import in_one_test
from support.memory import address
from support.messages import outcome, written_by
from support.schemas import ROOT

# Views of a finished message


def test_view_is_read_only_bytes_at_the_address_of_the_buffer():
    builder = finished_builder()
    expected = bytes(builder.Output())
    view = memoryview(builder)
    assert (view.readonly, view.format, view.itemsize, view.ndim, view.shape, view.contiguous) == (
        True,
        "B",
        1,
        1,
        (len(expected),),
        True,
    )
    assert view == expected
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    there = address(view)
    del view
    # Nobody looks any more, so that Bytes is still the same memory.
    assert address(builder.Bytes) + builder.Head() == there


@in_one_test
@pytest.mark.parametrize(
    "take",
    [
        bytes,
        bytearray,
        lambda b: bytes(np.frombuffer(b, np.uint8)),
        lambda b: b"".join([b]),
        lambda b: io.BytesIO(b).getvalue(),
    ],
    ids=["bytes", "bytearray", "numpy", "join", "BytesIO"],
)
def test_finished_builder_is_bytes_like(take):
    builder = finished_builder(b"abc")
    assert take(builder) == bytes.fromhex("04000000 03000000 616263 00")
    assert hashlib.sha256(builder).digest() == hashlib.sha256(builder.Output()).digest()


def test_writable_buffer_of_the_builder_is_refused():
    builder = finished_builder()
    with pytest.raises((TypeError, BufferError)):
        io.BytesIO(bytes(64)).readinto(builder)
    assert not np.frombuffer(builder, np.uint8).flags.writeable
    with pytest.raises((TypeError, BufferError)):
        (ctypes.c_char * 4).from_buffer(builder)


@pytest.mark.parametrize("unfinished", [lambda b: None, lambda b: b.CreateString("x"), lambda b: b.StartObject(1)])
def test_unfinished_builder_gives_no_view(unfinished):
    builder = Builder(64)
    unfinished(builder)
    for take in (memoryview, bytes, lambda b: np.frombuffer(b, np.uint8)):
        with pytest.raises(BufferError, match="is not finished: call its Finish"):
            take(builder)


DEEDS: dict[str, Callable[[Any], Any]] = {
    "clear": lambda b: b.Clear(),
    "clear and build": lambda b: (b.Clear(), b.Finish(b.CreateByteVector(b"\xff" * 40))),
    "clear twice": lambda b: (b.Clear(), b.Clear(), b.Finish(b.CreateByteVector(b"\xff" * 3))),
    "number": lambda b: b.PrependUint8(255),
    "numbers": lambda b: [b.PrependUint64(2**64 - 1) for _ in range(20)],
    "string": lambda b: b.CreateString("\xff" * 9),
    "shared string": lambda b: b.CreateSharedString("\xff" * 9),
    "bytes": lambda b: b.CreateByteVector(b"\xff" * 9),
    "bytearray": lambda b: b.CreateByteVector(bytearray(b"\xff" * 9)),
    "numpy": lambda b: b.CreateNumpyVector(np.full(3, -1)),
    "much": lambda b: b.CreateByteVector(b"\xff" * 5000),
    "table": lambda b: (b.StartObject(2), b.PrependUint32Slot(1, 2**32 - 1, 0), b.EndObject()),
    "two tables": lambda b: [(b.StartObject(2), b.PrependUint32Slot(1, 2**32 - 1, 0), b.EndObject()) for _ in "ab"],
    "pad": lambda b: b.Pad(3),
    "pad far": lambda b: b.Pad(3000),
    "prep": lambda b: b.Prep(16, 3),
    "grow": lambda b: b.GrowByteBuffer(),
    "finish again": lambda b: b.Finish(4),
    "place": lambda b: b.PlaceUOffsetT(2**32 - 1),
    "place of a type": lambda b: b.Place(255, number_types.Uint8Flags),
    "write into Bytes": lambda b: b.Bytes.__setitem__(slice(None), b"\xff" * len(b.Bytes)),
    "move the head and write": lambda b: (setattr(b, "head", len(b.Bytes)), b.PrependUint64(2**64 - 1)),  # type: ignore[func-returns-value]
    "finished by hand": lambda b: (setattr(b, "finished", False), b.PrependUint8(1)),  # type: ignore[func-returns-value]
    "begin anew": lambda b: b.__init__(16),
    "begin anew in vain": lambda b: outcome(lambda: b.__init__(-1)),
}


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "view": memoryview,
    "part": lambda b: memoryview(b)[2:9],
    "cast": lambda b: memoryview(memoryview(b)).cast("c"),
    "array": lambda b: np.frombuffer(b, np.uint8),
    "array of a view": lambda b: np.frombuffer(memoryview(b), np.uint8),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_view_stays_as_it_was_whatever_is_done_to_the_builder(deed, holder):
    for size in (0, 1, 64, 1024):
        builder = finished_builder(b"the message", size)
        held = HOLDERS[holder](builder)
        before = bytes(held)
        DEEDS[deed](builder)
        gc.collect(0)
        assert bytes(held) == before
        # And what is built meanwhile is right, too: it was copied, or begun anew.
        builder.Clear()
        builder.Finish(builder.CreateByteVector(b"next"))
        assert builder.Output() == finished_builder(b"next").Output()
        assert bytes(held) == before
        del builder
        gc.collect(0)
        assert bytes(held) == before


@given(st.lists(st.tuples(st.binary(max_size=80), st.sampled_from(sorted(DEEDS)), st.booleans()), max_size=12))
def test_many_views_of_many_messages_all_stay_as_they_were(steps):
    builder = Builder(16)
    held = []
    for content, deed, drop in steps:
        builder.Clear()
        root = builder.CreateByteVector(content)
        builder.Finish(root)
        held.append((memoryview(builder), bytes(builder.Output())))
        DEEDS[deed](builder)
        if drop:
            held.pop(len(held) // 2)
        assert all(view == expected for view, expected in held)


def test_building_goes_on_from_what_a_view_shows():
    twins = Twins(0)
    twins.CreateString("first")
    twins.Finish(8)
    with memoryview(twins.ours) as view:
        before = bytes(view)
        twins.CreateString("second")
        twins.Finish(24)
        assert view == before
    assert bytes(twins.ours.Output()).endswith(before)


def test_view_that_is_gone_leaves_the_builder_its_memory():
    builder = finished_builder(b"x" * 100, 1024)
    there = address(builder.Bytes)
    for _ in range(5):
        with memoryview(builder):
            pass
        builder.Clear()
        builder.Finish(builder.CreateByteVector(b"y" * 100))
    assert address(builder.Bytes) == there


def test_view_keeps_the_memory_and_not_the_builder():
    class Own(Builder):
        pass

    builder = Own(64)
    builder.Finish(builder.CreateString("kept"))
    gone = weakref.ref(builder)
    view, expected = memoryview(builder), bytes(builder.Output())
    del builder
    gc.collect()
    assert gone() is None
    assert view == expected


def test_memory_of_dropped_views_is_given_back():
    builder = Builder(1 << 16)

    def round_trip() -> None:
        builder.Clear()
        builder.Finish(builder.CreateByteVector(b"z" * 50_000))
        memoryview(builder)

    round_trip()
    tracemalloc.start()
    try:
        round_trip()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50):
            views = [memoryview(builder)]
            round_trip()
            del views
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


# Limits


@pytest.mark.parametrize(
    "operation",
    [
        lambda b: b.Prep(1, 2**31),
        lambda b: b.Prep(1, 2**40),
        lambda b: b.Prep(1, 2**70),
        lambda b: b.Prep(2**31, 1),
        lambda b: b.Prep(2**62, 1),
        lambda b: b.Pad(2**31),
        lambda b: b.Pad(2**31 + 1),
        lambda b: b.Pad(2**40),
        lambda b: b.Pad(2**70),
        lambda b: b.StartVector(1, 2**31, 1),
        lambda b: b.StartVector(8, 2**28, 8),
        lambda b: b.StartVector(2**31, 2**31, 1),
        lambda b: b.StartVector(2**64, 2**64, 1),
        lambda b: b.StartVector(1, 1, 2**32),
    ],
)
@pytest.mark.parametrize("content", [b"", b"abc"])
def test_more_than_2_gib_is_refused_before_the_memory_is_taken(operation, content):
    builder = Builder(16)
    builder.CreateByteVector(content)
    written = bytes(builder.Bytes[builder.Head() :])
    tracemalloc.start()
    try:
        with pytest.raises(BuilderSizeError):
            operation(builder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert len(builder.Bytes) == 16
    # StartVector aligns twice, and only the second may be too much.
    assert bytes(builder.Bytes[builder.Head() :]).lstrip(b"\0") == written.lstrip(b"\0")
    builder.Clear()
    builder.Finish(builder.CreateByteVector(b"next"))
    assert builder.Output() == finished_builder(b"next").Output()


def test_limit_is_the_packages():
    assert Builder.MAX_BUFFER_SIZE == flatbuffers.Builder.MAX_BUFFER_SIZE == 2**31


def test_message_of_tens_of_megabytes_is_the_packages_bytes():
    block = bytes(range(256)) * (20 << 12)  # 20 MiB
    array = np.arange(1 << 20, dtype=">u8")

    def build(builder: Any) -> Any:
        blob = builder.CreateByteVector(block)
        numbers = builder.CreateNumpyVector(array)
        text = builder.CreateString("\u00e9" * (1 << 20))
        builder.StartObject(3)
        for slot, place in enumerate((blob, numbers, text)):
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
        return builder.EndObject()

    expected = written_by(flatbuffers.Builder, build, 7)
    builder = Builder(7)
    builder.Finish(build(builder))
    assert len(expected) > 30 << 20
    # Not compared by assert: pytest would think long about a difference.
    same = memoryview(builder) == expected
    assert same


def in_a_process(code: str) -> str:
    """What `code` prints in a process of its own, which has to come to its end: it is after memory not its own."""
    command = [sys.executable, "-X", "faulthandler", "-c", f"from flatstream import Builder\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr[-2000:]) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "operation",
    [
        "Prep(4, -9)",
        "Prep(1 << 30, 1 - 3 * (1 << 30))",
        "Prep(-8, -1000)",
        "StartVector(1, -129, 1)",
        "StartVector(-5, 1, 8)",
    ],
)
def test_negative_size_does_not_move_the_head_out_of_the_buffer(operation):
    code = (
        "builder = Builder(0)\n"
        f"try: builder.{operation}\n"
        "except (ValueError, RuntimeError, TypeError): pass\n"
        "print(0 <= builder.Head() <= len(builder.Bytes))"
    )
    assert in_a_process(code) == "True\n"


def test_vtables_that_were_written_over_are_not_followed_out_of_the_buffer():
    code = (
        "builder = Builder(16)\n"
        "builder.StartObject(0); builder.EndObject()\n"
        "builder.Bytes[builder.Head():] = bytes([255]) * builder.Offset()\n"
        "print(sum(map(len, builder.vtables)) <= 8)"
    )
    assert in_a_process(code) == "True\n"


def test_builder_without_init_and_one_marked_finished_by_hand_come_to_no_harm():
    code = (
        "names = [name for name in dir(Builder) if not name.startswith('__') or name in ('__buffer__', '__sizeof__')]\n"
        "for finished in (False, True):\n"
        "    for name in names:\n"
        "        for arguments in ((), (0,), (1,), (0, 0), (0, 0, 0), (0, 1, 0), (b'',), (b'', None)):\n"
        "            builder = Builder.__new__(Builder)\n"
        "            builder.finished = finished\n"
        "            try:\n"
        "                member = getattr(builder, name)\n"
        "                if callable(member): member(*arguments)\n"
        "                memoryview(builder)\n"
        "            except Exception: pass\n"
        "print('done')"
    )
    assert in_a_process(code) == "done\n"


class Meddler:
    """A number that does something to the builder whenever it is looked at."""

    def __init__(self, builder: Any, deed: Callable[[Any], Any]) -> None:
        self.builder, self.deed = builder, deed

    def _act(self, *_: Any) -> Any:
        outcome(lambda: self.deed(self.builder))
        return 1

    __index__ = __float__ = _act
    __mul__ = __rmul__ = __sub__ = __rsub__ = __add__ = __radd__ = _act
    __hash__ = None  # type: ignore[assignment]

    def _yes(self, _: Any) -> bool:
        self._act()
        return True

    __le__ = __ge__ = __eq__ = __ne__ = _yes

    def _no(self, _: Any) -> bool:
        self._act()
        return False

    __lt__ = __gt__ = _no


@in_one_test
@pytest.mark.parametrize("deed", [*DEEDS, "look", "other table"])
def test_number_that_meddles_with_the_builder_while_it_is_taken_does_no_harm(deed):
    looked = []
    deeds = DEEDS | {
        "look": lambda b: (setattr(b, "finished", True), looked.append((memoryview(b), bytes(b)))),  # type: ignore[func-returns-value]
        "other table": lambda b: (setattr(b, "nested", False), b.StartObject(500), b.Slot(499)),  # type: ignore[func-returns-value]
    }
    calls: list[Callable[[Any, Any], Any]] = [
        lambda b, x: b.PrependUint8(x),
        lambda b, x: b.PrependFloat64(x),
        lambda b, x: b.PrependUint64Slot(0, x, 0),
        lambda b, x: b.PrependFloat32Slot(0, 1.5, x),
        lambda b, x: b.PrependUint8Slot(x, 1, 0),
        lambda b, x: b.Slot(x),
        lambda b, x: b.Prep(x, 0),
        lambda b, x: b.Prep(4, x),
        lambda b, x: b.Pad(x),
        lambda b, x: b.PlaceUOffsetT(x),
        lambda b, x: b.PrependUOffsetTRelative(x),
        lambda b, x: b.PrependSOffsetTRelative(x),
        lambda b, x: b.PrependStructSlot(0, x, 0),
        lambda b, x: b.StartVector(x, 1, 1),
        lambda b, x: b.StartVector(1, 1, x),
        lambda b, x: b.StartObject(x),
        lambda b, x: b.Finish(x),
        lambda b, x: b.EndVector(x),
        lambda b, x: setattr(b, "head", x),
        lambda b, x: setattr(b, "minalign", x),
    ]
    for call in calls:
        for nested in (True, False):
            builder = Builder(16)
            builder.PrependUint32(7)
            if nested:
                builder.StartObject(3)
            outcome(lambda call=call, builder=builder: call(builder, Meddler(builder, deeds[deed])))  # type: ignore[misc]
            assert 0 <= builder.Head() <= len(builder.Bytes)
            builder.Clear()
            builder.Finish(builder.CreateByteVector(b"next"))
            assert builder.Output() == finished_builder(b"next").Output()
    assert all(view == expected for view, expected in looked)
