"""The last picture of a stream as a second output of its widgets' cells, for when there is no kernel any more.

A widget is nothing in a saved notebook. So beside it stands a piece of HTML with a small picture, which the view hides
while it has one of its own. It is updated through the kernel's channel, and so stored as any output is. Where there is
no such channel, as in marimo or a script, there is no poster.
"""

from __future__ import annotations

import base64
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from .broadcast import Broadcast, now_us
from .cells import Cell, current_cell
from .snapshot import shrunk

REST = 1.0
"""Seconds that a picture must have stood."""
EVERY = 30.0
"""Seconds between two posters: each is sent to the notebook's page, which saves it."""
MOST_BYTES = 100_000
"""Of a poster, as HTML."""
_LOOK = 1.0
_MARKUP = 500
"""Bytes left for what is around the picture."""


@dataclass(slots=True)
class Rule:
    """When a poster is due. No clock: times are given, in seconds."""

    version: int = 0
    """Of the frame that the poster shows; 0 while it is empty."""
    written: float = -math.inf
    viewed: bool = False
    """Somebody has seen the stream."""

    def due(self, version: int, rested: float, viewers: int, now: float) -> bool:
        """There is a newer frame, it has *rested*, somebody looks on, and the last poster is long enough ago."""
        self.viewed = self.viewed or viewers > 0
        return version > self.version and rested >= REST and viewers > 0 and now >= self.written + EVERY

    def due_at_end_of_cell(self, version: int, viewers: int) -> bool:
        """Nobody has ever looked, as where notebooks are run without a browser: whoever opens the file is the first."""
        self.viewed = self.viewed or viewers > 0
        return version > self.version and not self.viewed

    def wrote(self, version: int, now: float) -> None:
        """The poster shows the frame *version* from now on."""
        self.version, self.written = version, now


@dataclass(slots=True, weakref_slot=True)
class Poster:
    """The posters of one stream, which look the same. `poster_of` makes it."""

    stream: Broadcast
    rule: Rule = field(default_factory=Rule)
    _data: bytes = b""
    _version: int = 0
    _size: tuple[float, float] = (0, 0)
    _shown: dict[str, tuple[Any, dict[str, int]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def show(self, name: str, height: int) -> None:
        """Put a poster into the running cell once that has ended, and keep it up to date.

        *name* is the class name that the view hides it by, *height* that of the view, in CSS pixels.
        """
        if (shell := _jupyter_shell()) and (cell := current_cell()):
            # Below the view: above it, it would push the view out of sight, which is then fed no picture.
            _waiting.append(lambda: self._show(shell, cell, name, height))
            _start(shell)

    def _show(self, shell: Any, cell: Cell, name: str, height: int) -> None:
        now = current_cell()
        if now is None or now.run != cell.run:
            return
        self._draw()
        with self._lock:
            if not self._shown:
                self.rule.version = self._version
            run, names = self._shown.get(cell.name, (None, {}))
            # When a cell runs again, its outputs are gone, and whoever wrote to them would write for ever.
            self._shown[cell.name] = (cell.run, {**(names if run == cell.run else {}), name: height})
        self._publish(shell, name, height, update=False)

    def look(self, now: float) -> bool:
        """Write the poster when that is due; False when it may be later."""
        newest = self.stream.newest
        if newest is None or newest.version <= self.rule.version or not self._shown:
            return True
        if not self.rule.due(newest.version, (now_us() - newest.timestamp_us) / 1e6, len(self.stream.viewers), now):
            return False
        self._write(now)
        return True

    def cell_ended(self) -> None:
        """A cell of the notebook has run."""
        newest = self.stream.newest
        if newest and self._shown and self.rule.due_at_end_of_cell(newest.version, len(self.stream.viewers)):
            self._write(time.monotonic())

    def _write(self, now: float) -> None:
        self._draw()
        self.rule.wrote(self._version, now)
        with self._lock:
            names = {name: height for _, names in self._shown.values() for name, height in names.items()}
        if shell := _jupyter_shell():
            for name, height in names.items():
                self._publish(shell, name, height, update=True)

    def _draw(self) -> None:
        """Make the picture that of the newest frame."""
        with self.stream.reading() as frame:
            if frame is None or frame.tiles.version == self._version:
                return
            height, width = (side / frame.tiles.pixel_ratio for side in frame.pixels.shape[:2])
            self._data = shrunk(frame.pixels, (MOST_BYTES - _MARKUP) * 3 // 4, "webp")
            self._version, self._size = frame.tiles.version, (width, height)

    def _publish(self, shell: Any, name: str, height: int, *, update: bool) -> None:
        # Class names are what an untrusted notebook's HTML keeps, and what the view finds it by.
        html = f'<div class="rfb-poster {name}">{self._img(height)}</div>'
        data = {"text/html": html, "text/plain": f"<the last picture of {self.stream.name}>"}
        shell.display_pub.publish(data, transient={"display_id": name}, update=update)

    def _img(self, height: int) -> str:
        if not self._data:
            return ""
        width = round(self._size[0] * min(1, height / self._size[1]))
        return (
            f'<img alt="The last picture of {self.stream.name}" width="{width}" style="max-width: 100%; height: auto" '
            f'src="data:image/webp;base64,{base64.b64encode(self._data).decode()}">'
        )


# The one thread, which sleeps while no poster is behind its stream ----------------------------------------------------

_posters: WeakKeyDictionary[Broadcast, Poster] = WeakKeyDictionary()
_lock = threading.Lock()
_news = threading.Event()
_thread: threading.Thread | None = None
_waiting: list[Callable[[], None]] = []
"""What is to be shown once the running cell has ended."""


def poster_of(stream: Broadcast) -> Poster:
    """The stream's poster, made when it is first asked for."""
    with _lock:
        if (poster := _posters.get(stream)) is None:
            poster = _posters[stream] = Poster(stream)
            stream.add_tap(_news.set)
        return poster


def _start(shell: Any) -> None:
    global _thread
    with _lock:
        if _thread is None or not _thread.is_alive():
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


# The kernel's channel -------------------------------------------------------------------------------------------------


def _jupyter_shell() -> Any:
    """The shell of a Jupyter kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None
