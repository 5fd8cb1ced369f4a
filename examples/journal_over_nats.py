"""Takes a journal to another folder over a real NATS broker, which this script starts and kills on the way.

Needs nats-py (pip install 'flatstream[nats]') and the program nats-server (apt install nats-server), and says so if
one of them is missing.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from flatstream.journal import JournalReader, JournalWriter

EVENTS = 20_000


class Broker:
    """A nats-server of our own on a free port."""

    def __init__(self, program: str, folder: Path) -> None:
        self.folder = folder
        self.program = program
        self.port = -1
        self.start()

    def start(self) -> None:
        config = {
            "listen": f"127.0.0.1:{self.port}",
            "ports_file_dir": str(self.folder),
            "jetstream": {"store_dir": str(self.folder / "store")},
        }
        (self.folder / "server.conf").write_text(json.dumps(config))
        command = [self.program, "-c", str(self.folder / "server.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        ports = self.folder / f"{Path(self.program).name}_{self.process.pid}.ports"
        while self.port < 0:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.program} has ended with status {self.process.returncode}")
            try:
                self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
            except (FileNotFoundError, ValueError):
                time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


async def carry(broker: Broker, source: Path, received: Path) -> None:
    import nats

    from flatstream.nats import Forwarder, Receiver

    async def ignore(_: Exception) -> None:
        """The connection is lost when the broker is killed."""

    connection = await nats.connect(
        f"nats://127.0.0.1:{broker.port}", max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=ignore
    )
    await connection.jetstream().add_stream(name="TELEMETRY", subjects=["telemetry.*"])
    with JournalWriter(source) as journal:
        forwarder = Forwarder(source, "telemetry.alpha", connection=connection, ack_timeout=1)
        receiver = Receiver("telemetry.*", received, connection=connection)
        async with forwarder, receiver:
            for number in range(EVENTS):
                journal.write_payload(b"event %d" % number)
                if number % 500 == 0:
                    journal.flush()
                    await asyncio.sleep(0)
                if number == EVENTS // 2:
                    while not forwarder.report.frames:
                        await asyncio.sleep(0.01)
                    broker.kill()
                    print(f"killed the broker, which had acknowledged {forwarder.report.position:,} events")
                    broker.start()
            journal.flush()
            while receiver.report.positions.get(journal.id) != EVENTS:
                await asyncio.sleep(0.01)
        print(f"forwarded {forwarder.report.frames:,} events in {forwarder.report.messages} messages")
        print(f"received {receiver.report.frames:,}, missing: {receiver.report.missing or 'none'}")
    await connection.close()


def main() -> None:
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        print("skipped: there is no nats-server on the PATH (apt install nats-server)")
        return
    try:
        import nats  # noqa: F401
    except ImportError:
        print("skipped: nats-py is not installed (pip install 'flatstream[nats]')")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = Broker(program, folder / "broker")
        try:
            asyncio.run(carry(broker, folder / "events", folder / "received"))
        finally:
            broker.kill()
        (mirror,) = (folder / "received").iterdir()
        with JournalReader(folder / "events") as source, JournalReader(mirror) as copy:
            assert list(map(bytes, copy)) == list(map(bytes, source)) == [b"event %d" % n for n in range(EVENTS)]
            assert copy.cursor == source.cursor
            assert copy.gaps == []
            print(f"the mirror of {copy.id[:8]}... has all {copy.position:,} events, each once, in order")


if __name__ == "__main__":
    main()
