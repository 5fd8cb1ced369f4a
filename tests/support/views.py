"""Payloads and readers for the tests of views."""

from __future__ import annotations

import collections
import ctypes
import functools
import itertools
import pickle
import random
import re
import struct
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from reference import framing as reference


def numbered(count: int, seed: int = 7) -> list[bytes]:
    """Payloads that are all different, of 8 to 40 bytes: multiples of 8, so that they can be cast."""
    sizes = random.Random(seed)
    return [(b"%07d" % number).ljust(8 * sizes.randrange(1, 6), b"%c" % (65 + number % 26)) for number in range(count)]


PAYLOADS = numbered(120)


STREAM = reference.encode(PAYLOADS, "none")


# Small enough that the reader goes from chunk to chunk, and large enough for several frames in each.
CAPACITY = 150


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
