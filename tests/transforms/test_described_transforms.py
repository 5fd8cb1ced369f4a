"""What a description says was done to payloads: written by the framer, and undone by `open`, readers and appending."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    CompressedDeframer,
    CompressedFramer,
    Compressor,
    Crc32,
    DefaultDeframer,
    DefaultFramer,
    Description,
    FlatbufferError,
    Framer,
    InvalidFrameError,
    Lz4Compressor,
    RecordWriter,
    Schema,
    StreamReader,
    StreamWriter,
    TransformFramer,
    ZstdCompressor,
    train_dictionary,
)
from flatstream.description import Transform
from flatstream.transforms.described import framer_with, undone
from reference import framing
from support.compression import Deflate, dictionary, event, events
from support.extent import in_one_test

MESSAGES = [*events(30), b"", b"abc"]
EVENT = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Event")


def write(path: Path, framer: Framer, **options: Any) -> None:
    with flatstream.open(path, "w", framer=framer, describe=True, **options) as writer:
        writer.write_payloads(MESSAGES)


def read(path: Any, **options: Any) -> list[bytes]:
    with flatstream.open(path, **options) as reader:
        return [bytes(payload) for payload in reader]


COMPRESSORS: dict[str, Any] = {
    "zstd": lambda: ZstdCompressor(9),
    "zstd dictionary": lambda: ZstdCompressor(9, dictionary()),
    "lz4": lambda: Lz4Compressor(4),
}


@in_one_test
@pytest.mark.parametrize("name", list(COMPRESSORS))
@pytest.mark.parametrize("checksum", ["none", "crc32", "xxhash64"])
def test_described_stream_is_read_without_being_told_anything(tmp_path: Path, name: str, checksum: str) -> None:
    path = tmp_path / "a.fs"
    compressor = COMPRESSORS[name]()
    write(path, flatstream.framing.framer_for(checksum).compressed(compressor))
    assert read(path) == MESSAGES
    assert read(path, checksum=checksum) == MESSAGES
    assert read(path, on_error="resync") == MESSAGES
    with StreamReader(path.read_bytes(), checksum) as reader:
        assert [bytes(payload) for payload in reader] == MESSAGES
    with StreamReader(io.BytesIO(path.read_bytes()), checksum) as reader:
        batch = reader.read_batch(5)
        assert batch is not None
        assert list(map(bytes, batch)) == MESSAGES[:5]
    with flatstream.open(path) as reader:
        method = name.partition(" ")[0]
        level = "4" if method == "lz4" else "9"
        assert reader.description is not None
        assert reader.description.transforms == (
            Transform("compression", (("level", level), ("method", method)), compressor.dictionary),
        )
        assert (reader.checksum, reader.checksum_found_by) == (checksum, "description")
        assert method in repr(reader.description)
        assert method in reader.description._repr_html_()
        assert isinstance(reader.deframer, CompressedDeframer)


def test_pipe_is_read_without_being_told_anything(tmp_path: Path) -> None:
    write(tmp_path / "a.fs", DefaultFramer().compressed(ZstdCompressor(3, dictionary())))
    data = (tmp_path / "a.fs").read_bytes()
    os.mkfifo(tmp_path / "pipe")

    def feed() -> None:
        with open(tmp_path / "pipe", "wb") as file:
            file.write(data)

    for options in ({}, {"checksum": "none"}):
        thread = threading.Thread(target=feed)
        thread.start()
        try:
            assert read(tmp_path / "pipe", **options) == MESSAGES
        finally:
            thread.join()


def test_file_that_is_compressed_as_a_whole_too_is_read(tmp_path: Path) -> None:
    import gzip

    write(tmp_path / "a.fs", DefaultFramer().compressed(ZstdCompressor()))
    (tmp_path / "a.fs.gz").write_bytes(gzip.compress((tmp_path / "a.fs").read_bytes()))
    assert read(tmp_path / "a.fs.gz") == MESSAGES


def test_deframer_of_the_caller_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, ChecksumFramer(Crc32()).compressed(ZstdCompressor()))
    stored = read(path, deframer=ChecksumDeframer(Crc32()))
    assert stored != MESSAGES
    assert [each[0] for each in stored[:3]] == [1, 1, 1]
    assert read(path, deframer=ChecksumDeframer(Crc32()).compressed()) == MESSAGES
    small = CompressedDeframer(ChecksumDeframer(Crc32()), max_payload_len=50)
    with flatstream.open(path, deframer=small) as reader:
        assert reader.deframer is small
        with pytest.raises(flatstream.DecompressionError):
            reader.read_message()


def test_columns_and_records_and_json_come_through_compression(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    framer = ChecksumFramer(Crc32()).compressed(ZstdCompressor())
    with flatstream.open(path, "w", framer=framer, describe=EVENT) as writer:
        records = RecordWriter(writer, EVENT)
        for number in range(200):
            records.write(sequence=number, host="alpha" * 20, load_1=number / 4)
    assert path.stat().st_size < 200 * 130 + len(EVENT.schema.to_bytes()) + 1000
    with flatstream.open(path) as reader:
        batch = reader.columns(fields=["sequence", "host"])
        assert batch["sequence"].to_numpy().tolist() == list(range(200))
    with flatstream.open(path) as reader:
        batch = reader.columns(fields=["sequence"], where=("sequence", ">=", 190))
        assert batch["sequence"].to_numpy().tolist() == list(range(190, 200))
    with flatstream.open(path) as reader:
        batches = list(reader.column_batches(fields=["load_1"], batch_rows=64))
        assert [one.num_rows for one in batches] == [64, 64, 64, 8]
        assert sum(one["load_1"].to_numpy().sum() for one in batches) == sum(range(200)) / 4
    with flatstream.open(path) as reader:
        views = list(reader.records())
        assert [view.sequence for view in views] == list(range(200))
        assert views[7].host == "alpha" * 20
    with flatstream.open(path) as reader:
        sink = io.BytesIO()
        assert reader.write_json_lines(sink) == 200
        assert sink.getvalue().count(b'"sequence":7,') == 1


# Appending


@in_one_test
@pytest.mark.parametrize("name", list(COMPRESSORS))
def test_appended_messages_are_compressed_as_the_file_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.fs"
    write(path, ChecksumFramer(Crc32()).compressed(COMPRESSORS[name]()))
    for options in ({}, {"checksum": "crc32"}, {"recover": True}, {"describe": True}):
        with flatstream.open(path, "a", **options) as writer:
            assert writer.framer.transforms == ChecksumFramer(Crc32()).compressed(COMPRESSORS[name]()).transforms
            writer.write_payload(b"x" * 500)
    assert read(path) == MESSAGES + [b"x" * 500] * 4
    assert path.stat().st_size < sum(map(len, MESSAGES)) + 2500


def test_torn_tail_of_a_compressed_file_is_saved_and_cut_before_appending(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, ChecksumFramer(Crc32()).compressed(ZstdCompressor(3, dictionary())))
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(flatstream.UnexpectedEofError):
        flatstream.open(path, "a")
    with flatstream.open(path, "a", recover=True) as writer:
        assert writer.recovery is not None
        assert writer.recovery.action == "cut"
        writer.write_payload(event(7))
    assert read(path) == [*MESSAGES[:-1], event(7)]


def test_framer_that_does_something_else_than_the_file_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, ChecksumFramer(Crc32()).compressed(ZstdCompressor(3, dictionary())))
    before = path.read_bytes()
    for framer in (
        ChecksumFramer(Crc32()),
        ChecksumFramer(Crc32()).compressed(ZstdCompressor()),
        ChecksumFramer(Crc32()).compressed(ZstdCompressor(3, dictionary(begin=9000))),
        ChecksumFramer(Crc32()).compressed(Lz4Compressor()),
    ):
        with pytest.raises(ValueError, match="the description of the file says what was done to its payloads"):
            flatstream.open(path, "a", framer=framer)
    plain = tmp_path / "plain.fs"
    write(plain, ChecksumFramer(Crc32()))
    with pytest.raises(ValueError, match=r"payloads: nothing; and the framer does compression \(level 0, method lz4\)"):
        flatstream.open(plain, "a", framer=ChecksumFramer(Crc32()).compressed(Lz4Compressor()))
    assert path.read_bytes() == before
    # Another level is no other format.
    with flatstream.open(path, "a", framer=ChecksumFramer(Crc32()).compressed(ZstdCompressor(19, dictionary()))) as it:
        it.write_payload(event(3))
    assert read(path) == [*MESSAGES, event(3)]


def test_new_file_of_mode_a_has_what_its_framer_does(tmp_path: Path) -> None:
    path = tmp_path / "new.fs"
    for _ in range(2):
        with flatstream.open(path, "a", framer=DefaultFramer().compressed(ZstdCompressor()), describe=True) as writer:
            writer.write_payload(event(1))
    assert read(path) == [event(1)] * 2


# What cannot be undone


class Unsaid(TransformFramer):
    """A transform that says nothing of itself."""

    def transform(self, payload: memoryview) -> bytes:
        return bytes(payload)[::-1]


def test_compressor_of_an_application_is_named_and_needs_a_deframer(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, DefaultFramer().compressed(Deflate()))
    with pytest.raises(InvalidFrameError, match="compressed by 'deflate', which is not built in: pass the deframer"):
        flatstream.open(path)
    with pytest.raises(InvalidFrameError, match="compressed by 'deflate', which is not built in"):
        flatstream.open(path, "a")
    with flatstream.open(path, checksum="none") as reader:
        assert reader.description is not None
        for _ in range(2):
            with pytest.raises(InvalidFrameError, match="compressed by 'deflate'"):
                reader.read_message()
            with pytest.raises(InvalidFrameError, match="compressed by 'deflate'"):
                reader.read_batch()
    assert read(path, deframer=DefaultDeframer().compressed(Deflate())) == MESSAGES


def test_transform_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, Unsaid(DefaultFramer()))
    why = "names the transform 'Unsaid', which this version does not know: pass the deframer that knows it"
    with pytest.raises(InvalidFrameError, match=why):
        flatstream.open(path)
    with StreamReader(path.read_bytes(), on_error="skip") as reader, pytest.raises(InvalidFrameError, match=why):
        reader.read_message()
    later = Description(transforms=[Transform("magic", (("version", "7"),))])
    stream = framing.encode([later.to_bytes(), b"abc"], "none")
    with StreamReader(stream) as reader, pytest.raises(InvalidFrameError, match="the transform 'magic'"):
        reader.read_message()
    with StreamReader(stream, DefaultDeframer()) as reader:
        payload = reader.read_message()
        assert payload is not None
        assert bytes(payload) == b"abc"


def test_cipher_is_for_an_encrypted_stream_only(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, DefaultFramer().compressed(ZstdCompressor()))
    cipher: Any = object()
    with pytest.raises(TypeError, match="a cipher is for the deframer to be made"):
        flatstream.open(path, deframer=DefaultDeframer(), cipher=cipher)
    with pytest.raises(ValueError, match="cipher needs the mode 'r' or 'a'"):
        flatstream.open(path, "w", cipher=cipher)
    with pytest.raises(TypeError, match="either a cipher or a framer"):
        flatstream.open(path, "a", framer=DefaultFramer(), cipher=cipher)
    with pytest.raises(InvalidFrameError, match="does not say that it is encrypted"):
        flatstream.open(path, "a", cipher=cipher)
    assert read(path) == MESSAGES


def test_description_that_contradicts_the_framer_is_refused() -> None:
    said = Description(transforms=[Transform("compression", (("method", "lz4"),))])
    with pytest.raises(
        ValueError, match=r"what was done to payloads: compression \(method lz4\); and the framer does no"
    ):
        StreamWriter(io.BytesIO(), describe=said)
    with pytest.raises(ValueError, match="the framer does compression"):
        StreamWriter(io.BytesIO(), DefaultFramer().compressed(ZstdCompressor()), describe=said)
    sink = io.BytesIO()
    with StreamWriter(sink, DefaultFramer().compressed(ZstdCompressor()), describe=True) as writer:
        description = writer.description
    assert description is not None
    # What it says is what the framer does.
    with StreamWriter(io.BytesIO(), DefaultFramer().compressed(ZstdCompressor()), describe=description) as writer:
        assert writer.description == description


def test_descriptions_match_whatever_the_level_is() -> None:
    one, other, third = (
        Description()._with_transforms(DefaultFramer().compressed(compressor).transforms)
        for compressor in (ZstdCompressor(1), ZstdCompressor(19), Lz4Compressor())
    )
    assert one.matches(other)
    assert one != other
    assert not one.matches(third)
    assert not one.matches(Description())


def test_transforms_are_undone_and_done_in_their_order() -> None:
    transforms = DefaultFramer().compressed(ZstdCompressor(5)).transforms
    described = Description()._with_transforms(transforms).transforms
    framer = framer_with(DefaultFramer(), described)
    assert framer.transforms == transforms
    assert isinstance(framer, CompressedFramer)
    assert isinstance(undone(DefaultDeframer(), described), CompressedDeframer)
    for wrong, error in (
        (Transform("compression"), InvalidFrameError),
        (Transform("compression", (("method", "brotli"),)), InvalidFrameError),
        (Transform("compression", (("method", "zstd"),), b"no dictionary"), FlatbufferError),
        (Transform("encryption", (("key_id", "k1"), ("version", "1"))), InvalidFrameError),
        (Transform("x"), InvalidFrameError),
    ):
        with pytest.raises(error):
            undone(DefaultDeframer(), [wrong])
        with pytest.raises(error):
            framer_with(DefaultFramer(), [wrong])
    with pytest.raises(InvalidFrameError, match=r"encrypted .*'k1'.* pass cipher="):
        undone(DefaultDeframer(), [Transform("encryption", (("key_id", "k1"), ("version", "1")))])
    # Of a hostile level, the nearest one.
    for level, taken in (("999", 22), ("-999999999", -131_072), ("high", 3), ("", 3)):
        made: Any = framer_with(DefaultFramer(), [Transform("compression", (("level", level), ("method", "zstd")))])
        assert made.compressor.level == taken


def test_empty_frames_of_a_described_stream_are_no_messages(tmp_path: Path) -> None:
    # Zeros that a power cut leaves look like frames without any bytes, and nothing is stored so.
    path = tmp_path / "a.fs"
    write(path, ChecksumFramer(Crc32()).compressed(ZstdCompressor()))
    with open(path, "ab") as file:
        file.write(bytes(64))
    with flatstream.open(path) as reader:
        assert [bytes(next(reader)) for _ in MESSAGES] == MESSAGES
        with pytest.raises(InvalidFrameError):
            reader.read_message()
    report = flatstream.recover_file(path, "crc32")
    assert report.end is flatstream.RecoveryEnd.TORN_TAIL
    with flatstream.open(path, allow_empty=False) as reader:
        assert bytes(next(reader)) == MESSAGES[0]


def test_growing_compressed_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    framer = ChecksumFramer(Crc32()).compressed(ZstdCompressor(3, dictionary()))
    with flatstream.open(path, "w", framer=framer, describe=True) as writer:
        writer.write_payload(event(0))
        writer.flush()
        with flatstream.open(path, follow=True) as reader:
            for number in range(1, 20):
                payload = reader.read_message(timeout=30)
                assert payload is not None
                assert bytes(payload) == event(number - 1)
                writer.write_payload(event(number))
                writer.flush()


def test_compressor_that_is_not_built_in_may_take_the_place_of_one_that_is(tmp_path: Path) -> None:
    from backports import zstd

    class OtherLibrary(Compressor):
        number, name = 1, "zstd"

        def compress(self, payload: memoryview) -> bytes:
            return zstd.compress(payload, 10)

    path = tmp_path / "a.fs"
    write(path, DefaultFramer().compressed(OtherLibrary()))
    assert read(path) == MESSAGES


# Compression and encryption


def test_stream_that_is_compressed_and_encrypted_is_undone_in_the_right_order(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    cipher = flatstream.Aes256Gcm(b"k" * 32, key_id="k1")
    framer = ChecksumFramer(Crc32()).encrypted(cipher).compressed(ZstdCompressor(3, dictionary()))
    write(path, framer)
    with flatstream.open(path, cipher=cipher) as reader:
        assert reader.description is not None
        assert [transform.name for transform in reader.description.transforms] == ["compression", "encryption"]
        assert [bytes(payload) for payload in reader] == MESSAGES
    with flatstream.open(path, "a", cipher=cipher) as writer:
        writer.write_payload(event(77))
    assert read(path, cipher=cipher) == [*MESSAGES, event(77)]
    assert read(path, cipher=cipher, checksum="crc32", on_error="skip") == [*MESSAGES, event(77)]
    # It is smaller than the messages, so it was compressed first.
    assert path.stat().st_size - len(dictionary()) < sum(map(len, MESSAGES))
    with pytest.raises(InvalidFrameError, match="encrypted"):
        flatstream.open(path)
    with pytest.raises(TypeError, match=r"compress"):
        DefaultFramer().compressed(ZstdCompressor()).encrypted(cipher)


def test_compressed_file_is_read_from_a_map(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, ChecksumFramer(Crc32()).compressed(Lz4Compressor()))
    assert read(path, mmap=True) == MESSAGES
    assert read(path, mmap=True, checksum="crc32") == MESSAGES


def test_dictionaries_that_differ_are_told_with_their_numbers(tmp_path: Path) -> None:
    other = train_dictionary(
        [b"%d of something that is quite different" % (number * 7919) for number in range(2000)], 2048
    )
    numbers = [int.from_bytes(each[4:8], "little") for each in (dictionary(), other)]
    write(tmp_path / "a.fs", DefaultFramer().compressed(ZstdCompressor(3, dictionary())))
    with pytest.raises(
        ValueError, match=rf"dictionary {numbers[0]} of .* the framer does .*dictionary {numbers[1]} of"
    ):
        flatstream.open(tmp_path / "a.fs", "a", framer=DefaultFramer().compressed(ZstdCompressor(3, other)))
