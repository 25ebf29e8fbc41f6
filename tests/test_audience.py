"""Waiting for somebody who looks, where nobody does yet or nobody will."""

from __future__ import annotations

from pathlib import Path

from kernels import bare_kernel

SERVE = """
import threading, time, numpy as np, pdum_rfb_widget as rfb, pdum_rfb_widget._hub.publication as module
module.PATIENCE = 0.2
display = rfb.serve(64, 48)
"""
LOOP = """
while display.wait_ready():
    display.publish(np.zeros((48, 64, 3), np.uint8))
print("ended", display.wait_ready())
"""
LOOKS_LATER = f"""
import logging, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from viewers import RawViewer
said = threading.Event()
class Hear(logging.Handler):
    def emit(self, record):
        print(record.getMessage())
        said.set()
logging.getLogger("pdum_rfb_widget").addHandler(Hear())
def look():
    said.wait(60)
    with RawViewer(display) as viewer:
        viewer.greet()
        came.wait(60)
came = threading.Event()
def in_a_thread(function):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()
threading.Thread(target=look).start()
print("somebody looks:", display.wait_ready())
came.set()
"""


def test_a_notebook_that_runs_without_a_page_is_told_and_its_loop_ends() -> None:
    with bare_kernel() as kernel:
        kernel.run(SERVE)
        printed = kernel.run(LOOP)
    assert "nobody looks at 'cell-" in printed
    assert "runs without a page" in printed
    assert printed.endswith("ended False\n")


def test_a_thread_of_a_notebook_without_a_page_yet_goes_on_waiting() -> None:
    with bare_kernel() as kernel:
        kernel.run(SERVE)
        printed = kernel.run(LOOKS_LATER.replace("display.wait_ready()", "in_a_thread(display.wait_ready)"))
    assert printed.endswith("somebody looks: True\n")


def test_a_notebook_with_a_page_is_told_once_and_goes_on_waiting() -> None:
    with bare_kernel() as kernel:
        kernel.run(SERVE, attended=True)
        printed = kernel.run(LOOKS_LATER, attended=True)
    assert printed.count("wait_ready() goes on waiting") == 1
    assert printed.endswith("somebody looks: True\n")
