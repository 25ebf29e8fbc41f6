"""The stream in a notebook's cell: two anywidgets, and a loop that publishes while cells run.

Over the kernel's channel go only these traits: where the hub is, the token, options, and a little status back.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from . import page
from .display import Display


class RfbCanvas(anywidget.AnyWidget):
    """The bare picture. `Display.widget` makes it.

    Raises `TypeError` for a trait that there isn't, `TraitError` for a value that a trait can't have.
    """

    _esm = page.bundle()

    url = traitlets.Unicode("", help="WebSocket address, when not made of host, port and stream").tag(sync=True)
    host = traitlets.Unicode("auto", help="the hub's host; auto is this machine").tag(sync=True)
    port = traitlets.Int(0, help="the hub's TCP port").tag(sync=True)
    stream = traitlets.Unicode("default", help="the stream's name").tag(sync=True)
    token = traitlets.Unicode("", help="the hub's token").tag(sync=True)
    main_thread_present = traitlets.Bool(False, help="draw on the page's main thread, not in a worker").tag(sync=True)

    fit = traitlets.Enum(["contain", "cover", "fill"], "contain", help="how the picture fills its box").tag(sync=True)
    background = traitlets.Unicode("", help="CSS color beside the picture; empty is the theme's").tag(sync=True)
    height = traitlets.Int(480, min=16, help="of the box, in CSS pixels").tag(sync=True)
    show_toolbar = traitlets.Bool(False).tag(sync=True)
    show_stats = traitlets.Bool(False).tag(sync=True)

    state = traitlets.Unicode("connecting", help="connecting, live, reconnecting, failed or closed").tag(sync=True)
    last_error = traitlets.Unicode("", help="what is wrong, in words").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        if unknown := sorted(set(traits) - set(self.trait_names())):
            known = ", ".join(RfbCanvas.class_own_traits())
            raise TypeError(f"a widget has no trait {', '.join(unknown)}; it has {known}")
        super().__init__(**traits)


class RfbViewer(RfbCanvas):
    """The picture with a toolbar, a status line and figures."""

    show_toolbar = traitlets.Bool(True).tag(sync=True)


def publish_loop(display: Display, render: Callable[[], Any], *, fps: float = 30) -> asyncio.Task[None]:
    """Publish ``render()`` *fps* times a second from a task of the running loop, and return the task at once.

    *render* returns a frame or an awaitable of one. It is not called while no visible viewer can take a frame, but for
    the first. The task ends when the display closes; ``task.cancel()`` ends it before. Raises `ValueError` for an *fps*
    that is not above 0, `RuntimeError` outside a running event loop.
    """
    if not fps > 0:
        raise ValueError(f"fps is a number above 0, not {fps!r}")
    return asyncio.get_running_loop().create_task(_publish_for_ever(display, render, 1 / fps))


async def _publish_for_ever(display: Display, render: Callable[[], Any], interval: float) -> None:
    due = time.monotonic()
    published = False
    while not display.closed:
        if not published or display.wait_ready(0):
            frame = render()
            if inspect.isawaitable(frame):
                frame = await frame
            try:
                display.publish(frame)
            except RuntimeError:
                if display.closed:
                    return
                raise
            published = True
        due = max(due + interval, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
