"""Objects that belong to one process, and are neither forked nor copied.

A fork has the objects of its parent and none of the threads: locks that one of those held stay locked, and what is put
anywhere for them is never seen. So every way in asks for the process before it touches a lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, NoReturn, Protocol, TypeVar, overload

_T = TypeVar("_T")


class Own:
    """An object of the process that made it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        """The process that it belongs to."""

    @property
    def here(self) -> bool:
        """This is its process."""
        return self.pid == os.getpid()

    def check(self) -> None:
        """Raise `RuntimeError` in a process that was forked from its own."""
        if not self.here:
            raise RuntimeError(
                f"the display belongs to process {self.pid}, of which this one ({os.getpid()}) is a fork: nobody here "
                f"sends what is published. Publish in process {self.pid}, or make a display here with serve()"
            )


class _Owned(Protocol):
    @property
    def process(self) -> Own: ...


class Guarded(Generic[_T]):
    """An attribute that can be read only in the process of its object."""

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
    """Call *function* in every process that is forked from this one, before anything else runs there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


def refuse_to_copy(what: str, instead: str) -> NoReturn:
    """Raise the `TypeError` of what can be neither copied nor pickled, as for another process."""
    raise TypeError(f"a {what} can't be copied or pickled, it is this process's: {instead}")
