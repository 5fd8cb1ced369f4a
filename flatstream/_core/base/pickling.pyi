from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

_T = TypeVar("_T")

def fail_to_pickle(instance: object) -> NoReturn: ...
def rebuild(cls: type[_T], base: type[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _T: ...
