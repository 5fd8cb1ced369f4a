"""Recovery: a file whose writer died in the middle of a frame is cut there, and written on.

Only a torn tail may be cut. A file that looks torn because a length was damaged still has good frames behind the
damage; recovery looks for those before it reports a torn tail, and raises an error instead.
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
    with flatstream.open(path, checksum=CHECKSUM) as reader:
        return [int(bytes(payload)) for payload in reader]


def torn_tail(path: str) -> None:
    write(path, 0, 100)
    os.truncate(path, 100 * FRAME_SIZE - 4)  # the machine lost power

    # Reading on the way to the tear is as usual, and then an error says that this is no clean end.
    with flatstream.open(path, checksum=CHECKSUM) as reader:
        try:
            reader.process_all(len)
        except UnexpectedEofError as error:
            assert (reader.frames_read, error.offset, error.needed, error.got) == (99, 99 * FRAME_SIZE, 13, 9)
            print(f"torn: {error}")
        else:
            raise AssertionError("a torn file passed for a whole one")

    # Nothing may be appended to such a file, because it could not be read.
    try:
        write(path, 99, 1, "a")
    except UnexpectedEofError as error:
        assert error.offset == 99 * FRAME_SIZE
    else:
        raise AssertionError("a frame was appended behind a torn one")

    with open(path, "r+b") as file:
        report = recover_file(file, CHECKSUM)
        assert (report.frames, report.last_good_offset, report.end) == (99, 99 * FRAME_SIZE, RecoveryEnd.TORN_TAIL)
        file.truncate()  # the cursor stands at last_good_offset
    print(f"recovered {report.frames} frames and cut the file to {report.last_good_offset} bytes")

    assert recover_file(path, CHECKSUM).end is RecoveryEnd.CLEAN_EOF
    write(path, 99, 2, "a")
    assert read(path) == list(range(101))
    print("appended to it, and read all 101 frames")


def damaged_length(path: str) -> None:
    # One bit of the length of frame 40 flips: the frame now claims to reach far beyond the end of the file.
    with open(path, "r+b") as file:
        file.seek(40 * FRAME_SIZE + 2)
        file.write(b"\x01")

    # Without the guard this is a torn tail, and cutting it would lose 60 intact frames.
    report = recover_file(path, CHECKSUM, guard=False)
    assert (report.frames, report.end) == (40, RecoveryEnd.TORN_TAIL)

    try:
        recover_file(path, CHECKSUM)
    except InvalidFrameError as error:
        assert (error.offset, error.frame) == (40 * FRAME_SIZE, 40)
        print(f"not torn: {error}")
    else:
        raise AssertionError("the damaged length passed for a torn tail")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "events.fs")
        torn_tail(path)
        damaged_length(path)


if __name__ == "__main__":
    main()
