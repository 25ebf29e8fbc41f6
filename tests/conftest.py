"""What tests share: a hub that is closed after each, viewers that speak the wire themselves, one browser for all."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hosts import chromium
from hypothesis import HealthCheck, settings
from inside import close_hub, hub_of
from pages import show, texture, wait_for_events
from playwright.sync_api import Browser, Page
from xdist.scheduler import LoadFileScheduling

import pdum_rfb_widget as rfb

T = TypeVar("T")

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


LONGEST = ("test_lab", "test_marimo", "test_saved", "test_simulation", "test_soak", "test_video", "test_ways")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a page are marked so, by the fixture that opens it. The longest files come first, so that no process is
    left with one of them."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    for item in items:
        if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)


class ByFile(LoadFileScheduling):
    """Gives a file to one process, for what its tests share, and each seed of the simulation to any."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "every_rule_holds[" in nodeid else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _close_hub() -> Iterator[None]:
    yield
    close_hub()


@pytest.fixture(autouse=True, scope="session")
def _runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The hubs of tests, and the servers that look for them, leave this machine's own alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PDUM_RFB_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _interrupts() -> None:
    """Interrupts are Python's, here and in the processes that tests start: pytest-xdist ignores them, children too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def display() -> rfb.Display:
    return rfb.serve(64, 48, port=0)


Skip = Callable[[float], None]


@pytest.fixture
def skip(display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> Skip:
    """Moves the clock of `display`'s hub on by so many seconds: a time limit of any length ends now, and not before,
    however slow the machine is."""
    loop, ahead = hub_of(display).loop, 0.0

    def skip(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds
        loop.call_soon_threadsafe(lambda: None)  # wakes the loop, which looks at its clock

    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + ahead)
    return skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own, which must not report an error."""
    context = browser.new_context(viewport={"width": 900, "height": 700})
    context.set_default_timeout(60_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors


@pytest.fixture
def stage(page: Page) -> tuple[Page, rfb.Display, dict[str, float]]:
    """A view with a frame of 100x100, of which a pixel is 4 CSS pixels wide; the canvas's box."""
    display = rfb.serve(100, 100, port=0)
    display.publish(texture(100, 100, 3))
    canvas = show(page, display)
    page.locator(".rfb-has-picture").wait_for()
    box = canvas.bounding_box()
    assert box is not None
    wait_for_events(display, "resize")
    return page, display, dict(box)


Stage = tuple[Page, rfb.Display, dict[str, float]]
