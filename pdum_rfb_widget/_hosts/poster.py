"""The poster: the last picture of a stream as a second output of its widgets' cells, for when no kernel runs.

A saved notebook doesn't show a widget. So below it stands a piece of HTML with a small picture, which the view hides
while it shows its own. The kernel's channel updates it, so it is stored like any output. marimo's exports store the
widget's traits instead: there one trait holds the picture.
"""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from .._hub.stream import Stream, now_us
from .._system.fork_guard import in_forks
from ..snapshot import shrunk
from .notebook_context import Cell, current_cell, jupyter_shell

Put = Callable[[], None]
"""Writes the newest poster to its place at a widget."""

REST = 1.0
"""Seconds that a picture must stay unchanged first."""
EVERY = 30.0
"""Seconds between two posters: each is sent to the notebook's page, which saves it."""
MOST_BYTES = 100_000
"""Largest poster, as HTML."""
_CELLS = 16
"""The number of latest cells whose posters are kept up to date: some front ends don't say which cell runs again."""
_LOOK = 1.0
_MARKUP = 1000
"""Bytes reserved for the HTML around the picture."""
_NO_ANYWIDGET = (
    "The live picture didn't load. Where its error says that anywidget is not registered, run 'pip install anywidget' "
    "where the notebook's server runs, restart the server, and reload this page."
)
# Shown only beside a widget that didn't load, as Jupyter's notebooks mark it. The style alone holds the text: a
# notebook that isn't trusted drops styles, so any text hidden by one would show there.
_WHERE = ".jp-OutputArea:has(.jupyter-widgets-error-widget) .rfb-hint::before"
_HINT = f'<p class="rfb-hint"></p><style>{_WHERE} {{ content: {json.dumps(_NO_ANYWIDGET)} }}</style>'


class Canvas(Protocol):
    """A widget that posters are shown for: a `notebook.RfbCanvas`."""

    poster: str
    """Class name of the HTML, by which views find it."""
    poster_name: str
    """Name of the output, unique to the widget."""
    height: int | str
    last_picture: str


@dataclass(slots=True)
class Rule:
    """Decides when a poster is due. Has no clock: times are arguments, in seconds."""

    version: int = 0
    """Version of the frame that the poster shows; 0 while it is empty."""
    written: float = -math.inf
    viewed: bool = False
    """True once the stream has had a viewer."""

    def due(self, version: int, rested: float, viewers: int, now: float) -> bool:
        """True if there is a newer frame, unchanged for *rested* seconds, a viewer, and no recent poster."""
        self.viewed = self.viewed or viewers > 0
        return version > self.version and rested >= REST and viewers > 0 and now >= self.written + EVERY

    def due_at_end_of_cell(self, version: int, viewers: int) -> bool:
        """True if there is a newer frame and never was a viewer, as in notebooks that run without a browser: the first
        viewer opens the saved file."""
        self.viewed = self.viewed or viewers > 0
        return version > self.version and not self.viewed

    def wrote(self, version: int, now: float) -> None:
        """Note that the poster shows the frame *version* since *now*."""
        self.version, self.written = version, now


@dataclass(slots=True, weakref_slot=True)
class Poster:
    """The posters of one stream, which all look the same. Created by `poster_of`."""

    stream: Stream
    rule: Rule = field(default_factory=Rule)
    _data: bytes = b""
    _version: int = 0
    _size: tuple[float, float] = (0, 0)
    _behind: bool = False
    """True if some cell shows another picture."""
    _shown: dict[str, tuple[Any, dict[str, Put]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, widget: Canvas) -> None:
        """Show the poster of *widget* in the running cell, and keep it up to date."""
        if (cell := current_cell()) is None:
            return
        if shell := jupyter_shell():
            # Below the view: above, it would push the view off the screen, and a hidden view gets no frames.
            first, later = (partial(self._put_html, widget, update=update) for update in (False, True))
            _waiting.append(lambda: self._show_in(cell, widget.poster_name, first, later))
            _start(shell)
        else:
            put = partial(self._put_trait, widget)
            self._show_in(cell, widget.poster_name, put, put)
            _start(None)

    def _show_in(self, cell: Cell, name: str, first: Put, later: Put) -> None:
        now = current_cell()
        if now is None or now.run != cell.run:
            return
        if self._draw():
            self._behind = True
        first()
        with self._lock:
            if not self._shown:
                self.rule.version, self._behind = self._version, False
            run, puts = self._shown.pop(cell.name, (None, {}))
            # A new run of a cell deletes its outputs; without this, they would be written for ever.
            self._shown[cell.name] = (cell.run, {**(puts if run == cell.run else {}), name: later})
            if len(self._shown) > _CELLS:
                del self._shown[next(iter(self._shown))]

    def look(self, now: float) -> bool:
        """Write the poster if it is due; False if it may become due later."""
        newest = self.stream.newest
        if newest is None or newest.version <= self.rule.version or not self._shown:
            return True
        if not self.rule.due(newest.version, (now_us() - newest.timestamp_us) / 1e6, len(self.stream.viewers), now):
            return False
        self._write(now)
        return True

    def cell_ended(self) -> None:
        """Write the poster if it is due at the end of a cell."""
        newest = self.stream.newest
        if newest and self._shown and self.rule.due_at_end_of_cell(newest.version, len(self.stream.viewers)):
            self._write(time.monotonic())

    def _write(self, now: float) -> None:
        if self._draw():
            self._behind = True
        if not self._behind:
            self.rule.version = self._version
            return
        self._behind = False
        self.rule.wrote(self._version, now)
        with self._lock:
            puts = {name: put for _, puts in self._shown.values() for name, put in puts.items()}
        for put in puts.values():
            put()

    def _draw(self) -> bool:
        """Draw the newest frame; True if the picture looks different."""
        with self.stream.reading() as frame:
            if frame is None or frame.tiles.version == self._version:
                return False
            height, width = (side / frame.tiles.pixel_ratio for side in frame.pixels.shape[:2])
            before = self._data, self._size
            self._data = shrunk(frame.pixels, (MOST_BYTES - _MARKUP) * 3 // 4, "webp")
            self._version, self._size = frame.tiles.version, (width, height)
            return (self._data, self._size) != before

    def _put_html(self, widget: Canvas, *, update: bool) -> None:
        # An untrusted notebook's HTML keeps class names, and the view finds the poster by them.
        html = f'<div class="rfb-poster {widget.poster}">{self._img(widget.height)}{_HINT}</div>'
        data = {"text/html": html, "text/plain": f"<the last picture of {self.stream.name}>"}
        if shell := jupyter_shell():
            shell.display_pub.publish(data, transient={"display_id": widget.poster_name}, update=update)

    def _put_trait(self, widget: Canvas) -> None:
        widget.last_picture = self._url

    def _img(self, height: int | str) -> str:
        if not self._data:
            return ""
        scale = 1 if isinstance(height, str) else min(1, height / self._size[1])
        width = round(self._size[0] * scale)
        alt = f"The last picture of {self.stream.name}"
        return f'<img alt="{alt}" width="{width}" style="max-width: 100%; height: auto" src="{self._url}">'

    @property
    def _url(self) -> str:
        return f"data:image/webp;base64,{base64.b64encode(self._data).decode()}" if self._data else ""


# The one thread, which sleeps while no poster is behind its stream ----------------------------------------------------

_posters: WeakKeyDictionary[Stream, Poster] = WeakKeyDictionary()
_lock = threading.Lock()
_news = threading.Event()
_thread: threading.Thread | None = None
_waiting: list[Callable[[], None]] = []
"""Posters to show once the running cell has ended."""


@in_forks
def _forget_who_held_the_lock() -> None:
    global _lock, _news
    _lock, _news = threading.Lock(), threading.Event()


def poster_of(stream: Stream) -> Poster:
    """The stream's poster, created on first use."""
    with _lock:
        if (poster := _posters.get(stream)) is None:
            poster = _posters[stream] = Poster(stream)
            stream.listeners.add(_news.set)
        return poster


def _start(shell: Any | None) -> None:
    global _thread
    with _lock:
        if _thread is None or not _thread.is_alive():
            if shell:
                shell.events.register("post_run_cell", _cell_ended)
            _thread = threading.Thread(target=_keep_up, name="rfb-poster", daemon=True)
            _thread.start()


def _keep_up() -> None:
    while True:
        _news.wait()
        _news.clear()
        time.sleep(_LOOK)
        if not all([poster.look(time.monotonic()) for poster in _all()]):
            _news.set()


def _cell_ended(*_: object) -> None:
    shown, _waiting[:] = tuple(_waiting), ()
    for show in shown:
        show()
    for poster in _all():
        poster.cell_ended()


def _all() -> list[Poster]:
    with _lock:
        return list(_posters.values())
