"""Event loops that end before the process does, such as those of a Jupyter kernel's subshells."""

from __future__ import annotations

import json
from contextlib import ExitStack

from hosts import wait_for
from kernels import bare_kernel
from viewers import RawViewer

SERVE = """
import numpy as np, pdum_rfb_widget as rfb
from pdum_rfb_widget.sources import RenderCallbackSource
calls = {"loop": 0, "source": 0, "press": 0}
def count(kind):
    calls[kind] += 1
    return np.full((8, 8), calls[kind] % 256, np.uint8)
looped, attached = rfb.serve(8, 8), rfb.serve(8, 8)
task = rfb.publish_loop(looped, lambda: count("loop"), fps=100)
attached.attach(RenderCallbackSource(lambda seq, t_us: count("source"), width=8, height=8, fps=100))
looped.on("pointer_down")(lambda event: count("press"))
"""
WHERE = "import json; print(json.dumps([[shown.ws_url, shown.server.token] for shown in (looped, attached)]))"
LOOK = "import json; print(json.dumps(calls))"


def test_what_a_subshell_began_goes_on_when_the_subshell_ends() -> None:
    with bare_kernel() as kernel, ExitStack() as stack:
        subshell = kernel.control("create_subshell_request")["subshell_id"]
        kernel.run(SERVE, subshell)
        assert kernel.control("delete_subshell_request", subshell_id=subshell)["status"] == "ok"
        before = json.loads(kernel.run(LOOK))
        for url, token in json.loads(kernel.run(WHERE)):
            viewer = stack.enter_context(RawViewer(url=url, token=token))
            viewer.greet()
            for _ in range(3):
                viewer.see()
            viewer.say(type="event", event={"type": "pointer_down", "x": 0, "y": 0})

        def all_go_on() -> bool:
            now = json.loads(kernel.run(LOOK))
            return all(now[kind] > before[kind] for kind in now)

        wait_for(all_go_on, "the call")
        kernel.run("task.cancel()")
        assert kernel.run("print(task.cancelled(), looped.status()['recent_errors'])") == "True []\n"
