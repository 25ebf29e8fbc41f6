"""The threads that encode for all streams; a thread that hangs delays no other stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from .._system.threads import Workers

HUNG_AFTER = 2.0
"""Seconds at one piece of work after which others take over what waits: ten 4K frames in the slowest format."""

_MOST = 16
"""Most threads at work; beyond that no more are added: if so many hang, more threads are no remedy."""


class Pool(Executor):
    """A pool of this many *threads*, and more in place of those that hang. Owned by the hub's loop."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor = Workers(threads, "rfb-encoder")
        self._waiting: dict[Future[Any], Callable[[], object]] = {}
        self._since: dict[int, float] = {}
        """Start time of each piece of work in progress."""
        self._held_up = 0
        self._number = 0

    def submit(self, work: Callable[[], Any], /) -> Future[Any]:  # type: ignore[override]  # no arguments are needed
        """Submits *work*. Raises `RuntimeError` once the pool was shut down."""
        self._number += 1
        future = self._executor.submit(self._run, work, self._number)
        self._waiting[future] = work
        future.add_done_callback(lambda done: self._waiting.pop(done, None))
        return future

    def replace_hung(self) -> None:
        """Moves work that waits for hung threads to other threads."""
        late = time.monotonic() - HUNG_AFTER
        evicted = sum(since <= late for since in tuple(self._since.values()))
        if evicted > self._held_up and len(self._since) < _MOST:
            held_up_ones, self._executor = self._executor, Workers(self._threads, "rfb-encoder")
            for future, work in tuple(self._waiting.items()):
                if future.cancel():
                    self.submit(work)
            held_up_ones.shutdown()
        self._held_up = evicted

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait, cancel_futures=cancel_futures)

    def _run(self, work: Callable[[], object], number: int) -> None:  # on a thread
        self._since[number] = time.monotonic()
        try:
            work()
        finally:
            del self._since[number]
