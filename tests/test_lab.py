"""The widget in real JupyterLab: while cells run, when they run again, and beside the notebook's own shortcuts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hosts import ARTIFACTS, NUMBERED, Lab, error_of, numbers_seen, wait_for, watch_numbers
from pages import numbered
from playwright.sync_api import Locator, Page

SERVE = f"""{NUMBERED}
import time
import pdum_rfb_widget as rfb
display = rfb.serve(1280, 720)
display.publish(numbered(0))
frames = [numbered(n) for n in range(91)]
print(display.name, "served")
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as started:
        yield started


@pytest.fixture
def page(page: Page) -> Page:
    page.set_viewport_size({"width": 1280, "height": 900})
    return page


def run(lab: Lab, page: Page, cell: int, until: str) -> str:
    """Run the cell and wait until it has printed *until*; all that it printed."""
    lab.run_cell(page, cell)
    wait_for(lambda: until in lab.output(page, cell), f"{until!r} from cell {cell}", 60)
    return lab.output(page, cell)


def show(lab: Lab, page: Page, cell: int) -> Locator:
    """Run the cell that shows a widget, and wait for its picture."""
    lab.run_cell(page, cell)
    canvas = page.locator(".jp-Cell").nth(cell).locator(".rfb-canvas.rfb-has-picture").first
    canvas.wait_for(timeout=60_000)
    return canvas


BUSY = """
def acknowledged():
    return display.status()["clients"][0]["frames_acked"]

def pause():
    {pause}

before, deadline = acknowledged(), time.monotonic() + 50
while acknowledged() < before + 60 and time.monotonic() < deadline:
    for i in range(30):
        display.publish(frames[i + 1])
        pause()
display.publish(frames[90])
print("done", acknowledged() - before)
"""
SLEEPING = BUSY.format(pause="time.sleep(1 / 30)")
SPINNING = BUSY.format(pause="end = time.perf_counter() + 1 / 30\n    while time.perf_counter() < end:\n        pass")


def test_frames_are_shown_while_a_cell_keeps_the_kernel_busy(lab: Lab, page: Page) -> None:
    lab.write("blocked.ipynb", [SERVE, "display.widget()", SLEEPING, SPINNING])
    lab.open(page, "blocked.ipynb")
    run(lab, page, 0, "served")
    canvas = show(lab, page, 1)
    watch_numbers(canvas)
    for cell in (2, 3):
        numbers_seen(canvas)
        drawn = int(run(lab, page, cell, "done").split()[-1])
        # What was shown by the time that the page hears of the cell's end was shown while it ran. Of what was drawn, an
        # animation frame may see little on a machine that has too much to do.
        during = len(numbers_seen(canvas))
        wait_for(lambda: error_of(canvas, numbered(90)) < 6, "the newest frame")
        print(f"{drawn} frames were drawn while cell {cell} ran, {during} seen by an animation frame")
        assert drawn >= 60
        assert during >= 10


def test_a_cell_that_runs_again_keeps_its_viewers_and_another_cell_has_its_own(lab: Lab, page: Page) -> None:
    second = SERVE.replace("display", "other").replace("numbered(0)", "numbered(700)")
    page.set_viewport_size({"width": 1280, "height": 2400})  # a picture that can't be seen is not fed
    lab.write("again.ipynb", [SERVE, "display.widget(height=200)", second, "other.widget(height=200)"])
    lab.open(page, "again.ipynb")
    name = run(lab, page, 0, "served")
    canvas = show(lab, page, 1)
    other_name = run(lab, page, 2, "served")
    other = show(lab, page, 3)
    assert name != other_name
    assert name.startswith("cell-")
    wait_for(lambda: error_of(canvas, numbered(0)) < 6 and error_of(other, numbered(700)) < 6, "each its own picture")

    page.evaluate("jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.source += '\\nold = display'")
    lab.run_cell(page, 0)
    wait_for(lambda: lab.output(page, 0) == name, "the same name again", 60)
    page.evaluate(
        """() => jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.source =
            "display.publish(numbered(321)); print('published', old.closed, display.client_count)" """
    )
    assert "published False 1" in run(lab, page, 0, "published")
    wait_for(lambda: error_of(canvas, numbered(321)) < 6, "the new display's picture in the old widget")
    assert error_of(other, numbered(700)) < 6


def test_two_widgets_one_shown_twice_and_nothing_after_their_outputs_are_cleared(lab: Lab, page: Page) -> None:
    count = "print('viewers', display.client_count)"
    bare = "w = display.widget(batteries=False, height=200); w"
    lab.write("two.ipynb", [SERVE, "display.widget(height=200)", bare, "display.publish(numbered(5))", count, "w"])
    page.set_viewport_size({"width": 1280, "height": 2400})  # a picture that can't be seen is not fed
    lab.open(page, "two.ipynb")
    run(lab, page, 0, "served")
    first, second = show(lab, page, 1), show(lab, page, 2)
    lab.run_cell(page, 3)
    wait_for(lambda: error_of(first, numbered(5)) < 6 and error_of(second, numbered(5)) < 6, "the frame in both")
    toolbars = page.locator(".rfb-toolbar:not([hidden])")
    assert toolbars.count() == 1, "the bare canvas has none"
    assert "viewers 2" in run(lab, page, 4, "viewers")
    third = show(lab, page, 5)
    wait_for(lambda: error_of(third, numbered(5)) < 6, "the frame in the second view of one widget")
    assert "viewers 3" in run(lab, page, 4, "viewers 3")
    page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    wait_for(lambda: "viewers 0" in run(lab, page, 4, "viewers"), "the views to leave")
    wait_for(lambda: page.locator(".rfb-root").count() == 0, "no view")


def test_a_reload_of_the_page_brings_the_picture_back(lab: Lab, page: Page) -> None:
    lab.write("reload.ipynb", [SERVE, "display.widget(height=200)"])
    lab.open(page, "reload.ipynb")
    run(lab, page, 0, "served")
    show(lab, page, 1)
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    wait_for(
        lambda: not page.evaluate("jupyterapp.shell.currentWidget.context.model.dirty"), "the notebook to be saved"
    )
    page.reload()
    canvas = page.locator(".rfb-canvas.rfb-has-picture")
    canvas.wait_for(timeout=60_000)
    wait_for(lambda: error_of(canvas, numbered(0)) < 6, "the picture")


RAISING = """import asyncio
@display.on("pointer_down")
def f(event):
    raise SystemExit
@display.on("pointer_down")
def g(event):
    raise KeyboardInterrupt
@display.on("pointer_down")
def h(event):
    raise asyncio.CancelledError
downs = []
display.on("pointer_down")(downs.append)
print("ready")
"""


def test_the_kernel_lives_after_handlers_that_raise_what_ends_a_program(lab: Lab, page: Page) -> None:
    count = "print(len(downs), 'downs', display.status()['callback_errors'], 'errors')"
    lab.write("raising.ipynb", [SERVE, "display.widget(height=200)", RAISING, count])
    lab.open(page, "raising.ipynb")
    run(lab, page, 0, "served")
    canvas = show(lab, page, 1)
    run(lab, page, 2, "ready")
    for clicks in (1, 2):
        canvas.click()
        wait_for(lambda n=clicks: f"{n} downs {3 * n} errors" in run(lab, page, 3, "errors"), "all handlers to run")


def test_notebook_shortcuts_rest_while_the_picture_has_the_focus_and_escape_wakes_them(lab: Lab, page: Page) -> None:
    keys = "print('keys', ''.join(e.event['key'] for e in display.poll_events() if e.event['type'] == 'key_down'))"
    lab.write("keys.ipynb", [SERVE, "display.widget(height=200)", keys])
    lab.open(page, "keys.ipynb")
    run(lab, page, 0, "served")
    canvas = show(lab, page, 1)
    cells = page.locator(".jp-Notebook .jp-Cell")
    canvas.click()
    # Insert above and below, cut, delete, run: none of it is the notebook's now.
    for key in ("a", "b", "x", "d", "d", "m", "0", "0", "Shift+Enter", "Control+Enter"):
        page.keyboard.press(key)
    assert cells.count() == 3
    assert page.evaluate("document.activeElement.className") == "rfb-keys"
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 90, box["y"] + 90)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 130, box["y"] + 90, steps=3)
    page.mouse.up(button="right")
    assert page.locator(".lm-Menu").count() == 0, "a right drag is the application's"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") != "rfb-keys"
    page.keyboard.press("b")
    wait_for(lambda: cells.count() == 4, "the notebook's own shortcut")
    page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex = 2")
    page.keyboard.press("d")
    page.keyboard.press("d")
    wait_for(lambda: cells.count() == 3, "the cell to be deleted")


def test_traits_are_followed_and_the_state_comes_back(lab: Lab, page: Page) -> None:
    change = "w.height = 333; w.fit = 'fill'; w.show_stats = True; w.background = 'rgb(1, 2, 3)'; print('changed')"
    state = "print('state', w.state, repr(w.last_error))"
    wrong = "w.token = 'wrong'; print('wrong')"
    lab.write("traits.ipynb", [SERVE, "w = display.widget(height=200); w", change, state, wrong])
    lab.open(page, "traits.ipynb")
    run(lab, page, 0, "served")
    show(lab, page, 1)
    run(lab, page, 2, "changed")
    root = page.locator(".rfb-root")
    wait_for(lambda: root.evaluate("root => root.offsetHeight") == 333, "the height")
    box, whole = page.locator(".rfb-canvas").bounding_box(), root.bounding_box()
    assert box is not None
    assert whole is not None
    assert (box["width"], box["height"]) == (whole["width"], whole["height"])
    assert root.evaluate("root => getComputedStyle(root).backgroundColor") == "rgb(1, 2, 3)"
    assert page.locator(".rfb-stats").is_visible()
    assert "state live ''" in run(lab, page, 3, "state")
    run(lab, page, 4, "wrong")
    page.locator(".rfb-notice").wait_for()
    wait_for(lambda: "state failed" in run(lab, page, 3, "state"), "the state in Python")
    assert "refused the token" in lab.output(page, 3)


def lightness(color: str) -> float:
    """Of a computed colour, 0 to 1: `rgb(0, 0, 0)`, or `color(srgb 0 0 0)` where it was mixed."""
    red, green, blue = (float(number) for number in re.findall(r"[\d.]+", color.removeprefix("color(srgb"))[:3])
    return (red + green + blue) / 3 / (1 if "srgb" in color else 255)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_it_looks_right_in_light_and_dark(lab: Lab, page: Page, theme: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    lab.write("look.ipynb", [SERVE, "w = display.widget(height=300, show_stats=True); w", "display.close()"])
    lab.open(page, "look.ipynb")
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    run(lab, page, 0, "served")
    show(lab, page, 1).hover()
    wait_for(lambda: page.locator(".rfb-stats").inner_text(), "the figures")
    name = theme.split()[1].lower()
    page.screenshot(path=ARTIFACTS / f"lab-{name}.png")
    lab.run_cell(page, 2)
    page.locator(".rfb-notice").wait_for()
    page.screenshot(path=ARTIFACTS / f"lab-{name}-closed.png")
    words, panel = (
        page.locator(".rfb-notice").evaluate(f"notice => getComputedStyle(notice).{property}")
        for property in ("color", "backgroundColor")
    )
    assert (lightness(panel) > 0.5) == (name == "light"), panel
    assert abs(lightness(panel) - lightness(words)) > 0.6, "words that can be read"
