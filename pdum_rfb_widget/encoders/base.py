"""The encoders by name: the built-in ones, imported on first use, and those that were registered."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, get_args

from ..types import (
    BackendSelection,
    Chroma,
    Codec,
    ColorSpace,
    EncoderBackend,
    VideoCodec,
    VideoFormat,
    registered_encoders,
)
from .image import ImageEncoder
from .pictures import import_av
from .video import VideoEncoder


class VideoEncoderFactory(Protocol):
    """Opens an encoder for frames of one size."""

    def __call__(
        self,
        *,
        width: int,
        height: int,
        fps: float,
        bitrate: int,
        quality: int | None,
        color: ColorSpace | None,
        chroma: Chroma,
        pipeline_depth: int,
    ) -> EncoderBackend:
        """*bitrate* counts where *quality*, 0 to 51, is None; *pipeline_depth* is how many frames may be held back."""


_BUILT_IN = {
    "h264_cpu": ("h264_cpu", "H264CpuEncoder"),
    "vp9": ("vp9", "Vp9Encoder"),
    "av1": ("av1", "Av1Encoder"),
}
"""Module and class of each name."""
_OF_CODEC: dict[VideoCodec, str] = {"h264": "h264_cpu", "vp9": "vp9", "av1": "av1"}
# Any thread registers; nothing is removed.
codec_of: dict[str, VideoCodec] = {name: codec for codec, name in _OF_CODEC.items()}
"""The codec that an encoder of this name produces."""


def register_video_encoder(name: str, factory: VideoEncoderFactory, *, codec: VideoCodec | None = None) -> None:
    """Adds an encoder for all streams, or replaces the one of that *name*, such as ``h264_cpu`` or ``vp9``.

    A stream asks for one of another name by ``codec=name``. *codec* is what it produces: by default that of the encoder
    that it replaces, or ``h264``. It needs no PyAV. Streams open it with ``pipeline_depth=0``: one payload, or several
    to be joined, for each frame; frames that it holds back all the same are flushed every time, which costs keyframes.
    Raises `ValueError` for a name that means something else, or an unknown codec.
    """
    if name in get_args(Codec) and name not in _BUILT_IN:
        raise ValueError(f"{name!r} is no name for an encoder: codec={name!r} means something else")
    if not (codec is None or codec in _OF_CODEC):
        raise ValueError(f"codec is one of {', '.join(_OF_CODEC)}, not {codec!r}")
    codec_of[name] = codec or codec_of.get(name, "h264")
    registered_encoders[name] = factory


@cache
def pyav_installed() -> bool:
    """True if PyAV is installed. It is imported when it is first needed."""
    return find_spec("av") is not None


def codecs_for(wanted: str) -> tuple[VideoCodec, ...]:
    """Returns the codecs that streams with ``codec=wanted`` may send and that have an encoder, the preferred first."""
    if wanted == "none":
        return ()
    codecs = _codecs_from(codec_of.get(wanted, "h264") if wanted in registered_encoders else wanted)
    if pyav_installed():
        return codecs
    return tuple(codec for codec in codecs if encoder_for(codec, wanted) in registered_encoders)


@cache
def _codecs_from(first: str) -> tuple[VideoCodec, ...]:
    """Returns H.264, after the *first* codec if that is another."""
    return (*(codec for codec in _OF_CODEC if codec == first != "h264"), "h264")


def encoder_for(codec: VideoCodec, wanted: str) -> str:
    """Returns the name of the encoder for *codec* in streams with the option ``codec=wanted``."""
    return wanted if wanted in registered_encoders and codec_of[wanted] == codec else _OF_CODEC[codec]


def available_video_encoders() -> list[str]:
    """Returns the names of registered encoders, and of the built-in ones that this machine has; sorted."""
    built_in = {name for name in _BUILT_IN if _class_of(name).available()}
    return sorted(built_in | set(registered_encoders))


def require_codec(codec: str) -> None:
    """Raises `ImportError` that names the extra where PyAV is missing, `ValueError` where it lacks that encoder."""
    if codec in ("auto", "none"):
        return
    name = codec if codec in registered_encoders else _OF_CODEC[codec]  # type: ignore[index]
    if name not in registered_encoders and not _class_of(name).available():
        import_av()
        raise ValueError(f"the PyAV that is installed has no encoder for {codec}")


def build_encoder(
    selection: BackendSelection,
    *,
    width: int,
    height: int,
    fps: float = 30,
    bitrate: int = 12_000_000,
    video_encoder: str = "h264_cpu",
    pipeline_depth: int = 0,
    color: ColorSpace | None = None,
) -> EncoderBackend:
    """Returns the encoder for a negotiated selection: images in `selection.image_mode`, or *video_encoder*, 4:2:0.

    The other settings are those of `VideoEncoderFactory`; images need none. Raises `ValueError` for an unknown encoder,
    `ImportError` that names the extra where PyAV is missing.
    """
    if selection.transport == "image":
        return ImageEncoder(mode=selection.image_mode or "jpeg")
    return _factory_of(video_encoder)(
        width=width,
        height=height,
        fps=fps,
        bitrate=bitrate,
        quality=None,
        color=color,
        chroma="420",
        pipeline_depth=pipeline_depth,
    )


def video_encoder_for(
    format: VideoFormat,
    *,
    width: int,
    height: int,
    fps: float = 30,
    bitrate: int = 12_000_000,
    quality: int | None = None,
    color: ColorSpace | None = None,
    wanted: str = "auto",
) -> EncoderBackend:
    """Returns the backend of a shared encoder, in a stream with the option ``codec=wanted``: *format* at one *quality*,
    0 to 51, or steered towards *bitrate* bits a second.

    Raises `ValueError` for a chroma that the codec lacks, `ImportError` that names the extra where PyAV is missing.
    """
    return _factory_of(encoder_for(format.codec, wanted))(
        width=width,
        height=height,
        fps=fps,
        bitrate=bitrate,
        quality=quality,
        color=color,
        chroma=format.chroma,
        pipeline_depth=0,
    )


def _factory_of(name: str) -> VideoEncoderFactory:
    if factory := registered_encoders.get(name):
        return factory
    if name not in _BUILT_IN:
        known = ", ".join(sorted({*_BUILT_IN, *registered_encoders}))
        raise ValueError(f"a video encoder is one of {known}, not {name!r}")
    encoder = _class_of(name)

    def build(*, pipeline_depth: int, **settings: Any) -> EncoderBackend:
        return encoder(**settings)  # none of them holds frames back

    return build


def _class_of(name: str) -> type[VideoEncoder]:
    module, attribute = _BUILT_IN[name]
    found: type[VideoEncoder] = getattr(import_module(f".{module}", __package__), attribute)
    return found
