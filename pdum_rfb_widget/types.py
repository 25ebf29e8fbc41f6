"""Values that all parts of the package share: frames, encoded payloads, events, options."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .events import Event
from .events import EventDict as EventDict

if TYPE_CHECKING:
    from .auth import Authenticator

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""One picture: uint8, ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA."""

MAX_SIDE = 16384
"""Pixels on a side of a frame: what canvases of today's browsers and the image formats all take."""
MIN_RATIO, MAX_RATIO = 0.1, 16.0
"""Device pixels a logical pixel: beyond what any screen has, with room for browsers' zoom, 0.25 to 5."""

Message: TypeAlias = str | tuple[bytes, bytes]
"""Something to send: a text, or a binary message as its header and its payload."""

Rect: TypeAlias = tuple[int, int, int, int]
"""``(x, y, width, height)`` in pixels of the frame."""

MemoryKind: TypeAlias = Literal["cpu"]
EncodedKind: TypeAlias = Literal["image", "video"]
ImageMode: TypeAlias = Literal["jpeg", "png", "webp"]
Quality: TypeAlias = Literal["auto", "lossless", "lossy"] | int
PixelFormat: TypeAlias = Literal["gray8", "rgb24", "rgba8", "bgra8"]
ResizePolicy: TypeAlias = Literal["publisher", "match_client"]
VideoCodec: TypeAlias = Literal["h264", "vp9", "av1"]
Codec: TypeAlias = Literal["auto", "h264", "vp9", "av1", "none"]
Chroma: TypeAlias = Literal["420", "444", "rgb"]
"""Colour sampling of video: half the resolution, full resolution, or RGB."""


@dataclass(frozen=True, slots=True)
class ColorSpace:
    """The meaning of a frame's numbers. Frames are tagged with it, never converted: that is the renderer's task.

    Names are those of WebCodecs' `VideoColorSpace`, but ``srgb`` for its ``iec61966-2-1``. Others raise `ValueError`.
    """

    primaries: str = "bt709"
    transfer: str = "srgb"
    matrix: str = "rgb"
    full_range: bool = True
    bit_depth: int = 8

    def __post_init__(self) -> None:
        for name, choices in _COLOR_VALUES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(map(str, choices))}, not {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, str | bool | int]:
        """The ``color`` field of the wire."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_COLOR_VALUES: dict[str, tuple[object, ...]] = {
    "primaries": ("bt709", "bt470bg", "smpte170m", "bt2020", "smpte432"),
    "transfer": ("srgb", "bt709", "smpte170m", "linear", "pq", "hlg"),
    "matrix": ("rgb", "bt709", "bt470bg", "smpte170m", "bt2020-ncl"),
    "full_range": (True, False),
    "bit_depth": (8, 10, 12, 16),
}
SRGB = ColorSpace()
"""The colour space of frames that name none."""
DISPLAY_P3 = ColorSpace(primaries="smpte432")
"""The wide gamut of Apple's and other recent screens, with the transfer function of sRGB."""


@dataclass(frozen=True, slots=True)
class InputEvent:
    """One input event and the viewer that it came from."""

    client_id: str
    """Opaque name of the viewer's connection, new for every connection."""
    principal: Any
    """The principal that the application's authenticator returned; None without an authenticator."""
    event: Event
    """A dict of ``type`` and the fields that renderview gives that type; ``x`` and ``y`` in pixels of the frame."""
    received_us: int
    """Time of arrival at the hub, in microseconds of `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """A message that a viewer's page sent on one of the application's channels."""

    client_id: str
    """Opaque name of the viewer's connection, for ``display.send(..., to=...)``."""
    principal: Any
    """The principal that the application's authenticator returned; None without an authenticator."""
    channel: str
    data: Any
    """Bytes, or what JSON can say; any of it, whatever the page's own code means to send."""
    received_us: int
    """Time of arrival at the hub, in microseconds of `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class Client:
    """A connected viewer."""

    client_id: str
    principal: Any
    view_only: bool


CURSORS = (
    *("default", "none", "context-menu", "help", "pointer", "progress", "wait", "cell", "crosshair", "text"),
    *("vertical-text", "alias", "copy", "move", "no-drop", "not-allowed", "grab", "grabbing", "all-scroll"),
    *("col-resize", "row-resize", "n-resize", "e-resize", "s-resize", "w-resize", "ne-resize", "nw-resize"),
    *("se-resize", "sw-resize", "ew-resize", "ns-resize", "nesw-resize", "nwse-resize", "zoom-in", "zoom-out"),
)
"""The keywords that CSS has for the look of the pointer, but for ``auto``, which guesses."""


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One frame as an encoder is given it. `Display.publish` takes it too; either refuses fields that contradict the
    data, or ask for what there isn't."""

    seq: int
    """For who made it and for encoders; a stream numbers what it sends itself."""
    width: int
    height: int
    timestamp_us: int
    """Microseconds of a monotonic clock; grows from frame to frame."""
    pixel_format: PixelFormat
    memory: MemoryKind
    data: Any
    """For ``cpu``: a uint8 array of shape ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``."""
    pixel_ratio: float = 1.0
    color: ColorSpace | None = None
    """None is `SRGB`."""


@dataclass(frozen=True, slots=True)
class EncodedPayload:
    """One image, which is always a keyframe, or one access unit of video."""

    seq: int
    kind: EncodedKind
    timestamp_us: int
    payload: bytes
    width: int
    height: int
    mime: str | None = None
    codec: str | None = None
    """The WebCodecs codec string, as the bitstream itself says it: ``avc1.42c01f``."""
    keyframe: bool = False
    """An IDR, or what other codecs have for it: it and all that follows decode without what came before."""
    duration_us: int | None = None
    metadata: dict[str, Any] | None = None
    pixel_ratio: float = 1.0
    color: ColorSpace | None = None


class FrameSource(Protocol):
    """A source of frames for a display: see `Display.attach` and `sources`."""

    async def next_frame(self) -> RawFrame:
        """The next frame, when there is one. Raises `StopAsyncIteration` after the last."""

    async def handle_event(self, event: Event) -> None:
        """Take a viewer's input."""


class EncoderBackend(Protocol):
    """Turns frames of one size into payloads. Opened, used and closed on one thread.

    It may offer ``encode_still(frame)`` too: the payloads of a keyframe as fine as is sensible, for viewers that take
    nothing but video, of a scene at rest. The frame after it is a keyframe.
    """

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        """The payloads that *frame* completes: one, but for encoders with a pipeline, which may hold some back."""

    def flush(self) -> list[EncodedPayload]:
        """The payloads that were held back. The next frame is a keyframe."""

    def close(self) -> None:
        """Give back what it holds; safe to call again, and in any state."""


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """A video format that a viewer decodes and a shared encoder produces."""

    codec: VideoCodec
    chroma: Chroma


@dataclass(frozen=True, slots=True)
class EncoderKey:
    """The properties that all viewers of one shared encoder have in common."""

    formats: tuple[VideoFormat, ...]
    """Formats of one codec that all of them decode."""
    rung: int
    """Index in the ladder of qualities; 0 is lossless."""


@dataclass(frozen=True, slots=True)
class BackendSelection:
    """The format that a viewer is sent, as `build_encoder` takes it."""

    transport: Literal["image", "webcodecs"]
    mime: str | None = None
    codec: str | None = None
    """The codec string that was negotiated; payloads say what their stream is."""
    image_mode: ImageMode | None = None


@dataclass(frozen=True, slots=True)
class DownscaleHint:
    """Advice to publish smaller frames, among the events of `Display.poll_events`, when all else was tried for the
    slowest viewer; or larger ones again."""

    scale: float
    """Scale relative to the full size, above 0, at most 1."""
    width: int
    """The display's first width, scaled; in pixels."""
    height: int
    received_us: int
    """Time of the advice, in microseconds of `time.monotonic`."""


StreamEvent: TypeAlias = InputEvent | DownscaleHint
"""An item of `Display.poll_events` and `Display.events`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The formats that a viewer and the hub agreed on."""

    lossy: str | None
    """The mime type of pictures with a quality; None for a viewer or a stream that takes exact ones only."""
    exact: str | None
    """The mime type of exact pictures, None for a viewer that takes no such format."""
    tiles: bool
    """Several rectangles may be sent at once, in place of whole pictures."""
    video: tuple[VideoFormat, ...] = ()
    """Formats that its decoder takes, of the codec that the stream wants; the first is the fallback."""

    @property
    def pictures(self) -> bool:
        """It takes pictures, and not only video."""
        return bool(self.lossy or self.exact)

    @property
    def settles(self) -> bool:
        """Whether it may be sent lossy pictures that can be made lossless later."""
        return bool(self.exact and (self.lossy or self.video))


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The encoding of a region. Viewers that need the same region with equal fidelities share one encoding."""

    mime: str
    quality: int | None
    """1 to 100, None for exact formats."""
    tiles: bool
    """The region may be encoded in stripes."""
    or_exact: str | None = None
    """An exact format that may stand in where it is no larger."""
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One encoded rectangle."""

    rect: Rect
    mime: str
    data: bytes
    exact: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """A region of a frame, ready for the wire."""

    parts: tuple[Part, ...]
    payload: bytes
    """The parts' bytes, one after the other."""
    encode_ms: float


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Every setting of a stream: named, documented and validated here, and nowhere else.

    Raises `TypeError` or `ValueError` that names the option, what came and what is wanted.
    """

    fps: int = 30
    """The rate the publisher means to keep, 1 to 240 frames a second. Advisory: nothing waits for it."""
    quality: Quality = "auto"
    """Quality of frames in motion. ``auto``: lossless while the connection and the viewer keep up with the published
    rate, lossy while they don't. ``lossless``: always. ``lossy``: lossless only where that is no larger. A number, 1 to
    100: that quality of JPEG or WebP."""
    codec: Codec | str = "auto"
    """Codec of frames in motion. ``auto``: H.264 while more changes than a viewer's connection takes as good pictures,
    pictures of what changed otherwise. ``h264``, ``vp9`` or ``av1``: always video where the viewer decodes that or
    H.264; the latter two take fewer bytes and more time. ``none``: never video. The name of an encoder that was added
    by `register_video_encoder`: always video, by that encoder."""
    image_mode: ImageMode = "jpeg"
    """The format of lossy pictures where the viewer takes it: ``jpeg``, or ``webp``, smaller and slow. ``png`` is exact
    always, like ``quality="lossless"``."""
    still_after: float | None = 0.15
    """Seconds after which what came to rest and stands lossy in a viewer is made exact, or None for never. Long enough
    not to begin between two frames of a drag, short enough to feel immediate."""
    bitrate: int = 12_000_000
    """Bits a second that a viewer may cost, 50,000 to 10 billion, where its page isn't of this machine or its link
    isn't three times as fast as needed. The default fits a home's line."""
    alpha: bool = False
    """Keep the alpha channel of RGBA frames, in PNG whatever the quality: viewers that take none, and those that opened
    before it was asked for, show them opaque. Canvases multiply colours by alpha: translucent ones may be off by 1."""
    max_inflight: int | None = None
    """Payloads a viewer may have unacknowledged, 1 to 16. None is two, which fill 60 frames a second on a short way,
    and on a long one those that it holds while they travel, if they are small: any more would add lag."""
    own_frames: bool = True
    """Copy what is published, so that its buffer may be reused at once. False borrows it: don't touch it afterwards."""
    event_queue_size: int = 4096
    """Events kept for an application that doesn't poll; the oldest go first."""
    adaptive: bool = False
    """Also advise the publisher, by a `DownscaleHint` among the events, when a viewer can't keep up with the size."""
    stats_interval: float | None = 1.0
    """Seconds between ``stats`` messages to a viewer that is being fed, or None for never."""
    resize_policy: ResizePolicy = "publisher"
    """The side that decides how large frames are: the ``publisher`` alone, or with ``match_client`` the viewers, by
    `Display.target_size`."""
    max_render_dimension: int | None = 4096
    """Pixels a side, 2 to 16384, that `Display.target_size` stays within, so that no viewer can ask for gigabytes. The
    default is as wide as the H.264 of common hardware goes, and a 4K screen. None for 16384, what a frame may have."""
    authenticate: Authenticator | None = None
    """A function that admits viewers of this stream, in place of the hub's tokens: see `auth.Authenticator`."""
    clipboard: bool = False
    """Let `Display.set_clipboard` write the clipboards of viewers, and tell a paste into a view as an event ``paste``.
    Off, since a page that is only looked at should not touch what its user has copied."""
    record_events: bool = False
    """Keep the newest 10,000 input events for ``/recorded-events`` of the hub's port: for tests."""
    event_log: str | os.PathLike[str] | None = None
    """A file that every input event is appended to, as a line of JSON."""
    resize_debounce: float = 0.12
    """Seconds, 0 to 60, for which a viewer's size must stay the same before `Display.target_size` follows. The default
    renders nothing between the steps of a drag, and is felt as at once."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("fps", 1, 240),
            ("bitrate", 50_000, 10_000_000_000),
            ("event_queue_size", 1, 1 << 20),
        ):
            object.__setattr__(self, name, check_int(name, getattr(self, name), low, high))
        if self.max_inflight is not None:
            object.__setattr__(self, "max_inflight", check_int("max_inflight", self.max_inflight, 1, 16))
        for name, choices in (("image_mode", get_args(ImageMode)), ("resize_policy", get_args(ResizePolicy))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.max_render_dimension is not None:
            most = check_int("max_render_dimension", self.max_render_dimension, 2, MAX_SIDE)
            object.__setattr__(self, "max_render_dimension", most)
        debounce = check_number("resize_debounce", self.resize_debounce, 0, 60)
        object.__setattr__(self, "resize_debounce", debounce)
        if self.quality not in ("auto", "lossless", "lossy"):
            if not isinstance(self.quality, (int, np.integer)) or isinstance(self.quality, bool):
                kind = TypeError if not isinstance(self.quality, str) else ValueError
                raise kind(f"quality is auto, lossless, lossy or a whole number, 1 to 100, not {self.quality!r}")
            object.__setattr__(self, "quality", check_int("quality", self.quality, 1, 100))
        if self.codec not in get_args(Codec):
            from .encoders.base import is_registered  # imports this module

            if not is_registered(self.codec):
                known = f"{', '.join(get_args(Codec))}, or the name of an encoder that was registered"
                raise ValueError(f"codec is one of {known}, not {self.codec!r}")
        if not (self.authenticate is None or callable(self.authenticate)):
            raise TypeError(f"authenticate is a function of an AuthContext, or None, not {self.authenticate!r}")
        if not (self.event_log is None or isinstance(self.event_log, (str, os.PathLike))):
            raise TypeError(f"event_log is the path of a file, or None, not {self.event_log!r}")
        for name in ("own_frames", "alpha", "adaptive", "clipboard", "record_events"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is True or False, not {getattr(self, name)!r}")
        for name in ("still_after", "stats_interval"):
            seconds = getattr(self, name)
            if seconds is None:
                continue
            if not isinstance(seconds, Real) or isinstance(seconds, bool) or not 0 < float(seconds) <= 60:
                raise ValueError(f"{name} is a number of seconds above 0, up to 60, or None, not {seconds!r}")
            object.__setattr__(self, name, float(seconds))

    def but(self, options: Mapping[str, Any]) -> StreamOptions:
        """These, with *options* in their place."""
        return self.of({field.name: getattr(self, field.name) for field in fields(self)} | dict(options))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> StreamOptions:
        """The options named in *options*, with a `TypeError` that lists all names when one is unknown."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(options) - set(known)):
            hint = _ELSEWHERE.get(unknown[0]) or f"{did_you_mean(unknown[0], known)}a stream takes {', '.join(known)}"
            raise TypeError(f"unknown option {', '.join(unknown)}; {hint}")
        return cls(**options)


_ELSEWHERE = {
    "encode_pipeline_depth": "leave it out: no encoder here holds frames back",
    "gpu": "publish np.asarray(frame), of CuPy frame.get(): arrays on a GPU come in a later version",
    "has_h264": 'codec="none" for pictures only; without it H.264 is used where PyAV and the viewer have it',
    "has_nvenc": 'codec="h264", on the processor: NVENC comes in a later version',
}
"""Replacements for options that streams of `pdum.rfb` have, in the words of docs/migration.md."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the one of *known* that looks like *name*, to begin an error with; empty where none does."""
    return "".join(f"did you mean {close}? " for close in get_close_matches(name, known, 1))


def check_number(name: str, value: object, low: float, high: float) -> float:
    """*value* as a float; raises unless it is a number within *low* to *high*, both included."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is a number, not {reprlib.repr(value)} ({type(value).__name__})")
    if not low <= float(value) <= high:
        raise ValueError(f"{name} is {low} to {high}, not {value}")
    return float(value)


def check_int(name: str, value: object, low: int, high: int) -> int:
    """*value* as an int; raises unless it is a whole number within *low* to *high*, both included."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {reprlib.repr(value)} ({type(value).__name__})")
    if not low <= value <= high:
        raise ValueError(f"{name} is {low} to {high}, not {value}")
    return int(value)
