"""What happens to kernels and notebooks in real JupyterLab: the picture comes back, or the cell says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import NUMBERED, Lab, error_of, numbers_seen, wait_for, watch_numbers
from installed import ROOT
from pages import numbered, wait_until_notice
from playwright.sync_api import Browser, Locator, Page
from relay import SlowLink

pytestmark = pytest.mark.hosts

SERVE = f"""{NUMBERED}
import os, time
import pdum_rfb_widget as rfb
display = rfb.serve(320, 180)
display.publish(numbered(7, 320, 180))
print("kernel", os.getpid(), "hub", display.server.hub_id, "served")
"""
SHOW = "display.widget(height=200)"
PUBLISH = "display.publish(numbered(N, 320, 180)); print('viewers', display.client_count)"
THREAD = """
import threading
def go():
    n = 0
    while not display.closed:
        n += 1
        display.publish(numbered(n % 1024, 320, 180))
        time.sleep(0.02)
threading.Thread(target=go, daemon=True).start()
print("started")
"""
LAB = "jupyterapp.shell.currentWidget"


class OurLab(Lab):
    """JupyterLab with our extension, as an install enables it."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"JUPYTER_CONFIG_PATH": str(ROOT / "jupyter-config")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with OurLab(tmp_path_factory.mktemp("lab")) as started:
        yield started


@pytest.fixture
def page(page: Page) -> Page:
    page.set_viewport_size({"width": 1280, "height": 900})
    return page


def run(lab: Lab, page: Page, cell: int, until: str) -> list[str]:
    """Run the cell and wait until it has printed *until*; the words that it printed."""
    lab.run_cell(page, cell)
    wait_for(lambda: until in lab.output(page, cell), f"{until!r} from cell {cell}", 60)
    return lab.output(page, cell).split()


def serve(lab: Lab, page: Page) -> tuple[int, str]:
    """Run the first cell; the kernel's process and its hub."""
    words = run(lab, page, 0, "served")
    return int(words[1]), words[3]


def shows(canvas: Locator, number: int) -> None:
    canvas.wait_for(timeout=60_000)
    wait_for(lambda: error_of(canvas, numbered(number, 320, 180)) < 6, f"the picture {number}", 60)


def wait_for_frames(canvas: Locator, least: int) -> None:
    """Until the canvas has shown *least* other frames from now on."""
    seen = set()
    numbers_seen(canvas)

    def enough() -> bool:
        seen.update(numbers_seen(canvas))
        return len(seen) >= least

    wait_for(enough, f"{least} frames")


def publish(lab: Lab, page: Page, cell: int, number: int) -> int:
    """Have the cell publish the picture *number*; how many viewers there are."""
    source = PUBLISH.replace("N", str(number), 1) + f"; print('published {number}')"
    page.evaluate(f"([cell, text]) => {LAB}.content.widgets[cell].model.sharedModel.source = text", [cell, source])
    return int(run(lab, page, cell, f"published {number}")[1])


def hubs() -> set[str]:
    """The hubs of this user that have a runtime file."""
    return {path.stem for path in Path(os.environ["PDUM_RFB_RUNTIME_DIR"]).glob("*.json")}


CANVAS = ".rfb-canvas.rfb-has-picture"


def test_a_restarted_kernel_is_said_and_its_picture_comes_back_when_the_notebook_runs_again(
    lab: Lab, page: Page
) -> None:
    lab.write("restart.ipynb", [SERVE, SHOW])
    lab.open(page, "restart.ipynb")
    _, old = serve(lab, page)
    lab.run_cell(page, 1)
    canvas = page.locator(CANVAS)
    shows(canvas, 7)
    page.evaluate(f"{LAB}.sessionContext.session.kernel.restart()")
    assert "The kernel was restarted or has ended: run the cell again." in wait_until_notice(page, "restarted")
    shows(canvas, 7)
    _, new = serve(lab, page)
    lab.run_cell(page, 1)
    page.locator(".rfb-notice").wait_for(state="hidden")
    shows(canvas, 7)
    assert old not in hubs()
    assert new in hubs()


def test_a_killed_kernel_is_said_and_its_picture_comes_back_when_the_notebook_runs_again(lab: Lab, page: Page) -> None:
    lab.write("killed.ipynb", [SERVE, SHOW])
    lab.open(page, "killed.ipynb")
    process, old = serve(lab, page)
    lab.run_cell(page, 1)
    canvas = page.locator(CANVAS)
    shows(canvas, 7)
    os.kill(process, signal.SIGKILL)
    assert "The kernel was restarted or has ended: run the cell again." in wait_until_notice(page, "has ended")
    page.get_by_role("button", name="Ok").click(timeout=60_000)  # Lab says so too, and has started another
    page.wait_for_function(f"{LAB}.sessionContext.session.kernel.status === 'idle'")
    _, new = serve(lab, page)
    lab.run_cell(page, 1)
    page.locator(".rfb-notice").wait_for(state="hidden")
    shows(canvas, 7)
    assert old not in hubs()
    assert new in hubs()


def test_an_interrupt_ends_the_cell_and_not_the_picture(lab: Lab, page: Page) -> None:
    loop = "for n in range(100_000):\n    display.publish(numbered(n % 1024, 320, 180)); time.sleep(0.02)"
    lab.write("interrupt.ipynb", [SERVE, SHOW, loop, THREAD])
    lab.open(page, "interrupt.ipynb")
    serve(lab, page)
    lab.run_cell(page, 1)
    canvas = page.locator(CANVAS)
    shows(canvas, 7)
    watch_numbers(canvas)
    lab.run_cell(page, 2)
    wait_for_frames(canvas, 20)
    page.evaluate(f"{LAB}.sessionContext.session.kernel.interrupt()")
    wait_for(lambda: "KeyboardInterrupt" in lab.output(page, 2), "the end of the cell")
    idle = f"{LAB}.sessionContext.session.kernel.status === 'idle'"
    wait_for(lambda: page.evaluate(idle), "a kernel that drops no request for the error any more")
    run(lab, page, 3, "started")
    page.evaluate(f"{LAB}.sessionContext.session.kernel.interrupt()")
    wait_for_frames(canvas, 20)
    assert page.evaluate("document.querySelector('.rfb-root').dataset.state") == "live"


def test_a_proxy_before_jupyterlab_that_is_away_for_five_seconds_leads_to_the_picture_again(
    lab: Lab, browser: Browser
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()  # which may report errors, as JupyterLab does when its server is away
    lab.write("proxied.ipynb", [SERVE, SHOW, THREAD])
    with SlowLink(lab.port, host="127.0.0.2") as proxy:
        page.goto(f"http://127.0.0.2:{proxy.port}/lab/tree/proxied.ipynb?token={lab.token}&reset")
        page.wait_for_function(f"window.jupyterapp && {LAB}?.sessionContext?.session?.kernel?.status === 'idle'")
        serve(lab, page)
        lab.run_cell(page, 1)
        canvas = page.locator(CANVAS)
        shows(canvas, 7)
        run(lab, page, 2, "started")
        watch_numbers(canvas)
        wait_for_frames(canvas, 20)
        cut = time.monotonic()
    wait_until_notice(page, "Nothing answers")
    wait_for(lambda: time.monotonic() > cut + 5, "five seconds to pass")
    with SlowLink(lab.port, host="127.0.0.2", at=proxy.port):
        wait_for_frames(canvas, 20)
        assert not page.locator(".rfb-notice").is_visible()
        assert "/pdum-rfb/" in (page.locator(".rfb-list").text_content() or "")
        context.close()


def test_a_view_in_a_cell_that_never_ends_connects_and_shows_what_comes(lab: Lab, page: Page) -> None:
    blocked = (
        "from IPython.display import display as put\nput(display.widget(height=200))\n"
        "for n in range(100_000):\n    display.publish(numbered(n % 1024, 320, 180)); time.sleep(0.02)"
    )
    lab.write("blocked.ipynb", [SERVE, blocked])
    lab.open(page, "blocked.ipynb")
    serve(lab, page)
    lab.run_cell(page, 1)
    canvas = page.locator(CANVAS)
    canvas.wait_for(timeout=60_000)
    watch_numbers(canvas)
    wait_for_frames(canvas, 20)
    assert page.locator(".jp-Cell").nth(1).locator(".jp-InputPrompt").inner_text() == "[*]:", "the cell still runs"
    page.evaluate(f"{LAB}.sessionContext.session.kernel.interrupt()")
    wait_for(lambda: "KeyboardInterrupt" in lab.output(page, 1), "the end of the cell")


def test_a_page_reloaded_while_a_cell_runs_shows_the_last_picture_and_then_the_live_one(lab: Lab, page: Page) -> None:
    lab.write("reloaded.ipynb", [SERVE, SHOW, "while True:\n    time.sleep(0.1)"])
    lab.open(page, "reloaded.ipynb")
    serve(lab, page)
    lab.run_cell(page, 1)
    shows(page.locator(CANVAS), 7)
    poster = page.locator(".rfb-poster img")
    poster.wait_for(state="attached")
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    wait_for(lambda: not page.evaluate(f"{LAB}.context.model.dirty"), "the notebook to be saved")
    lab.run_cell(page, 2)
    page.reload()
    # JupyterLab makes no widget before the kernel is at rest.
    poster.wait_for(timeout=60_000)
    page.wait_for_function(f"{LAB}?.sessionContext?.session?.kernel?.connectionStatus === 'connected'")
    page.evaluate(f"{LAB}.sessionContext.session.kernel.interrupt()")
    shows(page.locator(CANVAS), 7)
    poster.wait_for(state="hidden")


def test_a_second_output_view_shows_the_picture_and_closing_it_leaves_the_first(lab: Lab, page: Page) -> None:
    lab.write("output.ipynb", [SERVE, SHOW, PUBLISH])
    page.set_viewport_size({"width": 1600, "height": 900})
    lab.open(page, "output.ipynb")
    serve(lab, page)
    lab.run_cell(page, 1)
    shows(page.locator(CANVAS), 7)
    open_output_view(page)
    both = page.locator(CANVAS)
    wait_for(lambda: both.count() == 2, "the second view", 60)
    shows(both.nth(0), 7)
    shows(both.nth(1), 7)
    page.evaluate("window.output.dispose()")
    wait_for(lambda: both.count() == 1, "the end of the second view")
    page.evaluate("jupyterapp.shell.activateById(window.notebook.id)")
    assert publish(lab, page, 2, 8) == 1
    shows(both, 8)


def open_output_view(page: Page) -> None:
    """ "Create New View for Output" of the notebook's second cell."""
    page.evaluate(
        f"""async () => {{
            window.notebook = {LAB};
            notebook.content.activeCellIndex = 1;
            const before = new Set([...jupyterapp.shell.widgets("main")].map((widget) => widget.id));
            await jupyterapp.commands.execute("notebook:create-output-view");
            window.output = [...jupyterapp.shell.widgets("main")].find((widget) => !before.has(widget.id));
        }}"""
    )


def test_a_notebook_behind_another_tab_is_not_fed_and_shows_the_newest_when_it_is_back(lab: Lab, page: Page) -> None:
    lab.write("hidden.ipynb", [SERVE, SHOW, PUBLISH])
    lab.open(page, "hidden.ipynb")
    serve(lab, page)
    lab.run_cell(page, 1)
    canvas = page.locator(CANVAS)
    shows(canvas, 7)
    page.evaluate(f"window.notebook = {LAB}; void jupyterapp.commands.execute('launcher:create')")
    wait_for(lambda: not canvas.is_visible(), "the other tab")
    kernel = "window.notebook.sessionContext.session.kernel"
    source = json.dumps("display.publish(numbered(8, 320, 180))")
    page.evaluate(f"{kernel}.requestExecute({{ code: {source} }}).done.then(() => {{}})")
    page.evaluate("jupyterapp.shell.activateById(window.notebook.id)")
    shows(canvas, 8)


def test_a_cell_that_is_far_out_of_sight_shows_the_newest_when_it_is_back(lab: Lab, page: Page) -> None:
    # In this mode JupyterLab hides all cells that are not in sight.
    settings = lab.home / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(exist_ok=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "full"}))
    lab.write("far.ipynb", [SERVE, SHOW, *["#\n" * 30] * 20, PUBLISH])
    lab.open(page, "far.ipynb")
    serve(lab, page)
    lab.run_cell(page, 1)
    canvas = page.locator(CANVAS)
    shows(canvas, 7)
    assert publish(lab, page, 22, 8) == 1
    canvas.wait_for(state="hidden")
    publish(lab, page, 22, 9)
    page.evaluate(f"{LAB}.content.activeCellIndex = 1; void {LAB}.content.scrollToItem(1, 'center')")
    shows(canvas, 9)
    (settings / "tracker.jupyterlab-settings").unlink()


def test_nothing_is_left_of_a_hundred_rounds(lab: Lab, page: Page) -> None:
    lab.write("rounds.ipynb", [SERVE, SHOW, PUBLISH])
    page.set_viewport_size({"width": 1600, "height": 900})
    lab.open(page, "rounds.ipynb")
    serve(lab, page)
    lab.run_cell(page, 1)
    canvas = page.locator(CANVAS)
    shows(canvas, 7)
    workers = len(page.workers)
    for _ in range(34):
        page.evaluate(
            f"""async () => {{
                {LAB}.content.activeCellIndex = 1;
                await jupyterapp.commands.execute("notebook:run-cell");
            }}"""
        )
    for _ in range(33):
        for way in ("down", "up"):
            page.evaluate(f"jupyterapp.commands.execute('notebook:move-cell-{way}')")
            shows(canvas, 7)
    for _ in range(33):
        open_output_view(page)
        page.evaluate("window.output.dispose(); jupyterapp.shell.activateById(window.notebook.id)")
    shows(canvas, 7)
    assert page.locator(".rfb-root").count() == 1
    number = iter(range(8, 1000))
    wait_for(lambda: publish(lab, page, 2, next(number)) == 1, "the viewers to be gone", 60)
    wait_for(lambda: page.evaluate("true") and len(page.workers) == workers, "the workers to be gone")
