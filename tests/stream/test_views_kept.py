"""Views that are kept in any way show what they were kept for, whatever is read, released or collected afterwards."""

from __future__ import annotations

import collections
import gc
import io
import mmap
import random
import sys
import threading
import tracemalloc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import (
    SizeThresholdPolicy,
    StreamReader,
)
from reference import framing as reference
from support.extent import in_one_test
from support.memory import growth
from support.sources import CutSource
from support.threads import run_threads, switching
from support.views import CAPACITY, PAYLOADS, STREAM, WAYS, Kept, assert_still_shown, every_way, numbered

pytestmark = pytest.mark.usefixtures("quick_collections")

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


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
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


@in_one_test
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
