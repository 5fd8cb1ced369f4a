from typing_extensions import disjoint_base

from flatstream._core.records.record_builder import RecordBuilder

NUMBER_NAMES: dict[int, str]
NUMBER_RANGES: dict[int, str]

@disjoint_base
class JsonScanner(RecordBuilder): ...
