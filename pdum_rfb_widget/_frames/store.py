"""The buffers that published frames are copied into, and the comparison of those that are taken.

`FrameStore.put` only copies, as most frames of a fast publisher are never shown. `FrameStore.hold` finds out what
changed since the frame that was taken before, on the thread that takes it.

A buffer returns to the free list when nobody holds its frame any more, because page faults of a fresh buffer cost
several times the copy itself. It keeps its content: only the rows that may have changed since are copied into it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..types import ColorSpace, Pixels
from .damage import TILE, Mask, TileMap, tiles_that_differ
from .pixels import is_immutable

_SPARE_BUFFERS = 2
_LONGEST_STEP = 24 * 3600 * 1_000_000
"""Most microseconds between two frames by their own times. A clock that jumps further, as from the process's start to
1970, was set: a film would have to show one frame for all the years between."""


@dataclass(slots=True, eq=False)
class Frame:
    """One published frame. The store's lock guards `holders`; the rest never changes once the frame is taken."""

    pixels: Pixels
    tiles: TileMap
    """Before the frame is taken, every tile is new and its version is 0."""
    owned: bool
    number: int
    """Number of the last frame put that it looks like."""
    damage: Mask | None = None
    """Tiles that changed since the frame that was taken before; None if they have to be looked for."""
    holders: int = 0


class FrameStore:
    """The newest frame of a stream, and what changed in it. Every method may be called from any thread."""

    def __init__(self) -> None:
        # Publishers queue at the first lock while they copy, takers at the second while they compare. Nobody who holds
        # the third does either.
        self._putting = threading.Lock()
        self._taking = threading.Lock()
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._taken: Frame | None = None
        self._taken_number = 0
        self._version = 0
        # For each row of tiles, the number of the last frame that may have changed it.
        self._changed_rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        # How far the newest frame's time is ahead of when it was published, and what a `RawFrame` said of it.
        self._lead_us = 0
        self._rendered: tuple[int, int] | None = None
        self._spare: list[Frame] = []
        self.count = 0
        """Number of frames that were put."""
        self.unchanged = 0
        """Number of frames that were taken, but looked like the one taken before."""

    # Publishing -------------------------------------------------------------------------------------------------------

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
    ) -> bool:
        """Makes *pixels* the newest frame; returns False if it is not *still_wanted* once it is copied.

        *damage* names the tiles that differ from the frame before; without it they are looked for when the frame is
        taken. *rendered_us* is a `RawFrame`'s own time.
        """
        with self._putting:
            before, number = self._newest, self.count + 1
            height, width = pixels.shape[:2]
            lead = self._lead(rendered_us, timestamp_us)
            tiles = TileMap.whole(width, height, 0, timestamp_us, pixel_ratio, color, lead)
            if before is None or before.pixels.shape != pixels.shape:
                damage = None
            changed_rows = self._changed_after(damage, tiles, number)
            frame = Frame(self._copy(pixels, changed_rows) if copy else pixels, tiles, owned=copy, number=number)
            with self._lock:
                if not still_wanted():
                    return False
                if (
                    copy and before and self._newest is None
                ):  # cleared meanwhile: its other rows are another publisher's
                    np.copyto(frame.pixels, pixels)
                frame.damage = self._added_up(damage)
                self.count, self._changed_rows, self._lead_us = number, changed_rows, lead
                self._rendered = None if rendered_us is None else (rendered_us, timestamp_us)
                self._newest = self._replace(self._newest, frame)
            return True

    def clear(self) -> None:
        """Forgets the newest frame; the next one's version is higher all the same."""
        with self._taking, self._lock:
            self._newest = self._replace(self._newest, None)
            self._taken = self._replace(self._taken, None)
            self._taken_number = self.count
            self._rendered = None

    def _lead(self, rendered_us: int | None, timestamp_us: int) -> int:
        """Returns the next frame's lead. Two frames in a row with growing times of their own are as far apart as these
        say, up to a day; any other two as far as they were published. The first frame's time is its own."""
        if rendered_us is None:
            return self._lead_us
        before = self._rendered  # once: `clear` may forget it meanwhile
        if before and 0 < rendered_us - before[0] <= _LONGEST_STEP:
            return self._lead_us + (rendered_us - before[0]) - (timestamp_us - before[1])
        return self._lead_us if self.count else rendered_us - timestamp_us

    def _changed_after(self, damage: Mask | None, tiles: TileMap, number: int) -> npt.NDArray[np.int64]:
        """Returns `_changed_rows` as of the frame *number*."""
        if damage is None:
            return np.full(len(tiles.changed), number, np.int64)
        return np.where(damage.any(axis=1), number, self._changed_rows)

    def _copy(self, pixels: Pixels, changed_rows: npt.NDArray[np.int64]) -> Pixels:
        """Returns a buffer that nobody reads, with the content of *pixels*."""
        with self._lock:
            spare = self._spare_for(pixels)
        buffer, number = (spare.pixels, spare.number) if spare else (np.empty(pixels.shape, np.uint8), 0)
        _copy_rows(buffer, pixels, changed_rows > number)
        return buffer

    def _added_up(self, damage: Mask | None) -> Mask | None:
        """Returns the *damage* of the next frame, with that of the newest one if it will not be taken any more."""
        if damage is None or self._newest is self._taken:
            return damage
        skipped = self._newest.damage if self._newest else None
        return None if skipped is None else damage | skipped

    # Taking -----------------------------------------------------------------------------------------------------------

    @property
    def format(self) -> TileMap | None:
        """A map with the newest frame's size, time, pixel ratio and colour, which need no comparison; None while there
        is no frame."""
        newest = self._newest
        return newest.tiles if newest else None

    @property
    def pending(self) -> TileMap | None:
        """`format` while nobody has taken the newest frame, else None."""
        newest = self._newest
        return newest.tiles if newest and newest is not self._taken else None

    def hold(self, *, take: bool = True) -> Frame | None:
        """Returns the newest frame, which stays as it is until `release`; the one taken before if that looks the same,
        or without *take*.

        The two are compared without the GIL, once: whoever comes meanwhile waits for the result.
        """
        if not take:
            with self._lock:
                return self._share(self._taken)
        with self._taking:
            with self._lock:
                frame, before = self._newest, self._taken
                self._share(frame)
                if frame is None or frame is before:
                    return frame
                self._share(before)
            try:
                damage = _difference(before, frame)
            except BaseException:  # an interrupt: whoever comes next compares them
                self.release(frame)
                if before:
                    self.release(before)
                raise
            with self._lock:
                return self._take(before, frame, damage)

    def share(self, frame: Frame) -> Frame:
        """Returns *frame*, which the caller holds, for another holder."""
        with self._lock:
            self._share(frame)
        return frame

    def release(self, frame: Frame) -> None:
        with self._lock:
            self._drop(frame)

    def _take(self, before: Frame | None, frame: Frame, damage: Mask | None) -> Frame:
        """Returns *frame*, or *before* if it looks the same; the other is held no more."""
        skipped, self._taken_number = frame.number - self._taken_number - 1, frame.number
        if before and damage is not None and not damage.any():
            self.unchanged += 1
            before.number = frame.number
            if self._newest is frame:
                self._newest = self._replace(frame, before)
            self._drop(frame)
            return before
        self._version += skipped + 1
        frame.tiles = frame.tiles.taken(self._version, before.tiles if before else None, damage)
        self._taken = self._replace(before, frame)
        if before:
            self._drop(before)
        return frame

    # Buffers, while the lock is held ----------------------------------------------------------------------------------

    def _share(self, frame: Frame | None) -> Frame | None:
        if frame:
            frame.holders += 1
        return frame

    def _replace(self, old: Frame | None, new: Frame | None) -> Frame | None:
        """Returns *new*, which is held where *old* was."""
        self._share(new)
        if old:
            self._drop(old)
        return new

    def _drop(self, frame: Frame) -> None:
        frame.holders -= 1
        if frame.holders == 0 and frame.owned and len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(frame)

    def _spare_for(self, pixels: Pixels) -> Frame | None:
        """Returns the buffer of the shape of *pixels* that holds the newest content of those that nobody reads."""
        while self._spare:
            if (spare := self._spare.pop()).pixels.shape == pixels.shape:
                return spare
        return None


def _difference(before: Frame | None, frame: Frame) -> Mask | None:
    """Returns the tiles in which *frame* differs from the one taken before; None if all have to count as new."""
    if before is None or before.pixels.shape != frame.pixels.shape or before.tiles.meaning != frame.tiles.meaning:
        return None
    if frame.damage is not None:
        return frame.damage
    if np.may_share_memory(before.pixels, frame.pixels) and not is_immutable(frame.pixels):
        return None  # borrowed twice: there is nothing to compare it with
    try:
        return tiles_that_differ(np.ascontiguousarray(before.pixels), np.ascontiguousarray(frame.pixels))
    except MemoryError:
        return None  # nobody may come again to compare them, and the frame may be the last


def _copy_rows(into: Pixels, pixels: Pixels, rows: npt.NDArray[np.bool_]) -> None:
    """Copies these *rows* of tiles."""
    edges = np.flatnonzero(np.diff(rows, prepend=False, append=False)) * TILE
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        np.copyto(into[top:bottom], pixels[top:bottom])
