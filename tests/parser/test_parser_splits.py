"""A stream that arrives in any pieces gives the messages and errors that it gives as a whole."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import FrameParser, StreamReader, StreamWriter
from reference import framing as reference
from support.extent import in_one_test, spread
from support.modes import MODES, Mode, every_mode
from support.parsing import hand_in, parse_pieces, pieces_of, read_whole
from support.python_strategies import MagicDeframer, MagicFramer, PythonDeframer
from support.schemas import TELEMETRY
from support.streams import SMALL_PAYLOADS, corpus, flip

ON_ERROR = ("raise", "skip", "stop", "resync")


def described(mode: Mode) -> bytes:
    """A stream with a description, and three messages."""
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer(), describe=True, metadata={"site": "north"}) as writer:
        writer.write_payloads([b"one", b"two", b"three"])
    return sink.getvalue()


@in_one_test
@every_mode
@pytest.mark.parametrize("lent", [False, True], ids=["feed", "get_buffer"])
def test_stream_cut_in_two_at_each_byte_is_read_as_a_whole_one(mode: Mode, lent: bool) -> None:
    data = corpus(mode).data
    expected = read_whole(data, mode.deframer())
    assert [event[2] for event in expected[0]] == list(SMALL_PAYLOADS)
    for cut in range(len(data) + 1):
        assert parse_pieces(pieces_of(data, [cut]), mode.deframer(), lent=[lent], capacity=32) == expected, cut


@in_one_test
@every_mode
@pytest.mark.parametrize("lent", [False, True], ids=["feed", "get_buffer"])
@pytest.mark.parametrize("capacity", [1, 7, 64, 4096])
def test_stream_that_comes_byte_by_byte_is_read_as_a_whole_one(mode: Mode, lent: bool, capacity: int) -> None:
    data = corpus(mode).data
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert parse_pieces(pieces, mode.deframer(), lent=[lent], capacity=capacity) == read_whole(data, mode.deframer())


@in_one_test
@every_mode
def test_torn_end_at_each_byte_is_told_as_by_a_reader(mode: Mode) -> None:
    stream = corpus(mode)
    for end in range(len(stream.data) + 1):
        data = stream.data[:end]
        events, results = parse_pieces(pieces_of(data, [end // 2]), mode.deframer())
        assert (events, results) == read_whole(data, mode.deframer())
        assert (end in (0, *stream.ends)) == (not events or events[-1][0] is not flatstream.UnexpectedEofError)


@in_one_test
@every_mode
@pytest.mark.parametrize("on_error", ON_ERROR)
def test_flipped_bit_is_treated_as_by_a_reader(mode: Mode, on_error: Any) -> None:
    payloads = [b"%d telemetry event of some length" % number for number in range(8)]
    data = reference.encode(payloads, mode.name)
    for bit in spread(range(8 * len(data)), 41):
        damaged = flip(data, bit)
        expected = read_whole(damaged, mode.deframer(), on_error=on_error)
        cuts = [len(data) // 3, len(data) // 2]
        for pieces in (pieces_of(damaged, cuts), [damaged]):
            assert parse_pieces(pieces, mode.deframer(), on_error=on_error, max_frame_len=None) == expected, bit


@given(data=st.data())
def test_random_pieces_give_what_the_whole_stream_gives(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(list(MODES.values())))
    payloads = data.draw(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=12))
    on_error = data.draw(st.sampled_from(ON_ERROR))
    stream = bytearray(described(mode) if data.draw(st.booleans()) else b"") + reference.encode(payloads, mode.name)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(stream) - 1))
        stream[place] = data.draw(st.integers(0, 255))
    del stream[data.draw(st.just(len(stream)) | st.integers(0, len(stream))) :]
    whole = bytes(stream)
    pieces = pieces_of(whole, data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    got = parse_pieces(
        pieces,
        mode.deframer(),
        lent=data.draw(st.lists(st.booleans(), min_size=1, max_size=5)),
        on_error=on_error,
        capacity=data.draw(st.sampled_from([1, 16, 100, 1 << 16])),
    )
    expected = read_whole(whole, mode.deframer().bounded(16 << 20), on_error=on_error, allow_empty=None)
    assert got == expected


@pytest.mark.parametrize("on_error", ["raise", "resync"])
def test_deframer_in_python_sees_pieces(on_error: Any) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, MagicFramer(flatstream.DefaultFramer())) as writer:
        writer.write_payloads([b"abc", b"de" * 30, b"f"])
    data = sink.getvalue()
    for deframer in (MagicDeframer(flatstream.DefaultDeframer()), MagicDeframer(PythonDeframer())):
        expected = read_whole(data, deframer, on_error=on_error)
        for cut in range(len(data)):
            assert parse_pieces(pieces_of(data, [cut, cut + 3]), deframer, on_error=on_error) == expected


@in_one_test
@every_mode
def test_description_is_taken_off_in_any_pieces(mode: Mode) -> None:
    data = described(mode)
    reader = StreamReader(data, mode.deframer())
    expected = reader.description
    assert expected is not None
    size = len(data) - len(reference.encode([b"one", b"two", b"three"], mode.name))
    for cut in spread(range(len(data) + 1), 5):
        parser = FrameParser(mode.deframer())
        hand_in(parser, data[:cut], cut % 2 == 0)
        assert (parser.description is not None) == (cut >= size), cut
        # Asking takes nothing.
        assert parser.frames_read == 0
        hand_in(parser, data[cut:], cut % 3 == 0)
        assert parser.description == expected
        assert [bytes(payload) for payload in parser] == [b"one", b"two", b"three"]
        assert parser.message_offset == len(data) - len(reference.encode([b"three"], mode.name))


def events_stream(count: int) -> tuple[Any, bytes, list[dict[str, Any]]]:
    table = TELEMETRY.table("telemetry.Disk")
    sink = io.BytesIO()
    rows = [{"name": f"sd{number}", "counters": (number, 2, 3, 4, 5, 6)} for number in range(count)]
    with StreamWriter(sink, "crc32") as writer:
        flatstream.RecordWriter(writer, table).write_records(rows)
    return table, sink.getvalue(), rows


def test_batches_records_and_columns_give_what_has_arrived() -> None:
    table, data, rows = events_stream(40)
    rng = random.Random(5)
    expected = StreamReader(data, "crc32").columns(table).to_pylist()
    assert [row["name"] for row in expected] == [row["name"] for row in rows]
    for read in (
        lambda parser: [view.to_dict() for view in parser.records(table)],
        lambda parser: parser.columns(table).to_pylist(),
        lambda parser: [row for part in parser.column_batches(table, batch_rows=3) for row in part.to_pylist()],
        lambda parser: [row for part in parser.column_batches(table, batch_rows=None) for row in part.to_pylist()],
        lambda parser: [table.view(payload).to_dict() for batch in parser.batches(4) for payload in batch],
    ):
        parser = FrameParser("crc32")
        whole = [view.to_dict() for view in StreamReader(data, "crc32").records(table)]
        got: list[Any] = []
        for piece in pieces_of(data, [rng.randrange(len(data)) for _ in range(15)]):
            hand_in(parser, piece, rng.random() < 0.5)
            before = parser.frames_read
            found = read(parser)
            assert len(found) == parser.frames_read - before
            got += found
        assert [row["name"] for row in got] == [row["name"] for row in whole]
        assert parser.frames_read == 40
        assert parser.buffered == 0


def test_iterations_go_on_after_more_bytes() -> None:
    table, data, _ = events_stream(4)
    size = len(data) // 4
    parser = FrameParser("crc32")
    payloads, records, batches = iter(parser), parser.records(table), parser.batches(1)
    with pytest.raises(StopIteration):
        next(payloads)
    parser.feed(data[: 2 * size])
    assert bytes(next(payloads)) == bytes(StreamReader(data, "crc32").read_message() or b"")
    assert next(records)["name"] == "sd1"
    for iterator in (payloads, records):
        with pytest.raises(StopIteration):
            next(iterator)
    parser.feed(data[2 * size :])
    assert next(records)["name"] == "sd2"
    assert len(next(batches)) == 1
    assert next(payloads, None) is None
