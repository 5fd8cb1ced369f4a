"""What the command line does, as functions: looking at files, checking, indexing, merging and converting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatstream.tools.checking import VerifyReport, verify
    from flatstream.tools.conversion import ConvertReport, convert
    from flatstream.tools.indexing import IndexCheck, IndexCheckReport, IndexingReport, LeftOut, check_index, index
    from flatstream.tools.inspection import StreamInfo, info
    from flatstream.tools.merging import MergeReport, merge
    from flatstream.tools.plotting import Plot, plot
    from flatstream.tools.repairing import RepairReport, repair
    from flatstream.tools.sampling import SampleReport, sample
    from flatstream.tools.splitting import SplitReport, split

# Each public name, and its module, which is imported on first access: a command imports only what it uses.
MODULES = {
    "ConvertReport": "flatstream.tools.conversion",
    "IndexCheck": "flatstream.tools.indexing",
    "IndexCheckReport": "flatstream.tools.indexing",
    "IndexingReport": "flatstream.tools.indexing",
    "LeftOut": "flatstream.tools.indexing",
    "MergeReport": "flatstream.tools.merging",
    "Plot": "flatstream.tools.plotting",
    "RepairReport": "flatstream.tools.repairing",
    "SampleReport": "flatstream.tools.sampling",
    "SplitReport": "flatstream.tools.splitting",
    "StreamInfo": "flatstream.tools.inspection",
    "VerifyReport": "flatstream.tools.checking",
    "check_index": "flatstream.tools.indexing",
    "convert": "flatstream.tools.conversion",
    "index": "flatstream.tools.indexing",
    "info": "flatstream.tools.inspection",
    "merge": "flatstream.tools.merging",
    "plot": "flatstream.tools.plotting",
    "repair": "flatstream.tools.repairing",
    "sample": "flatstream.tools.sampling",
    "split": "flatstream.tools.splitting",
    "verify": "flatstream.tools.checking",
}

__all__ = [
    "ConvertReport",
    "IndexCheck",
    "IndexCheckReport",
    "IndexingReport",
    "LeftOut",
    "MergeReport",
    "Plot",
    "RepairReport",
    "SampleReport",
    "SplitReport",
    "StreamInfo",
    "VerifyReport",
    "check_index",
    "convert",
    "index",
    "info",
    "merge",
    "plot",
    "repair",
    "sample",
    "split",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in MODULES:
        import importlib

        return getattr(importlib.import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
