"""The wire format is the crate's: its own files are read, and written byte for byte.

The files in ``vectors/`` were written by the Rust crate `flatstream` 0.2.7 (see the README there). None of their bytes
may ever change, and no test here may be made to pass by changing them: they stand for files that exist on other
people's disks, and a reader that no longer reads them, or a writer that writes anything else, has lost its format.
"""

from __future__ import annotations

import hashlib
import io
import json
from itertools import islice
from typing import Any

import flatbuffers
import pytest

import flatstream
from flatstream import RecoveryEnd, RecoveryReport, StreamReader, StreamWriter, recover, recover_file
from reference import framing as reference
from support.extent import in_one_test, spread
from support.modes import MODES, Mode
from support.schemas import VECTORS
from support.sinks import every_sink
from support.sources import SOURCES, every_source
from support.streams import by_batch, by_message, guarded

# What the crate's files call a checksum, and what we do.
FILE_MODES = {"none": MODES["none"], "crc16": MODES["crc16"], "crc32": MODES["crc32"], "xxh3_64": MODES["xxhash64"]}
UPSTREAM_MODES = {name: MODES[name] for name in ("crc16", "crc32", "xxhash64")} | {"default": MODES["none"]}

ERRORS: dict[str, type[flatstream.FlatStreamError] | None] = {
    "ok": None,
    "InvalidFrame": flatstream.InvalidFrameError,
    "UnexpectedEof": flatstream.UnexpectedEofError,
    "ChecksumMismatch": flatstream.ChecksumMismatchError,
}
ENDS = {"CleanEof": RecoveryEnd.CLEAN_EOF, "TornTail": RecoveryEnd.TORN_TAIL}

# Frozen, because the vectors are only worth something as long as nobody has "corrected" them.
DIGESTS = {
    "bit_flips.json": "a64a42cb6de2ec94bb7edd4f7e3019da44b0b720ba7485b4082f36c21bbb9f50",
    "frames/crc16.bin": "763a3d0d1200cf47519182c3d6596c9817dc4fc9a0e04a82c2a0641913a9cbbf",
    "frames/crc32.bin": "eb88709e964ef09236784f2491a01f20e03c010b85a7fe2531046ae3e7b85779",
    "frames/manifest.json": "74d073c181fe1251e6238862f9118ef4b67c4c969bb53863e57560c936108c14",
    "frames/none.bin": "1605959c0eed792fe91ec71e58c1a8f690ab9bee665dcf9515a667b3190f736b",
    "frames/payloads.bin": "1605959c0eed792fe91ec71e58c1a8f690ab9bee665dcf9515a667b3190f736b",
    "frames/xxh3_64.bin": "3d2c248531f99da9418fd6a2d76eed9f40c05b85f57e2d22784b4aa960ba8a20",
    "recover.json": "e87636e67b33b4ab78755698e6bd09f0fe5017cb855147e11e02a02b10a415b9",
    "small_crc16.bin": "a4bc4554d2ad678ce86533e54aa1f8a7adaec68da0bb2a0020257a9f396f6db5",
    "small_crc32.bin": "2cc3a54d4ab3696dba654ef6463cacddd4467f02874b1db67278b4d7f8df2da5",
    "small_none.bin": "6aca48dc7153c97288570b5076ba0e9521174c7a39c581e0702248f605627206",
    "small_payloads.bin": "6aca48dc7153c97288570b5076ba0e9521174c7a39c581e0702248f605627206",
    "small_xxh3_64.bin": "c75e8c9be78a87b45a70006cef62f9e1b77ac316d723581d5c0edf0ac52acca1",
    "upstream_hex/crc16_empty.hex": "70cad16dcf08fa191707135829eefc24b6f56a915d7f6588753f6e050fa6fb4a",
    "upstream_hex/crc16_medium.hex": "87a0852ea2c0c8b8b4d6f9b9d15d884964a6d3f613be4f629c16d4a231b8acbf",
    "upstream_hex/crc16_small.hex": "5d75d5281b149f94be9c9604c6d670748a2e5e257c7973ecdb00fdf656696d8b",
    "upstream_hex/crc32_empty.hex": "b1e74676141c99cb63d241a9217e64329de2f73a09e02875f00c97069f0ac916",
    "upstream_hex/crc32_medium.hex": "df4222c6fa47c29f0b131842db03df72e79156a69e5cdcb268b2c1bd6a48a2d6",
    "upstream_hex/crc32_small.hex": "a156a80a0e793c643d5a4db27c8f5e7bad6d301add66861317168aa61a0d7574",
    "upstream_hex/default_empty.hex": "22dbe6b7b70a64966e31813e597db3e863492d341bee2fb05c0e8864773387af",
    "upstream_hex/default_medium.hex": "6e70068d67481eb860e97759af6933e309431cc6baef5f62a299cbae8f08c34a",
    "upstream_hex/default_small.hex": "6f413c19c206228430a590b67290e560e694460986f279d4fe15126ea125257a",
    "upstream_hex/xxhash64_empty.hex": "41d51d5a48d2449ffea7699d9581e48342c638ad7ef40c8103dbbd1c4bd28137",
    "upstream_hex/xxhash64_medium.hex": "e33d99202f709ac559b33346244b036af73d13c3ee84ffd6ddf8b661f2754415",
    "upstream_hex/xxhash64_small.hex": "3695fbfc0d2529c22348ec4a44d5d4d48e9ab42a31ed681ea4724bd720a2da25",
    "verifier/monster_test.bfbs": "92bde4e1fdf80d94b2693bf5fa9afac3e187f88a3ab975c3f35e83d88b8bb360",
    "verifier/monsterdata_python_wire.mon": "cd14516391d8222227dd7ec139a8e91949c1d73b3cbc05a8951b4994ac77332a",
    "verifier/monsterdata_test.mon": "2987879c4450105d069ecdb8aa2029bdf40388c4a99fdab39b9b2b9d131b1ccc",
    "verifier/payloads.bin.xz": "1b12a692c67b4866ebff0f454b79ebb097daaeb64a07b57f846c1a0757752033",
    "verifier/verdicts.bin": "6ca9b40929f2561ba5bcb4ea249bd93b0a503d3e9be32b0bfbb617a2430fdb3e",
}

file_modes = pytest.mark.parametrize("name", FILE_MODES)


def payload_list(name: str) -> list[bytes]:
    """The payloads in a payload list: for each a u32 LE length and its bytes."""
    data = (VECTORS / name).read_bytes()
    payloads = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        assert end <= len(data)
        payloads.append(data[4:end])
        data = data[end:]
    return payloads


def small_stream(name: str) -> bytes:
    return (VECTORS / f"small_{name}.bin").read_bytes()


def written(payloads: list[bytes], mode: Mode, **options: Any) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer(), **options) as writer:
        for payload in payloads:
            writer.write_payload(payload)
    return sink.getvalue()


def test_vectors_are_the_files_that_the_crate_wrote():
    found = {
        path.relative_to(VECTORS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VECTORS.rglob("*")
        if path.is_file() and path.name != "README.md"
    }
    assert found == DIGESTS


# frames/: 313 payloads and the stream of each checksum mode


def test_frames_manifest_names_every_stream():
    manifest = json.loads((VECTORS / "frames/manifest.json").read_text())
    payloads = payload_list(f"frames/{manifest['payloads']}")
    assert len(payloads) == manifest["count"] == 313
    assert (min(map(len, payloads)), max(map(len, payloads))) == (0, 65_537)
    assert manifest["streams"] == {name: f"{name}.bin" for name in FILE_MODES}


@in_one_test
@every_source
@file_modes
def test_frames_stream_read_from_every_source_gives_the_payloads(name, source_kind, tmp_path):
    data = (VECTORS / f"frames/{name}.bin").read_bytes()
    with (
        source_kind.open(data, tmp_path) as source,
        StreamReader(source, FILE_MODES[name].deframer()) as reader,
    ):
        assert [bytes(payload) for payload in reader] == payload_list("frames/payloads.bin")
        assert (reader.frames_read, reader.bytes_read, reader.offset) == (313, len(data), len(data))


@in_one_test
@file_modes
def test_frames_stream_read_in_batches_gives_the_payloads(name):
    data = (VECTORS / f"frames/{name}.bin").read_bytes()
    with StreamReader(io.BytesIO(data), FILE_MODES[name].deframer(), capacity=1000) as reader:
        batches = list(reader.batches())
        assert [bytes(payload) for batch in batches for payload in batch] == payload_list("frames/payloads.bin")
    assert len(batches) > 1


@in_one_test
@every_sink
@file_modes
def test_frames_payloads_written_to_every_sink_give_the_stream(name, sink_kind, tmp_path):
    with sink_kind.open(tmp_path) as target:
        with StreamWriter(target.sink, FILE_MODES[name].framer()) as writer:
            writer.write_payloads(payload_list("frames/payloads.bin"))
            assert writer.frames_written == 313
        assert target.arrived() == (VECTORS / f"frames/{name}.bin").read_bytes()


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 1, 100, 65536, 1 << 20])
@file_modes
def test_frames_payloads_written_with_every_buffer_size_give_the_stream(name, buffer_size):
    stream = written(payload_list("frames/payloads.bin"), FILE_MODES[name], buffer_size=buffer_size)
    assert stream == (VECTORS / f"frames/{name}.bin").read_bytes()


@in_one_test
@file_modes
def test_frames_stream_copied_with_flatstream_open_is_the_same_file(name, tmp_path):
    original, copy = VECTORS / f"frames/{name}.bin", tmp_path / "copy.fs"
    checksum = FILE_MODES[name].checksum_type
    with (
        flatstream.open(original, checksum=checksum) as reader,
        flatstream.open(copy, "w", checksum=checksum) as writer,
    ):
        writer.write_payloads(reader)
    assert copy.read_bytes() == original.read_bytes()


@in_one_test
@file_modes
def test_reference_reads_and_writes_the_frames(name):
    """The judge is judged too."""
    data = (VECTORS / f"frames/{name}.bin").read_bytes()
    payloads = payload_list("frames/payloads.bin")
    assert reference.encode(payloads, FILE_MODES[name].name) == data
    # Half of them, because checksums bit by bit are slow.
    half = len(reference.encode(payloads[:150], "none")) + 150 * FILE_MODES[name].size
    stream = reference.decode(data[:half], FILE_MODES[name].name)
    assert stream.payloads == payloads[:150]
    assert stream.end == reference.Clean(half)


# small_*: five payloads


SMALL_PAYLOADS = [b"", b"a", b"hello, stream", bytes(range(64)), b"tail"]


def test_small_payloads_are_five_known_ones():
    assert payload_list("small_payloads.bin") == SMALL_PAYLOADS


@in_one_test
@every_source
@file_modes
def test_small_stream_read_from_every_source_gives_the_payloads(name, source_kind, tmp_path):
    with (
        source_kind.open(small_stream(name), tmp_path) as source,
        StreamReader(source, FILE_MODES[name].deframer()) as reader,
    ):
        assert [bytes(payload) for payload in reader] == SMALL_PAYLOADS


@in_one_test
@every_sink
@file_modes
def test_small_payloads_written_to_every_sink_give_the_stream(name, sink_kind, tmp_path):
    with sink_kind.open(tmp_path) as target:
        with StreamWriter(target.sink, FILE_MODES[name].framer()) as writer:
            for payload in SMALL_PAYLOADS:
                writer.write_payload(payload)
        assert target.arrived() == small_stream(name)


# upstream_hex/: the crate's twelve golden files, one frame each


def golden(name: str) -> bytes:
    return bytes.fromhex((VECTORS / f"upstream_hex/{name}.hex").read_text())


def medium_builder() -> flatbuffers.Builder:
    """What the crate's "medium" payload is: the message of a builder whose root is a vector of 1024 zero bytes."""
    builder = flatbuffers.Builder(16)
    builder.Finish(builder.CreateByteVector(bytes(1024)))
    return builder


MEDIUM = b"\x04\x00\x00\x00" + b"\x00\x04\x00\x00" + bytes(1024)
GOLDEN_PAYLOADS = {"empty": b"", "small": b"abc", "medium": MEDIUM}

every_golden = pytest.mark.parametrize("size", GOLDEN_PAYLOADS)
upstream_modes = pytest.mark.parametrize("name", UPSTREAM_MODES)


def test_upstream_hex_holds_twelve_files():
    found = {path.stem for path in (VECTORS / "upstream_hex").iterdir()}
    assert found == {f"{name}_{size}" for name in UPSTREAM_MODES for size in GOLDEN_PAYLOADS}
    assert len(found) == 12


@in_one_test
@every_golden
@upstream_modes
def test_golden_payload_written_gives_the_golden_file(name, size):
    assert written([GOLDEN_PAYLOADS[size]], UPSTREAM_MODES[name]) == golden(f"{name}_{size}")


@in_one_test
@every_golden
@upstream_modes
def test_golden_file_read_gives_the_golden_payload(name, size):
    data = golden(f"{name}_{size}")
    with StreamReader(data, UPSTREAM_MODES[name].deframer()) as reader:
        assert [bytes(payload) for payload in reader] == [GOLDEN_PAYLOADS[size]]
    assert reference.decode(data, UPSTREAM_MODES[name].name).payloads == [GOLDEN_PAYLOADS[size]]


def test_medium_payload_is_what_a_builder_makes_of_1024_zero_bytes():
    assert bytes(medium_builder().Output()) == MEDIUM


@in_one_test
@pytest.mark.parametrize("method", ["write_finished", "write_message"])
@upstream_modes
def test_medium_message_written_from_its_builder_gives_the_golden_file(name, method):
    sink = io.BytesIO()
    with StreamWriter(sink, UPSTREAM_MODES[name].framer()) as writer:
        getattr(writer, method)(medium_builder())
    assert sink.getvalue() == golden(f"{name}_medium")


@in_one_test
@upstream_modes
def test_medium_message_written_in_simple_mode_gives_the_golden_file(name):
    class Medium:
        def serialize(self, builder):
            builder.Finish(builder.CreateByteVector(bytes(1024)))

    sink = io.BytesIO()
    with StreamWriter(sink, UPSTREAM_MODES[name].framer()) as writer:
        writer.write_batch([Medium(), Medium()])
    assert sink.getvalue() == 2 * golden(f"{name}_medium")


@pytest.mark.parametrize(
    ("name", "wrong_bytes"), [("crc16", "d69d61"), ("crc32", "c24124"), ("xxhash64", "50392f")], ids=["16", "32", "64"]
)
def test_plain_reader_on_checksummed_stream_gives_right_length_and_wrong_bytes(name, wrong_bytes):
    # It knows nothing of the checksum, and takes its first bytes for the first of the payload.
    with StreamReader(golden(f"{name}_small")) as reader:
        assert [bytes(payload) for payload in islice(reader, 1)] == [bytes.fromhex(wrong_bytes)]


# recover.json: the crate's report for every length that a small stream can be cut to


def recover_rows(name: str, guard: bool = False) -> list[tuple[int, RecoveryReport]]:
    table = json.loads((VECTORS / "recover.json").read_text())
    assert table["columns"] == ["file_length", "frames", "last_good_offset", "end"]
    rows = [(length, RecoveryReport(frames, good, ENDS[end])) for length, frames, good, end in table["rows"][name]]
    stream = small_stream(name)
    assert [length for length, _ in rows] == list(range(len(stream) + 1))
    if not guard:
        return rows
    header, starts = 4 + FILE_MODES[name].size, [0]
    while starts[-1] < len(stream):
        starts.append(starts[-1] + header + int.from_bytes(stream[starts[-1] : starts[-1] + 4], "little"))
    return [(length, guarded(report, stream[:length], starts, header)) for length, report in rows]


# A pure cut leaves nothing intact behind it, so that the guard finds nothing and agrees with the crate, but for streams
# without a whole frame and for the zeros of an empty frame at the end.
guards = pytest.mark.parametrize("guard", [False, True], ids=["unguarded", "guarded"])


@in_one_test(step=2)
@guards
@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in SOURCES])
@file_modes
def test_recover_of_a_stream_cut_anywhere_gives_the_crates_report(name, kind, guard, tmp_path):
    stream, deframer = small_stream(name), FILE_MODES[name].deframer()
    for length, report in spread(recover_rows(name, guard), 5):
        with SOURCES[kind].open(stream[:length], tmp_path) as source:
            assert recover(source, deframer, guard=guard) == report, length


@in_one_test
@guards
@file_modes
def test_recover_file_of_a_stream_cut_anywhere_gives_the_crates_report_and_leaves_the_cursor_there(
    name, guard, tmp_path
):
    path, stream, deframer = tmp_path / "cut.fs", small_stream(name), FILE_MODES[name].deframer()
    for length, report in spread(recover_rows(name, guard), 5):
        path.write_bytes(stream[:length])
        assert recover_file(path, deframer, guard=guard) == report, length
        with path.open("r+b") as file:
            file.seek(length // 2)
            assert recover_file(file, deframer, guard=guard) == report, length
            assert file.tell() == (length if report.end is RecoveryEnd.NOT_A_STREAM else report.last_good_offset)


@in_one_test
@file_modes
def test_reference_recovers_what_the_crate_does(name):
    ends = {RecoveryEnd.CLEAN_EOF: "clean_eof", RecoveryEnd.TORN_TAIL: "torn_tail"}
    for length, report in recover_rows(name):
        found = reference.recover(small_stream(name)[:length], FILE_MODES[name].name)
        assert found == reference.Recovered(report.frames, report.last_good_offset, ends[report.end]), length


# bit_flips.json: how the crate's reading ends, for every bit of a small stream flipped


def flip_rows(name: str) -> list[tuple[bytes, str, int]]:
    """For every bit: the stream with it flipped, the error that ends the reading, and how many frames came before."""
    table = json.loads((VECTORS / "bit_flips.json").read_text())
    assert table["columns"] == ["bit", "outcome", "frames_before"]
    assert table["max_frame_len"] == 4096
    stream = small_stream(name)
    assert [bit for bit, _, _ in table["rows"][name]] == list(range(8 * len(stream)))
    rows = []
    for bit, outcome, frames in table["rows"][name]:
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        rows.append((bytes(damaged), outcome, frames))
    return rows


@in_one_test(step=2)
@pytest.mark.parametrize("read", [by_message, by_batch])
@pytest.mark.parametrize("kind", ["bytes", "bytesio", "raw_file"])
@file_modes
def test_stream_with_any_bit_flipped_is_read_as_the_crate_reads_it(name, kind, read, tmp_path):
    for bit, (damaged, outcome, frames) in spread(enumerate(flip_rows(name)), 5):
        deframer, expected = FILE_MODES[name].deframer(max_frame_len=4096), ERRORS[outcome]
        with SOURCES[kind].open(damaged, tmp_path) as source, StreamReader(source, deframer) as reader:
            if expected is None:
                read(reader)
            else:
                with pytest.raises(expected) as caught:
                    read(reader)
                assert (caught.value.frame, caught.value.offset) == (frames, reader.bytes_read), f"bit {bit}"
            assert reader.frames_read == frames, f"bit {bit}: {outcome}"


@in_one_test
@file_modes
def test_reference_reads_flipped_bits_as_the_crate_does(name):
    ends = {reference.Invalid: "InvalidFrame", reference.Torn: "UnexpectedEof", reference.Clean: "ok"}
    for bit, (damaged, outcome, frames) in spread(enumerate(flip_rows(name)), 5):
        stream = reference.decode(damaged, FILE_MODES[name].name, max_frame_len=4096)
        good = [isinstance(found, reference.Good) for found in stream.outcomes]
        if all(good):
            assert (ends[type(stream.end)], len(good)) == (outcome, frames), f"bit {bit}"
        else:
            assert ("ChecksumMismatch", good.index(False)) == (outcome, frames), f"bit {bit}"
