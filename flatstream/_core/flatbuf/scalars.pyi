from collections.abc import Iterable

class RefusalError(Exception): ...

def listed(names: Iterable[str]) -> str: ...

NAMES: dict[int, str]
RANGES: dict[int, str]
