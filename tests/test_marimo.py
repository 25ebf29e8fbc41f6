"""The demo in real marimo: shown, dragged, and moved by a slider, in `edit` and in `run`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from check_demo import JPEG_ERROR, check_drag, check_first_light
from hosts import ARTIFACTS, NOTEBOOKS, Marimo, error_of, wait_for
from playwright.sync_api import Browser


@pytest.mark.parametrize("mode", ["edit", "run"])
def test_the_demo_shows_the_terrain_and_follows_a_drag(tmp_path: Path, browser: Browser, mode: str) -> None:
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    # Not the fixture, which minds every error on a page: marimo's own fetches fail when it is reloaded.
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
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

        page.reload()
        canvas.wait_for(timeout=60_000)
        wait_for(lambda: canvas.bounding_box(), "the picture after a reload")
    context.close()
