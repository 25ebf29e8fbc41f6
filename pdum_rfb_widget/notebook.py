"""Streams in notebook cells: two anywidgets, and a loop that publishes while cells run.

The kernel's channel carries only traits: the hub's address, the token, options, and a little status back.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import inspect
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from PIL import ImageColor

from ._hosts.discovery import machine
from ._hosts.loops import lasting_loop
from ._hosts.notebook_context import in_notebook, jupyter_shell
from ._hosts.poster import Poster, poster_of
from ._hub import web_page
from ._hub.hub import Hub
from ._hub.publication import AnyDisplay, Publication
from ._system.failures import raise_as_exception, thrown_in
from .events import EVENT_FIELDS
from .options import WidgetTraits
from .types import did_you_mean

log = logging.getLogger(__name__)

_SECRETS = {"token", "hub_key"}
_STATUS = {"state", "last_error", "height", "diagnosis"}
"""The traits that a page may set with its status."""
_COLOR_WORDS = {
    *("transparent", "currentcolor", "inherit", "initial", "unset", "revert", "none", "field", "fieldtext", "graytext"),
    *("accentcolor", "accentcolortext", "activetext", "buttonborder", "buttonface", "buttontext", "canvas"),
    *("canvastext", "highlight", "highlighttext", "linktext", "mark", "marktext", "visitedtext"),
}
"""CSS keywords for a background, besides the colour names, which Pillow knows."""
_INSTEAD = (
    "live in pages with Jupyter widgets: pip install anywidget where the page's server runs, and reload it. "
    "If another person ran this cell, trust the notebook first (command Trust Notebook), and reload the page"
)
"""Text shown in place of a view where widgets don't work, or in a notebook that isn't trusted."""

_FIT = "how the picture fills its box, as in CSS: contain, cover, fill, or none for one pixel on one of the screen"
_HEIGHT = "of the box, in CSS pixels; auto keeps the picture's shape, and is 480 where the picture follows the box"

_SHAPE = "of the frames in CSS pixels, until one is there; empty where they follow the box"


def _number_or(word: str, help: str) -> traitlets.Union:
    number = traitlets.Int(min=16)
    number.info_text = "a whole number of at least 16"
    return traitlets.Union([number, traitlets.Enum([word])], default_value=word, help=help)


class RfbCanvas(anywidget.AnyWidget):
    """A widget that shows the picture only. Created by `Display.widget`.

    Raises `TypeError` for an unknown trait, `TraitError` for an invalid value of a trait.
    """

    _esm = web_page.bundle()

    url = traitlets.Unicode("", help="the stream's address as the browser reaches it; no other is tried").tag(sync=True)
    host = traitlets.Unicode("auto", help="the hub's host; auto is this machine").tag(sync=True)
    base_path = traitlets.Unicode("", help="the base of the page's server, or where the hub is mounted").tag(sync=True)
    port = traitlets.Int(0, help="the hub's TCP port; 0 where it has none").tag(sync=True)
    stream = traitlets.Unicode("default", help="the stream's name").tag(sync=True)
    hub_id = traitlets.Unicode("", help="the hub's name; without one it knows only the base protocol").tag(sync=True)
    hub_key = traitlets.Unicode("", help="what the hub proves itself with; blank once the page has it").tag(sync=True)
    token = traitlets.Unicode("", help="the hub's token; blank once the page has it").tag(sync=True)
    kernel_base = traitlets.Unicode("", help="the base of the notebook's server, as the kernel knows it").tag(sync=True)
    machine = traitlets.Unicode("", help="the name of the machine that the hub runs on").tag(sync=True)
    image_only = traitlets.Bool(False, help="take pictures, and no video").tag(sync=True)
    main_thread_present = traitlets.Bool(False, help="draw on the page's main thread, not in a worker").tag(sync=True)

    fit = traitlets.Enum(["contain", "cover", "fill", "none"], "contain", help=_FIT).tag(sync=True)
    background = traitlets.Unicode("", help="CSS color beside the picture; empty is the theme's").tag(sync=True)
    height = _number_or("auto", help=_HEIGHT).tag(sync=True)
    _shape = traitlets.List(traitlets.Float(), help=_SHAPE).tag(sync=True)
    label = traitlets.Unicode("", help="the picture's name for those who can't see it").tag(sync=True)
    touch = traitlets.Enum(
        ["focus", "always", "never"],
        "focus",
        help="when touches and pens act in the picture, and don't scroll the page",
    ).tag(sync=True)
    pinch = traitlets.Enum(
        ["view", "application"], "view", help="who gets Control and wheel, and a trackpad's pinch"
    ).tag(sync=True)
    on_screen_keyboard = traitlets.Bool(False, help="a tap on the picture opens it").tag(sync=True)
    show_toolbar = traitlets.Bool(False).tag(sync=True)
    show_stats = traitlets.Bool(False).tag(sync=True)

    state = traitlets.Unicode("connecting", help="connecting, live, reconnecting, failed or closed").tag(sync=True)
    last_error = traitlets.Unicode("", help="what is wrong, in words").tag(sync=True)
    diagnosis: traitlets.List[dict[str, Any]] = traitlets.List(help="what `diagnose` returns").tag(sync=True)

    sync_events = traitlets.List(traitlets.Enum(list(EVENT_FIELDS)), help="types of `last_event`").tag(sync=True)
    last_event = traitlets.Dict(help="the newest event of these types").tag(sync=True)
    sync_stats = traitlets.Bool(False, help="keep `stats` up to date").tag(sync=True)
    stats = traitlets.Dict(help="figures of the last second").tag(sync=True)

    poster = traitlets.Unicode("", help="class name of the picture to hide; empty for none").tag(sync=True)
    last_picture = traitlets.Unicode("", help="in marimo's exports: a data URL").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        if unknown := sorted(set(traits) - set(self.trait_names())):
            known = list(RfbCanvas.class_own_traits())
            hint = f"{did_you_mean(unknown[0], known)}it has {', '.join(known)}"
            raise TypeError(f"a widget has no trait {', '.join(unknown)}; {hint}")
        self._poster: Poster | None = None
        self.poster_name = ""
        self._told_secrets = False
        self._heard: dict[str, tuple[object, int]] = {}
        """For each trait of the status, the last sender and the number of its message."""
        super().__init__(**traits)
        self.on_msg(lambda _widget, content, _buffers: self._heed(content))

    @traitlets.validate("background")
    def _check_background(self, proposal: Any) -> str:
        value: str = proposal["value"]
        word = value.strip().lower()
        known = not word or word in ImageColor.colormap or word in _COLOR_WORDS
        if not (known or re.fullmatch(r"#([0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})", word) or "(" in word):
            raise traitlets.TraitError(
                f"background is a colour of CSS, like 'black', '#102030' or 'rgb(1 2 3)', not {value!r}"
            )
        return value

    def diagnose(self) -> list[dict[str, Any]]:
        """The attempts of the widget's page to reach the hub, oldest first, from its latest report.

        Each is a dict of ``way`` (``direct``, ``route``, ``proxy`` and so on), ``url`` without any token, ``started``
        and ``ended`` in milliseconds since 1970 (None while in progress), and ``outcome`` in words. The kernel receives
        reports between cells, so call this in a later cell than the one that shows the widget. Empty until then.
        """
        return [dict(tried) for tried in self.diagnosis]

    # In the saved notebook --------------------------------------------------------------------------------------------

    def keep_poster(self, poster: Poster) -> None:
        """Put *poster* beside the widget in every cell that shows it, under a name unique to the widget.

        A view hides the posters of all widgets of its stream: they look the same, and a cell keeps those of widgets
        that an `Output` has shown and cleared.
        """
        self._poster = poster
        self.poster_name = f"rfb-poster-{secrets.token_hex(8)}"
        digest = hashlib.sha256(f"{self.hub_id} {self.stream}".encode()).hexdigest()
        self.poster = f"rfb-poster-of-{digest[:16]}"
        _heed_boxes()

    def show_poster(self) -> None:
        """Put the poster into the running cell, if there is one."""
        if self._poster:
            self._poster.show(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        self.show_poster()
        if (bundle := super()._repr_mimebundle_(**kwargs)) is None:
            return None
        data, metadata = bundle
        return data | {"text/plain": f"<{type(self).__name__} of {self.stream}, {_INSTEAD}>"}, metadata

    # Secrets reach the page, and are never stored ---------------------------------------------------------------------
    #
    # The first message about the widget contains them, so that a view needs no response from a busy kernel. Once a page
    # has sent a message, every stored copy is blanked, and later views ask for them.

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The synced traits as they are sent and saved: without secrets, unless *key* names them or there is no comm
        yet."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        told = _SECRETS if self.comm is None else {key} if isinstance(key, str) else set(key or ())
        if told & _SECRETS:
            self._told_secrets = True
        return {name: "" if name in _SECRETS - told else value for name, value in state.items()}

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Apply traits set by a page, except secrets: a page blanks only its own copies of them."""
        super().set_state({name: value for name, value in sync_data.items() if name not in _SECRETS})
        if blank := dict.fromkeys(_SECRETS & sync_data.keys(), ""):
            self._send({"method": "echo_update", "state": blank, "buffer_paths": []})
        self._blank_secrets()

    def _heed(self, content: Any) -> None:
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "where":
            self.send({"type": "where", **{name: getattr(self, name) for name in _SECRETS}})
        elif kind == "status":
            # The page doesn't set these traits itself: in marimo that would run the cells that depend on the widget.
            for name in _STATUS & content.keys():
                if self._is_news(name, content.get("sender"), content.get("number")):
                    self.set_trait(name, content[name])
        self._blank_secrets()

    def _is_news(self, name: str, sender: object, number: object) -> bool:
        """True if this is the newest report of *name* from its view: messages by one shell of the kernel may overtake
        those by another."""
        before, newest = self._heard.get(name, (None, 0))
        if sender == before and isinstance(number, int) and number < newest:
            return False
        self._heard[name] = sender, number if isinstance(number, int) else 0
        return True

    def _blank_secrets(self) -> None:
        if self._told_secrets:
            self._told_secrets = False
            blank = dict.fromkeys(_SECRETS, "")
            self._send({"method": "update", "state": blank, "buffer_paths": []})


class RfbViewer(RfbCanvas):
    """A widget that shows the picture with a toolbar, a status line and statistics."""

    show_toolbar = traitlets.Bool(True).tag(sync=True)


def widget_of(
    publication: Publication,
    hub: Hub,
    listener: tuple[str, int] | None,
    traits: WidgetTraits,
    *,
    batteries: bool,
    poster: bool,
) -> RfbCanvas:
    """`Display.widget`, of a display that is reached at *listener*, by default the hub's first."""
    stream = publication.stream
    if publication.closed and stream.name not in hub.streams:
        publication.check_open()
    if not in_notebook():
        _warn_of_no_notebook()
    # Without TCP the page goes through its own server; a hub that was closed raises here.
    through_route = hub.usable and not hub.listeners.port
    host, port = ("auto", 0) if through_route else hub.listeners.address(listener)
    follows_box = stream.options.resize_policy == "match_client"
    ratio = stream.format.pixel_ratio if stream.format else 1.0
    place = {
        "host": host,
        "port": port,
        "stream": stream.name,
        "kernel_base": kernel_base(),
        "machine": machine(),
        "hub_id": hub.hub_id,
        "hub_key": hub.hub_key,
        "token": hub.token,
        "_shape": [] if follows_box else [side / ratio for side in stream.size],
    }
    make = RfbViewer if batteries else RfbCanvas
    widget = make(**place | {name: value for name, value in traits.items() if value is not None})
    if poster:
        widget.keep_poster(poster_of(stream))
    return widget


@cache
def _warn_of_no_notebook() -> None:
    log.warning("a widget shows in notebooks, and none runs here: print(display.url), or call display.open()")


def _heed_boxes() -> None:
    """Make IPython show the posters of widgets inside a box: by default it displays only the box."""
    if shell := jupyter_shell():
        shell.display_formatter.mimebundle_formatter.for_type(ipywidgets.Box, _show_box)


def _show_box(box: Any) -> Any:
    for widget in _inside(box):
        widget.show_poster()
    return box._repr_mimebundle_()


def _inside(box: Any) -> Iterator[RfbCanvas]:
    for child in box.children:
        if isinstance(child, RfbCanvas):
            yield child
        elif isinstance(child, ipywidgets.Box):
            yield from _inside(child)


def publish_loop(display: AnyDisplay, render: Callable[[], Any], *, fps: float = 30) -> asyncio.Task[None]:
    """Publish ``render()`` *fps* times per second from a task of the running event loop. Returns the task at once.

    *render* returns a frame or an awaitable of one. It is called for a first frame, and then only while a visible
    viewer can take a frame. The task ends when the display closes, or earlier by ``task.cancel()``, an error that
    *render* raises, or a frame that `Display.publish` refuses: then the task holds the error, which the log and
    `Display.status` also show. In a subshell of a Jupyter kernel, as for a button's callback, the task runs in the
    kernel's own loop, as the subshell ends with its page. Raises `ValueError` for an *fps* that is not above 0,
    `TypeError` for a *render* that is no function, `RuntimeError` outside a running event loop.
    """
    if not callable(render):
        came = f"not a {type(render).__qualname__}; a single frame is for display.publish"
        raise TypeError(f"render is a function that returns the next frame, {came}")
    if not fps > 0:
        raise ValueError(f"fps is a number above 0, not {fps!r}")
    if (loop := lasting_loop()) is None:
        raise RuntimeError("publish_loop is a task of the running event loop, and there is none: use display.attach")
    publishing = _publish_until_closed(display._publication, render, 1 / fps)
    task = loop.create_task(publishing)
    if loop is not asyncio.get_running_loop():
        loop.call_soon_threadsafe(lambda: None)  # a task created by another thread doesn't wake the loop
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is logged already
    return task


async def _publish_until_closed(publication: Publication, render: Callable[[], Any], interval: float) -> None:
    try:
        await _publish_for_ever(publication, render, interval)
    except BaseException as error:
        if thrown_in(error):
            raise
        log.exception("publish_loop of %r failed, and publishes no more", publication.stream.name)
        publication.stream.note_error(f"publish_loop failed: {type(error).__name__}: {error}")
        raise_as_exception(error, "render")


async def _publish_for_ever(publication: Publication, render: Callable[[], Any], interval: float) -> None:
    due = time.monotonic()
    published = False
    while not publication.closed:
        if not published or publication.wait_ready(0):
            frame = render()
            if inspect.isawaitable(frame):
                frame = await frame
            try:
                publication.publish(frame)
            except RuntimeError:
                if publication.closed:
                    return
                raise
            published = True
        due = max(due + interval, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


def kernel_base() -> str:
    """The base path of the Jupyter server that started this kernel; empty if the kernel can't know it."""
    if prefix := os.environ.get("JUPYTERHUB_SERVICE_PREFIX"):
        return prefix
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not (parent.isdigit() and importlib.util.find_spec("jupyter_core")):
        return ""
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        base = json.loads(Path(jupyter_runtime_dir(), f"jpserver-{parent}.json").read_text("utf-8"))["base_url"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return base if isinstance(base, str) else ""
