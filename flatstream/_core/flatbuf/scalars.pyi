NUMBER_NAMES: dict[int, str]
NUMBER_RANGES: dict[int, str]

class RefusalError(Exception): ...
