"""Sphinx: ``sphinx-build -W docs docs/_build``, with the extra ``docs`` installed."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as version_of
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from traitlets import TraitType

project = "pdum_rfb_widget"
author = "the pdum_rfb_widget maintainers"
version = release = version_of("pdum-rfb-widget")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
maximum_signature_line_length = 100
autodoc_typehints = "signature"
default_role = "py:obj"  # docstrings name what they mean in single backticks
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "pdum_rfb_widget"
html_copy_source = False
html_show_sourcelink = False


class AutoTraits(SphinxDirective):
    """The synced traits of a widget class, as a table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        widget = getattr(import_module(module), name)
        traits = [trait for trait in widget.class_traits(sync=True).values() if is_ours(trait)]
        rows = [f"   * - ``{t.name}``\n     - {t.info()}\n     - ``{t.default()!r}``\n     - {t.help}" for t in traits]
        head = "   * - trait\n     - type\n     - default\n     - meaning"
        text = ".. list-table::\n   :header-rows: 1\n\n" + "\n".join([head, *rows])
        return self.parse_text_to_nodes(text)


def is_ours(trait: TraitType[Any, Any]) -> bool:
    return trait.this_class.__module__.startswith("pdum_rfb_widget") and trait.name[0] != "_"


def setup(app: Any) -> None:
    app.add_directive("autotraits", AutoTraits)
