"""A heading and a table as HTML, which notebooks show for an object with ``_repr_html_``. All text is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

# A notebook's cell is no place for more rows. Those that are left out are counted.
MAX_ROWS = 200
# Nor for longer texts.
MAX_TEXT = 500


def html_page(
    kind: str,
    name: str,
    facts: Iterable[str],
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    left_out: int = 0,
) -> str:
    """A heading, lines of text and a table.

    Parameters
    ----------
    kind, name : str
        The heading: what is shown, and its name or "".
    facts : iterable of str
        Lines below the heading; empty ones are left out.
    header, rows : sequence of str, sequence of sequences
        The table. A cell can be any object, of which `str` is shown; the parts of a tuple are on lines of their own.
    left_out : int
        The number of rows that the caller has left out.
    """
    title = f"<strong>{html.escape(kind)}</strong>" + (f" <code>{html.escape(name)}</code>" if name else "")
    lines = [f"<div>{title}", *(f"<br>{html.escape(_shortened(fact))}" for fact in facts if fact), "<table>"]
    lines.append("<thead><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in header) + "</tr></thead><tbody>")
    for row in rows[:MAX_ROWS]:
        lines.append("<tr>" + "".join(f'<td style="text-align:left">{_cell(cell)}</td>' for cell in row) + "</tr>")
    lines.append("</tbody></table>")
    left_out += max(len(rows) - MAX_ROWS, 0)
    if left_out:
        lines.append(f"{left_out:,} more")
    lines.append("</div>")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return "<br>".join(html.escape(_shortened(str(line))) for line in value)
    return html.escape(_shortened(str(value)))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
