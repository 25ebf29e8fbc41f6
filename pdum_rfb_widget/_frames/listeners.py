"""Functions that are called for every published frame."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Listeners:
    """Functions to call for every frame; they must not block. Any thread may add and remove them.

    They run on the publisher's thread: the hub's would add a hand-off and merge frames in quick succession.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._functions: tuple[Callable[[], object], ...] = ()

    def __len__(self) -> int:
        return len(self._functions)

    def add(self, function: Callable[[], object]) -> None:
        with self._lock:
            self._functions = (*self._functions, function)

    def remove(self, function: Callable[[], object]) -> None:
        with self._lock:
            self._functions = tuple(other for other in self._functions if other != function)

    def call(self) -> None:
        for function in self._functions:
            function()
