"""Schemas at run time: the types of messages, from a binary schema (``flatc --binary --schema``)."""

import flatstream.schema._described  # noqa: F401 - registers schemas with descriptions
from flatstream.schema.schema import RecordView, Schema, Table, VectorView

__all__ = ["RecordView", "Schema", "Table", "VectorView"]
