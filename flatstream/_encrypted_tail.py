"""The end of an encrypted stream, to which `flatstream.open` appends another part."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from flatstream._lock import open_for_reading
from flatstream.errors import DecryptionError
from flatstream.framing import Deframer, Framer, TransformFramer
from flatstream.reader import StreamReader

if TYPE_CHECKING:
    from flatstream.transforms.encryption import EncryptedFramer

__all__ = ["EncryptedEnd", "encryption_of", "find_end"]


class EncryptedEnd(NamedTuple):
    """The end of an encrypted stream.

    Attributes
    ----------
    tail : bytes or None
        What `Framer.start` takes for the part that is appended; None if the stream has no frame of its own yet.
    error : DecryptionError or None
        The last frame is not authentic, although the head of its part is; or that head is not, and the one before is.
    """

    tail: bytes | None = None
    error: DecryptionError | None = None


def encryption_of(framer: Framer) -> EncryptedFramer | None:
    """The encryption in a chain of framers; None if there is none."""
    link: Any = framer
    while link is not None:
        # Whoever has one has imported its module.
        if isinstance(link, TransformFramer):
            from flatstream.transforms.encryption import EncryptedFramer

            if isinstance(link, EncryptedFramer):
                return link
        link = getattr(link, "inner", None)
    return None


def find_end(file: io.FileIO, encryption: EncryptedFramer, stored: Deframer) -> EncryptedEnd:
    """Finds the last whole frame of a file, and checks with the key that it and the head of its part are authentic.

    Frames before it are not decrypted: what is appended is bound to the last one, and that to those before. Frames from
    damage on are left out.

    Parameters
    ----------
    file : io.FileIO
        Opened for appending.
    encryption : EncryptedFramer
        It, or another with a cipher that has the keys, wrote the file.
    stored : Deframer
        Finds the frames, and leaves them encrypted.

    Raises
    ------
    DecryptionError
        The file is not an encrypted stream, or not one of this cipher, or not of this description.
    LookupError, TypeError, ValueError
        See `Cipher`.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return EncryptedEnd()
    from flatstream.transforms._parts import refuse
    from flatstream.transforms.encryption import EncryptedDeframer

    head = before = last = None
    with open_for_reading(file) as source, StreamReader(source, stored, on_error="stop") as reader:
        description = reader.description
        for batch in reader.batches():
            for place, begin in enumerate(batch.offsets):
                if batch.lengths[place] and batch.buffer[begin] == 1:
                    before, head = head, bytes(batch[place])
            last = bytes(batch[-1])
        if last is None:
            return EncryptedEnd()

    def begun(frame: bytes) -> EncryptedDeframer:
        """The state behind a head; raises if that is not one of this cipher and this description."""
        session = EncryptedDeframer(stored, encryption.cipher).start()
        session.tolerate(True)
        if description is not None:
            session.bind_description(description.to_bytes())
        session.restore(memoryview(frame))
        if session.encryption_report.other_descriptions:
            refuse()
        return session

    try:
        # Without a head, the last frame is refused.
        session = begun(last if head is None else head)
    except DecryptionError as error:
        if before is None:
            raise
        # If the part before is one of this cipher, the head is damaged: a power cut left it half-written, for example.
        try:
            begun(before)
        except (DecryptionError, LookupError):
            raise error from None
        return EncryptedEnd(error=error.with_traceback(None))
    try:
        if last is not head and last != head:
            session.restore(memoryview(last))
    except DecryptionError as error:
        return EncryptedEnd(error=error.with_traceback(None))
    return EncryptedEnd(session.tail)
