"""``python -m flatstream.journal``: what an operator does to a journal, and sees of it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from flatstream._lock import open_for_writing
from flatstream.checksums import ChecksumType
from flatstream.errors import FlatStreamError
from flatstream.journal._examine import Damage, Examined, Folder, checksum_of, deframer_of, examine, read_folder
from flatstream.journal._heads import find_identity
from flatstream.journal._layout import (
    CURSOR_SUFFIX,
    CURSORS,
    LOCK,
    MANIFEST,
    Manifest,
    Sealed,
    list_cursors,
    list_segments,
    lost_segments,
    read_manifest,
    segment_name,
    write_manifest,
)
from flatstream.journal._progress import Progress
from flatstream.journal._recovery import SegmentReport, recover_segments
from flatstream.journal._salvage import Salvaged, salvage_journal

__all__ = ["main"]

INTACT = 0
DAMAGED = 1
REPAIRED = 3
ERROR = 4
INTERRUPTED = 130
CLOSED_PIPE = 141

Outcome = Literal["clean", "torn", "lost", "error"]

EPILOG = """\
exit status:
  0    intact
  1    damage found or data lost: frames are damaged or missing; verify found a torn tail
  2    the command line is wrong
  3    repaired with nothing lost: recover cut a torn tail off; salvage copied all frames before it
  4    error: something cannot be read or written, or the journal is in use
  130  interrupted (Ctrl-C)
  141  the reader of the output went away, and the rest was not looked at (ls, verify)
ls shows, and does not judge: its status is 0, or 4 if a file cannot be read.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flatstream.journal",
        description="Looks at a journal, which is a folder of segments, and repairs it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in [
        ("ls", "list the segments and the registered readers; segments that are not sealed are read"),
        ("verify", "read every segment, and say what is torn, damaged or missing; change nothing"),
        ("recover", "do what opening a writer does: cut off torn tails, of which a copy is kept"),
        ("salvage", "copy what is intact in damaged and torn segments to a new journal"),
    ]:
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("directory", metavar="DIR", help="the journal's folder")
        if name == "salvage":
            command.add_argument("out", metavar="OUT", help="the new folder, which must not exist")
            command.add_argument("--all", action="store_true", help="copy intact segments too")
        command.add_argument(
            "--checksum",
            choices=[kind.value for kind in ChecksumType],
            help="the checksum of the journal (default: as journal.json says, or as the segments show)",
        )
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.add_argument(
            "-q", "--quiet", action="store_true", help="print no progress, and of segments only those with a problem"
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.
    """
    options = _parser().parse_args(arguments)
    output = _Output(options)
    try:
        status = output.finish(_COMMANDS[options.command](options, output))
    except BrokenPipeError:
        output.give_up()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except (OSError, FlatStreamError) as error:
        message = _message(error)
        _complain(f"error: {message}")
        with contextlib.suppress(OSError):
            output.result["error"] = message
            output.finish("error")
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            # The interpreter would try again at its end, and change the exit status.
            output.give_up()
        return ERROR
    return status


class _Output:
    """What is printed: lines, or one JSON object at the end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.is_json: bool = options.json
        self.is_quiet: bool = options.quiet
        # What was begun is done to its end, whoever reads what is printed.
        self.is_patient = options.command in ("recover", "salvage")
        self.torn_status = REPAIRED if self.is_patient else DAMAGED
        self.is_closed = False
        self.result: dict[str, Any] = {"command": options.command, "directory": options.directory}
        self.progress = Progress(sys.stderr, is_shown=not options.quiet)

    def line(self, text: str = "", *, is_problem: bool = True) -> None:
        """Prints a line. With --quiet, only one that tells a problem, or a result."""
        if not self.is_json and (is_problem or not self.is_quiet):
            self.progress.clear()
            self._print(text)

    def finish(self, outcome: Outcome) -> int:
        """Prints the JSON object; returns the exit status."""
        status = {"clean": INTACT, "torn": self.torn_status, "lost": DAMAGED, "error": ERROR}[outcome]
        self.result["status"] = status
        self.result["outcome"] = outcome
        if self.is_json:
            self._print(json.dumps(self.result, indent=1))
        return status

    def _print(self, text: str) -> None:
        if self.is_closed:
            return
        try:
            print(text, flush=True)
        except BrokenPipeError:
            if not self.is_patient:
                raise
            self.give_up()

    def give_up(self) -> None:
        """Prints nothing more; nor does the interpreter when it ends."""
        self.is_closed = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"python -m flatstream.journal: {text}", file=sys.stderr, flush=True)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        path = error.filename
        return f"{path}: {error.strerror}" if path is not None else error.strerror
    return str(error)


# ls


def _ls(options: argparse.Namespace, output: _Output) -> Outcome:
    folder = read_folder(options.directory)
    checksum = _checksum_if_any(folder, options)
    found: list[Examined] = []
    with output.progress:
        if checksum is not None:
            found = list(_examine(folder, checksum, output, everything=False))
        readers = _readers(folder, found)
        output.result |= _journal_json(folder, checksum, found)
        kind = "not known" if checksum is None else checksum.value
        text = f"journal {output.result['id'] or 'without journal.json'}, checksum {kind}"
        frames, size = output.result["frames"], output.result["bytes"]
        output.line(
            f"{text}: {_count(len(found), 'segment')}, {_count(frames, 'frame')}, {size} bytes", is_problem=False
        )
        output.line(f"writer: {folder.writer or 'none'}", is_problem=False)
        output.result["readers"] = [reader._asdict() for reader in readers]
        output.line(f"{'first':>20} {'frames':>12} {'bytes':>15}  {'began':20}  {'ended':20}  state", is_problem=False)
        for one in found:
            times = f"{_time(one.began):20}  {_time(one.ended):20}"
            size = f"{one.segment.first:>20} {one.frames:>12} {one.size:>15}"
            output.line(f"{size}  {times}  {_state(one)}", is_problem=one.state in ("torn", "damaged", "unreadable"))
            for path, bytes_cut in one.tails:
                output.line(
                    f"{'':20} a tail of {bytes_cut} bytes was cut off: {os.path.basename(path)}", is_problem=False
                )
        _tell_lost(folder.lost, output)
        for reader in readers:
            output.line(f"reader {reader.name}: {reader.text}", is_problem=reader.lag is None)
    return "error" if any(one.state == "unreadable" for one in found) else "clean"


def _checksum_if_any(folder: Folder, options: argparse.Namespace) -> ChecksumType | None:
    """The checksum; None if there is nothing that was written with it."""
    if not any(os.path.exists(segment.path) and os.stat(segment.path).st_size for segment in folder.segments):
        return _checksum_if_known(folder, options)
    return checksum_of(folder, options.checksum)


def _checksum_if_known(folder: Folder, options: argparse.Namespace) -> ChecksumType | None:
    if options.checksum is None and folder.manifest is None:
        # Segments without a byte: any will do.
        return ChecksumType.XXHASH64 if folder.segments else None
    return checksum_of(folder, options.checksum)


class _Reader(NamedTuple):
    name: str
    number: int | None
    lag: int | None
    text: str


def _readers(folder: Folder, found: list[Examined]) -> list[_Reader]:
    """The registered readers, and how far they are behind the last frame."""
    end = _end_of(folder, found)
    cursors = list_cursors(folder.directory)
    names = set(cursors)
    with contextlib.suppress(FileNotFoundError):
        listed = os.listdir(os.path.join(folder.directory, CURSORS))
        names.update(name.removesuffix(CURSOR_SUFFIX) for name in listed if name.endswith(CURSOR_SUFFIX))
    readers = []
    for name in sorted(names):
        cursor = cursors.get(name)
        if cursor is None:
            readers.append(_Reader(name, None, None, "its file holds no cursor"))
        elif folder.manifest is not None and cursor.journal != folder.manifest.id:
            readers.append(_Reader(name, cursor.number, None, f"at frame {cursor.number} of another journal"))
        elif cursor.number > end:
            text = f"at frame {cursor.number}, which is beyond the end of the journal, {end}"
            readers.append(_Reader(name, cursor.number, None, text))
        else:
            lag = end - cursor.number
            readers.append(_Reader(name, cursor.number, lag, f"at frame {cursor.number}, {lag} behind"))
    return readers


def _journal_json(folder: Folder, checksum: ChecksumType | None, found: list[Examined]) -> dict[str, Any]:
    """The journal as a whole, and its segments."""
    return {
        "id": None if folder.manifest is None else folder.manifest.id,
        "checksum": None if checksum is None else checksum.value,
        "writer": folder.writer,
        "frames": sum(one.frames for one in found),
        "bytes": sum(one.size for one in found),
        "next": _end_of(folder, found),
        "segments": [_segment_json(one) for one in found],
        "lost_segments": _lost_json(folder.lost),
    }


def _end_of(folder: Folder, found: Sequence[Examined]) -> int:
    """The number behind the last frame, lost ones included."""
    return max([0, *(one.next for one in found[-1:]), *(one.next for one in folder.lost.values())])


def _lost_json(lost: dict[str, Sealed]) -> list[dict[str, Any]]:
    return [
        {"name": name, "first": int(name.split(".")[0]), "next": one.next, "frames": one.frames, "bytes": one.bytes}
        for name, one in lost.items()
    ]


def _tell_lost(lost: dict[str, Sealed], output: _Output) -> None:
    for one in _lost_json(lost):
        numbers = _numbers(one["first"], one["next"])
        output.line(
            f"{one['name']}: lost: it was sealed with {one['bytes']} bytes, and there is no such file: {numbers}"
        )


def _segment_json(one: Examined) -> dict[str, Any]:
    return {
        "name": os.path.basename(one.segment.path),
        "first": one.segment.first,
        "next": one.next,
        "frames": one.frames,
        "bytes": one.size,
        "stored_bytes": one.size if one.stored is None else one.stored,
        "state": one.state,
        "began": one.began,
        "ended": one.ended,
        "reason": one.reason,
        "gap": one.gap,
        "torn": None if one.content is None else one.content.torn,
        "damage": [damage._asdict() for damage in one.damage],
        "tails": [{"name": os.path.basename(path), "bytes": size} for path, size in one.tails],
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"


def _state(one: Examined) -> str:
    gap = f"; {_count(one.gap, 'frame number')} behind it in no segment" if one.gap else ""
    stored = "" if one.stored is None else f"; compressed to {_count(one.stored, 'byte')}"
    return _state_itself(one) + gap + stored


def _state_itself(one: Examined) -> str:
    if one.state == "torn" and one.content is not None and one.content.torn is not None:
        torn = one.content.torn
        return f"torn: {one.content.size - torn} bytes from offset {torn} on may be cut off"
    if one.reason is not None:
        return f"{one.state}: {one.reason}"
    return one.state


# verify


def _verify(options: argparse.Namespace, output: _Output) -> Outcome:
    folder = read_folder(options.directory)
    checksum = _checksum_if_any(folder, options)
    found: list[Examined] = []
    with output.progress:
        if checksum is not None:
            for one in _examine(folder, checksum, output, everything=True):
                found.append(one)
                text = f"{_count(one.frames, 'frame')}, {one.size} bytes"
                output.line(
                    f"{os.path.basename(one.segment.path)}: {_state(one)}; {text}",
                    is_problem=one.state in ("torn", "damaged", "unreadable"),
                )
                for damage in one.damage:
                    output.line(f"  {_damage(damage)}")
        _tell_lost(folder.lost, output)
        if folder.manifest is None:
            output.line(f"{MANIFEST} is missing or damaged: the next writer reads all segments, and makes it again")
    damages = [damage for one in found for damage in one.damage]
    gone = folder.lost.values()
    lost = sum(damage.end - damage.begin for damage in damages) + sum(one.bytes for one in gone)
    missing = sum(damage.next - damage.first for damage in damages) + sum(one.frames for one in gone)
    output.result |= _journal_json(folder, checksum, found) | {"lost_bytes": lost, "missing_numbers": missing}
    output.line(
        f"{_count(len(found), 'segment')}, {_count(output.result['frames'], 'intact frame')}; "
        f"{_count(sum(one.state == 'torn' for one in found), 'torn tail')}; {_count(lost, 'byte')} lost, "
        f"{_count(missing, 'frame number')} missing"
    )
    return _outcome_of(found, folder.lost)


def _examine(folder: Folder, checksum: ChecksumType, output: _Output, *, everything: bool) -> Any:
    count = len(folder.segments)
    numbers = {segment.name: at + 1 for at, segment in enumerate(folder.segments)}
    return examine(
        folder,
        deframer_of(checksum),
        everything=everything,
        watch=lambda name: output.progress.watch(f"{name} ({numbers[name]} of {count})"),
    )


def _outcome_of(found: Sequence[Examined], lost: dict[str, Sealed]) -> Outcome:
    states = {one.state for one in found}
    if "unreadable" in states:
        return "error"
    if "damaged" in states or lost:
        return "lost"
    return "torn" if "torn" in states else "clean"


def _damage(damage: Damage) -> str:
    numbers = _numbers(damage.first, damage.next)
    if damage.begin == damage.end:
        return f"at offset {damage.begin}: frames are missing, {numbers}"
    return f"bytes {damage.begin} to {damage.end} ({damage.end - damage.begin}): {numbers}"


def _numbers(first: int, behind: int) -> str:
    if first == behind:
        return "no frame number"
    return f"frame number {first}" if behind - first == 1 else f"frame numbers {first} to {behind - 1}"


# recover


def _recover(options: argparse.Namespace, output: _Output) -> Outcome:
    folder = read_folder(options.directory)
    checksum = _checksum_if_any(folder, options)
    with _locked(options.directory), output.progress:
        # It may have changed before the lock was taken.
        manifest = read_manifest(options.directory)
        known = {} if manifest is None else dict(manifest.sealed)
        if checksum is None:
            checksum = ChecksumType.XXHASH64
        if manifest is None:
            manifest = Manifest(find_identity(options.directory, deframer_of(checksum)), checksum.value)
        progress = output.progress.report(options.directory)
        progress(0, sum(os.stat(segment.path).st_size for segment in list_segments(options.directory)))
        reports = recover_segments(options.directory, deframer_of(checksum), manifest, progress)
        write_manifest(options.directory, manifest)
        lost = lost_segments(manifest, list_segments(options.directory))
    outcome: Outcome = "lost" if lost else "clean"
    for report in reports:
        name = segment_name(report.path)
        before = known.get(name)
        is_damaged = report.action == "damaged" or (report.action == "sealed" and before is not None and before.damaged)
        missing = 0 if before is None else max(0, before.frames - report.frames)
        if is_damaged or missing:
            outcome = "lost"
        elif report.action == "cut" and outcome == "clean":
            outcome = "torn"
        _tell_recovery(name, report, is_damaged, missing, output)
    _tell_lost(lost, output)
    cut = sum(report.action == "cut" for report in reports)
    output.result["lost_segments"] = _lost_json(lost)
    output.result["segments"] = [_report_json(report) for report in reports]
    output.result["id"] = manifest.id
    lost_bytes = sum(report.lost_bytes for report in reports) + sum(one.bytes for one in lost.values())
    frames = sum(report.frames for report in reports)
    not_read = sum(report.frames for report in reports if report.action == "sealed")
    known_frames = _count(frames, "intact frame")
    if not_read:
        known_frames = f"{_count(frames, 'frame')}, {not_read} of them in sealed segments, which were not read"
    output.line(
        f"{_count(len(reports), 'segment')}, {known_frames}; {_count(cut, 'torn tail')} cut off; "
        f"{_count(lost_bytes, 'byte')} lost"
    )
    return outcome


def _locked(directory: str) -> Any:
    path = os.path.join(directory, LOCK)
    try:
        return open_for_writing(path, "ab", regular=True)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise OSError(errno.EBUSY, f"{error.strerror}; nothing was changed", directory) from None
        raise


def _tell_recovery(name: str, report: SegmentReport, is_damaged: bool, missing: int, output: _Output) -> None:
    text = f"{_count(report.frames, 'frame')}, {report.bytes} bytes"
    if report.action == "cut":
        copy = "they were zeros" if report.saved_as is None else f"copy in {os.path.basename(report.saved_as)}"
        output.line(f"{name}: {report.bytes_cut} bytes of a torn tail were cut off ({copy}); {text}")
    elif report.action == "damaged":
        output.line(
            f"{name}: damaged, and not changed: {report.error}; {_count(report.lost_bytes, 'byte')} lost; {text}"
        )
    elif is_damaged:
        output.line(f"{name}: damaged, as was known; {text}")
    elif missing:
        output.line(f"{name}: {missing} frames are missing that it had when it was sealed; {text}")
    else:
        state = "sealed, and not read" if report.action == "sealed" else "intact"
        output.line(f"{name}: {state}; {text}", is_problem=False)


def _report_json(report: SegmentReport) -> dict[str, Any]:
    return {
        **report._asdict(),
        "path": os.path.basename(report.path),
        "saved_as": None if report.saved_as is None else os.path.basename(report.saved_as),
        "error": None if report.error is None else str(report.error),
    }


# salvage


def _salvage(options: argparse.Namespace, output: _Output) -> Outcome:
    folder = read_folder(options.directory)
    checksum = _checksum_if_any(folder, options)
    if checksum is None:
        raise FlatStreamError(f"{options.directory} has no segments")
    with output.progress:
        done = salvage_journal(
            folder,
            options.out,
            checksum,
            everything=options.all,
            watch=output.progress.watch,
            progress=lambda name: output.progress.report(f"{name}: copying"),
        )
    states = [salvaged.examined for salvaged in done]
    for salvaged in done:
        _tell_salvage(salvaged, output)
    frames = sum(one.frames for salvaged in done for _, one in salvaged.files)
    lost = sum(damage.end - damage.begin for salvaged in done for damage in salvaged.damage)
    lost += sum(one.bytes for one in folder.lost.values())
    _tell_lost(folder.lost, output)
    output.result |= {
        "out": options.out if done else None,
        "frames": frames,
        "lost_bytes": lost,
        "segments": [_salvaged_json(salvaged) for salvaged in done],
        "lost_segments": _lost_json(folder.lost),
    }
    if done:
        output.line(
            f"{_count(frames, 'frame')} of {_count(len(done), 'segment')} copied to {options.out}; {lost} bytes lost"
        )
    else:
        output.line("no segment is damaged or torn: nothing was copied")
    return _outcome_of(states, folder.lost)


def _tell_salvage(salvaged: Salvaged, output: _Output) -> None:
    name = os.path.basename(salvaged.examined.segment.path)
    frames = sum(one.frames for _, one in salvaged.files)
    copied = f"{_count(frames, 'frame')} copied to {_count(len(salvaged.files), 'segment')}"
    output.line(
        f"{name}: {salvaged.examined.state}; {copied}",
        is_problem=bool(salvaged.damage),
    )
    for damage in salvaged.damage:
        output.line(f"  {_damage(damage)}")
    if salvaged.doubtful is not None:
        output.line(f"  {_count(salvaged.doubtful_frames, 'doubtful frame')} in {salvaged.doubtful}")


def _salvaged_json(salvaged: Salvaged) -> dict[str, Any]:
    return {
        "name": os.path.basename(salvaged.examined.segment.path),
        "state": salvaged.examined.state,
        "files": [{"name": name, "frames": one.frames, "bytes": one.bytes} for name, one in salvaged.files],
        "lost": [damage._asdict() for damage in salvaged.damage],
        "doubtful": salvaged.doubtful,
        "doubtful_frames": salvaged.doubtful_frames,
    }


_COMMANDS = {"ls": _ls, "verify": _verify, "recover": _recover, "salvage": _salvage}
