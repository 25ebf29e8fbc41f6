"""Delays interrupts of the main thread while they would leave something half done.

Python raises `KeyboardInterrupt` between any two of its instructions: also right after its own classes have acquired a
lock that nothing releases yet, or while importing native code, which can't be imported again.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the half of `signal` that is written in C
import contextlib
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import Any, TypeVar

_T = TypeVar("_T")

# `signal` converts results of its functions to enums: 8 µs per block instead of 1, and each frame has a block.
_get_handler, _set_handler = _signal.getsignal, _signal.signal


class uninterrupted:  # reads well in a with statement
    """A block that delays an interrupt until its end. For short code that never waits.

    Interrupts reach only the main thread: in other threads, and if the program ignores interrupts, this has no effect.
    """

    __slots__ = ("_came", "_handler")

    def __enter__(self) -> None:
        self._came: tuple[int, FrameType | None] | None = None
        self._handler: Callable[[int, FrameType | None], Any] | None = None
        if threading.get_ident() != threading.main_thread().ident:
            return
        handler = _get_handler(signal.SIGINT)
        if callable(handler):
            with contextlib.suppress(ValueError):  # the main thread of a subinterpreter
                _set_handler(signal.SIGINT, self._note)
                self._handler = handler

    def __exit__(self, *exc: object) -> None:
        if self._handler:
            _set_handler(signal.SIGINT, self._handler)
            if self._came:
                self._handler(*self._came)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = number, frame


def wait_for(future: Future[Any], timeout: float | None = None) -> bool:
    """Wait until *future* is done, up to *timeout* seconds; True if it is done. An interrupt ends the wait, and leaves
    no lock held that the thread finishing the future would wait for."""
    done = threading.Lock()
    done.acquire()
    with uninterrupted():
        future.add_done_callback(lambda _: done.release())
    return done.acquire(timeout=-1 if timeout is None else timeout)


def result_of(future: Future[_T], timeout: float | None = None) -> _T:
    """The result of *future*, once it is done. Raises `TimeoutError` after *timeout* seconds."""
    if not wait_for(future, timeout):
        raise TimeoutError(f"not done within {timeout} s")
    return future.result()
