"""What is written of streams whose messages are the objects of a serializer: JSON lines and CSV."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from flatstream.reader import StreamReader
from flatstream.serializers import Serializer
from flatstream.tools._objects import csv_cell, json_text, value_at
from flatstream.tools.conversion._formats import FORMATS
from flatstream.tools.conversion._options import ArgumentError, Options

__all__ = ["ObjectCsvTarget", "ObjectJsonTarget"]

# How many objects are in memory at a time. The first ones say which columns there are.
OBJECTS = 1000


class ObjectJsonTarget:
    """JSON lines: each message as JSON, or the values at some paths of it."""

    omitted: tuple[str, ...] = ()
    checksum = None

    def __init__(self, file: Any, serializer: Serializer, options: Options) -> None:
        if options.where is not None:
            raise ArgumentError(
                f"where= is about the fields of a schema, and the messages are objects ({serializer.name})"
            )
        self.file, self.options, self.serializer = file, options, serializer
        self.messages = 0

    def write(self, reader: StreamReader) -> None:
        """See `Target`."""
        objects = reader.objects(self.serializer)
        while some := list(itertools.islice(objects, OBJECTS)):
            self.file.write("".join(self.lines(some)).encode("utf-8", "backslashreplace"))
            self.messages += len(some)
            self.options.tick()

    def lines(self, objects: list[Any]) -> Iterator[str]:
        """The lines of some objects."""
        for each in objects:
            if self.options.fields is not None:
                each = {path: value_at(each, path) for path in self.options.fields}
            yield f"{json_text(each)}\n"

    def finish(self) -> None:
        """See `Target`."""

    abort = finish


class ObjectCsvTarget(ObjectJsonTarget):
    """CSV: a column for each name that the first objects have, or for the chosen paths."""

    def __init__(self, file: Any, serializer: Serializer, options: Options) -> None:
        super().__init__(file, serializer, options)
        self.columns: tuple[str, ...] | None = options.fields

    def lines(self, objects: list[Any]) -> Iterator[str]:
        """The line of names, before the first one, and a line for each object."""
        if self.columns is None:
            self.columns = tuple(
                dict.fromkeys(itertools.chain.from_iterable(map(self._names, objects, itertools.count())))
            )
        if not self.messages:
            yield ",".join(map(csv_cell, self.columns)) + "\n"
        for number, each in enumerate(objects, self.messages):
            if self.options.fields is None:
                unknown = [name for name in self._names(each, number) if name not in self.columns]
                if unknown:
                    raise ValueError(
                        f"message {number} has {unknown[0]!r:.100}, which the first {OBJECTS} did not have: say which "
                        "columns there are with fields="
                    )
            yield ",".join([csv_cell(value_at(each, column)) for column in self.columns]) + "\n"

    def _names(self, each: Any, number: int) -> list[str]:
        if not isinstance(each, dict) or not all(isinstance(name, str) for name in each):
            raise ValueError(
                f"{FORMATS['csv'].title} has columns, and message {number} has no names: {json_text(each):.100}"
            )
        return list(each)

    def finish(self) -> None:
        """The line of names, if there were no messages but the columns are known."""
        if not self.messages and self.columns is not None:
            self.file.write((",".join(map(csv_cell, self.columns)) + "\n").encode())
