"""Schemas at run time: the types of messages, from a schema's text (.fbs) or a binary schema (.bfbs)."""

import flatstream.schema._described  # noqa: F401 - registers schemas with descriptions
from flatstream._core.records.json_lines import json_lines
from flatstream._core.records.record_view import RecordView, VectorView
from flatstream.schema.evolution import EvolutionIssue
from flatstream.schema.inspection import Enum, EnumValue, Field, Struct
from flatstream.schema.schema import Schema
from flatstream.schema.table import Table

__all__ = [
    "Enum",
    "EnumValue",
    "EvolutionIssue",
    "Field",
    "RecordView",
    "Schema",
    "Struct",
    "Table",
    "VectorView",
    "json_lines",
]
