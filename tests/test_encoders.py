"""Video encoders: one contract for all that this machine has, decoded again by PyAV, and by Chromium."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hosts import serve_page
from playwright.sync_api import Page

from pdum_rfb_widget.encoders import base
from pdum_rfb_widget.encoders.bitstream import (
    IDR,
    NON_IDR,
    PPS,
    SPS,
    av1_codec_string,
    codec_string,
    is_keyframe,
    nal_types,
    sequence_parameters,
    split_nal_units,
    vp9_codec_string,
)
from pdum_rfb_widget.encoders.h264_cpu import H264CpuEncoder, h264_available, h264_color_vui, self_test
from pdum_rfb_widget.encoders.image import ImageEncoder
from pdum_rfb_widget.encoders.rate import COARSEST, FINEST, RateControl
from pdum_rfb_widget.encoders.video import VideoEncoder
from pdum_rfb_widget.types import (
    DISPLAY_P3,
    SRGB,
    BackendSelection,
    ColorSpace,
    EncodedPayload,
    PixelFormat,
    Pixels,
    RawFrame,
    VideoFormat,
)

rng = np.random.default_rng(5)

H264, H264_444, H264_RGB = VideoFormat("h264", "420"), VideoFormat("h264", "444"), VideoFormat("h264", "rgb")
VP9, AV1 = VideoFormat("vp9", "420"), VideoFormat("av1", "420")
ALL = [H264, H264_444, H264_RGB, VP9, AV1]
IN_H264 = [H264, H264_444, H264_RGB]
DECODERS = {"h264": "h264", "vp9": "vp9", "av1": "libdav1d"}


def name(chosen: object) -> str:
    return f"{chosen.codec}-{chosen.chroma}" if isinstance(chosen, VideoFormat) else ""


every_encoder = pytest.mark.parametrize("chosen", ALL, ids=name)
every_h264 = pytest.mark.parametrize("chosen", IN_H264, ids=name)


def opened(chosen: VideoFormat, width: int, height: int, *, quality: int | None = None, **more: Any) -> VideoEncoder:
    """Of the finest quality that the format is for, unless a *quality* is named."""
    encoder = {"h264": "h264_cpu"}.get(chosen.codec, chosen.codec)
    if encoder not in base.available_video_encoders():
        pytest.skip(f"this machine has no {encoder}")
    quality = quality if quality is not None else 0 if chosen.chroma == "rgb" else 16
    made = base.video_encoder_for(chosen, width=width, height=height, quality=quality, **more)
    assert isinstance(made, VideoEncoder)
    return made


def frame(pixels: Pixels, seq: int = 0, timestamp_us: int | None = None, kind: PixelFormat | None = None) -> RawFrame:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kinds: dict[int, PixelFormat] = {1: "gray8", 3: "rgb24", 4: "rgba8"}
    at = 33_333 * seq if timestamp_us is None else timestamp_us
    height, width = pixels.shape[:2]
    return RawFrame(seq, width, height, at, kind or kinds[channels], "cpu", pixels)


def picture(width: int, height: int, phase: int = 0) -> Pixels:
    """Smooth waves of three colours, which move with the phase."""
    y, x = np.mgrid[:height, :width] / 12.0
    waves = [np.sin(x + 0.2 * phase), np.cos(y - 0.1 * phase), np.sin((x + y) / 2 + 0.15 * phase)]
    return np.stack([128 + 100 * wave for wave in waves], axis=-1).astype(np.uint8)


def noisy(width: int, height: int, phase: int) -> Pixels:
    return (picture(width, height, phase) + rng.integers(0, 25, (height, width, 3))).astype(np.uint8)


def pictures_of(payloads: list[EncodedPayload]) -> list[av.VideoFrame]:
    codec = {"avc1": "h264", "vp09": "vp9", "av01": "libdav1d"}[str(payloads[0].codec)[:4]]
    decoder = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    shown: list[av.VideoFrame] = []
    for payload in payloads:
        shown += decoder.decode(av.Packet(payload.payload))
    return shown + decoder.decode(None)


def shown_by(payloads: list[EncodedPayload], *, padded: bool = False) -> list[npt.NDArray[np.int64]]:
    """The decoded pictures as RGB, converted as they are tagged, and cropped."""
    arrays = []
    for decoded in pictures_of(payloads):
        if decoded.format.name == "gbrp":
            rgb = decoded.to_ndarray(format="rgb24")
        else:
            flags = av.video.reformatter.Interpolation
            rgb = decoded.reformat(
                format="rgb24",
                src_colorspace="ITU601",
                src_color_range="MPEG",
                dst_color_range="JPEG",
                interpolation=flags.BILINEAR | flags.ACCURATE_RND | flags.FULL_CHR_H_INT,
            ).to_ndarray()
        arrays.append(rgb.astype(int) if padded else rgb[: payloads[0].height, : payloads[0].width].astype(int))
    return arrays


def psnr(shown: npt.NDArray[np.int64], wanted: Pixels) -> float:
    error = np.square(shown - wanted.astype(int)).mean()
    return float(10 * np.log10(255**2 / error)) if error else np.inf


def encode_all(encoder: VideoEncoder, frames: list[Pixels]) -> list[EncodedPayload]:
    payloads = []
    for seq, pixels in enumerate(frames):
        payloads += encoder.encode(frame(pixels, seq))
    return payloads


# What goes in and what comes out --------------------------------------------------------------------------------------


@every_encoder
def test_every_frame_gives_one_payload_at_once_and_only_the_first_is_a_keyframe(chosen: VideoFormat) -> None:
    encoder = opened(chosen, 96, 64)
    for seq in range(12):
        (payload,) = encoder.encode(frame(picture(96, 64, seq), seq))
        assert (payload.seq, payload.timestamp_us) == (seq, 33_333 * seq)
        assert (payload.kind, payload.width, payload.height) == ("video", 96, 64)
        assert payload.keyframe == (seq == 0)
    assert encoder.flush() == []


@every_encoder
def test_what_is_decoded_is_near_to_what_was_encoded(chosen: VideoFormat) -> None:
    frames = [picture(128, 96, phase) for phase in range(6)]
    shown = shown_by(encode_all(opened(chosen, 128, 96), frames))
    assert len(shown) == len(frames)
    floor = {"420": 38, "444": 40, "rgb": np.inf}[chosen.chroma]
    assert min(psnr(one, wanted) for one, wanted in zip(shown, frames, strict=True)) >= floor


@every_encoder
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 64), (63, 35), (34, 33), (200, 2)])
def test_frames_of_any_size_are_padded_with_their_last_row_and_column(
    chosen: VideoFormat, size: tuple[int, int]
) -> None:
    # Flat along both edges, so that codecs keep what was padded too.
    width, height = size
    pixels = np.full((height, width, 3), (90, 140, 190), np.uint8)
    payloads = encode_all(opened(chosen, width, height), [pixels, pixels])
    assert [(payload.width, payload.height) for payload in payloads] == [size, size]
    for shown in shown_by(payloads, padded=True):
        assert shown.shape[0] % 2 == shown.shape[1] % 2 == 0
        assert np.abs(shown - pixels[0, 0].astype(int)).max() <= 4


def test_padding_repeats_what_lies_at_the_edge() -> None:
    pixels = rng.integers(0, 256, (5, 7, 3), np.uint8)
    (shown,) = shown_by(opened(H264_RGB, 7, 5).encode(frame(pixels)), padded=True)
    np.testing.assert_array_equal(shown, np.pad(pixels, ((0, 1), (0, 1), (0, 0)), mode="edge"))


@pytest.mark.slow
@every_encoder
def test_a_frame_of_4096_by_2160_is_encoded(chosen: VideoFormat) -> None:
    pixels = np.broadcast_to(np.linspace(0, 255, 4096, dtype=np.uint8), (2160, 4096))
    (shown,) = shown_by(opened(chosen, 4096, 2160).encode(frame(pixels)))
    assert psnr(shown, np.repeat(pixels[..., None], 3, axis=2)) > 38


@every_encoder
def test_pixels_of_every_format_and_stride_give_the_same_stream(chosen: VideoFormat) -> None:
    rgb = picture(64, 48)
    rgba = np.dstack([rgb, rng.integers(0, 256, rgb.shape[:2], np.uint8)])
    roomy = np.zeros((48, 100, 3), np.uint8)
    roomy[:, :64] = rgb
    inputs = [
        frame(rgba),
        frame(np.ascontiguousarray(rgba[..., [2, 1, 0, 3]]), kind="bgra8"),
        frame(roomy[:, :64]),
        frame(rgb[::-1].copy()[::-1]),
        frame(rgb.swapaxes(0, 1).copy().swapaxes(0, 1)),
        frame(rgba[..., :3]),
    ]
    (wanted,) = opened(chosen, 64, 48).encode(frame(rgb))
    for given in inputs:
        (payload,) = opened(chosen, 64, 48).encode(given)
        assert payload.payload == wanted.payload


@every_encoder
def test_grey_is_shown_like_rgb_of_equal_channels(chosen: VideoFormat) -> None:
    grey = picture(64, 48)[..., 0].copy()
    (shown,) = shown_by(opened(chosen, 64, 48).encode(frame(grey)))
    (wanted,) = shown_by(opened(chosen, 64, 48).encode(frame(np.repeat(grey[..., None], 3, axis=2))))
    assert np.abs(shown - wanted).max() <= 4
    assert np.abs(shown - wanted).mean() <= 0.5


def test_a_frame_may_be_changed_once_it_was_encoded() -> None:
    encoder, pixels = opened(H264_RGB, 64, 48), picture(64, 48)
    payloads = encoder.encode(frame(pixels))
    first = pixels.copy()
    pixels[:] = 0
    payloads += encoder.encode(frame(pixels, 1))
    np.testing.assert_array_equal(shown_by(payloads)[0], first)


# Keyframes and time ---------------------------------------------------------------------------------------------------


@every_encoder
def test_a_forced_keyframe_is_decoded_alone(chosen: VideoFormat) -> None:
    encoder = opened(chosen, 96, 64)
    encode_all(encoder, [picture(96, 64, phase) for phase in range(4)])
    last = picture(96, 64, 9)
    (forced,) = encoder.encode(frame(last, 4), force_keyframe=True)
    (after,) = encoder.encode(frame(last, 5))
    (still,) = encoder.encode_still(frame(last, 6))
    assert [forced.keyframe, after.keyframe, still.keyframe] == [True, False, True]
    assert forced.codec == still.codec
    (begun,) = encoder.encode(frame(last, 7))
    assert begun.keyframe, "nothing refers to a still"
    for payload in (forced, still):
        assert psnr(shown_by([payload])[0], last) > 36


@every_encoder
def test_a_still_is_finer_than_the_stream_and_leaves_its_quality_alone(chosen: VideoFormat) -> None:
    encoder = opened(chosen, 96, 64, quality=36)
    picture_of_rest = picture(96, 64)
    (coarse,) = encoder.encode(frame(picture_of_rest, 0))
    (still,) = encoder.encode_still(frame(picture_of_rest, 1))
    (again,) = encoder.encode(frame(picture_of_rest, 2))
    psnrs = [psnr(shown_by([payload])[0], picture_of_rest) for payload in (coarse, still, again)]
    assert psnrs[1] > psnrs[0] + 4
    assert psnrs[2] == pytest.approx(psnrs[0], abs=0.5)
    assert encoder.quality == 36


@every_h264
def test_idrs_bring_their_parameter_sets_and_nothing_else_is_flagged_a_keyframe(chosen: VideoFormat) -> None:
    encoder = opened(chosen, 96, 64)
    for seq in range(8):
        (payload,) = encoder.encode(frame(picture(96, 64, seq), seq), force_keyframe=seq == 5)
        kinds = nal_types(payload.payload)
        assert payload.keyframe == is_keyframe(payload.payload) == (seq in (0, 5))
        assert ({SPS, PPS, IDR} <= set(kinds)) if payload.keyframe else set(kinds) == {NON_IDR}
        assert payload.payload.startswith(b"\0\0\0\1") or payload.payload.startswith(b"\0\0\1")


@every_encoder
def test_no_keyframe_comes_that_was_not_asked_for(chosen: VideoFormat) -> None:
    # Cuts, and more frames than the usual distances of keyframes.
    encoder = opened(chosen, 64, 48)
    noise = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(4)]
    keyframes = [
        payload.seq
        for seq in range(330)
        for payload in encoder.encode(frame(noise[seq // 3 % 4] if seq < 60 else picture(64, 48, seq), seq))
        if payload.keyframe
    ]
    assert keyframes == [0]


def test_av1_is_not_sent_a_frame_before_it_has_put_its_buffers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("pdum_rfb_widget.encoders.av1.time.sleep", slept.append)
    encoder = opened(AV1, 64, 48)
    for seq in range(20):
        encoder.encode(frame(picture(64, 48), seq))
    assert 0 < max(slept) < 0.01


@every_encoder
def test_timestamps_are_the_frames_own_however_sparse_and_always_grow(chosen: VideoFormat) -> None:
    encoder, pixels = opened(chosen, 64, 48), picture(64, 48)
    given = [5, 5, 6, 1_000_000, 60_000_000, 59_000_000, 4_000_000_000_000]
    payloads = [payload for at in given for payload in encoder.encode(frame(pixels, timestamp_us=at))]
    times = [payload.timestamp_us for payload in payloads]
    assert times == [5, 6, 7, 1_000_000, 60_000_000, 60_000_001, 4_000_000_000_000]


@pytest.mark.parametrize("chosen", [H264, H264_444, H264_RGB], ids=name)
def test_an_unchanged_frame_costs_at_most_64_bytes(chosen: VideoFormat) -> None:
    encoder, pixels = opened(chosen, 1920, 1080), picture(1920, 1080)
    # The second may still refine the first.
    *_, third, fourth = encode_all(encoder, [pixels] * 4)
    assert len(third.payload) <= 64
    assert len(fourth.payload) <= 64


@every_encoder
def test_a_coarser_quality_takes_fewer_bytes(chosen: VideoFormat) -> None:
    frames = [noisy(160, 120, phase) for phase in range(5)]
    sizes = [
        sum(len(payload.payload) for payload in encode_all(opened(chosen, 160, 120, quality=quality), frames))
        for quality in (6, 14, 22, 30)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


@pytest.mark.parametrize("chosen", [VP9, AV1], ids=name)
def test_a_quality_comes_to_about_the_same_psnr_as_of_h264(chosen: VideoFormat) -> None:
    frames = [noisy(192, 144, phase) for phase in range(6)]

    def psnr_of_luma(one: VideoFormat) -> float:
        shown = shown_by(encode_all(opened(one, 192, 144, quality=28), frames))[-1]
        return psnr(shown.mean(axis=2).astype(int), frames[-1].mean(axis=2).astype(np.uint8))

    assert abs(psnr_of_luma(chosen) - psnr_of_luma(H264)) < 4


# Colour ---------------------------------------------------------------------------------------------------------------

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]], np.uint8)
PATCHES = np.concatenate([COLORS, rng.integers(0, 256, (10, 3), np.uint8)]).reshape(4, 4, 3)


def patches() -> Pixels:
    """Sixteen flat patches of 32x32 pixels."""
    return PATCHES.repeat(32, axis=0).repeat(32, axis=1)


@every_encoder
def test_flat_patches_keep_their_colour(chosen: VideoFormat) -> None:
    (shown,) = shown_by(opened(chosen, 128, 128, quality=4).encode(frame(patches())))
    assert np.abs(shown[16::32, 16::32] - PATCHES.astype(int)).max() <= 4


def test_coloured_lines_stay_sharp_where_chroma_is_not_subsampled() -> None:
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[::4] = (220, 20, 20)
    lost = {
        chosen: np.abs(shown_by(opened(chosen, 64, 64, quality=4).encode(frame(pixels)))[0] - pixels).max()
        for chosen in IN_H264
    }
    assert lost[H264_RGB] <= 8
    assert lost[H264_444] <= 24
    assert lost[H264] > 50


@pytest.mark.parametrize("color", [None, SRGB, DISPLAY_P3])
@pytest.mark.parametrize("chosen", [*IN_H264, AV1], ids=name)
def test_streams_say_their_colour(chosen: VideoFormat, color: ColorSpace | None) -> None:
    (payload,) = opened(chosen, 64, 48, color=color).encode(frame(picture(64, 48)))
    (decoded,) = pictures_of([payload])
    primaries = 12 if color is DISPLAY_P3 else 1
    matrix, span = (0, 2) if chosen.chroma == "rgb" else (6, 1)
    tags = (decoded.color_primaries, decoded.color_trc, decoded.colorspace, decoded.color_range)
    assert tags == (primaries, 13, matrix, span)
    assert payload.color == color


def test_the_vui_of_h264_is_that_of_the_color() -> None:
    assert h264_color_vui(None) == h264_color_vui(SRGB) == (1, 13, 6, 1)
    assert h264_color_vui(DISPLAY_P3) == (12, 13, 6, 1)
    assert h264_color_vui(None, "rgb") == (1, 13, 0, 2)
    for primaries, code in {"bt709": 1, "bt470bg": 5, "smpte170m": 6, "bt2020": 9, "smpte432": 12}.items():
        assert h264_color_vui(ColorSpace(primaries=primaries))[0] == code
    for transfer, code in {"bt709": 1, "smpte170m": 6, "linear": 8, "srgb": 13, "pq": 16, "hlg": 18}.items():
        assert h264_color_vui(ColorSpace(transfer=transfer))[1] == code


# States and errors ----------------------------------------------------------------------------------------------------


@every_encoder
def test_close_is_safe_in_any_state_and_what_follows_is_refused(chosen: VideoFormat) -> None:
    pixels = picture(64, 48)
    fresh, used, flushed, failed = (opened(chosen, 64, 48) for _ in range(4))
    used.encode(frame(pixels))
    flushed.encode(frame(pixels))
    flushed.flush()
    with pytest.raises(ValueError, match="encoder is for 64x48"):
        failed.encode(frame(picture(32, 32)))
    for encoder in (fresh, used, flushed, failed):
        encoder.close()
        encoder.close()
        assert encoder.flush() == []
        with pytest.raises(RuntimeError, match="closed"):
            encoder.encode(frame(pixels))


@every_encoder
def test_after_a_flush_the_next_frame_is_a_keyframe(chosen: VideoFormat) -> None:
    encoder = opened(chosen, 64, 48)
    encode_all(encoder, [picture(64, 48, phase) for phase in range(3)])
    assert encoder.flush() == encoder.flush() == []
    (payload,) = encoder.encode(frame(picture(64, 48, 3), 3))
    assert payload.keyframe
    assert len(shown_by([payload])) == 1


def test_after_an_error_of_the_codec_the_next_frame_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = opened(H264, 64, 48)
    encoder.encode(frame(picture(64, 48)))
    encoder.flush()
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "_options", lambda: {"preset": "there is none"})
        with pytest.raises(av.FFmpegError):
            encoder.encode(frame(picture(64, 48), 1))
    (payload,) = encoder.encode(frame(picture(64, 48), 2))
    assert payload.keyframe
    assert payload.seq == 2


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="not run, threads are counted in /proc")
@every_encoder
def test_a_closed_encoder_leaves_no_thread_behind(chosen: VideoFormat) -> None:
    def once() -> None:
        encoder = opened(chosen, 1280, 720)
        encoder.encode(frame(np.zeros((720, 1280), np.uint8)))
        encoder.close()

    once()
    before = threads()
    for _ in range(3):
        once()
    assert threads() <= before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (frame(np.zeros((48, 64, 3), np.float32)), "float32"),  # type: ignore[arg-type]
        (frame(np.zeros((48, 64, 3), np.uint8), kind="rgba8"), r"\(48, 64, 4\), not uint8 of shape \(48, 64, 3\)"),
        (RawFrame(0, 64, 48, 0, "rgb24", "cpu", np.zeros((64, 48, 3), np.uint8)), r"shape \(48, 64, 3\)"),
        (replace(frame(np.zeros((48, 64, 3), np.uint8)), pixel_format="nv12"), "pixel_format is one of"),
        (replace(frame(np.zeros((48, 64, 3), np.uint8)), memory="cuda"), "memory is cpu, not 'cuda'"),
        (frame(np.zeros((50, 64, 3), np.uint8)), "64x50 pixels, the encoder is for 64x48"),
    ],
)
def test_frames_that_are_not_what_they_say_are_refused(wrong: RawFrame, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        opened(H264, 64, 48).encode(wrong)
    if "the encoder" not in words:
        with pytest.raises((TypeError, ValueError), match=words):
            ImageEncoder().encode(wrong)


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, words in (
        ({"quality": 52}, "quality is 0 to 51, not 52"),
        ({"width": 0}, "width is 1 to 16384, not 0"),
        ({"chroma": "422"}, "420, 444, rgb, not '422'"),
        ({"bitrate": 0}, "bitrate"),
        ({"fps": 0}, "fps"),
    ):
        with pytest.raises(ValueError, match=words):
            H264CpuEncoder(**{"width": 64, "height": 48, **settings})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Vp9Encoder has the chroma 420, not '444'"):
        base.video_encoder_for(VideoFormat("vp9", "444"), width=64, height=48)


# Registry -------------------------------------------------------------------------------------------------------------


def test_this_machine_has_what_the_tests_install() -> None:
    assert base.available_video_encoders() == ["av1", "h264_cpu", "vp9"]
    assert h264_available()
    assert self_test()
    assert self_test(width=33, height=17, frames=3)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(base, "registered_encoders", {})
    settings: dict[str, Any] = {}

    def factory(**given: Any) -> ImageEncoder:
        settings.update(given)
        return ImageEncoder()

    base.register_video_encoder("mine", factory)
    return settings


def test_a_registered_encoder_is_built_with_every_setting(registered: dict[str, Any]) -> None:
    assert "mine" in base.available_video_encoders()
    selection = BackendSelection("webcodecs")
    built = base.build_encoder(selection, width=8, height=6, video_encoder="mine", pipeline_depth=2, color=SRGB)
    assert isinstance(built, ImageEncoder)
    assert registered == {
        "width": 8,
        "height": 6,
        "fps": 30,
        "bitrate": 12_000_000,
        "quality": None,
        "color": SRGB,
        "chroma": "420",
        "pipeline_depth": 2,
    }


def test_what_was_negotiated_is_built() -> None:
    built = base.build_encoder(BackendSelection("webcodecs"), width=64, height=48)
    assert isinstance(built, H264CpuEncoder)
    images = base.build_encoder(BackendSelection("image", image_mode="webp"), width=64, height=48)
    (payload,) = images.encode(frame(picture(64, 48)))
    assert (payload.kind, payload.mime, payload.keyframe) == ("image", "image/webp", True)
    with pytest.raises(ValueError, match="one of av1, h264_cpu, vp9, not 'nvenc'"):
        base.build_encoder(BackendSelection("webcodecs"), width=8, height=8, video_encoder="nvenc")


def test_pyav_is_only_imported_for_video_and_without_it_the_error_names_the_extra() -> None:
    code = """
import importlib, pkgutil, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "av":
            raise ImportError("no av")
sys.meta_path.insert(0, Block())
import pdum_rfb_widget as rfb
for name in ("base", "bitstream", "rate", "video", "h264_cpu", "vp9", "av1", "image"):
    importlib.import_module("pdum_rfb_widget.encoders." + name)
from pdum_rfb_widget.encoders import base, h264_cpu
from pdum_rfb_widget.types import VideoFormat
assert base.available_video_encoders() == []
assert not h264_cpu.h264_available() and not h264_cpu.self_test()
try:
    base.video_encoder_for(VideoFormat("h264", "420"), width=8, height=8)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "pip install 'pdum-rfb-widget[h264]'" in done.stdout
    seen = "import sys, pdum_rfb_widget.encoders.base, pdum_rfb_widget.encoders.h264_cpu; print('av' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "False"


# Bitstreams -----------------------------------------------------------------------------------------------------------


@every_h264
def test_the_sps_says_what_decoders_need_to_show_a_frame_at_once(chosen: VideoFormat) -> None:
    (payload,) = opened(chosen, 1279, 719).encode(frame(picture(1279, 719)))
    sps = sequence_parameters(payload.payload)
    assert (sps.width, sps.height) == (1280, 720)
    assert (sps.max_num_reorder_frames, sps.max_num_ref_frames) == (0, 1)
    assert sps.chroma_format_idc == (1 if chosen.chroma == "420" else 3)
    assert sps.color == ((1, 13, 0) if chosen.chroma == "rgb" else (1, 13, 6))
    assert sps.full_range == (chosen.chroma == "rgb")
    assert payload.codec == codec_string(payload.payload)
    assert str(payload.codec).startswith("avc1.42c0" if chosen.chroma == "420" else "avc1.f400")


@pytest.mark.parametrize(
    ("options", "kind", "expected"),
    [
        ("bframes=3:b-pyramid=normal", "yuv420p", {"profile_idc": 100, "max_num_reorder_frames": 2}),
        ("interlaced=1", "yuv420p", {"profile_idc": 100}),
        ("cqm=jvt:8x8dct=1", "yuv420p", {"profile_idc": 100}),
        ("cqm=jvt:8x8dct=1", "yuv444p", {"profile_idc": 244, "chroma_format_idc": 3}),
        ("", "yuv422p", {"profile_idc": 122, "chroma_format_idc": 2}),
        ("nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500:bitrate=400:pic-struct=1", "yuv420p", {"width": 50}),
        ("sar=7/5:overscan=show:chromaloc=1:videoformat=pal", "yuv420p", {"max_num_reorder_frames": 2}),
    ],
)
def test_sequence_parameters_of_every_kind_are_read(options: str, kind: str, expected: dict[str, int]) -> None:
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 50, 36, kind
    codec.time_base, codec.framerate = Fraction(1, 30), Fraction(30, 1)
    codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range = 6, 1, 13, 1
    codec.options = {"x264-params": options}
    packets = codec.encode(av.VideoFrame(50, 36, kind)) + codec.encode(None)
    sps = sequence_parameters(bytes(packets[0]))
    assert (sps.width, sps.height) == (50, 36)
    assert sps.color == (1, 13, 6)
    assert sps.max_dec_frame_buffering is not None
    assert sps.max_num_ref_frames <= sps.max_dec_frame_buffering <= 16
    assert {name: getattr(sps, name) for name in expected} == expected


def test_nal_units_are_split_at_start_codes_of_both_lengths() -> None:
    stream = b"\0\0\0\1\x67abc\0\0\1\x68d\0\0\0\1\x65\0\0\3\1"
    assert split_nal_units(stream) == [b"\x67abc", b"\x68d", b"\x65\0\0\3\1"]
    assert nal_types(stream) == [SPS, PPS, IDR]
    assert split_nal_units(b"no start code") == []


def test_streams_without_what_is_asked_for_are_refused() -> None:
    with pytest.raises(ValueError, match="no sequence parameter set"):
        codec_string(b"\0\0\1\x65abc")
    with pytest.raises(ValueError, match="ends too early"):
        sequence_parameters(b"\0\0\1\x67\x42\xc0\x1f")
    with pytest.raises(ValueError, match="no sequence header"):
        av1_codec_string(b"\x12\0")


def test_the_level_of_vp9_is_the_lowest_that_allows_the_frames() -> None:
    assert vp9_codec_string(64, 64, 30) == "vp09.00.10.08"
    assert vp9_codec_string(1280, 720, 30) == "vp09.00.31.08"
    assert vp9_codec_string(1920, 1080, 30) == "vp09.00.40.08"
    assert vp9_codec_string(1920, 1080, 60) == "vp09.00.41.08"
    assert vp9_codec_string(16384, 16384, 60) == "vp09.00.62.08"


# Rate -----------------------------------------------------------------------------------------------------------------


def steer(rate: RateControl, seconds: float, at_24: float, start: float = 0.0) -> list[tuple[float, int]]:
    """30 frames a second of *at_24* bytes at QP 24, halved each six QPs: when the QP changed, and to what."""
    changes = []
    for number in range(int(seconds * 30)):
        before, at = rate.qp, start + number / 30
        rate.observe(int(at_24 * 2 ** ((24 - rate.qp) / 6)), int(at * 1e6), keyframe=False)
        if rate.qp != before:
            changes.append((at, rate.qp))
    return changes


@pytest.mark.parametrize("at_24", [2_000, 20_000, 100_000, 400_000])
def test_the_rate_is_steered_into_its_band_and_left_there(at_24: float) -> None:
    rate = RateControl(8_000_000, pixels=1280 * 720, fps=30)
    steer(rate, 30, at_24)
    taken = 8 * 30 * at_24 * 2 ** ((24 - rate.qp) / 6)
    assert taken < 8_000_000 * 1.2 or rate.qp == COARSEST
    assert taken > 8_000_000 * 0.5 or rate.qp == FINEST
    assert steer(rate, 30, at_24 * 1.05, start=30) == []


def test_the_quality_changes_at_most_every_two_seconds() -> None:
    rate = RateControl(8_000_000, pixels=1280 * 720, fps=30)
    changes = []
    for second in range(40):
        changes += steer(rate, 1, [5_000, 200_000][second // 3 % 2], start=second)
    assert len(changes) >= 3
    assert np.diff([at for at, _ in changes]).min() > 1.999


def test_pauses_and_keyframes_do_not_change_the_quality() -> None:
    rate = RateControl(8_000_000, pixels=1280 * 720, fps=30)
    at_24 = 8_000_000 / 8 / 30 * 0.85 * 2 ** ((rate.qp - 24) / 6)
    before = rate.qp
    for burst in range(20):
        steer(rate, 0.3, at_24, start=60.0 * burst)
        rate.observe(10_000_000, int((60.0 * burst + 0.35) * 1e6), keyframe=True)
    assert rate.qp == before


def test_an_encoder_without_a_quality_follows_its_bitrate() -> None:
    noise = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(5)]
    encoder = H264CpuEncoder(width=128, height=96, bitrate=2_000_000)
    payloads, qualities = [], []
    for seq in range(30 * 12):
        payloads += encoder.encode(frame(noise[seq % 5], seq))
        qualities.append(encoder.quality)
    changed = [seq for seq in range(1, len(qualities)) if qualities[seq] != qualities[seq - 1]]
    assert [payload.seq for payload in payloads if payload.keyframe] == [0, *changed]
    assert len(payloads) == len(shown_by(payloads)) == 30 * 12
    last = sum(8 * len(payload.payload) for payload in payloads[-60:] if not payload.keyframe) / 2
    assert 0.5 * 2_000_000 < last < 1.3 * 2_000_000


# The browser ----------------------------------------------------------------------------------------------------------

DECODE = """async ({ data, codec, colorSpace, size }) => {
  const config = { codec, optimizeForLatency: true, ...(colorSpace && { colorSpace }) };
  if (!(await VideoDecoder.isConfigSupported(config)).supported) return null;
  const frame = await new Promise((resolve, reject) => {
    const decoder = new VideoDecoder({ output: resolve, error: reject });
    decoder.configure(config);
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    decoder.decode(new EncodedVideoChunk({ type: "key", timestamp: 0, data: bytes }));
  });
  const canvas = new OffscreenCanvas(size, size).getContext("2d", { willReadFrequently: true });
  canvas.drawImage(frame, 0, 0);
  const drawn = canvas.getImageData(0, 0, size, size).data;
  const copied = new Uint8Array(size * size * 4);
  await frame.copyTo(copied, { format: "RGBA" });
  frame.close();
  return [Array.from(drawn), Array.from(copied)];
}"""

BT601 = {"primaries": "bt709", "transfer": "iec61966-2-1", "matrix": "smpte170m", "fullRange": False}
RGB = BT601 | {"matrix": "rgb", "fullRange": True}


def decoded_by(page: Page, data: bytes | str, codec: str, space: object, size: int) -> list[npt.NDArray[np.int64]]:
    """The picture as it is drawn, and as it is copied out; it comes without a flush."""
    page.goto(serve_page("<!doctype html>", {}))
    coded = data if isinstance(data, str) else base64.b64encode(data).decode()
    read = page.evaluate(DECODE, {"data": coded, "codec": codec, "colorSpace": space, "size": size})
    assert read is not None, f"{codec} is not supported"
    return [np.array(pixels).reshape(size, size, 4)[..., :3] for pixels in read]


@every_encoder
def test_chromium_shows_flat_patches_in_their_colours(page: Page, chosen: VideoFormat) -> None:
    (payload,) = opened(chosen, 128, 128, quality=0 if chosen.chroma == "rgb" else 4).encode(frame(patches()))
    assert payload.codec is not None
    said = RGB if chosen.chroma == "rgb" else BT601
    # VP9 has no room for its primaries, without which Chromium doesn't believe its matrix.
    for space in [said] if chosen is VP9 else [said, None]:
        for shown in decoded_by(page, payload.payload, payload.codec, space, 128):
            limit = 0 if chosen.chroma == "rgb" else 4
            assert np.abs(shown[16::32, 16::32] - PATCHES.astype(int)).max() <= limit


@every_encoder
@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160)])
def test_chromium_takes_the_codec_strings(page: Page, chosen: VideoFormat, size: tuple[int, int]) -> None:
    (payload,) = opened(chosen, *size).encode(frame(np.zeros((size[1], size[0]), np.uint8)))
    page.goto(serve_page("<!doctype html>", {}))
    ask = "async codec => (await VideoDecoder.isConfigSupported({ codec })).supported"
    assert page.evaluate(ask, payload.codec)


def probes() -> list[dict[str, Any]]:
    """Those that a page tries its decoders with."""
    source = (Path(__file__).parent.parent / "js/src/decode/probes.ts").read_text()
    entries = source[source.index("PROBES: Probe[] = [") :].split("  {\n")[1:]
    lines = [[line.strip() for line in entry.splitlines() if ": " in line] for entry in entries]
    return [
        {name: json.loads(value[:-1]) for name, value in (line.split(": ", 1) for line in entry)} for entry in lines
    ]


@pytest.mark.parametrize("probe", probes(), ids=lambda probe: probe["capability"])
def test_chromium_passes_the_probes(page: Page, probe: dict[str, Any]) -> None:
    wanted = np.array(probe["patches"]).reshape(2, 2, 3)
    for shown in decoded_by(page, probe["data"], probe["codec"], probe["colorSpace"], 64):
        assert np.abs(shown[16::32, 16::32] - wanted).max() <= probe["tolerance"]


def test_there_is_a_probe_of_each_format() -> None:
    capabilities = ["webcodecs/h264-annexb", "rfb/h264-444", "rfb/h264-rgb", "rfb/vp9", "rfb/av1"]
    assert [probe["capability"] for probe in probes()] == capabilities


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="Linux lists threads there")
@pytest.mark.parametrize("form", ALL)
def test_no_encoder_changes_how_threads_are_scheduled(form: VideoFormat) -> None:
    encoder = opened(form, 64, 64)
    encode_all(encoder, [picture(64, 64, number) for number in range(3)])
    assert {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")} == {os.SCHED_OTHER}
