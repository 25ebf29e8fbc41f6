"""The base of all PyAV encoders: one access unit for each frame, keyframes when requested."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from .._system.processors import usable_processors
from ..types import Chroma, ColorSpace, EncodedPayload, RawFrame, check_int
from .pictures import PictureConverter, color_tags, import_av
from .rate import RateControl

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

QUALITIES = (0, 51)
"""The finest and the coarsest quality of every video encoder here: H.264's QP, or a value with a similar PSNR."""

STILL_QUALITY = 8
"""Quality for a scene at rest: brightness within 3 of 255, in 100 to 420 KB for renders of 720p.
A finer quality only takes more bytes."""

_MICROSECOND = Fraction(1, 1_000_000)
_SMALL = 1 << 18
"""Pixels below which a second thread costs more than it gains."""


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
        if chroma not in self.LIBRARIES:
            raise ValueError(f"{type(self).__name__} has the chroma {', '.join(self.LIBRARIES)}, not {chroma!r}")
        if not 0 < fps <= 1000:
            raise ValueError(f"fps is above 0, up to 1000, not {fps!r}")
        self.width, self.height = check_int("width", width, 1, 16384), check_int("height", height, 1, 16384)
        self.color = color
        self._fps, self._chroma, self._codec_string = fps, chroma, codec_string
        bitrate = check_int("bitrate", bitrate, 1, 10_000_000_000)
        self._rate = RateControl(bitrate, pixels=width * height, fps=fps) if quality is None else None
        self._quality = self._rate.qp if self._rate else check_int("quality", quality, *QUALITIES)
        self._codec: VideoCodecContext | None = None
        self._converter: PictureConverter | None = PictureConverter(width, height, chroma, self.SMALLEST)
        """None once the encoder is closed."""
        self._given: dict[int, _Given] = {}
        self._said = ""
        self._last_us = -1

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
        if (converter := self._converter) is None:
            raise RuntimeError("the encoder is closed")
        av = import_av()
        picture = converter.convert(frame, self._threads)
        pts = picture.pts = max(frame.timestamp_us, self._last_us + 1)
        picture.time_base = _MICROSECOND
        kind = av.video.frame.PictureType
        picture.pict_type = kind.I if force_keyframe else kind.NONE
        held = self._follow_rate()
        self._codec = self._codec or self._open(picture)
        self._given[pts] = _Given(frame.seq, frame.pixel_ratio)
        self._last_us = pts
        try:
            packets = self._codec.encode(picture)
        except av.FFmpegError:
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
        self._converter = None
        self._abandon()

    def _abandon(self) -> None:
        codec, self._codec = self._codec, None
        self._given.clear()
        if codec and codec.is_open:
            # SVT-AV1 complains of an encoder that is dropped without having been told that no frame follows.
            with suppress(import_av().FFmpegError):
                codec.encode(None)

    def _follow_rate(self) -> list[EncodedPayload]:
        if self._rate is None or self._rate.qp == self._quality:
            return []
        # An open encoder ignores changes of its quality.
        self._quality = self._rate.qp
        return self.flush()

    def _open(self, picture: VideoFrame) -> VideoCodecContext:
        av = import_av()
        codec: VideoCodecContext = av.CodecContext.create(self.LIBRARIES[self._chroma], "w")
        codec.width, codec.height, codec.pix_fmt = picture.width, picture.height, picture.format.name
        codec.time_base, codec.framerate = _MICROSECOND, Fraction(self._fps).limit_denominator(1000)
        tags = color_tags(self.color, self._chroma)
        codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range = tags
        codec.thread_count, codec.thread_type = self._threads, av.codec.context.ThreadType.SLICE
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
