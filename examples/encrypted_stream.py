"""An encrypted stream: a key that changes, a crash, damage, and somebody who takes messages out.

The messages are compressed by nobody here; `framer.encrypted(cipher).compressed(compressor)` would do so first.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import flatstream
from flatstream import Aes256Gcm, ChecksumFramer, Crc32c, DecryptionError

# In an application, a service or a file that only the application can read has the keys.
KEYS = {"2025": secrets.token_bytes(32), "2026": secrets.token_bytes(32)}


def key_of(key_id: str) -> bytes:
    return KEYS[key_id]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.fs")

        # The description says how the stream is encrypted, so a reader needs the cipher and nothing else.
        old = Aes256Gcm(key_of, key_id="2025", context=b"events of host a")
        framer = ChecksumFramer(Crc32c()).encrypted(old)
        with flatstream.open(path, "w", framer=framer, describe=True) as writer:
            writer.write_payloads([b"first", b"second"])
        assert b"first" not in path.read_bytes()

        # Appending begins a part with a key of its own, here from another key of ours.
        new = Aes256Gcm(key_of, key_id="2026", context=b"events of host a")
        with flatstream.open(path, "a", cipher=new) as writer:
            writer.write_payloads([b"third", b"fourth", b"fifth"])

        with flatstream.open(path, cipher=old) as reader:
            assert [bytes(payload) for payload in reader] == [b"first", b"second", b"third", b"fourth", b"fifth"]
            report = reader.encryption
            assert report is not None
            assert report.is_complete
            print(f"read {reader.frames_read} messages of {report.parts} parts")

        # A message is taken out: every frame that is left is as it was written, and its checksum is right.
        with flatstream.open(path, cipher=old) as reader:
            begins = [offset for batch in reader.batches() for offset in batch.frame_offsets]
        whole = path.read_bytes()
        path.write_bytes(whole[: begins[3]] + whole[begins[4] :])
        with flatstream.open(path, cipher=old) as reader:
            for expected in (b"first", b"second", b"third"):
                assert bytes(reader.read_message() or b"") == expected
            try:
                reader.read_message()
            except DecryptionError as error:
                print(f"refused: {error}")
            else:
                raise AssertionError("the gap was not noticed")
        with flatstream.open(path, cipher=old, on_error="skip") as reader:
            assert [bytes(payload) for payload in reader] == [b"first", b"second", b"third", b"fifth"]
            report = reader.encryption
            assert report is not None
            assert report.missing_frames == 1
            print(f"read what is left: {report.missing_frames} message is missing")

        # The end is cut off, as a crash or somebody may do. The part has no final frame then.
        path.write_bytes(whole[: begins[4]])
        with flatstream.open(path, cipher=old) as reader:
            assert [bytes(payload) for payload in reader] == [b"first", b"second", b"third", b"fourth"]
            report = reader.encryption
            assert report is not None
            assert report.unfinished_parts == (1,)
            print("the second part has no end")


if __name__ == "__main__":
    main()
