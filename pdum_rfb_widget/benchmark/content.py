"""Content of the measurements: realistic moving pictures, rendered beforehand, each stamped with its number."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from .._testing.patterns import FRAMES, render
from ..types import Pixels

Motion: TypeAlias = Literal["full", "region", "patch", "half", "still"]

BLOCK = 16
COLUMNS, ROWS = 8, 2
"""Layout of a number's 16 bits: two rows of eight blocks of 16x16 pixels, lowest bit first."""

_REGION = 200
_PATCH = 400

VIDEO_CONTENT = "surface"
"""The content for video. Not terrain, whose light circles 2.5 times per second, so that a frame doesn't predict the
next: there H.264 takes as many bytes as JPEG of the same PSNR."""


# Numbers --------------------------------------------------------------------------------------------------------------


def stamp(pixels: Pixels, number: int, x: int = 0, y: int = 0) -> None:
    """Write *number*, 0 to 65535, over the 128x32 pixels at *x*, *y*."""
    bits = (number >> np.arange(COLUMNS * ROWS) & 1).astype(np.uint8) * np.uint8(255)
    blocks = bits.reshape(ROWS, COLUMNS).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    pixels[y : y + ROWS * BLOCK, x : x + COLUMNS * BLOCK] = blocks[:, :, None]


def read_stamp(pixels: Pixels, x: int = 0, y: int = 0) -> int:
    """The number stamped at *x*, *y*, read from the middles of its blocks, which survive lossy encoding."""
    area = pixels[y : y + ROWS * BLOCK, x : x + COLUMNS * BLOCK].astype(float)
    blocks = area.reshape(ROWS, BLOCK, COLUMNS, BLOCK, -1)[:, 4:12, :, 4:12].mean(axis=(1, 3, 4))
    return int((blocks > 127).ravel() @ (1 << np.arange(COLUMNS * ROWS)))


# Motions --------------------------------------------------------------------------------------------------------------


class Film:
    """A moving pattern; `frame` returns the frame with any number.

    ``full``: everything moves. ``region``: only 200x200 pixels of the frame move. ``patch``: a pattern of 400x400 moves
    on a picture of any size, and is the same in each. ``half``: only the right half moves. ``still``: nothing moves.
    """

    def __init__(self, pattern: str, motion: Motion, width: int, height: int, count: int = FRAMES) -> None:
        whole = (_PATCH, _PATCH) if motion == "patch" else (width, height)
        self._frames = render(pattern, *whole, count)
        self._motion = motion
        tiled = np.tile(self._frames[0], (-(-height // whole[1]), -(-width // whole[0]), 1))
        self._shown = np.ascontiguousarray(tiled[:height, :width])
        self.region = _moving(motion, width, height)
        """The part that changes between frames: x, y, width, height. Its first pixels hold the number."""

    @property
    def place(self) -> tuple[int, int]:
        """Position of the number."""
        return self.region[:2]

    def frame(self, number: int) -> Pixels:
        """The frame *number*, valid until the next call."""
        x, y, width, height = self.region
        if self._motion == "still":
            return self._shown
        moving = self._frames[number % len(self._frames)]
        if self._motion == "full":
            self._shown = moving
        elif self._motion == "patch":
            self._shown[y : y + height, x : x + width] = moving
        else:
            self._shown[y : y + height, x : x + width] = moving[y : y + height, x : x + width]
        stamp(self._shown, number, x, y)
        return self._shown


def _moving(motion: Motion, width: int, height: int) -> tuple[int, int, int, int]:
    if motion == "half":
        return width // 2, 0, width - width // 2, height
    if motion not in ("region", "patch"):
        return 0, 0, width, height
    side = _PATCH if motion == "patch" else _REGION
    w, h = min(side, width), min(side, height)
    return (width - w) // 2, (height - h) // 2, w, h
