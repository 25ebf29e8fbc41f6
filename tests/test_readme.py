"""The README's first lines, run as they stand."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from viewers import RawViewer

import pdum_rfb_widget as rfb

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def test_the_first_picture_is_as_short_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    serve, move = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:2]
    monkeypatch.setattr("pdum_rfb_widget.server.SCRIPT_PORT", 0)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    names: dict[str, Any] = {}
    exec(serve, names)
    exec(move, names)
    with RawViewer(names["display"], "image/png") as viewer:
        viewer.greet()
        header, _ = viewer.see()
    assert (header["width"], header["height"]) == (640, 360)
    assert names["display"]._stream.frames_published == 200


def test_a_recording_is_as_short_as_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, display: rfb.Display
) -> None:
    (record,) = re.findall(r"```python\n(with display\.record.*?)```", README, re.DOTALL)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:48, :64]
    exec(record, {"display": display, "np": np, "time": time, "x": x, "y": y})
    with av.open("out.mp4") as film:
        *_, last = film.decode(video=0)
    np.testing.assert_allclose(last.to_ndarray(format="gray"), (x + y + 796).astype(np.uint8), atol=80)


def test_every_file_that_it_names_exists() -> None:
    for name in re.findall(r"bash ([\w./-]+)|\]\(((?!https?:)\S+)\)", README):
        assert (Path(__file__).parent.parent / "".join(name)).exists(), name
