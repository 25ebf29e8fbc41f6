"""The names of `pdum.rfb`, in `api.tsv`: each is here with its parameters, or in the README's table with what to use
instead. A name of kind ``text`` stands only in the prose of that package's documentation."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pdum_rfb_widget as rfb
from pdum_rfb_widget.types import StreamOptions

HERE = Path(__file__).parent
OPTIONS = {field.name for field in dataclasses.fields(StreamOptions)}


class Entry(NamedTuple):
    module: str
    name: str
    kind: str
    signature: str

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}".strip(".").removesuffix(".__init__")

    @property
    def parameters(self) -> set[str]:
        if self.kind == "class" or "def" not in self.kind:
            return set()
        (function,) = ast.parse(f"def f{self.signature}: ...").body
        assert isinstance(function, ast.FunctionDef)
        return {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}


def entries() -> list[Entry]:
    lines = (HERE / "api.tsv").read_text("utf-8").splitlines()
    return [Entry(*line.split("\t")) for line in lines]


def rows() -> dict[str, str]:
    """The README's table: each name in its first column, and what the second says."""
    text = (HERE.parent / "README.md").read_text("utf-8")
    table = text[text.index("## Coming from pdum.rfb") :]
    return {
        name: instead
        for names, instead in re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", names)
    }


def missing(entry: Entry) -> set[str]:
    """What of *entry* is not here: its whole name, or ``name(parameter=)``."""
    try:
        thing = found(entry)
    except (ImportError, AttributeError):
        return {entry.full}
    return {f"{entry.full}({name}=)" for name in entry.parameters if not takes(thing, name)}


def found(entry: Entry) -> Any:
    if entry.kind == "command" or not (entry.module or entry.name.isidentifier()):
        raise AttributeError(entry.name)
    thing: Any = import_module(f"pdum_rfb_widget.{entry.module}".strip("."))
    for name in entry.name.split("."):
        if not hasattr(thing, name) and isinstance(thing, type) and instances_have(thing, name):
            return None
        thing = getattr(thing, name)
    return thing


def instances_have(owner: type, name: str) -> bool:
    if dataclasses.is_dataclass(owner):
        return name in {field.name for field in dataclasses.fields(owner)}
    return bool(re.search(rf"^ +self\.{name}(:.*)? = ", inspect.getsource(owner.__init__), re.MULTILINE))


def takes(function: Any, name: str) -> bool:
    """Whether *function* has a parameter of this *name*; ``**options`` are those of a stream."""
    parameters = inspect.signature(function).parameters
    if name in parameters:
        return True
    if "options" in parameters:
        return name in OPTIONS
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def covers(row: str, item: str) -> bool:
    """Whether the README's name *row* means *item*: ``gpu.*`` all of a module, ``gpu=`` a parameter of any function."""
    if row == item:
        return True
    if row.endswith("="):
        return item.endswith(f"({row})")
    return fnmatchcase(item, row) or item.startswith(f"{row}.")


def test_every_name_is_here_with_its_parameters_or_the_readme_says_what_to_use() -> None:
    unsaid = {item for entry in entries() for item in missing(entry) if not any(covers(row, item) for row in rows())}
    assert not unsaid


def test_the_readmes_table_has_no_row_for_what_is_here() -> None:
    absent = {item for entry in entries() for item in missing(entry)}
    assert [row for row in rows() if not any(covers(row, item) for item in absent)] == []
    present = {entry.full for entry in entries()} - absent
    assert [(row, name) for row in rows() for name in present if covers(row, name)] == []


def test_an_option_that_is_elsewhere_is_refused_with_what_the_table_says() -> None:
    replaced = [row.removesuffix("=") for row in rows() if row.endswith("=")]
    assert {"has_h264", "has_nvenc", "gpu", "encode_pipeline_depth"} <= set(replaced)
    for option in replaced:
        with pytest.raises(TypeError, match=f"^unknown option {option}") as refused:
            rfb.serve(64, 48, port=0, **{option: True})
        assert rows()[f"{option}="].replace("`", "") in str(refused.value)


def test_every_name_of_the_root_is_loaded_when_it_is_asked_for() -> None:
    assert [name for name in rfb.__all__ if getattr(rfb, name, None) is None] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = rfb.nothing


def test_an_import_brings_nothing_but_the_standard_library() -> None:
    code = "import sys; before = set(sys.modules); import pdum_rfb_widget; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert roots - sys.stdlib_module_names == {"pdum_rfb_widget"}


OPTIONAL = ("av", "fastapi", "jupyter_server", "marimo", "matplotlib", "playwright", "rich", "starlette", "uvicorn")
NEED_THEM = ("asgi", "jupyter")
"""Modules that are of no use without."""


def test_every_module_is_imported_without_what_is_optional() -> None:
    code = f"""
import pkgutil, sys
from importlib import import_module
sys.modules.update(dict.fromkeys({OPTIONAL!r}))
import pdum_rfb_widget
for module in pkgutil.walk_packages(pdum_rfb_widget.__path__, "pdum_rfb_widget."):
    if not module.name.endswith("__main__") and module.name.rpartition(".")[2] not in {NEED_THEM!r}:
        import_module(module.name)
        print(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "pdum_rfb_widget.testing" in done.stdout.split()
