"""Many files as one table: `flatstream.dataset`."""

__all__: list[str] = []
