FORMATS: dict[str, tuple[int, str]]
SIGNED: dict[int, tuple[int, str]]
UNSIGNED: dict[int, tuple[int, str]]

class Values:
    def __new__(cls, values: list[object]) -> Values: ...

class Feed: ...

class Whole:
    def __new__(cls, value: object) -> Whole: ...
