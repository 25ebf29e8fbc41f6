"""What `notebooks/run --check` does: the demo in JupyterLab, a drag, and the light it must give, read from pixels."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from hosts import ARTIFACTS, NOTEBOOKS, Lab, chromium, error_of, read_canvas, wait_for
from playwright.sync_api import Locator, Page

sys.path.insert(0, str(NOTEBOOKS))
from terrain import Terrain, light_at

WIDTH, HEIGHT = 1280, 720
JPEG_ERROR = 4.0
"""Of 255, mean: what quality 80 with 4:2:0 may cost on this picture; another light costs several times that."""


def check_demo(page: Page, lab: Lab) -> None:
    """Run the notebook, look at it, and drag."""
    lab.open(page, "terrain.ipynb")
    page.evaluate("jupyterapp.shell.collapseLeft()")
    lab.run_all(page)
    canvas = page.locator(".rfb-canvas.rfb-has-picture")
    canvas.wait_for(timeout=60_000)
    canvas.scroll_into_view_if_needed()
    check_first_light(canvas)
    check_drag(page, canvas)


def check_first_light(canvas: Locator) -> None:
    """Wait until the canvas shows the terrain as it is before anybody touches it."""
    wanted = Terrain(WIDTH, HEIGHT).render()
    wait_for(lambda: error_of(canvas, wanted) < JPEG_ERROR, "the first light", 60)


def check_drag(page: Page, canvas: Locator) -> Terrain:
    """Drag over the canvas, and wait until its pixels are those of the light that the drag must give; that terrain."""
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + 0.72 * box["width"], box["y"] + 0.71 * box["height"]
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(x, y, steps=12)
    page.mouse.up()

    after = Terrain(WIDTH, HEIGHT)
    frame_x, frame_y = (x - box["x"]) * WIDTH / box["width"], (y - box["y"]) * HEIGHT / box["height"]
    after.azimuth, after.altitude = light_at(frame_x, frame_y, WIDTH, HEIGHT)
    wanted = after.render()
    wait_for(lambda: error_of(canvas, wanted) < JPEG_ERROR, f"light from {after.azimuth:.0f}°", 60)

    # The same measure must tell this light from its neighbours.
    error = error_of(canvas, wanted)
    for turned in (-20, 20):
        after.azimuth += turned
        shown = read_canvas(canvas)
        other = float(abs(shown.astype(int) - after.render()).mean())
        assert other > 1.2 * error, f"light turned by {turned}° fits as well: {other:.2f} against {error:.2f}"
        after.azimuth -= turned
    print(f"light from {after.azimuth:.1f}° at {after.altitude:.1f}°: the pixels differ by {error:.2f} of 255")
    return after


def main() -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab, chromium() as browser:
        shutil.copytree(NOTEBOOKS, Path(folder) / "notebooks", dirs_exist_ok=True)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        try:
            check_demo(page, lab)
        finally:
            page.screenshot(path=ARTIFACTS / "jupyterlab.png")
    print("wrote artifacts/jupyterlab.png")


if __name__ == "__main__":
    main()
