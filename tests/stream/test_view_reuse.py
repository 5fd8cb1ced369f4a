"""A reader hands out a view object again that everybody else has forgotten, and nobody can notice.

Making a memoryview takes longer than all else that is done for a small frame, so a reader keeps the last two that it
handed out, and has one of them show the next payload if it is the only one that still knows it. Shown here, first, that
it does so at all, since the rest would show nothing otherwise. Then, for every way of keeping a view or something that
was made from it, that what is kept shows the payload that it was kept for, whatever is read afterwards: from every kind
of source, by every way of reading, in one thread and in several, until the reader is closed and beyond. And that a
reader keeps neither a caller's buffer nor memory for the sake of views that are forgotten.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import gc
import io
import itertools
import mmap
import pickle
import random
import re
import struct
import sys
import sysconfig
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumMismatchError,
    Crc32,
    DefaultDeframer,
    Deframer,
    FrameSpan,
    SizeThresholdPolicy,
    StreamReader,
    Validator,
)
from reference import framing as reference
from support.memory import growth
from support.sources import CutSource, every_source
from support.threads import run_threads, switching

# Without the interpreter's lock a count of references says nothing about other threads, and views are not reused.
REUSES = not sysconfig.get_config_var("Py_GIL_DISABLED")


def numbered(count: int, seed: int = 7) -> list[bytes]:
    """Payloads that are all different, of 8 to 40 bytes: multiples of 8, so that they can be cast."""
    sizes = random.Random(seed)
    return [(b"%07d" % number).ljust(8 * sizes.randrange(1, 6), b"%c" % (65 + number % 26)) for number in range(count)]


PAYLOADS = numbered(120)
STREAM = reference.encode(PAYLOADS, "none")
# Small enough that the reader goes from chunk to chunk, and large enough for several frames in each.
CAPACITY = 150


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Has the garbage collector look at what is made here only, since it is called a thousand times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# That it happens


def test_view_that_is_forgotten_is_handed_out_again():
    reader = StreamReader(STREAM)
    first = id(next(reader))
    # Whatever was freed is taken by these: the number cannot come back because another object has the same place.
    others = [memoryview(b"other") for _ in range(1000)]
    second = id(next(reader))
    others += [memoryview(b"other") for _ in range(1000)]
    again = [id(next(reader)) for _ in range(50)]
    assert (set(again) == {first, second}) is REUSES
    assert {first, second}.isdisjoint(map(id, others)) is REUSES


def test_loop_is_handed_two_views_in_turns():
    # The loop's variable still holds the last one when it asks for the next.
    numbers: list[int] = []
    others: list[memoryview] = []
    for view in StreamReader(STREAM):
        numbers.append(id(view))
        others += [memoryview(b"other") for _ in range(50)]
    assert (len(set(numbers)) == 2) is REUSES
    assert set(numbers).isdisjoint(map(id, others)) is REUSES


def test_view_that_is_kept_is_never_handed_out_again():
    kept: list[memoryview] = []
    for number, view in enumerate(StreamReader(STREAM)):
        assert all(view is not other for other in kept)
        if number % 3 == 0:
            kept.append(view)
    assert [bytes(view) for view in kept] == PAYLOADS[::3]


# Ways to keep a view


class Kept(NamedTuple):
    """Something that was made of a view; `look()` gives the bytes that it shows now."""

    thing: Any
    look: Callable[[], bytes]


def as_array(view: memoryview) -> Kept:
    made = np.frombuffer(view, np.uint8)
    return Kept(made, made.tobytes)


def as_asarray(view: memoryview) -> Kept:
    made = np.asarray(view)
    return Kept(made, made.tobytes)


def as_array_of_words(view: memoryview) -> Kept:
    made = np.frombuffer(view, "<u8")
    return Kept(made, made.tobytes)


def as_view(make: Callable[[memoryview], memoryview]) -> Callable[[memoryview], Kept]:
    def keep(view: memoryview) -> Kept:
        made = make(view)
        return Kept(made, lambda: bytes(made))

    return keep


def as_halves(view: memoryview) -> Kept:
    halves = view[:3], view[3:]
    return Kept(halves, lambda: b"".join(halves))


def as_reversed_view(view: memoryview) -> Kept:
    made = view[::-1]
    return Kept(made, lambda: bytes(made)[::-1])


def as_started_iterator(view: memoryview) -> Kept:
    made = iter(view)
    beginning = bytes(itertools.islice(made, 3))
    # It can be looked at once.
    rest = functools.cache(lambda: bytes(made))
    return Kept(made, lambda: beginning + rest())


def as_struct_iterator(view: memoryview) -> Kept:
    made = struct.iter_unpack("<d", view)
    beginning = struct.pack("<d", *next(made))
    rest = functools.cache(lambda: b"".join(struct.pack("<d", value) for (value,) in made))
    return Kept(made, lambda: beginning + rest())


def as_match(view: memoryview) -> Kept:
    # A match holds the object that was searched, and asks it for its bytes when they are asked for.
    made = re.match(rb"(?s).*", view)
    assert made is not None
    return Kept(made, lambda: bytes(made.group()))


def as_match_iterator(view: memoryview) -> Kept:
    made = re.finditer(rb"(?s).", view)
    beginning = bytes(next(made).group())
    rest = functools.cache(lambda: b"".join(bytes(match.group()) for match in made))
    return Kept(made, lambda: beginning + rest())


def as_pickle_buffer(view: memoryview) -> Kept:
    made = pickle.PickleBuffer(view)
    return Kept(made, lambda: bytes(made))


def as_member_of_a_set(view: memoryview) -> Kept:
    made = {view}
    return Kept(made, lambda: bytes(next(iter(made))))


def as_key(view: memoryview) -> Kept:
    made = {view: None}

    def look() -> bytes:
        (key,) = made
        # Found by the bytes, too: its hash is still theirs.
        assert bytes(key) in made
        return bytes(key)

    return Kept(made, look)


def as_closure(view: memoryview) -> Kept:
    def look() -> bytes:
        return bytes(view)

    return Kept(look, look)


def as_default_argument(view: memoryview) -> Kept:
    def look(view: memoryview = view) -> bytes:
        return bytes(view)

    return Kept(look, look)


def as_partial(view: memoryview) -> Kept:
    made = functools.partial(bytes, view)
    return Kept(made, made)


def as_suspended_generator(view: memoryview) -> Kept:
    def generate() -> Iterator[bytes]:
        mine = view
        while True:
            yield bytes(mine)

    made = generate()
    next(made)
    return Kept(made, lambda: next(made))


def as_variable_of_a_traceback(view: memoryview) -> Kept:
    def fail(payload: memoryview) -> None:
        raise ZeroDivisionError

    try:
        fail(view)
    except ZeroDivisionError as error:
        made = error

    def look() -> bytes:
        traceback = made.__traceback__
        assert traceback is not None
        assert traceback.tb_next is not None
        return bytes(traceback.tb_next.tb_frame.f_locals["payload"])

    return Kept(made, look)


def as_argument_of_an_exception(view: memoryview) -> Kept:
    made = ValueError(view)
    return Kept(made, lambda: bytes(made.args[0]))


class Holder:
    """Something that holds another, and itself, so that only the garbage collector frees it."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.myself = self


def as_attribute_in_a_cycle(view: memoryview) -> Kept:
    made = Holder(view)
    return Kept(made, lambda: bytes(made.view))


def as_bound_method(view: memoryview) -> Kept:
    made = view.tobytes
    return Kept(made, made)


def as_ctypes_object(view: memoryview) -> Kept:
    made = ctypes.py_object(view)
    return Kept(made, lambda: bytes(made.value))


def as_item_of(make: Callable[[memoryview], Any]) -> Callable[[memoryview], Kept]:
    def keep(view: memoryview) -> Kept:
        made = make(view)
        return Kept(made, lambda: bytes(made[0]))

    return keep


def as_weak_reference_to_a_kept_view(view: memoryview) -> Kept:
    made = weakref.ref(view), view

    def look() -> bytes:
        alive = made[0]()
        assert alive is made[1]
        return bytes(alive)

    return Kept(made, look)


WAYS: dict[str, Callable[[memoryview], Kept]] = {
    "view": as_view(lambda view: view),
    "memoryview": as_view(memoryview),
    "memoryview_of_memoryview": as_view(lambda view: memoryview(memoryview(view))),
    "slice_of_all": as_view(lambda view: view[:]),
    "halves": as_halves,
    "reversed": as_reversed_view,
    "cast": as_view(lambda view: view.cast("Q")),
    "cast_2d": as_view(lambda view: view.cast("B", (len(view) // 8, 8))),
    "toreadonly": as_view(memoryview.toreadonly),
    "frombuffer": as_array,
    "frombuffer_words": as_array_of_words,
    "asarray": as_asarray,
    "iterator": as_started_iterator,
    "iter_unpack": as_struct_iterator,
    "match": as_match,
    "finditer": as_match_iterator,
    "pickle_buffer": as_pickle_buffer,
    "tuple": as_item_of(lambda view: (view,)),
    "list": as_item_of(lambda view: [view]),
    "deque": as_item_of(lambda view: collections.deque([view])),
    "object_array": as_item_of(lambda view: np.array([view, None], dtype=object)),
    "set": as_member_of_a_set,
    "key": as_key,
    "closure": as_closure,
    "default_argument": as_default_argument,
    "partial": as_partial,
    "generator": as_suspended_generator,
    "traceback": as_variable_of_a_traceback,
    "exception": as_argument_of_an_exception,
    "cycle": as_attribute_in_a_cycle,
    "bound_method": as_bound_method,
    "py_object": as_ctypes_object,
    "weakref_and_view": as_weak_reference_to_a_kept_view,
}

every_way = pytest.mark.parametrize("way", WAYS)


def assert_still_shown(kept: Iterable[tuple[Kept, bytes]]) -> None:
    wrong = [(expected, found) for item, expected in kept if (found := item.look()) != expected]
    assert wrong == []


# Which payloads are kept: each, every other one (what a loop's two views in turns make critical), and others.
PATTERNS: dict[str, Callable[[int], bool]] = {
    "all": lambda number: True,
    "even": lambda number: number % 2 == 0,
    "odd": lambda number: number % 2 == 1,
    "thirds": lambda number: number % 3 == 1,
    "pairs": lambda number: number % 4 < 2,
    "first": lambda number: number == 0,
}


@pytest.mark.parametrize("kind", ["buffer", "chunks"])
@pytest.mark.parametrize("pattern", PATTERNS)
@every_way
def test_what_is_kept_of_a_view_shows_its_payload_whatever_is_read_afterwards(way, pattern, kind):
    keep, wanted = WAYS[way], PATTERNS[pattern]
    with StreamReader(STREAM if kind == "buffer" else CutSource(STREAM), capacity=CAPACITY) as reader:
        kept: list[tuple[Kept, bytes]] = []
        number = 0
        # Not a loop: nothing here but what is kept holds a view while the next is asked for.
        while (view := reader.read_message()) is not None:
            if wanted(number):
                kept.append((keep(view), PAYLOADS[number]))
            del view
            number += 1
        assert number == len(PAYLOADS)
    assert len(kept) >= 1
    del reader
    assert_still_shown(kept)


@every_way
def test_what_is_kept_in_a_loop_shows_its_payload(way):
    keep = WAYS[way]
    kept = []
    for number, view in enumerate(StreamReader(STREAM)):
        if number % 2:
            kept.append((keep(view), PAYLOADS[number]))
        # What the loop itself holds is right at any time.
        assert view == PAYLOADS[number]
    assert_still_shown(kept)


@every_source
def test_views_of_which_some_are_kept_show_their_payloads_from_every_source(source_kind, tmp_path):
    ways = itertools.cycle(WAYS.values())
    chosen = random.Random(11)
    kept = []
    with source_kind.open(STREAM, tmp_path) as source:
        with StreamReader(source, capacity=CAPACITY) as reader:
            for view, payload in zip(reader, PAYLOADS, strict=True):
                assert view == payload
                if chosen.random() < 0.5:
                    kept.append((next(ways)(view), payload))
            del view
        del reader
        # What remains is held by nothing but what is kept.
        gc.collect()
    del source
    assert_still_shown(kept)
    assert len(kept) > len(WAYS)


# What goes over a reader


class Itself:
    """A message that is its payload."""

    @classmethod
    def from_payload(cls, payload: memoryview) -> Any:
        return payload


def typed(reader: Any) -> list[Any]:
    return list(reader.typed_messages(Itself))


ITERATIONS: dict[str, Callable[[StreamReader], Iterable[memoryview]]] = {
    "list": list,
    "tuple": tuple,
    "deque": collections.deque,
    "messages": lambda reader: list(reader.messages()),
    "comprehension": lambda reader: [view for view in reader],  # noqa: C416 - is the thing to be tested
    "starred": lambda reader: [*reader],
    "map": lambda reader: list(map(lambda view: view, reader)),  # noqa: C417 - likewise
    "filter": lambda reader: list(filter(None, reader)),
    "enumerate": lambda reader: [view for _, view in enumerate(reader)],
    "zip_with_itself": lambda reader: [view for pair in zip(reader, reader, strict=True) for view in pair],
    "pairwise": lambda reader: [view for pair in list(itertools.pairwise(reader))[::2] for view in pair],
    "tee": lambda reader: [view for views in zip(*itertools.tee(reader), strict=True) for view in views[:1]],
    "chain": lambda reader: list(itertools.chain([next(reader)], reader)),
    "islice": lambda reader: [*itertools.islice(reader, 50), *itertools.islice(reader, 500)],
    "groupby": lambda reader: [view for _, group in itertools.groupby(reader, len) for view in list(group)],
    "accumulate": lambda reader: list(itertools.accumulate(reader, lambda before, view: view)),
    "sorted": lambda reader: sorted(reader, key=bytes),
    "next": lambda reader: [next(reader) for _ in PAYLOADS],
    "iter_of_read_message": lambda reader: list(iter(reader.read_message, None)),
    "extend": lambda reader: functools.reduce(lambda views, view: [*views, view], reader, []),
    "dict": lambda reader: list(dict(enumerate(reader)).values()),
    "typed_messages": typed,
}


@pytest.mark.parametrize("kind", ["buffer", "chunks"])
@pytest.mark.parametrize("how", ITERATIONS)
def test_views_that_something_has_collected_show_their_payloads(how, kind):
    # In `sorted` order, too: the payloads begin with their numbers.
    reader = StreamReader(STREAM if kind == "buffer" else CutSource(STREAM), capacity=CAPACITY)
    assert [bytes(view) for view in ITERATIONS[how](reader)] == PAYLOADS


def test_pairs_that_pairwise_forgets_are_right_while_they_are_there():
    reader = StreamReader(STREAM)
    pairs = [(bytes(first), bytes(second)) for first, second in itertools.pairwise(reader)]
    assert pairs == list(itertools.pairwise(PAYLOADS))


def test_first_of_a_pair_that_is_kept_shows_its_payload():
    kept = [first for number, (first, _) in enumerate(itertools.pairwise(StreamReader(STREAM))) if number % 2]
    assert [bytes(view) for view in kept] == PAYLOADS[1:-1:2]


@pytest.mark.parametrize("how", ["process_all", "process_typed", "process_typed_with_payload"])
def test_views_kept_by_what_processes_them_show_their_payloads(how):
    reader = StreamReader(STREAM)
    kept: list[memoryview] = []

    def keep_odd(*arguments: Any) -> None:
        keep_odd.calls += 1  # type: ignore[attr-defined]
        if keep_odd.calls % 2:  # type: ignore[attr-defined]
            kept.append(arguments[-1])

    keep_odd.calls = 0  # type: ignore[attr-defined]
    arguments = (keep_odd,) if how == "process_all" else (Itself, keep_odd)
    assert getattr(reader, how)(*arguments) == len(PAYLOADS)
    assert [bytes(view) for view in kept] == PAYLOADS[::2]


@pytest.mark.parametrize("how", ["process_all", "process_typed"])
def test_view_of_the_payload_that_processing_stopped_at_shows_it(how):
    reader = StreamReader(STREAM)
    errors: list[BaseException] = []

    def fail_at_each_third(payload: memoryview) -> None:
        if int(bytes(payload[:7])) % 3 == 2:
            raise ValueError(payload)

    for _ in range(20):
        try:
            getattr(reader, how)(*((fail_at_each_third,) if how == "process_all" else (Itself, fail_at_each_third)))
        except ValueError as error:
            errors.append(error)
    # Both what the exceptions carry and what the functions' own variables are.
    assert [bytes(error.args[0]) for error in errors] == PAYLOADS[2:60:3]
    for caught, payload in zip(errors, PAYLOADS[2:60:3], strict=True):
        traceback = caught.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        assert traceback is not None
        assert bytes(traceback.tb_frame.f_locals["payload"]) == payload


def test_views_in_the_tracebacks_of_loops_that_failed_show_their_payloads():
    reader = StreamReader(STREAM)

    def loop() -> None:
        for view in reader:
            if int(bytes(view[:7])) % 5 == 4:
                raise LookupError

    errors = []
    for _ in range(10):
        try:
            loop()
        except LookupError as error:
            errors.append(error)
    last = [error.__traceback__.tb_next for error in errors if error.__traceback__ is not None]
    assert [bytes(traceback.tb_frame.f_locals["view"]) for traceback in last if traceback] == PAYLOADS[4:50:5]


# Observers, validators and strategies in Python


class KeepingValidator(Validator):
    def __init__(self, kept: list[memoryview]) -> None:
        self.kept = kept

    def validate(self, payload):
        self.kept.append(payload)


class KeepingChecksum(Checksum):
    size = 0

    def __init__(self, kept: list[memoryview]) -> None:
        self.kept = kept

    def calculate(self, payload):
        self.kept.append(payload)
        return 0


class KeepingDeframer(Deframer):
    def __init__(self, kept: list[memoryview]) -> None:
        self.kept = kept

    def locate(self, data):
        if len(data) < 4:
            return 4
        end = 4 + int.from_bytes(data[:4], "little")
        return FrameSpan(4, end, end)

    def check(self, frame, payload):
        self.kept.append(payload)


STRATEGIES: dict[str, Callable[[list[memoryview]], Deframer]] = {
    "observer": lambda kept: DefaultDeframer().observed(kept.append),
    "validator": lambda kept: DefaultDeframer().with_validator(KeepingValidator(kept)),
    "checksum": lambda kept: ChecksumDeframer(KeepingChecksum(kept)),
    "deframer": KeepingDeframer,
}


@pytest.mark.parametrize("read_views_are", ["kept", "forgotten"])
@pytest.mark.parametrize("kind", ["buffer", "chunks"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_views_kept_by_a_strategy_show_their_payloads(strategy, kind, read_views_are):
    seen: list[memoryview] = []
    source = STREAM if kind == "buffer" else CutSource(STREAM)
    reader = StreamReader(source, STRATEGIES[strategy](seen), capacity=CAPACITY)
    kept = [view if read_views_are == "kept" else bytes(view) for view in reader]
    assert [bytes(view) for view in seen] == PAYLOADS
    assert [bytes(view) for view in kept] == PAYLOADS


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_view_that_a_strategy_keeps_is_not_the_one_that_is_handed_out(strategy):
    seen: list[memoryview] = []
    for view in StreamReader(STREAM, STRATEGIES[strategy](seen)):
        # To release one must not release the other.
        seen.pop().release()
        assert int(bytes(view[:7])) >= 0


def test_view_kept_before_a_refused_frame_shows_its_payload():
    stream = bytearray(reference.encode(PAYLOADS, "crc32"))
    place = 0
    for number, payload in enumerate(PAYLOADS):
        if number % 4 == 2:
            stream[place + 8] ^= 1
        place += 8 + len(payload)
    reader = StreamReader(stream, ChecksumDeframer(Crc32()))
    kept: list[memoryview] = []
    refused = 0
    while True:
        try:
            view = reader.read_message()
        except ChecksumMismatchError:
            refused += 1
            continue
        if view is None:
            break
        if len(kept) % 2 == 0:
            kept.append(view)
        else:
            kept.append(view[:])
    assert refused == len(PAYLOADS) // 4
    assert [bytes(view) for view in kept] == [p for number, p in enumerate(PAYLOADS) if number % 4 != 2]


# Hashes and comparisons


def test_hash_of_a_view_is_that_of_its_bytes_though_another_was_asked_for_its_hash_before():
    # The hash is kept in the view object.
    reader = StreamReader(STREAM)
    assert [hash(view) for view in reader] == [hash(payload) for payload in PAYLOADS]
    reader = StreamReader(STREAM)
    assert [hash(next(reader)) for _ in PAYLOADS] == [hash(payload) for payload in PAYLOADS]


def test_hash_of_every_other_view_is_that_of_its_bytes():
    hashes = []
    for number, view in enumerate(StreamReader(STREAM)):
        if number % 4 < 2:
            hash(view)
        else:
            hashes.append(hash(view))
    assert hashes == [hash(payload) for number, payload in enumerate(PAYLOADS) if number % 4 >= 2]


def test_payload_is_found_in_sets_and_dicts_by_its_view():
    places = {payload: number for number, payload in enumerate(PAYLOADS)}
    assert [places[view] for view in StreamReader(STREAM)] == list(range(len(PAYLOADS)))  # type: ignore[index]
    views = set(StreamReader(STREAM))
    assert len(views) == len(PAYLOADS)
    assert all(payload in views for payload in PAYLOADS)


def test_set_that_keeps_the_views_of_different_payloads_only_keeps_one_of_each():
    repeated = PAYLOADS[:10] * 12
    views: set[memoryview] = set()
    for view in StreamReader(reference.encode(repeated, "none")):
        if view not in views:
            views.add(view)
    assert sorted(bytes(view) for view in views) == PAYLOADS[:10]


def test_views_are_equal_exactly_if_their_payloads_are():
    repeated = [b"first", b"first", b"other", b"first", b"firs", b"", b"", b"first"]
    views = list(StreamReader(reference.encode(repeated, "none")))
    for view, payload in zip(views, repeated, strict=True):
        assert [view == other for other in views] == [payload == other for other in repeated]
        assert view == payload


def test_length_shape_and_size_of_a_view_are_those_of_its_payload():
    sizes = [5, 0, 1, 300, 2, 0, 0, 77, 1, 5]
    for view, size in zip(StreamReader(reference.encode([b"x" * size for size in sizes], "none")), sizes, strict=True):
        assert (len(view), view.nbytes, view.shape, view.strides, view.itemsize) == (size, size, (size,), (1,), 1)
        assert (view.format, view.ndim, view.readonly, view.c_contiguous, view.f_contiguous) == (
            "B",
            1,
            True,
            True,
            True,
        )
        assert view.tolist() == [120] * size
        assert len(view.tobytes()) == size


# Views released


@pytest.mark.parametrize("every", [1, 2, 3])
def test_released_view_stays_released_and_the_next_one_is_not(every):
    reader = StreamReader(STREAM)
    released = []
    for number, view in enumerate(reader):
        assert bytes(view) == PAYLOADS[number]
        if number % every == 0:
            view.release()
            released.append(view)
    for view in released:
        with pytest.raises(ValueError, match="released"):
            bytes(view)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_view_that_was_released_and_forgotten_is_not_handed_out_again(every):
    reader = StreamReader(STREAM)
    for number, payload in enumerate(PAYLOADS):
        if number % every == 0:
            with next(reader) as view:
                assert bytes(view) == payload
        else:
            view = next(reader)
            assert bytes(view) == payload
        del view


def test_view_with_a_buffer_taken_of_it_refuses_to_be_released():
    reader = StreamReader(STREAM)
    kept = []
    for view in reader:
        taken = pickle.PickleBuffer(view)
        with pytest.raises(BufferError):
            view.release()
        kept.append(taken)
    assert [bytes(taken) for taken in kept] == PAYLOADS


def test_buffer_of_a_view_that_is_released_first_leaves_the_view_as_it_is():
    kept = []
    for view in StreamReader(STREAM):
        pickle.PickleBuffer(view).release()
        kept.append(view)
    assert [bytes(view) for view in kept] == PAYLOADS


# Weak references


def test_weak_reference_to_a_forgotten_view_never_shows_another_payload():
    reader = StreamReader(STREAM)
    references: list[tuple[weakref.ref[memoryview], bytes]] = []
    for number, payload in enumerate(PAYLOADS):
        view = next(reader)
        if number % 3 != 1:
            references.append((weakref.ref(view), payload))
        del view
        for reference_to_view, expected in references:
            alive = reference_to_view()
            assert alive is None or bytes(alive) == expected
            del alive
    # The reader may keep the last two, and no more.
    assert sum(reference_to_view() is not None for reference_to_view, _ in references) <= 2
    reader.close()
    assert [reference_to_view() for reference_to_view, _ in references] == [None] * len(references)


def test_view_that_comes_back_from_a_weak_reference_keeps_its_payload():
    reader = StreamReader(STREAM)
    kept = []
    for payload in PAYLOADS:
        weak = weakref.ref(next(reader))
        alive = weak()
        if alive is not None:
            kept.append((alive, payload))
        del alive, weak
    assert [bytes(view) for view, _ in kept] == [payload for _, payload in kept]


def test_weak_reference_to_the_view_of_a_collected_reader_is_dead():
    reader = StreamReader(STREAM)
    weak = weakref.ref(next(reader))
    del reader
    assert weak() is None


def test_callback_of_a_weak_reference_is_called_once_with_a_dead_reference():
    reader = StreamReader(STREAM)
    called: list[Any] = []
    references = []
    for view in reader:
        references.append(weakref.ref(view, lambda weak: called.append((id(weak), weak()))))
    del view
    reader.close()
    assert sorted(called) == sorted((id(weak), None) for weak in references)


def test_keys_of_a_weak_dictionary_go_with_their_views():
    reader = StreamReader(STREAM)
    known: weakref.WeakKeyDictionary[memoryview, bytes] = weakref.WeakKeyDictionary()
    kept = []
    for number, (view, payload) in enumerate(zip(reader, PAYLOADS, strict=True)):
        known[view] = payload
        if number % 10 == 0:
            kept.append(view)
    del view
    reader.close()
    assert sorted(known.values()) == PAYLOADS[::10]
    assert [known[view] for view in kept] == PAYLOADS[::10]


@pytest.mark.parametrize("keep_every", [2, 3, 5, 1000])
@pytest.mark.parametrize("capacity", [None, 40, CAPACITY, 1000])
def test_callback_of_a_weak_reference_that_reads_on_gets_the_next_payload(capacity, keep_every):
    # A view with a weak reference is not handed out again but freed, in the middle of a read. If that read is one that
    # goes back to the source, the callback is refused; if not, it may itself take the reader to its next chunk.
    reader = StreamReader(STREAM) if capacity is None else StreamReader(CutSource(STREAM), capacity=capacity)
    received: list[bytes] = []
    kept: list[tuple[memoryview, bytes]] = []
    read_in_callbacks = refused = 0

    def note(view: memoryview) -> None:
        received.append(bytes(view))
        if len(received) % keep_every == 0:
            kept.append((view, received[-1]))

    def read_on(weak: Any) -> None:
        nonlocal read_in_callbacks, refused
        try:
            view = reader.read_message()
        except (RuntimeError, ValueError):
            refused += 1
            return
        if view is not None:
            read_in_callbacks += 1
            note(view)

    references = []
    while (view := reader.read_message()) is not None:
        note(view)
        references.append(weakref.ref(view, read_on))
        del view
    refused_reads = refused
    reader.close()
    # Each once, in order: what a callback reads comes before the frame that the interrupted call returns.
    assert received == PAYLOADS
    others = [b"\xff" * (capacity or 1) for _ in range(100)]
    assert [bytes(view) for view, _ in kept] == [payload for _, payload in kept]
    assert len(others) == 100
    # With chunks of hardly more than one frame nearly every read goes back to the source, and with a buffer none does.
    assert read_in_callbacks > 3 or capacity == 40
    assert (refused_reads > 0) is (capacity is not None)


@pytest.mark.parametrize("kept_number", range(4, 12))
def test_view_of_the_chunk_that_a_callback_has_left_is_not_made_one_of_the_next_chunk(kept_number):
    # It would keep the memory of the one alive and show that of the other, which is then filled again.
    payloads = [b"payload %04d" % number for number in range(40)]
    # Four frames to a chunk.
    reader = StreamReader(CutSource(reference.encode(payloads, "none")), capacity=64)
    received: list[bytes] = []

    def read_into_the_next_chunk(weak: Any) -> None:
        received.extend(bytes(next(reader)) for _ in range(2))

    received.append(bytes(next(reader)))
    second = next(reader)
    received.append(bytes(second))
    weak = weakref.ref(second, read_into_the_next_chunk)
    del second
    kept = None
    while (view := reader.read_message()) is not None:
        received.append(bytes(view))
        if len(received) == kept_number + 1:
            kept = view
        del view
    assert weak() is None
    assert received == payloads
    # The callback itself has read two of these.
    assert kept is None or bytes(kept) == payloads[kept_number]
    assert (kept is None) is (kept_number == 4)


@pytest.mark.parametrize("ending", ["close", "detach"])
def test_buffer_whose_reader_is_closed_by_the_callback_of_a_weak_reference_is_free_again(ending):
    source = bytearray(STREAM)
    reader = StreamReader(source)
    weak = weakref.ref(next(reader), lambda weak: getattr(reader, ending)())
    with pytest.raises(ValueError, match="closed"):
        reader.process_all(len)
    assert weak() is None
    assert reader.closed
    # The reader is still there, but looks at nothing any more.
    source.append(0)


# The reader and the caller's buffer


@pytest.mark.parametrize("read", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("ending", ["close", "detach", "collect"])
def test_buffer_is_free_again_when_the_reader_is_closed_and_views_are_forgotten(ending, read):
    source = bytearray(STREAM)
    reader = StreamReader(source)
    for _ in range(read):
        next(reader)
    with pytest.raises(BufferError):
        source.append(0)
    if ending == "close":
        reader.close()
    elif ending == "detach":
        reader.detach()
    else:
        del reader
    source.append(0)


@pytest.mark.parametrize("kept_number", range(4))
def test_buffer_is_held_by_the_one_view_that_is_kept_and_by_nothing_else(kept_number):
    source = bytearray(STREAM)
    reader = StreamReader(source)
    for number in range(6):
        view = next(reader)
        if number == kept_number:
            kept = view
        del view
    reader.close()
    with pytest.raises(BufferError):
        source.append(0)
    assert bytes(kept) == PAYLOADS[kept_number]
    del kept
    source.append(0)


def test_mapping_can_be_closed_when_the_reader_is_and_views_are_forgotten():
    source = mmap.mmap(-1, len(STREAM))
    source[:] = STREAM
    with StreamReader(source) as reader:
        assert reader.process_all(len) == len(PAYLOADS)
        with pytest.raises(BufferError):
            source.close()
    source.close()


def test_reader_that_is_exhausted_and_open_holds_the_buffer_until_it_is_closed():
    source = bytearray(STREAM)
    reader = StreamReader(source)
    assert sum(1 for _ in reader) == len(PAYLOADS)
    with pytest.raises(BufferError):
        source.append(0)
    reader.close()
    source.append(0)


def test_view_kept_while_its_reader_is_closed_shows_its_payload():
    for number in range(1, 10):
        source = bytearray(STREAM)
        reader = StreamReader(source)
        views = [next(reader) for _ in range(number)]
        reader.close()
        assert [bytes(view) for view in views] == PAYLOADS[:number]
        for view in views:
            view.release()
        source.append(0)


def test_reader_in_a_cycle_with_its_views_is_collected_and_frees_the_buffer():
    class Source(bytearray):
        pass

    source = Source(STREAM)
    reader: Any = StreamReader(source)
    # Two that the reader knows, and two that it has forgotten.
    reader.views = [next(reader) for _ in range(4)]
    reader.closures = [lambda myself=reader: myself]
    collected, freed = weakref.ref(reader), weakref.ref(source)
    del reader
    gc.collect()
    assert collected() is None
    source.append(0)
    del source
    assert freed() is None


def test_finalizer_in_a_cycle_with_reader_and_views_finds_them_as_they_were():
    found: list[bytes] = []

    class Last:
        def __init__(self, reader: StreamReader) -> None:
            self.reader = reader
            self.views = [next(reader) for _ in range(3)]
            self.myself = self

        def __del__(self) -> None:
            found.extend(bytes(view) for view in self.views)
            found.append(bytes(next(self.reader)))
            found.extend(bytes(view) for view in self.views)

    Last(StreamReader(io.BytesIO(STREAM)))
    gc.collect()
    assert found == PAYLOADS[:3] + PAYLOADS[3:4] + PAYLOADS[:3]


def test_views_survive_the_collection_of_a_cycle_that_holds_their_reader():
    reader: Any = StreamReader(CutSource(STREAM), capacity=CAPACITY)
    kept = [next(reader) for _ in range(20)][::3]
    reader.myself = reader
    del reader
    gc.collect()
    others = [bytearray(CAPACITY) for _ in range(200)]
    assert [bytes(view) for view in kept] == PAYLOADS[:20:3]
    del others


def test_forgotten_views_do_not_keep_a_chunk_from_being_filled_again():
    # The reader knows two views of the chunk itself, but they are nobody's.
    reader = StreamReader(CutSource(STREAM), capacity=1000)
    owners: dict[int, Any] = {}

    def note(view: memoryview) -> None:
        owners[id(view.obj)] = view.obj

    assert reader.process_all(note) == len(PAYLOADS)
    assert len(owners) == 1


# Views and batches


@pytest.mark.parametrize("kind", ["buffer", "chunks"])
@pytest.mark.parametrize("seed", range(10))
def test_views_and_batches_read_in_turns_show_their_payloads(kind, seed):
    chosen = random.Random(seed)
    reader = StreamReader(STREAM if kind == "buffer" else CutSource(STREAM), capacity=CAPACITY)
    kept: list[tuple[memoryview, bytes]] = []
    delivered = 0
    while delivered < len(PAYLOADS):
        if chosen.random() < 0.6:
            view = next(reader)
            assert view == PAYLOADS[delivered]
            if chosen.random() < 0.5:
                kept.append((view, PAYLOADS[delivered]))
            delivered += 1
            del view
        else:
            batch = reader.read_batch(chosen.randrange(1, 5))
            assert batch is not None
            expected = PAYLOADS[delivered : delivered + len(batch)]
            assert [bytes(view) for view in batch] == expected
            kept.extend(pair for pair in zip(batch, expected, strict=True) if chosen.random() < 0.5)
            delivered += len(batch)
            del batch
    assert [bytes(view) for view, _ in kept] == [payload for _, payload in kept]


def test_views_of_one_batch_are_all_different_objects():
    batch = StreamReader(STREAM).read_batch()
    assert batch is not None
    views = [*batch, *batch]
    assert len(set(map(id, views))) == 2 * len(PAYLOADS)
    assert [bytes(view) for view in views] == PAYLOADS + PAYLOADS


def test_two_readers_of_one_buffer_do_not_disturb_one_another():
    source = bytearray(STREAM)
    readers = [StreamReader(source), StreamReader(source), StreamReader(memoryview(source))]
    chosen = random.Random(3)
    delivered = [0, 0, 0]
    kept: list[tuple[memoryview, bytes]] = []
    for _ in range(300):
        which = chosen.randrange(3)
        view = readers[which].read_message()
        if view is None:
            assert delivered[which] == len(PAYLOADS)
            continue
        assert view == PAYLOADS[delivered[which]]
        if chosen.random() < 0.4:
            kept.append((view, PAYLOADS[delivered[which]]))
        delivered[which] += 1
        del view
    for reader in readers:
        reader.close()
    assert [bytes(view) for view, _ in kept] == [payload for _, payload in kept]
    with pytest.raises(BufferError):
        source.append(0)
    kept.clear()
    source.append(0)


def test_view_given_to_another_reader_as_its_source_shows_its_payload():
    # Streams in the payloads of a stream: what the inner readers look at are the outer reader's views.
    inner = [reference.encode(PAYLOADS[start : start + 10], "none") for start in range(0, 120, 10)]
    readers = [StreamReader(view) for view in StreamReader(reference.encode(inner, "none"))]
    views = [next(reader) for _ in range(10) for reader in readers]
    assert [bytes(view) for view in views] == [PAYLOADS[10 * which + n] for n in range(10) for which in range(12)]


def test_views_kept_while_a_memory_policy_replaces_chunks_show_their_payloads():
    payloads = [(b"%d:" % number).ljust(5000 if number % 10 == 0 else 20, b".") for number in range(200)]
    policy = SizeThresholdPolicy(100, 50, 2, baseline_capacity=1)
    reader = StreamReader(CutSource(reference.encode(payloads, "none")), capacity=64, memory_policy=policy)
    kept = [(view, payload) for number, (view, payload) in enumerate(zip(reader, payloads, strict=True)) if number % 2]
    assert [bytes(view) for view, _ in kept] == [payload for _, payload in kept]


# Threads


@switching
@pytest.mark.parametrize("kind", ["buffer", "chunks"])
@pytest.mark.parametrize("keep_every", [1, 2, 3])
def test_threads_that_share_a_reader_and_keep_some_views_each_see_their_payloads(kind, keep_every):
    payloads = numbered(4000)
    stream = reference.encode(payloads, "none")
    reader = StreamReader(stream if kind == "buffer" else io.BytesIO(stream), capacity=1000)
    received: list[list[bytes]] = [[] for _ in range(4)]
    wrong: list[tuple[bytes, bytes]] = []

    def read(thread: int) -> None:
        kept: list[tuple[memoryview, bytes]] = []
        for count, view in enumerate(reader):
            # What it shows first is what it has to show for ever; which payload that is, is checked below.
            payload = bytes(view)
            received[thread].append(payload)
            if count % keep_every == 0:
                kept.append((view, payload))
            if hash(view) != hash(payload) or len(view) != len(payload):
                wrong.append((bytes(view), payload))
            del kept[:-100]
            wrong.extend((bytes(view), payload) for view, payload in kept[-3:] if view != payload)
        wrong.extend((bytes(view), payload) for view, payload in kept if view != payload)

    run_threads(*(lambda thread=thread: read(thread) for thread in range(4)))
    assert wrong == []
    assert sorted(payload for mine in received for payload in mine) == payloads


@switching
def test_view_forgotten_in_one_thread_while_another_reads_never_changes_under_a_third():
    payloads = numbered(3000)
    reader = StreamReader(reference.encode(payloads, "none"))
    handed: collections.deque[tuple[memoryview, bytes]] = collections.deque()
    finished = threading.Event()
    wrong: list[bytes] = []

    def read() -> None:
        for view, payload in zip(reader, payloads, strict=True):
            handed.append((view, payload))
        finished.set()

    def look() -> None:
        kept: list[tuple[memoryview, bytes]] = []
        while not finished.is_set() or handed:
            try:
                kept.append(handed.popleft())
            except IndexError:
                continue
            if len(kept) > 20:
                wrong.extend(payload for view, payload in kept if view != payload)
                # Some of the views become nobody's here, while the other thread asks for the next.
                kept = kept[::3]

    run_threads(read, look, look)
    assert wrong == []


# Any order of anything


class Model:
    """One reader, what was kept of its payloads, and what that must show."""

    def __init__(self, payloads: list[bytes], kind: str, capacity: int) -> None:
        self.payloads = payloads
        stream = reference.encode(payloads, "none")
        self.source: Any = {"bytearray": bytearray, "bytes": bytes, "bytesio": io.BytesIO, "cut": CutSource}[kind](
            stream
        )
        self.reader: StreamReader | None = StreamReader(self.source, capacity=capacity)
        self.delivered = 0
        self.kept: list[tuple[Kept, bytes]] = []
        self.released: list[memoryview] = []
        self.weak: list[tuple[weakref.ref[memoryview], bytes]] = []
        # What was read last, as the variable of a loop: still held while the next is asked for.
        self.variable: memoryview | None = None

    def read(self) -> tuple[memoryview, bytes] | None:
        assert self.reader is not None
        view = self.reader.read_message()
        if view is None:
            assert self.delivered == len(self.payloads)
            return None
        payload = self.payloads[self.delivered]
        self.delivered += 1
        assert view == payload
        assert len(view) == len(payload)
        return view, payload

    def keep(self, way: str) -> None:
        if (found := self.read()) is not None:
            self.kept.append((WAYS[way](found[0]), found[1]))

    def loop(self, count: int) -> None:
        for _ in range(count):
            if (found := self.read()) is not None:
                self.variable = found[0]
            del found

    def forget(self, count: int) -> None:
        self.variable = None
        for _ in range(count):
            self.read()

    def hash(self) -> None:
        if (found := self.read()) is not None:
            assert hash(found[0]) == hash(found[1])

    def refer_weakly(self, keep_too: bool) -> None:
        if (found := self.read()) is not None:
            self.weak.append((weakref.ref(found[0]), found[1]))
            if keep_too:
                self.kept.append((WAYS["view"](found[0]), found[1]))

    def release(self, remember: bool) -> None:
        if (found := self.read()) is not None:
            found[0].release()
            if remember:
                self.released.append(found[0])

    def batch(self, count: int) -> None:
        assert self.reader is not None
        batch = self.reader.read_batch(count)
        if batch is None:
            assert self.delivered == len(self.payloads)
            return
        expected = self.payloads[self.delivered : self.delivered + len(batch)]
        self.delivered += len(batch)
        assert [bytes(view) for view in batch] == expected
        self.kept.append((WAYS["view"](batch[-1]), expected[-1]))

    def drop(self, place: int) -> None:
        if self.kept:
            del self.kept[place % len(self.kept)]

    def collect(self, generation: int) -> None:
        gc.collect(generation)

    def end(self, how: str) -> None:
        """Closes the reader, or lets go of it, and looks at everything for the last time."""
        if how == "look_first":
            self.check()
        assert self.reader is not None
        if how != "collect":
            self.reader.close()
        if how != "keep_the_closed_reader":
            self.reader = None
        self.check()
        for view in self.released:
            with pytest.raises(ValueError, match="released"):
                view.tobytes()
        self.variable = None
        self.kept.clear()
        # Some are in cycles.
        gc.collect()
        assert [weak() for weak, _ in self.weak] == [None] * len(self.weak)
        if isinstance(self.source, bytearray):
            self.source.append(0)

    def check(self) -> None:
        if self.variable is not None:
            assert bytes(self.variable) in self.payloads[: self.delivered]
        assert_still_shown(self.kept)
        for weak, payload in self.weak:
            alive = weak()
            assert alive is None or alive == payload


STEPS = st.one_of(
    st.tuples(st.just("keep"), st.sampled_from(sorted(WAYS))),
    st.tuples(st.just("loop"), st.integers(1, 4)),
    st.tuples(st.just("forget"), st.integers(1, 4)),
    st.tuples(st.just("hash")),
    st.tuples(st.just("refer_weakly"), st.booleans()),
    st.tuples(st.just("release"), st.booleans()),
    st.tuples(st.just("batch"), st.integers(1, 4)),
    st.tuples(st.just("drop"), st.integers(0, 50)),
    st.tuples(st.just("collect"), st.just(0)),
)


@pytest.mark.parametrize("kind", ["bytearray", "bytes", "bytesio", "cut"])
@given(
    steps=st.lists(STEPS, min_size=1, max_size=60),
    capacity=st.sampled_from([1, 40, CAPACITY, 4096]),
    ending=st.sampled_from(["look_first", "close", "collect", "keep_the_closed_reader"]),
)
def test_views_kept_in_any_order_and_by_any_way_show_their_payloads(kind, steps, capacity, ending):
    model = Model(PAYLOADS, kind, capacity)
    for name, *arguments in steps:
        getattr(model, name)(*arguments)
    model.end(ending)


def random_step(chosen: random.Random) -> tuple[Any, ...]:
    names = ["keep"] * 5 + ["loop", "forget", "hash", "refer_weakly", "release", "batch", "drop", "drop", "drop"]
    name = chosen.choice(names)
    if name == "keep":
        return name, chosen.choice(sorted(WAYS))
    if name in ("refer_weakly", "release"):
        return name, chosen.random() < 0.5
    if name == "hash":
        return (name,)
    return name, chosen.randrange(1, 50 if name == "drop" else 4)


@pytest.mark.parametrize("seed", range(30))
def test_views_kept_in_long_random_orders_show_their_payloads(seed):
    chosen = random.Random(seed)
    kind = chosen.choice(["bytearray", "bytes", "bytesio", "cut"])
    model = Model(numbered(600, seed), kind, chosen.choice([1, 40, CAPACITY, 4096]))
    while model.delivered < 600:
        name, *arguments = random_step(chosen)
        getattr(model, name)(*arguments)
        if chosen.random() < 0.05:
            model.check()
    model.end(chosen.choice(["look_first", "close", "collect", "keep_the_closed_reader"]))


# Memory


@every_way
def test_keeping_and_forgetting_views_leaves_nothing_over(way, tmp_path):
    keep = WAYS[way]

    def cycle(folder: Any) -> None:
        kept: collections.deque[Kept] = collections.deque(maxlen=5)
        for number, view in enumerate(StreamReader(STREAM)):
            if number % 3:
                kept.append(keep(view))

    grown = growth(cycle, tmp_path, sys.getallocatedblocks, 4)
    # To leave one over for each view that is kept would be 320 in every round.
    assert min(grown) < 40, grown


def test_loop_makes_no_view_and_no_chunk_per_message():
    # All of it at the peak, too: two views, and no more of a stream that is a hundred times as long.
    def peak_of(count: int) -> int:
        stream = reference.encode([b"x" * 20], "none") * count
        reader = StreamReader(stream)
        tracemalloc.start()
        try:
            for _ in reader:
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_of(10)
    assert abs(peak_of(10_000) - peak_of(100)) < 500
