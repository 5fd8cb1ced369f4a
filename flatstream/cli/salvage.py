"""``flatstream salvage``: copies what is intact in damaged inputs."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import click

from flatstream._salvage import SalvageReport, salvage
from flatstream.cli._app import exit_statuses
from flatstream.cli._inputs import Input, allow_empty_option, checksum_option, expand, json_option
from flatstream.cli._output import Progress, count_text, print_json, print_line, size_text
from flatstream.cli._status import DAMAGED, INTACT, for_each
from flatstream.tools.inputs import NotAStreamError, decompression

if TYPE_CHECKING:
    from flatstream.journal._examine import Examined

__all__ = ["command"]


@click.command(epilog=exit_statuses())
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.argument("out", metavar="OUT", type=click.Path())
@click.option("--all", "everything", is_flag=True, help="Of a journal: copy the intact segments too.")
@allow_empty_option
@json_option
@checksum_option
def command(
    paths: tuple[str, ...],
    out: str,
    everything: bool,
    allow_empty: bool | None,
    as_json: bool,
    checksum: str | None,
) -> int:
    """Copy what is intact in damaged files and journals.

    OUT is the new file, or for a journal the new folder, and must not exist. Of several inputs, or if OUT is a folder
    that exists, each copy goes into the folder OUT under its own name. Frames that may be intact, and may not, go to a
    file beside the copy whose name ends in .doubtful. The inputs are not changed. Of a journal, only the segments that
    are damaged or torn are copied, unless --all is given. Compressed files must be decompressed before.
    """
    inputs = expand(paths)
    if out == "-":
        raise click.UsageError("salvage writes to new files, and not to standard output (./- is a file)")
    is_folder = len(inputs) > 1 or os.path.isdir(out)
    names = [os.path.basename(os.path.normpath(one.name)) for one in inputs]
    if same := sorted({name for name in names if names.count(name) > 1}):
        raise click.UsageError(f"more than one input is called {same[0]!r}: their copies would have one name")
    for one in inputs:
        if one.kind not in ("file", "journal"):
            raise click.UsageError(f"{one.name}: only files and journals are salvaged: write it to a file first")
    if is_folder:
        os.makedirs(out, exist_ok=True)

    def copy(one: Input) -> int:
        target = os.path.join(out, os.path.basename(os.path.normpath(one.name))) if is_folder else out
        if one.kind == "journal":
            return copy_journal(one, target, checksum, everything, as_json)
        # Frames are copied as they are stored, and need no key and no packages.
        with one.open(checksum, stored=True) as opened:
            kind = opened.checksum if checksum is None else checksum
            if opened.compression is not None:
                hint = decompression(opened.compression, one.name)
                raise io.UnsupportedOperation(f"compressed files are not salvaged: {hint}")
            # It is copied as a frame, and is no message.
            heads = int(opened.description is not None)
        with Progress(one.name, one.size) as progress:
            report = salvage(one.name, target, kind, allow_empty=allow_empty, progress=progress)
        if not report.frames and report.looks_like is not None:
            os.unlink(target)
            raise NotAStreamError(f"no frame is intact (it looks like {report.looks_like}): nothing was copied")
        report = report._replace(frames=max(0, report.frames - heads))
        if as_json:
            print_json({"path": one.name, "out": target, **report._asdict()})
        else:
            tell(one.name, target, report)
        return DAMAGED if report.lost_bytes else INTACT

    return for_each(inputs, copy, as_json=as_json)


def tell(path: str, out: str, report: SalvageReport) -> None:
    """Prints what was copied of a file, and what was not."""
    copied = f"{count_text(report.frames, 'intact frame')}, {size_text(report.size)}, copied to {out}"
    print_line(f"{path}: {copied}; {count_text(report.lost_bytes, 'byte')} lost")
    for begin, end in report.lost_ranges:
        print_line(f"  {count_text(end - begin, 'byte')} from offset {begin:,} on")
    if report.doubtful is not None:
        print_line(f"  {count_text(len(report.doubtful_ranges), 'doubtful frame')} in {report.doubtful}")


def copy_journal(one: Input, out: str, checksum: str | None, everything: bool, as_json: bool) -> int:
    """Copies what is intact in the damaged and torn segments of a journal."""
    from flatstream.journal._examine import checksum_of, read_folder
    from flatstream.journal._salvage import salvage_journal

    folder = read_folder(one.name)
    others: list[Examined] = []
    done = salvage_journal(folder, out, checksum_of(folder, checksum), everything=everything, left_out=others.append)
    frames = sum(sealed.frames for salvaged in done for _, sealed in salvaged.files)
    lost = sum(damage.end - damage.begin for salvaged in done for damage in salvaged.damage)
    lost += sum(gone.bytes for gone in folder.lost.values())
    if as_json:
        segments = [
            {
                "name": os.path.basename(salvaged.examined.segment.path),
                "state": salvaged.examined.state,
                "frames": sum(sealed.frames for _, sealed in salvaged.files),
                "lost": [damage._asdict() for damage in salvaged.damage],
                "doubtful": salvaged.doubtful,
            }
            for salvaged in done
        ]
        names = {"path": one.name, "out": out if done else None}
        left_out = {"segments": len(others), "frames": sum(found.frames for found in others)}
        counts = {"frames": frames, "lost_bytes": lost, "lost_segments": len(folder.lost), "left_out": left_out}
        print_json({**names, **counts, "segments": segments})
    elif done:
        copied = f"{count_text(frames, 'frame')} of {count_text(len(done), 'segment')} copied to {out}"
        print_line(f"{one.name}: {copied}; {count_text(lost, 'byte')} lost{left_out_text(others)}")
    else:
        print_line(f"{one.name}: no segment is damaged or torn: nothing was copied{left_out_text(others)}")
    return DAMAGED if lost or folder.lost or any(one.examined.state == "torn" for one in done) else INTACT


def left_out_text(segments: list[Examined]) -> str:
    """How many intact segments of a journal were not copied."""
    if not segments:
        return ""
    frames = count_text(sum(found.frames for found in segments), "frame")
    them = "it" if len(segments) == 1 else "them"
    return f"; {count_text(len(segments), 'intact segment')} with {frames} not copied (--all copies {them} too)"
