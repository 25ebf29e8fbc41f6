"""Calls the application's functions one after another, in its event loop or on a thread of the display."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from .._system.failures import thrown_in

log = logging.getLogger(__name__)

_MOST_BYTES = 8 * 1024 * 1024
"""Most bytes that the arguments of waiting calls may hold."""

Function: TypeAlias = Callable[..., Any]
"""A callback; it may be a coroutine function if it runs in an event loop."""


_Call: TypeAlias = tuple[Function, tuple[Any, ...], int]
"""The function, its arguments, and their size in bytes."""


class _Waiting:
    """A bounded queue of calls, oldest first."""

    def __init__(self, most: int) -> None:
        self.calls: deque[_Call] = deque()
        self._most = most
        self._bytes = 0

    def limit(self, most: int) -> int:
        """Let at most *most* calls wait from now on. Returns how many of the oldest were dropped."""
        self._most = most
        return self._drop(room=0, nbytes=0)

    def put(self, call: _Call) -> int:
        """Queue *call*. Returns how many of the oldest calls were dropped."""
        gone = self._drop(room=1, nbytes=call[2])
        self.calls.append(call)
        self._bytes += call[2]
        return gone

    def _drop(self, room: int, nbytes: int) -> int:
        gone = 0
        while self.calls and (len(self.calls) + room > self._most or self._bytes + nbytes > _MOST_BYTES):
            self.take()
            gone += 1
        return gone

    def take(self) -> _Call | None:
        if not self.calls:
            return None
        self._bytes -= self.calls[0][2]
        return self.calls.popleft()

    def clear(self) -> None:
        self.calls.clear()
        self._bytes = 0


class Callbacks:
    """The callbacks of one display. Any thread may add functions and request calls.

    Functions run in *loop*; if there is none, it is closed, or the function was added with ``thread``, they run on the
    display's thread. At most *most* calls wait in each place, with at most 8 MiB of arguments; beyond that the oldest
    are dropped. An error that a function raises is logged, counted, and passed to *report*.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None, most: int, report: Callable[[str], object]) -> None:
        self.errors = 0
        """Number of calls that raised an error."""
        self.left_out = 0
        """Number of calls dropped because too many waited."""
        self._loop = loop
        self._report = report
        self._lock = threading.Lock()  # guards what follows
        self._functions: dict[str, list[tuple[Function, bool]]] = {}
        self._in_loop, self._in_thread = _Waiting(most), _Waiting(most)
        self._draining: asyncio.Future[None] | None = None
        self._woken = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, kind: str, function: Function, *, thread: bool = False) -> None:
        """Call *function* for every *kind* from now on; with *thread*, on the display's own thread.

        Raises `TypeError` for an object that can't be called, and for a coroutine function without a loop to run in.
        """
        if not callable(function):
            raise TypeError(f"a callback is a function, not {function!r}")
        if inspect.iscoroutinefunction(function) and (thread or self._loop is None):
            why = "thread=True" if thread else "a display that was served outside any event loop"
            raise TypeError(f"a coroutine function runs in an event loop, and {why} has none: {function!r}")
        with self._lock:
            self._functions.setdefault(kind, []).append((function, thread or self._loop is None))

    def remove(self, function: Function) -> None:
        """Stop calling *function*."""
        with self._lock:
            for kind, functions in self._functions.items():
                self._functions[kind] = [entry for entry in functions if entry[0] != function]

    def call(self, kind: str, *arguments: Any, nbytes: int = 0) -> None:
        """Queue a call of every function for *kind* with *arguments*, after all earlier calls. *nbytes* is the memory
        that large arguments take while they wait."""
        with self._lock:
            functions = self._functions.get(kind)
            if not functions or self._closed:
                return
            for function, thread in functions:
                self._put((function, arguments, nbytes), thread)

    def limit(self, most: int) -> None:
        """Let at most *most* calls wait in each place from now on."""
        with self._lock:
            self.left_out += self._in_loop.limit(most) + self._in_thread.limit(most)

    def close(self) -> None:
        """Drop the waiting calls, accept no more, and end the thread."""
        with self._lock:
            self._closed = True
            self._in_loop.clear()
            self._in_thread.clear()
            self._woken.notify_all()

    def _put(self, call: _Call, thread: bool) -> None:
        waiting = self._in_thread if thread else self._in_loop
        self.left_out += waiting.put(call)
        # Calls left over in a closed loop would otherwise hide that nothing takes calls from that queue any more.
        if not thread and (len(waiting.calls) == 1 or self._loop_closed) and not self._wake_loop():
            # The functions were meant for that loop; without it, running late on a thread beats never.
            while lost := waiting.take():
                self._in_thread.put(lost)
            thread = True
        if thread:
            self._wake_thread()

    # In the loop ------------------------------------------------------------------------------------------------------

    @property
    def _loop_closed(self) -> bool:
        return self._loop is not None and self._loop.is_closed()

    def _wake_loop(self) -> bool:
        assert self._loop
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            self._report("the event loop that callbacks ran in was closed: they run on a thread now")
            log.warning("the event loop that callbacks ran in was closed: they run on a thread now")
            self._functions = {
                kind: [(function, True) for function, _ in functions] for kind, functions in self._functions.items()
            }
            return False
        return True

    def _drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._run_in_loop())
            self._draining.add_done_callback(lambda _: self._drained())

    def _drained(self) -> None:
        self._draining = None
        with self._lock:
            more = bool(self._in_loop.calls)
        if more:
            self._drain()

    async def _run_in_loop(self) -> None:
        while call := self._next(self._in_loop):
            function, arguments, _ = call
            try:
                result = function(*arguments)
            except BaseException as error:
                self._failed(function, error)
                continue
            try:
                if inspect.isawaitable(result):
                    await result
            except BaseException as error:
                if thrown_in(error):
                    raise
                self._failed(function, error)

    # On the thread ----------------------------------------------------------------------------------------------------

    def _wake_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run_on_thread, name="rfb-callbacks", daemon=True)
            self._thread.start()
        self._woken.notify_all()

    def _run_on_thread(self) -> None:
        while True:
            with self._lock:
                self._woken.wait_for(lambda: self._in_thread.calls or self._closed)
                if self._closed or not (call := self._in_thread.take()):
                    return
            function, arguments, _ = call
            try:
                result = function(*arguments)
                if inspect.isawaitable(result):
                    asyncio.run(_finish(result))
            except BaseException as error:  # SystemExit too: the thread belongs to all functions of the display
                self._failed(function, error)

    def _next(self, waiting: _Waiting) -> _Call | None:
        with self._lock:
            return waiting.take()

    def _failed(self, function: Function, error: BaseException) -> None:
        self.errors += 1
        name = getattr(function, "__qualname__", repr(function))
        log.error("the callback %s failed", name, exc_info=error)
        self._report(f"the callback {name} failed: {type(error).__name__}: {error}")


async def _finish(result: Any) -> None:
    await result
