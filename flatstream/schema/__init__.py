"""Schemas at run time: the types of messages, from a schema's text (.fbs) or a binary schema (.bfbs)."""

from flatstream.schema.inspection import Enum, EnumValue, Field, Struct
from flatstream.schema.schema import RecordView, Schema, Table, VectorView

__all__ = ["Enum", "EnumValue", "Field", "RecordView", "Schema", "Struct", "Table", "VectorView"]
