"""Encoding alone: time, size and exactness, compared with a bare call of the library on the same pixels."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .._testing.extras import extra
from .._testing.patterns import FRAMES
from ..encoders.image import encode_image, encode_jpeg, encode_png
from ..types import Fidelity, Pixels
from .content import Film
from .rows import Figures, Progress, Row, percentile, ratio

QUALITY = 80
_JUDGED = 3
"""Number of frames decoded to measure errors; decoding takes longer than encoding."""


@dataclass(frozen=True)
class BenchmarkResult:
    """Results of one encoder on one series of frames."""

    label: str
    encoder: str
    width: int
    height: int
    frames: int
    fps: float
    encode_ms_mean: float
    encode_ms_p95: float
    bytes_per_frame: float
    bitrate_at_fps_bps: float
    psnr_db: float
    """PSNR of decoded frames against the originals; infinite if exact."""


def benchmark_image(
    *,
    mode: str = "jpeg",
    quality: int = QUALITY,
    frames: int = 60,
    width: int = 640,
    height: int = 480,
    fps: float = 30,
    pattern: str = "gradient",
) -> BenchmarkResult:
    """Encode *frames* moving frames of *pattern* one after another.

    *mode* is ``jpeg`` (4:2:0), ``jpeg444``, ``png`` or ``webp``, *pattern* one of `content.PATTERNS`, of which only
    ``gradient`` needs no matplotlib. *fps* only scales the bitrate. Raises `ValueError` for another mode or pattern.
    """
    return compare(mode, pattern, width, height, quality=quality, frames=frames, fps=fps)[0]


def compare(
    mode: str, pattern: str, width: int, height: int, *, quality: int, frames: int, fps: float
) -> tuple[BenchmarkResult, BenchmarkResult]:
    """Measure the package's encoder and the bare library on the same frames, alternating."""
    if mode not in MODES:
        raise ValueError(f"a mode is one of {', '.join(MODES)}, not {mode!r}")
    if frames < 1:
        raise ValueError(f"frames is 1 or more, not {frames}")
    film = Film(pattern, "full", width, height, min(frames, FRAMES))
    encoders = [_Timed(encoder(quality)) for encoder in MODES[mode]]
    for encoder in encoders:
        encoder.warm_up(film.frame(0))
    for number in range(frames):
        for encoder in encoders[:: 1 if number % 2 else -1]:  # the second encoder finds the pixels in the cache
            encoder.take(film.frame(number), judge=number * _JUDGED % frames < _JUDGED)
    label = f"{pattern} {width}x{height}"
    ours, bare = (
        encoder.result(label, name, (width, height), fps)
        for encoder, name in zip(encoders, (mode, f"bare {mode}"), strict=True)
    )
    return ours, bare


def measure(
    progress: Progress, *, sizes: Sequence[tuple[int, int]], contents: Sequence[str], frames: int, fps: float
) -> list[Row]:
    """One row for every size, content and mode."""
    rows = []
    progress.add(len(sizes) * len(contents) * len(_MEASURED))
    for width, height in sizes:
        for pattern in contents:
            for mode in _MEASURED:
                progress.step(f"{mode} of {pattern}, {width}x{height}")
                ours, bare = compare(mode, pattern, width, height, quality=QUALITY, frames=frames, fps=fps)
                rows.append(Row(f"encoding at {fps:g} fps", f"{ours.label} {mode}", _figures(ours, bare)))
    return rows


def format_table(results: Iterable[BenchmarkResult]) -> str:
    """*results* as text, one line each below a line of headings."""
    lines = [("content", "encoder", "frames", "ms mean", "ms p95", "KB/frame", "Mbit/s", "at fps", "PSNR dB")]
    for result in results:
        times = (f"{result.encode_ms_mean:.2f}", f"{result.encode_ms_p95:.2f}")
        sizes = (f"{result.bytes_per_frame / 1000:.1f}", f"{result.bitrate_at_fps_bps / 1e6:.1f}", f"{result.fps:g}")
        psnr = "exact" if math.isinf(result.psnr_db) else f"{result.psnr_db:.1f}"
        lines.append((result.label, result.encoder, str(result.frames), *times, *sizes, psnr))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _figures(ours: BenchmarkResult, bare: BenchmarkResult) -> Figures:
    return {
        "ms_mean": ours.encode_ms_mean,
        "ms_p95": ours.encode_ms_p95,
        "bytes_per_frame": round(ours.bytes_per_frame),
        "Mbit_per_s": ours.bitrate_at_fps_bps / 1e6,
        "PSNR_dB": ours.psnr_db,
        "bare_ms_mean": bare.encode_ms_mean,
        "bare_bytes_per_frame": round(bare.bytes_per_frame),
        "time_to_bare": ratio(ours.encode_ms_mean, bare.encode_ms_mean),
        "bytes_to_bare": ratio(ours.bytes_per_frame, bare.bytes_per_frame),
    }


# Encoders and their clock ---------------------------------------------------------------------------------------------

Encoder = Callable[[Pixels], bytes]


class _Timed:
    """An encoder and its measurements so far."""

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._ms: list[float] = []
        self._bytes = 0
        self._errors: list[float] = []

    def warm_up(self, pixels: Pixels) -> None:
        self._encode(pixels)

    def take(self, pixels: Pixels, *, judge: bool) -> None:
        started = time.perf_counter()
        data = self._encode(pixels)
        self._ms.append((time.perf_counter() - started) * 1000)
        self._bytes += len(data)
        if judge:
            self._errors.append(_squared_error(data, pixels))

    def result(self, label: str, encoder: str, size: tuple[int, int], fps: float) -> BenchmarkResult:
        count = len(self._ms)
        error = sum(self._errors) / len(self._errors)
        return BenchmarkResult(
            label=label,
            encoder=encoder,
            width=size[0],
            height=size[1],
            frames=count,
            fps=fps,
            encode_ms_mean=sum(self._ms) / count,
            encode_ms_p95=percentile(self._ms, 0.95) or 0.0,
            bytes_per_frame=self._bytes / count,
            bitrate_at_fps_bps=8 * fps * self._bytes / count,
            psnr_db=10 * math.log10(255**2 / error) if error else math.inf,
        )


def _squared_error(data: bytes, pixels: Pixels) -> float:
    """Mean squared error over all samples (0 to 255) of *data*, decoded by Pillow."""
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int32)
    return float(np.square(shown - pixels).mean())


def _jpeg(quality: int) -> Encoder:
    return lambda pixels: encode_jpeg(pixels, quality)


def _jpeg444(quality: int) -> Encoder:
    return lambda pixels: encode_jpeg(pixels, quality, "444")


def _webp(quality: int) -> Encoder:
    return lambda pixels: encode_image(pixels, Fidelity("image/webp", quality, tiles=False))[0]


def _png(quality: int) -> Encoder:
    return encode_png


def _bare_jpeg(subsampling: str) -> Callable[[int], Encoder]:
    def encoder(quality: int) -> Encoder:
        simplejpeg = extra("simplejpeg")
        return lambda pixels: bytes(simplejpeg.encode_jpeg(pixels, quality, "RGB", subsampling))

    return encoder


def _bare_png(quality: int) -> Encoder:
    return lambda pixels: _by_pillow(pixels, "PNG", compress_level=1)


def _bare_webp(quality: int) -> Encoder:
    return lambda pixels: _by_pillow(pixels, "WEBP", quality=quality, method=0)


def _by_pillow(pixels: Pixels, kind: str, **settings: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **settings)
    return out.getvalue()


MODES: dict[str, tuple[Callable[[int], Encoder], Callable[[int], Encoder]]] = {
    "jpeg": (_jpeg, _bare_jpeg("420")),
    "jpeg444": (_jpeg444, _bare_jpeg("444")),
    "png": (_png, _bare_png),
    "webp": (_webp, _bare_webp),
}
"""For each mode, functions of a quality that create the package's encoder and the bare library's."""
_MEASURED = ("jpeg", "jpeg444", "png")
"""The modes that `measure` includes: not WebP, which no stream chooses by itself."""
