"""Packages that only the benchmark and some of its patterns need."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtra(ImportError):
    """Raised if a package that only the benchmark needs is not installed."""


def extra(module: str) -> Any:
    """Import *module*, a requirement of the benchmark. Raises `MissingExtra` that names the extra."""
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise MissingExtra(f"this needs {name}: pip install 'pdum-rfb-widget[benchmark]'") from error
