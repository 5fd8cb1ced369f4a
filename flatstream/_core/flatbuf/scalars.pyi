class RefusalError(Exception): ...

NAMES: dict[int, str]
RANGES: dict[int, str]
