"""Threads that work for the hub until the process ends.

The threads of `concurrent.futures` accept no work once the main thread has ended, though other threads still publish,
and one that hangs keeps the process from ending.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakSet

_LAST_WORK = 2.0
"""Seconds that the process waits at its end for the work in progress."""
_T = TypeVar("_T")
_threads: WeakSet[threading.Thread] = WeakSet()


class Workers(Executor):
    """Up to *most* daemon threads, each started when there is work and no thread is free."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards what follows
        self._begun = 0
        self._unfinished = 0
        self._closed = False

    def submit(self, function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Call *function* on a thread. Raises `RuntimeError`, without calling it, after a shutdown, or if no thread can
        start."""
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("these threads were told to end")
            if self._begun < min(self._unfinished + 1, self._most):
                thread = threading.Thread(target=self._work, name=f"{self._name}_{self._begun}", daemon=True)
                thread.start()
                _threads.add(thread)
                self._begun += 1
            self._unfinished += 1
            self._queue.put((future, lambda: function(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the threads once all submitted work is done; *cancel_futures* drops work not yet started. Never waits."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if cancel_futures:
                self._cancel()
            for _ in range(self._begun):
                self._queue.put(None)

    def _cancel(self) -> None:
        try:
            while item := self._queue.get_nowait():
                item[0].cancel()
        except Empty:
            return

    def _work(self) -> None:
        while item := self._queue.get():
            _do(*item)
            del item  # it may refer to large data, and the next work may be long in coming
            with self._lock:
                self._unfinished -= 1


def _do(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except StopIteration as error:  # asyncio's futures refuse it: an awaiting task would wait for ever
        future.set_exception(RuntimeError(f"StopIteration was raised: {error}"))
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def run_apart(function: Callable[..., _T], *args: Any, name: str) -> Future[_T]:
    """Call *function* on a new thread."""
    workers = Workers(1, name)
    future = workers.submit(function, *args)
    workers.shutdown()
    return future


@atexit.register
def _finish() -> None:
    # A thread inside native code while the interpreter shuts down may crash the process.
    deadline = time.monotonic() + _LAST_WORK
    for thread in tuple(_threads):
        thread.join(max(0.0, deadline - time.monotonic()))
