"""Every public name has a page of the reference, and one only."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("lightning")  # of which studies are made

from public_names import MODULES

DOCS = Path(__file__).parents[1] / "docs"


def documented(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The full names that the reference documents: in its tables, beside another object, or as data."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which conf.py adds
    families = runpy.run_path(str(DOCS / "conf.py"))["autosummary_context"]["families"]
    found = []
    for page in (DOCS / "reference").glob("*.md"):
        for part in page.read_text(encoding="utf-8").split(".. currentmodule:: ")[1:]:
            names = re.findall(r"^(?:   |\.\. py:data:: |              )(\w+)$", part, flags=re.MULTILINE)
            found += [f"{part.split()[0]}.{name}" for name in names]
    assert set(families) <= set(found)
    return [*found, *(name for names in families.values() for name in names)]


def identity(value: object, name: str) -> object:
    """What makes two names the same object: the object itself, or for constants the last part of the name."""
    return value if callable(value) else name


def test_each_public_name_is_on_one_page_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Counter[object]()
    for full in documented(monkeypatch):
        module, _, name = full.rpartition(".")
        pages[identity(getattr(importlib.import_module(module), name), name)] += 1
    wrong = {}
    for module, names in MODULES.items():
        place = importlib.import_module(module)
        for name in names or place.__all__:
            value = getattr(place, name)
            if not name.startswith("_") and not inspect.ismodule(value) and pages[identity(value, name)] != 1:
                wrong[f"{module}.{name}"] = pages[identity(value, name)]
    assert wrong == {}
