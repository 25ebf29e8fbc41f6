"""What an install of this package tells servers by: its entry points, whatever is installed here."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_path(home: Path) -> str:
    """A PYTHONPATH where this checkout stands as an install, described in a folder below *home*."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = home / "site" / "pdum_rfb_widget-0.1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pdum-rfb-widget\nVersion: 0.1.0\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in entries.items())
        for group, entries in described.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return f"{info.parent}:{ROOT}"
