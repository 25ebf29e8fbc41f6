"""Encoding of one region of a frame: large rectangles in stripes, by several threads at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor

from .._frames.damage import TILE
from .._frames.store import Frame
from ..encoders.image import encode_image
from ..types import Encoded, Fidelity, Part, Rect

_STRIPE_PIXELS = 1 << 17
_MAX_STRIPES = 4
"""Most stripes of a rectangle: browsers decode several images at once, and more than four gain nothing."""


def stripes_of(rects: tuple[Rect, ...]) -> list[Rect]:
    """Returns the rectangles, with the large ones cut into stripes of whole tiles."""
    stripes: list[Rect] = []
    for x, y, width, height in rects:
        count = max(1, min(_MAX_STRIPES, round(width * height / _STRIPE_PIXELS)))
        step = -(-height // (count * TILE)) * TILE
        stripes += [(x, y + top, width, min(step, height - top)) for top in range(0, height, step)]
    return stripes


class EncodeJob:
    """One region on its way through the pool's threads; the thread that finishes last calls *done*."""

    def __init__(
        self,
        frame: Frame,
        rects: tuple[Rect, ...],
        fidelity: Fidelity,
        done: Callable[[Encoded | BaseException], None],
    ) -> None:
        self._frame = frame
        self._fidelity = fidelity
        self._done = done
        self._rects = stripes_of(rects) if fidelity.tiles else list(rects)
        self._parts: list[Part | None] = [None] * len(self._rects)
        self._error: BaseException | None = None
        self._lock = threading.Lock()  # guards the two below
        self._taken = self._finished = 0
        self._started = time.perf_counter()

    def start(self, pool: Executor, threads: int) -> None:
        """Submits the work. Raises `RuntimeError` when no thread takes it."""
        pool.submit(self._work)
        with contextlib.suppress(RuntimeError):  # those that have begun do all of it
            for _ in range(min(threads, len(self._rects)) - 1):
                pool.submit(self._work)

    def _work(self) -> None:
        while (number := self._take()) is not None:
            try:
                self._parts[number] = self._encode(self._rects[number])
            except BaseException as error:
                self._error = error
            self._finish()

    def _take(self) -> int | None:
        with self._lock:
            if self._taken == len(self._rects):
                return None
            self._taken += 1
            return self._taken - 1

    def _encode(self, rect: Rect) -> Part:
        x, y, width, height = rect
        data, mime = encode_image(self._frame.pixels[y : y + height, x : x + width], self._fidelity)
        return Part(rect, mime, data, exact=mime == "image/png")

    def _finish(self) -> None:
        with self._lock:
            self._finished += 1
            ended = self._finished == len(self._rects)
        if ended:
            self._done(self._error or self._joined())

    def _joined(self) -> Encoded | BaseException:
        try:
            return self._join()
        except MemoryError as error:
            return error

    def _join(self) -> Encoded:
        parts = tuple(part for part in self._parts if part)
        payload = parts[0].data if len(parts) == 1 else b"".join(part.data for part in parts)
        return Encoded(parts, payload, encode_ms=(time.perf_counter() - self._started) * 1000)
