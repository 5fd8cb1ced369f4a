"""The command line: ``flatstream`` and ``python -m flatstream``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, and returns its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        See `flatstream.cli._status`; ``flatstream --help`` lists them.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        # While modules are imported; after that, the command says which one it is.
        print("flatstream: interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    try:
        import click  # noqa: F401 - checks that it is there
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        print("flatstream: the command line needs the package click: pip install 'flatstream[cli]'", file=sys.stderr)
        return 2
    from flatstream.cli._app import run

    return run(arguments)
