"""Journals: streams in many files, written for months without an operator, and read while they are written."""

from flatstream.journal._recovery import SegmentReport
from flatstream.journal.cursor import Cursor
from flatstream.journal.metrics import Histogram, JournalMetrics
from flatstream.journal.policies import RetentionPolicy, RotationPolicy, SyncPolicy
from flatstream.journal.writer import JournalWriter

__all__ = [
    "Cursor",
    "Histogram",
    "JournalMetrics",
    "JournalWriter",
    "RetentionPolicy",
    "RotationPolicy",
    "SegmentReport",
    "SyncPolicy",
]
