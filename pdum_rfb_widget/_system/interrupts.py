"""Interrupts of the main thread, kept out of the moments in which they would leave something half done.

Python raises `KeyboardInterrupt` between any two of its instructions: also where a lock of its own classes was just
taken and nothing gives it back yet, or in the middle of importing native code, which can't be imported again.
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

# `signal` makes enums of what its own functions return: 8 µs a block in place of 1, and each frame has a block.
_get_handler, _set_handler = _signal.getsignal, _signal.signal


class uninterrupted:  # it reads as what it does
    """A block that an interrupt does not break off: it comes at the block's end. For what is short and never waits.

    Only the main thread is interrupted; elsewhere, and where the program does not raise on interrupts, this does
    nothing.
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
    """Wait until *future* is done, up to *timeout* seconds; whether it is. An interrupt ends the waiting, and leaves no
    lock behind that who finishes the future would wait for."""
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
