"""The fenced blocks of documents in Markdown."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block, the number of the line in the document that its first line is, and the paragraph before it."""

    language: str
    code: str
    line: int
    before: str


def sections(document: Path) -> dict[str, list[Block]]:
    """The fenced blocks of each section, by its heading; what stands before the first "##" belongs to the title."""
    text = document.read_text(encoding="utf-8")
    found: dict[str, list[Block]] = {}
    # A heading is not looked for inside of blocks, where a line may begin with a comment.
    outside = FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    headings = [*re.finditer(r"^##? (.+)$", outside, re.MULTILINE)]
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends, strict=True):
        assert heading[1] not in found, f"two sections are called {heading[1]!r}"
        found[heading[1]] = [
            Block(
                match[1],
                match[2],
                text.count("\n", 0, match.start(2)) + 1,
                text[heading.start() : match.start()].rstrip().rpartition("\n\n")[2],
            )
            for match in FENCE.finditer(text, heading.start(), end)
        ]
    return found


def stable(text: str) -> list[str]:
    """The lines of a text without what differs from run to run: numbers, names of this machine, widths of columns."""
    if "┤" in text and "├" not in text:
        # A plot, of which the title and the name of the axis are stable.
        return [text.split()[0], text.split()[-1]]
    text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "alpha", text)
    text = re.sub(r"\(python[\d.]*\)", "(python)", text)
    text = re.sub(r"\b(Idle|Overloaded)\b", "Busy", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "0", text)
    # Times, sizes, numbers with signs, fractions and exponents; and a minute, which a slow machine takes.
    text = re.sub(r"(?<![\w-])-(?=\d)", "", text)
    text = re.sub(r"\d[\d,]*([.:TZ-]*(e[+-])?\d+)*Z?", "0", text)
    text = re.sub(r"\b0 min( 0 s)?", "0 s", text)
    text = re.sub(r"([─═]){2,}", r"\1", text)
    # The date and the time of day of data frames.
    text = re.sub(r"\b0 0\b", "0", text)
    return [re.sub(r" +", " ", line).strip() for line in text.strip().splitlines()]
