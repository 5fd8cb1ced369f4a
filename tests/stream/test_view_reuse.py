"""A reader hands out a view object again that everybody else has forgotten, and nobody can notice.

Making a memoryview takes longer than all else that is done for a small frame, so a reader keeps the last two that it
handed out, and has one of them show the next payload if it is the only one that still knows it. Shown here, first, that
it does so at all, since the rest would show nothing otherwise. Then, for every way of keeping a view or something that
was made from it, that what is kept shows the payload that it was kept for, whatever is read afterwards: from every kind
of source, by every way of reading, until the reader is closed and beyond. test_views_kept.py goes on with weak
references, threads and memory.
"""

from __future__ import annotations

import collections
import functools
import gc
import itertools
import pickle
import random
import sysconfig
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from flatstream import (
    Checksum,
    ChecksumDeframer,
    ChecksumMismatchError,
    Crc32,
    DefaultDeframer,
    Deframer,
    FrameSpan,
    StreamReader,
    Validator,
)
from reference import framing as reference
from support.extent import in_one_test
from support.sources import CutSource, every_source
from support.views import CAPACITY, PAYLOADS, STREAM, WAYS, Kept, assert_still_shown, every_way

pytestmark = pytest.mark.usefixtures("quick_collections")

# Without the interpreter's lock a count of references says nothing about other threads, and views are not reused.
REUSES = not sysconfig.get_config_var("Py_GIL_DISABLED")


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


# Which payloads are kept: each, every other one (what a loop's two views in turns make critical), and others.
PATTERNS: dict[str, Callable[[int], bool]] = {
    "all": lambda number: True,
    "even": lambda number: number % 2 == 0,
    "odd": lambda number: number % 2 == 1,
    "thirds": lambda number: number % 3 == 1,
    "pairs": lambda number: number % 4 < 2,
    "first": lambda number: number == 0,
}


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
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
