"""README and docs, read as a notebook's user would: every Python block runs, in the order of its page, one namespace a
page. What a block shows last is looked at by a viewer on a socket, which takes all frames and clicks; a loop that ends
with the display, or never, is interrupted once the viewer has seen it move."""

from __future__ import annotations

import _thread
import ast
import asyncio
import inspect
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import av
import ipywidgets
import numpy as np
import pytest
from hosts import wait_for
from viewers import RawViewer
from virtual_time import no_other_loop
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb
from pdum_rfb_widget import server
from pdum_rfb_widget.events import EVENT_FIELDS
from pdum_rfb_widget.notebook import RfbCanvas
from pdum_rfb_widget.protocol import (
    CHANNELS,
    CLIPBOARD,
    MIMES,
    PROOF,
    TILES,
    VIDEO,
    CloseCode,
    config_message,
    unpack_binary_message,
)
from pdum_rfb_widget.types import StreamOptions

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ENOUGH = 5
"""Frames after which a loop without an end is interrupted."""


class Page(threading.Thread):
    """A page that shows one widget: takes every frame, and does to it what users do."""

    def __init__(self, widget: RfbCanvas) -> None:
        super().__init__(daemon=True)
        self.stream = widget.stream
        self.frames = 0
        self.texts: list[str] = []
        """All that came but frames."""
        self._viewer = RawViewer(
            None, "image/jpeg", "image/png", "rfb/channels", url=f"ws://127.0.0.1:{widget.port}/{widget.stream}",
            token=widget.token,
        )  # fmt: skip
        self._viewer.greet()
        box = {"width": 320, "height": 240, "pwidth": 640, "pheight": 480, "ratio": 2}
        self._viewer.say(type="set_viewport", **box)
        self.start()

    def run(self) -> None:
        try:
            while True:
                message = self._viewer.socket.recv()
                if isinstance(message, str):
                    self.texts.append(message)
                elif (header := unpack_binary_message(message)[0])["type"] == "image_frame":
                    self.frames += 1
                    self._viewer.ack(header["seq"])
        except ConnectionClosed:
            return

    def touch(self) -> None:
        """A click, a key, and what a page of the application's might send; returns once the hub has heard it all."""
        with suppress(ConnectionClosed):  # by the block that has just run, as by rotate_token()
            self._touch()

    def _touch(self) -> None:
        seen = self.frames
        place = {"x": 12.5, "y": 80.0, "button": 1}
        for event in (
            {"type": "pointer_down", **place, "buttons": [1]},
            {"type": "pointer_up", **place, "buttons": []},
            {"type": "key_down", "key": "a"},
            {"type": "key_up", "key": "a"},
        ):
            self._viewer.say(type="event", event=event)
        self._viewer.say(type="message", channel="pick", data={"x": 3, "y": 4})
        self._viewer.say(type="request_keyframe", reason="an answer is wanted")
        wait_for(lambda: self.frames > seen or not self.is_alive(), f"an answer of {self.stream}", 60)

    def close(self) -> None:
        self._viewer.__exit__()
        self.join(60)


class Reader:
    """Runs the blocks of one page, each as a cell."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.pages: list[Page] = []
        self._loop = asyncio.new_event_loop()

    def run(self, code: str) -> None:
        with _Interrupt(self.pages[-1]) if re.search(r"^while ", code, re.MULTILINE) else nullcontext():
            self._loop.run_until_complete(self._run(code))
        hub = server.hub()
        for page in self.pages:
            if page.stream in hub.streams and hub.stream(page.stream).status()["frames_published"]:
                page.touch()
        self._loop.run_until_complete(asyncio.sleep(0))  # the callbacks of what was touched

    async def _run(self, code: str) -> None:
        tree = ast.parse(code)
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        await self._eval(compile(tree, "a block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        if isinstance(shown, ast.Expr):
            last = ast.Expression(shown.value)
            self._show(await self._eval(compile(last, "its last line", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))

    async def _eval(self, code: Any) -> Any:
        result = eval(code, self.names)
        return await result if inspect.iscoroutine(result) else result

    def _show(self, value: Any) -> None:
        value = getattr(value, "widget", value)  # of mo.ui.anywidget
        if isinstance(value, RfbCanvas):
            self.pages.append(Page(value))
        elif isinstance(value, ipywidgets.Box):
            for child in value.children:
                self._show(child)
        elif value is not None and hasattr(value, "_repr_html_"):
            value._repr_html_()

    def close(self) -> None:
        for page in self.pages:
            page.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class _Interrupt:
    """Interrupts the main thread, as the notebook's button does, once the newest page has seen `ENOUGH` frames more."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._enough = page.frames + ENOUGH
        self._over = False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def _watch(self) -> None:
        deadline = time.monotonic() + 60
        while self._page.frames < self._enough and not self._over and time.monotonic() < deadline:
            threading.Event().wait(0.005)
        if not self._over:
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            else:
                _thread.interrupt_main()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> bool:
        self._over = True
        self._thread.join(60)
        return kind is KeyboardInterrupt and self._page.frames >= self._enough


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Reader]:
    sleep = time.sleep
    monkeypatch.setattr("pdum_rfb_widget.server.SCRIPT_PORT", 0)
    monkeypatch.setattr("time.sleep", lambda seconds: sleep(min(seconds, 0.002)))
    monkeypatch.chdir(tmp_path)
    reader = Reader()
    with no_other_loop():
        yield reader
        reader.close()


def follows_the_box(reader: Reader, printed: str) -> None:
    matched = reader.names["matched"]
    wait_for(lambda: matched.target_size == (640, 480), "the target", 60)
    (loop,) = [code for code in blocks(ROOT / "docs" / "publishing.md") if "target_size" in code]
    reader.run(loop)
    assert (matched.width, matched.height, matched.pixel_ratio) == (640, 480, 2.0)


def prints_a_click(reader: Reader, printed: str) -> None:
    assert "{'type': 'pointer_down', 'x': 12.5, 'y': 80.0, " in printed


def answers_a_pick(reader: Reader, printed: str) -> None:
    wanted = '{"type":"message","channel":"picked","data":{"name":"bolt 7"}}'
    wait_for(lambda: wanted in reader.pages[0].texts, "the answer", 60)


def makes_a_film(reader: Reader, printed: str) -> None:
    with av.open("out.mp4") as film:
        *_, last = film.decode(video=0)
    x, y = reader.names["x"], reader.names["y"]
    np.testing.assert_allclose(last.to_ndarray(format="gray"), (x + y + 4 * 59).astype(np.uint8), atol=80)


CLAIMS: dict[str, Callable[[Reader, str], None]] = {
    "README": makes_a_film,
    "input": prints_a_click,
    "messages": answers_a_pick,
    "publishing": follows_the_box,
    "recording": makes_a_film,
}
"""What has come about once all of a page has run."""


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_every_block_runs_in_the_order_of_its_page(
    page: Path, reader: Reader, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in blocks(page):
        reader.run(code)
    CLAIMS.get(page.stem, lambda *_: None)(reader, capsys.readouterr().out)
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert all(shown.frames for shown in reader.pages), "a widget that was shown and never got a picture"


# The text -------------------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    named = [(ROOT, name) for name in re.findall(r"bash ([\w./-]+)", text)]
    named += [(page.parent, name) for name in re.findall(r"\]\((?!https?:)([^)#\s]+)", text)]
    assert [name for folder, name in named if not (folder / name).exists()] == []


def test_every_command_that_a_page_gives_for_a_figure_finds_its_tests() -> None:
    told = "".join(page.read_text("utf-8") for page in [*PAGES, ROOT / "SECURITY.md"])
    sources = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py")}
    names = [*sources, *re.findall(r"def (test_\w+)", "".join(sources.values()))]
    words = " or ".join(a or b for a, b in re.findall(r'bash tests/run -k (?:"([^"]+)"|(\w+))', told)).split(" or ")
    assert len(words) > 5
    assert [word for word in words if not any(word in name for name in names)] == []
    assert set(re.findall(r"test_\w+\.py", told)) <= set(sources)


def first_column(page: str, heading: str) -> set[str]:
    """The names in the first column of the table below *heading*."""
    section = (ROOT / "docs" / page).read_text("utf-8").partition(f"{heading}\n")[2]
    table = re.search(r"\n(\|.*\n)+", section)
    assert table, f"{page} has no table below {heading!r}"
    return set(re.findall(r"^\| `(\w+)", table[0], re.MULTILINE))


def test_the_table_of_options_has_all_of_them() -> None:
    assert first_column("publishing.md", "## Options") == {field.name for field in fields(StreamOptions)}


def test_the_table_of_a_views_options_has_all_of_them() -> None:
    (interface,) = re.findall(r"export interface ViewOptions \{(.*?)\n\}", source("ui/options.ts"), re.DOTALL)
    assert first_column("embedding.md", "### Options") == set(re.findall(r"^  (\w+)\?:", interface, re.MULTILINE))


def source(name: str) -> str:
    return (ROOT / "js" / "src" / name).read_text("utf-8")


def test_troubleshooting_has_every_message_that_the_cell_can_show() -> None:
    told = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    said = "".join(source(f"net/{name}.ts") for name in ("connection", "diagnosis"))
    # A message is a string that begins as a sentence does; what follows in other strings is its advice.
    messages = [re.split(r"\$\{|[:.,=]", text)[0].strip() for text in re.findall(r'["`]([A-Z][^"`]{20,})', said)]
    assert len(messages) > 25
    assert [message for message in messages if message not in told] == []


def test_the_wire_protocols_page_has_every_message_field_of_config_event_capability_and_close_code() -> None:
    page = (ROOT / "docs" / "wire-protocol.md").read_text("utf-8")
    names = set(re.findall(r'\btype: "(\w+)"', source("protocol.ts")))
    names |= {*VIDEO, *MIMES.values(), TILES, PROOF, CHANNELS, CLIPBOARD}
    names |= {*EVENT_FIELDS, *(field for checks in EVENT_FIELDS.values() for field in checks)}
    names |= {*re.findall(r'"(\w+)":', inspect.getsource(config_message))}
    assert len(names) > 80
    assert sorted(name for name in names if not re.search(rf'[`"]{re.escape(name)}[`"]', page)) == []
    assert [code for code in CloseCode if not re.search(rf"^\| {code.value} \|", page, re.MULTILINE)] == []


def test_troubleshooting_has_every_answer_of_the_route() -> None:
    told = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    package = ROOT / "pdum_rfb_widget"
    said = "".join((package / name).read_text("utf-8") for name in ("_hosts/hub_proxy.py", "jupyter.py", "marimo.py"))
    answers = re.findall(r'Refusal\(\s*\d+,\s*f?"(?:[^"]*)"', said)
    sentences = [re.split(r"[{:;,]", answer.partition('"')[2])[0].strip(' "') for answer in answers]
    assert len(sentences) > 10
    assert [sentence for sentence in sentences if sentence not in told] == []


def test_every_module_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|ts))`", text))
    roots = [ROOT, ROOT / "pdum_rfb_widget"]
    assert len(named) > 30
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    for needed in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(needed, reason="of the extra `docs`, which `bash tests/run` installs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # Of autodoc: docstrings, options and traits came along.
    reference = (tmp_path / "api.html").read_text("utf-8")
    names = {*rfb.__all__, *(field.name for field in fields(StreamOptions)), *RfbCanvas.class_own_traits(sync=True)}
    names |= {*dir(rfb.Display), *dir(rfb.Server)}
    assert [name for name in names if name[0] != "_" and f">{name}<" not in reference] == []
