"""In real marimo, `edit` and `run`: the demo, cells that follow clicks, and what reaches files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from check_demo import JPEG_ERROR, check_drag, check_first_light
from hosts import ARTIFACTS, NOTEBOOKS, Marimo, error_of, wait_for
from playwright.sync_api import Browser, Page, Request


@pytest.mark.parametrize("mode", ["edit", "run"])
def test_the_demo_shows_the_terrain_and_follows_a_drag(tmp_path: Path, browser: Browser, mode: str) -> None:
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    # Not the fixture, which minds every error on a page: marimo's own fetches fail when it is reloaded.
    # High enough for all cells with their code: a picture that can't be seen is not fed.
    context = browser.new_context(viewport={"width": 1280, "height": 2600})
    page = context.new_page()
    with Marimo(tmp_path, mode, "terrain_marimo.py") as marimo:
        page.goto(marimo.page_url())
        canvas = page.locator(".rfb-canvas.rfb-has-picture")
        canvas.wait_for(timeout=60_000)
        check_first_light(canvas)
        terrain = check_drag(page, canvas)
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / f"marimo-{mode}.png")

        terrain.exaggeration = 4
        assert error_of(canvas, terrain.render()) > 2 * JPEG_ERROR
        for _ in range(8):  # of a quarter each, from 2
            page.get_by_role("slider").press("ArrowRight")
        wait_for(lambda: error_of(canvas, terrain.render()) < JPEG_ERROR, "the heights that the slider asks for")

        box = canvas.bounding_box()
        assert box is not None
        canvas.click(position={"x": box["width"] / 4, "y": box["height"] / 2})
        page.get_by_text("The last click asked for light from 270°").wait_for()

        page.reload()
        canvas.wait_for(timeout=60_000)
        wait_for(lambda: canvas.bounding_box(), "the picture after a reload")
    context.close()


COUNTING = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import numpy as np
    import pdum_rfb_widget as rfb

    display = rfb.serve(320, 240)
    display.publish(np.full((240, 320, 3), 200, np.uint8))
    with open("secret.txt", "w") as file:
        file.write(display.server.token)
    runs = []
    return display, mo, runs


@app.cell
def _(display, mo):
    picture = mo.ui.anywidget(display.widget(sync_events=["pointer_down"], height=240))
    picture
    return (picture,)


@app.cell
def _(mo, picture, runs):
    runs.append(picture.last_event.get("x"))
    mo.vstack([mo.md(f"runs {len(runs)}, {runs[-1]}"), mo.plain_text(str(picture.value))])
    return


if __name__ == "__main__":
    app.run()
"""


@pytest.fixture
def visit(browser: Browser) -> Iterator[Page]:
    """A page that may report errors, as marimo's own does when it is reloaded."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("mode", ["edit", "run"])
def test_a_dependent_cell_runs_once_a_click_and_never_otherwise(tmp_path: Path, visit: Page, mode: str) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "counting.py").write_text(COUNTING)
    with Marimo(tmp_path, mode, "counting.py") as marimo:
        visit.goto(marimo.page_url())
        canvas = visit.locator(".rfb-canvas.rfb-has-picture")
        canvas.wait_for(timeout=60_000)
        visit.get_by_text("runs 1, None").wait_for()
        # The view has told the kernel what it is, is resized, pointed at, scrolled and typed into.
        handle = visit.locator(".rfb-handle")
        handle.focus()
        handle.press("ArrowDown")
        canvas.hover(position={"x": 30, "y": 30})
        canvas.click(position={"x": 40, "y": 30})
        visit.get_by_text("runs 2, ").wait_for()
        visit.keyboard.press("a")
        visit.mouse.wheel(0, 100)
        canvas.hover(position={"x": 90, "y": 60})
        canvas.click(position={"x": 60, "y": 30})
        visit.get_by_text("runs 3, ").wait_for()


class LazyMarimo(Marimo):
    """marimo that runs nothing by itself, and so keeps a session file."""

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        settings = self.home / "config" / "marimo" / "marimo.toml"
        settings.write_text("[runtime]\nauto_instantiate = false\n")
        return variables


def test_no_token_is_in_marimos_session_file_or_export_and_a_reload_asks_for_it(tmp_path: Path, visit: Page) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "counting.py").write_text(COUNTING)
    posts: list[Request] = []
    visit.on("request", lambda request: posts.append(request) if request.method == "POST" else None)
    with LazyMarimo(tmp_path, "edit", "counting.py") as marimo:
        with visit.expect_response("**/api/kernel/instantiate", timeout=60_000):
            visit.goto(marimo.page_url())
        visit.get_by_test_id("run-button").last.click()  # the one for all cells
        canvas = visit.locator(".rfb-canvas.rfb-has-picture")
        canvas.wait_for(timeout=60_000)
        token = (folder / "secret.txt").read_text()
        session = folder / "__marimo__" / "session" / "counting.py.json"
        wait_for(lambda: session.exists() and "runs 1" in session.read_text(), "the session file")
        assert token not in session.read_text()

        headers = {name: value for name, value in posts[-1].headers.items() if name.startswith("marimo-")}
        options = {"download": False, "files": [], "includeCode": True}
        options["assetUrl"] = f"http://127.0.0.1:{marimo.port}"

        def export() -> str:
            address = f"http://127.0.0.1:{marimo.port}/api/export/html?access_token={marimo.token}"
            return visit.request.post(address, headers=headers, data=options).text()

        wait_for(lambda: token not in export(), "an export without the token")
        exported = export()
        assert "data:image/webp;base64," in exported
        offline = visit.context.new_page()
        # As a file of marimo's own server, whose scripts it takes: those of a CDN can't be had here.
        place = f"http://127.0.0.1:{marimo.port}/exported.html"
        offline.route(place, lambda route: route.fulfill(body=exported, content_type="text/html"))
        offline.goto(place)
        image = offline.locator("img.rfb-poster")
        image.wait_for(timeout=60_000)
        assert image.evaluate("image => image.naturalWidth") == 320

        visit.reload()
        canvas.wait_for(timeout=60_000)
