"""Cursor: a place in a journal, which can be stored and come back to."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Cursor"]

TEXT = re.compile(r"fsc1:([0-9a-f]{32}):([0-9]{1,19})")

# Numbers have at most 63 bits.
LIMIT = 2**63


class Cursor(NamedTuple):
    """A place in a journal: between two frames.

    ``str(cursor)`` is one line of text, which `parse` reads. A cursor can be pickled.

    Attributes
    ----------
    journal : str
        The identity of the journal, 32 hexadecimal digits. A journal that is made anew in the same folder has another.
    number : int
        The number of the frame behind the place: the next one to read.
    """

    journal: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor of which `text` is the ``str``.

        Raises
        ------
        TypeError, ValueError
            `text` is no str, or not that of a cursor.
        """
        if not isinstance(text, str):
            raise TypeError(f"the text of a cursor must be a str, got {text!r:.100}")
        match = TEXT.fullmatch(text)
        if match is None or int(match[2]) >= LIMIT:
            raise ValueError(f"the text of a cursor is 'fsc1:<32 hexadecimal digits>:<number>', got {text!r:.100}")
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"fsc1:{self.journal}:{self.number}"
