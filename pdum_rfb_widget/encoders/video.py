"""The base of all PyAV encoders: one access unit for each frame, keyframes when requested.

PyAV is imported when the first encoder is made: the package works without it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._frames.pixels import raw_pixels
from .._system.interrupts import uninterrupted
from .._system.processors import usable_processors
from ..types import SRGB, Chroma, ColorSpace, EncodedPayload, PixelFormat, Pixels, RawFrame, check_int
from .rate import RateControl

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

QUALITIES = (0, 51)
"""The finest and the coarsest quality of every video encoder here: H.264's QP, or a value with a similar PSNR."""

STILL_QUALITY = 8
"""Quality for a scene at rest: brightness within 3 of 255, in 100 to 420 KB for renders of 720p.
A finer quality only takes more bytes."""

_SOURCES: dict[PixelFormat, str] = {"gray8": "gray", "rgb24": "rgb24", "rgba8": "rgba", "bgra8": "bgra"}
"""PyAV's name of each pixel format."""
_PIXEL_FORMATS: dict[Chroma, str] = {"420": "yuv420p", "444": "yuv444p", "rgb": "rgb24"}

_PRIMARIES = {"bt709": 1, "bt470bg": 5, "smpte170m": 6, "bt2020": 9, "smpte432": 12}
_TRANSFERS = {"bt709": 1, "smpte170m": 6, "linear": 8, "srgb": 13, "pq": 16, "hlg": 18}
_RGB_MATRIX, _BT601_MATRIX = 0, 6
_LIMITED, _FULL = 1, 2
"""Code points of ITU-T H.273; the ranges are FFmpeg's."""
_SWS_BT601 = 5

_MICROSECOND = Fraction(1, 1_000_000)
_SMALL = 1 << 18
"""Pixels below which a second thread costs more than it gains."""


def color_tags(color: ColorSpace | None, chroma: Chroma = "420") -> tuple[int, int, int, int]:
    """Returns a stream's tags: primaries, transfer, matrix and range in FFmpeg's code points; None is `SRGB`.

    The matrix is BT.601 of limited range for ``420`` and ``444``: tagged so, with primaries and transfer, Chromium 156
    and Firefox 153 show flat patches within 2 of 255; untagged they are up to 39 off, and Firefox takes full range for
    limited. ``rgb`` is RGB of full range.
    """
    color = color or SRGB
    matrix, span = (_RGB_MATRIX, _FULL) if chroma == "rgb" else (_BT601_MATRIX, _LIMITED)
    return _PRIMARIES[color.primaries], _TRANSFERS[color.transfer], matrix, span


def import_av() -> Any:
    """Returns the module of PyAV. Raises `ImportError` that says which extra to install."""
    try:
        with uninterrupted():  # half imported it can't be imported again, and crashes
            return import_module("av")
    except ImportError as error:
        hint = "video needs PyAV, which isn't installed: pip install 'pdum-rfb-widget[h264]'"
        raise ImportError(hint, name="av") from error


def has_codec(*names: str) -> bool:
    """True if PyAV is installed, and has all encoders of these names."""
    try:
        av = import_av()
        return all(av.Codec(name, "w").is_encoder for name in names)
    except (ImportError, ValueError):  # PyAV's error for an unknown codec is a ValueError
        return False


@dataclass(frozen=True, slots=True)
class _Given:
    """The fields that a payload takes from its frame."""

    seq: int
    pixel_ratio: float


class VideoEncoder:
    """Encodes frames of one size into access units, with an FFmpeg encoder that is opened with the first frame.

    *width* and *height* are pixels, 1 to 16384; odd ones are padded with their last row and column, and the viewer
    crops. *fps* is advice to codecs that plan ahead. *quality*, 0 to 51, holds one quality, H.264's QP or a value close
    to it; None steers it towards *bitrate*, in bits a second. *color* is the frames' colour space, tagged and never
    converted. *codec_string* replaces the one that the stream gives.

    Raises `ImportError` that names the extra where PyAV is missing, `ValueError` or `TypeError` for settings.
    """

    LIBRARIES: ClassVar[dict[Chroma, str]]
    """FFmpeg's encoder for each chroma that the codec has."""
    SMALLEST: ClassVar[int] = 2
    """Fewest pixels of a side that the codec takes; smaller frames are padded."""

    def __init__(
        self,
        *,
        width: int,
        height: int,
        fps: float = 30,
        bitrate: int = 12_000_000,
        codec_string: str | None = None,
        color: ColorSpace | None = None,
        quality: int | None = None,
        chroma: Chroma = "420",
    ) -> None:
        self._av = import_av()
        if chroma not in self.LIBRARIES:
            raise ValueError(f"{type(self).__name__} has the chroma {', '.join(self.LIBRARIES)}, not {chroma!r}")
        if not 0 < fps <= 1000:
            raise ValueError(f"fps is above 0, up to 1000, not {fps!r}")
        self.width, self.height = check_int("width", width, 1, 16384), check_int("height", height, 1, 16384)
        self.color, self._tags = color, color_tags(color, chroma)
        self._fps, self._chroma, self._codec_string = fps, chroma, codec_string
        bitrate = check_int("bitrate", bitrate, 1, 10_000_000_000)
        self._rate = RateControl(bitrate, pixels=width * height, fps=fps) if quality is None else None
        self._quality = self._rate.qp if self._rate else check_int("quality", quality, *QUALITIES)
        self._codec: VideoCodecContext | None = None
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._padded: Pixels | None = None
        self._given: dict[int, _Given] = {}
        self._said = ""
        self._last_us = -1
        self._closed = False

    @classmethod
    def available(cls) -> bool:
        """True if PyAV is installed, and has the encoders."""
        return has_codec(*cls.LIBRARIES.values())

    @property
    def quality(self) -> int:
        """Quality of the next frame, 0 to 51."""
        return self._quality

    # What the codecs differ in ----------------------------------------------------------------------------------------

    def _options(self) -> dict[str, str]:
        """Returns FFmpeg's options, for `quality` and no delay."""
        raise NotImplementedError

    def _name(self, keyframe: bytes) -> str:
        """Returns the WebCodecs codec string of a stream that begins with *keyframe*."""
        raise NotImplementedError

    # EncoderBackend ---------------------------------------------------------------------------------------------------

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        """Returns the access units that *frame* completes; timestamps are the frames', or a microsecond after the last.

        Raises `ValueError` for a frame of another size than the encoder's, what `raw_pixels` raises, and `RuntimeError`
        after `close`. After an error of FFmpeg the next frame begins anew.
        """
        if self._closed:
            raise RuntimeError("the encoder is closed")
        picture = self._converted(self._picture(frame))
        pts = picture.pts = max(frame.timestamp_us, self._last_us + 1)
        picture.time_base = _MICROSECOND
        kind = self._av.video.frame.PictureType
        picture.pict_type = kind.I if force_keyframe else kind.NONE
        held = self._follow_rate()
        self._codec = self._codec or self._open(picture)
        self._given[pts] = _Given(frame.seq, frame.pixel_ratio)
        self._last_us = pts
        try:
            packets = self._codec.encode(picture)
        except self._av.FFmpegError:
            self._abandon()
            raise
        return held + self._payloads(packets)

    def encode_still(self, frame: RawFrame) -> list[EncodedPayload]:
        """Returns *frame* as a keyframe of `STILL_QUALITY`, or of `quality` if finer. The next frame is one too."""
        held = self.flush()
        rate, quality = self._rate, self._quality
        self._rate, self._quality = None, min(quality, STILL_QUALITY)
        try:
            return held + self.encode(frame, force_keyframe=True) + self.flush()
        finally:
            # An open encoder keeps its quality: the next frame opens another.
            self._abandon()
            self._rate, self._quality = rate, quality

    def flush(self) -> list[EncodedPayload]:
        """Returns the payloads that were held back. The next frame opens the encoder again, and is a keyframe."""
        codec, self._codec = self._codec, None
        return self._payloads(codec.encode(None)) if codec else []

    def close(self) -> None:
        """Closes the encoder, in any state. Frames are refused from then on."""
        self._closed = True
        self._abandon()
        self._padded = None

    def _abandon(self) -> None:
        codec, self._codec = self._codec, None
        self._given.clear()
        if codec and codec.is_open:
            # SVT-AV1 complains of an encoder that is dropped without having been told that no frame follows.
            with suppress(self._av.FFmpegError):
                codec.encode(None)

    def _follow_rate(self) -> list[EncodedPayload]:
        if self._rate is None or self._rate.qp == self._quality:
            return []
        # An open encoder ignores changes of its quality.
        self._quality = self._rate.qp
        return self.flush()

    def _open(self, picture: VideoFrame) -> VideoCodecContext:
        codec: VideoCodecContext = self._av.CodecContext.create(self.LIBRARIES[self._chroma], "w")
        codec.width, codec.height, codec.pix_fmt = picture.width, picture.height, picture.format.name
        codec.time_base, codec.framerate = _MICROSECOND, Fraction(self._fps).limit_denominator(1000)
        codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range = self._tags
        codec.thread_count, codec.thread_type = self._threads, self._av.codec.context.ThreadType.SLICE
        codec.options = self._options()
        return codec

    @property
    def _threads(self) -> int:
        return 1 if self.width * self.height < _SMALL else min(4, usable_processors())

    def _payloads(self, packets: list[Any]) -> list[EncodedPayload]:
        return [self._payload(packet) for packet in packets]

    def _payload(self, packet: Any) -> EncodedPayload:
        data, keyframe, timestamp = bytes(packet), bool(packet.is_keyframe), int(packet.pts)
        if keyframe:
            self._said = self._codec_string or self._name(data)
        if self._rate:
            self._rate.observe(len(data), timestamp, keyframe=keyframe)
        given = self._given.pop(timestamp)
        return EncodedPayload(
            seq=given.seq,
            kind="video",
            timestamp_us=timestamp,
            payload=data,
            width=self.width,
            height=self.height,
            codec=self._said,
            keyframe=keyframe,
            pixel_ratio=given.pixel_ratio,
            color=self.color,
        )

    # Pixels -----------------------------------------------------------------------------------------------------------

    def _picture(self, frame: RawFrame) -> VideoFrame:
        """Returns the pixels as they are, without a copy where rows are packed and sizes even."""
        if (frame.width, frame.height) != (self.width, self.height):
            came = f"{frame.width}x{frame.height}"
            raise ValueError(f"the frame is {came} pixels, the encoder is for {self.width}x{self.height}")
        return picture_of(self._pad(raw_pixels(frame)), _SOURCES[frame.pixel_format])

    def _pad(self, pixels: Pixels) -> Pixels:
        """Returns *pixels*, or a copy that repeats the last column and row as often as the codec needs."""
        height, width = pixels.shape[:2]
        wanted = (_padded(height, self.SMALLEST), _padded(width, self.SMALLEST), *pixels.shape[2:])
        if wanted == pixels.shape:
            return pixels
        if self._padded is None or self._padded.shape != wanted:
            self._padded = np.empty(wanted, np.uint8)
        padded = self._padded
        padded[:height, :width] = pixels
        padded[:height, width:] = padded[:height, width - 1 : width]
        padded[height:] = padded[height - 1]
        return padded

    def _converted(self, picture: VideoFrame) -> VideoFrame:
        wanted = _PIXEL_FORMATS[self._chroma]
        if picture.format.name == wanted:
            return picture
        # 'area' takes as long as PyAV's default, and chroma of 4:2:0 is up to 0.9 dB better.
        area = self._av.video.reformatter.Interpolation.AREA
        converted: VideoFrame = self._reformatter.reformat(
            picture,
            format=wanted,
            dst_colorspace=_SWS_BT601,
            dst_color_range=_FULL if self._chroma == "rgb" else _LIMITED,
            interpolation=area,
            threads=self._threads,
        )
        return converted


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
