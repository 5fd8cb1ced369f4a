"""Files of encrypted streams: opened, appended to, recovered after a crash, salvaged, followed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    Aes256Gcm,
    ChaCha20Poly1305,
    DecryptionError,
    DefaultDeframer,
    DefaultFramer,
    EncryptedDeframer,
    EncryptionReport,
    InvalidFrameError,
    RecoveryEnd,
    Schema,
    StreamReader,
    UnexpectedEofError,
)
from flatstream.framing import deframer_for, framer_for
from reference import encryption as reference
from support.errors import raised_by
from support.extent import in_one_test, spread
from support.messages import event_payloads
from support.schemas import EXAMPLES
from support.streams import by_batch, by_message

KEY, NEW_KEY = bytes(range(32)), bytes(range(100, 132))
STORE = {"2025": KEY, "2026": NEW_KEY, "": KEY}
CIPHER = Aes256Gcm(KEY)

every_checksum = pytest.mark.parametrize("checksum", ["none", "crc32c"])


def framer_of(checksum: str = "crc32c", cipher: Any = CIPHER) -> Any:
    return framer_for(checksum).encrypted(cipher)


def deframer_of(checksum: str = "crc32c", cipher: Any = CIPHER, **options: Any) -> Any:
    return deframer_for(checksum).encrypted(cipher, **options)


def write(path: Path, payloads: Iterable[bytes], mode: Any = "w", **options: Any) -> flatstream.StreamWriter:
    options.setdefault("framer", None if "cipher" in options else framer_of())
    writer: flatstream.StreamWriter
    with flatstream.open(path, mode, **options) as writer:
        writer.write_payloads(list(payloads))
    return writer


def read(path: Path, deframer: Any = None, **options: Any) -> tuple[list[bytes], EncryptionReport | None]:
    with flatstream.open(path, deframer=deframer_of() if deframer is None else deframer, **options) as reader:
        return by_message(reader), reader.encryption


def crash(path: Path, size: int) -> None:
    """Leaves the first `size` bytes of a file."""
    os.truncate(path, size)


def ends_of(path: Path, checksum: str = "crc32c") -> list[int]:
    """Where the frames of a file end, its heads and final frames included."""
    ends = []
    with StreamReader(path, deframer_for(checksum)) as reader:
        while reader.read_message() is not None:
            ends.append(reader.offset)
    return ends


# Modes


def test_file_is_written_and_not_overwritten_by_mode_x(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a"], "x")
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write(path, [b"a"], "x")
    assert path.read_bytes() == before
    write(path, [b"b"])
    assert read(path, deframer_of(require_final=True)) == ([b"b"], EncryptionReport(1, True))


@every_checksum
def test_each_appending_is_a_part_of_its_own(checksum: str, tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    framer, deframer = framer_of(checksum), deframer_of(checksum, require_final=True)
    wanted = []
    for part in range(1, 5):
        payloads = [b"%d %d" % (part, place) for place in range(part)]
        wanted += payloads
        write(path, payloads, "a", framer=framer)
        for take in (by_message, by_batch):
            with flatstream.open(path, deframer=deframer) as reader:
                assert take(reader) == wanted
                assert reader.encryption == EncryptionReport(part, True)
    # Each with a salt of its own.
    with StreamReader(path, deframer_for(checksum)) as reader:
        heads = [payload for payload in by_message(reader) if payload[0] == 1]
    assert len({head[8:40] for head in heads}) == len(heads) == 4
    # And bound to the tag before it.
    with StreamReader(path, deframer_for(checksum)) as reader:
        judged, state = reference.read_all(reference.Reader(reference.Keys(KEY)), by_message(reader))
    assert (judged, state.part, state.has_final) == (wanted, 3, True)


def test_opening_to_append_without_a_message_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a"])
    before = path.read_bytes()
    write(path, [], "a")
    assert path.read_bytes() == before
    # A new file begins with a head all the same.
    write(tmp_path / "new.fs", [], "a")
    assert read(tmp_path / "new.fs", deframer_of(require_final=True)) == ([], EncryptionReport(1, True))


@pytest.mark.parametrize(
    "other",
    [
        Aes256Gcm(NEW_KEY),
        Aes256Gcm(KEY, key_id="2026"),
        Aes256Gcm(KEY, context=b"x"),
        ChaCha20Poly1305(KEY),
    ],
    ids=["key", "key id", "context", "algorithm"],
)
@pytest.mark.parametrize("recover", [False, True])
@pytest.mark.parametrize("torn", [0, 7])
def test_another_cipher_does_not_append_and_changes_nothing(
    other: Any, recover: bool, torn: int, tmp_path: Path
) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a", b"b"])
    crash(path, path.stat().st_size - torn)
    before = path.read_bytes()
    with pytest.raises(DecryptionError):
        flatstream.open(path, "a", framer=framer_of(cipher=other), recover=recover)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["stream.fs"]


def test_plain_file_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a", b"b"], framer=framer_for("crc32c"))
    before = path.read_bytes()
    for recover in (False, True):
        with pytest.raises(DecryptionError):
            flatstream.open(path, "a", framer=framer_of(), recover=recover)
    assert path.read_bytes() == before


def test_keys_are_rotated_from_part_to_part(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    for number, key_id in enumerate(("2025", "2026", "2025")):
        write(path, [b"%d" % number], "a", framer=framer_of(cipher=Aes256Gcm(STORE.__getitem__, key_id=key_id)))
    cipher = Aes256Gcm(STORE.__getitem__)
    assert read(path, deframer_of(cipher=cipher)) == ([b"0", b"1", b"2"], EncryptionReport(3, True))
    # With a single key, the parts of the other cannot be read, and it says so.
    only = Aes256Gcm(KEY, key_id="2025")
    found, report = read(path, deframer_of(cipher=only), on_error="skip")
    assert found == [b"0", b"2"]
    assert report is not None
    assert (report.missing_parts, report.is_complete) == (1, False)


# After a crash


@every_checksum
@pytest.mark.parametrize("parts", [1, 2])
def test_every_cut_is_recovered_and_appended_to(checksum: str, parts: int, tmp_path: Path) -> None:
    whole = tmp_path / "whole.fs"
    framer, deframer = framer_of(checksum), deframer_of(checksum)
    payloads = [b"first", b"second", b"third"]
    for _ in range(parts):
        write(whole, payloads, "a", framer=framer)
    ends = [0, *ends_of(whole, checksum)]
    kinds = [None] + [1, 2, 2, 2, 3] * parts
    data = whole.read_bytes()
    for cut in spread(range(len(data) + 1), 20):
        path = tmp_path / f"{cut}.fs"
        path.write_bytes(data[:cut])
        last = max(place for place, end in enumerate(ends) if end <= cut)
        if cut not in ends:
            with pytest.raises(UnexpectedEofError if last else InvalidFrameError):
                flatstream.open(path, "a", framer=framer)
        if last == 0 and cut:
            # Fewer bytes than a frame are no stream: the file is moved aside.
            writer = write(path, [b"new"], "a", framer=framer, recover=True)
            assert writer.recovery is not None
            assert writer.recovery.action == "moved"
            assert read(path, deframer)[0] == [b"new"]
            continue
        writer = write(path, [b"new"], "a", framer=framer, recover=True)
        kept = [kind for kind in kinds[1 : last + 1] if kind == 2]
        found, report = read(path, deframer)
        wanted = (payloads * parts)[: len(kept)]
        assert found == [*wanted, b"new"], cut
        begun = sum(kind == 1 for kind in kinds[: last + 1])
        unfinished = () if not begun or kinds[last] == 3 else (begun - 1,)
        assert report == EncryptionReport(begun + 1, True, unfinished, len(unfinished)), cut
        if unfinished:
            assert isinstance(raised_by(read, path, deframer_of(checksum, require_final=True)), DecryptionError)


def test_part_behind_a_crash_is_bound_to_the_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a", b"b", b"c"])
    ends = ends_of(path)
    crash(path, ends[3])
    write(path, [b"d"], "a")
    assert read(path)[0] == [b"a", b"b", b"c", b"d"]
    # Somebody takes away the last frame before the part, which had no final frame.
    data = path.read_bytes()
    path.write_bytes(data[: ends[2]] + data[ends[3] :])
    with flatstream.open(path, deframer=deframer_of()) as reader:
        assert [bytes(reader.read_message() or b"") for _ in range(2)] == [b"a", b"b"]
        for _ in range(3):
            with pytest.raises(DecryptionError):
                reader.read_message()
    found, report = read(path, on_error="skip")
    assert found == [b"a", b"b", b"d"]
    assert report == EncryptionReport(2, True, (0,), 1, missing_ends=1)


def test_frame_that_is_not_authentic_at_the_end_is_moved_aside_with_its_file(tmp_path: Path) -> None:
    # Without a checksum, a frame whose last bytes never reached the disk looks whole.
    path = tmp_path / "stream.fs"
    write(path, [b"a", b"b" * 50], framer=framer_of("none"))
    crash(path, ends_of(path, "none")[2])
    data = path.read_bytes()
    path.write_bytes(data[:-20] + b"?" * 20)
    with pytest.raises(DecryptionError):
        flatstream.open(path, "a", framer=framer_of("none"))
    writer = write(path, [b"new"], "a", framer=framer_of("none"), recover=True)
    assert writer.recovery is not None
    assert writer.recovery.action == "moved"
    assert isinstance(writer.recovery.error, DecryptionError)
    assert Path(str(writer.recovery.saved_as)).read_bytes() == data[:-20] + b"?" * 20
    assert read(path, deframer_of("none")) == ([b"new"], EncryptionReport(1, True))


def test_damaged_file_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a", b"b", b"c"])
    data = bytearray(path.read_bytes())
    data[ends_of(path)[1] + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(flatstream.ChecksumMismatchError):
        flatstream.open(path, "a", framer=framer_of())
    assert path.read_bytes() == data


def test_framer_in_python_cannot_append_to_an_encrypted_stream(tmp_path: Path) -> None:
    class Own(flatstream.Framer):
        def frame_and_write(self, writer: Any, payload: Any) -> None:
            DefaultFramer().frame_and_write(writer, payload)

    with pytest.raises(ValueError, match="the end of an encrypted stream is read"):
        flatstream.open(tmp_path / "stream.fs", "a", framer=Own().encrypted(CIPHER))
    assert not (tmp_path / "stream.fs").exists()


# With a description


def test_reader_needs_the_cipher_alone(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    cipher = Aes256Gcm(STORE.__getitem__, key_id="2025")
    write(path, [b"a"], framer=framer_of(cipher=cipher), describe=True)
    write(path, [b"b"], "a", cipher=Aes256Gcm(STORE.__getitem__, key_id="2026"))
    with flatstream.open(path, cipher=cipher) as reader:
        assert by_message(reader) == [b"a", b"b"]
        assert reader.encryption == EncryptionReport(2, True)
        assert reader.description is not None
        (transform,) = reader.description.transforms
    assert transform == (
        "encryption",
        (("algorithm", "aes-256-gcm"), ("key_id", "2025"), ("version", "1")),
        b"",
    )
    with pytest.raises(
        InvalidFrameError, match=r"encrypted \(aes-256-gcm, key id '2025'\): pass cipher=Aes256Gcm\(key, key_id="
    ):
        flatstream.open(path)
    with pytest.raises(ValueError, match="encrypted with 'aes-256-gcm', and the cipher is 'chacha20-poly1305'"):
        flatstream.open(path, cipher=ChaCha20Poly1305(KEY))
    with pytest.raises(TypeError, match="cipher must be an Aes256Gcm or a ChaCha20Poly1305, got bytes"):
        flatstream.open(path, cipher=KEY)  # type: ignore[call-overload]


def test_cipher_refuses_a_stream_that_is_not_encrypted(tmp_path: Path) -> None:
    described, plain = tmp_path / "described.fs", tmp_path / "plain.fs"
    write(described, [b"forged"], framer=framer_for("crc32c"), describe=True)
    write(plain, [b"forged"], framer=framer_for("crc32c"))
    for path in (described, plain):
        with (
            flatstream.open(path, checksum="crc32c", cipher=CIPHER) as reader,
            pytest.raises((ValueError, DecryptionError)),
        ):
            reader.read_message()


def test_description_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a"], framer=framer_of("none"), describe=True, metadata={"host": "aaaa"})
    data = path.read_bytes()
    assert data.count(b"aaaa") == 1
    path.write_bytes(data.replace(b"aaaa", b"bbbb"))
    with flatstream.open(path, checksum="none", cipher=CIPHER) as reader, pytest.raises(DecryptionError):
        reader.read_message()
    for recover in (False, True):
        with pytest.raises(DecryptionError):
            flatstream.open(path, "a", checksum="none", cipher=CIPHER, recover=recover)
    with flatstream.open(path, checksum="none", cipher=CIPHER, on_error="skip") as reader:
        assert by_message(reader) == [b"a"]
        assert reader.encryption == EncryptionReport(1, True, other_descriptions=1)


# Reading in other ways


@in_one_test
@pytest.mark.parametrize("on_error", ["raise", "skip", "resync", "stop"])
def test_columns_and_records_are_those_of_the_plain_stream(on_error: Any, tmp_path: Path) -> None:
    payloads = event_payloads(300)
    table = Schema.from_file(EXAMPLES / "telemetry.bfbs").root
    plain, encrypted = tmp_path / "plain.fs", tmp_path / "encrypted.fs"
    write(plain, payloads, framer=framer_for("crc32c"))
    write(encrypted, payloads[:200])
    write(encrypted, payloads[200:], "a")
    options: list[dict[str, Any]] = [{"deframer": "crc32c"}, {"deframer": deframer_of(), "on_error": on_error}]
    results = []
    for path, option in zip((plain, encrypted), options, strict=True):
        with flatstream.open(path, **option) as reader:
            columns = reader.columns(table).to_pandas()
        with flatstream.open(path, **option) as reader:
            records = [record.to_dict() for record in reader.records(table)]
        with flatstream.open(path, **option) as reader:
            batches = [batch.to_pandas() for batch in reader.column_batches(table, batch_rows=70)]
        text = io.BytesIO()
        with flatstream.open(path, **option) as reader:
            reader.write_json_lines(text, table)
        results.append((columns, records, batches, text.getvalue()))
    (columns, records, batches, text_of_plain), (others, other_records, other_batches, other_text) = results
    assert columns.equals(others)
    assert records == other_records
    assert len(records) == 300
    assert all(one.equals(other) for one, other in zip(batches, other_batches, strict=True))
    assert text_of_plain == other_text


def test_follower_gets_messages_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    writer = flatstream.open(path, "w", framer=framer_of())
    writer.flush()
    with flatstream.open(path, deframer=deframer_of(), follow=True) as reader:
        for part in range(3):
            # Nothing is appended to a file that has frames before the first message.
            for number in range(5):
                writer.write_payload(b"%d %d" % (part, number))
                writer.flush()
                assert bytes(reader.read_message(timeout=20) or b"") == b"%d %d" % (part, number)
                with pytest.raises(TimeoutError):
                    reader.read_message(timeout=0)
            writer.close()
            writer = flatstream.open(path, "a", framer=framer_of())
        writer.close()
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=0)
        assert reader.encryption == EncryptionReport(3, True)


# Recovery


@every_checksum
def test_recovery_reports_the_frames_and_the_tear(checksum: str, tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a", b"b" * 40, b"c"], framer=framer_of(checksum))
    ends = ends_of(path, checksum)
    for deframer in (deframer_of(checksum), deframer_for(checksum)):
        report = flatstream.recover_file(path, deframer)
        assert (report.last_good_offset, report.end) == (ends[-1], RecoveryEnd.CLEAN_EOF)
        for cut in spread(range(ends[0], ends[-1]), 5):
            report = flatstream.recover(path.read_bytes()[:cut], deframer)
            good = max(end for end in ends if end <= cut)
            wanted = RecoveryEnd.CLEAN_EOF if good == cut else RecoveryEnd.TORN_TAIL
            assert (report.last_good_offset, report.end) == (good, wanted), cut


def test_guard_finds_intact_frames_behind_a_damaged_length(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    write(path, [b"a" * 50, b"b" * 50, b"c" * 50])
    ends = ends_of(path)
    data = bytearray(path.read_bytes())
    data[ends[1] + 2] = 0x7F
    with pytest.raises(InvalidFrameError) as info:
        flatstream.recover(bytes(data), deframer_of())
    assert info.value.next_intact_offset == ends[2]


def test_salvaged_stream_is_read_and_says_what_is_missing(tmp_path: Path) -> None:
    path, out = tmp_path / "stream.fs", tmp_path / "salvaged.fs"
    payloads = [b"%d" % number * 30 for number in range(8)]
    write(path, payloads[:4])
    write(path, payloads[4:], "a")
    ends = ends_of(path)
    data = bytearray(path.read_bytes())
    data[ends[2] + 1] ^= 0x40  # a length
    data[ends[7] + 20] ^= 1  # a message
    path.write_bytes(data)
    report = flatstream.salvage(path, out, "crc32c")
    assert report.lost_bytes
    found, encryption = read(out, on_error="skip")
    assert found == payloads[:2] + payloads[3:5] + payloads[6:]
    assert encryption == EncryptionReport(2, True, missing_frames=2)
    with flatstream.open(out, deframer=deframer_of()) as reader:
        assert [bytes(reader.read_message() or b"") for _ in range(2)] == payloads[:2]
        with pytest.raises(DecryptionError):
            reader.read_message()


@in_one_test
@pytest.mark.parametrize("checksum", ["none", "crc16", "crc32c"])
def test_every_damaged_byte_of_a_file_is_got_over(checksum: str, tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    payloads = [b"%d" % number * 20 for number in range(4)]
    write(path, payloads, framer=framer_of(checksum))
    write(path, payloads, "a", framer=framer_of(checksum))
    data = path.read_bytes()
    for place in spread(range(len(data)), 11):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        with StreamReader(bytes(changed), deframer_of(checksum), on_error="resync") as reader:
            found = by_message(reader)
            report = reader.encryption
        assert report is not None
        assert not report.is_complete, place
        rest = iter(payloads * 2)
        assert all(message in rest for message in found), place
        if checksum == "crc32c":
            # At most one frame is lost, or a part whose head is.
            assert len(found) >= 4, place


def test_reading_may_begin_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    for part in range(3):
        write(path, [b"%d %d" % (part, place) for place in range(2)], "a")
    data, ends = path.read_bytes(), ends_of(path)
    # Behind the head of the second part: nothing of it can be read, and the third part can.
    rest = data[ends[4] :]
    with StreamReader(rest, EncryptedDeframer(deframer_for("crc32c"), CIPHER), on_error="skip") as reader:
        assert by_message(reader) == [b"2 0", b"2 1"]
        assert reader.encryption == EncryptionReport(1, True, missing_parts=2, refused=3)
    with StreamReader(rest, EncryptedDeframer(deframer_for("crc32c"), CIPHER)) as reader:
        assert isinstance(raised_by(reader.read_message), DecryptionError)


def test_stream_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stream.fs"
    path.write_bytes(b"\x03\x00\x00\x00abc")
    with StreamReader(path, EncryptedDeframer(DefaultDeframer(), CIPHER)) as reader:
        assert isinstance(raised_by(reader.read_message), DecryptionError)
