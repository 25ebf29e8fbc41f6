"""The flag that `wait_ready` waits for, and the one wake-up that announces new frames to the hub's loop.

Threads: every method may be called from any thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

_LONGEST = threading.TIMEOUT_MAX / 2
"""Longest wait for a lock in one call, in seconds."""
_LATE = 0.002
"""Seconds after which the hub's thread comes late to a new frame."""


class Readiness:
    """A flag: a visible viewer can take a frame now."""

    def __init__(self) -> None:
        # A plain lock is acquired and released in C: an interrupt of the publisher's cell can't leave it locked.
        self._lock = threading.Lock()
        self._waiting: set[threading.Lock] = set()
        self._wake_pending = False
        self._woken_at = 0.0
        self._is_late = False
        self._is_wanted = True
        self._is_ready = False
        self._rests_until = 0.0

    def rest(self, seconds: float) -> None:
        """Keeps `wait` from returning for this many *seconds*."""
        self._rests_until = time.monotonic() + seconds

    def announce(self, wake: Callable[[], None]) -> None:
        """Records that a frame was published, and calls *wake* if it is wanted, unless the hub has not come to `awake`
        since the last call."""
        with self._lock:
            self._is_ready = False
            if self._is_wanted and not self._wake_pending:
                # In this order, an interrupt between the two lines costs a needless wake-up, never a missing one.
                wake()
                self._wake_pending, self._woken_at = True, time.monotonic()

    def awake(self) -> None:
        """Records that the hub takes the newest frame now."""
        with self._lock:
            self._wake_pending = False
            self._is_late = time.monotonic() - self._woken_at > _LATE

    @property
    def publisher_takes(self) -> bool:
        """True if a frame is wanted, and the publisher had better find out what changed in it.

        While a cell computes, the hub waits up to 5 ms for the GIL: once for each call that gives it up to compare, and
        of 30 frames a second it would show 20.
        """
        return self._is_wanted and self._is_late

    def update(self, ready: bool, wanted: bool, pending: Callable[[], object]) -> bool:
        """Records whether a viewer is ready for the next frame, and whether a new frame is *wanted* at all.

        Returns True if it is, and one is *pending* already, which may not have been announced.
        """
        if (ready, wanted) == (self._is_ready, self._is_wanted):
            return False  # without the lock: only the hub sets them, and what unsets one is followed by another call
        with self._lock:
            self._is_wanted = wanted
            # While a frame is pending, the sessions don't know yet that there is a new one to send.
            comes = bool(pending())
            self._is_ready = ready and not comes and not self._wake_pending
            if self._is_ready:
                self._wake_all()
        return wanted and comes

    def wait(self, timeout: float | None, given_up: Callable[[], bool]) -> bool:
        """Waits until a viewer is ready; returns False if *timeout* seconds pass or *given_up* returns true."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                now = time.monotonic()
                if given_up():
                    return False
                rests = self._rests_until > now
                if now >= deadline or (self._is_ready and not rests):
                    return self._is_ready
                # One lock per waiting thread instead of a Condition: an interrupt inside a Condition can release a lock
                # that another thread holds by then.
                woken = threading.Lock()
                woken.acquire()
                self._waiting.add(woken)
            try:
                woken.acquire(timeout=min(deadline, self._rests_until if rests else deadline, now + _LONGEST) - now)
            finally:
                self._waiting.discard(woken)

    def wake_waiters(self) -> None:
        """Makes every `wait` check again whether it was given up."""
        with self._lock:
            self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for woken in waiting:
            woken.release()
