"""The pictures that encoders take: colours, pixel formats and padding, by PyAV.

PyAV is imported when the first is needed: the package works without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from .._frames.pixels import raw_pixels
from .._system.interrupts import uninterrupted
from ..types import SRGB, Chroma, ColorSpace, PixelFormat, Pixels, RawFrame

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_SOURCES: dict[PixelFormat, str] = {"gray8": "gray", "rgb24": "rgb24", "rgba8": "rgba", "bgra8": "bgra"}
"""PyAV's name of each pixel format."""
_PIXEL_FORMATS: dict[Chroma, str] = {"420": "yuv420p", "444": "yuv444p", "rgb": "rgb24"}

_PRIMARIES = {"bt709": 1, "bt470bg": 5, "smpte170m": 6, "bt2020": 9, "smpte432": 12}
_TRANSFERS = {"bt709": 1, "smpte170m": 6, "linear": 8, "srgb": 13, "pq": 16, "hlg": 18}
_RGB_MATRIX, _BT601_MATRIX = 0, 6
_LIMITED, _FULL = 1, 2
"""Code points of ITU-T H.273; the ranges are FFmpeg's."""
_SWS_BT601 = 5


def import_av() -> Any:
    """Returns the module of PyAV. Raises `ImportError` that says which extra to install."""
    try:
        with uninterrupted():  # half imported it can't be imported again, and crashes
            return import_module("av")
    except ImportError as error:
        hint = "video needs PyAV, which isn't installed: pip install 'pdum-rfb-widget[h264]'"
        raise ImportError(hint, name="av") from error


def color_tags(color: ColorSpace | None, chroma: Chroma = "420") -> tuple[int, int, int, int]:
    """Returns a stream's tags: primaries, transfer, matrix and range in FFmpeg's code points; None is `SRGB`.

    The matrix is BT.601 of limited range for ``420`` and ``444``: tagged so, with primaries and transfer, Chromium 156
    and Firefox 153 show flat patches within 2 of 255; untagged they are up to 39 off, and Firefox takes full range for
    limited. ``rgb`` is RGB of full range.
    """
    color = color or SRGB
    matrix, span = (_RGB_MATRIX, _FULL) if chroma == "rgb" else (_BT601_MATRIX, _LIMITED)
    return _PRIMARIES[color.primaries], _TRANSFERS[color.transfer], matrix, span


class PictureConverter:
    """Converts frames of *width* x *height* pixels to PyAV's pictures of *chroma*, whose sides are even and have at
    least *smallest* pixels."""

    def __init__(self, width: int, height: int, chroma: Chroma, smallest: int) -> None:
        self._size = width, height
        self._padded_size = _padded(height, smallest), _padded(width, smallest)
        self._chroma = chroma
        self._reformatter = import_av().video.reformatter.VideoReformatter()
        self._padded: Pixels | None = None

    def convert(self, frame: RawFrame, threads: int) -> VideoFrame:
        """Returns *frame* as a picture, without a copy where it has the wanted format, packed rows and size. Raises
        `ValueError` for a frame of another size, and what `raw_pixels` raises."""
        if (frame.width, frame.height) != self._size:
            came, wanted = (f"{width}x{height}" for width, height in ((frame.width, frame.height), self._size))
            raise ValueError(f"the frame is {came} pixels, the encoder is for {wanted}")
        picture = picture_of(self._pad(raw_pixels(frame)), _SOURCES[frame.pixel_format])
        wanted = _PIXEL_FORMATS[self._chroma]
        if picture.format.name == wanted:
            return picture
        converted: VideoFrame = self._reformatter.reformat(
            picture,
            format=wanted,
            dst_colorspace=_SWS_BT601,
            dst_color_range=_FULL if self._chroma == "rgb" else _LIMITED,
            # It takes as long as PyAV's default, and chroma of 4:2:0 is up to 0.9 dB better.
            interpolation="AREA",
            threads=threads,
        )
        return converted

    def _pad(self, pixels: Pixels) -> Pixels:
        """Returns *pixels*, or a copy that repeats the last column and row as often as the codec needs."""
        height, width = pixels.shape[:2]
        wanted = (*self._padded_size, *pixels.shape[2:])
        if wanted == pixels.shape:
            return pixels
        if self._padded is None or self._padded.shape != wanted:
            self._padded = np.empty(wanted, np.uint8)
        padded = self._padded
        padded[:height, :width] = pixels
        padded[:height, width:] = padded[:height, width - 1 : width]
        padded[height:] = padded[height - 1]
        return padded


def picture_of(pixels: Pixels, source: str) -> VideoFrame:
    """Returns *pixels*, of even width and height, in PyAV's format *source*: uncopied where rows are packed."""
    if not _rows_are_packed(pixels):
        pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    # PyAV has been seen to end the process on odd sizes; all frames pass here.
    assert width % 2 == height % 2 == 0
    picture: VideoFrame = import_av().video.frame.VideoFrame.from_numpy_buffer(pixels, format=source)
    return picture


def _padded(side: int, smallest: int) -> int:
    return max(side + side % 2, smallest)


def _rows_are_packed(pixels: Pixels) -> bool:
    row, *inner = pixels.strides
    width, *channels = pixels.shape[1:]
    length = width * (channels[0] if channels else 1)
    return inner == ([channels[0], 1] if channels else [1]) and row >= length
