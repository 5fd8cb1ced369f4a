"""What the command line does, as functions: looking at files, checking, merging and converting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatstream.tools.checking import VerifyReport, verify
    from flatstream.tools.inspection import StreamInfo, info
    from flatstream.tools.repairing import RepairReport, repair

# Each public name, and its module, which is imported on first access: a command imports only what it uses.
MODULES = {
    "RepairReport": "flatstream.tools.repairing",
    "StreamInfo": "flatstream.tools.inspection",
    "VerifyReport": "flatstream.tools.checking",
    "info": "flatstream.tools.inspection",
    "repair": "flatstream.tools.repairing",
    "verify": "flatstream.tools.checking",
}

__all__ = ["RepairReport", "StreamInfo", "VerifyReport", "info", "repair", "verify"]


def __getattr__(name: str) -> Any:
    if name in MODULES:
        import importlib

        return getattr(importlib.import_module(MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
