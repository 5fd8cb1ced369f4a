"""What the messages of an AsyncFileReader become, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flatstream._core.stream.awaitable import AsyncItems
from flatstream._core.stream.decoder import FIRST_FAILED
from flatstream.errors import FlatStreamError
from flatstream.parser import FrameParser

if TYPE_CHECKING:
    from typing import Self

    from flatstream.aio.files import AsyncFileReader
    from flatstream.aio.reader import _OnError

T = TypeVar("T")

# The steps of a reader ask its parser whether it has stopped at damage. Here the thread finds out.
NEVER_STOPPED = FrameParser()


def as_it_is(error: Any) -> Any:
    return error


class Converted(Generic[T]):
    """An iterator over what becomes of the messages that an AsyncFileReader has.

    Parameters
    ----------
    reader : AsyncFileReader
    choose : callable
        Gives the function that makes an item of a payload, and one that makes a FlatStreamError of what that raises. It
        is called when the description is known.
    refusals : tuple of exception types
        What the first of them raises for a damaged message, with which `on_error` says what to do.
    on_error : str, optional
        By default what the reader does.
    is_other : callable, optional
        Whether a payload is left out.
    """

    def __init__(
        self,
        reader: AsyncFileReader,
        choose: Callable[[], tuple[Callable[[memoryview], T], Callable[[Any], FlatStreamError]]],
        refusals: tuple[type[Exception], ...] = (),
        on_error: _OnError | None = None,
        is_other: Callable[[memoryview], object] | None = None,
    ) -> None:
        self._reader = reader
        self._choose = choose
        self._chosen: tuple[Callable[[memoryview], T], Callable[[Any], FlatStreamError]] | None = None
        self._refusals = refusals
        self._on_error = on_error
        self._mode = reader._reader._mode_of(on_error)
        self._is_other = is_other
        self._has_stopped = False
        if reader._descriptions is not None:
            self._chosen = choose()

    def items(self, limit: int | None = None) -> AsyncIterator[T]:
        return AsyncItems(self, NEVER_STOPPED, self, limit)

    def _more(self) -> Any:
        return None if self._has_stopped else self._reader._more(self._on_error)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        reader = self._reader
        while not self._has_stopped:
            if self._chosen is None and reader._descriptions is not None:
                self._chosen = self._choose()
            payload = next(reader._refilled)
            assert self._chosen is not None
            convert, refused_as = self._chosen
            if self._is_other is not None and self._is_other(payload):
                continue
            try:
                return convert(payload)
            except self._refusals as error:
                made = self._placed(refused_as(error))
                if self._mode == "raise":
                    if made is error:
                        raise
                    raise made from error
                self._refuse(made)
            except FlatStreamError as error:
                self._placed(error)
                raise
        raise StopIteration

    def _placed(self, error: FlatStreamError) -> FlatStreamError:
        if error.offset is None:
            error.offset, error.frame = self._reader.offset, self._reader.number
            if not error.frame:
                error.add_note(FIRST_FAILED)
        return error

    def _refuse(self, error: FlatStreamError) -> None:
        reader, batch = self._reader, self._reader._batch
        assert batch is not None
        i = reader._refilled._given - 1
        if self._mode != "stop":
            reader._reader._leave_out(batch, i)
            return
        self._has_stopped = True
        # The next read begins with this message.
        reader._reader._stop_at(error, batch, i)
        offset = int(batch.frame_offsets[i - 1]) if i else reader._offset_before
        reader._place = (reader.number - 1, offset, reader._place[2])
        reader._batch = None
        reader._refilled._refill(())


class Results(Generic[T]):
    """An asynchronous iterator over the results of a coroutine function, up to None."""

    def __init__(self, take: Callable[[], Coroutine[Any, Any, T | None]]) -> None:
        self._take = take

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._take()
        if item is None:
            raise StopAsyncIteration
        return item


class InThread(Generic[T]):
    """An asynchronous iterator over the items of an iterator that reads in the thread of an AsyncFileReader.

    An item whose ``await`` was cancelled is given by the next.
    """

    def __init__(self, reader: AsyncFileReader, make: Callable[[], Iterator[T]]) -> None:
        self._reader = reader
        self._make = make
        self._items: Iterator[T] | None = None
        self._turn = asyncio.Lock()
        self._future: asyncio.Future[Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        async with self._turn:
            if self._future is None:
                await self._reader._get_turn()
                self._future = self._reader._submit(self._step)
                self._future.add_done_callback(self._reader._moved)
            await asyncio.wait([self._future])
            future, self._future = self._future, None
        item = future.result()[0]
        if item is _END:
            raise StopAsyncIteration
        return item  # type: ignore[no-any-return]

    def _step(self) -> Any:
        # In the thread.
        if self._items is None:
            self._items = self._make()
        return next(self._items, _END)


_END = object()
