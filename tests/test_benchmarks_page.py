"""The page of benchmarks says what the result files say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_page_of_benchmarks_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    report = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == report["page"](), (
        "run: python benchmarks/report.py"
    )
