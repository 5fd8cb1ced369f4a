from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

def rebuild(cls: type[T], base: type[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> T: ...
