"""A model of one viewer's canvas: its version, and which tiles are lossy since which version. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._frames.damage import TILE, Mask, TileMap, Versions, merge, tiles_under
from ..types import Rect


@dataclass(frozen=True)
class Region:
    """The part of one frame to send: its tiles, and the rectangles that they are merged into."""

    tiles: TileMap
    mask: Mask
    rects: tuple[Rect, ...]
    whole: bool

    @cached_property
    def pixels(self) -> int:
        return sum(width * height for _, _, width, height in self.rects)

    @cached_property
    def stamp(self) -> int:
        """Version in which the region last changed; two frames with the same stamp look the same there."""
        under = tiles_under(self.rects, self.tiles.width, self.tiles.height)
        return int(self.tiles.changed[under].max())


def whole(tiles: TileMap) -> Region:
    return Region(tiles, np.ones_like(tiles.changed, np.bool_), ((0, 0, tiles.width, tiles.height),), whole=True)


class Regions:
    """The regions of the newest frame, each made once for all viewers that lack the same."""

    def __init__(self) -> None:
        self._newest: TileMap | None = None
        self._made: dict[tuple[int, int], Region] = {}

    def since(self, newest: TileMap, version: int, waste: int) -> Region:
        """Returns the region that changed in *newest* after *version*, merged as `damage.merge` does."""
        if newest is not self._newest:
            self._newest, self._made = newest, {}
        if (region := self._made.get((version, waste))) is None:
            mask, rects = newest.since(version, waste)
            region = self._made[version, waste] = Region(newest, mask, rects, whole=False)
        return region


class ClientFramebuffer:
    """The canvas of one viewer, as it will look once everything that was sent is drawn."""

    def __init__(self, regions: Regions | None = None) -> None:
        self._regions = regions or Regions()
        self.version = 0
        """Version of the newest frame that was sent."""
        self.lost = False
        """True if nothing that was drawn counts any more, and a whole frame has to be sent."""
        self._size = (0, 0)
        # 0 where a tile is exact, else the version of the frame that it was sent lossy with.
        self._lossy: Versions = np.zeros((0, 0), np.int64)
        self._first: int | None = None
        """The oldest of these versions; None if all are exact."""
        self._first_known = True

    @property
    def lossy_tiles(self) -> int:
        return int(np.count_nonzero(self._lossy))

    def behind(self, newest: TileMap, waste: int = 0) -> Region:
        """Returns the region that changed in *newest* since `version`, merged as `damage.merge` does."""
        if self.lost or self._size != newest.size:
            return whole(newest)
        return self._regions.since(newest, self.version, waste)

    def drawn(self, region: Region, parts: Sequence[tuple[Rect, bool]]) -> None:
        """Records that the *region* of a frame was sent as *parts*: each a rectangle, and True if it is exact."""
        tiles = region.tiles
        if self._size != tiles.size:
            self._size = tiles.size
            self._lossy = np.zeros(tiles.changed.shape, np.int64)
        area = sum([width * height for (_, _, width, height), _ in parts])
        exactness = {exact for _, exact in parts}
        self._first_known = len(exactness) == 1 and area == tiles.width * tiles.height  # parts do not overlap
        if self._first_known:
            self._first = None if True in exactness else tiles.version
            self._lossy.fill(self._first or 0)
            return
        for (x, y, width, height), exact in parts:
            under = np.s_[y // TILE : -(-(y + height) // TILE), x // TILE : -(-(x + width) // TILE)]
            self._lossy[under] = 0 if exact else tiles.version

    def advance(self, region: Region) -> int:
        """Records that the *region* belongs to a new frame; returns how many frames the viewer skipped before it."""
        version, shown = region.tiles.version, self.version
        # A keyframe may be older than the images that a viewer got while it waited.
        self.version = max(version, shown)
        if region.whole:
            self.lost = False
        return max(0, version - shown - 1) if shown else 0

    def first_lossy(self) -> int | None:
        """Returns the version of the oldest lossy tile; None when the canvas is exact."""
        if not self._first_known:
            lossy = self._lossy[self._lossy > 0]
            self._first, self._first_known = int(lossy.min()) if lossy.size else None, True
        return self._first

    def at_rest(self, newest: TileMap, version: int) -> Mask:
        """Returns the lossy tiles that were sent with *version* or earlier and have not changed in *newest*."""
        if self._size != (newest.width, newest.height):
            return np.zeros((0, 0), np.bool_)
        return (self._lossy > 0) & (self._lossy <= version) & (newest.changed <= self.version)


def piece(tiles: TileMap, mask: Mask, pixels: float, focus: tuple[float, float]) -> Region:
    """Returns the tiles of *mask* nearest to the point *focus*, up to this many *pixels*, but at least one tile."""
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
    """Yields the rectangles cut evenly into chunks of at most *side*: these decode faster than rings around a point."""
    for x, y, width, height in rects:
        across, down = (-(-size // (-(-size // side) * TILE)) * TILE for size in (width, height))
        for top in range(0, height, down):
            for left in range(0, width, across):
                yield x + left, y + top, min(across, width - left), min(down, height - top)


def _distance(rect: Rect, point: tuple[float, float]) -> float:
    x, y, width, height = rect
    return max(abs(x + width / 2 - point[0]), abs(y + height / 2 - point[1]))
