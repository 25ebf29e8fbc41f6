"""A hill-shaded map of real elevation data, drawn with numpy and moved by pointer, wheel and keys.

The data, the Jacksboro fault in Tennessee at 3 arc seconds, ship with matplotlib. `Terrain.render` gives
one picture; `Terrain.handle` takes one input event and says whether a new picture is due. Neither knows
how pictures travel.

Heights become a surface by uniform cubic B-splines, whose slopes are smooth, so no grid shows however close
one looks. The spline is separable: a picture of it is two matrix products, weights @ heights @ weights.T.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib import cbook
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

AZIMUTH = 315.0  # degrees; light from the upper left is what readers of maps expect
ALTITUDE = 40.0  # degrees
EXAGGERATION = 2.0
ALTITUDES = (5.0, 85.0)  # degrees
EXAGGERATIONS = (0.25, 8.0)
ZOOMS = (1.0, 6.0)
NOTCHES_TO_DOUBLE = 3.0  # of a wheel that sends 100 a notch

LEFT, RIGHT, MIDDLE = 1, 2, 3

METRES_PER_DEGREE = 111_195.0  # of latitude, on a sphere of 6371 km
DARK, LIGHT, SUN = (16, 24, 34), (244, 241, 234), (255, 196, 84)  # of the compass
SHADOW = 0.12  # slopes turned away darken a little further: 0 would leave them without form
STRIP = 40  # rows of pixels worked on at once, few enough that their arrays stay in the processor's cache
HUES = (
    (0.00, "#456f6b"),
    (0.12, "#668c79"),
    (0.28, "#9cae83"),
    (0.44, "#cbc294"),
    (0.60, "#d8bd92"),
    (0.76, "#c7a489"),
    (0.89, "#d3c1b4"),
    (1.00, "#f4f0ec"),
)


def light_at(x: float, y: float, width: int, height: int) -> tuple[float, float]:
    """Where the light comes from while the pointer is at x, y.

    The middle of the picture is (width / 2, height / 2). Azimuth is the direction of the pointer seen
    from there, in degrees clockwise from north (up). Altitude falls linearly with its distance, from 85
    degrees in the middle to 5 degrees at half the height and beyond.

    Args:
        x, y: pointer in pixels of the picture, y downwards.
        width, height: size of the picture in pixels.

    Returns:
        (azimuth, altitude) in degrees, 0 <= azimuth <= 360 and 5 <= altitude <= 85.
    """
    east, north = x - width / 2, height / 2 - y
    low, high = ALTITUDES
    reach = min(1.0, math.hypot(east, north) / (height / 2))
    return math.degrees(math.atan2(east, north)) % 360.0, high - (high - low) * reach


class Terrain:
    """A map seen from above, north up.

    Set the attributes freely; `render` brings them into range and draws again only what they change.

    Attributes:
        azimuth: where the light comes from, degrees clockwise from north.
        altitude: how high it stands, 5 to 85 degrees.
        exaggeration: factor on heights in the shading, 0.25 to 8.
        zoom: 1 to 6; at 1 the data fill the picture in one direction and reach beyond it in the other.
        centre: what lies in the middle of the picture, metres (east, north) from the data's south-west corner.
    """

    def __init__(self, width: int = 1280, height: int = 720) -> None:
        """Load the data for pictures of width x height pixels."""
        self.width, self.height = width, height
        heights, self._cell = _load()
        rows, columns = heights.shape
        self.extent: tuple[float, float] = ((columns - 1) * self._cell[0], (rows - 1) * self._cell[1])
        # A spline reads one sample before and two after: padded, it may do so at the very edge too.
        self._heights = np.pad(heights, (1, 2), mode="edge")
        self._hollows = np.pad(_hollows(heights, self._cell), (1, 2), mode="edge")
        self._low, self._high = (float(h) for h in np.percentile(heights, (0.5, 99.8)))

        planes = np.empty((5, height, width), np.float32)
        self._height, self._hollow, self._east, self._north, self._scratch = planes
        self._normal = np.empty((3, height, width), np.float32)  # east, north, up
        self._colour = np.empty((3, height, width), np.float32)  # red, green, blue; 0..255
        self._index = np.empty((height, width), np.intp)
        self._light = np.empty((STRIP, width), np.float32)
        self._mixed = np.empty((STRIP, width), np.float32)
        self._palette = _palette()
        self._drawn_view: object = None
        self._drawn_exaggeration = 0.0
        self._compass = _Compass()
        self._grip: tuple[float, float] | None = None
        self.reset()

    def reset(self) -> None:
        """Go back to the light, the view and the exaggeration of the start."""
        self.azimuth, self.altitude, self.exaggeration = AZIMUTH, ALTITUDE, EXAGGERATION
        self.zoom = ZOOMS[0]
        self.centre = (self.extent[0] / 2, self.extent[1] / 2)

    @property
    def scale(self) -> float:
        """Metres of ground in one pixel."""
        return min(e / n for e, n in zip(self.extent, (self.width, self.height), strict=True)) / self.zoom

    def render(self) -> Bytes:
        """Draw the picture: uint8 (height, width, 3), RGB, a new array that is the caller's to keep."""
        self._bring_into_range()
        view = (self.zoom, self.centre)
        if view != self._drawn_view:
            self._resample()
            self._paint()
            self._tilt()
        elif self.exaggeration != self._drawn_exaggeration:
            self._tilt()
        self._drawn_view, self._drawn_exaggeration = view, self.exaggeration
        picture = np.empty((self.height, self.width, 3), np.uint8)
        self._shade(picture)
        self._compass.stamp(picture, self.azimuth, self.altitude, self.exaggeration)
        return picture

    def handle(self, event: Mapping[str, Any]) -> bool:
        """Take one input event, a mapping with a `type`; True if it changed what `render` draws."""
        before = self._state()
        kind = event["type"]
        if kind in ("pointer_down", "pointer_move", "pointer_up"):
            self._point(event)
        elif kind == "wheel":
            self._zoom_at(event["x"], event["y"], 2.0 ** (-event["dy"] / (100.0 * NOTCHES_TO_DOUBLE)))
        elif kind == "double_click":
            self.reset()
        elif kind == "key_down":
            self._press(event["key"])
        self._bring_into_range()
        return self._state() != before

    def _state(self) -> tuple[object, ...]:
        return self.azimuth, self.altitude, self.exaggeration, self.zoom, self.centre

    def _point(self, event: Mapping[str, Any]) -> None:
        """Left sets the light where the pointer is; right and middle take hold of the ground."""
        kind, x, y = event["type"], event["x"], event["y"]
        # A press and a release name their button; a move tells which ones are held.
        active = set(event["buttons"]) if kind == "pointer_move" else {event["button"]}
        holding = bool(active & {RIGHT, MIDDLE}) and LEFT not in active
        if LEFT in active:
            self.azimuth, self.altitude = light_at(x, y, self.width, self.height)
        elif holding and self._grip is not None and kind != "pointer_down":
            self._pan(x - self._grip[0], y - self._grip[1])
        self._grip = (x, y) if holding and kind != "pointer_up" else None

    def _pan(self, right: float, down: float) -> None:
        """Move the ground by so many pixels."""
        east, north = self.centre
        self.centre = (east - right * self.scale, north + down * self.scale)

    def _zoom_at(self, x: float, y: float, factor: float) -> None:
        """Zoom so that the ground under x, y stays there."""
        right, down = x - self.width / 2, y - self.height / 2
        self._pan(-right, -down)
        self.zoom = _clamp(self.zoom * factor, ZOOMS)
        self._pan(right, down)

    def _press(self, key: str) -> None:
        if key in ("ArrowUp", "+", "="):  # '=' is the key of '+' without shift
            self.exaggeration *= 1.25
        elif key in ("ArrowDown", "-"):
            self.exaggeration /= 1.25
        elif key == "r":
            self.reset()

    def _bring_into_range(self) -> None:
        self.azimuth %= 360.0
        self.altitude = _clamp(self.altitude, ALTITUDES)
        self.exaggeration = _clamp(self.exaggeration, EXAGGERATIONS)
        self.zoom = _clamp(self.zoom, ZOOMS)
        half = (self.width * self.scale / 2, self.height * self.scale / 2)
        east, north = (_clamp(at, (h, max(h, e - h))) for at, h, e in zip(self.centre, half, self.extent, strict=True))
        self.centre = (east, north)

    def _resample(self) -> None:
        """Heights in metres, their slopes towards east and north, and hollows, for every pixel in view."""
        cell_east, cell_north = self._cell
        across = (np.arange(self.width) + 0.5 - self.width / 2) * self.scale + self.centre[0]
        down = (np.arange(self.height) + 0.5 - self.height / 2) * self.scale + self.extent[1] - self.centre[1]
        columns, over, slope = _spline(across / cell_east)
        down /= cell_north
        first = int(down[0])
        heights, hollows = (a[first : int(down[-1]) + 4, columns] for a in (self._heights, self._hollows))
        wide, steep, wide_hollows = heights @ over.T, heights @ (slope / cell_east).T, hollows @ over.T
        for top in range(0, self.height, STRIP):  # in strips, since each needs but a few of the rows
            strip = slice(top, top + STRIP)
            rows, over, slope = _spline(down[strip] - first)
            np.matmul(over, wide[rows], out=self._height[strip])
            np.matmul(over, steep[rows], out=self._east[strip])
            np.matmul(slope / -cell_north, wide[rows], out=self._north[strip])
            np.matmul(over, wide_hollows[rows], out=self._hollow[strip])

    def _paint(self) -> None:
        """The colour of the ground before any light: by height, darker in hollows."""
        steps = self._palette.shape[1] - 1
        np.subtract(self._height, self._low, out=self._scratch)
        np.multiply(self._scratch, steps / (self._high - self._low), out=self._scratch)
        np.copyto(self._index, self._scratch, casting="unsafe")
        for channel, hues in zip(self._colour, self._palette, strict=True):
            np.take(hues, self._index, out=channel, mode="clip")
            np.multiply(channel, self._hollow, out=channel)

    def _tilt(self) -> None:
        """Unit normals of the exaggerated ground."""
        east, north, up = self._normal
        np.multiply(self._east, -self.exaggeration, out=east)
        np.multiply(self._north, -self.exaggeration, out=north)
        np.multiply(east, east, out=up)
        np.add(up, np.multiply(north, north, out=self._scratch), out=up)
        np.add(up, 1.0, out=up)
        np.sqrt(up, out=up)
        np.reciprocal(up, out=up)
        np.multiply(east, up, out=east)
        np.multiply(north, up, out=north)

    def _shade(self, picture: Bytes) -> None:
        """Light the ground: colour * (sky + sun * lit), into picture.

        lit is n = normal . light; where n is negative it is SHADOW * n.
        """
        azimuth, altitude = math.radians(self.azimuth), math.radians(self.altitude)
        flat = math.cos(altitude)
        light = (math.sin(azimuth) * flat, math.cos(azimuth) * flat, math.sin(altitude))
        sky, sun = _daylight(altitude)
        for top in range(0, self.height, STRIP):
            strip = slice(top, min(top + STRIP, self.height))
            lit, mixed = (a[: strip.stop - top] for a in (self._light, self._mixed))
            np.multiply(self._normal[0, strip], light[0], out=lit)
            for normal, part in zip(self._normal[1:, strip], light[1:], strict=True):
                np.add(lit, np.multiply(normal, part, out=mixed), out=lit)
            np.maximum(lit, np.multiply(lit, SHADOW, out=mixed), out=lit)
            for c in range(3):
                np.multiply(lit, sun[c], out=mixed)
                np.add(mixed, sky[c], out=mixed)
                np.multiply(mixed, self._colour[c, strip], out=mixed)
                np.minimum(mixed, 255.0, out=mixed)
                np.copyto(picture[strip, :, c], mixed, casting="unsafe")


class _Compass:
    """A small dial in a corner: the sun stands in it as the pointer stands in the picture."""

    SIZE, RADIUS, MARGIN = 136, 46, 12  # pixels
    FINE = 3  # drawn so much larger, then reduced, for smooth edges

    def __init__(self) -> None:
        self._shown: object = None
        self._image = Image.new("RGBA", (self.SIZE, self.SIZE))
        font = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
        self._font = ImageFont.truetype(font, 12 * self.FINE)

    def stamp(self, picture: Bytes, azimuth: float, altitude: float, exaggeration: float) -> None:
        """Lay the dial over the lower right corner of picture, if it is large enough for it."""
        if min(picture.shape[:2]) < 3 * self.SIZE // 2:
            return
        shown = (azimuth, altitude, exaggeration)
        if shown != self._shown:
            self._image = self._draw(*shown)
            self._shown = shown
        corner = picture[-self.SIZE - self.MARGIN : -self.MARGIN, -self.SIZE - self.MARGIN : -self.MARGIN]
        under = Image.fromarray(corner)
        under.paste(self._image, mask=self._image)
        corner[:] = np.asarray(under)

    def _draw(self, azimuth: float, altitude: float, exaggeration: float) -> Image.Image:
        fine, radius = self.FINE, self.RADIUS * self.FINE
        x, y = self.SIZE * fine / 2, radius + 8 * fine
        low, high = ALTITUDES
        away, towards = radius * (high - altitude) / (high - low), math.radians(azimuth)
        sun = (x + away * math.sin(towards), y - away * math.cos(towards))
        image = Image.new("RGBA", (self.SIZE * fine, self.SIZE * fine), (*DARK, 0))
        draw = ImageDraw.Draw(image)
        draw.circle((x, y), radius + 7 * fine, fill=(*DARK, 125))
        draw.circle((x, y), radius, outline=(*LIGHT, 235), width=4)
        draw.circle((x, y), radius / 2, outline=(*LIGHT, 70), width=2)
        for tick in range(0, 360, 30):
            turn, inner = math.radians(tick), radius - (7 if tick % 90 else 13) * fine / 2
            east, north = math.sin(turn), math.cos(turn)
            ends = [(x + r * east, y - r * north) for r in (inner, radius)]
            draw.line(ends, fill=(*LIGHT, 235), width=5 if tick == 0 else 3)
        draw.line([(x, y), sun], fill=(*SUN, 150), width=4)
        draw.circle(sun, 9 * fine, fill=(*SUN, 70))
        draw.circle(sun, 5 * fine, fill=(*SUN, 255), outline=(255, 250, 235, 255), width=fine)
        text = f"{azimuth:.0f}°  {altitude:.0f}°  ×{exaggeration:.3g}"
        place = (x, y + radius + 19 * fine)
        draw.text(place, text, LIGHT, self._font, "mm", stroke_width=2 * fine, stroke_fill=(*DARK, 150))
        return image.reduce(fine)


def _load() -> tuple[Floats, tuple[float, float]]:
    """Heights in metres, float32 (rows, columns), north first, and the (east, north) size of a cell in metres."""
    path = str(cbook.get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))
    with np.load(path) as data:
        heights: Floats = data["elevation"].astype(np.float32)
        latitude = math.radians(float(data["ymin"] + data["ymax"]) / 2)
        east, north = float(data["dx"]) * math.cos(latitude), float(data["dy"])
    return heights, (METRES_PER_DEGREE * east, METRES_PER_DEGREE * north)


def _hollows(heights: Floats, cell: tuple[float, float]) -> Floats:
    """Brightness by the height over the surroundings: under 1 in hollows, over 1 on ridges."""
    rest = np.zeros_like(heights)
    for spread, tall in ((350.0, 60.0), (1500.0, 220.0)):  # metres
        rows, columns = (_blur(n, spread / c) for n, c in zip(heights.shape, cell[::-1], strict=True))
        around = rows @ heights @ columns.T
        rest += np.tanh((heights - around) / tall)
    rest *= np.where(rest < 0.0, 0.15, 0.09)
    rest += 1.0
    return rest


def _blur(size: int, spread: float) -> Floats:
    """A Gaussian blur as a (size, size) matrix whose rows add up to 1, also at the edges."""
    away = np.subtract.outer(np.arange(size), np.arange(size)) / spread
    weights = np.exp(-0.5 * away * away).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _spline(at: NDArray[np.floating[Any]]) -> tuple[slice, Floats, Floats]:
    """Uniform cubic B-spline through samples padded by one before and two after.

    Args:
        at: ascending positions (n,) in samples; 0 is the first one before padding.

    Returns:
        The slice of the k padded samples in reach, and the weights (n, k) that give values and slopes per sample.
    """
    first = np.floor(at).astype(np.intp)
    t = at - first
    s = 1.0 - t
    values = np.stack((s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3), 1) / 6
    slopes = np.stack((-s * s, 3 * t * t - 4 * t, 4 * s - 3 * s * s, t * t), 1) / 2
    reach = slice(int(first[0]), int(first[-1]) + 4)
    row, column = np.arange(len(at))[:, None], (first - first[0])[:, None] + np.arange(4)
    weights = np.zeros((2, len(at), reach.stop - reach.start), np.float32)
    weights[0, row, column], weights[1, row, column] = values, slopes
    return reach, weights[0], weights[1]


def _palette() -> Floats:
    """Colours from low to high ground, (3, 1024), 0..255."""
    colours = LinearSegmentedColormap.from_list("ground", HUES)(np.linspace(0.0, 1.0, 1024))
    return np.ascontiguousarray(colours[:, :3].T * 255.0, dtype=np.float32)


def _daylight(altitude: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Strength of (sky, sun) in red, green, blue: the lower the sun, the warmer and the bolder."""
    high = min(1.0, math.sin(altitude) / math.sin(math.radians(52.0)))
    strength = 1.68 / (1.0 + 1.5 * math.sin(altitude))
    warm, white = (1.22, 0.93, 0.62), (1.04, 1.0, 0.93)
    sun = tuple(strength * (w + (n - w) * high) for w, n in zip(warm, white, strict=True))
    # No part of sky may fall below SHADOW times the same part of sun, or a slope could be darker than black.
    return (0.31, 0.365, 0.475), sun


def _clamp(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])
