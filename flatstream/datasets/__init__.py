"""Many files as one table: `flatstream.dataset`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset, TimeRange, dataset
    from flatstream.datasets._parquet import Lost, ParquetReport

__all__ = ["Dataset", "Lost", "ParquetReport", "TimeRange", "dataset"]

_OF_PARQUET = ("Lost", "ParquetReport")


def __getattr__(name: str) -> Any:
    # Imported on first access, because pyarrow is.
    if name in __all__:
        try:
            if name in _OF_PARQUET:
                from flatstream.datasets import _parquet as module
            else:
                from flatstream.datasets import _dataset as module  # type: ignore[no-redef]
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in ("pyarrow", "numpy"):
                raise
            raise ImportError(
                f"flatstream.{name} needs pyarrow and NumPy: pip install 'flatstream[columns]'", name=error.name
            ) from error
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
