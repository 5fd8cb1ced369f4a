"""The command line: ``flatstream`` and ``python -m flatstream``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> int:
    """Runs the command that the process was started with, and returns its exit status."""
    raise NotImplementedError
