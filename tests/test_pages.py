"""Code in the README and the docs runs as printed."""

from __future__ import annotations

import csv
import doctest
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if ">>>" in page.read_text())


def test_the_readme_code_runs_and_learns() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    assert all(p.grad is not None for p in names["method"].parameters())  # type: ignore[attr-defined]


def test_every_file_the_readme_links_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert "docs/images/overview.png" in links
    assert not [link for link in links if not (README.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_the_docs_run(page: Path) -> None:
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried
    assert not failed


def test_the_paper_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "studies.md").read_text(), flags=re.DOTALL)
    (tmp_path / "my_paper.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my_paper.py", "--preset", "smoke", "--set", "finetune.epochs=1", "--out", "run"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("my_paper.py", run_name="__main__")
    assert stop.value.code == 0
    assert json.loads(Path("run/config.json").read_text())["preset"]["finetune"]["epochs"] == 1
    with open("run/table.csv") as table:
        assert {row["method"] for row in csv.DictReader(table)} == {"supervised", "simclr"}
    assert "SimCLR on outlined scans" in Path("run/report.html").read_text()
