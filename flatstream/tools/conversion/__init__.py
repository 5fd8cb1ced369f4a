"""Conversion between streams and Parquet, Arrow IPC, CSV, JSON lines, MCAP and size-prefixed FlatBuffers."""

from flatstream.tools.conversion._convert import convert
from flatstream.tools.conversion._report import ConvertReport

__all__ = ["ConvertReport", "convert"]
