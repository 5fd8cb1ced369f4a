"""Plots of the fields of messages, in a terminal or as a picture."""

from flatstream.tools.plotting._plot import plot
from flatstream.tools.plotting._result import Bars, Line, Plot

__all__ = ["Bars", "Line", "Plot", "plot"]
