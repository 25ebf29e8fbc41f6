"""Types of ``**options`` and ``**traits``, for editors and type checkers.

`types.StreamOptions` and the traits of `notebook.RfbCanvas` say what each means, and check it at run time.
"""

# Annotations are not postponed here, so that they can be compared at run time with those of `StreamOptions`.
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, Literal, Required, TypedDict, TypeVar

from .auth import Authenticator
from .events import EventType
from .types import Codec, ImageMode, Quality, ResizePolicy, StreamOptions


class EndpointOptions(TypedDict, total=False):
    """The options of a stream, but those that `asgi.rfb_endpoint` takes in another sense."""

    quality: Quality
    codec: Codec | str
    image_mode: ImageMode
    still_after: float | None
    bitrate: int
    alpha: bool
    max_inflight: int | None
    own_frames: bool
    event_queue_size: int
    adaptive: bool
    stats_interval: float | None
    resize_policy: ResizePolicy
    max_render_dimension: int | None
    clipboard: bool
    record_events: bool
    event_log: str | os.PathLike[str] | None
    resize_debounce: float


class StreamOptionsDict(EndpointOptions, total=False):
    """The options of a stream: `types.StreamOptions` says what each means.

    Defaults: fps=30, quality='auto', codec='auto', image_mode='jpeg', still_after=0.15, bitrate=12000000, alpha=False,
    max_inflight=None, own_frames=True, event_queue_size=4096, adaptive=False, stats_interval=1.0,
    resize_policy='publisher', max_render_dimension=4096, authenticate=None, clipboard=False, record_events=False,
    event_log=None, resize_debounce=0.12.
    """

    fps: int
    authenticate: Authenticator | None


class StreamSpec(StreamOptionsDict, total=False):
    """The arguments of `Server.add_stream`, as one mapping."""

    name: Required[str]
    width: Required[int]
    height: Required[int]


class WidgetTraits(TypedDict, total=False):
    """The traits of `notebook.RfbCanvas` that `Display.widget` takes. None leaves a trait as it is."""

    url: str | None
    host: str | None
    base_path: str | None
    port: int | None
    token: str | None
    image_only: bool
    main_thread_present: bool
    fit: Literal["contain", "cover", "fill", "none"]
    background: str
    height: int | Literal["auto"]
    label: str
    touch: Literal["focus", "always", "never"]
    pinch: Literal["view", "application"]
    on_screen_keyboard: bool
    show_toolbar: bool
    show_stats: bool
    sync_events: Sequence[EventType]
    sync_stats: bool


class _Unchanged:
    def __repr__(self) -> str:
        return "unchanged"


UNCHANGED = _Unchanged()
"""The default that signatures show for an option that keeps its value when it is left out."""

_KEYWORD = inspect.Parameter.KEYWORD_ONLY
STREAM_OPTIONS = [
    inspect.Parameter(field.name, _KEYWORD, default=field.default, annotation=field.type)
    for field in fields(StreamOptions)
]
CHANGES = [parameter.replace(default=UNCHANGED) for parameter in STREAM_OPTIONS]
TRAITS = [
    inspect.Parameter(name, _KEYWORD, default=None, annotation=hint)
    for name, hint in WidgetTraits.__annotations__.items()
]

_F = TypeVar("_F", bound=Callable[..., Any])


def shows(parameters: Iterable[inspect.Parameter]) -> Callable[[_F], _F]:
    """List *parameters* in the signature of a function in place of its ``**options``, for ``help()`` and
    IPython's completion, which read no `TypedDict`."""

    def show(function: _F) -> _F:
        signature = inspect.signature(function)
        *own, _ = signature.parameters.values()
        more = [parameter for parameter in parameters if parameter.name not in signature.parameters]
        vars(function)["__signature__"] = signature.replace(parameters=[*own, *more])
        return function

    return show
