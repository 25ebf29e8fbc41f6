"""The names of `pdum.rfb`, in `api.tsv`: each is here with its parameters and their defaults, or in the tables of
docs/migration.md with what is here instead. A name of kind ``text`` stands only in the prose of that package's
documentation."""

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
from pdum_rfb_widget.options import UNCHANGED

HERE = Path(__file__).parent
REQUIRED = inspect.Parameter.empty
EMPTY = {"Bool": False, "Dict": {}}
"""The defaults of traits that name none."""
CONSTANTS = {"DEFAULT_STREAM": "default"}


class Entry(NamedTuple):
    module: str
    name: str
    kind: str
    signature: str

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}".strip(".").removesuffix(".__init__")

    @property
    def parameters(self) -> dict[str, Any]:
        """Each with its default, `REQUIRED` where it has none."""
        if self.kind in ("field", "trait"):
            return {self.name.rpartition(".")[2]: default_of(self.signature)}
        if "def" not in self.kind:
            return {}
        (function,) = ast.parse(f"def f{self.signature}: ...").body
        assert isinstance(function, ast.FunctionDef)
        taken = function.args
        positional = dict(zip([*reversed(taken.args)], [*reversed(taken.defaults)], strict=False))
        defaults = positional | dict(zip(taken.kwonlyargs, taken.kw_defaults, strict=True))
        return {
            argument.arg: value_of(default) if (default := defaults.get(argument)) else REQUIRED
            for argument in (*taken.args, *taken.kwonlyargs)
        }


def default_of(declaration: str) -> Any:
    """The default of a field, ``=30``, or of a trait, ``Int(480)``."""
    if not declaration:
        return REQUIRED
    expression = ast.parse(declaration.removeprefix("="), mode="eval").body
    if declaration.startswith("=") or not isinstance(expression, ast.Call):
        return value_of(expression)
    return value_of(expression.args[0]) if expression.args else EMPTY[ast.unparse(expression.func)]


def value_of(expression: ast.expr) -> Any:
    try:
        return ast.literal_eval(expression)
    except ValueError:
        return CONSTANTS.get(ast.unparse(expression), REQUIRED)


def entries() -> list[Entry]:
    lines = (HERE / "api.tsv").read_text("utf-8").splitlines()
    return [Entry(*line.split("\t")) for line in lines]


def rows() -> dict[str, str]:
    """The tables of docs/migration.md: each name in its first column, and what the second says."""
    table = (HERE.parent / "docs" / "migration.md").read_text("utf-8")
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
    if "def" not in entry.kind:
        return set()
    return {f"{entry.full}({name}=)" for name in entry.parameters if not takes(thing, name)}


def differing(entry: Entry) -> dict[str, Any]:
    """Each default of *entry* that is another here, as ``name(parameter=default)``, and what it is here."""
    if not entry.parameters or missing(entry) == {entry.full}:
        return {}
    here = defaults_of(entry)
    return {
        f"{entry.full}({name}={default!r})": here[name]
        for name, default in entry.parameters.items()
        if default is not REQUIRED and name in here and here[name] != default
    }


def defaults_of(entry: Entry) -> dict[str, Any]:
    if entry.kind not in ("field", "trait"):
        return {name: parameter.default for name, parameter in inspect.signature(found(entry)).parameters.items()}
    path, _, name = entry.name.rpartition(".")
    owner = found(entry._replace(name=path))
    if entry.kind == "trait":
        return {name: owner.class_traits()[name].default()}
    (field,) = (field for field in dataclasses.fields(owner) if field.name == name)
    return {name: REQUIRED if field.default is dataclasses.MISSING else field.default}


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
    """Whether *function* has a parameter of this *name*."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def covers(row: str, item: str) -> bool:
    """Whether the table's name *row* means *item*: ``gpu.*`` all of a module, ``gpu=`` a parameter of any function,
    ``fps=30`` one of that default."""
    if row == item:
        return True
    if "=" in row:
        return item.endswith(f"({row})")
    return fnmatchcase(item, row) or item.startswith(f"{row}.")


def test_every_name_is_here_with_its_parameters_or_the_table_says_what_to_use() -> None:
    unsaid = {item for entry in entries() for item in missing(entry) if not any(covers(row, item) for row in rows())}
    assert not unsaid


def test_a_default_that_is_another_here_is_in_the_table_with_ours() -> None:
    different = {item: ours for entry in entries() for item, ours in differing(entry).items()}
    said = {item: [instead for row, instead in rows().items() if covers(row, item)] for item in different}
    assert [item for item, texts in said.items() if not texts] == []
    assert [
        (item, ours)
        for item, ours in different.items()
        if not (ours in (UNCHANGED, REQUIRED) or said[item][0].startswith(f"`{ours!r}`"))
    ] == []


def test_the_table_has_no_row_for_what_is_here() -> None:
    absent = {item for entry in entries() for item in (*missing(entry), *differing(entry))}
    assert [row for row in rows() if not any(covers(row, item) for item in absent)] == []
    present = {entry.full for entry in entries()} - absent
    assert [(row, name) for row in rows() for name in present if covers(row, name)] == []


DISPLAY = """
    publish wait_ready attach record snapshot widget open poll_events events on off send on_message set_cursor
    set_clipboard clients client_count controller target_size target_ratio name width height pixel_ratio color port
    ws_url url recorded_events server status configure close aclose closed
"""
SERVER = """
    streams stream add_stream remove_stream port listen configure allow_origins hub_id token view_token rotate_token
    limits start process_request close aclose closed
"""
"""The reference documents these, each by its docstring."""


def test_what_users_hold_shows_what_the_reference_documents_and_no_more(display: rfb.Display) -> None:
    for held, names in ((display, DISPLAY.split()), (display.server, SERVER.split())):
        assert [name for name in dir(held) if not name.startswith("_")] == sorted(names)
        assert [name for name in names if name != "server" and not getattr(type(held), name).__doc__] == []


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
