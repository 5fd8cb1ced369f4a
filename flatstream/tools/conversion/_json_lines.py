"""Reading JSON lines."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

from flatstream.errors import JsonError
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
        before = 0
        while lines := list(itertools.islice(self.file, LINES)):
            sink = io.BytesIO()
            with StreamWriter(sink) as writer:
                try:
                    RecordWriter(writer, table, file_identifier=identifier).write_json_lines(lines)
                except JsonError as error:
                    if error.line is not None:
                        error.line += before
                    raise
            before += len(lines)
            yield self.options.read_piece(sink.getbuffer())
