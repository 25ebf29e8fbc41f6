"""A base class for context managers, sync and async, that may also be awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any, Self


class Closing(ABC):
    """A context manager, sync or async, that closes at its end; ``await`` returns the object itself."""

    @abstractmethod
    def close(self) -> None:
        """Close it. May be called again."""

    @abstractmethod
    async def aclose(self) -> None:
        """`close`, for coroutines."""

    async def _itself(self) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._itself().__await__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
