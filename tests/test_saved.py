"""What is left of a view in a file: a picture, and no token. In real JupyterLab and nbconvert; the rules alone."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traitlets
from hosts import NUMBERED, Lab, error_of, wait_for
from inside import stream_of
from pages import numbered, texture
from PIL import Image
from playwright.sync_api import Browser, Page
from viewers import page_says

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hosts.notebook_context import Cell
from pdum_rfb_widget._hosts.poster import EVERY, MOST_BYTES, REST, Poster, Rule
from pdum_rfb_widget.snapshot import SHOWN_BYTES, shrunk

LOSSY = 12
"""Of 255: what a small picture, made large again, may differ."""

# Snapshots ------------------------------------------------------------------------------------------------------------


def opened(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_snapshot_is_the_newest_frame_exactly(display: rfb.Display) -> None:
    first, second, third = (texture(48, 64, 3) for _ in range(3))
    display.publish(first)
    display.publish(second, pixel_ratio=2.0)
    snapshot = display.snapshot()
    display.publish(third)
    assert (opened(snapshot.png) == second).all()
    data, metadata = snapshot._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == snapshot.png
    assert metadata["image/png"] == {"width": 32, "height": 24}


def test_a_display_without_a_picture_has_no_snapshot(display: rfb.Display) -> None:
    with pytest.raises(RuntimeError, match="nothing was published yet"):
        display.snapshot()


def test_a_cell_keeps_four_megabytes_of_a_snapshot_at_most(display: rfb.Display) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1400, 1400, 3), np.uint8)
    display.publish(noise)
    snapshot = display.snapshot()
    assert (opened(snapshot.png) == noise).all()
    data, _ = snapshot._repr_mimebundle_()
    assert "image/png" not in data
    assert 100_000 < len(base64.b64decode(data["image/jpeg"])) <= SHOWN_BYTES


# The poster's rules ---------------------------------------------------------------------------------------------------


def test_a_poster_is_due_when_a_newer_picture_rests_and_somebody_looks() -> None:
    assert Rule().due(1, REST, viewers=1, now=0)
    assert not Rule().due(1, REST - 0.1, viewers=1, now=0)
    assert not Rule().due(1, 1000, viewers=0, now=0)


def test_a_poster_is_written_every_thirty_seconds_at_most_and_never_twice_the_same() -> None:
    rule = Rule()
    written = []
    for second in range(200):
        version = min(second + 1, 100)  # something else each second, and nothing new after 100
        if rule.due(version, REST, viewers=1, now=second):
            rule.wrote(version, second)
            written.append(second)
    assert written == [0, 30, 60, 90, 120]
    assert EVERY == 30


def test_a_poster_that_nobody_has_ever_looked_at_is_due_at_the_end_of_a_cell() -> None:
    rule = Rule()
    assert rule.due_at_end_of_cell(1, viewers=0)
    rule.wrote(1, 0)
    assert not rule.due_at_end_of_cell(1, viewers=0), "the same"
    assert rule.due_at_end_of_cell(2, viewers=0)
    assert not rule.due_at_end_of_cell(2, viewers=1)
    assert not rule.due_at_end_of_cell(2, viewers=0), "somebody did"


class Shown:
    """A widget in a cell, and what was written there."""

    poster, height = "poster", 300

    def __init__(self, name: str) -> None:
        self.poster_name = name
        self.written: list[str] = []

    @property
    def last_picture(self) -> str:
        return self.written[-1]

    @last_picture.setter
    def last_picture(self, url: str) -> None:
        self.written.append(url)


def show(poster: Poster, name: str, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """A widget that is shown in a cell of this name."""
    monkeypatch.setattr("pdum_rfb_widget._hosts.poster.current_cell", lambda: Cell(name, "a run"))
    widget = Shown(name)
    poster.show(widget)
    return widget


def test_a_poster_that_would_look_the_same_is_not_written_again(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    poster = Poster(stream_of(display))
    widget = show(poster, "cell", monkeypatch)
    assert widget.written == [""]
    first, second = texture(48, 64, 3), texture(48, 64, 3)
    for pixels, count in ((first, 1), (second, 2), (None, 2)):
        if pixels is None:  # there and back between two looks
            display.publish(first)
            pixels = second
        display.publish(pixels)
        poster.cell_ended()
        assert len({*widget.written[1:]}) == len(widget.written[1:]) == count
        assert poster.look(0), "nothing is left to do"


def test_a_picture_that_a_later_cell_shows_is_written_to_the_others_too(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    poster = Poster(stream_of(display))
    widgets = []
    for name in ("first", "second"):
        display.publish(texture(48, 64, 3))
        widgets.append(show(poster, name, monkeypatch))
    first, second = widgets
    assert first.last_picture != second.last_picture
    for _ in range(2):
        poster.cell_ended()
        assert first.last_picture == second.last_picture
        assert (len(first.written), len(second.written)) == (2, 2)


@pytest.mark.parametrize("shape", [(720, 1280, 3), (48, 64), (2000, 300, 4), (1, 5000, 3)])
def test_a_poster_has_a_hundred_kilobytes_at_most(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    data = shrunk(noise, 74_000, "webp")
    assert len(data) <= 74_000 < MOST_BYTES * 3 / 4
    width, height = Image.open(io.BytesIO(data)).size
    assert max(width, height) <= 1280
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.02 * max(1, 100 / min(width, height)))


# What the widget says of the token ------------------------------------------------------------------------------------


class Comm:
    """Takes what a widget sends."""

    kernel = None
    comm_id = "a"
    handle_msg: Callable[[dict[str, Any]], None]

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.kernel = self

    def send(self, data: dict[str, Any], buffers: object = None) -> None:
        self.sent.append(data)

    def on_msg(self, callback: Callable[[dict[str, Any]], None]) -> None:
        self.handle_msg = callback

    def close(self) -> None: ...


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the widget's page is told first: the arguments of its comm."""
    import comm

    opened: dict[str, Any] = {"comm": Comm()}
    monkeypatch.setattr(comm, "create_comm", lambda **arguments: opened.update(arguments) or opened["comm"])
    return opened


def test_the_token_is_in_the_first_message_and_in_no_state(told: dict[str, Any], display: rfb.Display) -> None:
    widget = display.widget()
    assert told["data"]["state"]["token"] == display.server.token
    assert widget.token == display.server.token
    assert widget.get_state()["token"] == ""
    assert display.server.token not in json.dumps(type(widget).get_manager_state())


def test_once_a_page_has_spoken_the_copies_of_the_token_are_made_blank(
    told: dict[str, Any], display: rfb.Display
) -> None:
    widget = display.widget()
    told["comm"].sent.clear()
    page_says(widget, type="status", state="live", last_error="")
    assert widget.state == "live"
    assert [m["state"]["token"] for m in told["comm"].sent if "token" in m.get("state", ())] == [""]
    page_says(widget, type="status", state="failed", last_error="x")
    assert len([m for m in told["comm"].sent if "token" in m.get("state", ())]) == 1, "once is enough"


def test_a_page_that_blanks_the_token_or_sets_another_changes_none(told: dict[str, Any], display: rfb.Display) -> None:
    widget = display.widget()
    for token in ("", "another"):
        widget.set_state({"token": token, "height": 123})
        assert widget.token == display.server.token
    assert widget.height == 123
    page_says(widget, type="where")
    answer = told["comm"].sent[-1]["content"]
    assert answer["type"] == "where"
    assert answer["token"] == display.server.token


def test_a_status_that_was_overtaken_changes_nothing(told: dict[str, Any], display: rfb.Display) -> None:
    widget = display.widget()
    for sender, number, state in ((7, 2, "live"), (7, 1, "connecting"), (8, 1, "failed"), (8, 2, "live")):
        page_says(widget, type="status", sender=sender, number=number, state=state)
        assert widget.state == ("failed" if state == "failed" else "live")
    page_says(widget, type="status", sender=8, number=1, last_error="x")
    assert widget.last_error == "x", "of that nothing newer was told"


def test_status_messages_change_nothing_but_the_status(told: dict[str, Any], display: rfb.Display) -> None:
    widget = display.widget()
    page_says(widget, type="status", state="live", url="ws://elsewhere", token="another")
    assert (widget.state, widget.url, widget.token) == ("live", "", display.server.token)


def test_events_are_synced_by_the_names_that_there_are(display: rfb.Display) -> None:
    assert display.widget(sync_events=("pointer_down", "wheel")).sync_events == ["pointer_down", "wheel"]
    with pytest.raises(traitlets.TraitError, match="clicked"):
        display.widget(sync_events=["clicked"])


def test_without_a_poster_there_is_no_name_of_one(display: rfb.Display) -> None:
    assert display.widget(poster=False).poster == ""


def test_each_widget_has_a_poster_of_its_own_and_all_of_a_stream_are_hidden_together(display: rfb.Display) -> None:
    one, another, other_stream = display.widget(), display.widget(), rfb.serve(8, 8, name="another").widget()
    assert one.poster_name != another.poster_name
    assert one.poster == another.poster != other_stream.poster


# JupyterLab -----------------------------------------------------------------------------------------------------------

SERVE = f"""{NUMBERED}
import pdum_rfb_widget as rfb
display = rfb.serve(1280, 720)
display.publish(numbered(0))
print(display.name, "served")
"""
SHOW = "w = display.widget(height=200); w"
TELL = "print('token', display.server.token, display.server.port)"
CHANGE = "display.publish(numbered(700)); print('changed')"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("lab")
    # As "Save Widget State Automatically" in the Settings menu has it.
    settings = home / "settings" / "@jupyter-widgets" / "jupyterlab-manager"
    settings.mkdir(parents=True)
    (settings / "plugin.jupyterlab-settings").write_text(json.dumps({"saveState": True}))
    with Lab(home) as started:
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


def save(page: Page) -> None:
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    wait_for(lambda: not page.evaluate(f"{CURRENT}.context.model.dirty"), "the notebook to be saved")


CURRENT = "jupyterapp.shell.currentWidget"


def posters_in(path: Path) -> list[bytes]:
    """The pictures in the HTML outputs of a notebook."""
    outputs = [out for cell in json.loads(path.read_text())["cells"] for out in cell.get("outputs", [])]
    htmls = ["".join(out.get("data", {}).get("text/html", "")) for out in outputs]
    assert all(len(html) <= MOST_BYTES for html in htmls)
    return [base64.b64decode(data) for html in htmls for data in re.findall(r"data:image/webp;base64,([\w+/=]+)", html)]


def shows(picture: bytes, wanted: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    height, width = wanted.shape[:2]
    found = Image.open(io.BytesIO(picture)).convert("RGB").resize((width, height))
    return float(np.abs(np.asarray(found).astype(int) - wanted).mean()) < LOSSY


def converted(path: Path, *options: str) -> str:
    """The notebook as HTML."""
    command = [sys.executable, "-m", "nbconvert", "--to", "html", *options, "--output", "page", str(path)]
    subprocess.run(command, cwd=path.parent, check=True, capture_output=True, timeout=300)
    return (path.parent / "page.html").read_text()


def check_poster_in_html(browser: Browser, html: str) -> None:
    """The page shows the poster, and nothing hides it."""
    page = browser.new_page()
    page.set_content(html, wait_until="domcontentloaded")
    image = page.locator(".rfb-poster img")
    image.wait_for()
    assert image.evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 1280
    assert image.is_visible()
    page.close()


def test_the_last_picture_is_in_the_saved_notebook_and_hidden_while_the_view_is_live(
    lab: Lab, page: Page, browser: Browser
) -> None:
    lab.write("poster.ipynb", [SERVE, SHOW, CHANGE, TELL])
    path = lab.home / "notebooks" / "poster.ipynb"
    lab.open(page, "poster.ipynb")
    run(lab, page, 0, "served")
    lab.run_cell(page, 1)
    canvas = page.locator(".rfb-canvas.rfb-has-picture")
    canvas.wait_for(timeout=60_000)
    poster = page.locator(".rfb-poster")
    poster.wait_for(state="attached")
    wait_for(lambda: not poster.is_visible(), "the poster to hide")
    assert page.locator(".jp-OutputArea-child:has(.rfb-poster)").bounding_box() is None, "nor the space that it took"
    run(lab, page, 2, "changed")
    wait_for(lambda: error_of(canvas, numbered(700)) < 6, "the newest frame")
    token = run(lab, page, 3, "token").split()[1]
    before = poster.inner_html()
    wait_for(lambda: poster.inner_html() != before, "a newer poster")
    page.evaluate("jupyterapp.commands.execute('notebook:clear-cell-output')")
    save(page)
    saved = path.read_text()
    assert "application/vnd.jupyter.widget-state+json" in saved, "the state of the widgets was saved with it"
    assert token not in saved
    assert [shows(picture, numbered(700)) for picture in posters_in(path)] == [True]
    check_poster_in_html(browser, converted(path))

    page.reload()
    canvas.wait_for(timeout=60_000)
    wait_for(lambda: error_of(canvas, numbered(700)) < 6, "the picture after a reload, for which the token is asked")
    wait_for(lambda: not poster.is_visible(), "the poster to hide again")


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_a_notebook_that_is_opened_without_its_kernel_shows_the_last_picture(
    lab: Lab, page: Page, trusted: bool
) -> None:
    name = f"reopened-{trusted}.ipynb"
    path = lab.home / "notebooks" / name
    lab.write(name, [SERVE, SHOW])
    lab.open(page, name)
    run(lab, page, 0, "served")
    lab.run_cell(page, 1)
    page.locator(".rfb-canvas.rfb-has-picture").wait_for(timeout=60_000)
    wait_for(lambda: page.locator(".rfb-poster img").count(), "the poster")
    save(page)
    page.evaluate(f"{CURRENT}.sessionContext.shutdown()")
    page.goto("about:blank")
    if not trusted:  # what was signed is another notebook
        path.write_text(path.read_text().replace("served", "Served"))
    lab.open(page, name)
    image = page.locator(".rfb-poster img")
    image.wait_for()
    assert image.is_visible()
    assert image.evaluate("image => image.naturalWidth") == 1280
    assert page.evaluate(f"{CURRENT}.content.widgets[1].model.trusted") is trusted
    if not trusted:
        words = page.locator(".jp-Cell").nth(1).locator(".jp-OutputArea").inner_text()
        assert "trust the notebook first (command Trust Notebook)" in words
        assert "didn't load" not in words


def test_widgets_in_a_box_keep_posters_too(lab: Lab, page: Page) -> None:
    box = "import ipywidgets; ipywidgets.VBox([ipywidgets.HBox([display.widget(height=150), ipywidgets.Button()]),"
    lab.write("box.ipynb", [SERVE, f"{box} display.widget(height=150)])"])
    lab.open(page, "box.ipynb")
    run(lab, page, 0, "served")
    lab.run_cell(page, 1)
    wait_for(lambda: page.locator(".rfb-canvas.rfb-has-picture").count() == 2, "both pictures")
    wait_for(lambda: page.locator(".rfb-poster img").count() == 2, "both posters")
    wait_for(lambda: not page.locator(".rfb-poster").locator("visible=true").count(), "the posters to hide")
    save(page)
    path = lab.home / "notebooks" / "box.ipynb"
    assert [shows(picture, numbered(0)) for picture in posters_in(path)] == [True, True]


def test_with_poster_false_there_is_none(lab: Lab, page: Page) -> None:
    lab.write("without.ipynb", [SERVE, "display.widget(height=200, poster=False)"])
    lab.open(page, "without.ipynb")
    run(lab, page, 0, "served")
    lab.run_cell(page, 1)
    page.locator(".rfb-canvas.rfb-has-picture").wait_for(timeout=60_000)
    save(page)
    assert page.locator(".rfb-poster").count() == 0
    assert not posters_in(lab.home / "notebooks" / "without.ipynb")


def test_a_notebook_that_is_run_without_a_browser_has_the_last_picture_and_a_dead_token(
    lab: Lab, browser: Browser
) -> None:
    snapshot = "display.snapshot()"
    lab.write("executed.ipynb", [SERVE, SHOW, CHANGE, snapshot, TELL])
    path = lab.home / "notebooks" / "executed.ipynb"
    check_poster_in_html(browser, converted(path, "--execute"))
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert [shows(picture, numbered(700)) for picture in posters_in(path)] == [True]
    cells = json.loads(path.read_text())["cells"]
    png = base64.b64decode("".join(cells[3]["outputs"][0]["data"]["image/png"]))
    assert (opened(png) == numbered(700)).all()
    # A busy kernel sends what one print says in several outputs.
    told = "".join("".join(output["text"]) for output in cells[4]["outputs"])
    port = int(told.split()[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5).close()
