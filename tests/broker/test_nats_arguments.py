"""Wrong arguments are refused when the objects are made, with what was expected and what came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flatstream import FlatStreamError
from flatstream.journal import Cursor, JournalReader, JournalWriter, MirrorWriter
from flatstream.nats import Forwarder, Receiver, Subscription
from support.extent import in_one_test

ID = "0123456789abcdef" * 2


@in_one_test
@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Forwarder("events", 5), TypeError, "subject must be a str, got 5"),  # type: ignore[arg-type]
        (lambda: Forwarder("events", ""), ValueError, "subject must be a subject of NATS, got ''"),
        (lambda: Forwarder("events", "a b"), ValueError, "subject must be a subject of NATS, got 'a b'"),
        (lambda: Forwarder("events", "a\r\nPUB b 0"), ValueError, "subject must be a subject of NATS"),
        (lambda: Forwarder("events", "a.*"), ValueError, "one subject, got one with wildcards: 'a.*'"),
        (lambda: Forwarder("events", "a.>"), ValueError, "one subject, got one with wildcards: 'a.>'"),
        (lambda: Forwarder("events", "a", window=0), ValueError, "window must be at least 1, got 0"),
        (lambda: Forwarder("events", "a", window=1.5), TypeError, "window"),  # type: ignore[arg-type]
        (lambda: Forwarder("events", "a", linger=-1), ValueError, "linger must be at least 0 seconds, got -1"),
        (lambda: Forwarder("events", "a", ack_timeout="5"), TypeError, "ack_timeout must be a number of seconds"),  # type: ignore[arg-type]
        (lambda: Forwarder("events", "a", give_up=float("nan")), ValueError, "give_up must be at least 0 seconds"),
        (lambda: Forwarder("events", "a", max_message_bytes=1024), ValueError, "max_message_bytes must be above 1024"),
        (lambda: Forwarder("events", "a", on_too_large="drop"), ValueError, "on_too_large must be 'raise' or 'skip'"),  # type: ignore[arg-type]
        (lambda: Receiver(None, "received"), TypeError, "subject must be a str, got None"),  # type: ignore[arg-type]
        (lambda: Receiver("a", 5), TypeError, "directory must be a path, got 5"),
        (lambda: Receiver("a", "received", batch=0), ValueError, "batch must be at least 1, got 0"),
        (lambda: Receiver("a", "received", max_open=0), ValueError, "max_open must be at least 1, got 0"),
        (lambda: Receiver("a", "received", idle_timeout=-0.5), ValueError, "idle_timeout must be at least 0"),
        (lambda: Subscription("a", batch=-1), ValueError, "batch must be at least 1, got -1"),
        (lambda: Subscription("a", positions=["fsc1"]), TypeError, "positions must be cursors, got 'fsc1'"),  # type: ignore[list-item]
        (lambda: Subscription("a", ack_wait=True), TypeError, "ack_wait must be a number of seconds, got True"),
    ],
)
def test_wrong_argument_is_named(make: Any, error: type[Exception], text: str) -> None:
    pytest.importorskip("nats")
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)


# The mirror


def test_mirror_has_the_identity_and_the_numbers_of_its_source(tmp_path: Path) -> None:
    with MirrorWriter(tmp_path / "mirror", ID) as mirror:
        mirror.skip_to(40)
        mirror.write_payloads([b"40", b"41"])
        mirror.skip_to(50)
        mirror.skip_to(50)
        mirror.skip_to(3)
        mirror.write_payload(b"50")
        assert (mirror.id, mirror.position) == (ID, 51)
        mirror.wait_durable()
    with JournalReader(tmp_path / "mirror") as reader:
        assert [(bytes(payload), reader.number) for payload in reader] == [(b"40", 40), (b"41", 41), (b"50", 50)]
        assert [gap[:2] for gap in reader.gaps] == [(42, 50)]
        assert reader.id == ID
    with MirrorWriter(tmp_path / "mirror", ID) as mirror:
        assert mirror.position == 51


def test_numbers_that_were_skipped_stay_so_when_nothing_follows(tmp_path: Path) -> None:
    for position in (0, 7, 7):
        with MirrorWriter(tmp_path / "mirror", ID) as mirror:
            assert mirror.position == position
            mirror.skip_to(7)


def test_mirror_goes_on_where_the_disk_ends_whatever_a_reader_has_read(tmp_path: Path) -> None:
    with MirrorWriter(tmp_path / "mirror", ID) as mirror:
        mirror.write_payloads([b"%d" % number for number in range(10)])
    with JournalReader(tmp_path / "mirror", name="fast") as reader:
        for _ in reader:
            pass
        reader.commit()
    # As a power cut leaves it: the last three frames, each of 12 bytes and a digit, were not on the disk.
    (segment,) = (tmp_path / "mirror").glob("*.fs")
    segment.write_bytes(segment.read_bytes()[: -3 * 13])
    (tmp_path / "mirror" / "journal.json").write_text(
        (tmp_path / "mirror" / "journal.json").read_text().replace('"frames": 10', '"frames": 7').replace(
            '"next": 10', '"next": 7'
        ).replace(f'"bytes": {segment.stat().st_size + 39}', f'"bytes": {segment.stat().st_size}')
    )  # fmt: skip
    with MirrorWriter(tmp_path / "mirror", ID) as mirror:
        assert mirror.position == 7
    # An ordinary writer does not use these numbers again.
    with JournalWriter(tmp_path / "mirror") as journal:
        assert journal.position == 10


@in_one_test
@pytest.mark.parametrize(
    ("journal", "error", "text"),
    [
        (5, TypeError, "journal must be the identity of a journal, a str, got 5"),
        ("0" * 32, ValueError, "not all zeros"),
        (ID[:-1], ValueError, "an identity of 32 hexadecimal digits"),
        ("../" + ID[3:], ValueError, "an identity of 32 hexadecimal digits"),
    ],
)
def test_mirror_of_no_identity_is_refused(tmp_path: Path, journal: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        MirrorWriter(tmp_path / "mirror", journal)
    assert not (tmp_path / "mirror").exists()


def test_mirror_of_another_journal_is_refused(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal") as journal:
        journal.write_payload(b"abc")
    with pytest.raises(ValueError, match=f"has the journal {journal.id}, and is to be a mirror of {ID}"):
        MirrorWriter(tmp_path / "journal", ID)
    with MirrorWriter(tmp_path / "journal", journal.id) as mirror:
        for wrong in (-1, 2**63, "5", 1.5):
            with pytest.raises((TypeError, ValueError), match="number"):
                mirror.skip_to(wrong)  # type: ignore[arg-type]
        assert mirror.position == 1


def test_damage_in_the_last_segment_is_refused_unless_it_is_accepted(tmp_path: Path) -> None:
    with MirrorWriter(tmp_path / "mirror", ID) as mirror:
        mirror.write_payloads([b"%d" % number for number in range(10)])
    (segment,) = (tmp_path / "mirror").glob("*.fs")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    data[-50] ^= 1
    segment.write_bytes(data)
    with pytest.raises(FlatStreamError, match="it is not known which frame the mirror goes on with"):
        MirrorWriter(tmp_path / "mirror", ID)
    with MirrorWriter(tmp_path / "mirror", ID, accepts_damage=True) as mirror:
        assert mirror.position >= 10
    with MirrorWriter(tmp_path / "mirror", ID) as mirror:
        assert mirror.position >= 10


def test_earlier_place_is_committed_and_no_other(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal") as journal:
        journal.write_payloads([b"%d" % number for number in range(10)])
    with JournalReader(tmp_path / "journal", name="one") as reader:
        for _ in range(5):
            reader.read_message()
        reader.commit(Cursor(reader.id, 3))
        for wrong in (Cursor(reader.id, 6), Cursor(reader.id, -1), Cursor(ID, 3)):
            with pytest.raises(ValueError, match="no earlier place"):
                reader.commit(wrong)
        with pytest.raises(TypeError, match="cursor must be a Cursor or None, got 3"):
            reader.commit(3)  # type: ignore[arg-type]
    with JournalReader(tmp_path / "journal", name="one") as reader:
        assert reader.position == 3
