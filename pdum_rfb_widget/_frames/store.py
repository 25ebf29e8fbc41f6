"""The buffers that published frames are copied into.

A stream holds its newest frame; encoders hold the frames they read. A buffer returns to the free list when nobody
holds its frame any more, because page faults of a fresh buffer cost several times the copy itself. It keeps its
content: only the rows that changed since are copied into it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ..types import ColorSpace, Pixels
from .damage import TILE, Mask, TileMap, stripes_that_differ, tiles_that_differ

_SPARE_BUFFERS = 2
_LONGEST_STEP = 24 * 3600 * 1_000_000
"""Most microseconds between two frames by their own times. A clock that jumps further, as from the process's start to
1970, was set: a film would have to show one frame for all the years between."""


@dataclass(slots=True, eq=False)
class Frame:
    """One published frame. `holders` is guarded by the store's lock; the rest never changes."""

    pixels: Pixels
    tiles: TileMap
    owned: bool
    holders: int = 1


class Outcome(Enum):
    """The result of `FrameStore.put`."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class FrameStore:
    """The newest frame of a stream, and what changed in it. Every method may be called from any thread."""

    def __init__(self) -> None:
        # Publishers queue at the first lock while they compare and copy; the hub only ever takes the second.
        self._putting = threading.Lock()
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._version = 0
        # How far the newest frame's time is ahead of when it was published, and what a `RawFrame` said of it.
        self._lead_us = 0
        self._rendered: tuple[int, int] | None = None
        self._spare: list[Frame] = []
        self.count = 0
        """Number of frames that were put."""

    def put(
        self,
        pixels: Pixels,
        timestamp_us: int,
        *,
        copy: bool,
        damage: Mask | None,
        still_wanted: Callable[[], bool],
        pixel_ratio: float = 1.0,
        color: ColorSpace | None = None,
        rendered_us: int | None = None,
    ) -> Outcome:
        """Makes *pixels* the newest frame, unless it is the same image, or not *still_wanted* once it is copied.

        *damage* names the tiles that differ from the frame before; without it they are looked for. With another
        *pixel_ratio* or *color* than before no tile is the same. *rendered_us* is a `RawFrame`'s own time.
        """
        with self._putting:
            newest, spare = self._newest, None
            if copy and not pixels.flags.c_contiguous:
                spare = self._spare_for(pixels)
                np.copyto(spare.pixels, pixels)
                pixels = spare.pixels
            height, width = pixels.shape[:2]
            lead = self._lead(rendered_us, timestamp_us)
            whole = TileMap.whole(width, height, self._version + 1, timestamp_us, pixel_ratio, color, lead)
            tiles = self._compare(newest, pixels, damage, whole)
            if copy and tiles and spare is None:
                spare = self._spare_for(pixels)
                _copy_newer(spare, pixels, tiles)
            with self._lock:
                if not still_wanted():
                    return Outcome.REFUSED
                self.count += 1
                if tiles is None:
                    if spare and newest:
                        spare.tiles = newest.tiles  # it was filled with the same
                        self._spare.append(spare)
                    return Outcome.UNCHANGED
                self._version, self._lead_us = tiles.version, lead
                self._rendered = None if rendered_us is None else (rendered_us, timestamp_us)
                self._replace(Frame(spare.pixels if spare else pixels, tiles, owned=copy))
            return Outcome.STORED

    def clear(self) -> None:
        """Forgets the newest frame; the next one's version is higher all the same."""
        with self._lock:
            self._replace(None)
            self._rendered = None

    @property
    def newest(self) -> TileMap | None:
        """The newest frame's map, None while there is no frame."""
        newest = self._newest
        return newest.tiles if newest else None

    def hold(self) -> Frame | None:
        """Returns the newest frame, which stays as it is until `release`."""
        with self._lock:
            if self._newest:
                self._newest.holders += 1
            return self._newest

    def share(self, frame: Frame) -> Frame:
        """Returns *frame*, which the caller holds, for another holder."""
        with self._lock:
            frame.holders += 1
        return frame

    def release(self, frame: Frame) -> None:
        with self._lock:
            self._drop(frame)

    def _lead(self, rendered_us: int | None, timestamp_us: int) -> int:
        """Returns the next frame's lead. Two frames in a row with growing times of their own are as far apart as these
        say, up to a day; any other two as far as they were published. The first frame's time is its own."""
        if rendered_us is None:
            return self._lead_us
        before = self._rendered  # once: the hub's thread may forget it meanwhile
        if before and 0 < rendered_us - before[0] <= _LONGEST_STEP:
            return self._lead_us + (rendered_us - before[0]) - (timestamp_us - before[1])
        return self._lead_us if self._version else rendered_us - timestamp_us

    def _compare(self, newest: Frame | None, pixels: Pixels, damage: Mask | None, whole: TileMap) -> TileMap | None:
        """Returns the map of the frame after *newest*: *whole* if no tile is kept, None when it is the same image."""
        if newest is None or newest.pixels.shape != pixels.shape:
            return whole
        if (newest.tiles.pixel_ratio, newest.tiles.color) != (whole.pixel_ratio, whole.color):
            return whole
        if damage is None:
            if np.may_share_memory(newest.pixels, pixels):  # borrowed twice: there is nothing to compare it with
                return whole
            old, new = np.ascontiguousarray(newest.pixels), np.ascontiguousarray(pixels)
            stripes = stripes_that_differ(old, new)
            damage = tiles_that_differ(old, new, stripes)
        return newest.tiles.after(damage, whole.timestamp_us, whole.lead_us) if damage.any() else None

    def _replace(self, frame: Frame | None) -> None:
        old, self._newest = self._newest, frame
        if old:
            self._drop(old)

    def _drop(self, frame: Frame) -> None:
        frame.holders -= 1
        if frame.holders == 0 and frame.owned and len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(frame)

    def _spare_for(self, pixels: Pixels) -> Frame:
        """Returns a buffer of the shape of *pixels*, with its content: the most recent one that nobody reads."""
        with self._lock:
            while self._spare:
                if (spare := self._spare.pop()).pixels.shape == pixels.shape:
                    return spare
        height, width = pixels.shape[:2]
        return Frame(np.empty(pixels.shape, np.uint8), TileMap.whole(width, height, 0), owned=True)


def _copy_newer(spare: Frame, pixels: Pixels, tiles: TileMap) -> None:
    """Copies *pixels* into the spare buffer, except the stripes that have not changed since it was the newest."""
    stale = tiles.changed.max(axis=1) > spare.tiles.version
    edges = np.flatnonzero(np.diff(stale, prepend=False, append=False)) * TILE
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        np.copyto(spare.pixels[top:bottom], pixels[top:bottom])
