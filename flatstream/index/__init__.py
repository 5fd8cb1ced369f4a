"""The index beside a file: where blocks of frames are, and the range of fields in each."""

__all__: list[str] = []
