"""Images: JPEG, PNG and WebP. Every function may run in any thread, and releases the GIL except in Pillow."""

from __future__ import annotations

import io
import struct
import threading
from typing import get_args

import numpy as np
from isal import isal_zlib
from PIL import Image

from .._frames.pixels import raw_pixels
from ..types import EncodedPayload, Fidelity, ImageMode, Pixels, RawFrame, check_int

try:
    import simplejpeg
except ImportError:  # no wheel for this platform: Pillow serves, at twice the time and with the GIL held
    simplejpeg = None


_WEBP_MAX_SIDE = 16383
_PROBED_ROWS = 16
_SCRATCH_KEPT = 1 << 20
"""Bytes that a thread's buffer may keep though less is needed."""


class ImageEncoder:
    """Encodes whole frames as images, each a keyframe: the image side of the encoders' protocol.

    *mode* is ``jpeg``, ``webp`` or ``png``, *quality* 1 to 100. Raises `ValueError` for others.
    """

    def __init__(self, *, mode: ImageMode = "jpeg", quality: int = 80) -> None:
        if mode not in get_args(ImageMode):
            raise ValueError(f"mode is one of {', '.join(get_args(ImageMode))}, not {mode!r}")
        quality = check_int("quality", quality, 1, 100)
        self._fidelity = Fidelity(f"image/{mode}", None if mode == "png" else quality, tiles=False)
        self._still = Fidelity("image/png", None, tiles=False)

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        """Returns one payload."""
        return [self._payload(frame, self._fidelity)]

    def encode_still(self, frame: RawFrame) -> list[EncodedPayload]:
        """Returns the frame as PNG, exact."""
        return [self._payload(frame, self._still)]

    def flush(self) -> list[EncodedPayload]:
        """Returns nothing: no frame is held back."""
        return []

    def close(self) -> None:
        """Does nothing: it holds no resources."""

    def _payload(self, frame: RawFrame, fidelity: Fidelity) -> EncodedPayload:
        pixels = raw_pixels(frame)
        if frame.pixel_format == "bgra8":
            pixels = pixels[..., 2::-1]
        data, mime = encode_image(pixels, fidelity)
        return EncodedPayload(
            seq=frame.seq,
            kind="image",
            timestamp_us=frame.timestamp_us,
            payload=data,
            width=frame.width,
            height=frame.height,
            mime=mime,
            keyframe=True,
            pixel_ratio=frame.pixel_ratio,
            color=frame.color,
        )


def encode_image(pixels: Pixels, fidelity: Fidelity) -> tuple[bytes, str]:
    """Encodes *pixels* as *fidelity* says; returns data and mime type. Without ``alpha``, RGBA loses its alpha channel.

    An image that is too large for WebP becomes a JPEG.
    """
    if fidelity.quality is None:
        return encode_png(pixels, alpha=fidelity.alpha), fidelity.mime
    drawn = looks_drawn(pixels)
    if drawn and fidelity.or_exact and fidelity.mime == "image/jpeg" and _png_is_no_larger(pixels, fidelity.quality):
        return encode_png(pixels), fidelity.or_exact
    if fidelity.mime == "image/webp" and max(pixels.shape[:2]) <= _WEBP_MAX_SIDE:
        return _encode_by_pillow(pixels, "WEBP", quality=fidelity.quality, method=0), fidelity.mime
    return encode_jpeg(pixels, fidelity.quality, "444" if drawn else "420"), "image/jpeg"


def looks_drawn(pixels: Pixels) -> bool:
    """True for few colours, as in plots, text and point clouds: edges need 4:4:4, and PNG may be smaller than JPEG."""
    height, width = pixels.shape[:2]
    sample = pixels[:: max(1, height // 32), :: max(1, width // 32)][:40, :40]
    if sample.ndim == 2:
        colors = np.sort(sample, axis=None)
    else:
        padded = np.zeros((*sample.shape[:2], 4), np.uint8)  # alpha is ignored
        padded[..., :3] = sample[..., :3]
        colors = np.sort(padded.view(np.uint32), axis=None)
    # As `np.unique` counts, which takes 6 times as long: once for each stripe that is encoded.
    return bool((1 + np.count_nonzero(colors[1:] != colors[:-1])) * 4 <= colors.size)


def encode_jpeg(pixels: Pixels, quality: int, subsampling: str = "420") -> bytes:
    """Returns a JPEG with 4:2:0 or 4:4:4 chroma subsampling. Row-strided views are read without a copy."""
    if simplejpeg is None:
        return _encode_by_pillow(pixels, "JPEG", quality=quality, subsampling={"444": 0, "420": 2}[subsampling])
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if not _rows_are_packed(pixels):
        pixels = np.ascontiguousarray(pixels)
    space, subsampling = {1: ("GRAY", "Gray"), 3: ("RGB", subsampling), 4: ("RGBX", subsampling)}[pixels.shape[2]]
    data: bytes = simplejpeg.encode_jpeg(pixels, quality, space, subsampling)
    return data


def encode_png(pixels: Pixels, *, alpha: bool = False) -> bytes:
    """Returns a PNG of one IDAT, its rows filtered by 'up' or not at all, deflated by ISA-L at level 1.

    On the terrain that takes an eighth of the time of Pillow's level 1, and fewer bytes. Source: PNG, third edition.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    opaque = channels == 4 and not alpha
    filtered = _filter(rows, _up_is_smaller(rows, pixels), opaque)
    color_type = {1: 0, 3: 2, 4: 6}[channels]
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)),
            _chunk(b"IDAT", isal_zlib.compress(filtered, 1)),
            _chunk(b"IEND", b""),
        )
    )


def _filter(rows: Pixels, up: bool, opaque: bool) -> Pixels:
    """Returns *rows* in PNG's layout, each after the number of its filter, in this thread's scratch buffer."""
    height, length = rows.shape
    filtered = _scratch(height * (1 + length)).reshape(height, 1 + length)
    filtered[0, 0], filtered[1:, 0] = 0, 2 if up else 0
    filtered[0, 1:] = rows[0]
    if up:
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    else:
        filtered[1:, 1:] = rows[1:]
    if opaque:
        filtered[0, 4::4], filtered[1:, 4::4] = 255, 0 if up else 255
    return filtered


def _up_is_smaller(rows: Pixels, pixels: Pixels) -> bool:
    """True if 'up' deflates better than no filter, measured on the rows in the middle."""
    middle = len(rows) // 2
    if looks_drawn(pixels):
        # Repetitions decide, which only the compressor itself can judge.
        sample = rows[max(0, middle - _PROBED_ROWS // 2) : middle + _PROBED_ROWS // 2]
        sizes = [len(isal_zlib.compress(_filter(sample, up, opaque=False), 1)) for up in (True, False)]
        return sizes[0] <= sizes[1]
    # Magnitudes decide; on noise a difference is no smaller than its operands.
    below, above = rows[middle - 4 : middle + 4 : 2], rows[middle - 3 : middle + 5 : 2]
    shared = min(len(below), len(above))
    up = np.abs((below[:shared] - above[:shared]).view(np.int8).astype(np.int16)).sum()
    return bool(up <= np.abs(below[:shared].view(np.int8).astype(np.int16)).sum())


def _png_is_no_larger(pixels: Pixels, quality: int) -> bool:
    """True if a lossless image takes no more bytes than a JPEG, measured on the rows in the middle."""
    middle = len(pixels) // 2
    sample = pixels[max(0, middle - _PROBED_ROWS // 2) : middle + _PROBED_ROWS // 2]
    return len(encode_png(sample)) <= len(encode_jpeg(sample, quality, "444"))


_threads_own = threading.local()


def _scratch(size: int) -> Pixels:
    # Page faults of a fresh buffer would cost as much as the filter.
    buffer: Pixels | None = getattr(_threads_own, "buffer", None)
    if buffer is None or not size <= len(buffer) <= max(4 * size, _SCRATCH_KEPT):
        buffer = _threads_own.buffer = np.empty(size, np.uint8)
    return buffer[:size]


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def _encode_by_pillow(pixels: Pixels, fmt: str, **settings: int) -> bytes:
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        height, width = pixels.shape[:2]
        picture = Image.frombytes("RGB", (width, height), np.ascontiguousarray(pixels), "raw", "RGBX")
    else:
        picture = Image.fromarray(pixels)
    out = io.BytesIO()
    picture.save(out, fmt, **settings)
    return out.getvalue()


def _rows_are_packed(pixels: Pixels) -> bool:
    row, column, channel = pixels.strides
    return channel == 1 and column == pixels.shape[2] and row >= column * pixels.shape[1]
