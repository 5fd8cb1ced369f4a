"""The construction of encrypted streams: test vectors, the judge written out, and every edit of a list of frames."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import DecryptionError
from flatstream.transforms import _parts
from flatstream.transforms._parts import PartReader, PartWriter, Tail
from flatstream.transforms.ciphers import Aes256Gcm, ChaCha20Poly1305, Cipher
from reference import encryption as reference
from support.extent import in_one_test, spread

VECTORS = Path(__file__).parents[1] / "data" / "encryption" / "vectors.json"
# Frozen: streams of this form are on other people's disks.
DIGEST = "bb065cc12d9e596a33f8a985a416251bdfc6bfff8c114b2f05859f36a89f6ec3"

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
SALT, OTHER_SALT = bytes(range(64, 96)), bytes(range(96, 128))
MESSAGES = [b"first", b"", b"third" * 7, b"x"]
CIPHERS = {1: Aes256Gcm, 2: ChaCha20Poly1305}
REFUSED = "refused"


def cipher_of(keys: reference.Keys) -> Cipher:
    return CIPHERS[keys.algorithm](keys.key, key_id=keys.key_id.decode(), context=keys.context)


def written(
    cipher: Cipher,
    messages: Iterable[bytes],
    *,
    salt: bytes = SALT,
    after: Tail | None = None,
    description: bytes | None = None,
    numbers: Iterable[int] | None = None,
    final: bool = True,
) -> list[bytes]:
    """The payloads of a part; `numbers` are those of its messages and of its final frame, by default all."""
    part = PartWriter(cipher, after, salt)
    if description is not None:
        part.describe(description)
    payloads = [part.head()]
    wanted = None if numbers is None else iter(numbers)

    def spend() -> None:
        if wanted is None:
            return
        number = next(wanted)
        if number - part._number > 1000:
            # Without encrypting millions of messages.
            part._number = part._end_of_key = number >> 20 << 20
            part._take_next_key()
            part._number = number
        while part._number < number:
            part.seal(memoryview(b"not accepted"))

    for message in messages:
        spend()
        payloads.append(part.seal(memoryview(message)))
        part.accepted()
    if final:
        spend()
        payloads.append(part.final())
    return payloads


def tail_of(payloads: list[bytes], part: int = 0) -> Tail:
    return Tail(payloads[-1][-16:], part)


def read(reader: PartReader, payloads: Iterable[bytes]) -> list[bytes | str]:
    """The messages, with "refused" in the place of each frame that is."""
    found: list[bytes | str] = []
    for payload in payloads:
        before = reader.state
        try:
            message = reader.open(memoryview(payload))
        except DecryptionError:
            assert reader.state is before
            found.append(REFUSED)
        else:
            if message is not None:
                found.append(message)
    return found


def reader_for(cipher: Cipher, *, gaps: bool = False, description: bytes | None = None) -> PartReader:
    reader = PartReader(cipher, False)
    reader.tolerate(gaps)
    if description is not None:
        reader.describe(description)
    return reader


# Vectors


def test_vectors_are_those_that_were_frozen() -> None:
    assert hashlib.sha256(VECTORS.read_bytes()).hexdigest() == DIGEST
    assert json.loads(VECTORS.read_text()) == reference.vectors()


@pytest.mark.parametrize("vector", reference.vectors(), ids=lambda vector: vector["name"])
def test_vector_is_written_and_read(vector: dict[str, Any]) -> None:
    classes = {"aes-256-gcm": Aes256Gcm, "chacha20-poly1305": ChaCha20Poly1305}
    key, context = bytes.fromhex(vector["key"]), bytes.fromhex(vector["context"])
    cipher = classes[vector["algorithm"]](key, key_id=vector["key_id"], context=context)
    messages = [bytes.fromhex(message) for message in vector["messages"]]
    payloads = [bytes.fromhex(payload) for payload in vector["payloads"]]
    description = bytes.fromhex(vector["description"]) if "description" in vector else None

    reader = PartReader(cipher, "unfinished" not in vector)
    if description is not None:
        reader.describe(description)
    assert read(reader, payloads) == messages
    reader.end()
    assert list(reader.report.unfinished_parts) == vector.get("unfinished", [])
    assert reader.report.is_complete == ("unfinished" not in vector)

    made: list[bytes] = []
    heads = [place for place, payload in enumerate(payloads) if payload[0] == 1]
    for part, (begin, end) in enumerate(itertools.pairwise([*heads, len(payloads)])):
        frames = payloads[begin + 1 : end]
        taken = [next(rest) for rest in [iter(messages)] for frame in frames if frame[0] == 2]
        messages = messages[len(taken) :]
        made += written(
            cipher,
            taken,
            salt=bytes.fromhex(vector["salts"][part]),
            after=None if part == 0 else tail_of(made, part - 1),
            description=description,
            numbers=vector.get("numbers"),
            final=payloads[end - 1][0] == 3,
        )
    assert made == payloads


# The judge


KEYS = [
    reference.Keys(KEY),
    reference.Keys(KEY, 2, b"2026", b"host a"),
]


@given(st.sampled_from(KEYS), st.lists(st.binary(max_size=40), max_size=6), st.booleans(), st.none() | st.binary())
def test_payloads_are_those_of_the_judge(
    keys: reference.Keys, messages: list[bytes], final: bool, description: bytes | None
) -> None:
    made = written(cipher_of(keys), messages, description=description, final=final)
    assert made == reference.make_part(keys, messages, salt=SALT, description=description, final=final)


def two_streams() -> dict[str, bytes]:
    """Frames by name, of a stream of three parts, the second without an end, and of another stream."""
    cipher = Aes256Gcm(KEY)
    parts = [written(cipher, [b"a0", b"a1", b"a2"])]
    parts.append(written(cipher, [b"b0", b"b1"], salt=OTHER_SALT, after=tail_of(parts[0], 0), final=False))
    parts.append(written(cipher, [b"c0"], salt=bytes(32), after=tail_of(parts[1], 1)))
    other = written(cipher, [b"d0", b"d1", b"d2"], salt=b"other " * 5 + b"!!")
    foreign = written(Aes256Gcm(OTHER_KEY), [b"e0"], salt=SALT)
    named = {
        f"{name}{place}": frame for name, part in zip("abc", parts, strict=True) for place, frame in enumerate(part)
    }
    named |= {f"d{place}": frame for place, frame in enumerate(other)}
    return named | {f"e{place}": frame for place, frame in enumerate(foreign)}


FRAMES = two_streams()
STREAM = [name for name in FRAMES if name[0] in "abc"]
MESSAGE_OF = {f"{part}{place + 1}": b"%c%d" % (ord(part), place) for part in "abcd" for place in range(3)}


def compare(names: Iterable[str], gaps: bool) -> list[bytes | str]:
    """Reads frames, compares with the judge, and returns what was found."""
    payloads = [FRAMES[name] for name in names]
    reader = reader_for(Aes256Gcm(KEY), gaps=gaps)
    found = read(reader, payloads)
    wanted, behind = reference.read_all(reference.Reader(reference.Keys(KEY), gaps), payloads)
    assert found == wanted
    reader.end()
    report = reader.report
    unfinished = behind.unfinished if behind.has_final or behind.part < 0 else (*behind.unfinished, behind.part)
    assert report.unfinished_parts == unfinished
    assert report.unfinished_count == len(unfinished)
    assert (report.missing_frames, report.missing_parts, report.missing_ends, report.other_descriptions) == (
        behind.missing_frames,
        behind.missing_parts,
        behind.missing_ends,
        behind.other_descriptions,
    )
    assert reader.tail == (None if behind.part < 0 else Tail(behind.tag, behind.part))
    return found


edits = st.lists(
    st.tuples(
        st.sampled_from(["drop", "repeat", "swap", "move", "put"]), st.integers(0, 30), st.sampled_from(list(FRAMES))
    ),
    min_size=1,
    max_size=4,
)


def edited(names: list[str], steps: list[tuple[str, int, str]]) -> list[str]:
    made = list(names)
    for action, place, name in steps:
        at = place % (len(made) + 1)
        if action == "put":
            made.insert(at, name)
        elif at < len(made):
            if action == "drop":
                del made[at]
            elif action == "repeat":
                made.insert(at, made[at])
            elif action == "swap":
                other = (at * 7 + 3) % len(made)
                made[at], made[other] = made[other], made[at]
            else:
                made.insert((at * 5 + 2) % len(made), made.pop(at))
    return made


@given(edits)
def test_edited_stream_is_refused_and_its_first_messages_delivered(
    steps: list[tuple[str, int, str]],
) -> None:
    names = edited(STREAM, steps)
    found = compare(names, gaps=False)
    delivered = [message for message in found if message != REFUSED]
    begins = next((name for name in names if name in ("a0", "d0")), "a0")[0]
    # Another stream of the same key, from its beginning on: only a context tells the two apart.
    whole = [name for name in FRAMES if name[0] == "d"] if begins == "d" else STREAM
    messages = [MESSAGE_OF[name] for name in whole if FRAMES[name][0] == 2]
    assert delivered == messages[: len(delivered)]
    # What is not refused is as it was, or cut off at its end.
    assert (REFUSED in found) == (names != whole[: len(names)])


@given(edits)
def test_reader_of_damaged_streams_delivers_what_the_judge_does(steps: list[tuple[str, int, str]]) -> None:
    found = compare(edited(STREAM, steps), gaps=True)
    # Each message at most once, and in order.
    messages = [message for message in found if message != REFUSED]
    assert len(messages) == len(set(messages))
    assert messages == sorted(messages)


@pytest.mark.parametrize("gaps", [False, True])
def test_every_frame_left_out_is_noticed(gaps: bool) -> None:
    for place, name in enumerate(STREAM):
        found = compare(STREAM[:place] + STREAM[place + 1 :], gaps)
        if not gaps:
            assert (REFUSED in found) == (place < len(STREAM) - 1)
        reader = reader_for(Aes256Gcm(KEY), gaps=True)
        read(reader, [FRAMES[other] for other in STREAM if other != name])
        report = reader.report
        kind = FRAMES[name][0]
        if name == "c0":
            # No head behind it tells.
            assert not report.is_finished
        elif kind == 1:
            assert report.missing_parts == 1
        elif name == "b2":
            # The last one of a part without a final frame.
            assert (report.missing_frames, report.missing_ends) == (0, 1)
        elif kind == 2:
            assert (report.missing_frames, report.missing_ends) == (1, 0)
        elif place < len(STREAM) - 1:
            assert (report.missing_ends, report.unfinished_count) == (1, 2)
        else:
            assert not report.is_finished


# Damage


@in_one_test
@pytest.mark.parametrize("keys", KEYS, ids=["aes", "chacha"])
@pytest.mark.parametrize("gaps", [False, True], ids=["strict", "tolerant"])
def test_every_bit_of_every_frame_counts(keys: reference.Keys, gaps: bool) -> None:
    cipher = cipher_of(keys)
    payloads = written(cipher, MESSAGES, description=b"d")
    for place, payload in enumerate(payloads):
        bits = range(8 * len(payload))
        for bit in spread(bits, 5):
            changed = bytearray(payload)
            changed[bit // 8] ^= 1 << bit % 8
            stream = [*payloads[:place], bytes(changed), *payloads[place + 1 :]]
            found = read(reader_for(cipher, gaps=gaps, description=b"d"), stream)
            before = MESSAGES[: max(place - 1, 0)]
            behind = MESSAGES[place:] if gaps and place else [REFUSED] * (len(payloads) - place - 1)
            assert found == [*before, REFUSED, *behind], (place, bit)


def test_every_cut_and_every_byte_too_many_is_refused() -> None:
    cipher = Aes256Gcm(KEY)
    payloads = written(cipher, MESSAGES)
    for place, payload in enumerate(payloads):
        for changed in [
            *(payload[:size] for size in range(len(payload))),
            payload + b"\0",
            payload * 2,
            b"\0" + payload,
        ]:
            found = read(reader_for(cipher), [*payloads[:place], changed, *payloads[place + 1 :]])
            assert found == MESSAGES[: max(place - 1, 0)] + [REFUSED] * (len(payloads) - place), place


@pytest.mark.parametrize(
    "other",
    [
        Aes256Gcm(OTHER_KEY),
        Aes256Gcm(KEY, key_id="a"),
        Aes256Gcm(KEY, context=b"a"),
        ChaCha20Poly1305(KEY),
        Aes256Gcm(lambda key_id: OTHER_KEY),
    ],
    ids=["key", "key id", "context", "algorithm", "key of a function"],
)
def test_another_cipher_reads_nothing(other: Cipher) -> None:
    for gaps in (False, True):
        assert read(reader_for(other, gaps=gaps), written(Aes256Gcm(KEY), MESSAGES)) == [REFUSED] * 6


@pytest.mark.parametrize("version", [0, 2, 255])
def test_authentic_head_of_another_version_is_refused(version: int) -> None:
    head, _ = reference.make_head(reference.Keys(KEY), SALT, 0, bytes(16), None, version)
    assert read(reader_for(Aes256Gcm(KEY)), [head]) == [REFUSED]


def test_head_that_names_another_algorithm_is_refused_with_its_own_commitment() -> None:
    # An attacker without the key cannot make this head. One algorithm taken for the other would be a downgrade.
    head, _ = reference.make_head(reference.Keys(KEY, 2), SALT, 0, bytes(16), None)
    assert read(reader_for(Aes256Gcm(KEY)), [head]) == [REFUSED]


@pytest.mark.parametrize("gaps", [False, True])
def test_final_frame_is_no_message_and_a_message_no_final_frame(gaps: bool) -> None:
    keys = reference.Keys(KEY)
    head, secret = reference.make_head(keys, SALT, 0, bytes(16), None)
    empty = reference.make_frame(keys, secret, 2, 0, 0)
    final = reference.make_frame(keys, secret, 3, 0, 0)
    assert read(reader_for(Aes256Gcm(KEY), gaps=gaps), [head, b"\x03" + empty[1:]]) == [REFUSED]
    assert read(reader_for(Aes256Gcm(KEY), gaps=gaps), [head, b"\x02" + final[1:]]) == [REFUSED]
    # Authentic, and with bytes of a message: the final frame has none.
    long = reference.make_frame(keys, secret, 3, 0, 0, b"x")
    assert read(reader_for(Aes256Gcm(KEY), gaps=gaps), [head, long]) == [REFUSED]


@pytest.mark.parametrize("gaps", [False, True])
def test_frames_behind_the_final_one_are_refused(gaps: bool) -> None:
    keys = reference.Keys(KEY)
    head, secret = reference.make_head(keys, SALT, 0, bytes(16), None)
    frames = [reference.make_frame(keys, secret, kind, number, number and 1) for number, kind in enumerate((3, 2, 3))]
    assert read(reader_for(Aes256Gcm(KEY), gaps=gaps), [head, *frames]) == [REFUSED, REFUSED]


def test_wrong_count_in_the_final_frame_is_refused() -> None:
    keys = reference.Keys(KEY)
    head, secret = reference.make_head(keys, SALT, 0, bytes(16), None)
    message = reference.make_frame(keys, secret, 2, 0, 0, b"m")
    for count in (0, 2, 2**48 - 1):
        final = reference.make_frame(keys, secret, 3, 1, count)
        assert read(reader_for(Aes256Gcm(KEY)), [head, message, final]) == [b"m", REFUSED]


def test_every_refusal_is_the_same_error() -> None:
    cipher = Aes256Gcm(KEY)
    payloads = written(cipher, MESSAGES)
    forged = [
        b"",
        b"\x02",
        bytes(29),
        payloads[0][:-1] + b"\0",
        payloads[0][:1] + b"\x02" + payloads[0][2:],
        payloads[2],
        payloads[1][:-1] + bytes([payloads[1][-1] ^ 1]),
        written(Aes256Gcm(OTHER_KEY), [])[0],
        payloads[0],
    ]
    seen = set()
    for payload in forged:
        reader = reader_for(cipher)
        read(reader, payloads[:1])
        with pytest.raises(DecryptionError) as info:
            reader.open(memoryview(payload))
        error = info.value
        assert error.__cause__ is error.__context__ is None
        seen.add((str(error), repr(sorted(vars(error).items()))))
    assert len(seen) == 1


def test_refusals_of_what_everybody_can_see_say_it() -> None:
    cipher = Aes256Gcm(KEY, key_id="a")
    unfinished = written(cipher, MESSAGES)[:-1]
    for payload in (written(Aes256Gcm(KEY, key_id="b"), [])[0], written(Aes256Gcm(OTHER_KEY, key_id="b"), [])[0]):
        with pytest.raises(DecryptionError, match="says the key id 'b', and the cipher has the key 'a'"):
            reader_for(cipher).open(memoryview(payload))
    reader = PartReader(cipher, True)
    with pytest.raises(DecryptionError, match="the encrypted stream has no final frame, which is required"):
        reader.end()
    assert read(reader, unfinished) == MESSAGES
    with pytest.raises(DecryptionError, match="part 0 of the encrypted stream has no final frame, which is required"):
        reader.end()


# The description


@pytest.mark.parametrize("found", [None, b"another"])
def test_another_description_is_refused(found: bytes | None) -> None:
    cipher = Aes256Gcm(KEY)
    payloads = written(cipher, MESSAGES, description=b"the one")
    assert read(reader_for(cipher, description=found), payloads) == [REFUSED] * 6
    reader = reader_for(cipher, gaps=True, description=found)
    assert read(reader, payloads) == MESSAGES
    assert reader.report.other_descriptions == 1
    assert not reader.report.is_complete


# States


@given(st.data())
def test_reader_goes_back_to_any_earlier_state(data: st.DataObject) -> None:
    reader = reader_for(Aes256Gcm(KEY), gaps=data.draw(st.booleans()))
    names = edited(STREAM, data.draw(edits))
    states, found, reports = [], [], []
    for name in names:
        states.append(reader.state)
        reports.append(reader.report)
        found.append(read(reader, [FRAMES[name]]))
    for place in data.draw(st.lists(st.integers(0, max(len(names) - 1, 0)), max_size=5)):
        if not names:
            break
        reader.rewind(states[place])
        assert reader.report == reports[place]
        assert [read(reader, [FRAMES[name]]) for name in names[place:]] == found[place:]


def test_many_unfinished_parts_are_counted_and_the_first_ones_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartReader, "MAX_NUMBERS_KEPT", 3)
    cipher = Aes256Gcm(KEY)
    reader = reader_for(cipher)
    stream: list[bytes] = []
    states = []
    for part in range(6):
        stream += written(cipher, [], after=tail_of(stream, part - 1) if stream else None, final=False)
    for payload in stream:
        states.append(reader.state)
        reader.open(memoryview(payload))
    assert (reader.report.unfinished_parts, reader.report.unfinished_count) == ((0, 1, 2), 5)
    reader.end()
    assert (reader.report.unfinished_parts, reader.report.unfinished_count) == ((0, 1, 2), 6)
    reader.rewind(states[2])
    assert (reader.report.unfinished_parts, reader.report.unfinished_count) == ((0,), 1)


# Numbers


def test_number_is_spent_whether_or_not_the_frame_is_accepted() -> None:
    part = PartWriter(Aes256Gcm(KEY), None, SALT)
    payloads = [part.head()]
    for place in range(50):
        for _ in range(place % 4):
            part.seal(memoryview(b"not accepted"))
        payloads.append(part.seal(memoryview(b"%d" % place)))
        part.accepted()
    payloads.append(part.final())
    numbers = [int.from_bytes(payload[1:7], "little") for payload in payloads[1:]]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 50 + sum(place % 4 for place in range(50))
    assert read(reader_for(Aes256Gcm(KEY)), payloads) == [b"%d" % place for place in range(50)]


def test_failed_encryption_spends_the_number() -> None:
    part = PartWriter(Aes256Gcm(KEY), None, SALT)
    part.head()
    part.seal(memoryview(b"a"))

    class Interrupted(BaseException):
        pass

    real = part._encrypt

    def interrupted(nonce: bytes, message: memoryview, prefix: bytes) -> bytes:
        real(nonce, message, prefix)
        raise Interrupted

    part._encrypt = interrupted
    with pytest.raises(Interrupted):
        part.seal(memoryview(b"b"))
    part._encrypt = real
    assert part.seal(memoryview(b"c"))[1:7] == (2).to_bytes(6, "little")


def test_next_key_begins_at_the_next_multiple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parts, "BYTES_OF_KEY", 100)
    cipher = Aes256Gcm(KEY)
    messages = [b"x" * 60, b"y" * 60, b"z" * 60, b"", b"w" * 200, b"v"]
    payloads = written(cipher, messages)
    numbers = [int.from_bytes(payload[1:7], "little") for payload in payloads[1:]]
    key = 1 << 20
    assert numbers == [0, 1, key, key + 1, key + 2, 2 * key, 2 * key + 1]
    assert read(reader_for(cipher), payloads) == messages
    assert reference.make_part(reference.Keys(KEY), messages, salt=SALT, numbers=numbers) == payloads


def test_last_number_is_followed_by_an_error_and_not_by_the_first() -> None:
    part = PartWriter(Aes256Gcm(KEY), None, SALT)
    part.head()
    part._number = part._end_of_key = 2**48 - 2**20
    part.seal(memoryview(b"a"))
    part._number = 2**48 - 1
    part._place = (2**48 - 2, False)
    assert part.seal(memoryview(b"a"))[1:13] == b"\xff" * 6 + b"\xfe" + b"\xff" * 5
    for _ in range(2):
        with pytest.raises(OverflowError, match="no numbers left"):
            part.seal(memoryview(b"a"))
    with pytest.raises(OverflowError, match="no numbers left"):
        part.final()


def test_last_part_is_followed_by_an_error() -> None:
    PartWriter(Aes256Gcm(KEY), Tail(bytes(16), 2**32 - 2))
    with pytest.raises(OverflowError, match=r"at most 2\*\*32 parts"):
        PartWriter(Aes256Gcm(KEY), Tail(bytes(16), 2**32 - 1))


def test_finished_part_takes_nothing_more_and_repeats_its_final_frame() -> None:
    part = PartWriter(Aes256Gcm(KEY), None, SALT)
    part.head()
    final = part.final()
    assert part.final() == final
    with pytest.raises(ValueError, match="has its final frame"):
        part.seal(memoryview(b"a"))


def test_each_part_has_a_salt_of_its_own() -> None:
    heads = {PartWriter(Aes256Gcm(KEY), None).head()[8:40] for _ in range(20)}
    assert len(heads) == 20


def test_writer_without_a_head_encrypts_nothing() -> None:
    with pytest.raises(ValueError, match="no head yet"):
        PartWriter(Aes256Gcm(KEY), None).seal(memoryview(b"a"))


def test_tail_of_another_size_is_refused() -> None:
    tail = Tail(bytes(range(16)), 7)
    assert Tail.from_bytes(tail.to_bytes()) == tail
    with pytest.raises(ValueError, match="has 20 bytes, got 16"):
        Tail.from_bytes(bytes(16))
