"""What `publish` takes, and the buffers it is copied into.

A stream holds its newest frame; encoders hold the frames they read. A buffer goes back to the free list when nobody
holds its frame any more, because page faults of a fresh buffer cost several times the copy itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .types import Pixels

MAX_SIDE = 16384
"""Pixels on a side: what canvases of today's browsers and the image formats all take."""

_SPARE_BUFFERS = 2


def as_pixels(frame: object) -> Pixels:
    """*frame* as an array that can be encoded, without a copy.

    Takes anything numpy can view: uint8, ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``, 1 to 16384 pixels a side.
    Raises `TypeError` for another dtype and `ValueError` for another shape, naming what came and what is wanted.
    """
    pixels = np.asarray(frame)
    wanted = "wanted is uint8 of shape (H, W), (H, W, 3) or (H, W, 4)"
    if pixels.dtype != np.uint8:
        hint = "; scale floats from 0..1 with (frame * 255).astype('uint8')" if pixels.dtype.kind == "f" else ""
        raise TypeError(f"the frame is {pixels.dtype} of shape {pixels.shape}, {wanted}{hint}")
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(f"the frame has shape {pixels.shape}, {wanted}")
    height, width = pixels.shape[:2]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"the frame is {width}x{height} pixels, wanted are 1 to {MAX_SIDE} on each side")
    return pixels


@dataclass(slots=True, eq=False)
class Frame:
    """One published frame. `holders` belongs to the store's lock; the rest never changes."""

    pixels: Pixels
    version: int
    timestamp_us: int
    owned: bool
    holders: int = 1


class FrameStore:
    """The newest frame of a stream. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._spare: list[Pixels] = []
        self.count = 0
        """How many frames were put."""

    def put(self, pixels: Pixels, timestamp_us: int, *, copy: bool, still_wanted: Callable[[], bool]) -> bool:
        """Make *pixels* the newest frame; False when, after the copy, it is *still_wanted* no more."""
        if copy:
            buffer = self._buffer(pixels.shape)
            np.copyto(buffer, pixels)
            pixels = buffer
        with self._lock:
            if not still_wanted():
                return False
            self.count += 1
            self._replace(Frame(pixels, self.count, timestamp_us, owned=copy))
            return True

    def clear(self) -> None:
        """Forget the newest frame; the next one's version is higher all the same."""
        with self._lock:
            self._replace(None)

    @property
    def version(self) -> int:
        """The newest frame's version, 0 while there is none."""
        newest = self._newest
        return newest.version if newest else 0

    def hold(self) -> Frame | None:
        """The newest frame, which stays as it is until `release`."""
        with self._lock:
            if self._newest:
                self._newest.holders += 1
            return self._newest

    def release(self, frame: Frame) -> None:
        with self._lock:
            self._drop(frame)

    def _replace(self, frame: Frame | None) -> None:
        old, self._newest = self._newest, frame
        if old:
            self._drop(old)

    def _drop(self, frame: Frame) -> None:
        frame.holders -= 1
        if frame.holders == 0 and frame.owned and len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(frame.pixels)

    def _buffer(self, shape: tuple[int, ...]) -> Pixels:
        with self._lock:
            while self._spare:
                if (spare := self._spare.pop()).shape == shape:
                    return spare
        return np.empty(shape, np.uint8)
