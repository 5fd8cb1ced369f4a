"""The order of messages: each frame once, nothing given up that can still come, nothing waited for that cannot."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream.checksums import Crc32
from flatstream.nats import Missing
from flatstream.nats._message import (
    HEADERS_SIZE,
    ForeignMessageError,
    Message,
    batches_of,
    headers_of,
    parse_message,
)
from flatstream.nats._order import Order
from support.extent import in_one_test

JOURNAL = "0123456789abcdef" * 2


class Piece(NamedTuple):
    first: int
    next: int
    after: int
    acked: int


def test_messages_in_order_are_taken_and_repeats_are_not() -> None:
    order: Order[Piece] = Order(JOURNAL, 0)
    one = Piece(0, 5, 0, 0)
    assert order.judge(one) == "next"
    assert order.take(one) == (one, 0, [])
    assert order.judge(one) == "repeated"
    assert order.judge(Piece(3, 5, 3, 0)) == "repeated"
    assert order.judge(Piece(5, 9, 5, 0)) == "next"


def test_message_that_overlaps_gives_only_its_new_frames() -> None:
    order: Order[Piece] = Order(JOURNAL, 7)
    assert order.take(Piece(5, 12, 5, 5)).skip == 2
    assert order.position == 12


def test_numbers_that_the_journal_does_not_have_are_told_with_the_frame_behind_them() -> None:
    order: Order[Piece] = Order(JOURNAL, 10)
    taken = order.take(Piece(15, 16, 10, 0))
    assert taken.missing == [Missing(JOURNAL, 10, 15, "journal")]


def test_message_published_again_behind_later_ones_is_waited_for() -> None:
    order: Order[Piece] = Order(JOURNAL, 0)
    second, third = Piece(5, 9, 5, 0), Piece(9, 12, 9, 0)
    for early in (second, third):
        assert order.judge(early) == "early"
        order.hold(early)
        order.conclude()
        assert order.release() == ([], [])
    first = Piece(0, 5, 0, 0)
    order.take(first)
    taken, repeated = order.release()
    assert [one.message for one in taken] == [second, third]
    assert repeated == []
    assert order.position == 12


def test_what_was_stored_before_and_is_gone_is_lost() -> None:
    order: Order[Piece] = Order(JOURNAL, 3)
    late = Piece(20, 25, 15, 12)
    order.hold(late)
    order.conclude()
    # From 12 to 15, a forwarder may still publish.
    assert order.position == 12
    assert order.release() == ([], [])
    order.hold(Piece(25, 26, 25, 25))
    order.conclude()
    (taken, last), _ = order.release()
    assert taken.missing == [
        Missing(JOURNAL, 3, 12, "stream"),
        Missing(JOURNAL, 12, 15, "stream"),
        Missing(JOURNAL, 15, 20, "journal"),
    ]
    assert last.missing == []


def test_unknown_journal_begins_with_what_the_broker_does_not_have_already() -> None:
    order: Order[Piece] = Order(JOURNAL, None)
    assert order.judge(Piece(8, 9, 8, 6)) == "early"
    order.hold(Piece(8, 9, 8, 6))
    order.conclude()
    assert order.position == 6


@given(seed=st.integers(0, 2**32), count=st.integers(1, 60), gaps=st.booleans())
def test_any_course_of_publications_gives_each_stored_frame_once_in_order(seed: int, count: int, gaps: bool) -> None:
    # A forwarder with a window, of which publications fail and are repeated, and which is killed and begins anew; and a
    # stream that loses messages. The receiver gets the messages of the stream from the beginning.
    dice = random.Random(seed)
    frames = [number for number in range(count) if not gaps or dice.random() < 0.8]
    stream: list[Piece] = []
    acked = 0
    while acked < len(frames):
        at, after = acked, frames[acked - 1] + 1 if acked else 0
        window: list[tuple[int, int, int, int]] = []
        known = after
        while at < len(frames) and len(window) < 4:
            size = 1
            while at + size < len(frames) and frames[at + size] == frames[at] + size and dice.random() < 0.6:
                size += 1
            window.append((frames[at], frames[at] + size, after, at + size))
            after, at = frames[at] + size, at + size
        is_failed = False
        for first, behind, before, end in window:
            is_stored = dice.random() < 0.7
            if is_stored:
                stream.append(Piece(first, behind, before, known))
            is_failed |= not is_stored or dice.random() < 0.1
            if not is_failed:
                # The next messages of the window may be published before or after this is known.
                acked = end
                if dice.random() < 0.5:
                    known = behind
    kept = [piece for piece in stream if dice.random() < 0.9] if dice.random() < 0.5 else stream
    order: Order[Piece] = Order(JOURNAL, 0)
    got: list[int] = []
    missing: list[Missing] = []
    for piece in kept:
        if order.judge(piece) == "early":
            order.hold(piece)
            order.conclude()
            taken = order.release()[0]
        elif order.judge(piece) == "next":
            taken = [order.take(piece), *order.release()[0]]
        else:
            taken = []
        for one in taken:
            missing += one.missing
            got += range(one.message.first + one.skip, one.message.next)
    assert got == sorted(set(got))
    stored = {number for piece in kept for number in range(piece.first, piece.next)}
    told = {number for one in missing for number in range(one.first, one.next)}
    if kept is stream:
        assert got == frames
        assert not told & set(frames)
    assert set(got) <= stored
    assert not told & set(got)
    # Up to the last one, each number was given or told.
    assert not got or set(got) | told == set(range(max(got) + 1))
    held = {number for piece in order.held.values() for number in range(piece.first, piece.next)}
    assert stored - set(got) <= held | told


def frames_message(payloads: list[bytes], **changes: object) -> tuple[dict[str, str], bytes]:
    data = b"".join(
        len(payload).to_bytes(4, "little") + Crc32().calculate(payload).to_bytes(4, "little") + payload
        for payload in payloads
    )
    message = Message("frames", JOURNAL, "crc32", 10, 10 + len(payloads), 7, 5, data)
    return headers_of(message) | {name: str(value) for name, value in changes.items()}, data


def test_message_is_read_as_it_was_published() -> None:
    headers, data = frames_message([b"abc", b"d", b"efgh"])
    assert headers["Nats-Msg-Id"] == f"{JOURNAL}:10:13"
    message = parse_message(headers, data)
    assert message == ("frames", JOURNAL, "crc32", 10, 13, 7, 5, data)
    for skip, expected in enumerate([[b"abc", b"d", b"efgh"], [b"d", b"efgh"], [b"efgh"]]):
        found = [bytes(payload) for batch in batches_of(message, Crc32(), skip) for payload in batch]
        assert found == expected


def test_headers_have_room_with_the_longest_values() -> None:
    largest = 2**63 - 1
    headers = headers_of(Message("description", JOURNAL, "x" * 40, largest, largest, largest, largest, b""))
    # What the client adds for `stream=`: names of streams have at most 255 characters.
    headers["Nats-Expected-Stream"] = "s" * 255
    size = len(b"NATS/1.0\r\n\r\n") + sum(len(f"{name}: {value}\r\n") for name, value in headers.items())
    assert size <= HEADERS_SIZE


@in_one_test
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Version", "2"),
        ("Version", ""),
        ("Kind", "frame"),
        ("Journal", "0" * 32),
        ("Journal", JOURNAL[:-1]),
        ("Journal", "../" + JOURNAL[3:]),
        ("Checksum", "a b"),
        ("Checksum", "x" * 41),
        ("First", "-1"),
        ("First", str(2**63)),
        ("First", "\u0661"),
        ("Count", "0"),
        ("Count", "1000000000"),
        ("After", "11"),
        ("Acked", "x"),
    ],
)
def test_message_with_a_wrong_header_is_refused(name: str, value: str) -> None:
    headers, data = frames_message([b"abc", b"d"])
    headers[f"Flatstream-{name}"] = value
    with pytest.raises(ForeignMessageError, match=f"Flatstream-{name}"):
        parse_message(headers, data)


def test_message_without_headers_is_refused() -> None:
    for headers in (None, {}, {"Nats-Msg-Id": "x"}):
        with pytest.raises(ForeignMessageError, match="Flatstream-Version"):
            parse_message(headers, b"abc")


def test_damaged_frames_are_refused_at_every_byte_and_cut() -> None:
    headers, data = frames_message([b"abc", b"d", b"efgh"])
    message = parse_message(headers, data)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x40
        with pytest.raises(ForeignMessageError):
            batches_of(message._replace(data=bytes(changed)), Crc32())
        with pytest.raises(ForeignMessageError):
            batches_of(message._replace(data=data[:at]), Crc32())


def test_frames_that_are_more_or_fewer_than_the_headers_say_are_refused() -> None:
    for count in (2, 4):
        headers, data = frames_message([b"abcdefg", b"d", b"efghijk"], **{"Flatstream-Count": count})
        with pytest.raises(ForeignMessageError, match=f"expected {count} frames, got 3"):
            batches_of(parse_message(headers, data), Crc32())
