"""Publishes the frames of an attached source, and passes it the viewers' input."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from concurrent.futures import Future

from .._hosts.loops import lasting_loop
from .._system.failures import raise_as_exception, thrown_in
from ..events import Event
from ..types import FrameSource, InputEvent
from .publication import Publication

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Most events that wait for a source; beyond that the oldest are dropped."""
_LOOK_SOON, _LOOK_LATEST = 1 / 60, 1 / 4
"""Shortest and longest seconds between two checks for a ready viewer; they grow, so that idling costs nothing."""


def feed(publication: Publication, source: FrameSource) -> Future[None]:
    """`Display.attach`."""
    if wrong := [name for name in ("next_frame", "handle_event") if not callable(getattr(source, name, None))]:
        hint = "; of a function make an OnDemandFrameSource(function), and a single frame is for display.publish"
        kind = type(source).__qualname__
        raise TypeError(f"a source has next_frame() and handle_event(event), and a {kind} has no {wrong[0]}{hint}")
    lasting = lasting_loop()
    loop = lasting or asyncio.new_event_loop()
    feeding = asyncio.run_coroutine_threadsafe(_feed(publication, source), loop)
    if lasting is None:
        threading.Thread(target=_run, args=(loop,), name="rfb-source", daemon=True).start()
        feeding.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
    publication.begin_feed(feeding)
    return feeding


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    for task in asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()


async def _feed(publication: Publication, source: FrameSource) -> None:
    loop, come = asyncio.get_running_loop(), asyncio.Event()
    events: deque[Event] = deque(maxlen=MOST_WAITING)

    def hear(event: InputEvent) -> None:
        events.append(event.event)
        if len(events) == 1:  # a busy loop is woken once, not for every waiting event
            loop.call_soon_threadsafe(come.set)

    async def tell() -> None:
        while await come.wait():
            come.clear()
            while events:
                await _tell(publication, source, events.popleft())

    publication.on(("*",), thread=True)(hear)
    telling = asyncio.ensure_future(tell())
    try:
        await _publish(publication, source)
    except StopAsyncIteration:
        pass
    except BaseException as error:
        if thrown_in(error):
            raise
        if not publication.closed:
            log.exception("the source of %r failed, and feeds it no more", publication.stream.name)
            publication.stream.note_error(f"the source failed: {type(error).__name__}: {error}")
            raise_as_exception(error, "the source")
    finally:
        publication.callbacks.remove(hear)
        telling.cancel()


async def _publish(publication: Publication, source: FrameSource) -> None:
    while True:
        publication.publish(await source.next_frame())
        await asyncio.sleep(0)  # a source without a pace may never wait
        look = _LOOK_SOON
        while not (publication.wait_ready(0) or publication.recordings):  # any thread may make it ready
            await asyncio.sleep(look)
            look = min(2 * look, _LOOK_LATEST)


async def _tell(publication: Publication, source: FrameSource, event: Event) -> None:
    if event["type"] == "resize":
        # The display decides the size: that of one of several viewers, within limits.
        if (target := publication.stream.target) is None:
            return
        event = {**event, "pwidth": target.width, "pheight": target.height}
    try:
        await source.handle_event(event)
    except BaseException as error:
        if thrown_in(error):
            raise
        log.exception("the source of %r failed to take an event", publication.stream.name)
        publication.stream.note_error(f"the source failed to take an event: {type(error).__name__}: {error}")
