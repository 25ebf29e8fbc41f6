"""Objects that belong to one process, and can be used neither in forks nor in copies.

A fork has its parent's objects but none of its threads: locks that a thread held stay locked, and work queued for a
thread is never done. So every entry point checks the process before it touches a lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, NoReturn, Protocol, TypeVar, overload

_T = TypeVar("_T")


class Own:
    """Remembers the process that created it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        """Number of the process that it belongs to."""

    @property
    def here(self) -> bool:
        """True if the caller runs in that process."""
        return self.pid == os.getpid()

    def check(self) -> None:
        """Raise `RuntimeError` in a fork of that process."""
        if not self.here:
            raise RuntimeError(
                f"the display belongs to process {self.pid}, of which this one ({os.getpid()}) is a fork: nobody here "
                f"sends what is published. Publish in process {self.pid}, or make a display here with serve()"
            )


class _Owned(Protocol):
    @property
    def process(self) -> Own: ...


class Guarded(Generic[_T]):
    """An attribute that can be read only in the process that its object belongs to."""

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owned: None, owner: type[object]) -> Guarded[_T]: ...

    @overload
    def __get__(self, owned: _Owned, owner: type[object]) -> _T: ...

    def __get__(self, owned: _Owned | None, owner: type[object]) -> Guarded[_T] | _T:
        if owned is None:
            return self
        owned.process.check()
        value: _T = owned.__dict__[self._name]
        return value

    def __set__(self, owned: _Owned, value: _T) -> None:
        owned.__dict__[self._name] = value


def in_forks(function: Callable[[], None]) -> Callable[[], None]:
    """Call *function* in every fork of this process, before anything else runs there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


def refuse_to_copy(what: str, instead: str) -> NoReturn:
    """Raise the `TypeError` for an object that can't be copied or pickled, as for another process."""
    raise TypeError(f"a {what} can't be copied or pickled, it is this process's: {instead}")
