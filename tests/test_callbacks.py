"""The application's functions: where they run, in what order, and what becomes of what they raise."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from hosts import wait_for
from inside import publication_of
from viewers import RawViewer, in_thread

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hub.callbacks import Callbacks
from pdum_rfb_widget.types import InputEvent


@pytest.fixture
def loopless() -> rfb.Display:
    """Made where no event loop runs; in this thread the browser's driver may have one."""
    made: list[rfb.Display] = []
    thread = threading.Thread(target=lambda: made.append(rfb.serve(64, 48, port=0)))
    thread.start()
    thread.join(60)
    return made[0]


def press(display: rfb.Display, *places: int) -> None:
    """A viewer presses at these x in turn, and leaves once the display has all."""
    with RawViewer(display) as viewer:
        viewer.greet()
        for x in places:
            viewer.say(type="event", event={"type": "pointer_down", "x": x, "y": 0})
        heard: list[Any] = []

        def presses() -> int:
            heard.extend(display.poll_events())
            return sum(event.event["type"] == "pointer_down" for event in heard)

        wait_for(lambda: presses() == len(places), "the presses")


def test_a_viewers_event_reaches_the_functions_of_its_kind_and_the_queue(display: rfb.Display) -> None:
    pressed: list[InputEvent] = []
    anything: list[str] = []
    display.on("pointer_down", thread=True)(pressed.append)
    display.on("*", thread=True)(lambda event: anything.append(event.event["type"]))
    with RawViewer(display) as viewer:
        viewer.greet()
        for kind in ("pointer_down", "pointer_up"):
            viewer.say(type="event", event={"type": kind, "x": 3, "y": 4})
        wait_for(lambda: len(anything) == 2, "both events")
    assert [event.event["x"] for event in pressed] == [3]
    assert anything == ["pointer_down", "pointer_up"]
    assert [event.event["type"] for event in display.poll_events()] == anything  # type: ignore[union-attr]


def test_in_a_loop_they_run_in_that_loop_one_after_the_other() -> None:
    log: list[Any] = []

    async def main() -> None:
        display = rfb.serve(8, 8, port=0)
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        @display.on("pointer_down")
        async def slow(event: InputEvent) -> None:
            log.append(("begins", event.event["x"], asyncio.get_running_loop() is loop))
            await asyncio.sleep(0)
            log.append(("ends", event.event["x"]))
            if event.event["x"] == 2:
                done.set()

        await asyncio.to_thread(press, display, 1, 2)
        await asyncio.wait_for(done.wait(), 60)
        await display.aclose()

    in_thread(main)
    assert log == [("begins", 1, True), ("ends", 1), ("begins", 2, True), ("ends", 2)]


def test_without_a_loop_they_run_on_one_thread_of_the_display(loopless: rfb.Display) -> None:
    threads: list[str] = []
    loopless.on("pointer_down")(lambda event: threads.append(threading.current_thread().name))
    press(loopless, *range(20))
    wait_for(lambda: len(threads) == 20, "all calls")
    assert set(threads) == {"rfb-callbacks"}


def test_what_one_raises_is_logged_and_counted_and_the_next_runs(
    display: rfb.Display, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[int] = []

    @display.on("pointer_down", thread=True)
    def halve(event: InputEvent) -> None:
        came.append(1 // event.event["x"])

    press(display, 0, 1)
    wait_for(lambda: came, "the call after the one that failed")
    status = display.status()
    assert status["callback_errors"] == 1
    assert "ZeroDivisionError" in status["recent_errors"][-1]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info


ENDINGS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
"""What ends threads, loops and tasks that let it through."""


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("where", ["thread", "loop", "coroutine"])
def test_a_function_that_raises_what_ends_programs_is_counted_and_ends_nothing(
    ending: type[BaseException], where: str
) -> None:
    came: list[int] = []

    def end(event: InputEvent) -> None:
        raise ending

    async def end_later(event: InputEvent) -> None:
        await asyncio.sleep(0)
        raise ending

    async def main() -> dict[str, Any]:
        display = rfb.serve(8, 8, port=0)
        display.on("pointer_down", thread=where == "thread")(end_later if where == "coroutine" else end)
        display.on("pointer_down", thread=where == "thread")(lambda event: came.append(event.event["x"]))
        await asyncio.to_thread(press, display, 1, 2)
        await asyncio.to_thread(wait_for, lambda: len(came) == 2, "the calls after those that failed")
        status = display.status()
        await display.aclose()
        return status

    status = in_thread(main)
    assert came == [1, 2]
    if (ending, where) != (GeneratorExit, "coroutine"):  # there it looks as if the loop had closed the task
        assert status["callback_errors"] == 2
        assert ending.__name__ in status["recent_errors"][-1]


def test_calls_that_a_loop_left_behind_go_to_the_thread_with_the_next() -> None:
    came: list[int] = []
    callbacks: list[Callbacks] = []

    async def main() -> None:
        made = Callbacks(asyncio.get_running_loop(), 10, print)
        callbacks.append(made)
        begun = asyncio.Event()

        async def slow(number: int) -> None:
            begun.set()
            await asyncio.sleep(100)

        made.add("slow", slow)
        made.add("ping", came.append)
        made.call("slow", 0)
        made.call("ping", 1)
        await asyncio.wait_for(begun.wait(), 60)

    in_thread(main)
    callbacks[0].call("ping", 2)
    wait_for(lambda: came == [1, 2], "both calls")
    callbacks[0].close()


def test_a_loop_that_was_closed_gives_its_functions_to_the_thread() -> None:
    troubles: list[str] = []
    loop = asyncio.new_event_loop()
    callbacks = Callbacks(loop, 10, troubles.append)
    came: list[str] = []
    callbacks.add("ping", lambda number: came.append(f"{number} on {threading.current_thread().name}"))
    loop.close()
    for number in (1, 2):
        callbacks.call("ping", number)
    wait_for(lambda: len(came) == 2, "both calls")
    callbacks.close()
    assert came == ["1 on rfb-callbacks", "2 on rfb-callbacks"]
    assert len(troubles) == 1
    assert "closed" in troubles[0]


def test_the_oldest_calls_go_where_too_many_wait() -> None:
    callbacks = Callbacks(None, 3, print)
    came: list[int] = []
    held, hold = threading.Event(), threading.Event()

    def slow(number: int) -> None:
        held.set()
        hold.wait(60)
        came.append(number)

    callbacks.add("ping", slow)
    callbacks.call("ping", 0)
    assert held.wait(60)
    for number in range(1, 6):
        callbacks.call("ping", number)
    hold.set()
    wait_for(lambda: 5 in came, "the newest call")
    callbacks.close()
    assert came == [0, 3, 4, 5]
    assert callbacks.left_out == 2


def test_configure_changes_how_many_calls_may_wait(loopless: rfb.Display) -> None:
    came: list[int] = []
    held, hold = threading.Event(), threading.Event()

    @loopless.on("pointer_down")
    def slow(event: InputEvent) -> None:
        held.set()
        hold.wait(60)
        came.append(event.event["x"])

    press(loopless, 0)
    assert held.wait(60)
    press(loopless, *range(1, 6))
    loopless.configure(event_queue_size=2)
    hold.set()
    wait_for(lambda: 5 in came, "the newest call")
    assert came == [0, 4, 5]
    assert loopless.status()["callbacks_left_out"] == 3


def test_off_ends_it_and_so_does_close(display: rfb.Display) -> None:
    came: list[str] = []

    def first(event: InputEvent) -> None:
        came.append("first")

    display.on("pointer_down", thread=True)(first)
    display.on("pointer_down", thread=True)(lambda event: came.append("second"))
    display.off(first)
    press(display, 1)
    wait_for(lambda: came, "the other's call")
    display.close()
    publication_of(display).callbacks.call("pointer_down", 2)
    assert came == ["second"]
    wait_for(lambda: "rfb-callbacks" not in {thread.name for thread in threading.enumerate()}, "its thread to end")


@pytest.mark.parametrize("kinds", [("pointer_dwn",), (), ("pointer_down", "PointerUp")])
def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(
    display: rfb.Display, kinds: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"pointer_down, pointer_up.*not "):
        display.on(*kinds)


def test_a_coroutine_function_needs_a_loop(loopless: rfb.Display) -> None:
    async def pressed(event: InputEvent) -> None:
        pass

    with pytest.raises(TypeError, match="outside any event loop"):
        loopless.on("pointer_down")(pressed)
    with pytest.raises(TypeError, match="a callback is a function"):
        loopless.on("pointer_down")(3)  # type: ignore[arg-type]
