"""Damage tracking: a map of tiles, each with the version of the frame in which it last changed.

A viewer that shows version n needs the tiles that changed after n, however many versions it skipped.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..types import ColorSpace, Pixels, Rect

TILE = 64
"""Pixels on a tile's side; the last in a row or column may be smaller."""

MAX_RECTS = 16
"""Most rectangles that a region is merged into: each costs an encoder and a decoder call, some 50 us on each side."""

_STEPS = (TILE, 8, 1)
"""Steps between the rows of differing stripes that are compared, until all their tiles are known to differ: where
everything moves, one row of each is mostly enough."""
_SLAB_BYTES = 1 << 22
"""Most bytes that are compared by one call of numpy. Each call releases the GIL, and waits up to 5 ms for it while a
cell computes; larger ones write more than caches hold."""

Mask: TypeAlias = npt.NDArray[np.bool_]
Versions: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

# Through ctypes, which releases the GIL; numpy's comparisons write a mask as large as the frame.
_memcmp = (ctypes.CDLL("msvcrt") if sys.platform == "win32" else ctypes.CDLL(None)).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_memcmp.restype = ctypes.c_int


def grid_of(width: int, height: int) -> tuple[int, int]:
    """Returns the rows and columns of tiles in a frame."""
    return -(-height // TILE), -(-width // TILE)


@dataclass(frozen=True, slots=True, eq=False)
class TileMap:
    """A published frame's size, version, time and pixel meaning, and the version in which each tile last changed."""

    width: int
    height: int
    version: int
    timestamp_us: int
    """Time of publishing, in microseconds of `time.monotonic`."""
    changed: Versions
    pixel_ratio: float = 1.0
    """Device pixels for each logical pixel."""
    color: ColorSpace | None = None
    """None is `types.SRGB`."""
    lead_us: int = 0
    """Microseconds by which the clock of the stream's frames, which follows the timestamps of `RawFrame`, is ahead."""
    _since: dict[tuple[int, int], tuple[Mask, tuple[Rect, ...]]] = field(
        default_factory=dict, repr=False
    )  # the hub's thread

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def frame_us(self) -> int:
        """The frame's time on that clock, as viewers and films get it."""
        return self.timestamp_us + self.lead_us

    @classmethod
    def whole(
        cls,
        width: int,
        height: int,
        version: int,
        timestamp_us: int = 0,
        pixel_ratio: float = 1.0,
        color: ColorSpace | None = None,
        lead_us: int = 0,
    ) -> TileMap:
        """Returns the map of a frame in which every tile is new."""
        changed = np.full(grid_of(width, height), version, np.int64)
        return cls(width, height, version, timestamp_us, changed, pixel_ratio, color, lead_us)

    @property
    def meaning(self) -> tuple[float, ColorSpace | None]:
        """The pixel ratio and colour space: frames in which these differ have no tile in common."""
        return self.pixel_ratio, self.color

    def taken(self, version: int, before: TileMap | None = None, mask: Mask | None = None) -> TileMap:
        """Returns the map of the same frame as *version*, which differs from *before* in the tiles of *mask*; without
        a mask in all of them."""
        changed = np.full_like(self.changed, version)
        if before and mask is not None:
            np.copyto(changed, before.changed, where=~mask)
        return replace(self, version=version, changed=changed, _since={})

    def since(self, version: int, waste: int = 0) -> tuple[Mask, tuple[Rect, ...]]:
        """Returns the tiles that changed after *version*, and the rectangles that they are merged into: see `merge`."""
        if (version, waste) not in self._since:
            mask = self.changed > version
            self._since[version, waste] = mask, merge(mask, self.width, self.height, waste)
        return self._since[version, waste]


# Comparing ------------------------------------------------------------------------------------------------------------


def tiles_that_differ(old: Pixels, new: Pixels) -> Mask:
    """Returns the tiles in which two C-contiguous frames of one shape differ."""
    mask = np.zeros(grid_of(old.shape[1], old.shape[0]), np.bool_)
    a, b = _as_words(old), _as_words(new)
    columns = np.arange(0, a.shape[1], TILE * old[0, 0].nbytes // a.itemsize)
    for top, bottom in _slabs(_stripes_that_differ(old, new), max(1, _SLAB_BYTES // (TILE * old[0].nbytes))):
        for step in _STEPS:
            rows = np.s_[top * TILE : bottom * TILE : step]
            difference = _or_rows(a[rows] ^ b[rows], TILE // step)
            mask[top:bottom] = np.bitwise_or.reduceat(difference, columns, axis=1) != 0
            if mask[top:bottom].all():
                break
    return mask


def _stripes_that_differ(old: Pixels, new: Pixels) -> list[int]:
    """Returns the rows of tiles in which the two differ."""
    height, row = old.shape[0], old[0].nbytes
    a, b = old.ctypes.data, new.ctypes.data
    return [
        top // TILE
        for top in range(0, height, TILE)
        if _memcmp(a + top * row, b + top * row, min(TILE, height - top) * row)
    ]


def _slabs(stripes: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Yields the *stripes* as ranges of neighbours, at most *most* in each."""
    top = 0
    for n in range(1, len(stripes) + 1):
        if n == len(stripes) or stripes[n] != stripes[n - 1] + 1 or n - top == most:
            yield stripes[top], stripes[n - 1] + 1
            top = n


def _as_words(pixels: Pixels) -> Words:
    """Returns the rows as the largest words that divide them; a tile is a whole number of words wide."""
    row = pixels[0].nbytes
    return pixels.reshape(len(pixels), row).view(f"u{math.gcd(row, 8)}")


def _or_rows(words: Words, each: int) -> Words:
    """Returns every *each* rows joined by OR; the last may be fewer."""
    full = len(words) // each
    joined: Words = np.bitwise_or.reduce(words[: full * each].reshape(full, each, words.shape[1]), axis=1)
    if len(words) > full * each:
        joined = np.concatenate([joined, np.bitwise_or.reduce(words[full * each :], axis=0, keepdims=True)])
    return joined


def tiles_under(rects: Iterable[Sequence[int]], width: int, height: int) -> Mask:
    """Returns the tiles that the rectangles touch; parts outside the frame are ignored."""
    mask = np.zeros(grid_of(width, height), np.bool_)
    for x, y, w, h in rects:
        left, top, right, bottom = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
        if left < right and top < bottom:
            mask[top // TILE : -(-bottom // TILE), left // TILE : -(-right // TILE)] = True
    return mask


def as_damage(damage: object, width: int, height: int) -> Mask:
    """Returns the tiles under what the publisher names as changed.

    *damage* is a sequence of ``(x, y, width, height)`` in whole pixels; parts outside the frame are ignored.
    Raises `TypeError` for anything else and `ValueError` for a negative size, naming what was given.
    """
    wanted = "damage is a list of (x, y, width, height) in whole pixels"
    try:
        rects = [tuple(rect) for rect in damage]  # type: ignore[attr-defined]
    except TypeError:
        raise TypeError(f"{wanted}, not {damage!r}") from None
    for rect in rects:
        if len(rect) != 4 or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in rect):
            raise TypeError(f"{wanted}, and {rect!r} is none")
        if rect[2] < 0 or rect[3] < 0:
            raise ValueError(f"{wanted}, and {rect!r} has a negative size")
    # As Python's own numbers: small ones of numpy would overflow in a sum.
    return tiles_under([[int(n) for n in rect] for rect in rects], width, height)


# Merging --------------------------------------------------------------------------------------------------------------


def merge(mask: Mask, width: int, height: int, waste: int = 0) -> tuple[Rect, ...]:
    """Returns few rectangles, in pixels, that cover the tiles of *mask*.

    They cover other tiles where they would be too many, and where two become one by no more than *waste* of them.
    """
    boxes = _stack(_runs(mask))
    if len(boxes) > 2 * MAX_RECTS:
        boxes = _bands(boxes)
    while len(boxes) > 1:
        joined = _join_cheapest(boxes)
        if len(boxes) <= MAX_RECTS and sum(map(_area, joined)) - sum(map(_area, boxes)) > waste:
            break
        boxes = joined
    return tuple(_pixels(box, width, height) for box in boxes)


_Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in tiles."""


def _runs(mask: Mask) -> list[_Box]:
    rows, columns = mask.shape
    padded = np.zeros((rows, columns + 2), np.bool_)
    padded[:, 1:-1] = mask
    # Every run ends in the row that it begins in, so beginnings and ends alternate.
    edges = np.flatnonzero(padded[:, 1:] != padded[:, :-1]).tolist()
    places = [divmod(edge, columns + 1) for edge in edges]
    return [(left, top, right, top + 1) for (top, left), (_, right) in zip(places[::2], places[1::2], strict=True)]


def _stack(boxes: list[_Box]) -> list[_Box]:
    """Joins boxes with the same left and right that touch one below the other."""
    open_boxes: dict[tuple[int, int], _Box] = {}
    done: list[_Box] = []
    for left, top, right, bottom in boxes:
        above = open_boxes.pop((left, right), None)
        if above and above[3] == top:
            top = above[1]
        elif above:
            done.append(above)
        open_boxes[left, right] = left, top, right, bottom
    return sorted([*done, *open_boxes.values()], key=lambda box: (box[1], box[0]))


def _bands(boxes: list[_Box]) -> list[_Box]:
    """Joins scattered boxes, in the order of their tops, into few bands: nothing here is worth a search."""
    size = -(-len(boxes) // MAX_RECTS)
    bands = [reduce(_hull, boxes[n : n + size]) for n in range(0, len(boxes), size)]
    return _stack(bands)


def _join_cheapest(boxes: list[_Box]) -> list[_Box]:
    """Joins the two neighbours that waste the fewest tiles, with all boxes in their hull: at least one box fewer."""
    pairs = [(a, b) for n, a in enumerate(boxes) for b in boxes[n + 1 : n + 4]]
    hull = _hull(*min(pairs, key=lambda pair: _area(_hull(*pair)) - _area(pair[0]) - _area(pair[1])))
    rest = [box for box in boxes if _hull(box, hull) != hull]
    return sorted([hull, *rest], key=lambda box: (box[1], box[0]))


def _hull(a: _Box, b: _Box) -> _Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _area(box: _Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _pixels(box: _Box, width: int, height: int) -> Rect:
    x, y = box[0] * TILE, box[1] * TILE
    return x, y, min(box[2] * TILE, width) - x, min(box[3] * TILE, height) - y
