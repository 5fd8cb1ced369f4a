"""What a file that is no stream seems to be, by its first bytes."""

from __future__ import annotations

from flatstream._core.stream.frame_search import trailing_zeros
from flatstream.checksums import ChecksumType
from flatstream.errors import FlatStreamError, ValidationFailedError
from flatstream.framing import deframer_for
from flatstream.reader import StreamReader
from flatstream.validation import TableRootValidator

__all__ = ["begins_with_table", "checksum_of_first_frame", "looks_like"]

# How many of the first bytes say what a text is.
TEXT = 4096

# A text has at least so many bytes: fewer could be the first ones of a frame's length.
SHORTEST_TEXT = 8

# By the bytes that a file begins with.
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"PAR1", "Parquet"),
    (b"PARE", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow"),
    (b"FEA1", "Arrow"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x89MCAP0\r\n", "MCAP"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"%PDF-", "PDF"),
    (b"SQLite format 3\x00", "SQLite"),
    (b"\x7fELF", "ELF"),
    (b"\xd4\xc3\xb2\xa1", "pcap"),
    (b"\xa1\xb2\xc3\xd4", "pcap"),
    (b"RIFF", "RIFF"),
    (b"\xff\xfe", "text"),
    (b"\xfe\xff", "text"),
)


def looks_like(first_bytes: bytes | bytearray | memoryview) -> str | None:
    """What a file that begins with these bytes seems to be; None if nothing is recognized.

    Parameters
    ----------
    first_bytes : bytes-like
        The first bytes of the file, best 64 KiB or more of them, or all.

    Returns
    -------
    str or None
        A format: "gzip", "zstd", "bzip2", "xz", "lz4", "snappy", "zip", "7z", "tar", "Parquet", "Arrow", "ORC", "Avro",
        "HDF5", "MCAP", "PNG", "JPEG", "GIF", "PDF", "SQLite", "ELF", "pcap" or "RIFF"; or "text", or "zeros". If the
        first frame is intact with a built-in checksum: "a stream with the checksum crc32" (or another name).
    """
    data = memoryview(first_bytes).cast("B")
    if not len(data):
        return None
    if trailing_zeros(data) == len(data):
        return "zeros"
    # The checksum is stronger evidence than a few first bytes, which are a length in a stream.
    checksum = checksum_of_first_frame(data)
    if checksum is not None:
        return f"a stream with the checksum {checksum.value}"
    beginning = bytes(data[:TEXT])
    for magic, name in BEGINNINGS:
        if beginning.startswith(magic):
            return name
    if beginning[257:262] == b"ustar":
        return "tar"
    return "text" if _is_text(beginning) else None


def checksum_of_first_frame(first_bytes: memoryview) -> ChecksumType | None:
    """The built-in checksum with which the frame at the beginning is intact, if there is one."""
    for kind in ChecksumType:
        size = kind.checksum().size
        # With some checksums, a run of zero bytes has the checksum 0, which is no evidence.
        if not any(first_bytes[4 : 4 + size]):
            continue
        try:
            found = StreamReader(first_bytes, deframer_for(kind)).read_message()
        except (FlatStreamError, EOFError):
            continue
        if found is not None:
            return kind
    return None


def _is_text(data: bytes) -> bool:
    """Whether the bytes are printable UTF-8. The last character may be cut."""
    if len(data) < SHORTEST_TEXT:
        return False
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3 or len(data) < TEXT:
            return False
        text = data[: error.start].decode()
    return all(character.isprintable() or character in "\t\n\r\f\x1b" for character in text)


def begins_with_table(first_bytes: bytes | memoryview) -> bool:
    """Whether these bytes are one FlatBuffer without a frame, as ``flatc --binary`` writes it, or begin one."""
    try:
        TableRootValidator().validate(first_bytes)
    except ValidationFailedError:
        return False
    # Numbers and zeros can be tables, too. One that a builder made is aligned, and has fields, which lie inside of it.
    root = int.from_bytes(first_bytes[:4], "little")
    vtable = root - int.from_bytes(first_bytes[root : root + 4], "little", signed=True)
    sizes = [int.from_bytes(first_bytes[at : at + 2], "little") for at in (vtable, vtable + 2)]
    vtable_size, table_size = sizes
    fields = range(vtable + 4, vtable + vtable_size, 2)
    offsets = [int.from_bytes(first_bytes[at : at + 2], "little") for at in fields]
    return (
        root >= 4
        and root % 4 == vtable % 2 == 0
        and any(offsets)
        and all(not offset or 4 <= offset < table_size for offset in offsets)
    )
