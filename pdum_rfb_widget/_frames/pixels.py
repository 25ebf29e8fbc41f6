"""Turns any published object into an array of pixels, or raises an error: what was given, what is wanted, and how."""

from __future__ import annotations

import inspect
import os
from typing import Any, get_args

import numpy as np
from PIL import Image

from ..types import MAX_SIDE, MemoryKind, PixelFormat, Pixels, RawFrame, check_int

_WANTED = "wanted is uint8 of shape (H, W), (H, W, 3) or (H, W, 4)"

FORMATS: dict[int, PixelFormat] = {1: "gray8", 3: "rgb24", 4: "rgba8"}
"""The format of an array by its number of channels."""
_CHANNELS: dict[PixelFormat, int] = {"gray8": 1, "rgb24": 3, "rgba8": 4, "bgra8": 4}

_PLAIN_MODES = ("L", "RGB", "RGBA")
_CONVERTED_MODES = {
    "1": "L",
    "LA": "RGBA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}
"""Pillow's modes whose colours don't depend on the converter, and their targets; ``P`` has its own rule."""
_PROFILED_MODES = ("CMYK", "LAB")

_GETTERS = {
    "detach": "frame.detach().cpu().numpy()",
    "copy_to_host": "frame.copy_to_host()",
    "get": "frame.get()",
    "toarray": "frame.toarray()",
    "numpy": "frame.numpy()",
}
"""Methods that bring arrays of PyTorch, Numba, CuPy, SciPy and TensorFlow to numpy."""


def as_pixels(frame: object) -> Pixels:
    """Returns *frame* as a uint8 array of shape ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``, 1 to 16384 pixels a side.

    Takes such arrays, and ``(H, W, 1)``; objects that numpy can view as one, by its own protocols or DLPack; Pillow
    images in every mode that has one meaning; a `RawFrame` of any of these. The last axis is always the channels.
    Copies only what has to be converted: images, and ``bgra8``.
    Raises `TypeError` for another type or dtype and `ValueError` for another shape, with the way to what is wanted.
    """
    # This first, as an exact type: it is called for every frame, and almost every frame is one.
    pixels = frame if type(frame) is np.ndarray else _viewed(frame)
    shape = pixels.shape
    if pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        raise _refusal(frame, pixels)
    height, width = shape[:2]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"the frame is {width}x{height} pixels, wanted are 1 to {MAX_SIDE} on each side")
    return pixels[..., 0] if shape[2:] == (1,) else pixels


def is_immutable(pixels: Pixels) -> bool:
    """True if nobody can change *pixels*: numpy's view of `bytes`, as of a Pillow image."""
    base = pixels.base
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, bytes)


def raw_pixels(frame: RawFrame) -> Pixels:
    """Returns the pixels of *frame*, in the order of channels of its ``pixel_format``.

    Raises `ValueError` where its fields do not match its pixels or name an unknown value, and what `as_pixels` raises.
    """
    if frame.pixel_format not in _CHANNELS:
        known = ", ".join(_CHANNELS)
        raise ValueError(f"pixel_format is one of {known}, not {frame.pixel_format!r}: encoders convert RGB themselves")
    if frame.memory not in get_args(MemoryKind):
        known = ", ".join(get_args(MemoryKind))
        raise ValueError(f"memory is {known}, not {frame.memory!r}: copy the data to the host first")
    check_int("timestamp_us", frame.timestamp_us, -(1 << 53), 1 << 53)  # what JSON's readers keep exact
    pixels = as_pixels(frame.data)
    channels = _CHANNELS[frame.pixel_format]
    said = (frame.height, frame.width, channels)[: 2 if channels == 1 else 3]
    if pixels.shape != said:
        raise ValueError(
            f"a {frame.pixel_format} frame of {frame.width}x{frame.height} pixels is uint8 of shape {said}, "
            f"not uint8 of shape {pixels.shape}"
        )
    return pixels


def _viewed(frame: object) -> Any:
    """Returns *frame* as some array; raises `TypeError` for what is none."""
    if isinstance(frame, RawFrame):
        return raw_pixels(frame)[..., (2, 1, 0, 3) if frame.pixel_format == "bgra8" else slice(None)]
    if isinstance(frame, Image.Image):
        return np.asarray(_converted(frame))
    if isinstance(frame, np.ma.MaskedArray):
        raise TypeError("the frame is a masked array, of which the mask can't be shown: publish frame.filled(0)")
    if isinstance(frame, (str, bytes, bytearray, os.PathLike)) or frame is None:
        raise _no_array(frame)
    pixels: np.ndarray[Any, Any]
    try:
        pixels = np.asarray(frame)
        # Objects without a protocol that numpy knows become an array of one object.
        if pixels.ndim == 0 and hasattr(frame, "__dlpack__"):
            pixels = np.from_dlpack(frame)
    except (TypeError, ValueError, RuntimeError, BufferError, AttributeError) as error:
        raise _no_array(frame, f" ({error})") from error
    if pixels.ndim == 0:
        raise _no_array(frame)
    return pixels


def _converted(image: Image.Image) -> Image.Image:
    """Returns *image* in a mode whose numbers are pixels."""
    mode = image.mode
    if mode in _PLAIN_MODES:
        return image
    if mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if mode in _CONVERTED_MODES:
        return image.convert(_CONVERTED_MODES[mode])
    if mode in _PROFILED_MODES:
        hint = "publish frame.convert('RGB'), or convert it by PIL.ImageCms where the colours have to be exact"
    else:
        hint = "scale its numbers to 0..255 in numpy, and publish that: np.asarray(frame) has them"
    taken = ", ".join(sorted({*_PLAIN_MODES, *_CONVERTED_MODES, "P"}))
    raise TypeError(f"the frame is a Pillow image of mode {mode}, wanted is one of {taken}: {hint}")


# Errors ---------------------------------------------------------------------------------------------------------------


def _no_array(frame: object, why: str = "") -> TypeError:
    """Returns the error for an object that numpy has no view of."""
    kind = type(frame)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return TypeError(f"the frame is {'None' if frame is None else f'a {name}'}, {_WANTED}{why}: {_way_out(frame)}")


def _way_out(frame: object) -> str:
    if frame is None:
        return "does what renders it return nothing?"
    if isinstance(frame, (str, os.PathLike)):
        return "publish PIL.Image.open(frame) to show a file"
    if isinstance(frame, (bytes, bytearray)):
        return "publish np.frombuffer(frame, np.uint8).reshape(height, width, 3), or PIL.Image.open(io.BytesIO(frame))"
    if callable(frame) and not hasattr(frame, "__dlpack__"):
        return "publish what it returns, frame()"
    if inspect.isawaitable(frame):
        return "publish what it becomes, await frame"
    figure = getattr(frame, "figure", frame)
    if (canvas := getattr(figure, "canvas", None)) is not None:
        if hasattr(canvas, "buffer_rgba"):
            return "call figure.canvas.draw(), and publish np.asarray(figure.canvas.buffer_rgba())"
        return "make canvas = FigureCanvasAgg(figure), call canvas.draw(), and publish np.asarray(canvas.buffer_rgba())"
    getter = next((way for name, way in _GETTERS.items() if callable(getattr(frame, name, None))), None)
    if hasattr(frame, "__cuda_array_interface__") or hasattr(frame, "__dlpack__"):
        return f"copy it to the host first: {getter or 'by its own .get(), .cpu() or .copy_to_host()'}"
    return f"publish {getter}" if getter else "publish an array"


def _refusal(frame: object, pixels: np.ndarray[Any, Any]) -> TypeError | ValueError:
    """Returns the error for an array of another dtype or shape."""
    name = "frame" if isinstance(frame, np.ndarray) else "np.asarray(frame)"
    hints = [hint for hint in (_dtype_hint(name, pixels), _shape_hint(name, pixels.shape)) if hint]
    words = f"the frame is {pixels.dtype} of shape {pixels.shape}, {_WANTED}" + "".join(f"; {hint}" for hint in hints)
    return ValueError(words) if pixels.dtype == np.uint8 else TypeError(words)


def _dtype_hint(name: str, pixels: np.ndarray[Any, Any]) -> str:
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8:
        return ""
    if kind == "f":
        finite = name if np.isfinite(pixels).all() else f"np.nan_to_num({name})"
        return f"floats from 0 to 1 become that by (np.clip({finite}, 0, 1) * 255).astype('uint8')"
    if kind == "b":
        return f"booleans become that by {name}.astype('uint8') * 255"
    if pixels.dtype.names:
        return f"fields become channels by numpy.lib.recfunctions.structured_to_unstructured({name})"
    if kind not in "iu":
        return ""
    clipped = f"np.clip({name}, 0, 255).astype('uint8')"
    if kind == "u" and pixels.dtype.itemsize == 2:
        return f"of 16 bits ({name} >> 8).astype('uint8') are the upper ones, or {clipped} the lowest values"
    return f"whole numbers become that by {clipped}"


def _shape_hint(name: str, shape: tuple[int, ...]) -> str:
    match shape:
        case (1, _, _) | (_, _, _, _):
            return f"publish one picture of it, {name}[0]"
        case (3 | 4, _, _) if shape[2] not in (1, 3, 4):
            return f"the channels come last: {name}.transpose(1, 2, 0)"
        case (_, _, channels) if channels > 4:
            return f"publish three of its channels, {name}[..., :3]"
        case (_,):
            return f"give it rows and columns, {name}.reshape(height, width, 3)"
    return ""
