"""The rooms of the package, which `docs/architecture.md` explains: which may import which; no cycles; the core does no
I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pdum_rfb_widget"

LAYERS = [
    {"_system", "types", "events", "limits", "auth", "metrics", "options"},
    {"_testing"},
    {"_frames.damage", "_frames.chunk", "_frames.listeners", "_frames.pixels", "_frames.store"},
    {"encoders"},
    {"snapshot", "_wire", "protocol"},
    {
        "_core.admission_queue",
        *(f"_core.policy.{name}" for name in ("bandwidth", "degradation", "hysteresis", "processor")),
    },
    {"transport"},
    {"_core"},
    {"_encode"},
    {"_hosts.notebook_context", "_hosts.discovery", "_hosts.hub_proxy", "_hosts.loops", "_hosts.audience"},
    {"_hub"},
    {"_hosts.poster", "sources", "recording"},
    {"notebook"},
    {"display"},
    {"server"},
    {"asgi", "jupyter", "marimo", "testing"},
    {"benchmark"},
]
"""From the bottom up: a module imports what stands in its own layer or below it."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, path


def imported(name: str, path: Path) -> Iterator[str]:
    """The modules that *name* imports, those of this package with a dot in front: also in functions, and for type
    checkers only."""
    parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = [*parts[: len(parts) - node.level + 1], *(node.module or "").split(".")]
            prefix = "." + ".".join(filter(None, base))
            for alias in node.names:
                inner = f"{prefix.rstrip('.')}.{alias.name}"
                yield inner if (PACKAGE / inner[1:].replace(".", "/")).with_suffix(".py").exists() else prefix


def layer_of(name: str) -> int:
    """The layer that names *name*, or the longest of its prefixes."""
    while True:
        for index, layer in enumerate(LAYERS):
            if name in layer:
                return index
        name, dot, _ = name.rpartition(".")
        assert dot, f"{name} stands in no layer"


@pytest.mark.parametrize(("name", "path"), [pytest.param(*module, id=module[0]) for module in modules()])
def test_a_module_imports_its_own_layer_and_those_below(name: str, path: Path) -> None:
    above = {other for other in imported(name, path) if other[0] == "." and layer_of(other[1:]) > layer_of(name)}
    assert not above


def test_no_modules_import_each_other_directly_or_by_way_of_others() -> None:
    graph = {name: {other[1:] for other in imported(name, path) if other[0] == "."} for name, path in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", sorted((PACKAGE / "_core").rglob("*.py")), ids=lambda path: str(path.stem))
def test_the_core_reads_no_clock_and_does_no_io(path: Path) -> None:
    io = {"asyncio", "threading", "socket", "time", "queue", "concurrent.futures", "selectors", "ssl", "random"}
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    assert not io & set(imported(name, path))


MOST_LINES = {"module": 450, "class": 250, "function": 45}
"""Lines of code, docstrings and comments not counted for classes and functions: what a reader holds in the head."""
MOST_ATTRIBUTES = 15
DATA = {"Case", "EndpointOptions", "SessionMetrics", "StreamOptions", "WidgetTraits"}
"""Classes that are lists of options or figures: each attribute is one of those that users know."""


def lines_of_code(source: str, node: ast.AST) -> int:
    texts = [child for child in ast.walk(node) if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)]
    docs = {number for text in texts for number in range(text.lineno, (text.end_lineno or 0) + 1)}
    first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
    rows = dict(enumerate(source.splitlines()[first - 1 : last], first))
    return sum(bool(row.strip()) and not row.strip().startswith("#") for n, row in rows.items() if n not in docs)


def attributes_of(node: ast.ClassDef) -> set[str]:
    stored = {
        place.attr
        for place in ast.walk(node)
        if isinstance(place, ast.Attribute) and isinstance(place.ctx, ast.Store)
        if isinstance(place.value, ast.Name) and place.value.id == "self"
    }
    return stored | {
        row.target.id for row in node.body if isinstance(row, ast.AnnAssign) and isinstance(row.target, ast.Name)
    }


@pytest.mark.parametrize(("name", "path"), [pytest.param(*module, id=module[0]) for module in modules()])
def test_nothing_is_too_large_to_be_read(name: str, path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= MOST_LINES["module"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            assert lines_of_code(source, node) <= MOST_LINES["class"], node.name
            assert len(attributes_of(node)) <= MOST_ATTRIBUTES or node.name in DATA, node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert lines_of_code(source, node) <= MOST_LINES["function"], node.name
