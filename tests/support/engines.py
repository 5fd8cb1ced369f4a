"""Files for the tests of the engines, the same rows as an Arrow table, and how a worker of an engine is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import flatstream
from asv_benchmarks.scale_data import arrow_table, columns_of, table
from flatstream.index.building import build_index

FILES = 4
ROWS = 15_000


def write_files(folder: Path, files: int = FILES, rows: int = ROWS) -> Any:
    """Writes streams, each with an index of its times, and returns their rows as an Arrow table.

    Enums are strings in it, as engines get them.
    """
    import pyarrow as pa

    folder.mkdir()
    tables = []
    for host in range(files):
        columns = columns_of(host, rows)
        path = folder / f"host-{host:02}.fs"
        with flatstream.open(path, "w", checksum="xxhash64", describe=table()) as writer:
            flatstream.RecordWriter(writer, table()).write_columns(columns)
        build_index(path)
        tables.append(arrow_table(columns))
    made = pa.concat_tables(tables)
    at = made.schema.get_field_index("state")
    return made.set_column(at, "state", made.column(at).cast(pa.string()))


def kill_once(marker: str, *, parents: int = 0) -> None:
    """Kills this process, or one from which it descends, unless the file `marker` is there, which is made first."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    process = os.getpid()
    for _ in range(parents):
        process = parent_of(process)
    os.kill(process, signal.SIGKILL)
    if parents:
        # The caller must not come to the end of its work before it notices.
        signal.pause()


def parent_of(process: int) -> int:
    """The process that began another one."""
    status = Path(f"/proc/{process}/stat").read_text()
    # The name before it may have blanks.
    return int(status.rpartition(")")[2].split()[1])
