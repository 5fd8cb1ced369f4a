"""What a crash leaves beside an index, between writing a new one and giving it its name."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import flatstream
from flatstream.index import _leftovers, build_index
from flatstream.tools.inputs import expand, passed_over
from support.index_messages import MESSAGE, record
from support.logs import log_lines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kinds of file systems are known on Linux")

# No process has it: it is larger than the largest number that Linux gives.
GONE = 1 << 22


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder on a local file system, listed each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_leftovers, "LISTED_FOR", 0.0)
    mount = str(tmp_path).replace(" ", "\\040")
    monkeypatch.setattr(_leftovers, "_mounts", lambda: [f"7 1 0:1 / {mount} rw shared:1 - tmpfs tmpfs rw\n"])


def write(name: str, count: int = 3000) -> bytes:
    """A file with its index; returns the bytes of that."""
    with flatstream.open(name, "w", checksum="crc32", describe=MESSAGE, index=True) as writer:
        flatstream.RecordWriter(writer, MESSAGE).write_records(map(record, range(count)))
    return Path(f"{name}.idx").read_bytes()


CRASH = """
import os, signal
os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
import flatstream
flatstream.build_index("a.fs", ["i"])
"""


def test_what_a_killed_process_left_is_removed_by_the_next_build() -> None:
    write("a.fs")
    killed = subprocess.run([sys.executable, "-c", CRASH], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name.rpartition("-")[0] for path in Path().glob("a.fs.idx.*")] == ["a.fs.idx.partial"]
    with log_lines("flatstream.index") as lines:
        build_index("a.fs")
    assert sorted(os.listdir()) == ["a.fs", "a.fs.idx"]
    assert len(lines) == 1
    assert lines[0].startswith("INFO removed a.fs.idx.partial-")


@pytest.mark.parametrize("content", ["whole", "half", "nothing", "zeros"])
@pytest.mark.parametrize("number", [f"{GONE}", f"{GONE}.2", "own"])
def test_a_leftover_is_removed_whatever_it_has(number: str, content: str) -> None:
    whole = write("a.fs")
    data = {"whole": whole, "half": whole[:100], "nothing": b"", "zeros": bytes(5000)}[content]
    path = Path(f"a.fs.idx.partial-{os.getpid() if number == 'own' else number}")
    path.write_bytes(data)
    with flatstream.open("a.fs", "a", index=True) as writer:
        assert writer.index_report is not None
        assert not path.exists()
    assert build_index("a.fs").action == "unchanged"


def test_what_is_not_surely_a_leftover_stays(tmp_path: Path) -> None:
    whole = write("a.fs")
    write("b.fs")
    kept = {
        # Of a process that is there; of another index; and other names.
        "a.fs.idx.partial-1": whole,
        f"b.fs.idx.partial-{GONE}": whole,
        f"A.fs.idx.partial-{GONE}": whole,
        f"a.fs.partial-{GONE}": whole,
        f"a.fs.idx.partial-{GONE}.old": whole,
        f"a.fs.idx.partial-{GONE}x": whole,
        "a.fs.idx.partial-": whole,
        "a.fs.idx.partial": whole,
        # Somebody's file.
        f"a.fs.idx.partial-{GONE}.5": b"my notes",
        f"a.fs.idx.partial-{GONE}.6": Path("a.fs").read_bytes(),
    }
    for name, data in kept.items():
        Path(name).write_bytes(data)
    Path("elsewhere").write_bytes(whole)
    os.symlink("elsewhere", f"a.fs.idx.partial-{GONE}.7")
    os.link("elsewhere", f"a.fs.idx.partial-{GONE}.8")
    os.mkdir(f"a.fs.idx.partial-{GONE}.9")
    os.mkfifo(f"a.fs.idx.partial-{GONE}.10")
    before = sorted(os.listdir())
    build_index("a.fs")
    assert sorted(os.listdir()) == before
    assert all(Path(name).read_bytes() == data for name, data in kept.items())


def test_a_leftover_that_is_locked_stays() -> None:
    whole = write("a.fs")
    path = Path(f"a.fs.idx.partial-{GONE}")
    path.write_bytes(whole)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        build_index("a.fs")
        assert path.exists()
    build_index("a.fs")
    assert not path.exists()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "unheard"])
def test_a_leftover_on_a_file_system_of_others_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = _leftovers._mounts()
    monkeypatch.setattr(_leftovers, "_mounts", lambda: [*mounts, mounts[0].replace("tmpfs", kind)])
    path = Path(f"a.fs.idx.partial-{GONE}")
    path.write_bytes(write("a.fs"))
    build_index("a.fs")
    assert path.exists()


def test_the_nearest_file_system_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "with space"
    (folder / "deep").mkdir(parents=True)
    lines = [
        "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
        f"2 1 0:50 / {str(folder).replace(' ', chr(92) + '040')} rw - nfs4 host:/export rw\n",
        f"3 1 8:2 / {folder}/deeper rw - xfs /dev/sdb rw\n".replace("with space", "with\\040space"),
    ]
    monkeypatch.setattr(_leftovers, "_mounts", lambda: lines)
    assert _leftovers.is_local("/")
    assert _leftovers.is_local(str(tmp_path))
    assert not _leftovers.is_local(str(folder))
    assert not _leftovers.is_local(str(folder / "deep"))
    assert _leftovers.is_local(f"{folder}/deeper")
    assert _leftovers.is_local(f"{folder}/../x")
    lines.append("nonsense\n")
    assert not _leftovers.is_local("/")


def test_a_folder_is_not_listed_for_each_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(f"{number}.fs", 10)
    monkeypatch.setattr(_leftovers, "LISTED_FOR", 60.0)
    monkeypatch.setattr(_leftovers, "_listed", {})
    listed: list[str] = []
    listdir = os.listdir

    def note(path: str) -> list[str]:
        listed.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", note)
    for number in range(5):
        build_index(f"{number}.fs")
    assert listed == ["."]


def test_patterns_and_folders_take_no_unfinished_index_for_data(tmp_path: Path) -> None:
    whole = write("a.fs")
    for name in (f"a.fs.idx.partial-{GONE}", f"a.fs.idx.partial-{GONE}.1", "b.fs.zst.idx.partial-77"):
        Path(name).write_bytes(whole)
    for path in ("*", "a*", ".", "**/*", str(tmp_path)):
        assert [Path(one.name).name for one in expand([path])] == ["a.fs"]
    assert passed_over(".") == 0
    pytest.importorskip("pyarrow")
    for found in (flatstream.dataset("*"), flatstream.dataset(tmp_path)):
        assert found.count() == 3000
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in os.listdir():
        memory.pipe_file(f"/leftovers/{name}", Path(name).read_bytes())
    try:
        for url in ("memory://leftovers/*", "memory://leftovers/"):
            assert flatstream.dataset(url).count() == 3000
    finally:
        memory.rm("/leftovers", recursive=True)
    with pytest.raises(ValueError, match="no file matches this pattern"):
        expand(["*partial-*"])
    # By its own name, it can be looked at.
    assert [one.name for one in expand(["b.fs.zst.idx.partial-77"])] == ["b.fs.zst.idx.partial-77"]
