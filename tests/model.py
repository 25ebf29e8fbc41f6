"""A canvas made of nothing but the hub's messages, and pictures that change at random."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from pdum_rfb_widget.types import Pixels


class ModelCanvas:
    """What a viewer shows: every message is decoded and drawn as the wire says, and checked against it."""

    def __init__(self) -> None:
        self.pixels: Pixels = np.zeros((0, 0, 3), np.uint8)
        self.seq = 0
        self.config: dict[str, Any] = {}
        self.chunks: list[dict[str, Any]] = []
        """The headers of the video that was decoded."""
        self._decoder: Any = None
        self._newest = 0

    def take(self, header: dict[str, Any], payload: bytes) -> None:
        """Draw one payload."""
        assert header["seq"] > self.seq, "an older frame is never drawn after a newer one"
        self.seq = header["seq"]
        size = header["width"], header["height"]
        assert size == (self.config["width"], self.config["height"]), "a config comes before a new size"
        if header["type"] == "video_chunk":
            self._decode(header, payload, size)
        elif header["type"] == "image_frame":
            assert self._takes("image")
            self.pixels = _decoded(payload, header["mime"])
        else:
            assert "rfb/tiles" in self.config["features"]
            self._draw(size, header["parts"], payload)
        assert self.pixels.shape[:2] == size[::-1]
        drawn = header.get("rects", True)
        assert not drawn or header["timestamp_us"] >= self._newest, "never back in time"
        self._newest = max(self._newest, header["timestamp_us"])

    def lose(self) -> None:
        """The decoder and what was drawn."""
        self._decoder = None
        self.pixels[:] = 99

    def _takes(self, transport: str) -> bool:
        return self.config["transport"] == transport or "rfb/tiles" in self.config["features"]

    def _decode(self, header: dict[str, Any], payload: bytes, size: tuple[int, int]) -> None:
        assert self._takes("webcodecs")
        assert self.config["codec"] == header["codec"]
        if header["keyframe"]:
            self._decoder = av.CodecContext.create("h264", "r")
            self._decoder.thread_count = 1
        else:
            assert self._decoder, "a delta whose reference it did not get"
            assert header.get("after", self.chunks[-1]["seq"]) == self.chunks[-1]["seq"]
        (frame,) = self._decoder.decode(av.Packet(payload))
        self.chunks.append(header)
        picture = frame.to_ndarray(format="rgb24")[: size[1], : size[0]]
        if self.pixels.shape[:2] != size[::-1]:
            self.pixels = np.zeros_like(picture)
        for x, y, width, height in header.get("rects", [(0, 0, *size)]):
            self.pixels[y : y + height, x : x + width] = picture[y : y + height, x : x + width]

    def _draw(self, size: tuple[int, int], parts: list[Any], payload: bytes) -> None:
        if self.pixels.shape[:2] != size[::-1]:
            self.pixels = np.zeros((*size[::-1], 3), np.uint8)
            assert sum(w * h for _, _, w, h, _, _ in parts) >= size[0] * size[1], "a new size leaves out nothing"
        end = 0
        for x, y, width, height, mime, nbytes in parts:
            picture = _decoded(payload[end : end + nbytes], mime)
            assert picture.shape[:2] == (height, width)
            self.pixels[y : y + height, x : x + width] = picture
            end += nbytes
        assert end == len(payload)

    def error(self, frame: Pixels) -> float:
        """The largest difference to *frame*, of 255; infinite for another size."""
        wanted = rgb(frame)
        if wanted.shape != self.pixels.shape:
            return float("inf")
        return float(np.abs(self.pixels.astype(int) - wanted).max())


def rgb(frame: Pixels) -> Pixels:
    return frame[..., :3] if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)


def _decoded(payload: bytes, mime: str) -> Pixels:
    picture = Image.open(io.BytesIO(payload))
    assert Image.MIME[str(picture.format)] == mime
    return np.asarray(picture.convert("RGB")).copy()


class Painter:
    """Pictures that follow from a seed, each made from the one before."""

    SHAPES = ((1, 1, 3), (64, 64, 3), (130, 70, 4), (97, 201), (200, 150, 3))

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.frame = self._scene(self.SHAPES[seed % len(self.SHAPES)])

    def next(self) -> tuple[Pixels, list[tuple[int, int, int, int]] | None]:
        """The next picture, and sometimes the name of what has changed in it."""
        kind = self._random.choice(["all", "region", "named", "same", "shape"], p=[0.2, 0.4, 0.2, 0.15, 0.05])
        if kind == "shape":
            self.frame = self._scene(self.SHAPES[self._random.integers(len(self.SHAPES))])
        elif kind == "all":
            self.frame = self._scene(self.frame.shape)
        elif kind != "same":
            rect = self._repaint()
            return self.frame, [rect] if kind == "named" else None
        return self.frame, None

    def _repaint(self) -> tuple[int, int, int, int]:
        height, width = self.frame.shape[:2]
        x, y = self._random.integers(width), self._random.integers(height)
        w, h = self._random.integers(1, width - x + 1), self._random.integers(1, height - y + 1)
        frame = self.frame.copy()
        frame[y : y + h, x : x + w] = self._scene(self.frame.shape)[y : y + h, x : x + w]
        self.frame = frame
        return int(x), int(y), int(w), int(h)

    def _scene(self, shape: tuple[int, ...]) -> Pixels:
        """Smooth like a render, flat like a plot, or noise."""
        y, x = np.mgrid[: shape[0], : shape[1]]
        a, b, c = self._random.integers(1, 200, 3)
        smooth: npt.NDArray[Any] = np.add.outer(np.arange(shape[0]) * a // 40, np.arange(shape[1]) * b // 40) + c
        flat = (x // 9 + y // 7) % 2 * int(a) + int(b) // 4
        plane = (smooth, flat, self._random.integers(0, 256, shape[:2]))[self._random.integers(3)]
        planes = plane if len(shape) == 2 else np.stack([plane + n * int(a) for n in range(shape[2])], axis=-1)
        return (planes % 256).astype(np.uint8)
