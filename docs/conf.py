"""Sphinx settings; the build is offline and fails on any warning."""

import re
from typing import Any

import sslmed

project = "sslmed"
author = "The sslmed authors"
copyright = "2026, the sslmed authors"
release = version = sslmed.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sslmed {release}"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks keep the outputs of docs/run_notebooks.py

default_role = "code"
autodoc_default_options = {"members": True, "exclude-members": "extra_repr, draws, transform"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Reference"]


def _escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Shapes such as (B, *S) and absolute values |x| are no markup; docstrings are written for `help()` first."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = re.sub(r"(`[^`]*`)|([*|])", lambda m: m[1] or "\\" + m[2], line)


def setup(app: Any) -> None:
    """Sphinx's hook; runs before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", _escape, priority=400)
