"""Messages as columns: as NumPy arrays, and for every library that takes the Arrow C data interface.

`StreamReader.columns` and `StreamReader.column_batches` return them. See docs/columns.md for how each type of field is
represented.
"""

from flatstream.columns.batch import Column, ColumnBatch, ColumnSchema
from flatstream.columns.stream import ColumnStream

__all__ = ["Column", "ColumnBatch", "ColumnSchema", "ColumnStream"]
