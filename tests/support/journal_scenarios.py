"""Short programs that open, write and recover journals, for tests in which each of their calls of the system fails."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flatstream.journal import Cursor
from support.journal_child import Plan
from support.journal_faults import Programs
from support.journal_frames import Ledger, read_journal
from support.sealed import sealed

SEED = 77


@dataclass(frozen=True)
class Scenario:
    """A journal as a program finds it, and what the program does.

    Attributes
    ----------
    before : tuple
        What a writer did before (`support.journal_child.Program.write_script`), as run 0. None: there is no journal.
    damage : callable or None
        What happened to the folder then.
    script : tuple
        What the program does.
    settings : dict
        Those of `Plan`.
    has_gaps : bool
        Whether the journal has gaps.
    """

    before: tuple[Any, ...] | None = None
    damage: Callable[[Path], None] | None = None
    script: tuple[Any, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    has_gaps: bool = False
    seed: int = SEED

    def plan(self, directory: Path, run: int, does: str = "script", gate: str = "") -> Plan:
        return Plan(str(directory), self.seed, run, does, script=self.script, gate=gate, **self.settings)


class Template:
    """A journal as the program of a scenario finds it, to be copied.

    Attributes
    ----------
    ledger : Ledger
        The run before: its frames that are there, and so must stay.
    """

    def __init__(self, programs: Programs, scenario: Scenario, directory: Path) -> None:
        self.scenario = scenario
        self.directory = directory
        self.ledger = Ledger(0, first=0)
        if scenario.before is not None:
            plan = Plan(str(directory), scenario.seed, 0, "script", script=scenario.before, **scenario.settings)
            ledger = programs.run(plan)
            assert ledger.is_finished
            assert not ledger.errors
            assert not ledger.violations
            if scenario.damage is not None:
                scenario.damage(directory)
            if not scenario.has_gaps:
                frames = read_journal(directory, scenario.seed).frames
                assert frames
                self.ledger.durable = frames[-1].number + 1

    def copy(self, directory: Path) -> Path:
        """Makes the folder as the program finds it; returns it."""
        if self.scenario.before is not None:
            shutil.copytree(self.directory, directory)
        return directory


def segments_in(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix == ".fs")


def bytes_of_segments(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in segments_in(directory)}


def tails_of(directory: Path) -> set[bytes]:
    """The tails that were cut off and saved."""
    return {path.read_bytes() for path in directory.iterdir() if ".fs.torn-" in path.name}


# Recovery


def differences_after_recovery(
    programs: Programs, scenario: Scenario, directory: Path, undisturbed: Path, *, is_full: bool = False
) -> Iterator[str]:
    """What differs between a journal recovered after recovery had failed, and one recovered at once.

    If the disk was full (`is_full`), so that a torn tail could not be saved, it is left where it was, as damage.
    """
    last = programs.run(scenario.plan(directory, run=9, does="recover"))
    yield from last.violations
    if not last.is_finished:
        yield f"recovery failed: {last}"
        return
    expected = read_journal(undisturbed, scenario.seed)
    found = read_journal(directory, scenario.seed)
    yield from found.problems
    if found.frames != expected.frames:
        yield f"the frames are {found.frames}, expected {expected.frames}"
    if is_full and found.gaps:
        return
    if (found.gaps, found.position) != (expected.gaps, expected.position):
        yield f"gaps {found.gaps}, position {found.position}, expected {expected.gaps}, {expected.position}"
    if bytes_of_segments(directory) != bytes_of_segments(undisturbed):
        yield "the segments have other bytes"
    if not tails_of(undisturbed) <= tails_of(directory):
        yield "a tail was cut and not saved"


# Damage


def unseal(directory: Path) -> None:
    """Makes journal.json that of a writer which was killed: the last segment is not known to be whole."""
    path = directory / "journal.json"
    content = json.loads(path.read_text())
    del content["sealed"][segments_in(directory)[-1].name]
    path.write_text(json.dumps(content))


def tear(directory: Path) -> None:
    """Cuts into the last frame of the last segment."""
    unseal(directory)
    last = segments_in(directory)[-1]
    os.truncate(last, last.stat().st_size - 5)


def tear_first_frame(directory: Path) -> None:
    """Leaves a part of its first frame behind the description in the last segment."""
    unseal(directory)
    last = segments_in(directory)[-1]
    os.truncate(last, 12 + int.from_bytes(last.read_bytes()[:4], "little") + 7)


def tear_description(directory: Path) -> None:
    """Leaves a part of the description in the last segment."""
    unseal(directory)
    os.truncate(segments_in(directory)[-1], 100)


def empty_last(directory: Path) -> None:
    unseal(directory)
    os.truncate(segments_in(directory)[-1], 0)


def zero_tail(directory: Path) -> None:
    unseal(directory)
    with open(segments_in(directory)[-1], "ab") as file:
        file.write(bytes(3000))


def damage_sealed_frame(directory: Path) -> None:
    """Changes a byte in the middle of the last segment, of which journal.json says that it is whole."""
    last = segments_in(directory)[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF
    last.write_bytes(content)


def damage_frame(directory: Path) -> None:
    """Changes a byte in the middle of the last segment, which was not closed."""
    damage_sealed_frame(directory)
    unseal(directory)


def damage_and_tear(directory: Path) -> None:
    damage_sealed_frame(directory)
    tear(directory)


def forget(directory: Path) -> None:
    """Tears the last frame, and removes journal.json."""
    tear(directory)
    (directory / "journal.json").unlink()


def leave_compression(directory: Path) -> None:
    """Leaves what a writer leaves that is killed while it compresses: a copy beside the first segment, half of another,
    and a torn frame at the end.
    """
    first, second = segments_in(directory)[:2]
    first.with_name(f"{first.name}.zst").write_bytes(sealed([first.read_bytes()]))
    second.with_name(f"{second.name}.zst.partial").write_bytes(sealed([second.read_bytes()])[:50])
    tear(directory)


def register(directory: Path) -> None:
    """Registers a reader that needs the second segment."""
    identity = json.loads((directory / "journal.json").read_text())["id"]
    (directory / "cursors").mkdir(exist_ok=True)
    number = int(segments_in(directory)[1].stem)
    (directory / "cursors" / "reader.cursor").write_text(f"{Cursor(identity, number)}\n")


ROTATED = {"rotate": {"max_frames": 3}, "options": {"buffer_size": 256}}
WROTE = (("write", 7, 40), "sync", ("write", 1, 60))

WRITINGS: dict[str, Scenario] = {
    "new": Scenario(script=(("write", 3, 40), "flush", ("write", 3, 40), "sync", ("write", 2, 10))),
    "rotation": Scenario(
        script=(("write", 5, 40), "flush", ("write", 3, 100), "sync", "rotate", ("batch", 1, 8), "wait", "look"),
        settings={"rotate": {"max_frames": 3}, "options": {"buffer_size": 0}},
    ),
    "each": Scenario(
        before=WROTE, script=(("write", 5, 40), ("batch", 1, 5)), settings={"sync": "each", "rotate": {"max_frames": 4}}
    ),
    "bytes": Scenario(
        before=WROTE,
        script=(("write", 10, 40), ("write", 1, 900), ("write", 4, 40), "flush", ("write", 2, 40)),
        settings={"sync": 4, "rotate": {"max_bytes": 500}, "options": {"buffer_size": 200}},
    ),
    "retention": Scenario(
        before=(("write", 12, 40),),
        script=(("write", 12, 40), "flush", "sync"),
        settings={**ROTATED, "retain": {"max_segments": 3}},
    ),
    "retention with a reader": Scenario(
        before=(("write", 12, 40),),
        damage=register,
        script=(("write", 12, 40), "flush", "sync"),
        settings={**ROTATED, "retain": {"max_bytes": 300, "max_reader_bytes": 900}},
    ),
    "after a tear": Scenario(before=WROTE, damage=tear, script=(("write", 3, 40), "sync"), settings=ROTATED),
    "compression": Scenario(
        before=(("write", 4, 40),),
        script=(("write", 5, 40), "wait", "compress"),
        settings={"rotate": {"max_frames": 3}, "options": {"buffer_size": 0, "compress": True}},
    ),
}

RECOVERIES: dict[str, Scenario] = {
    "a torn frame": Scenario(before=WROTE, damage=tear, settings=ROTATED),
    "a torn first frame": Scenario(before=WROTE, damage=tear_first_frame, settings=ROTATED),
    "a torn description": Scenario(before=WROTE, damage=tear_description, settings=ROTATED),
    "an empty segment": Scenario(before=WROTE, damage=empty_last, settings=ROTATED),
    "a tail of zeros": Scenario(before=WROTE, damage=zero_tail, settings=ROTATED),
    "a damaged frame": Scenario(before=(("write", 6, 40),), damage=damage_frame, has_gaps=True),
    "a damaged frame in a sealed segment": Scenario(
        before=(("write", 6, 40),), damage=damage_sealed_frame, has_gaps=True
    ),
    "a damaged frame and a torn one": Scenario(before=(("write", 8, 40),), damage=damage_and_tear, has_gaps=True),
    "no journal.json": Scenario(before=WROTE, damage=forget, settings=ROTATED),
    "a killed compression": Scenario(before=WROTE, damage=leave_compression, settings=ROTATED),
}
