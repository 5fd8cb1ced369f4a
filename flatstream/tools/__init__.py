"""What the command line does, as functions: looking at files, checking, merging and converting them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatstream.tools.conversion import ConvertReport, convert
    from flatstream.tools.plotting import Plot, plot

__all__ = ["ConvertReport", "Plot", "convert", "plot"]

# Where each name is from. Commands start sooner if they import only what they use.
MODULES = {"ConvertReport": "conversion", "Plot": "plotting", "convert": "conversion", "plot": "plotting"}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
