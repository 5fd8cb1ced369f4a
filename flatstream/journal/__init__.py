"""Journals: streams in many files, written for months without an operator, and read while they are written."""

from flatstream.journal._parts import Gap
from flatstream.journal._recovery import SegmentReport
from flatstream.journal._signals import stop_on_signals
from flatstream.journal.cursor import Cursor
from flatstream.journal.metrics import Histogram, JournalMetrics
from flatstream.journal.mirror import MirrorWriter
from flatstream.journal.policies import CompressionPolicy, RetentionPolicy, RotationPolicy, SyncPolicy
from flatstream.journal.reader import JournalReader
from flatstream.journal.threaded import ThreadedWriter
from flatstream.journal.writer import JournalWriter

__all__ = [
    "CompressionPolicy",
    "Cursor",
    "Gap",
    "Histogram",
    "JournalMetrics",
    "JournalReader",
    "JournalWriter",
    "MirrorWriter",
    "RetentionPolicy",
    "RotationPolicy",
    "SegmentReport",
    "SyncPolicy",
    "ThreadedWriter",
    "stop_on_signals",
]
