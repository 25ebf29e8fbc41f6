"""Realistic moving pictures for tests and the benchmark, rendered beforehand and reproducible."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..types import Pixels
from .extras import extra

FRAMES = 24
"""Number of frames in a loop: 66 MB at 1280x720, 149 MB at 1920x1080."""
SMALLEST = 128, 32
"""Smallest width and height of a frame, in pixels: the benchmark writes a number there."""


@lru_cache(maxsize=4)
def render(pattern: str, width: int, height: int, count: int = FRAMES) -> tuple[Pixels, ...]:
    """A loop of *count* frames of *pattern*, each (height, width, 3), at least `SMALLEST`. The same every time.

    They are cached for later calls, so callers may modify only the stamped numbers. Raises `ValueError` for an unknown
    pattern or a smaller size.
    """
    if pattern not in _PATTERNS:
        raise ValueError(f"a pattern is one of {', '.join(_PATTERNS)}, not {pattern!r}")
    if width < SMALLEST[0] or height < SMALLEST[1]:
        raise ValueError(f"a frame has {SMALLEST[0]}x{SMALLEST[1]} pixels at least, not {width}x{height}")
    return tuple(_PATTERNS[pattern](width, height, count))


def _gradient(width: int, height: int, count: int) -> list[Pixels]:
    """Three moving ramps; needs only numpy."""
    x, y = np.arange(width), np.arange(height)[:, None]
    frames = []
    for shift in 256 * np.arange(count) // count:
        planes = [np.broadcast_to(plane % 256, (height, width)) for plane in (x + shift, y + shift, (x + y) // 2)]
        frames.append(np.stack(planes, axis=-1).astype(np.uint8))
    return frames


def _surface(width: int, height: int, count: int) -> list[Pixels]:
    """Smooth hills on a square, lit from the left, that swing by up to a degree per frame; needs no extra package."""
    w, h = max(2, width // 2), max(2, height // 2)
    across, down = _axis(w, height / width * w / 2), _axis(h, h / 2)[:, None]
    low, up = math.sin(math.radians(50)), math.cos(math.radians(50))
    away = np.broadcast_to(-down / np.float32(low), (h, w))
    frames = []
    for turn in _SWING * count / (2 * math.pi) * np.sin(2 * math.pi * np.arange(count) / count):
        cos, sin = math.cos(turn), math.sin(turn)
        for _ in range(4):  # where the line of sight meets the hills, which never hide each other
            x, y = across * cos - away * sin, across * sin + away * cos
            heights, slope_x, slope_y = _hills(x, y)
            away = (-down - up * heights) / low
        shaded = _lit(heights, slope_x * cos + slope_y * sin, slope_y * cos - slope_x * sin)
        shaded[(abs(x) > 1.2) | (abs(y) > 1.2)] = 20
        frames.append(np.array(Image.fromarray(shaded).resize((width, height), Image.Resampling.BICUBIC)))
    return frames


def _terrain(width: int, height: int, count: int) -> list[Pixels]:
    """Elevations shaded by a light that circles once."""
    heights = _crop(_elevations(), width, height)
    source, cmap = extra("matplotlib.colors").LightSource, extra("matplotlib").colormaps["gist_earth"]
    frames = []
    for azimuth in 360 * np.arange(count) / count:
        shaded = source(azimuth, 45).shade(heights, cmap, blend_mode="soft", vert_exag=0.05, dx=70, dy=90)
        picture = Image.fromarray((255 * shaded[..., :3]).round().astype(np.uint8))
        frames.append(np.array(picture.resize((width, height), Image.Resampling.BICUBIC)))
    return frames


def _plot(width: int, height: int, count: int) -> list[Pixels]:
    """Curves, a grid and labels, drawn by matplotlib and panned sideways."""
    figure = extra("matplotlib.figure").Figure(figsize=(width / 100, height / 100), dpi=100, layout="tight")
    canvas = extra("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    axes = figure.subplots()
    time = np.linspace(0, 20, 2000)
    for step in range(1, 5):
        axes.plot(time, np.sin(step * time) / step + 0.3 * np.cos(5 * time + step), label=f"channel {step}")
    axes.set(title="Four channels", xlabel="time in s", ylabel="amplitude in mV", ylim=(-1.6, 1.6))
    axes.grid(True)
    axes.legend(loc="upper right")
    frames = []
    for start in 10 * np.arange(count) / count:
        axes.set_xlim(start, start + 10)
        canvas.draw()
        frames.append(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:height, :width, :3]))
    return frames


def _points(width: int, height: int, count: int) -> list[Pixels]:
    """The elevations as a cloud of coloured points that rotates once; near points cover far ones."""
    heights = _elevations()
    y, x = np.mgrid[-1 : 1 : heights.shape[0] * 1j, -1 : 1 : heights.shape[1] * 1j]
    scaled = (heights - heights.min()) / np.ptp(heights)
    colors = (extra("matplotlib").colormaps["viridis"](scaled.ravel())[:, :3] * 255).astype(np.uint8)
    size = max(2, math.ceil(width / 640))
    return [
        _splat(*_seen_from(turn, x.ravel(), y.ravel(), scaled.ravel() * 0.4), colors, width, height, size)
        for turn in 2 * math.pi * np.arange(count) / count
    ]


_PATTERNS: dict[str, Callable[[int, int, int], list[Pixels]]] = {
    "gradient": _gradient,
    "surface": _surface,
    "terrain": _terrain,
    "plot": _plot,
    "points": _points,
}
PATTERNS = tuple(_PATTERNS)
CONTENTS = PATTERNS[2:]
"""The patterns made from real data or plots."""


# Hills ----------------------------------------------------------------------------------------------------------------

_Singles: TypeAlias = npt.NDArray[Any]
"""Arrays of float32, which numpy computes twice as fast."""

_SWING = math.radians(1)
"""Radians per frame at the fastest."""
_WAVES = ((5.1, 3.4, 0.3), (2.9, -4.6, 1.1), (-3.7, 2.2, 2.0), (8.3, -1.9, 0.5), (1.2, 7.4, 4.1), (-6.1, -6.6, 3.2))
"""Waves whose sum makes the hills: radians per unit to the right and away, and phase."""
_STEEPNESS = 0.3


def _axis(count: int, half: float) -> _Singles:
    return ((np.arange(count) - (count - 1) / 2) / half).astype(np.float32)


def _hills(x: _Singles, y: _Singles) -> tuple[_Singles, _Singles, _Singles]:
    """Heights, up to 0.3, and their slopes along *x* and *y*."""
    heights, slope_x, slope_y = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for p, q, phase in _WAVES:
        angle, steepness = p * x + q * y + phase, _STEEPNESS / math.hypot(p, q)
        heights += steepness * np.sin(angle)
        along = steepness * np.cos(angle)
        slope_x, slope_y = slope_x + p * along, slope_y + q * along
    return heights, slope_x, slope_y


def _lit(heights: _Singles, slope_right: _Singles, slope_away: _Singles) -> Pixels:
    """Blue valleys and red hilltops, with highlights; (h, w, 3)."""
    facing = (0.4 * slope_right - 0.5 * slope_away + 0.77) / np.sqrt(slope_right**2 + slope_away**2 + 1)
    light, share = np.clip(facing, 0, 1), np.clip(heights / 0.4 + 0.5, 0, 1)
    colors = np.stack([0.25 + 0.6 * share, 0.35 + 0.4 * np.sin(3 * share), 0.75 - 0.5 * share], axis=-1)
    shaded = colors * (0.25 + 0.8 * light[..., None]) + 0.35 * light[..., None] ** 24
    return np.asarray(255 * np.clip(shaded, 0, 1), np.uint8)


# Elevations and points ------------------------------------------------------------------------------------------------

_Floats: TypeAlias = npt.NDArray[np.float64]


def _elevations() -> _Floats:
    """The Jacksboro fault in Tennessee, (344, 403), in metres."""
    path = str(extra("matplotlib.cbook").get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))
    with np.load(path) as data:
        return np.asarray(data["elevation"], float)


def _crop(heights: _Floats, width: int, height: int) -> _Floats:
    """The middle of *heights*, cropped to the proportions of *width* to *height*."""
    rows, columns = heights.shape
    scale = min(columns / width, rows / height)
    h, w = max(2, round(height * scale)), max(2, round(width * scale))
    top, left = (rows - h) // 2, (columns - w) // 2
    return heights[top : top + h, left : left + w]


def _seen_from(turn: float, x: _Floats, y: _Floats, z: _Floats) -> tuple[_Floats, _Floats, _Floats]:
    """Coordinates to the right, down and in depth, about -1.5 to 1.5, seen from 35 degrees above, with the ground
    turned by *turn* radians."""
    along, away = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    low, up = math.sin(math.radians(35)), math.cos(math.radians(35))
    return along, -away * low - z * up, away * up - z * low


def _splat(
    right: _Floats, down: _Floats, depth: _Floats, colors: Pixels, width: int, height: int, size: int
) -> npt.NDArray[Any]:
    order = np.argsort(-depth)
    scale = 0.33 * min(width, height * 1.6)
    column = (width / 2 + scale * right[order]).astype(int)
    row = (height / 2 + scale * down[order]).astype(int)
    inside = (column >= 0) & (column < width - size) & (row >= 0) & (row < height - size)
    corner = (row * width + column)[inside]
    square = np.add.outer(np.arange(size) * width, np.arange(size)).ravel()
    frame = np.full((height * width, 3), (16, 20, 28), np.uint8)
    # Of points on the same pixel the last one wins, and that is the nearest.
    frame[(corner[:, None] + square).ravel()] = np.repeat(colors[order][inside], size * size, axis=0)
    return frame.reshape(height, width, 3)
