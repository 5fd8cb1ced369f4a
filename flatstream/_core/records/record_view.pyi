from collections.abc import Iterator
from typing import Any, Literal, NoReturn, SupportsIndex, final, overload

KIND_NAMES: tuple[str, ...]

@final
class RecordView:
    __hash__: None  # type: ignore[assignment]
    # Always raises, as that of VectorView does.
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    @property
    def __table__(self) -> str: ...
    @property
    def __fields__(self) -> tuple[str, ...]: ...
    def to_dict(
        self,
        *,
        enums: Literal["number", "name"] = "number",
        absent: Literal["default", "null"] = "default",
        max_depth: int | None = None,
        max_tables: int | None = None,
        max_apparent_size: int | None = None,
    ) -> dict[str, Any]: ...
    def to_json(
        self,
        *,
        enums: Literal["name", "number"] = "name",
        defaults: bool = False,
        nonfinite: Literal["string", "null", "bare"] = "string",
        indent: int | None = None,
        max_depth: int | None = None,
        max_tables: int | None = None,
        max_apparent_size: int | None = None,
    ) -> str: ...
    # The type of a field depends on the schema.
    def __getattribute__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: object, /) -> NoReturn: ...
    def __delattr__(self, name: str, /) -> NoReturn: ...
    def __getitem__(self, name: str, /) -> Any: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __dir__(self) -> list[str]: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class VectorView:
    __hash__: None  # type: ignore[assignment]
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Any: ...
    @overload
    def __getitem__(self, index: slice, /) -> VectorView: ...
    def __iter__(self) -> Iterator[Any]: ...
    def to_list(
        self,
        *,
        enums: Literal["number", "name"] = "number",
        absent: Literal["default", "null"] = "default",
        max_depth: int | None = None,
        max_tables: int | None = None,
        max_apparent_size: int | None = None,
    ) -> list[Any]: ...
    def to_json(
        self,
        *,
        enums: Literal["name", "number"] = "name",
        defaults: bool = False,
        nonfinite: Literal["string", "null", "bare"] = "string",
        indent: int | None = None,
        max_depth: int | None = None,
        max_tables: int | None = None,
        max_apparent_size: int | None = None,
    ) -> str: ...
    def to_numpy(self) -> Any: ...
    def __eq__(self, other: object, /) -> bool: ...
