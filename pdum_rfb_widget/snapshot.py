"""Snapshots: one frame as a picture, for a file, and small enough for a notebook cell."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ._frames.store import Frame
from .encoders.image import encode_png
from .types import Pixels

SHOWN_BYTES = 4_000_000
"""Largest picture that a cell stores: notebooks are saved whole, often, and through the browser."""
_FIRST_SIDE = 1280
_LEAST_SIDE = 16
_SMALLER = 0.7
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One frame as a picture, from `Display.snapshot`. A cell shows it, and the saved notebook contains it."""

    png: bytes
    """The picture as PNG, exact and at full size."""
    width: int
    """Width in pixels."""
    height: int
    pixel_ratio: float
    """Pixels per logical pixel: a cell shows the picture ``width / pixel_ratio`` CSS pixels wide."""
    _shown: tuple[bytes, str] = field(repr=False)

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        data, mime = self._shown
        size = {"width": round(self.width / self.pixel_ratio), "height": round(self.height / self.pixel_ratio)}
        return {mime: base64.b64encode(data).decode(), "text/plain": repr(self)}, {mime: size}

    def __repr__(self) -> str:
        return f"<Snapshot {self.width}x{self.height}, {len(self.png)} bytes of PNG>"


def take(frame: Frame, *, alpha: bool) -> Snapshot:
    """A snapshot of *frame*. A cell stores the PNG, or if that exceeds 4 MB, a JPEG that fits."""
    height, width = frame.pixels.shape[:2]
    png = encode_png(frame.pixels, alpha=alpha)
    if len(png) <= SHOWN_BYTES:
        shown = png, "image/png"
    else:
        shown = shrunk(frame.pixels, SHOWN_BYTES, "jpeg", max(width, height)), "image/jpeg"
    return Snapshot(png, width, height, frame.tiles.pixel_ratio, shown)


def shrunk(pixels: Pixels, most: int, mode: str, side: int = _FIRST_SIDE) -> bytes:
    """A lossy, opaque picture of at most *most* bytes. Its longer side starts at *side* pixels and shrinks until the
    picture fits."""
    whole = _opaque(pixels)
    while True:
        scale = min(1.0, side / max(whole.size))
        size = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
        smaller = whole if size == whole.size else whole.resize(size, Image.Resampling.BOX)
        out = io.BytesIO()
        smaller.save(out, mode, quality=_QUALITY)
        if out.tell() <= most or side <= _LEAST_SIDE:
            return out.getvalue()
        side = int(min(side, max(size)) * _SMALLER)


def _opaque(pixels: Pixels) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        height, width = pixels.shape[:2]
        return Image.frombytes("RGB", (width, height), np.ascontiguousarray(pixels), "raw", "RGBX")
    return Image.fromarray(pixels)
