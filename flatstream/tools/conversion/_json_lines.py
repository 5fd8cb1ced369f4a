"""Reading JSON lines."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

from flatstream.reader import StreamReader
from flatstream.records import RecordWriter
from flatstream.tools.conversion._options import table_for_columns
from flatstream.tools.conversion._sources import FileSource
from flatstream.writer import StreamWriter

__all__ = ["JsonSource"]

# How many lines are in memory at a time.
LINES = 4096


class JsonSource(FileSource):
    """JSON lines: an object with the fields of a message in each line. Empty lines are left out."""

    format = "jsonl"

    def readers(self) -> Iterator[StreamReader]:
        """The objects, built as messages."""
        table = table_for_columns(self.known, self.title)
        identifier = bool(table.schema.file_identifier) and table == table.schema.root
        numbered = enumerate(self.file, 1)
        while lines := list(itertools.islice(numbered, LINES)):
            sink = io.BytesIO()
            with StreamWriter(sink) as writer:
                records = RecordWriter(writer, table, file_identifier=identifier)
                for number, line in lines:
                    if line.isspace():
                        continue
                    record: Any = None
                    try:
                        record = json.loads(line)
                        if not isinstance(record, dict):
                            raise TypeError(f"expected an object, got {line.decode(errors='replace').strip()!r:.100}")
                        records.write_record(record)
                    except (TypeError, ValueError) as error:
                        raise (
                            type(error)(f"line {number}: {error}")
                            if record is not None
                            else ValueError(f"line {number}: expected JSON: {error}")
                        ) from None
            yield self.options.read_piece(sink.getbuffer())
