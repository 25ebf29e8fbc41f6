"""The application's functions, called one after the other: in its own event loop, or on a thread of the display's."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

log = logging.getLogger(__name__)

Function: TypeAlias = Callable[..., Any]
"""May be a coroutine function where it runs in a loop."""


class Callbacks:
    """What one display calls. Any thread may add and call; what is called runs where it was asked to.

    That is the *loop*, unless there is none, or it is closed by now: then the display's thread. At most *most* calls
    wait in either place; beyond that the oldest go. What a function raises is logged, counted, and told to *report*.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None, most: int, report: Callable[[str], object]) -> None:
        self.errors = 0
        """How many calls have raised."""
        self.left_out = 0
        """How many calls never were, since too many waited."""
        self._loop = loop
        self._most = most
        self._report = report
        self._lock = threading.Lock()  # guards what follows
        self._functions: dict[str, list[tuple[Function, bool]]] = {}
        self._in_loop: deque[tuple[Function, tuple[Any, ...]]] = deque()
        self._in_thread: deque[tuple[Function, tuple[Any, ...]]] = deque()
        self._draining: asyncio.Future[None] | None = None
        self._woken = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, kind: str, function: Function, *, thread: bool = False) -> None:
        """Call *function* for every *kind* from now on; with *thread* on the display's own thread.

        Raises `TypeError` for what can't be called, and for a coroutine function that has no loop to run in.
        """
        if not callable(function):
            raise TypeError(f"a callback is a function, not {function!r}")
        if inspect.iscoroutinefunction(function) and (thread or self._loop is None):
            why = "thread=True" if thread else "a display that was served outside any event loop"
            raise TypeError(f"a coroutine function runs in an event loop, and {why} has none: {function!r}")
        with self._lock:
            self._functions.setdefault(kind, []).append((function, thread or self._loop is None))

    def remove(self, function: Function) -> None:
        """Call *function* no more."""
        with self._lock:
            for kind, functions in self._functions.items():
                self._functions[kind] = [entry for entry in functions if entry[0] != function]

    def call(self, kind: str, *arguments: Any) -> None:
        """Have every function of *kind* called with *arguments*, after all that was asked for before."""
        with self._lock:
            functions = self._functions.get(kind)
            if not functions or self._closed:
                return
            for function, thread in functions:
                self._put(function, arguments, thread)

    def close(self) -> None:
        """Call nothing more, and end the thread."""
        with self._lock:
            self._closed = True
            self._in_loop.clear()
            self._in_thread.clear()
            self._woken.notify_all()

    def _put(self, function: Function, arguments: tuple[Any, ...], thread: bool) -> None:
        waiting = self._in_thread if thread else self._in_loop
        if len(waiting) >= self._most:
            waiting.popleft()
            self.left_out += 1
        waiting.append((function, arguments))
        if not thread and len(waiting) == 1 and not self._wake_loop():
            # Its functions were promised that loop; without it, late beats never.
            self._in_thread.extend(waiting)
            waiting.clear()
            thread = True
        if thread:
            self._wake_thread()

    # In the loop ------------------------------------------------------------------------------------------------------

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
            more = bool(self._in_loop)
        if more:
            self._drain()

    async def _run_in_loop(self) -> None:
        while call := self._next(self._in_loop):
            function, arguments = call
            try:
                result = function(*arguments)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
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
                self._woken.wait_for(lambda: self._in_thread or self._closed)
                if self._closed:
                    return
                function, arguments = self._in_thread.popleft()
            try:
                result = function(*arguments)
                if inspect.isawaitable(result):
                    asyncio.run(_finish(result))
            except Exception as error:
                self._failed(function, error)

    def _next(self, waiting: deque[tuple[Function, tuple[Any, ...]]]) -> tuple[Function, tuple[Any, ...]] | None:
        with self._lock:
            return waiting.popleft() if waiting else None

    def _failed(self, function: Function, error: Exception) -> None:
        self.errors += 1
        name = getattr(function, "__qualname__", repr(function))
        log.error("the callback %s failed", name, exc_info=error)
        self._report(f"the callback {name} failed: {type(error).__name__}: {error}")


async def _finish(result: Any) -> None:
    await result
