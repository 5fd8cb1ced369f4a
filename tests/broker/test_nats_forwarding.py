"""Journals over a real nats-server: what arrives, what is acknowledged, what is told."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError
from flatstream.journal import Cursor, JournalReader, JournalWriter, MirrorWriter, RotationPolicy
from flatstream.nats import Forwarder, Receiver, Subscription, forward, receive
from flatstream.nats._message import HEADERS_SIZE
from support.nats_journals import SUBJECT, broker, mirror_in, numbers_in, payload_of, until, write
from support.nats_server import NatsServer, needs_server, run, running_server

pytestmark = needs_server

# So that receivers end soon.
IDLE: dict[str, Any] = {"idle_timeout": 0.15}


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running_server(tmp_path_factory.mktemp("nats"), max_payload=64 << 10) as server:
        yield server


@pytest.fixture
def server(shared_server: NatsServer) -> NatsServer:
    """The server of this file, without streams."""
    import nats

    async def clear() -> None:
        connection = await nats.connect(shared_server.url)
        context = connection.jetstream()
        for info in await context.streams_info():
            assert info.config.name is not None
            await context.delete_stream(info.config.name)
        await connection.close()

    run(clear)
    return shared_server


def test_journal_arrives_with_its_identity_numbers_and_bytes(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(5000), rotate=RotationPolicy(max_frames=1234))

    async def work() -> None:
        async with broker(server) as connection:
            sent = await forward(tmp_path / "source", SUBJECT, connection=connection)
            assert (sent.frames, sent.position, sent.gaps, sent.repeated) == (5000, 5000, [], 0)
            # Many frames in a message, and never more than the broker takes.
            assert sent.messages < 30
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert (taken.frames, taken.missing, taken.refused) == (5000, [], 0)
            info = await connection.jetstream().consumer_info("TELEMETRY", "flatstream")
            assert (info.num_pending, info.num_ack_pending) == (0, 0)

    run(work)
    mirror = mirror_in(tmp_path / "mirrors")
    assert numbers_in(mirror) == list(range(5000))
    with JournalReader(tmp_path / "source") as source, JournalReader(mirror) as copy:
        assert copy.id == source.id == mirror.name
        assert b"".join(bytes(batch.buffer) for batch in copy.batches()) == b"".join(
            bytes(batch.buffer) for batch in source.batches()
        )
        assert copy.cursor == source.cursor
    with JournalReader(tmp_path / "source", name="nats") as reader:
        assert reader.position == 5000


def test_frames_that_are_written_while_both_run_arrive(server: NatsServer, tmp_path: Path) -> None:
    async def work() -> None:
        async with broker(server) as connection:
            with JournalWriter(tmp_path / "source", rotate=RotationPolicy(max_frames=7)) as journal:
                forwarder = Forwarder(tmp_path / "source", SUBJECT, connection=connection, linger=0.001)
                receiver = Receiver(SUBJECT, tmp_path / "mirrors", connection=connection)
                async with forwarder, receiver:
                    for number in range(40):
                        journal.write_payload(payload_of(number))
                        journal.flush()
                        await asyncio.sleep(0)
                    await until(lambda: receiver.report.positions.get(journal.id) == 40)
                assert forwarder.report.position == 40

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(40))


def test_forwarder_waits_for_a_journal_that_does_not_exist_yet(server: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()

    async def work() -> None:
        async with broker(server) as connection:
            receiver = Receiver(SUBJECT, tmp_path / "mirrors", connection=connection)
            async with Forwarder(tmp_path / "source", SUBJECT, connection=connection), receiver:
                await asyncio.sleep(0.05)
                await asyncio.to_thread(write, tmp_path / "source", range(3))
                await until(lambda: list(receiver.report.positions.values()) == [3])

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == [0, 1, 2]


def test_journal_that_is_made_anew_gets_another_mirror(server: NatsServer, tmp_path: Path) -> None:
    async def work() -> None:
        async with broker(server) as connection:
            for count in (4, 3):
                write(tmp_path / "source", range(count))
                await forward(tmp_path / "source", SUBJECT, connection=connection)
                (tmp_path / "source").rename(tmp_path / f"source-{count}")
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert sorted(taken.positions.values()) == [3, 4]
            assert taken.missing == []

    run(work)
    assert sorted(len(numbers_in(mirror)) for mirror in (tmp_path / "mirrors").iterdir()) == [3, 4]


def test_many_journals_on_subjects_of_their_own(server: NatsServer, tmp_path: Path) -> None:
    for agent in range(5):
        write(tmp_path / f"source{agent}", range(10 + agent))

    async def work() -> None:
        async with broker(server) as connection:
            await asyncio.gather(
                *(
                    forward(tmp_path / f"source{agent}", f"telemetry.agent{agent}", connection=connection)
                    for agent in range(5)
                )
            )
            taken = await receive("telemetry.*", tmp_path / "mirrors", connection=connection, max_open=2, **IDLE)
            assert sorted(taken.positions.values()) == [10, 11, 12, 13, 14]

    run(work)
    found = sorted(numbers_in(mirror) for mirror in (tmp_path / "mirrors").iterdir())
    assert found == [list(range(10 + agent)) for agent in range(5)]


def test_schema_goes_with_the_frames_and_its_change_too(server: NatsServer, tmp_path: Path) -> None:
    old = flatstream.Schema.from_fbs(text="table T { a:int; } root_type T;")
    new = flatstream.Schema.from_fbs(text="table T { a:int; b:int; } root_type T;")

    async def work() -> None:
        async with broker(server) as connection:
            for number, schema in enumerate((old, old, new)):
                with JournalWriter(tmp_path / "source", describe=schema, metadata={"host": "alpha"}) as journal:
                    assert schema.root is not None
                    flatstream.RecordWriter(journal, schema.root).write(a=number)
                await forward(tmp_path / "source", SUBJECT, connection=connection)
                await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)

    run(work)
    with JournalReader(mirror_in(tmp_path / "mirrors")) as reader:
        assert reader.description is not None
        assert reader.description.metadata["host"] == "alpha"
        assert [record.a for record in reader.records()] == [0, 1, 2]
        assert reader.description.table == new.root


@pytest.mark.parametrize("checksum", ["none", "crc16", "crc32c"])
def test_other_checksums_go_along(server: NatsServer, tmp_path: Path, checksum: str) -> None:
    write(tmp_path / "source", range(20), checksum=checksum)

    async def work() -> None:
        async with broker(server) as connection:
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)

    run(work)
    with JournalReader(mirror_in(tmp_path / "mirrors")) as reader:
        assert reader.checksum == checksum
        assert [bytes(payload) for payload in reader] == [payload_of(number) for number in range(20)]


# Limits of the broker


def test_frames_fill_messages_up_to_the_limit(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(200))

    async def work() -> None:
        async with broker(server) as connection:
            sent = await forward(
                tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=HEADERS_SIZE + 300
            )
            sizes = [
                len((await connection.jetstream().get_msg("TELEMETRY", number)).data or b"")
                for number in range(2, sent.messages + 1)
            ]
            assert max(sizes) <= 300
            assert sum(sizes) == sent.bytes
            # The next frame would not fit: the largest has 12 bytes of header and 59 of payload. (The last message has
            # the rest, and maybe a mark is behind it.)
            assert min(sizes[:-2]) > 300 - 71
            await receive(SUBJECT, tmp_path / "mirrors", connection=connection, batch=3, **IDLE)

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(200))


def test_frame_that_is_too_large_is_told_when_all_before_it_arrived(server: NatsServer, tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "source") as journal:
        journal.write_payloads([payload_of(0), payload_of(1), b"x" * (64 << 10), payload_of(3)])

    async def work() -> None:
        async with broker(server) as connection:
            with pytest.raises(FlatStreamError, match=r"frame 2 has a payload of 65536 bytes, and the broker takes"):
                await forward(tmp_path / "source", SUBJECT, connection=connection)
            with JournalReader(tmp_path / "source", name="nats") as reader:
                assert reader.position == 2
            sent = await forward(tmp_path / "source", SUBJECT, connection=connection, on_too_large="skip")
            assert (sent.frames, sent.too_large, sent.position) == (1, 1, 4)
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert [one[1:] for one in taken.missing] == [(2, 3, "journal")]

    run(work)
    mirror = mirror_in(tmp_path / "mirrors")
    assert numbers_in(mirror) == [0, 1, 3]
    with JournalReader(mirror) as reader:
        assert [bytes(payload) for payload in reader]
        assert [gap[:2] for gap in reader.gaps] == [(2, 3)]


def test_full_stream_holds_the_forwarder_back_and_nothing_is_lost(server: NatsServer, tmp_path: Path) -> None:
    import nats.js.api as api

    write(tmp_path / "source", range(300))

    async def work() -> None:
        limits: dict[str, Any] = {"max_bytes": 6000, "discard": api.DiscardPolicy.NEW}
        async with broker(server, retention=api.RetentionPolicy.WORK_QUEUE, **limits) as connection:
            forwarder = Forwarder(
                tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=HEADERS_SIZE + 1000, window=4
            )
            async with forwarder:
                await until(lambda: forwarder.report.attempts > 0)
                assert 0 < forwarder.report.position < 300
                receiver = Receiver(SUBJECT, tmp_path / "mirrors", connection=connection)
                async with receiver:
                    await until(lambda: list(receiver.report.positions.values()) == [300])
                    assert receiver.report.missing == []

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(300))


def test_cursor_is_where_the_broker_has_acknowledged_and_not_where_reading_is(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nats.js.api as api

    from flatstream.nats import forwarder as module

    monkeypatch.setattr(module, "COMMIT_EVERY", 0.001)
    write(tmp_path / "source", range(300))

    async def work() -> None:
        async with broker(server, max_bytes=6000, discard=api.DiscardPolicy.NEW) as connection:
            forwarder = Forwarder(
                tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=HEADERS_SIZE + 1000, window=2
            )
            async with forwarder:
                await until(lambda: forwarder.report.attempts > 1)
            assert 0 < forwarder.report.position < 300
            with JournalReader(tmp_path / "source", name="nats") as reader:
                assert reader.position == forwarder.report.position
            # So the rest comes when there is room.
            await connection.jetstream().update_stream(
                name="TELEMETRY", subjects=["telemetry.>"], max_bytes=-1, discard=api.DiscardPolicy.NEW
            )
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert (taken.frames, taken.missing) == (300, [])

    run(work)


def test_forwarder_gives_up_when_it_is_told_so(server: NatsServer, tmp_path: Path) -> None:
    import nats.js.api as api
    import nats.js.errors

    write(tmp_path / "source", range(300))

    async def work() -> None:
        async with broker(server, max_bytes=3000, discard=api.DiscardPolicy.NEW) as connection:
            with pytest.raises(nats.js.errors.APIError, match="maximum bytes exceeded"):
                await forward(
                    tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=HEADERS_SIZE + 1000,
                    give_up=0.05,
                )  # fmt: skip

    run(work)


# Gaps


def test_gaps_of_the_journal_are_gaps_of_the_mirror(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(90), rotate=RotationPolicy(max_frames=10))
    for first in (0, 30, 40):
        os.unlink(tmp_path / "source" / f"{first:020d}.fs")

    async def work() -> None:
        async with broker(server) as connection:
            sent = await forward(tmp_path / "source", SUBJECT, connection=connection)
            assert [gap[:2] for gap in sent.gaps] == [(30, 50)]
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert [one[1:] for one in taken.missing] == [(30, 50, "journal")]

    run(work)
    mirror = mirror_in(tmp_path / "mirrors")
    assert numbers_in(mirror) == [*range(10, 30), *range(50, 90)]


def test_damage_in_the_journal_costs_the_damaged_frames_only(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(30), rotate=RotationPolicy(max_frames=10))
    with JournalReader(tmp_path / "source", start=13) as reader:
        reader.read_message()
    segment = tmp_path / "source" / f"{10:020d}.fs"
    data = bytearray(segment.read_bytes())
    data[data.index(b"frame 13 ")] ^= 1
    segment.write_bytes(data)

    async def work() -> None:
        async with broker(server) as connection:
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == [*range(13), *range(14, 30)]


def test_what_the_stream_has_discarded_is_told(server: NatsServer, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_message_bytes": HEADERS_SIZE + 400}

    async def work() -> None:
        async with broker(server, max_msgs=4) as connection:
            write(tmp_path / "source", range(10))
            await forward(tmp_path / "source", SUBJECT, connection=connection, **options)
            await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            before = numbers_in(mirror_in(tmp_path / "mirrors"))
            write(tmp_path / "source", range(10, 200))
            await forward(tmp_path / "source", SUBJECT, connection=connection, **options)
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            (missing,) = taken.missing
            assert missing.cause == "stream"
            assert missing.first == len(before)
            assert numbers_in(mirror_in(tmp_path / "mirrors")) == [*before, *range(missing.next, 200)]

    run(work)


# Repeats, disorder and foreign messages


def test_forwarding_again_adds_nothing_with_and_without_the_broker_noticing(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(500))

    async def work() -> None:
        # The shortest window for duplicates; and messages that are cut otherwise have other ids anyway.
        async with broker(server, duplicate_window=0.1) as connection:
            repeated = []
            for name, size in (("one", 4000), ("two", 4000), ("three", 1500), ("four", 9000)):
                sent = await forward(
                    tmp_path / "source", SUBJECT, connection=connection, name=name, max_message_bytes=size
                )
                assert sent.position == 500
                repeated.append(sent.repeated)
                if name == "two":
                    await asyncio.sleep(0.15)
            assert repeated[0] == 0
            assert repeated[1] > 0
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert (taken.frames, taken.missing) == (500, [])
            assert taken.repeated > 0

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(500))


def test_message_with_the_same_first_frame_and_more_behind_it_is_another_one(
    server: NatsServer, tmp_path: Path
) -> None:
    # As after a crash before the cursor was stored. If the broker took it for the one that it has, frames were lost.
    async def work() -> None:
        async with broker(server) as connection:
            for name, numbers in (("one", range(10)), ("two", range(10, 20))):
                write(tmp_path / "source", numbers)
                sent = await forward(tmp_path / "source", SUBJECT, connection=connection, name=name)
                assert sent.position == numbers.stop
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert (taken.frames, taken.missing) == (20, [])

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(20))


def test_frames_that_the_disk_refuses_are_not_published(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their numbers would be used for others after a power cut.
    write(tmp_path / "source", range(10))

    def refuse(_: JournalReader) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    async def work() -> None:
        async with broker(server) as connection:
            with monkeypatch.context() as patch:
                patch.setattr(JournalReader, "_sync", refuse)
                with pytest.raises(OSError, match="the disk is broken"):
                    await forward(tmp_path / "source", SUBJECT, connection=connection)
            info = await connection.jetstream().stream_info("TELEMETRY")
            assert info.state.messages == 0
            assert (await forward(tmp_path / "source", SUBJECT, connection=connection)).frames == 10

    run(work)


def test_full_disk_of_the_receiver_is_waited_for_and_nothing_is_acknowledged(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flatstream.nats import receiver as module

    write(tmp_path / "source", range(100))
    failures: list[int] = []
    pending: list[int] = []
    real = MirrorWriter.sync

    def sync(mirror: MirrorWriter) -> None:
        if len(failures) < 3:
            failures.append(mirror.position)
            raise OSError(errno.ENOSPC, "no space left")
        real(mirror)

    monkeypatch.setattr(module, "FULL_PAUSE", 0.01)
    monkeypatch.setattr(MirrorWriter, "sync", sync)

    async def work() -> None:
        async with broker(server) as connection:
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert taken.frames == 100
            info = await connection.jetstream().consumer_info("TELEMETRY", "flatstream")
            pending.append(info.num_ack_pending)

    run(work)
    assert (len(failures), pending) == (3, [0])
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(100))


def test_stream_in_any_order_gives_each_frame_once(server: NatsServer, tmp_path: Path) -> None:
    # As when publications fail and are repeated behind later ones: what was published is published again, shuffled.
    write(tmp_path / "source", range(60))

    async def work() -> None:
        async with broker(server, subjects=["telemetry.>", "again"]) as connection:
            context = connection.jetstream()
            sent = await forward(
                tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=HEADERS_SIZE + 300
            )
            order = [*range(1, sent.messages + 1)]
            for number in [*order[6:3:-1], *order[:3], order[3], *order[7:][::-1]]:
                message = await context.get_msg("TELEMETRY", number)
                headers = {key: value for key, value in (message.headers or {}).items() if not key.startswith("Nats")}
                await context.publish("again", message.data or b"", headers=headers | {"Flatstream-Acked": "0"})
            taken = await receive("again", tmp_path / "mirrors", connection=connection, batch=2, **IDLE)
            assert (taken.frames, taken.missing) == (60, [])

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(60))


def test_receiver_that_was_killed_before_acknowledging_does_not_wait_for_the_repetition(
    server: NatsServer, tmp_path: Path
) -> None:
    write(tmp_path / "source", range(100))

    async def work() -> None:
        async with broker(server) as connection:
            await forward(tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=HEADERS_SIZE + 300)
            # The consumer has delivered five messages to somebody who did nothing with them.
            subscription = await connection.jetstream().pull_subscribe(SUBJECT, durable="flatstream")
            assert len(await subscription.fetch(5)) == 5
            await subscription.unsubscribe()
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert (taken.frames, taken.missing) == (100, [])

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(100))


def test_foreign_and_damaged_messages_are_refused_and_do_not_come_again(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(10))

    async def work() -> None:
        async with broker(server) as connection:
            context = connection.jetstream()
            await context.publish(SUBJECT, b"who is there?")
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            message = await context.get_msg("TELEMETRY", 3)
            headers = dict(message.headers or {})
            for changes in ({"Flatstream-Count": "11"}, {"Flatstream-Checksum": "crc32"}, {"Flatstream-Version": "9"}):
                await context.publish(SUBJECT, message.data or b"", headers=headers | changes | {"Nats-Msg-Id": ""})
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            assert (taken.frames, taken.refused) == (10, 4)
            info = await context.consumer_info("TELEMETRY", "flatstream")
            assert info.num_ack_pending == 0

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(10))


def test_consumer_that_is_deleted_is_made_again(server: NatsServer, tmp_path: Path) -> None:
    async def work() -> None:
        async with broker(server) as connection:
            receiver = Receiver(SUBJECT, tmp_path / "mirrors", connection=connection)
            async with receiver:
                for end in (5, 9):
                    await asyncio.to_thread(write, tmp_path / "source", range(end - 4 if end > 5 else 0, end))
                    await forward(tmp_path / "source", SUBJECT, connection=connection)
                    await until(lambda end=end: list(receiver.report.positions.values()) == [end])
                    await connection.jetstream().delete_consumer("TELEMETRY", "flatstream")

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(9))


# Subscriptions


def test_subscription_gives_each_frame_in_order_and_goes_on_at_its_positions(
    server: NatsServer, tmp_path: Path
) -> None:
    write(tmp_path / "source", range(200))

    async def work() -> None:
        stored: list[int] = []
        positions: list[Cursor] = []
        async with broker(server) as connection:
            options: dict[str, Any] = {"connection": connection, "ack_wait": 0.3}
            await forward(tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=HEADERS_SIZE + 300)
            for _ in range(4):
                # A consumer that ends behind the storing of a message, before it is acknowledged.
                async with Subscription("telemetry.*", positions=positions, **options, **IDLE) as messages:
                    count = 0
                    async for received in messages:
                        assert received.subject == SUBJECT
                        assert received.missing == []
                        numbers = range(received.first, received.next)
                        assert [bytes(payload) for payload in received] == [payload_of(one) for one in numbers]
                        stored += numbers
                        positions = [received.cursor]
                        count += 1
                        if count == 7:
                            break
                        await received.acknowledge()
            async with Subscription("telemetry.*", positions=positions, **options, **IDLE) as messages:
                async for received in messages:
                    stored += range(received.first, received.next)
                    await received.acknowledge()
        assert stored == list(range(200))

    run(work)


# Mistakes


def test_mistakes_are_named(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(3))

    async def work() -> None:
        async with broker(server) as connection:
            with pytest.raises(FlatStreamError, match=r"no stream for the subject 'other'"):
                await forward(tmp_path / "source", "other", connection=connection)
            with pytest.raises(FlatStreamError, match=r"no stream named 'OTHER'"):
                await receive(SUBJECT, tmp_path / "mirrors", connection=connection, stream="OTHER")
            with pytest.raises(FileNotFoundError):
                await forward(tmp_path / "nothing", SUBJECT, connection=connection)
            with pytest.raises(ValueError, match="one subject, got one with wildcards"):
                Forwarder(tmp_path / "source", "telemetry.*", connection=connection)
            await connection.jetstream().subscribe(SUBJECT, durable="pushed", deliver_policy=None)
            with pytest.raises(FlatStreamError, match="'pushed' of the stream 'TELEMETRY' is not one that is pulled"):
                await receive(SUBJECT, tmp_path / "mirrors", connection=connection, durable="pushed")
            forwarder = Forwarder(tmp_path / "source", SUBJECT, connection=connection, follow=False)
            await forwarder.run()
            with pytest.raises(RuntimeError, match="has run"):
                await forwarder.run()

    run(work)


def test_journal_without_its_identity_is_refused(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(3))
    (tmp_path / "source" / "journal.json").unlink()

    async def work() -> None:
        async with broker(server) as connection:
            with pytest.raises(FlatStreamError, match="identity of the journal is lost"):
                await forward(tmp_path / "source", SUBJECT, connection=connection)

    run(work)


def test_cancelled_forwarder_and_receiver_end_and_others_go_on(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(100))

    async def work() -> None:
        async with broker(server) as connection:
            for seconds in (0, 0.001, 0.01, 0.05):
                forwarding = asyncio.create_task(
                    Forwarder(tmp_path / "source", SUBJECT, connection=connection, max_message_bytes=2000).run()
                )
                receiving = asyncio.create_task(Receiver(SUBJECT, tmp_path / "mirrors", connection=connection).run())
                await asyncio.sleep(seconds)
                for task in (forwarding, receiving):
                    task.cancel()
                    await asyncio.wait({task})
                    assert task.cancelled()
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)

    run(work)
    assert numbers_in(mirror_in(tmp_path / "mirrors")) == list(range(100))


def test_damaged_mirror_is_refused_until_damage_is_accepted(server: NatsServer, tmp_path: Path) -> None:
    write(tmp_path / "source", range(20))

    async def work() -> None:
        async with broker(server) as connection:
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            mirror = mirror_in(tmp_path / "mirrors")
            (segment,) = mirror.glob("*.fs")
            data = bytearray(segment.read_bytes())
            data[data.index(b"frame 7 ")] ^= 1
            segment.write_bytes(data)
            write(tmp_path / "source", range(20, 30))
            await forward(tmp_path / "source", SUBJECT, connection=connection)
            with pytest.raises(FlatStreamError, match="is damaged, so it is not known which frame the mirror goes on"):
                await receive(SUBJECT, tmp_path / "mirrors", connection=connection, **IDLE)
            taken = await receive(SUBJECT, tmp_path / "mirrors", connection=connection, accepts_damage=True, **IDLE)
            assert list(taken.positions.values()) == [30]

    run(work)
