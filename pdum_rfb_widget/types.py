"""Types that all parts of the package share: frames, encoded payloads, events, options."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Mapping
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
"""Longest side of a frame in pixels: canvases of today's browsers and all image formats support it."""
MIN_RATIO, MAX_RATIO = 0.1, 16.0
"""Range of device pixels per logical pixel: wider than any screen, with room for browser zoom of 0.25 to 5."""

Message: TypeAlias = str | tuple[bytes, bytes]
"""A message to send: text, or for a binary message its header and its payload."""

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
registered_encoders: dict[str, Callable[..., EncoderBackend]] = {}
"""The factories given to `encoders.base.register_video_encoder`, by the name that `StreamOptions.codec` accepts."""
Chroma: TypeAlias = Literal["420", "444", "rgb"]
"""Colour sampling of video: half the resolution, full resolution, or RGB."""


@dataclass(frozen=True, slots=True)
class ColorSpace:
    """The meaning of a frame's numbers. Frames are tagged with it, never converted: converting is the renderer's task.

    Values are those of WebCodecs' `VideoColorSpace`, except ``srgb`` for ``iec61966-2-1``. Others raise `ValueError`.
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
        """The ``color`` field of the protocol."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_COLOR_VALUES: dict[str, tuple[object, ...]] = {
    "primaries": ("bt709", "bt470bg", "smpte170m", "bt2020", "smpte432"),
    "transfer": ("srgb", "bt709", "smpte170m", "linear", "pq", "hlg"),
    "matrix": ("rgb", "bt709", "bt470bg", "smpte170m", "bt2020-ncl"),
    "full_range": (True, False),
    "bit_depth": (8, 10, 12, 16),
}
SRGB = ColorSpace()
"""The colour space of frames that don't name one."""
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
    """Bytes or any JSON value. The page may send any value, so check it."""
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
"""CSS keywords for the shape of the pointer, except ``auto``, which guesses."""


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One frame, as encoders receive it. `Display.publish` accepts it too. Both refuse fields that contradict the data
    or request something unsupported."""

    seq: int
    """Number of the frame, for its source and for encoders; a stream numbers its payloads itself."""
    width: int
    height: int
    timestamp_us: int
    """Time in microseconds of a monotonic clock; increases from frame to frame."""
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
    """The WebCodecs codec string, read from the bitstream itself: ``avc1.42c01f``."""
    keyframe: bool = False
    """An IDR or its equivalent in other codecs: it and all later payloads decode without earlier ones."""
    duration_us: int | None = None
    metadata: dict[str, Any] | None = None
    pixel_ratio: float = 1.0
    color: ColorSpace | None = None


class FrameSource(Protocol):
    """A source of frames for a display: see `Display.attach` and `sources`."""

    async def next_frame(self) -> RawFrame:
        """Wait for the next frame, and return it. Raises `StopAsyncIteration` after the last."""

    async def handle_event(self, event: Event) -> None:
        """Handle a viewer's input event."""


class EncoderBackend(Protocol):
    """Encodes frames of one size into payloads. Created, used and closed on one thread.

    It may also have ``encode_still(frame)``: the payloads of a keyframe of the best sensible quality, for a picture at
    rest and viewers that accept only video. The frame after it is a keyframe.
    """

    def encode(self, frame: RawFrame, *, force_keyframe: bool = False) -> list[EncodedPayload]:
        """The payloads that *frame* completes: one, except that encoders with a pipeline may hold some back."""

    def flush(self) -> list[EncodedPayload]:
        """The payloads held back so far. The next frame is a keyframe."""

    def close(self) -> None:
        """Release all resources. May be called again, and in any state."""


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """A video format that a viewer decodes and a shared encoder produces."""

    codec: VideoCodec
    chroma: Chroma


@dataclass(frozen=True, slots=True)
class EncoderKey:
    """The properties common to all viewers of one shared encoder."""

    formats: tuple[VideoFormat, ...]
    """Formats of one codec that all these viewers decode."""
    rung: int
    """Index in the ladder of qualities; 0 is lossless."""


@dataclass(frozen=True, slots=True)
class BackendSelection:
    """The format sent to a viewer, as `build_encoder` accepts it."""

    transport: Literal["image", "webcodecs"]
    mime: str | None = None
    codec: str | None = None
    """The negotiated codec string; payloads name the actual one of their stream."""
    image_mode: ImageMode | None = None


@dataclass(frozen=True, slots=True)
class DownscaleHint:
    """Advice among the events of `Display.poll_events` to publish smaller frames, once nothing else helps the slowest
    viewer, or larger ones again."""

    scale: float
    """Scale relative to the full size; above 0, at most 1."""
    width: int
    """The display's first width, scaled, in pixels."""
    height: int
    received_us: int
    """Time of the advice, in microseconds of `time.monotonic`."""


StreamEvent: TypeAlias = InputEvent | DownscaleHint
"""An item of `Display.poll_events` and `Display.events`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The formats that a viewer and the hub agreed on."""

    lossy: str | None
    """The mime type of lossy pictures; None if the viewer or the stream accepts only exact ones."""
    exact: str | None
    """The mime type of exact pictures; None if the viewer accepts no such format."""
    tiles: bool
    """True if several rectangles may be sent at once in place of a whole picture."""
    video: tuple[VideoFormat, ...] = ()
    """Formats of the stream's codec that the viewer decodes; the first is the fallback."""

    @property
    def pictures(self) -> bool:
        """True if the viewer accepts pictures, not only video."""
        return bool(self.lossy or self.exact)

    @property
    def settles(self) -> bool:
        """True if lossy pictures sent to the viewer can be made exact later."""
        return bool(self.exact and (self.lossy or self.video))


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The encoding of a region. Viewers that need the same region with equal fidelity share one encoding."""

    mime: str
    quality: int | None
    """1 to 100; None for exact formats."""
    tiles: bool
    """True if the region may be encoded in stripes."""
    or_exact: str | None = None
    """An exact format used instead if it is no larger."""
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
    """An encoded region of a frame, ready to be sent."""

    parts: tuple[Part, ...]
    payload: bytes
    """The bytes of all parts, concatenated."""
    encode_ms: float


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """All settings of a stream, named, documented and validated in this one place.

    Raises `TypeError` or `ValueError` with the name of the option, the value given and the values allowed.
    """

    fps: int = 30
    """The intended rate of publishing, 1 to 240 frames per second. Advisory: nothing waits for it."""
    quality: Quality = "auto"
    """Quality of frames in motion. ``auto``: lossless while the connection and the viewer keep up with the published
    rate, else lossy. ``lossless``: always lossless. ``lossy``: lossless only if that is no larger. A number from 1 to
    100: this quality of JPEG or WebP."""
    codec: Codec | str = "auto"
    """Codec of frames in motion. ``auto``: H.264 while more pixels change than a viewer's connection can carry as good
    pictures, else pictures of the changed parts. ``h264``, ``vp9`` or ``av1``: always video if the viewer decodes that
    codec or H.264; ``vp9`` and ``av1`` take fewer bytes and more time. ``none``: never video. The name of an encoder
    added by `register_video_encoder`: always video, by that encoder."""
    image_mode: ImageMode = "jpeg"
    """The format of lossy pictures if the viewer accepts it: ``jpeg``, or ``webp``, smaller but slow. ``png`` is always
    exact, like ``quality="lossless"``."""
    still_after: float | None = 0.15
    """Seconds without change after which lossy parts of a viewer's picture are made exact; None for never. The default
    is long enough not to begin between two frames of a drag, and short enough to feel immediate."""
    bitrate: int = 12_000_000
    """Most bits per second sent to a viewer, 50,000 to 10 billion, unless its page is on this machine or its link is
    three times as fast as needed. The default fits a home connection."""
    alpha: bool = False
    """Keep the alpha channel of RGBA frames, as PNG whatever the quality. Viewers that don't accept PNG, or connected
    before this was set, show frames opaque. Canvases multiply colours by alpha: translucent ones may be off by 1."""
    max_inflight: int | None = None
    """Most unacknowledged payloads of a viewer, 1 to 16. None means two, which sustain 60 frames per second on a short
    path; on a long path, also as many small payloads as are in transit. More would add lag."""
    own_frames: bool = True
    """Copy each published frame, so that its buffer may be reused at once. False borrows it: don't modify it later."""
    event_queue_size: int = 4096
    """Most events kept for an application that doesn't poll; beyond that the oldest are dropped."""
    adaptive: bool = False
    """Advise the publisher with a `DownscaleHint` among the events when a viewer can't keep up with the frame size."""
    stats_interval: float | None = 1.0
    """Seconds between ``stats`` messages to a viewer that receives frames; None for never."""
    resize_policy: ResizePolicy = "publisher"
    """The side that decides the size of frames: the ``publisher`` alone, or with ``match_client`` the viewers, through
    `Display.target_size`."""
    max_render_dimension: int | None = 4096
    """Longest side of `Display.target_size` in pixels, 2 to 16384, so that no viewer can request gigabytes. The default
    covers a 4K screen and is the limit of H.264 in common hardware. None means 16384, the limit of a frame."""
    authenticate: Authenticator | None = None
    """A function that admits viewers of this stream, in place of the hub's tokens: see `auth.Authenticator`."""
    clipboard: bool = False
    """Let `Display.set_clipboard` write viewers' clipboards, and send a paste into a view as an event ``paste``. Off by
    default, as a page that is only watched should not touch what its user has copied."""
    record_events: bool = False
    """Keep the newest 10,000 input events, which ``/recorded-events`` of the hub's port returns: for tests."""
    event_log: str | os.PathLike[str] | None = None
    """Path of a file to which every input event is appended as a line of JSON."""
    resize_debounce: float = 0.12
    """Seconds, 0 to 60, for which a viewer's size must stay unchanged before `Display.target_size` follows. The default
    skips the intermediate sizes of a drag, and still feels immediate."""

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
        if self.codec not in (*get_args(Codec), *registered_encoders):
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
        """A copy with *options* changed."""
        return self.of({field.name: getattr(self, field.name) for field in fields(self)} | dict(options))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> StreamOptions:
        """The stream options given in *options*. Raises `TypeError` that lists all names if one is unknown."""
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
    """A hint for the start of an error, with the one of *known* most like *name*; empty if none is."""
    return "".join(f"did you mean {close}? " for close in get_close_matches(name, known, 1))


def check_number(name: str, value: object, low: float, high: float) -> float:
    """*value* as a float. Raises `TypeError` or `ValueError` unless it is a number from *low* to *high* inclusive."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is a number, not {reprlib.repr(value)} ({type(value).__name__})")
    if not low <= float(value) <= high:
        raise ValueError(f"{name} is {low} to {high}, not {value}")
    return float(value)


def check_int(name: str, value: object, low: int, high: int) -> int:
    """*value* as an int. Raises `TypeError` or `ValueError` unless it is an integer from *low* to *high* inclusive."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {reprlib.repr(value)} ({type(value).__name__})")
    if not low <= value <= high:
        raise ValueError(f"{name} is {low} to {high}, not {value}")
    return int(value)
