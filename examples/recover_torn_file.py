"""After a crash: open a file whose writer died inside a frame, read on behind damage, and salvage what is intact.

Only a torn tail may be cut off. A file that looks torn because a length is damaged still has intact frames behind the
damage; recovery searches for them before it reports a torn tail, and raises an error if it finds one.
"""

# ruff: noqa: PT017 - a script has no pytest.raises

from __future__ import annotations

import os
import tempfile
from typing import Literal

import flatstream
from flatstream import ChecksumType, InvalidFrameError, RecoveryEnd, UnexpectedEofError, recover_file

CHECKSUM = ChecksumType.CRC32
FRAME_SIZE = 4 + 4 + 5  # length, checksum, payload


def write(path: str, first: int, count: int, mode: Literal["w", "a"] = "w") -> None:
    with flatstream.open(path, mode, checksum=CHECKSUM) as writer:
        writer.write_payloads(f"{number:05}".encode() for number in range(first, first + count))


def read(path: str) -> list[int]:
    with flatstream.open(path) as reader:
        return [int(bytes(payload)) for payload in reader]


def torn_tail(path: str) -> None:
    write(path, 0, 100)
    os.truncate(path, 100 * FRAME_SIZE - 4)  # the machine lost power

    # The intact frames are read as usual; then an error says that the stream ends inside a frame.
    with flatstream.open(path) as reader:
        try:
            reader.process_all(len)
        except UnexpectedEofError as error:
            assert (reader.frames_read, error.offset, error.needed, error.got) == (99, 99 * FRAME_SIZE, 13, 9)
            print(f"torn: {error}")
        else:
            raise AssertionError("the torn frame was not detected")

    # Appending is refused, because frames behind a torn frame could not be read.
    try:
        write(path, 99, 1, "a")
    except UnexpectedEofError as error:
        assert error.offset == 99 * FRAME_SIZE
    else:
        raise AssertionError("a frame was appended behind a torn one")

    report = recover_file(path, CHECKSUM)
    assert report == (99, 99 * FRAME_SIZE, RecoveryEnd.TORN_TAIL)

    # With recover=True, the torn tail is saved beside the file and cut off.
    with flatstream.open(path, "a", recover=True) as writer:
        done = writer.recovery
        assert done is not None
        assert (done.action, done.frames, done.bytes_cut) == ("cut", 99, 9)
        print(f"recovered {done.frames} frames and cut the file to {done.offset} bytes")
        writer.write_payloads([b"00099", b"00100"])
    assert read(path) == list(range(101))
    print("appended to it, and read all 101 frames")


def damaged_length(path: str) -> None:
    # One bit of the length of frame 40 flips: according to its length, the frame reaches far beyond the end of the
    # file.
    with open(path, "r+b") as file:
        file.seek(40 * FRAME_SIZE + 2)
        file.write(b"\x01")

    # Without the guard, recovery reports a torn tail, and a cut would lose 60 intact frames.
    report = recover_file(path, CHECKSUM, guard=False)
    assert (report.frames, report.end) == (40, RecoveryEnd.TORN_TAIL)

    try:
        recover_file(path, CHECKSUM)
    except InvalidFrameError as error:
        assert (error.offset, error.frame) == (40 * FRAME_SIZE, 40)
        print(f"not torn: {error}")
        assert error.next_intact_offset == 41 * FRAME_SIZE
    else:
        raise AssertionError("the damaged length was reported as a torn tail")

    # A reader can go on at the next intact frame, and says what is missing.
    with flatstream.open(path, on_error="resync") as reader:
        assert [int(bytes(payload)) for payload in reader] == [number for number in range(101) if number != 40]
        assert reader.lost_ranges == [(40 * FRAME_SIZE, 41 * FRAME_SIZE)]
        print(f"read {reader.frames_read} frames and lost {reader.lost_bytes} bytes")

    # Salvage makes a new file of the frames that are intact.
    salvaged = flatstream.salvage(path, path + ".salvaged", CHECKSUM)
    assert (salvaged.frames, salvaged.lost_bytes) == (100, FRAME_SIZE)
    assert recover_file(path + ".salvaged", CHECKSUM).end is RecoveryEnd.CLEAN_EOF
    print(f"salvaged {salvaged.frames} frames into a new file")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "events.fs")
        torn_tail(path)
        damaged_length(path)


if __name__ == "__main__":
    main()
