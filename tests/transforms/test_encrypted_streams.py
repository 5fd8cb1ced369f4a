"""Encrypted streams through writers and readers: damage, forgery, gaps, and what a reader says of them."""

from __future__ import annotations

import copy
import io
import pickle
import zlib
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flatstream
from flatstream import (
    Aes256Gcm,
    ChaCha20Poly1305,
    ChecksumDeframer,
    ChecksumFramer,
    Crc32,
    DecryptionError,
    DefaultDeframer,
    DefaultFramer,
    EncryptedDeframer,
    EncryptedFramer,
    EncryptionReport,
    InvalidFrameError,
    StreamReader,
    StreamWriter,
    TransformDeframer,
    TransformFramer,
)
from reference import encryption as reference
from support.errors import raised_by
from support.extent import in_one_test, spread
from support.modes import Mode, every_mode
from support.sinks import SinkKind, every_sink
from support.sources import SourceKind, every_source
from support.streams import by_batch, by_message
from support.threads import run_threads

KEY, SALT = bytes(range(32)), bytes(range(50, 82))
CIPHER = Aes256Gcm(KEY)
PAYLOADS = [b"first message", b"", b"x" * 300, b"fourth", bytes(40), b"sixth"]


def framer_of(mode: Mode | None = None, cipher: Any = CIPHER) -> EncryptedFramer:
    return EncryptedFramer(DefaultFramer() if mode is None else mode.framer(), cipher, _salt=SALT)


def deframer_of(mode: Mode | None = None, cipher: Any = CIPHER, **options: Any) -> EncryptedDeframer:
    return EncryptedDeframer(DefaultDeframer() if mode is None else mode.deframer(), cipher, **options)


def report_of(reader: StreamReader) -> EncryptionReport:
    report = reader.encryption
    assert report is not None
    return report


def written(framer: Any = None, payloads: list[bytes] = PAYLOADS, **options: Any) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, framer_of() if framer is None else framer, **options) as writer:
        for payload in payloads:
            writer.write_payload(payload)
    return sink.getvalue()


def frames_of(stream: bytes) -> list[bytes]:
    """The frames of a stream without a checksum."""
    found = []
    while stream:
        end = 4 + int.from_bytes(stream[:4], "little")
        found.append(stream[:end])
        stream = stream[end:]
    return found


def read(source: Any, deframer: Any = None, **options: Any) -> tuple[list[bytes | str], EncryptionReport]:
    """What is read up to the end, with "refused" for each error about a frame; and the report."""
    found: list[bytes | str] = []
    with StreamReader(source, deframer_of() if deframer is None else deframer, **options) as reader:
        while True:
            try:
                payload = reader.read_message()
            except DecryptionError:
                found.append("refused")
                if len(found) > 100:
                    raise
                continue
            if payload is None:
                return found, report_of(reader)
            found.append(bytes(payload))


# What is written


@pytest.mark.parametrize("keys", [reference.Keys(KEY), reference.Keys(KEY, 2, b"2026", b"host")], ids=["aes", "chacha"])
def test_stream_has_the_bytes_of_the_judge(keys: reference.Keys) -> None:
    cipher = {1: Aes256Gcm, 2: ChaCha20Poly1305}[keys.algorithm](KEY, key_id=keys.key_id.decode(), context=keys.context)
    part = reference.make_part(keys, PAYLOADS, salt=SALT)
    assert written(framer_of(cipher=cipher)) == reference.framed(part)
    assert read(reference.framed(part), deframer_of(cipher=cipher)) == (PAYLOADS, EncryptionReport(1, True))


def test_description_is_in_the_clear_and_bound() -> None:
    stream = written(describe=True, metadata={"host": "a"})
    description, *frames = frames_of(stream)
    assert b"host" in description
    part = reference.make_part(reference.Keys(KEY), PAYLOADS, salt=SALT, description=description[4:])
    assert [frame[4:] for frame in frames] == part
    with StreamReader(stream, deframer_of()) as reader:
        assert reader.description is not None
        assert by_message(reader) == PAYLOADS
        assert report_of(reader).is_complete
    # Another description, and none.
    other = frames_of(written(describe=True, metadata={"host": "b"}))[0]
    for head in ([other], []):
        forged = b"".join([*head, *frames])
        assert read(forged)[0] == ["refused"] * 8
        found, report = read(forged, on_error="skip", allow_empty=True)
        assert (found, report.other_descriptions, report.is_complete) == (PAYLOADS, 1, False)


@every_mode
def test_every_checksum_is_over_the_encrypted_bytes(mode: Mode) -> None:
    stream = written(framer_of(mode))
    with StreamReader(stream, mode.deframer()) as reader:
        assert by_message(reader) == reference.make_part(reference.Keys(KEY), PAYLOADS, salt=SALT)
    for take in (by_message, by_batch):
        with StreamReader(stream, deframer_of(mode)) as reader:
            assert take(reader) == PAYLOADS
            assert (reader.frames_read, reader.encryption) == (len(PAYLOADS), EncryptionReport(1, True))


@every_sink
def test_every_sink_gets_the_stream(sink_kind: SinkKind, tmp_path: Any) -> None:
    with sink_kind.open(tmp_path) as target:
        with StreamWriter(target.sink, framer_of()) as writer:
            writer.write_payloads(PAYLOADS)
            assert writer.frames_written == len(PAYLOADS)
        assert target.arrived() == reference.framed(reference.make_part(reference.Keys(KEY), PAYLOADS, salt=SALT))


@every_source
def test_every_source_gives_the_messages(source_kind: SourceKind, tmp_path: Any) -> None:
    with source_kind.open(written(), tmp_path) as source, StreamReader(source, deframer_of()) as reader:
        assert by_message(reader) == PAYLOADS
        assert report_of(reader).is_complete


def test_writer_without_messages_writes_a_head_and_a_final_frame() -> None:
    stream = written(payloads=[])
    assert stream == reference.framed(reference.make_part(reference.Keys(KEY), [], salt=SALT))
    assert read(stream, deframer_of(require_final=True)) == ([], EncryptionReport(1, True))


def test_fluent_methods_make_the_same() -> None:
    framer, deframer = ChecksumFramer(Crc32()).encrypted(CIPHER), ChecksumDeframer(Crc32()).encrypted(CIPHER)
    assert type(framer) is EncryptedFramer
    assert type(deframer) is EncryptedDeframer
    assert deframer.require_final is False
    assert ChecksumDeframer(Crc32()).encrypted(CIPHER, require_final=True).require_final is True
    assert read(written(framer), deframer)[0] == PAYLOADS


def test_observers_and_validators_outside_see_messages_and_inside_encrypted_bytes() -> None:
    outside: list[bytes] = []
    inside: list[bytes] = []
    observed = DefaultFramer().observed(lambda view: inside.append(bytes(view)))
    framer: Any = EncryptedFramer(observed, CIPHER, _salt=SALT)
    stream = written(
        framer.with_validator(flatstream.SizeValidator(0, 300)).observed(lambda v: outside.append(bytes(v)))
    )
    assert outside == PAYLOADS
    assert inside == reference.make_part(reference.Keys(KEY), PAYLOADS, salt=SALT)
    outside.clear()
    deframer = deframer_of().observed(lambda view: outside.append(bytes(view)))
    assert read(stream, deframer)[0] == outside == PAYLOADS


def test_bound_outside_is_one_of_messages() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, framer_of().bounded(300)) as writer:
        writer.write_payload(b"x" * 300)
        with pytest.raises(InvalidFrameError):
            writer.write_payload(b"x" * 301)
    assert read(sink.getvalue(), deframer_of().bounded(300))[0] == [b"x" * 300]
    assert isinstance(raised_by(read, sink.getvalue(), deframer_of().bounded(299)), InvalidFrameError)


# What is refused


def assert_refused(stream: bytes, delivered: int) -> None:
    found, report = read(stream)
    assert [message for message in found if message != "refused"] == PAYLOADS[:delivered]
    assert not report.is_complete


def test_frames_left_out_repeated_moved_and_of_other_streams_are_refused() -> None:
    frames = frames_of(written())
    other = frames_of(written(DefaultFramer().encrypted(CIPHER)))
    for place in range(1, len(frames) - 1):
        assert_refused(b"".join(frames[:place] + frames[place + 1 :]), place - 1)
        assert_refused(b"".join(frames[:place] + other[place:]), place - 1)
        if place < len(frames) - 2:
            assert_refused(b"".join([*frames[:place], frames[place + 1], frames[place], *frames[place + 2 :]]), place)
        repeated = b"".join(frames[:place] * 1 + [frames[place], *frames[place:]])
        assert read(repeated)[0] == [*PAYLOADS[:place], "refused", *PAYLOADS[place:]]
    assert_refused(b"".join(frames[1:]), 0)
    assert_refused(b"".join(frames + frames), len(PAYLOADS))
    assert_refused(b"".join(frames + other), len(PAYLOADS))


@in_one_test
@pytest.mark.parametrize("checksum", ["none", "crc32"])
def test_every_bit_of_a_stream_counts(checksum: str) -> None:
    payloads = [b"first", b"", b"third"]
    stream = written(EncryptedFramer(flatstream.framing.framer_for(checksum), CIPHER, _salt=SALT), payloads)
    deframer = EncryptedDeframer(flatstream.framing.deframer_for(checksum), CIPHER)
    for bit in spread(range(8 * len(stream)), 7):
        changed = bytearray(stream)
        changed[bit // 8] ^= 1 << bit % 8
        found: list[bytes] = []
        errors: list[flatstream.FlatStreamError] = []
        with StreamReader(bytes(changed), deframer) as reader:
            while True:
                try:
                    payload = reader.read_message()
                except flatstream.FlatStreamError as error:
                    if errors and errors[-1] is error:
                        break
                    errors.append(error)
                    continue
                if payload is None:
                    break
                found.append(bytes(payload))
            assert not report_of(reader).is_complete
        assert errors, bit
        assert found == payloads[: len(found)], bit
        # Tolerant, it gives each message at most once, in order, and says that something is missing.
        with StreamReader(bytes(changed), deframer, on_error="resync", allow_empty=True) as reader:
            found = by_message(reader)
            rest = iter(payloads)
            assert all(message in rest for message in found), bit
            assert not report_of(reader).is_complete, bit
            assert reader.lost_bytes, bit


def test_every_cut_is_torn_or_reported() -> None:
    stream = written()
    ends = [0]
    for frame in frames_of(stream):
        ends.append(ends[-1] + len(frame))
    for cut in spread(range(len(stream)), 5):
        error = raised_by(read, stream[:cut], deframer_of(require_final=True)) if cut not in ends else None
        if cut not in ends:
            assert isinstance(error, flatstream.UnexpectedEofError), cut
            continue
        found, report = read(stream[:cut])
        messages = max(ends.index(cut) - 1, 0)
        assert (found, report.is_finished, report.is_complete) == (PAYLOADS[:messages], False, False)
        assert report.unfinished_parts == ((0,) if cut else ())


def test_required_final_frame_is_missed_at_the_end() -> None:
    frames = frames_of(written())
    for count in range(len(frames)):
        with StreamReader(b"".join(frames[:count]), deframer_of(require_final=True)) as reader:
            for payload in PAYLOADS[: max(count - 1, 0)]:
                assert bytes(reader.read_message() or b"") == payload
            for _ in range(3):
                with pytest.raises(DecryptionError, match="has no final frame, which is required"):
                    reader.read_message()


@pytest.mark.parametrize("key_id", ["", "k2"])
def test_another_key_id_is_told_with_both(key_id: str) -> None:
    stream = written(framer_of(cipher=Aes256Gcm(KEY, key_id="k1")))
    with StreamReader(stream, deframer_of(cipher=Aes256Gcm(KEY, key_id=key_id))) as reader:
        with pytest.raises(DecryptionError, match=rf"says the key id 'k1', and the cipher has the key '{key_id}'"):
            reader.read_message()
        # Behind a head that was refused, nothing is told of the key.
        with pytest.raises(DecryptionError, match="does not accept this frame"):
            reader.read_message()


def test_refused_frame_says_where_it_is_and_nothing_else() -> None:
    frames = frames_of(written())
    offset = sum(map(len, frames[:2]))
    messages = set()
    for forged in (frames[3], frames[1], frames[2][:-1] + b"?", frames[0], b"\1\0\0\0\7"):
        with StreamReader(b"".join([*frames[:2], forged]), deframer_of()) as reader:
            reader.read_message()
            with pytest.raises(DecryptionError) as info:
                reader.read_message()
        assert (info.value.offset, info.value.frame) == (offset, 1)
        messages.add(str(info.value))
    assert len(messages) == 1


def test_plain_stream_is_refused() -> None:
    plain = written(DefaultFramer())
    assert read(plain) == (["refused"] * len(PAYLOADS), EncryptionReport(refused=len(PAYLOADS)))


# Gaps


@pytest.mark.parametrize("on_error", ["skip", "resync"])
def test_frames_behind_damage_are_delivered_and_what_is_missing_is_told(on_error: Any) -> None:
    framer = EncryptedFramer(ChecksumFramer(Crc32()), CIPHER, _salt=SALT)
    deframer = EncryptedDeframer(ChecksumDeframer(Crc32()), CIPHER)
    stream = bytearray(written(framer))
    at = stream.index(reference.make_part(reference.Keys(KEY), PAYLOADS, salt=SALT)[3])
    stream[at + 50] ^= 1
    with StreamReader(bytes(stream), deframer, on_error=on_error, allow_empty=True) as reader:
        assert by_message(reader) == PAYLOADS[:2] + PAYLOADS[3:]
        assert reader.encryption == EncryptionReport(1, True, missing_frames=1, refused=1)
        assert (reader.skipped, reader.lost_ranges) == (1, [(at - 8, at + 300 + 29)])


@pytest.mark.parametrize("on_error", ["skip", "resync"])
def test_gap_without_damage_is_told(on_error: Any) -> None:
    # Somebody took two frames out: no checksum is wrong, and no byte of what is left is lost.
    frames = frames_of(written())
    with StreamReader(b"".join(frames[:2] + frames[4:]), deframer_of(), on_error=on_error, allow_empty=True) as reader:
        assert by_message(reader) == PAYLOADS[:1] + PAYLOADS[3:]
        assert reader.encryption == EncryptionReport(1, True, missing_frames=2)
        assert not report_of(reader).is_complete
        assert reader.lost_ranges == []


def test_operation_may_go_on_behind_a_gap_with_another_mode() -> None:
    frames = frames_of(written())
    with StreamReader(b"".join(frames[:2] + frames[4:]), deframer_of(), allow_empty=True) as reader:
        assert [bytes(payload) for payload in reader.messages(on_error="stop")] == PAYLOADS[:1]
        assert isinstance(reader.stop_error, DecryptionError)
        # It stands before the frame that it did not take.
        assert [bytes(payload) for payload in reader.messages(on_error="skip")] == PAYLOADS[3:]
        assert report_of(reader).missing_frames == 2


@pytest.mark.parametrize("take", [by_message, by_batch])
def test_stop_ends_before_the_first_refused_frame(take: Any) -> None:
    frames = frames_of(written())
    stream = b"".join(frames[:4] + frames[5:])
    with StreamReader(stream, deframer_of(), on_error="stop", allow_empty=True) as reader:
        assert take(reader) == PAYLOADS[:3]
        assert isinstance(reader.stop_error, DecryptionError)
        assert reader.stop_error.offset == sum(map(len, frames[:4]))


@pytest.mark.parametrize("max_frames", [1, 2, 3, None])
def test_batches_end_where_parts_do_and_give_everything_once(max_frames: int | None) -> None:
    sink = io.BytesIO()
    for after in range(3):
        with StreamWriter(sink, DefaultFramer().encrypted(CIPHER), _begins=not after) as writer:
            if after:
                with StreamReader(sink.getvalue(), deframer_of()) as reader:
                    by_message(reader)
                    tail = cast("EncryptedDeframer", reader._session).tail
                writer._restart(tail)
            writer.write_payloads([b"%d %d" % (after, place) for place in range(5)])
    with StreamReader(sink.getvalue(), deframer_of()) as reader:
        batches = [[bytes(view) for view in batch] for batch in reader.batches(max_frames)]
        assert [message for batch in batches for message in batch] == [
            b"%d %d" % (part, place) for part in range(3) for place in range(5)
        ]
        assert reader.encryption == EncryptionReport(3, True)


def parts_of(names: str, salt: bytes) -> list[bytes]:
    """The payloads of a stream of two parts, the first without a final frame."""
    keys = reference.Keys(KEY)
    one = reference.make_part(keys, [b"%c0" % ord(names), b"%c1" % ord(names)], salt=salt, final=False)
    return one + reference.make_part(
        keys, [b"%c2" % ord(names), b"%c3" % ord(names)], salt=salt[::-1], part=1, tag_before=one[-1][-16:]
    )


FRAMES = parts_of("a", SALT) + parts_of("b", bytes(range(7, 39)))


@given(
    st.lists(st.integers(0, len(FRAMES) - 1), max_size=9) | st.sampled_from([list(range(7)), list(range(7, 14))]),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, len(FRAMES) - 1)), max_size=3),
    st.integers(0, 3),
    st.booleans(),
)
def test_reader_gives_what_the_judge_does(
    order: list[int], puts: list[tuple[int, int]], max_frames: int, gaps: bool
) -> None:
    order = list(order)
    for place, frame in puts:
        order.insert(place, frame)
    payloads = [FRAMES[number] for number in order]
    wanted, behind = reference.read_all(reference.Reader(reference.Keys(KEY), gaps), payloads)
    found: list[bytes] = []
    refused = 0
    with StreamReader(reference.framed(payloads), deframer_of(), on_error="skip" if gaps else "raise") as reader:
        while True:
            try:
                # Batches of some size, or one by one.
                some = reader.read_batch(max_frames) if max_frames else reader.read_message()
            except DecryptionError:
                refused += 1
                continue
            if some is None:
                break
            found += [bytes(view) for view in some] if max_frames else [bytes(cast("memoryview", some))]
        report = report_of(reader)
        assert reader.skipped == (wanted.count("refused") if gaps else 0)
    assert found == [message for message in wanted if message != "refused"]
    assert report.refused == wanted.count("refused")
    assert refused == (0 if gaps else report.refused)
    assert (report.missing_frames, report.missing_parts, report.missing_ends) == (
        behind.missing_frames,
        behind.missing_parts,
        behind.missing_ends,
    )
    assert report.is_finished == behind.has_final


# Composition


class ZlibFramer(TransformFramer):
    def transform(self, payload: memoryview) -> bytes:
        return zlib.compress(payload)


class ZlibDeframer(TransformDeframer):
    def restore(self, payload: memoryview) -> bytes:
        return zlib.decompress(payload)


def test_compressed_messages_are_encrypted() -> None:
    stream = written(ZlibFramer(framer_of()))
    assert stream == written(payloads=[zlib.compress(payload) for payload in PAYLOADS])
    assert read(stream, ZlibDeframer(deframer_of())) == (PAYLOADS, EncryptionReport(1, True))


@pytest.mark.parametrize("inner", [ZlibFramer(DefaultFramer()), ZlibFramer(DefaultFramer()).bounded(100)])
def test_encrypted_messages_are_not_compressed(inner: Any) -> None:
    with pytest.raises(TypeError, match=r"must be the innermost .* ZlibFramer: compress before you encrypt"):
        EncryptedFramer(inner, CIPHER)
    with pytest.raises(TypeError, match=r"must be the innermost .* ZlibDeframer: compress before you encrypt"):
        EncryptedDeframer(ZlibDeframer(DefaultDeframer()).observed(print), CIPHER)


def test_encrypted_messages_are_not_encrypted_again() -> None:
    with pytest.raises(TypeError, match="is around a EncryptedFramer: a stream is encrypted once"):
        framer_of().bounded(5).encrypted(CIPHER)
    with pytest.raises(TypeError, match="is around a EncryptedDeframer: a stream is encrypted once"):
        deframer_of().encrypted(CIPHER)


def test_validator_inside_is_refused() -> None:
    with pytest.raises(TypeError, match="validator"):
        DefaultFramer().with_validator(flatstream.NoValidator()).encrypted(CIPHER)


@pytest.mark.parametrize("cipher", [KEY, None, "key", Aes256Gcm])
def test_something_else_than_a_cipher_is_refused_and_not_shown(cipher: Any) -> None:
    kinds: list[tuple[Any, Any]] = [(EncryptedFramer, DefaultFramer()), (EncryptedDeframer, DefaultDeframer())]
    for kind, inner in kinds:
        with pytest.raises(TypeError, match=r"an Aes256Gcm or a ChaCha20Poly1305, got (bytes|None|str|type)"):
            kind(inner, cipher)


# Objects


def test_framers_show_no_key_and_are_pickled_if_their_cipher_is() -> None:
    for adapter in (framer_of(), deframer_of(require_final=True)):
        assert repr(KEY)[2:-1] not in repr(adapter)
        with pytest.raises(TypeError, match="holds a key and is not pickled"):
            pickle.dumps(adapter)
        assert copy.deepcopy(adapter).cipher is CIPHER
    by_name = Aes256Gcm(key_of)
    framer, deframer = (pickle.loads(pickle.dumps(made(cipher=by_name))) for made in (framer_of, deframer_of))
    assert read(written(framer), deframer)[0] == PAYLOADS


def key_of(key_id: str) -> bytes:
    return KEY


def test_framer_without_a_writer_is_refused() -> None:
    sink = io.BytesIO()
    with pytest.raises(TypeError, match="write it with a StreamWriter"):
        framer_of().frame_and_write(sink, b"abc")
    assert sink.getvalue() == b""
    for name in ("begin", "finish", "accepted"):
        with pytest.raises(TypeError, match="write it with a StreamWriter"):
            getattr(framer_of(), name)()
    for name, arguments in (("restore", [memoryview(b"")]), ("end", []), ("tolerate", [True])):
        with pytest.raises(TypeError, match="read it with a StreamReader"):
            getattr(deframer_of(), name)(*arguments)


def test_one_framer_serves_many_writers_at_once() -> None:
    framer = DefaultFramer().encrypted(CIPHER).observed(lambda view: None)
    sinks = [io.BytesIO() for _ in range(3)]
    writers = [StreamWriter(sink, framer) for sink in sinks]
    for number in range(20):
        writers[number % 3].write_payload(b"%d" % number)
    for writer in writers:
        assert writer.framer is framer
        writer.close()
    deframer = deframer_of()
    readers = [StreamReader(sink.getvalue(), deframer) for sink in sinks]
    found: list[list[bytes]] = [[], [], []]
    for _ in range(8):
        for reader, messages in zip(readers, found, strict=True):
            if (payload := reader.read_message()) is not None:
                messages.append(bytes(payload))
    assert found == [[b"%d" % number for number in range(first, 20, 3)] for first in range(3)]
    assert all(reader.deframer is deframer and report_of(reader).is_complete for reader in readers)


def test_threads_share_a_writer_and_a_framer() -> None:
    framer = DefaultFramer().encrypted(CIPHER)
    shared, own = io.BytesIO(), [io.BytesIO() for _ in range(4)]
    with StreamWriter(shared, framer, buffer_size=100) as writer:

        def write(thread: int) -> None:
            with StreamWriter(own[thread], framer) as mine:
                for number in range(100):
                    payload = b"%d %d" % (thread, number)
                    writer.write_payload(payload)
                    mine.write_payload(payload)

        run_threads(*(lambda thread=thread: write(thread) for thread in range(4)))
    found, report = read(shared.getvalue())
    assert report == EncryptionReport(1, True)
    assert sorted(found) == sorted(b"%d %d" % (thread, number) for thread in range(4) for number in range(100))
    for thread, sink in enumerate(own):
        assert read(sink.getvalue()) == ([b"%d %d" % (thread, n) for n in range(100)], EncryptionReport(1, True))


def test_reader_of_a_plain_stream_has_no_report() -> None:
    with StreamReader(written(DefaultFramer())) as reader:
        assert reader.encryption is None
