"""Journals: streams in many files, written for months without an operator, and read while they are written."""

from flatstream.journal.cursor import Cursor
from flatstream.journal.policies import RetentionPolicy, RotationPolicy, SyncPolicy

__all__ = ["Cursor", "RetentionPolicy", "RotationPolicy", "SyncPolicy"]
