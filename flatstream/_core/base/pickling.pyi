from collections.abc import Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")

def rebuild(cls: type[_T], base: type[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _T: ...
