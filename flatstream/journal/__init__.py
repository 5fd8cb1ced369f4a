"""Journals: streams in many files, written for months without an operator, and read while they are written."""

from flatstream.journal._parts import Gap
from flatstream.journal.cursor import Cursor
from flatstream.journal.policies import RetentionPolicy, RotationPolicy, SyncPolicy
from flatstream.journal.reader import JournalReader

__all__ = ["Cursor", "Gap", "JournalReader", "RetentionPolicy", "RotationPolicy", "SyncPolicy"]
