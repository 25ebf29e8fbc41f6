"""Interrupts of the main thread at any moment: what they leave behind, and what goes on."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import av
import numpy as np
import pytest
from test_serve import run_script

import pdum_rfb_widget as rfb
from pdum_rfb_widget._system.interrupts import uninterrupted

NOISE = np.random.default_rng(1).integers(0, 256, (2, 48, 64, 3), np.uint8)
WATCHED = ("pdum_rfb_widget", "threading.py", "concurrent/futures", "asyncio")


def test_an_interrupt_in_an_uninterrupted_block_comes_at_its_end() -> None:
    reached = []

    def interrupted() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append("after it")
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
            reached.append("after both")
        reached.append("after the block")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["after it", "after both"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_uninterrupted_block_which_every_frame_has_makes_no_enums() -> None:
    called: list[str] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            called.append(Path(frame.f_code.co_filename).name)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        with uninterrupted():
            pass
    finally:
        sys.setprofile(before)
    assert "interrupts.py" in called
    assert not {"enum.py", "signal.py"} & {*called}


def interrupt(action: Callable[[], object], moment: int) -> bool:
    """Interrupt *action* where Python looks for the *moment*-th time, in our code and below it, whether a signal has
    come: when a function begins, and when one written in C has returned. False when it ended before."""
    looks = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal looks
        if event in ("call", "c_return") and any(part in frame.f_code.co_filename for part in WATCHED):
            looks += 1
            if looks == moment:
                signal.raise_signal(signal.SIGINT)

    before = sys.getprofile()
    with contextlib.suppress(KeyboardInterrupt):
        try:
            sys.setprofile(profile)
            action()
        finally:
            sys.setprofile(before)
    return looks >= moment


def goes_on(display: rfb.Display) -> bool:
    """Another thread can publish, and the hub answers."""
    working = threading.Thread(
        target=lambda: (display.publish(NOISE[0]), display.publish(NOISE[1]), display.status()), daemon=True
    )
    working.start()
    working.join(30)
    return not working.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of coroutines that were not begun
@pytest.mark.parametrize(("name", "stride"), [("publish", 1), ("wait_ready", 1), ("send", 1), ("status", 3)])
def test_an_interrupt_at_any_step_leaves_no_lock_behind(name: str, stride: int) -> None:
    display = rfb.serve(64, 48, port=0)
    frames = iter(range(1_000_000))
    actions: dict[str, Callable[[], object]] = {
        "publish": lambda: display.publish(NOISE[next(frames) % 2]),
        "wait_ready": lambda: display.wait_ready(0.001),
        "send": lambda: display.send("a", 1),
        "status": display.status,
    }
    moment = 1
    while interrupt(actions[name], moment):
        assert goes_on(display), f"{name} interrupted at step {moment}"
        moment += stride
    assert moment > 10


def test_an_interrupt_of_the_first_recording_leaves_pyav_whole(tmp_path: Path) -> None:
    out = run_script(f"""
        import importlib.abc, os, signal, sys, numpy as np, pdum_rfb_widget as rfb
        class Interrupt(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "zlib":  # which PyAV's native modules ask for while they are made
                    sys.meta_path.remove(self)
                    signal.raise_signal(signal.SIGINT)
        display = rfb.serve(64, 48, port=0)
        del sys.modules["zlib"]
        sys.meta_path.insert(0, Interrupt())
        try:
            display.record({str(tmp_path / "film.mp4")!r})
        except KeyboardInterrupt:
            print("interrupted")
        with display.record({str(tmp_path / "film.mp4")!r}) as recording:
            for value in range(5):
                display.publish(np.full((48, 64, 3), 50 * value, np.uint8))
        print(recording.frames_written > 0, display.status()["recordings"])
    """)
    assert out.split() == ["interrupted", "True", "0"]
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_while_a_recording_begins_ends_it(tmp_path: Path) -> None:
    display = rfb.serve(64, 48, port=0)
    display.publish(NOISE[0])
    made: list[Any] = []
    moment = 1
    while interrupt(lambda: made.append(display.record(tmp_path / "film.mp4")), moment):
        while made:
            made.pop().close()
        display.record(tmp_path / "film.mp4").close()  # nobody records there any more
        assert display.status()["recordings"] == 0
        moment += 20
    made.pop().close()
    assert moment > 100
