"""`Display`, the public surface of a stream: publish pixels, take viewers' input, show a widget."""

from __future__ import annotations

import asyncio
import logging
import os
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Unpack
from urllib.parse import quote

from ._hub.callbacks import Function
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
from .types import (
    ChannelMessage,
    Client,
    ColorSpace,
    FrameSource,
    InputEvent,
    StreamEvent,
)

if TYPE_CHECKING:
    from .notebook import RfbCanvas
    from .recording import Recording
    from .server import Server
    from .snapshot import Snapshot


log = logging.getLogger(__name__)

_OnEvent = TypeVar("_OnEvent", bound=Callable[[InputEvent], object])
_OnMessage = TypeVar("_OnMessage", bound=Callable[[ChannelMessage], object])


class Display(Closing):
    """A framebuffer that any number of browsers look at. `server.serve` and `Server.add_stream` make it.

    Every method may be called from any thread. It can be awaited, and as a context manager, sync or async, it closes.
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
        """Whether the display was closed, or replaced when its cell ran again."""
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
        """Make *frame* what every viewer sees next. Never waits for a viewer: one that is behind skips to the newest.

        *frame* is a uint8 array, or anything numpy can view as one or get by DLPack, of shape ``(H, W)`` or
        ``(H, W, 1)`` (grey), ``(H, W, 3)`` (RGB) or ``(H, W, 4)`` (RGBA, shown opaque unless the stream has
        ``alpha=True``), 1 to 16384 pixels a side, contiguous or not; the last axis is always the channels. Pillow
        images of palettes, HSV and the like are converted. Its size may change from frame to frame. It is copied,
        unless the stream was made with ``own_frames=False``: then never change it again.

        A `RawFrame` may be published too: it brings its ratio, colour and time. Where two of them follow one another
        and their ``timestamp_us`` grow by a day at most, viewers and films are told that distance; else how long ago
        the frame before was published.

        What differs from the frame before is found out, and only that is sent: the same picture again costs viewers
        nothing. *damage* names it, as rectangles ``(x, y, width, height)`` in whole pixels, and is believed: what
        changed elsewhere may or may not be seen. It has no meaning for a first frame, or one of another size.

        *pixel_ratio* is how many pixels of this frame make a logical one, 0.1 to 16, by default 1.0: input events carry
        it, so that who draws in logical pixels can convert. It doesn't change the size that the frame is shown at.
        *color* says what the numbers of this frame mean, by default `SRGB`; nothing is converted. With either another
        than before, everything counts as changed.

        Raises `TypeError` for another dtype or a masked array, `ValueError` for another shape or ratio, or a `RawFrame`
        whose fields are not those of its data, both for *damage* that is no list of rectangles, and `RuntimeError` once
        the display is closed.
        """
        self._publication.publish(frame, damage, pixel_ratio, color)

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Sleep until some visible viewer can take a frame: True; False after *timeout* seconds or when closed.

        Without a *timeout* this waits for the first viewer as long as it takes. In a notebook's cell a warning says so
        after 10 seconds; where the notebook runs without a page, as by nbconvert, papermill or ``marimo export``, it
        returns False then, and at once from there on.
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
        """Make a film of what is published from now on, whether anybody looks or not: H.264 in MP4 at *path*.

        ``with display.record("out.mp4"):`` records the block, ``async with`` does too; or keep what this returns and
        `Recording.stop` it. The newest frame there is already is the first, the last is shown until the end. Each has
        the time when it was published; the same picture again is no frame. When encoding is slower than publishing,
        frames are skipped: neither `publish` nor viewers wait. After a crash the file plays all but the last second and
        the 10 to 20 frames that x264 holds.

        The film has the size of its first frame, under ``resize_policy="match_client"`` of its second, since the first
        may be from before any viewer came; odd sides one pixel more. Others are scaled to fit, amid black. Alpha is
        left out. Colours are BT.601, limited range, 4:2:0, tagged so and with the first frame's colour space.

        *crf* is a constant quality, 0 (exact but for colours' resolution; few players show it) to 51, 18 by default,
        where hardly a loss is seen; *bitrate* asks for an average instead, 50,000 to 1 billion bits a second. *fps*,
        1 to 240, the stream's by default, is what x264 expects for that; it changes no times. *preset* is x264's,
        ``ultrafast`` to ``placebo``: slower ones make smaller files and may skip more frames.

        *path* may begin with ``~``. Raises `OSError` with the path when the file can't be written, `ValueError` when
        its name does not end with .mp4, it is being recorded already, or a value is out of range, and `RuntimeError`
        without PyAV (``pip install 'pdum-rfb-widget[h264]'``) and once the display is closed.
        """
        from .recording import Recording

        rate = self._stream.options.fps if fps is None else fps
        return Recording(self, path, fps=rate, bitrate=bitrate, crf=crf, preset=preset)

    def attach(self, source: FrameSource) -> Future[None]:
        """Publish what *source* gives, such as a `sources.OnDemandFrameSource`, and give it the viewers' input.

        It is asked for a frame when somebody can see one, or a film is made, in the event loop that this is called in;
        where there is none, in one on a thread of its own. ``resize`` events come as `target_size` says, and not under
        ``resize_policy="publisher"``. What this returns is done when the source has no more frames, holds what it
        raised, and ends the feed by ``cancel()``; so does closing the display.
        """
        from .sources import feed

        feeding = feed(self, source, self._stream.note_error)
        self._publication.begin_feed(feeding)
        return feeding

    def snapshot(self) -> Snapshot:
        """The newest frame as a picture: ``snapshot().png`` are the bytes of a PNG, exact and at full size. As the last
        line of a cell it is shown, and stays in the saved notebook; more than 4 MB are kept there as a smaller JPEG.

        Raises `RuntimeError` before the first frame, and once another display has taken the stream over.
        """
        return self._publication.snapshot()

    # Input ------------------------------------------------------------------------------------------------------------

    def poll_events(self) -> list[StreamEvent]:
        """All input that came since it was last taken, oldest first: an `InputEvent` each, and of a stream with
        ``adaptive=True`` a `DownscaleHint` now and then. `events` takes from the same queue."""
        return self._publication.poll_events()

    def events(self) -> AsyncIterator[StreamEvent]:
        """The input as it comes, until the display is closed."""
        return self._publication.events()

    def on(self, *kinds: EventType | Literal["*"], thread: bool = False) -> Callable[[_OnEvent], _OnEvent]:
        """Call a function with every `InputEvent` of these *kinds*, ``"*"`` for all::

            @display.on("pointer_down")
            def pressed(ev):
                print(ev.event["x"], ev.event["y"])

        Calls come one after the other, in the event loop in which `serve` was called, in a notebook the kernel's: they
        wait while a cell computes. With *thread*, or where there is no loop, they come at once, on a thread of the
        display's own. In a loop the function may be a coroutine function; the next call waits for it. What a function
        raises is logged and counted in `status`. At most ``event_queue_size`` calls wait; then the oldest go.

        `poll_events` and `events` get these events too. Raises `ValueError` for a kind that there isn't, `TypeError`
        for a coroutine function that has no loop to run in.
        """
        return self._publication.on(kinds, thread)

    def off(self, function: Function) -> None:
        """Call *function* no more; harmless when it wasn't."""
        self._publication.callbacks.remove(function)

    # Messages ---------------------------------------------------------------------------------------------------------

    def send(self, channel: str, data: object, *, to: str | Iterable[str] | None = None, latest: bool = False) -> None:
        """Send *data* to the viewers' pages: bytes, or what JSON can say. `RemoteFramebufferView.onMessage` gets it.

        *channel* is a name of your own, 1 to 64 letters, digits or ``._~-``. What is sent on one arrives in that order,
        or not at all where the viewer goes. Messages overtake pictures; those above 16 KB, 1 MiB at most
        (``Limits.channel_bytes``), go between them. A viewer that reads too slowly for 8 MiB of them
        (``channel_queue``) is closed. With *latest* the message takes the place of one that was sent on this channel so
        and still waits: for what only counts while it is new.

        *to* is the ``client_id`` of a viewer, or several; who has gone is passed over. Viewers that come later, or
        don't know `rfb/channels`, get nothing. Never waits for a viewer. Raises `ValueError` and `TypeError` for what
        can't be sent, and `RuntimeError` once the display is closed.
        """
        message = channel_message(channel, data, self.server._hub.limits.channel_bytes)
        self._publication.send(message, channel, to, latest=latest, capability=CHANNELS)

    def on_message(self, *channels: str, thread: bool = False) -> Callable[[_OnMessage], _OnMessage]:
        """Call a function with every `ChannelMessage` that viewers' pages send on these *channels*::

            @display.on_message("pick")
            def picked(message):
                display.send("picked", find(message.data), to=message.client_id)

        Where and when is as with `on`; at most 8 MiB wait. Viewers that may only look are not heard, nor those that
        don't control. The page sends by `RemoteFramebufferView.send`; what nobody has asked for is dropped.
        """
        return self._publication.on_message(channels, thread)

    def set_cursor(self, cursor: str | None) -> None:
        """Show the pointer over the picture as CSS's *cursor*: ``crosshair``, ``grab``, ``none`` and so on; None for
        the default. Viewers that come later see it too. Raises `ValueError` for what is no keyword of CSS."""
        self._publication.set_cursor(cursor)

    def set_clipboard(self, text: str, *, to: str | Iterable[str] | None = None) -> None:
        """Put *text* into the clipboards of the viewers whose input counts, or of those that *to* names, as for `send`.

        A page writes it at once if the view has the keyboard's focus and the browser lets it, and else with the next
        key or click in the view. Needs ``clipboard=True``: else `RuntimeError`. Raises `ValueError` for more than 1 MiB
        (``Limits.channel_bytes``).
        """
        self._publication.set_clipboard(text, to, self.server._hub.limits.channel_bytes)

    # Where and who ----------------------------------------------------------------------------------------------------

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
        """Pixels of the newest frame that make a logical one; 1.0 before the first frame."""
        newest = self._stream.newest
        return newest.pixel_ratio if newest else 1.0

    @property
    def color(self) -> ColorSpace | None:
        """Colour space of the newest frame; None is `SRGB`."""
        newest = self._stream.newest
        return newest.color if newest else None

    @property
    def target_size(self) -> tuple[int, int] | None:
        """The width and height that frames should have under ``resize_policy="match_client"``, None before any viewer
        was seen, and under ``"publisher"``.

        They are the device pixels of the picture's box, made even, each at least 2 and at most
        ``max_render_dimension``, and change ``resize_debounce`` seconds after the box has last changed. Of several
        viewers that are seen, the one that came or was resized last is asked. Every change is followed by an event
        ``resize``, for who sleeps until there is one. Nothing is resized by itself::

            width, height = display.target_size or (display.width, display.height)
            display.publish(render(width, height), pixel_ratio=display.target_ratio)
        """
        target = self._stream.target
        return (target.width, target.height) if target else None

    @property
    def target_ratio(self) -> float:
        """The ``pixel_ratio`` that goes with `target_size`: the viewer's, less where ``max_render_dimension`` made the
        size smaller; 1.0 where there is no target."""
        target = self._stream.target
        return target.ratio if target else 1.0

    @property
    def client_count(self) -> int:
        """Number of connected viewers, including hidden ones."""
        return sum(viewer.session.selection is not None for viewer in tuple(self._stream.viewers))

    @property
    def clients(self) -> tuple[Client, ...]:
        """The viewers that are connected, in the order that they came."""
        viewers = sorted(self._stream.viewers.copy(), key=lambda viewer: viewer.number)
        return tuple(Client(viewer.id, viewer.principal, viewer.view_only) for viewer in viewers)

    @property
    def controller(self) -> str | None:
        """The ``client_id`` of the viewer whose input counts; None, as at first, for all that may send any.

        Set it to hand control over. When that viewer goes, the one that came first of the others has it, and with the
        last one it is everybody's again. Raises `ValueError` for who isn't connected or may only look.
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
        """The TCP port that the stream is reached at. Raises `RuntimeError` where there is none, as with
        ``tcp=False``; so do `ws_url` and `url`."""
        return self._reached_at()[1]

    @property
    def ws_url(self) -> str:
        """The stream's address, without the token."""
        return f"ws://{self._netloc()}/{quote(self.name)}"

    @property
    def url(self) -> str:
        """A page that shows the stream in any browser on this machine. It holds the token, in the fragment, which no
        server, proxy or log sees: give it to nobody who may not look and touch."""
        return f"http://{self._netloc()}/?stream={quote(self.name)}#token={quote(self.server.token)}"

    def open(self) -> bool:
        """Open `url` in this machine's browser; False, and a warning in the log, where there is none.

        The browser is given a file that only this user can read, and that leads there: command lines are everybody's
        to see, and the address holds the token. The file goes with the hub.
        """
        if webbrowser.open(self.server._hub.redirect(self.url, f"open-{self.name}").as_uri()):
            return True
        log.warning(
            "no browser opens on this machine: print(display.url), and open that in one, here or through a tunnel"
        )
        return False

    @shows(TRAITS)
    def widget(self, *, batteries: bool = True, poster: bool = True, **traits: Unpack[WidgetTraits]) -> RfbCanvas:
        """The stream as a notebook widget: `RfbViewer` with toolbar, status and figures, or the bare `RfbCanvas`.

        *traits* are those of the widget: ``height="auto"``, ``fit="contain"``, ``label=""`` and so on. Any number of
        widgets may show one stream. The page finds the hub by itself; where it can't, ``url=`` is the stream's address
        as the browser reaches it, and ``base_path=`` the path of the page's server that the hub is mounted at. Raises
        `RuntimeError` once the display is closed and no other has its stream; warns, once, where no notebook runs.

        The cell keeps a *poster* too, for who opens the notebook without a kernel or as HTML: the last picture, at most
        100 KB, hidden while the view is live. It is written when the picture has stood for a second, at most every
        30 s, and only while somebody looks.

        ``sync_events=("pointer_down",)`` puts the newest event of these types into the trait ``last_event``, and
        ``sync_stats=True`` the figures into ``stats`` once a second: in marimo each change runs the cells again that
        depend on the widget. Nothing else does.
        """
        try:
            from .notebook import widget_of
        except ModuleNotFoundError as error:
            missing = (
                f"widget() needs {error.name}: run 'pip install {error.name}' in this Python, and restart the kernel"
            )
            raise ModuleNotFoundError(missing, name=error.name) from error
        return widget_of(self, traits, batteries=batteries, poster=poster)

    def _reach(self, listener: tuple[str, int]) -> None:
        """Use *listener* in `port`, `ws_url` and `url` from now on."""
        self._address = listener

    def _reached_at(self) -> tuple[str, int]:
        return self.server._hub.listeners.address(self._address)

    def _netloc(self) -> str:
        host, port = self._reached_at()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def status(self) -> dict[str, Any]:
        """The state of the stream, as plain values: the size, how many frames were published, each viewer with its
        figures and why it asks for no video (``no_video``), the video encoders, and the newest errors (``troubles``).
        Holds no token."""
        hub = self.server._hub
        address = self.ws_url if hub.usable and self.server.port else None
        return hub.on_hub(
            lambda now: status_of(self._publication, now, address=address, unix_socket=hub.listeners.private)
        )

    @shows(CHANGES)
    def configure(self, **options: Unpack[StreamOptionsDict]) -> None:
        """Change options of the running stream: ``display.configure(quality="lossless", codec="none")``.

        Any of `types.StreamOptions`, checked as `serve` does; the others stay. Viewers keep their picture, and get the
        next frame by the new options; what an authenticator decided holds. Raises `RuntimeError` once the display is
        closed.
        """
        require_codec(self._stream.options.but(options).codec)
        self.server._hub.on_hub(lambda now: self._publication.reconfigure(options))

    def _repr_html_(self) -> str:
        return as_html(self.status())

    # Life -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove the stream, close its viewers, with a reason, and finish its recordings. Other streams go on. Safe to
        call again.

        The hub stays for the next display, with its port, token and thread, also after the last one was closed:
        ``display.server.close()`` ends them, and so does the end of the process.
        """
        if forgotten := self.server._hub.begin_to_close(self._publication):
            result_of(forgotten)

    async def aclose(self) -> None:
        """`close`, for coroutines. The hub's port stays open, as there: ``await display.server.aclose()`` closes it."""
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
