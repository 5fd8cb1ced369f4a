"""`Plot`: lines and bars, which are drawn as text or as a picture."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from flatstream.tools.conversion._files import NewFile
from flatstream.tools.conversion._options import ArgumentError

__all__ = ["Bars", "Line", "Plot"]

# Escape sequences for colours.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

SECOND = 1_000_000_000
DAY = 24 * 3600

# By which lines are told apart without colours.
LETTERS = "abcdefghijklmnopqrstuvwxyz"

# Pixels of an inch, in pictures.
DPI = 100
PICTURES = {".png": "png", ".svg": "svg"}


@dataclass(frozen=True)
class Line:
    """A line: `x` are nanoseconds since 1970 or numbers of messages, ascending; `y` are floats. NumPy arrays."""

    name: str
    x: Any
    y: Any


@dataclass(frozen=True)
class Bars:
    """Percentiles for each key: `heights` is a NumPy array with a row for each key and a column for each rank."""

    name: str
    keys: tuple[str, ...]
    ranks: tuple[float, ...]
    heights: Any


@dataclass(frozen=True)
class Plot:
    """What `plot` found.

    Attributes
    ----------
    title, axis : str
        What is shown, and what the horizontal axis has.
    is_time : bool
        Whether the horizontal axis has times, in nanoseconds since 1970.
    lines : tuple of Line
        The lines.
    bars : tuple of Bars
        The bars, for percentiles by a key.
    messages : int
        How many messages were read.
    keys_left_out : int
        How many values of the key are not shown.
    step : int
        Percentiles are those of every `step`-th message.
    skipped, lost_bytes : int
        How many places of the sources were left out because of damage, and how many bytes they have.
    stop_error : str or None
        The damage at which reading ended, with ``on_error="stop"``.
    """

    title: str
    axis: str
    is_time: bool
    lines: tuple[Line, ...]
    bars: tuple[Bars, ...]
    messages: int
    keys_left_out: int = 0
    step: int = 1
    skipped: int = 0
    lost_bytes: int = 0
    stop_error: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(len(line.x) for line in self.lines) and not any(len(bars.keys) for bars in self.bars)

    def to_dict(self) -> dict[str, Any]:
        """The plot as JSON has it: the points of lines as two lists, and a list of heights for each key of bars."""
        return vars(self) | {
            "lines": [{"name": line.name, "x": line.x.tolist(), "y": line.y.tolist()} for line in self.lines],
            "bars": [vars(bars) | {"heights": bars.heights.tolist()} for bars in self.bars],
        }

    def to_text(self, width: int = 80, height: int = 24, *, color: bool = False) -> str:
        """Draws the plot with characters.

        Parameters
        ----------
        width, height : int
            In characters.
        color : bool
            Whether the text has the escape sequences of terminals for colours.

        Raises
        ------
        ImportError
            plotext is not installed.
        """
        try:
            import plotext
        except ImportError as error:
            raise ImportError("a plot in the terminal needs plotext: pip install 'flatstream[plot]'") from error
        if self.is_empty:
            return f"{self.title}: no values in {self.messages} messages"
        parts = len(self.bars) or 1
        texts = [self._draw_text(plotext, part, width, max(8, height // parts), color) for part in range(parts)]
        return "\n".join(texts)

    def _draw_text(self, plotext: Any, part: int, width: int, height: int, color: bool) -> str:
        from flatstream.tools.plotting._points import extremes_by_column

        # plotext has one figure.
        figure = plotext.figure
        figure.clear()
        figure.plot_size(width, height)
        if not color:
            figure.theme("colorless")
        if self.bars:
            bars = self.bars[part]
            ranks = ", ".join(f"p{rank:g}" for rank in bars.ranks)
            # In their order, as the bars of each key stand.
            figure.title(f"{bars.name} by {self.axis}: {ranks}")
            figure.draw(figure.bar(list(bars.keys), bars.heights.T.tolist()))
            lowest, highest = float(bars.heights.min(initial=0)), float(bars.heights.max(initial=0))
        else:
            figure.title(self.title)
            drawn = [line for line in self.lines if len(line.x)]
            lowest, highest = math.inf, -math.inf
            for number, line in enumerate(drawn):
                # A character has two columns of points.
                x, y = extremes_by_column(line.x, line.y, 2 * width)
                lowest, highest = min(lowest, float(y.min())), max(highest, float(y.max()))
                # Without colours, only different characters tell lines apart.
                marker = LETTERS[number % len(LETTERS)] if len(drawn) > 1 and not color else None
                signal = figure.signal((x / SECOND if self.is_time else x).tolist(), y.tolist(), marker=marker)
                signal.lines(True)
                if len(drawn) > 1:
                    signal.label(line.name)
                figure.draw(signal)
            if len(drawn) > 1:
                first, last = self._ends()
                # Room for the legend, which would cover the lines.
                legend = min(max(len(line.name) for line in drawn) + 8, width // 2)
                left = first - (last - first or 1) * legend / (width - legend)
                figure.ruler("x").lim(left, last)
            if self.is_time:
                figure.ruler("x").ticks(*self._ticks(max(2, width // 24)))
            figure.label(self.axis)
        ruler = figure.ruler("y")
        ruler.ticks(*value_ticks(lowest, highest, max(2, height // 4)))
        if lowest < highest:
            # Otherwise the axis ends at its ticks, and what is beyond them is not drawn.
            ruler.lim(lowest, highest)
        text = str(figure.build()).rstrip("\n")
        figure.clear()
        return text if color else "\n".join(line.rstrip() for line in COLOURS.sub("", text).split("\n"))

    def _ends(self) -> tuple[float, float]:
        """Where the lines begin and end: in seconds, or numbers of messages."""
        ends = [int(line.x[index]) for line in self.lines if len(line.x) for index in (0, -1)]
        unit = SECOND if self.is_time else 1
        return min(ends) / unit, max(ends) / unit

    def _ticks(self, count: int) -> tuple[list[float], list[str]]:
        """Positions on the axis of times, in seconds, and their texts."""
        first, last = self._ends()
        span = last - first
        places = [first + span * number / (count - 1) for number in range(count)] if span else [first]
        form = "%Y-%m-%d" if span > 30 * DAY else "%m-%d %H:%M" if span > DAY else "%H:%M:%S"
        texts = []
        for place in places:
            text = datetime.fromtimestamp(place, UTC).strftime(form)
            if span < 10:
                text += f"{place % 1:.3f}"[1:]
            texts.append(text)
        return places, texts

    def save(
        self, out: str | os.PathLike[str], *, format: str | None = None, width: int = 1200, height: int = 600
    ) -> None:
        """Draws the plot into a new file. No file is overwritten.

        Parameters
        ----------
        out : path
            The file, which must not exist.
        format : {"png", "svg"}, optional
            By default by the ending of `out`.
        width, height : int
            In pixels.

        Raises
        ------
        FileExistsError
            The file exists.
        ValueError
            The format is not known.
        ImportError
            matplotlib is not installed.
        """
        path = os.fspath(out)
        kind = format or PICTURES.get(os.path.splitext(path)[1].lower())
        if kind not in PICTURES.values():
            raise ArgumentError(f"a picture is .png or .svg, got {path!r}")
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("pictures need matplotlib: pip install 'flatstream[plot]'") from error
        with NewFile(path, "") as new:
            # Not pyplot, whose figures and settings are those of the whole process.
            figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
            FigureCanvasAgg(figure)
            if self.bars:
                self._draw_bars(figure)
            else:
                self._draw_lines(figure, width)
            figure.savefig(new.file, format=kind, metadata={"Date": None} if kind == "svg" else None)
            new.finish()

    def _draw_lines(self, figure: Any, width: int) -> None:
        from flatstream.tools.plotting._points import extremes_by_column

        axes = figure.subplots()
        axes.set_title(self.title)
        axes.set_xlabel(self.axis)
        if self.is_time:
            dates: Any = import_module("matplotlib.dates")
            locator = dates.AutoDateLocator()
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        for line in self.lines:
            x, y = extremes_by_column(line.x, line.y, width)
            axes.plot((x // 1000).astype("datetime64[us]") if self.is_time else x, y, label=line.name, linewidth=1)
        if len(self.lines) > 1:
            axes.legend(loc="best", fontsize="small")

    def _draw_bars(self, figure: Any) -> None:
        every = figure.subplots(len(self.bars), squeeze=False)[:, 0]
        for axes, bars in zip(every, self.bars, strict=True):
            axes.set_title(f"{bars.name} by {self.axis}")
            share = 0.8 / len(bars.ranks)
            for number, rank in enumerate(bars.ranks):
                places = [key + (number + 0.5) * share - 0.4 for key in range(len(bars.keys))]
                axes.bar(places, bars.heights[:, number], share, label=f"p{rank:g}")
            axes.set_xticks(range(len(bars.keys)), bars.keys)
            axes.legend(fontsize="small")


def value_ticks(lowest: float, highest: float, count: int) -> tuple[list[float], list[str]]:
    """At most so many round numbers on an axis that reaches from `lowest` to `highest`, and their texts.

    plotext's own are the ends of the axis and what is between them, as in 4.53e4.
    """
    span = highest - lowest
    if not (span > 0 and math.isfinite(span)):
        return [lowest], [f"{lowest:,.6g}"]
    power = 10.0 ** math.floor(math.log10(span / count))
    # The step that is nearest above a part of the span: 1, 2, 5 or 10 times a power of ten.
    step = next((power * digit for digit in (1, 2, 5, 10) if span / (power * digit) < count), power * 20)
    # What is on an end of the axis is not beyond it because of rounding.
    first, last = math.ceil(lowest / step - 1e-9), math.floor(highest / step + 1e-9)
    places = [min(max(number * step, lowest), highest) for number in range(first, last + 1)]
    if step >= 1e9 or step < 1e-6:
        return places, [f"{place:.6g}" for place in places]
    digits = max(0, -math.floor(math.log10(step)))
    # 0.0 for what rounding left a little below 0.
    return places, [f"{place + 0.0:,.{digits}f}" for place in places]
