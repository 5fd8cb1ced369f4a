"""`verify`: checks every frame of a file, journal or pipe, and every message by its schema."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import ValidationFailedError
from flatstream.framing import Deframer
from flatstream.serializers import REFUSALS, Serializer, refusal
from flatstream.tools._fields import has_identifier
from flatstream.tools._journals import examine_journal
from flatstream.tools._objects import serializer_of
from flatstream.tools._walk import Damage, Totals, check_file, identifier_of, read_to_end, step_of
from flatstream.tools.inputs import Input, Opened, only_input
from flatstream.validation import TypedValidator, Validator

if TYPE_CHECKING:
    from flatstream.schema import Schema, Table
    from flatstream.transforms.ciphers import Cipher
    from flatstream.transforms.encryption import EncryptionReport

__all__ = ["VerifyReport", "verify"]


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify`.

    Attributes
    ----------
    path : str
        The input; "-" is standard input.
    kind : {"file", "journal", "pipe", "remote"}
    state : {"intact", "torn", "damaged"}
        "torn": the only damage is a torn tail, which `recover` may cut off.
    checksum, found_by : str or None
        See `StreamInfo`.
    frames : int
        How many frames are intact.
    bytes : int
        How many bytes were read.
    damage : tuple of Damage
        The damaged places, in their order; at most 10,000.
    damaged_places, lost_bytes : int
        How many there are, and how many bytes they have.
    tables : tuple of str
        The tables that messages were verified to be of; empty if there was no schema.
    serializer : str or None
        The serializer that has loaded each message: of a stream that describes itself as one of objects.
    segments, lost_segments : int or None
        Of a journal: how many there are, and how many are known to be missing.
    missing : int
        Of a journal: how many frame numbers belong to no frame.
    unreadable : str or None
        Why messages were not checked: the stream is encrypted and there is no key, its payloads are compressed in a way
        that cannot be undone, or the library of its serializer is not installed. Then frames are intact if what is
        stored in them is.
    encryption : EncryptionReport or None
        What was found of the parts of an encrypted stream. If something is missing in them, the stream is damaged; a
        part without an end may be one whose writer crashed.
    """

    path: str
    kind: Literal["file", "journal", "pipe", "remote"]
    state: Literal["intact", "torn", "damaged"]
    checksum: str | None
    found_by: str | None
    frames: int
    bytes: int
    damage: tuple[Damage, ...]
    damaged_places: int
    lost_bytes: int
    tables: tuple[str, ...] = ()
    segments: int | None = None
    lost_segments: int | None = None
    missing: int = 0
    serializer: str | None = None
    unreadable: str | None = None
    encryption: EncryptionReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return vars(self) | {
            "damage": [one.to_dict() for one in self.damage],
            "tables": list(self.tables),
            "encryption": None if self.encryption is None else asdict(self.encryption),
        }


def verify(
    source: str | os.PathLike[str] | Input,
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    schema: Schema | str | os.PathLike[str] | None = None,
    table: str | None = None,
    allow_empty: bool | None = None,
    cipher: Cipher | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> VerifyReport:
    """Reads all of an input, and compares every payload with its checksum and with its table. Nothing is changed.

    Parameters
    ----------
    source : path or Input
        A file, a journal or a URL; "-" is standard input.
    checksum : Checksum, ChecksumType or str, optional
        By default it is found.
    schema : Schema or path, optional
        By default the one that the stream describes; without any, payloads are compared with checksums only, or loaded
        by the serializer that it names.
    table : str, optional
        The name or file identifier of the table.
    allow_empty : bool, optional
        Whether empty frames are intact. By default they are in a file that is not damaged, unless nothing but zeros
        follows.
    cipher : Cipher, optional
        For the messages of an encrypted stream. Without it, what is stored is compared with its checksums.
    progress : callable, optional
        ``progress(offset, size)`` gets how far reading is.

    Returns
    -------
    VerifyReport

    Raises
    ------
    NotAStreamError
        The input is no stream, or it is not certain with which checksum.
    UnreadableError
        A cipher is given, and it is another one, or the stream is not encrypted.
    LookupError
        There is no such table.
    OSError
        It cannot be read.

    Examples
    --------
    >>> import flatstream, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with flatstream.open(path, "w", checksum="crc32") as writer:
    ...         writer.write_payloads([b"first", b"second", b"third"])
    ...     with open(path, "r+b") as file:
    ...         size = file.seek(25) and file.write(b"?")
    ...     report = verify(path, checksum="crc32")
    >>> report.state, report.frames, [(one.begin, one.end, one.kind) for one in report.damage]
    ('damaged', 2, [(13, 27, 'checksum')])
    """
    one = only_input(source)
    step = step_of(progress, one.size)
    options: dict[str, Any] = {} if one.kind == "journal" else {"allow_empty": allow_empty}
    if one.kind in ("pipe", "remote"):
        options["on_error"] = "resync"
    with one.open(checksum, schema, table, cipher=cipher, stored="if unreadable", **options) as opened:
        unreadable = opened.unreadable
        try:
            validator = None if unreadable is not None else _validator_of(opened)
        except ImportError as error:
            # Of a serializer.
            validator, unreadable = None, str(error)
        tables = () if validator is None else tuple(known.name for known in _tables_of(opened).values())
        serializer = validator.serializer.name if isinstance(validator, ObjectValidator) else None
        if one.kind == "journal":
            found = examine_journal(one.name, checksum, everything=True, validator=validator, step=step)
            return VerifyReport(
                one.name,
                one.kind,
                found.state,
                opened.checksum,
                opened.found_by,
                found.totals.frames,
                found.totals.end,
                tuple(found.totals.damage),
                found.totals.damaged_places,
                found.totals.lost_bytes,
                tables,
                found.segments,
                found.lost_segments,
                found.missing,
                serializer=serializer,
                unreadable=unreadable,
            )
        if one.kind == "file" and opened.compression is None:
            deframer: Deframer = opened.reader.deframer
            checked = deframer if validator is None else deframer.with_validator(validator)
            totals = check_file(one.name, checked, allow_empty=allow_empty, step=step)
        else:
            totals = Totals()
            read_to_end(opened.reader, totals, step, validator)
        return VerifyReport(
            one.name,
            one.kind,
            totals.state,
            opened.checksum,
            opened.found_by,
            totals.frames,
            totals.end,
            tuple(totals.damage),
            totals.damaged_places,
            totals.lost_bytes,
            tables,
            serializer=serializer,
            unreadable=unreadable,
            encryption=totals.encryption,
        )


# Messages


def _tables_of(opened: Opened) -> Mapping[str, Table]:
    return {"": opened.table} if opened.table is not None else opened.tables


def _validator_of(opened: Opened) -> Validator | None:
    """What verifies messages; None if their schema is not known."""
    tables = _tables_of(opened)
    validators = {
        identifier: TypedValidator.for_type(
            table.schema, table.name, identifier=len(tables) == 1 and has_identifier(table)
        )
        for identifier, table in tables.items()
    }
    if len(validators) > 1:
        return MixedValidator(validators)
    if not validators and (serializer := serializer_of(opened.description)) is not None:
        return ObjectValidator(serializer)
    return next(iter(validators.values()), None)


class ObjectValidator(Validator):
    """Verifies messages that are the objects of a serializer: each can be loaded."""

    def __init__(self, serializer: Serializer) -> None:
        self.serializer = serializer

    def validate(self, payload: memoryview) -> None:
        """Raises ValidationFailedError for a message that cannot be loaded."""
        try:
            self.serializer.loads(payload)
        except REFUSALS as error:
            raise refusal(self.serializer.name, error) from None


class MixedValidator(Validator):
    """Verifies messages of several tables, each by its own, which the file identifier names."""

    def __init__(self, validators: Mapping[str, Validator]) -> None:
        self.validators = dict(validators)

    def validate(self, payload: memoryview) -> None:
        """Raises ValidationFailedError for a message that is not of its table, or of an unknown one."""
        identifier = identifier_of(payload)
        validator = self.validators.get(identifier) or self.validators.get("")
        if validator is None:
            known = ", ".join(self.validators)
            raise ValidationFailedError(
                validator="verify", reason=f"the file identifier is {identifier!r}, and those described are {known}"
            )
        validator.validate(payload)
