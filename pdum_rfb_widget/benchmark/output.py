"""Output of rows as tables for a terminal, as Markdown and as JSON, and a progress bar."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TextIO

from .._testing.extras import extra
from .rows import Figure, Progress, Row


def print_tables(rows: Sequence[Row], file: TextIO) -> None:
    """Print a table for each group."""
    console = extra("rich.console").Console(file=file, width=None if file.isatty() else 200)
    for group, members in _groups(rows).items():
        table = extra("rich.table").Table(title=group, title_justify="left", title_style="bold")
        heads, lines = _cells(members)
        for column, head in enumerate(heads):
            right = 0 < column <= len(_names(members))
            table.add_column(head, justify="right" if right else "left", overflow="fold")
        for line in lines:
            table.add_row(*line)
        console.print(table)


def as_markdown(rows: Sequence[Row]) -> str:
    """A Markdown table for each group, below its name."""
    parts = []
    for group, members in _groups(rows).items():
        heads, lines = _cells(members)
        rule = ["---", *("---:" for _ in _names(members)), *("---" for _ in heads[1 + len(_names(members)) :])]
        table = "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines))
        parts.append(f"**{group}**\n\n{table}\n")
    return "\n".join(parts)


def as_json(rows: Sequence[Row], machine: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """All rows as JSON; an infinite figure is the text ``inf``."""
    listed = [asdict(row) | {"figures": {k: _jsonable(v) for k, v in row.figures.items()}} for row in rows]
    return json.dumps({"machine": machine, "settings": settings, "rows": listed}, indent=2, allow_nan=False)


# Cells ----------------------------------------------------------------------------------------------------------------


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def _names(rows: Sequence[Row]) -> list[str]:
    """The names of all figures, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    names = _names(rows)
    judged = any(row.wanted for row in rows)
    heads = ["", *(name.replace("_percent", " %").replace("_", " ") for name in names)]
    lines = [[row.name, *(_text(row.figures[name]) if name in row.figures else "" for name in names)] for row in rows]
    if judged:
        heads += ["wanted", ""]
        for row, line in zip(rows, lines, strict=True):
            line += [row.wanted, {True: "✓", False: "✗", None: ""}[row.ok]]
    return heads, lines


def _text(figure: Figure) -> str:
    if figure is None:
        return "–"
    if isinstance(figure, str):
        return figure
    if math.isinf(figure):
        return "exact"
    if isinstance(figure, int) or figure == int(figure) or abs(figure) >= 1000:
        return f"{round(figure):,}"
    return f"{figure:.{max(0, 2 - math.floor(math.log10(abs(figure))))}f}" if abs(figure) >= 0.01 else f"{figure:.3f}"


def _jsonable(figure: Figure) -> Figure:
    return "inf" if isinstance(figure, float) and math.isinf(figure) else figure


# Progress -------------------------------------------------------------------------------------------------------------


@contextmanager
def progress_bar(file: TextIO) -> Iterator[Progress]:
    """A progress bar on *file*, drawn only at each step."""
    rich = extra("rich.progress")
    console = extra("rich.console").Console(file=file)
    columns = (
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("{task.fields[what]}"),
    )
    with rich.Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        yield _Bar(bar)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=0, what="")
        self._begun = 0
        self._total = 0

    def add(self, steps: int) -> None:
        self._total += steps
        self._bar.update(self._task, total=self._total)

    def step(self, what: str) -> None:
        self._bar.update(self._task, completed=self._begun, what=what, refresh=True)
        self._begun += 1
