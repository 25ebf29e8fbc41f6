"""The image formats, decoded again by Pillow."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pdum_rfb_widget.encoders import image
from pdum_rfb_widget.types import Fidelity, Pixels

rng = np.random.default_rng(3)

PNG = Fidelity("image/png", None, tiles=False)


def picture(height: int, width: int, channels: int) -> Pixels:
    """Smooth, with an alpha channel that must not matter."""
    y, x = np.mgrid[:height, :width]
    planes = [x * 3 % 200, y * 2 % 200, (x + y) % 200, rng.integers(0, 255, (height, width))]
    stacked = np.stack(planes[:channels], axis=-1).astype(np.uint8)
    return stacked[..., 0] if channels == 1 else stacked


def decoded(data: bytes) -> tuple[npt.NDArray[np.int64], str]:
    opened = Image.open(io.BytesIO(data))
    return np.asarray(opened.convert("RGB")).astype(np.int64), str(opened.format)


def opaque(pixels: Pixels) -> npt.NDArray[np.int64]:
    rgb = pixels[..., :3] if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return rgb.astype(np.int64)


SIZES = [(1, 1), (1, 7), (5, 1), (33, 65), (48, 64)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_is_exact(size: tuple[int, int], channels: int) -> None:
    pixels = picture(*size, channels)
    shown, kind = decoded(image.encode_image(pixels, PNG)[0])
    assert kind == "PNG"
    np.testing.assert_array_equal(shown, opaque(pixels))


def test_png_of_rgba_is_opaque() -> None:
    data = image.encode_png(picture(9, 9, 4))
    assert (np.asarray(Image.open(io.BytesIO(data)))[..., 3] == 255).all()


def test_png_of_noise_is_exact() -> None:
    pixels = rng.integers(0, 256, (64, 48, 3), np.uint8)
    np.testing.assert_array_equal(decoded(image.encode_png(pixels))[0], pixels)


@pytest.mark.parametrize("mime", ["image/jpeg", "image/webp"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossy_formats_are_close(mime: str, size: tuple[int, int], channels: int) -> None:
    pixels = picture(*size, channels)
    data, said = image.encode_image(pixels, Fidelity(mime, 90, tiles=False))
    shown, kind = decoded(data)
    assert said == mime
    assert kind == mime.removeprefix("image/").upper()
    assert np.abs(shown - opaque(pixels)).mean() < 6


@pytest.mark.parametrize("mime", ["image/jpeg", "image/png", "image/webp"])
def test_views_of_any_stride_are_encoded_like_their_copies(mime: str) -> None:
    whole = picture(40, 60, 4)
    fidelity = PNG if mime == "image/png" else Fidelity(mime, 80, tiles=False)
    views = [whole[::2, ::3], whole[::-1], whole[:, ::-1], whole[..., :3], whole[5:20, 7:30], whole.swapaxes(0, 1)]
    for view in views:
        assert image.encode_image(view, fidelity) == image.encode_image(view.copy(), fidelity)


def test_without_simplejpeg_pillow_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "simplejpeg", None)
    for channels in (1, 3, 4):
        pixels = picture(48, 64, channels)
        shown, kind = decoded(image.encode_jpeg(pixels, 90))
        assert kind == "JPEG"
        assert np.abs(shown - opaque(pixels)).mean() < 4


def test_the_package_streams_jpeg_where_simplejpeg_is_not_installed() -> None:
    code = """
import sys
sys.modules["simplejpeg"] = None
import numpy as np, pdum_rfb_widget as rfb
from pdum_rfb_widget.encoders.image import ImageEncoder
from pdum_rfb_widget.types import RawFrame
noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
frame = RawFrame(1, 64, 64, 1, "rgb24", "cpu", noise)
print(rfb.serve(64, 64, port=0, quality=80).publish(noise), ImageEncoder().encode(frame)[0].payload[:2].hex())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout.split(), done.stderr) == (["None", "ffd8"], "")


def test_what_webp_cannot_hold_becomes_jpeg() -> None:
    data, mime = image.encode_image(np.zeros((2, 16384, 3), np.uint8), Fidelity("image/webp", 80, tiles=False))
    assert (mime, decoded(data)[1]) == ("image/jpeg", "JPEG")


# What each region is encoded as ---------------------------------------------------------------------------------------


def drawn(height: int = 128, width: int = 192) -> Pixels:
    """Few colours and sharp edges, like a plot."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[::9, :] = (200, 30, 30)
    pixels[:, ::11] = (30, 30, 200)
    return pixels


def photographic(height: int = 128, width: int = 192) -> Pixels:
    noisy = picture(height, width, 3).astype(int) + rng.integers(-9, 9, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def subsampling(data: bytes) -> object:
    return Image.open(io.BytesIO(data)).layer[0][1:3]  # type: ignore[attr-defined]


def test_few_coloured_regions_keep_their_chroma_and_photographic_ones_need_not() -> None:
    jpeg = Fidelity("image/jpeg", 78, tiles=True)
    assert subsampling(image.encode_image(drawn(), jpeg)[0]) == (1, 1)
    assert subsampling(image.encode_image(photographic(), jpeg)[0]) == (2, 2)


def test_an_exact_format_stands_in_where_it_is_no_larger() -> None:
    fidelity = Fidelity("image/jpeg", 78, tiles=True, or_exact="image/png")
    assert image.encode_image(drawn(), fidelity)[1] == "image/png"
    assert image.encode_image(photographic(), fidelity)[1] == "image/jpeg"
    assert image.encode_image(drawn(), Fidelity("image/jpeg", 78, tiles=True))[1] == "image/jpeg"


@pytest.mark.parametrize("pixels", [drawn(), photographic(), rng.integers(0, 256, (128, 192, 3), np.uint8)])
def test_the_filter_is_the_one_that_deflates_better(pixels: Pixels) -> None:
    rows = pixels.reshape(len(pixels), -1)
    none, up = np.insert(rows, 0, 0, axis=1), np.insert(np.diff(rows, axis=0, prepend=rows[:1] * 0), 0, 2, axis=1)
    sizes = [len(image.isal_zlib.compress(filtered.tobytes(), 1)) for filtered in (none, up)]
    assert len(image.encode_png(pixels)) <= min(sizes) * 1.02 + 64


def test_png_keeps_alpha_where_it_is_asked_for() -> None:
    pixels = picture(40, 30, 4)
    fidelity = Fidelity("image/png", None, tiles=True, alpha=True)
    shown = Image.open(io.BytesIO(image.encode_image(pixels, fidelity)[0]))
    np.testing.assert_array_equal(np.asarray(shown), pixels)
