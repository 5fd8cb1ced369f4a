"""The index beside a file: where blocks of frames are, and the range of fields in each."""

from flatstream._index_hook import index_paths
from flatstream.index._fields import IndexedField
from flatstream.index.building import FileIndexer, IndexReport, build_index
from flatstream.index.reading import FieldStatistics, FileIndex, UnusableIndex, load_index

__all__ = [
    "FieldStatistics",
    "FileIndex",
    "FileIndexer",
    "IndexReport",
    "IndexedField",
    "UnusableIndex",
    "build_index",
    "index_paths",
    "load_index",
]
