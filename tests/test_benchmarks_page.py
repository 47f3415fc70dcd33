"""The page of benchmarks says what the result files say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_page_of_benchmarks_is_current() -> None:
    report = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == report["page"](), (
        "run: python benchmarks/report.py"
    )


def test_the_tables_of_few_labels_are_current() -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "few_labels_tables.py"))["tables"]()
    for (page, name), text in made.items():
        assert f"<!-- {name} -->\n{text}\n<!-- end -->" in page.read_text(encoding="utf-8"), (
            "run: python benchmarks/few_labels_tables.py"
        )
