class Refusal(Exception): ...

NAMES: dict[int, str]
RANGES: dict[int, str]
