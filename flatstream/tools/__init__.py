"""What the command line does, as functions: looking at files, checking, merging and converting them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatstream.tools.conversion import ConvertReport, convert
    from flatstream.tools.merging import MergeReport, merge
    from flatstream.tools.plotting import Plot, plot
    from flatstream.tools.sampling import SampleReport, sample
    from flatstream.tools.splitting import SplitReport, split

__all__ = [
    "ConvertReport",
    "MergeReport",
    "Plot",
    "SampleReport",
    "SplitReport",
    "convert",
    "merge",
    "plot",
    "sample",
    "split",
]

# Where each name is from. Commands start sooner if they import only what they use.
MODULES = {
    "ConvertReport": "conversion",
    "MergeReport": "merging",
    "Plot": "plotting",
    "SampleReport": "sampling",
    "SplitReport": "splitting",
    "convert": "conversion",
    "merge": "merging",
    "plot": "plotting",
    "sample": "sampling",
    "split": "splitting",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
