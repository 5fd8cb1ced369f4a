"""What every transform has in common: streams are written and read as those without one, and only the bytes differ."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import Builder, FlatStreamError, StreamReader, StreamWriter, UnexpectedEofError
from reference import framing
from reference import transforms as reference
from support.extent import in_one_test, spread
from support.messages import event_payloads
from support.modes import MODES, Mode, every_mode
from support.schemas import schema_of
from support.sinks import SinkKind, every_sink
from support.sources import CutReadSource, CutSource, SourceKind, every_source
from support.streams import by_batch, by_message
from support.transforms import CASES, Case, every_transform, every_twin

PAYLOADS = [b"first message", b"", b"a" * 300, b"\x00" * 20, bytes(range(256)), b"last"]


def reader_of(source: Any, case: Case, mode: Mode = MODES["none"], **options: Any) -> StreamReader:
    return StreamReader(source, case.deframer(mode.deframer()), **options)


# What is written


@in_one_test
@every_twin
@every_mode
def test_stream_has_the_bytes_of_the_twin(case: Case, mode: Mode) -> None:
    assert case.twin is not None
    assert case.write(PAYLOADS, mode) == reference.encode(case.twin.store(PAYLOADS), mode.name)


@in_one_test
@every_transform
@every_mode
def test_messages_come_back_with_every_checksum(case: Case, mode: Mode) -> None:
    stream = case.write(PAYLOADS, mode)
    for take in (by_message, by_batch, lambda reader: [bytes(payload) for payload in reader]):
        with reader_of(stream, case, mode) as reader:
            assert take(reader) == PAYLOADS
            assert (reader.offset, reader.frames_read) == (len(stream), len(PAYLOADS))
            assert reader._control_frames == sum(case.controls)


@in_one_test(step=2)
@every_transform
@every_sink
def test_every_sink_gets_the_stream(case: Case, sink_kind: SinkKind, tmp_path: Path) -> None:
    for size in (65536, 100, 0):
        with sink_kind.open(tmp_path) as target:
            with StreamWriter(target.sink, case.framer(MODES["crc32"].framer()), buffer_size=size) as writer:
                writer.write_payloads(PAYLOADS)
                writer.write_payload(b"large " * 12_000)
                assert writer.frames_written == len(PAYLOADS) + 1
            with reader_of(target.arrived(), case, MODES["crc32"]) as reader:
                assert by_message(reader) == [*PAYLOADS, b"large " * 12_000]


@in_one_test
@every_transform
@every_source
def test_every_source_gives_the_messages(case: Case, source_kind: SourceKind, tmp_path: Path) -> None:
    stream = case.write(PAYLOADS, MODES["xxhash64"])
    for take in (by_message, by_batch):
        with source_kind.open(stream, tmp_path) as source, reader_of(source, case, MODES["xxhash64"]) as reader:
            assert take(reader) == PAYLOADS


@in_one_test
@every_transform
@pytest.mark.parametrize("kind", [CutSource, CutReadSource])
def test_bytes_that_come_in_pieces_give_the_messages(case: Case, kind: Any) -> None:
    stream = case.write(PAYLOADS, MODES["crc16"], describe=True)
    for width in (1, 13):
        for take in (by_message, by_batch):
            with reader_of(kind(stream, range(0, len(stream), width)), case, MODES["crc16"], capacity=16) as reader:
                assert take(reader) == PAYLOADS
                assert reader.description is not None


@in_one_test
@every_transform
def test_every_way_to_write_goes_through_the_transform(case: Case) -> None:
    builder = Builder(64)
    builder.Finish(builder.CreateString("finished"))
    finished = bytes(builder.Output())
    with StreamReader(plain_stream(PAYLOADS)) as plain:
        batch = plain.read_batch()
        assert batch is not None
        sink = io.BytesIO()
        with StreamWriter(sink, case.framer(MODES["crc32"].framer())) as writer:
            writer.write_finished(builder)
            writer.write("text")
            writer.write_payloads(iter(PAYLOADS))
            writer.write_frames(batch)
            writer.write_payloads(batch)
            writer.write_payload(bytearray(b"bytearray"))
            writer.write_message(builder)
    with reader_of(sink.getvalue(), case, MODES["crc32"]) as reader:
        found = by_message(reader)
    text = found.pop(1)
    assert b"text" in text
    assert found == [finished, *PAYLOADS, *PAYLOADS, *PAYLOADS, b"bytearray", finished]


def plain_stream(payloads: list[bytes]) -> bytes:
    return framing.encode(payloads, "none")


@in_one_test
@every_transform
@every_mode
def test_counts_are_those_of_messages(case: Case, mode: Mode) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, case.framer(mode.framer()), describe=True) as writer:
        assert (writer.frames_written, writer.bytes_written) == (0, 0)
        writer.write_payloads(PAYLOADS)
        written = writer.bytes_written
        assert writer.frames_written == len(PAYLOADS)
    assert (writer.frames_written, writer.bytes_written) == (len(PAYLOADS), written)
    frames = framing.decode(sink.getvalue(), mode.name).outcomes
    head, tail = 1 + case.controls[0], len(frames) - case.controls[1]
    assert sum(frame.size for frame in frames[head:tail]) == written
    numbers = []
    with reader_of(sink.getvalue(), case, mode) as reader:
        while reader.read_message() is not None:
            numbers.append((reader.message_number, reader.message_offset))
        assert (reader.frames_read, reader.bytes_read) == (len(PAYLOADS), written)
    assert numbers == [(number, frame.offset) for number, frame in enumerate(frames[head:tail])]


@in_one_test
@every_transform
def test_stream_without_messages_has_both_ends(case: Case) -> None:
    stream = case.write([])
    assert len(framing.decode(stream, "none").outcomes) == sum(case.controls)
    with reader_of(stream, case) as reader:
        assert by_message(reader) == []
        assert reader.read_batch() is None
        assert reader.offset == len(stream)


# Batches


@in_one_test
@every_transform
@pytest.mark.parametrize("limits", [(None, None), (1, None), (2, None), (None, 1), (None, 300), (3, 301)])
def test_batch_has_payloads_and_where_their_frames_are(case: Case, limits: tuple[int | None, int | None]) -> None:
    mode = MODES["crc32"]
    stream = case.write(PAYLOADS, mode)
    frames = framing.decode(stream, mode.name).outcomes[case.controls[0] :]
    for options in ({}, {"capacity": 64}):
        found = []
        places = []
        with reader_of(io.BytesIO(stream), case, mode, **options) as reader:
            for batch in reader.batches(*limits):
                payloads = [bytes(payload) for payload in batch]
                assert bytes(batch.buffer) == b"".join(payloads)
                assert [bytes(batch[i]) for i in range(len(batch))] == payloads
                assert list(batch.lengths) == [len(payload) for payload in payloads]
                assert len(batch) <= (limits[0] or 8192)
                assert len(batch) == 1 or sum(batch.lengths) <= (limits[1] or 1 << 30)
                assert batch.stream_offset == batch.frame_offsets[0]
                assert batch.buffer.readonly
                found += payloads
                places += list(batch.frame_offsets)
                assert (reader.frames_read, reader.message_offset) == (len(found), places[-1])
        assert found == PAYLOADS
        assert places == [frame.offset for frame in frames[: len(PAYLOADS)]]


@every_mode
def test_frame_offsets_of_plain_batches_are_those_of_the_frames(mode: Mode) -> None:
    stream = framing.encode(PAYLOADS, mode.name)
    frames = framing.decode(stream, mode.name).outcomes
    for deframer in (mode.deframer(), mode.deframer().observed(lambda payload: None)):
        with StreamReader(io.BytesIO(stream), deframer, capacity=300) as reader:
            places = [place for batch in reader.batches() for place in batch.frame_offsets]
        assert places == [frame.offset for frame in frames]


def test_batch_ends_at_four_mebibytes_of_restored_payloads() -> None:
    case = CASES["zstd"]
    payloads = [bytes(1 << 20)] * 11
    with reader_of(case.write(payloads), case) as reader:
        assert [len(batch) for batch in reader.batches()] == [4, 4, 3]
    with reader_of(case.write(payloads), case) as reader:
        assert [len(batch) for batch in reader.batches(max_bytes=3 << 20)] == [3, 3, 3, 2]


@in_one_test
@every_transform
def test_frames_of_a_restored_batch_are_not_written(case: Case) -> None:
    with reader_of(case.write(PAYLOADS), case) as reader, StreamWriter(io.BytesIO()) as writer:
        batch = reader.read_batch()
        assert batch is not None
        with pytest.raises(ValueError, match=r"restored by .* so that it has no frames: use write_payloads\(batch\)"):
            writer.write_frames(batch)
        assert writer.frames_written == 0
        writer.write_payloads(batch)
        assert writer.frames_written == len(batch)


@in_one_test
@every_transform
def test_payloads_stay_valid_and_unchanged(case: Case) -> None:
    payloads = [bytes([number]) * number for number in range(200)]
    stream = case.write(payloads, MODES["crc32"])
    with reader_of(io.BytesIO(stream), case, MODES["crc32"], capacity=128) as reader:
        kept = list(reader)
    with reader_of(io.BytesIO(stream), case, MODES["crc32"], capacity=128) as reader:
        batches = list(reader.batches())
    assert [bytes(payload) for payload in kept] == payloads
    assert all(payload.readonly for payload in kept)
    assert [bytes(payload) for batch in batches for payload in batch] == payloads


# Mixed ways to read


@in_one_test
@every_transform
def test_ways_to_read_can_be_mixed(case: Case) -> None:
    # Not empty: an operation with another `on_error` takes that for damage.
    payloads = [b"%d" % number * (number % 7 + 1) for number in range(120)]
    stream = case.write(payloads, MODES["crc32"])
    with reader_of(io.BytesIO(stream), case, MODES["crc32"], capacity=200) as reader:
        found: list[bytes] = []
        while True:
            one = reader.read_message()
            if one is None:
                break
            found.append(bytes(one))
            found += map(bytes, reader.read_batch(max_frames=2, on_error="skip") or ())
            found += map(bytes, reader.read_batch(max_bytes=9) or ())
            found += map(bytes, reader.read_batch(max_bytes=4, on_error="stop") or ())
    assert found == payloads


@given(
    payloads=st.lists(st.binary(max_size=40), max_size=30),
    name=st.sampled_from(sorted(CASES)),
    checksum=st.sampled_from(["none", "crc16", "crc32", "xxhash64"]),
    capacity=st.integers(1, 300),
    size=st.sampled_from([0, 1, 50, 65536]),
    limits=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 100)), min_size=1, max_size=5),
)
def test_any_messages_come_back_in_any_batches(
    payloads: list[bytes], name: str, checksum: str, capacity: int, size: int, limits: list[tuple[int, int]]
) -> None:
    case, mode = CASES[name], MODES[checksum]
    stream = case.write(payloads, mode, buffer_size=size)
    if case.twin is not None:
        assert stream == reference.encode(case.twin.store(payloads), checksum)
    found: list[bytes] = []
    with reader_of(io.BytesIO(stream), case, mode, capacity=capacity) as reader:
        while True:
            most, size = limits[len(found) % len(limits)]
            batch = reader.read_batch(most, size)
            if batch is None:
                break
            found += map(bytes, batch)
    assert found == payloads


# Records, columns, JSON lines


@in_one_test
@every_transform
def test_records_columns_and_json_are_those_of_a_plain_stream(case: Case) -> None:
    mode = MODES["crc32"]
    table = schema_of("telemetry").root
    messages = event_payloads(50)
    plain = StreamReader(framing.encode(messages, "none"))
    expected = [record.to_json() for record in plain.records(table)]
    stream = case.write(messages, mode)
    with reader_of(io.BytesIO(stream), case, mode, capacity=700) as reader:
        assert [record.to_json() for record in reader.records(table)] == expected
    with reader_of(io.BytesIO(stream), case, mode, capacity=700) as reader:
        lines = io.BytesIO()
        assert reader.write_json_lines(lines, table) == 50
        assert lines.getvalue().decode().splitlines() == expected
    for verify in (False, True):
        with reader_of(io.BytesIO(stream), case, mode, capacity=700) as reader:
            columns = reader.columns(table, verify=verify).to_pylist()
        assert columns == StreamReader(framing.encode(messages, "none")).columns(table).to_pylist()


# Ends


@in_one_test
@every_transform
@every_mode
def test_stream_cut_anywhere_is_torn_there(case: Case, mode: Mode) -> None:
    payloads = PAYLOADS[:3]
    stream = case.write(payloads, mode)
    frames = framing.decode(stream, mode.name).outcomes
    ends = [0, *(frame.offset + frame.size for frame in frames)]
    first = case.controls[0]
    for cut in spread(range(len(stream)), 37):
        whole = sum(end <= cut for end in ends[1:])
        expected = payloads[: max(0, whole - first)]
        for take in ("message", "batch"):
            with reader_of(io.BytesIO(stream[:cut]), case, mode) as reader:
                found: list[bytes] = []
                error: FlatStreamError | None = None
                try:
                    if take == "message":
                        for payload in reader:
                            found.append(bytes(payload))
                    else:
                        for batch in reader.batches():
                            found += map(bytes, batch)
                except FlatStreamError as caught:
                    error = caught
                assert found == expected
                if cut in ends:
                    assert error is None
                else:
                    assert isinstance(error, UnexpectedEofError)
                    assert (error.offset, error.frame) == (ends[whole], len(expected))
                    assert reader.offset == ends[whole]


@in_one_test
@every_transform
def test_detached_reader_gives_the_bytes_behind_the_last_message(case: Case) -> None:
    stream = case.write(PAYLOADS, MODES["crc32"])
    for count in range(1, len(PAYLOADS)):
        with reader_of(io.BytesIO(stream), case, MODES["crc32"]) as reader:
            read = [reader.read_batch(1, 5) for _ in range(count)]
            assert len(read) == count
            offset = reader.offset
            _, rest = reader.detach()
            assert stream[offset:] == bytes(rest)
            assert offset == framing.decode(stream, "crc32").outcomes[case.controls[0] + count].offset


@in_one_test
@every_transform
def test_appending_without_a_message_adds_nothing(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    path.write_bytes(case.write(PAYLOADS, MODES["crc32"]))
    before = path.read_bytes()
    if "encrypted" in case.name or case.twin is None:
        return
    with flatstream.open(path, "a", framer=case.framer(MODES["crc32"].framer())):
        pass
    assert path.read_bytes() == before


@in_one_test
@every_transform
def test_frames_follow_one_another(case: Case) -> None:
    stream = case.write(PAYLOADS, MODES["crc64"])
    outcomes = framing.decode(stream, "crc64").outcomes
    assert all(isinstance(outcome, framing.Good) for outcome in outcomes)
    assert all(one.offset + one.size == two.offset for one, two in pairwise(outcomes))
