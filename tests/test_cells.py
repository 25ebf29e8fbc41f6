"""Which stream a cell has: in a real kernel, by the requests that front ends send, and in nbclient and marimo."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosts import Marimo, wait_for
from jupyter_client.manager import KernelManager
from playwright.sync_api import Page

from pdum_rfb_widget._hosts import discovery
from pdum_rfb_widget._hosts.notebook_context import Cell, stream_name_of

ROOT = Path(__file__).parent.parent
VSCODE = "vscode-notebook-cell:/home/someone/projects/analysis/notebook.ipynb#"
REMOTE = "vscode-notebook-cell://ssh-remote%2Bhost/home/someone/projects/analysis/notebook.ipynb#"
WINDOWS = "vscode-notebook-cell:/c%3A/Users/Some%20One/Documents/projects/analysis/notebook.ipynb#"

Run = Callable[..., str]


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    manager = KernelManager()
    manager.start_kernel(cwd=str(ROOT))
    yield manager
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


@pytest.fixture
def send(kernel: KernelManager) -> Iterator[Run]:
    """Send a message to the kernel, and wait until it is done; what was printed for it."""
    client = kernel.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=60)

    def send(kind: str, content: dict[str, object], **metadata: object) -> str:
        message = client.session.msg(kind, content, metadata=metadata)
        client.shell_channel.send(message)
        printed = ""
        while True:
            said = client.get_iopub_msg(timeout=60)
            if said["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            assert said["msg_type"] != "error", said["content"]["traceback"]
            printed += said["content"].get("text", "")
            if said["content"].get("execution_state") == "idle":
                return printed

    send("execute_request", {"code": PREPARE, "silent": False})
    yield send
    client.stop_channels()


@pytest.fixture
def run(send: Run) -> Run:
    """Run code as a cell, by the metadata that a front end sends."""
    return lambda code, **metadata: send("execute_request", {"code": code, "silent": False}, **metadata)


PREPARE = """
import asyncio, threading
import ipywidgets
import pdum_rfb_widget as rfb
rfb.serve_server(tcp=False).close()
def serve():
    return rfb.serve(8, 8, tcp=False)
def tell(*displays):
    print([d.name for d in displays], [d.closed for d in displays])
"""


def told(printed: str) -> tuple[list[str], list[bool]]:
    names, closed = printed.strip().split("] [")
    return ast.literal_eval(names + "]"), ast.literal_eval("[" + closed)


@pytest.mark.parametrize("notebook", [VSCODE, REMOTE, WINDOWS], ids=["local", "remote", "windows"])
def test_cells_whose_ids_are_long_and_begin_alike_have_streams_of_their_own(run: Run, notebook: str) -> None:
    one, two = f"{notebook}W0sZmlsZQ%3D%3D", f"{notebook}W1sZmlsZQ%3D%3D"
    run("a = serve()", cellId=one)
    run("b = serve()", cellId=two)
    names, closed = told(run("tell(a, b)", cellId=two))
    assert len({*names}) == 2
    assert closed == [False, False]
    assert all("notebook.ipynb-W" in name and discovery.STREAM_NAME.fullmatch(f"{name}-1000") for name in names)
    run("first = a; a = serve()", cellId=one)
    assert told(run("tell(first, a, b)", cellId=two)) == ([names[0], *names], [True, False, False])


def test_every_id_is_a_name_of_its_own_and_short_ones_are_readable() -> None:
    ids = [
        "Hbol",
        "a",
        "a-2",
        "A",
        "a b",
        "a-b",
        "a/b",
        "é",
        "x" * 36,
        "x" * 37,
        "x" * 300,
        "y" + "x" * 299,
        "x" * 299 + "y",
        "/",
        "-",
    ]
    names = {stream_name_of(cell_id) for cell_id in ids}
    assert len(names) == len(ids)
    assert all(discovery.STREAM_NAME.fullmatch(name) for name in names)
    assert {"cell-Hbol", "cell-a", "cell-a-b"} <= names
    assert Cell(stream_name_of("a"), "run").next_stream_name() == "cell-a"
    assert Cell(stream_name_of("a"), "run").next_stream_name() not in names


def test_a_task_makes_displays_of_the_cell_that_began_it(run: Run) -> None:
    run(
        """
        a = serve()
        async def later(event):
            await event.wait()
            return serve()
        event = asyncio.Event()
        task = asyncio.create_task(later(event))
    """,
        cellId="one",
    )
    run("b = serve()", cellId="two")
    run("event.set(); c = await task", cellId="three")
    names, closed = told(run("tell(a, b, c)"))
    assert names == ["cell-one", "cell-two", "cell-one-2"]
    assert closed == [False, False, False]


def test_a_thread_takes_no_cells_display(run: Run) -> None:
    for _ in range(2):
        run(
            """
            a = serve()
            go, made = threading.Event(), []
            thread = threading.Thread(target=lambda: (go.wait(), made.append(serve())))
            thread.start()
        """,
            cellId="one",
        )
        run("b = serve()", cellId="two")
        run("go.set(); thread.join(); c, = made; old = globals().get('old', c)", cellId="two")
    names, closed = told(run("tell(a, b, c, old)"))
    assert names == ["cell-one", "cell-two", "default-2", "default"]
    assert not any(closed)


def test_callbacks_of_a_widget_have_displays_of_their_own(run: Run, send: Run) -> None:
    printed = run(
        """
        a = serve()
        made = {}
        buttons = [ipywidgets.Button(), ipywidgets.Button()]
        for n, button in enumerate(buttons):
            button.on_click(lambda b, n=n: made.setdefault(n, []).append(serve()))
        print(*[b.comm.comm_id for b in buttons])
    """,
        cellId="one",
    )
    for comm in printed.split() * 2:
        send("comm_msg", {"comm_id": comm, "data": {"method": "custom", "content": {"event": "click"}}})
    names, closed = told(run("tell(a, *made[0], *made[1])"))
    assert names[1] == names[2] != names[3] == names[4]
    assert closed == [False, True, False, True, False]


def test_a_request_that_names_no_cell_takes_no_display(run: Run) -> None:
    run("made = []")
    for _ in range(2):
        run("made += [serve(), serve()]")
    names, closed = told(run("tell(*made)"))
    assert len({*names}) == 4
    assert not any(closed)


def test_a_person_whose_page_names_no_cell_is_told_once_to_give_names(send: Run) -> None:
    cell = {"code": "a = serve()", "silent": False, "allow_stdin": True}
    said = [send("execute_request", cell) for _ in range(12)]
    assert [bool(words) for words in said] == [False] * 9 + [True] + [False] * 2
    assert "give serve() a name" in said[9]


def test_cells_of_the_same_code_keep_their_displays_and_posters_in_nbclient() -> None:
    import nbformat  # builds parsers for three seconds
    from nbclient import NotebookClient

    serve = """
display = rfb.serve(8, 8, tcp=False)
displays.append(display)
display.publish(np.full((8, 8), 80 * len(displays), np.uint8))
display.widget()
"""
    cells = [
        "import numpy as np, pdum_rfb_widget as rfb\ndisplays = []",
        *(serve, serve),
        "print([d.closed for d in displays])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert notebook.cells[3].outputs[0]["text"].strip() == "[False, False]"
    html = [output.data.get("text/html", "") for cell in notebook.cells[1:3] for output in cell.outputs]
    pictures = re.findall(r'src="([^"]+)"', "".join(html))
    assert len(pictures) == len({*pictures}) == 2


MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import asyncio
    import marimo as mo
    import pdum_rfb_widget as rfb

    made = {}

    def serve(what):
        made.setdefault(what, []).append(rfb.serve(8, 8, tcp=False))
        with open("made.txt", "w") as file:
            file.write(repr([(what, [(d.name, d.closed) for d in ds]) for what, ds in made.items()]))

    return asyncio, mo, serve


@app.cell
def _(asyncio, mo, serve):
    serve("cell")
    thread = mo.Thread(target=serve, args=("thread",))
    thread.start()
    thread.join()

    async def later():
        while mo.running_in_notebook() and not asked:
            await asyncio.sleep(0.01)
        serve("task")

    asked = []
    task = asyncio.create_task(later())
    buttons = [mo.ui.button(label=label, on_click=lambda _, label=label: serve(label)) for label in ("left", "right")]
    mo.hstack(buttons)
    return (asked,)


@app.cell
def _(asked):
    asked.append(1)
    return
"""


def test_marimos_threads_tasks_and_callbacks_take_no_cells_display(tmp_path: Path, page: Page) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "cells.py").write_text(MARIMO)
    made = tmp_path / "notebooks" / "made.txt"

    def there(what: str, number: int) -> bool:
        return made.exists() and len(dict(ast.literal_eval(made.read_text() or "[]")).get(what, [])) == number

    with Marimo(tmp_path, "edit", "cells.py") as marimo:
        page.goto(marimo.page_url())
        wait_for(lambda: there("task", 1), "the display of the task", 60)
        for number in (1, 2):
            for label in ("left", "right"):
                page.get_by_role("button", name=label).click()
                wait_for(lambda n=number, label=label: there(label, n), f"display {number} of {label}")
    displays = [display for _, displays in ast.literal_eval(made.read_text()) for display in displays]
    assert len({name for name, _ in displays}) == len(displays) == 7
    assert not any(closed for _, closed in displays)
