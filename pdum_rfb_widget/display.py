"""`Display`, the public surface of a stream: publish pixels, receive viewers' input, show a widget."""

from __future__ import annotations

import asyncio
import logging
import os
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Unpack
from urllib.parse import quote

from ._hub.base_server import BaseServer
from ._hub.callbacks import Function
from ._hub.feed import feed
from ._hub.publication import Publication
from ._hub.status import as_html, status_of
from ._hub.stream import Stream
from ._system.closing import Closing
from ._system.fork_guard import refuse_to_copy
from ._system.interrupts import result_of
from .encoders.base import require_codec
from .events import Event, EventType
from .options import CHANGES, TRAITS, StreamOptionsDict, WidgetTraits, shows
from .protocol import CHANNELS, channel_message
from .types import ChannelMessage, Client, ColorSpace, FrameSource, InputEvent, StreamEvent

if TYPE_CHECKING:
    from .notebook import RfbCanvas
    from .recording import Recording
    from .snapshot import Snapshot

log = logging.getLogger(__name__)

_OnEvent = TypeVar("_OnEvent", bound=Callable[[InputEvent], object])
_OnMessage = TypeVar("_OnMessage", bound=Callable[[ChannelMessage], object])


class Display(Closing):
    """A framebuffer that any number of browsers can watch. Created by `server.serve` and `Server.add_stream`.

    Every method may be called from any thread. It can be awaited; as a context manager, sync or async, it closes.
    """

    def __init__(self, server: Server, publication: Publication) -> None:
        self.server = server
        """The hub that this stream belongs to."""
        self._publication = publication
        self._address: tuple[str, int] | None = None

    @property
    def _stream(self) -> Stream:
        return self._publication.stream

    @property
    def closed(self) -> bool:
        """True if the display was closed, or replaced when its cell ran again."""
        return self._publication.closed

    # Pixels -----------------------------------------------------------------------------------------------------------

    def publish(
        self,
        frame: object,
        *,
        damage: Iterable[Sequence[int]] | None = None,
        pixel_ratio: float | None = None,
        color: ColorSpace | None = None,
    ) -> None:
        """Show *frame* to all viewers. Never waits for a viewer: one that falls behind skips to the newest frame.

        *frame* is a uint8 array, or anything numpy can view as one or get by DLPack, of shape ``(H, W)`` or
        ``(H, W, 1)`` (grey), ``(H, W, 3)`` (RGB) or ``(H, W, 4)`` (RGBA, shown opaque unless the stream has
        ``alpha=True``), 1 to 16384 pixels a side, contiguous or not; the last axis is always the channels. Pillow
        images with palettes, in HSV and the like are converted. The size may change from frame to frame. The frame is
        copied, unless it is a view of `bytes`, or the stream has ``own_frames=False``: then never modify it again.

        A `RawFrame` may be published too, with its own ratio, colour and time. The interval sent to viewers and
        recordings is the difference of ``timestamp_us`` if two of them follow each other and it increases by at most a
        day; else it is the time between the two calls.

        Only the parts that differ from the last frame are sent: an unchanged picture costs viewers nothing. *damage*
        gives these parts as rectangles ``(x, y, width, height)`` in whole pixels, and is trusted: changes elsewhere may
        or may not be shown. It has no effect for a first frame, or one of another size.

        *pixel_ratio* is the number of frame pixels per logical pixel, 0.1 to 16, by default 1.0. Input events carry it,
        so that applications that draw in logical pixels can convert. It doesn't change the size at which the frame is
        shown. *color* is the colour space of this frame, by default `SRGB`; nothing is converted. If either differs
        from the last frame's, everything counts as changed.

        Raises `TypeError` for another dtype or a masked array; `ValueError` for another shape or ratio, or a `RawFrame`
        whose fields contradict its data; either of them for *damage* that is no list of rectangles; and `RuntimeError`
        once the display is closed.
        """
        self._publication.publish(frame, damage, pixel_ratio, color)

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until a visible viewer can take a frame, and return True; False after *timeout* seconds or when closed.

        Without a *timeout* it waits for the first viewer indefinitely. In a notebook cell a warning says so after 10
        seconds. If the notebook runs without a page, as by nbconvert, papermill or ``marimo export``, it returns False
        then, and later calls at once.
        """
        return self._publication.wait_ready(timeout)

    def record(
        self,
        path: str | os.PathLike[str],
        *,
        fps: int | None = None,
        bitrate: int | None = None,
        crf: int | None = None,
        preset: str = "veryfast",
    ) -> Recording:
        """Record all frames from now on to *path*, as H.264 in MP4, with or without viewers.

        ``with display.record("out.mp4"):`` records the block, as does ``async with``; or keep the result and
        `Recording.stop` it. The recording starts with the newest existing frame and shows the last one until its end.
        Each frame has the time of its publication; an unchanged picture adds no frame. If encoding is slower than
        publishing, frames are skipped: neither `publish` nor viewers wait. After a crash the file plays all but the
        last second and the 10 to 20 frames that x264 holds.

        The recording has the size of its first frame, or with ``resize_policy="match_client"`` of its second, as the
        first may be older than any viewer; odd sides get one pixel more. Frames of other sizes are scaled to fit, with
        black borders. Alpha is dropped. Colours are BT.601, limited range, 4:2:0, tagged as such and with the first
        frame's colour space.

        *crf* is a constant quality, from 0 (exact except for colour resolution; few players support it) to 51, by
        default 18, where loss is hardly visible. *bitrate* sets an average instead, 50,000 to 1 billion bits per
        second. *fps*, 1 to 240, by default the stream's, is the rate that x264 assumes for it; it changes no times.
        *preset* is x264's, ``ultrafast`` to ``placebo``: slower ones make smaller files and may skip more frames.

        *path* may begin with ``~``. Raises `OSError` with the path if the file can't be written; `ValueError` if its
        name does not end with .mp4, it is being recorded already, or a value is out of range; and `RuntimeError`
        without PyAV (``pip install 'pdum-rfb-widget[h264]'``) and once the display is closed.
        """
        from .recording import Recording  # its exit handler comes after the hub's, so recordings finish first

        rate = self._stream.options.fps if fps is None else fps
        return Recording(self, path, fps=rate, bitrate=bitrate, crf=crf, preset=preset)

    def attach(self, source: FrameSource) -> Future[None]:
        """Publish the frames of *source*, such as a `sources.OnDemandFrameSource`, and pass it the viewers' input.

        The source is asked for frames while a viewer can take one or a recording runs. It runs in the calling event
        loop; outside any, in a loop on a thread of its own. ``resize`` events carry the `target_size`, and don't occur
        under ``resize_policy="publisher"``. The returned future is done when the source has no more frames, and holds
        the error if it raised one. ``cancel()`` or closing the display ends the feed.
        """
        return feed(self._publication, source)

    def snapshot(self) -> Snapshot:
        """The newest frame as a picture: ``snapshot().png`` is a PNG in bytes, exact and at full size. As the last line
        of a cell it is shown, and stored in the saved notebook; above 4 MB, as a smaller JPEG.

        Raises `RuntimeError` before the first frame, and once another display has taken the stream over.
        """
        return self._publication.snapshot()

    # Input ------------------------------------------------------------------------------------------------------------

    def poll_events(self) -> list[StreamEvent]:
        """All events since the last call, oldest first: `InputEvent`, and with ``adaptive=True`` occasionally a
        `DownscaleHint`. `events` takes from the same queue."""
        return self._publication.poll_events()

    def events(self) -> AsyncIterator[StreamEvent]:
        """Iterate over events as they arrive, until the display is closed."""
        return self._publication.events()

    def on(self, *kinds: EventType | Literal["*"], thread: bool = False) -> Callable[[_OnEvent], _OnEvent]:
        """Decorator: call a function with every `InputEvent` of these *kinds*, ``"*"`` for all::

            @display.on("pointer_down")
            def pressed(ev):
                print(ev.event["x"], ev.event["y"])

        Calls are made one after another in the event loop in which `serve` was called. In a notebook that is the
        kernel's, so calls wait while a cell computes. With *thread*, or without a loop, they are made at once on a
        thread of the display. In a loop the function may be a coroutine function; the next call waits for it. An error
        that a function raises is logged and counted in `status`. At most ``event_queue_size`` calls wait; beyond that
        the oldest are dropped.

        `poll_events` and `events` return these events too. Raises `ValueError` for an unknown kind, `TypeError` for a
        coroutine function without a loop to run in.
        """
        return self._publication.on(kinds, thread)

    def off(self, function: Function) -> None:
        """Stop calling *function*; no effect if it isn't registered."""
        self._publication.callbacks.remove(function)

    # Messages ---------------------------------------------------------------------------------------------------------

    def send(self, channel: str, data: object, *, to: str | Iterable[str] | None = None, latest: bool = False) -> None:
        """Send *data*, bytes or a JSON value, to the viewers' pages, where `RemoteFramebufferView.onMessage` gets it.

        *channel* is a name you choose, 1 to 64 letters, digits or ``._~-``. Messages on one channel arrive in order,
        unless the viewer leaves. They overtake pictures; messages above 16 KB, at most 1 MiB
        (``Limits.channel_bytes``), are sent between pictures. A viewer that reads so slowly that 8 MiB of messages wait
        (``channel_queue``) is closed. With *latest* the message replaces a waiting one that was sent with *latest* on
        this channel: for data that matters only while it is new.

        *to* is the ``client_id`` of a viewer, or several; viewers that have left are skipped. Viewers that connect
        later, or don't support `rfb/channels`, get nothing. Never waits for a viewer. Raises `ValueError` and
        `TypeError` for data that can't be sent, and `RuntimeError` once the display is closed.
        """
        message = channel_message(channel, data, self.server._hub.limits.channel_bytes)
        self._publication.send(message, channel, to, latest=latest, capability=CHANNELS)

    def on_message(self, *channels: str, thread: bool = False) -> Callable[[_OnMessage], _OnMessage]:
        """Decorator: call a function with every `ChannelMessage` that viewers' pages send on these *channels*::

            @display.on_message("pick")
            def picked(message):
                display.send("picked", find(message.data), to=message.client_id)

        Calls are made as for `on`; at most 8 MiB of messages wait. Messages of viewers that are view-only or not in
        control are dropped, as are those on channels without a function. Pages use `RemoteFramebufferView.send`.
        """
        return self._publication.on_message(channels, thread)

    def set_cursor(self, cursor: str | None) -> None:
        """Set the shape of the pointer over the picture to a CSS *cursor*: ``crosshair``, ``grab``, ``none`` and so on;
        None for the default. Applies to later viewers too. Raises `ValueError` for any other keyword."""
        self._publication.set_cursor(cursor)

    def set_clipboard(self, text: str, *, to: str | Iterable[str] | None = None) -> None:
        """Put *text* into the clipboards of viewers whose input is accepted, or of those in *to*, as for `send`.

        A page writes it at once if the view has the keyboard focus and the browser allows it, else with the next key
        press or click in the view. Raises `RuntimeError` without the option ``clipboard=True``, and `ValueError` for
        more than 1 MiB (``Limits.channel_bytes``).
        """
        self._publication.set_clipboard(text, to, self.server._hub.limits.channel_bytes)

    # Address and viewers ----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The stream's name on its hub."""
        return self._stream.name

    @property
    def width(self) -> int:
        """Width of the newest frame, in pixels."""
        return self._stream.size[0]

    @property
    def height(self) -> int:
        """Height of the newest frame, in pixels."""
        return self._stream.size[1]

    @property
    def pixel_ratio(self) -> float:
        """Pixels of the newest frame per logical pixel; 1.0 before the first frame."""
        newest = self._stream.format
        return newest.pixel_ratio if newest else 1.0

    @property
    def color(self) -> ColorSpace | None:
        """Colour space of the newest frame; None is `SRGB`."""
        newest = self._stream.format
        return newest.color if newest else None

    @property
    def target_size(self) -> tuple[int, int] | None:
        """The width and height that frames should have under ``resize_policy="match_client"``; None before any viewer
        was visible, and under ``"publisher"``.

        They are the device pixels of the picture's box, made even, each at least 2 and at most
        ``max_render_dimension``, and change ``resize_debounce`` seconds after the box last changed. Of several visible
        viewers, the one that connected or was resized last decides. An event ``resize`` follows every change, for
        applications that sleep until an event. Nothing is resized automatically::

            width, height = display.target_size or (display.width, display.height)
            display.publish(render(width, height), pixel_ratio=display.target_ratio)
        """
        target = self._stream.target
        return (target.width, target.height) if target else None

    @property
    def target_ratio(self) -> float:
        """The ``pixel_ratio`` for `target_size`: the viewer's, reduced if ``max_render_dimension`` reduces the size;
        1.0 if there is no target."""
        target = self._stream.target
        return target.ratio if target else 1.0

    @property
    def client_count(self) -> int:
        """Number of connected viewers, including hidden ones."""
        return sum(viewer.session.selection is not None for viewer in tuple(self._stream.viewers))

    @property
    def clients(self) -> tuple[Client, ...]:
        """The connected viewers, in the order of their arrival."""
        viewers = sorted(self._stream.viewers.copy(), key=lambda viewer: viewer.number)
        return tuple(Client(viewer.id, viewer.principal, viewer.view_only) for viewer in viewers)

    @property
    def controller(self) -> str | None:
        """The ``client_id`` of the only viewer whose input is accepted; None, the default, for all that may send input.

        Set it to hand control over. When that viewer leaves, control passes to the earliest of the others, and after
        the last to all again. Raises `ValueError` for a viewer that isn't connected or is view-only.
        """
        return self._stream.controller

    @controller.setter
    def controller(self, client_id: str | None) -> None:
        self.server._hub.on_hub(lambda now: self._stream.hand_over(client_id))

    @property
    def recorded_events(self) -> list[Event]:
        """With ``record_events=True``: the newest 10,000 input events, oldest first."""
        return self._stream.recorded_events

    @property
    def port(self) -> int:
        """The TCP port of the stream. Raises `RuntimeError` if there is none, as with ``tcp=False``; so do `ws_url` and
        `url`."""
        return self._reached_at()[1]

    @property
    def ws_url(self) -> str:
        """The WebSocket address of the stream, without the token."""
        return f"ws://{self._netloc()}/{quote(self.name)}"

    @property
    def url(self) -> str:
        """Address of a page that shows the stream in any browser on this machine. It contains the token, in the
        fragment, which no server, proxy or log sees. Anyone with the address can watch and send input."""
        return f"http://{self._netloc()}/?stream={quote(self.name)}#token={quote(self.server.token)}"

    def open(self) -> bool:
        """Open `url` in this machine's browser; False, and a warning in the log, if there is none.

        The browser opens a file that only this user can read and that redirects to the address: other users can see
        command lines, and the address contains the token. The hub deletes the file when it closes.
        """
        if webbrowser.open(self.server._hub.redirect(self.url, f"open-{self.name}").as_uri()):
            return True
        log.warning(
            "no browser opens on this machine: print(display.url), and open that in one, here or through a tunnel"
        )
        return False

    @shows(TRAITS)
    def widget(self, *, batteries: bool = True, poster: bool = True, **traits: Unpack[WidgetTraits]) -> RfbCanvas:
        """A notebook widget that shows the stream: `RfbViewer` with toolbar, status and statistics, or with
        ``batteries=False`` the picture alone, `RfbCanvas`.

        *traits* are those of the widget: ``height="auto"``, ``fit="contain"``, ``label=""`` and so on. Any number of
        widgets may show one stream. The page finds the hub automatically; if it can't, give ``url=``, the stream's
        address as the browser reaches it, or ``base_path=``, the path at which the page's server mounts the hub. Raises
        `RuntimeError` once the display is closed and no other has its stream; warns once outside notebooks.

        With *poster* the cell also stores the last picture, for the notebook without a kernel or as HTML: at most
        100 KB, hidden while the view is live. It is written when the picture has not changed for a second, at most
        every 30 s, and only while there are viewers.

        ``sync_events=("pointer_down",)`` puts the newest event of these types into the trait ``last_event``, and
        ``sync_stats=True`` puts statistics into ``stats`` once per second. In marimo each change of these, and of
        nothing else, runs the cells that depend on the widget.
        """
        try:
            from .notebook import widget_of
        except ModuleNotFoundError as error:
            missing = (
                f"widget() needs {error.name}: run 'pip install {error.name}' in this Python, and restart the kernel"
            )
            raise ModuleNotFoundError(missing, name=error.name) from error
        hub = self.server._hub
        return widget_of(self._publication, hub, self._address, traits, batteries=batteries, poster=poster)

    def _reach(self, listener: tuple[str, int]) -> None:
        """Use *listener* in `port`, `ws_url` and `url` from now on."""
        self._address = listener

    def _reached_at(self) -> tuple[str, int]:
        return self.server._hub.listeners.address(self._address)

    def _netloc(self) -> str:
        host, port = self._reached_at()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def status(self) -> dict[str, Any]:
        """The state of the stream as plain values: options, size, number of published frames, each viewer's metrics,
        video ``codec`` (None for images), reason to request no video (``no_video``), ``limit``, connections without a
        hello (``pending``), video ``encoders``, those that hang (``encoders_hanging``), ``recent_errors``. No token."""
        hub = self.server._hub

        def status(now: float) -> dict[str, Any]:  # on the hub's loop, where ports come and go
            address = self.ws_url if hub.usable and self.server.port else None
            private, pending = hub.listeners.private, len(hub.admission.pending)
            return status_of(self._publication, now, address=address, unix_socket=private, pending=pending)

        return hub.on_hub(status)

    @shows(CHANGES)
    def configure(self, **options: Unpack[StreamOptionsDict]) -> None:
        """Change options of the running stream: ``display.configure(quality="lossless", codec="none")``.

        Accepts all of `types.StreamOptions`, checked as by `serve`; options not given stay the same. Viewers keep their
        picture, and get the next frame with the new options; past decisions of an authenticator stay valid. Raises
        `RuntimeError` once the display is closed.
        """
        require_codec(self._stream.options.but(options).codec)
        self.server._hub.on_hub(lambda now: self._publication.reconfigure(options))

    def _repr_html_(self) -> str:
        return as_html(self.status())

    # Life -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove the stream, close its viewers with a reason, and finish its recordings. Other streams continue. May be
        called again.

        The hub, with its port, token and thread, stays for the next display, even after the last one is closed. It ends
        by ``display.server.close()`` or with the process.
        """
        if forgotten := self.server._hub.begin_to_close(self._publication):
            result_of(forgotten)

    async def aclose(self) -> None:
        """`close`, for coroutines. The hub's port stays open too; ``await display.server.aclose()`` closes it."""
        if forgotten := self.server._hub.begin_to_close(self._publication):
            await asyncio.wrap_future(forgotten)

    def __reduce__(self) -> NoReturn:
        refuse_to_copy("Display", "publish here what other processes compute, or let them look on by its ws_url")

    def __repr__(self) -> str:
        process = self._publication.process
        if not process.here:
            return f"<Display of process {process.pid}>"
        state = "closed" if self.closed else f"{self.client_count} viewers"
        return f"<Display {self.name!r} {self.width}x{self.height}, {state}>"


class Server(BaseServer[Display]):
    """The hub. Get it from `serve_server` or `Display.server`; it closes by `close`, or with the process.

    Every method may be called from any thread.
    """

    def _display_of(self, publication: Publication) -> Display:
        return Display(self, publication)
