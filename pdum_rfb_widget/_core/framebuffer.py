"""What stands on one viewer's canvas: which version, and which of its tiles are lossy since when. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .._frames.damage import TILE, Mask, TileMap, Versions, merge, tiles_under
from ..types import Rect


@dataclass(frozen=True, slots=True)
class Region:
    """A part of one frame that is to be sent: its tiles, and the rectangles that they are merged into."""

    tiles: TileMap
    mask: Mask
    rects: tuple[Rect, ...]
    whole: bool

    @property
    def pixels(self) -> int:
        return sum(width * height for _, _, width, height in self.rects)

    @property
    def stamp(self) -> int:
        """The version in which the region last changed: with the same stamp it looks the same in any frame."""
        under = tiles_under(self.rects, self.tiles.width, self.tiles.height)
        return int(self.tiles.changed[under].max())


def whole(tiles: TileMap) -> Region:
    return Region(tiles, np.ones_like(tiles.changed, np.bool_), ((0, 0, tiles.width, tiles.height),), whole=True)


class ClientFramebuffer:
    """The canvas of one viewer, as it will be once all that was sent is drawn."""

    def __init__(self) -> None:
        self.version = 0
        """Of the newest frame that was sent."""
        self._size = (0, 0)
        # 0 where a tile is exact, else the version of the frame that it came lossy with.
        self._lossy: Versions = np.zeros((0, 0), np.int64)

    @property
    def lossy_tiles(self) -> int:
        return int(np.count_nonzero(self._lossy))

    def behind(self, newest: TileMap, waste: int = 0) -> Region:
        """What has changed in *newest* since, merged as `damage.merge` says."""
        if self._size != (newest.width, newest.height):
            return whole(newest)
        mask, rects = newest.since(self.version, waste)
        return Region(newest, mask, rects, whole=False)

    def drawn(self, region: Region, parts: Iterable[tuple[Rect, bool]]) -> None:
        """The *region* of a frame was sent, as these rectangles, each exactly or not."""
        tiles = region.tiles
        if self._size != (tiles.width, tiles.height):
            self._size = tiles.width, tiles.height
            self._lossy = np.zeros(tiles.changed.shape, np.int64)
        for (x, y, width, height), exact in parts:
            under = np.s_[y // TILE : -(-(y + height) // TILE), x // TILE : -(-(x + width) // TILE)]
            self._lossy[under] = 0 if exact else tiles.version

    def first_lossy(self) -> int | None:
        """The version of the oldest lossy tile; None when the picture is exact."""
        lossy = self._lossy[self._lossy > 0]
        return int(lossy.min()) if lossy.size else None

    def at_rest(self, newest: TileMap, version: int) -> Mask:
        """The lossy tiles that came with *version* or before and are no other in *newest*."""
        if self._size != (newest.width, newest.height):
            return np.zeros((0, 0), np.bool_)
        return (self._lossy > 0) & (self._lossy <= version) & (newest.changed <= self.version)


def piece(tiles: TileMap, mask: Mask, pixels: float, focus: tuple[float, float]) -> Region:
    """Of the tiles of *mask* those nearest to the point *focus*, so many *pixels* of them, or one tile."""
    side = max(TILE, int(math.sqrt(pixels)))
    left = int(pixels)
    chosen: list[Rect] = []
    for rect in sorted(_chunks(merge(mask, tiles.width, tiles.height), side), key=lambda rect: _distance(rect, focus)):
        left -= rect[2] * rect[3]
        if chosen and left < 0:
            break
        chosen.append(rect)
    mask = tiles_under(chosen, tiles.width, tiles.height)
    return Region(tiles, mask, merge(mask, tiles.width, tiles.height), whole=bool(mask.all()))


def _chunks(rects: Iterable[Rect], side: int) -> Iterator[Rect]:
    """The rectangles, cut evenly into chunks of *side* at most: they decode faster than rings around a point would."""
    for x, y, width, height in rects:
        across, down = (-(-size // (-(-size // side) * TILE)) * TILE for size in (width, height))
        for top in range(0, height, down):
            for left in range(0, width, across):
                yield x + left, y + top, min(across, width - left), min(down, height - top)


def _distance(rect: Rect, point: tuple[float, float]) -> float:
    x, y, width, height = rect
    return max(abs(x + width / 2 - point[0]), abs(y + height / 2 - point[1]))
