"""Journals: streams in many files, written for months without an operator, and read while they are written."""

from flatstream.journal._signals import stop_on_signals
from flatstream.journal.cursor import Cursor
from flatstream.journal.policies import RetentionPolicy, RotationPolicy, SyncPolicy
from flatstream.journal.threaded import ThreadedWriter

__all__ = ["Cursor", "RetentionPolicy", "RotationPolicy", "SyncPolicy", "ThreadedWriter", "stop_on_signals"]
