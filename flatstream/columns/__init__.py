"""Messages as columns: for NumPy, and by the Arrow C data interface for every library that knows it.

What is read of which field is said by the table of a schema; see `StreamReader.columns` and docs/columns.md.
"""

from flatstream.columns.batch import Column, ColumnBatch, ColumnSchema, ColumnStream

__all__ = ["Column", "ColumnBatch", "ColumnSchema", "ColumnStream"]
