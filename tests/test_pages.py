"""Code in the README and the docs runs as printed."""

from __future__ import annotations

import csv
import doctest
import json
import re
import runpy
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import page_code

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if ">>>" in page.read_text())
GUIDES = sorted(page for page in (ROOT / "docs" / "guides").glob("*.md") if page_code.blocks(page))
WITH_PEERS = [page for page in GUIDES if any(block.needs for block in page_code.blocks(page))]


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


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and the one process of torchrun; nothing is compiled, which takes minutes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, on loaders without workers and the like
        torch.manual_seed(0)
        yield


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_code_of_the_guides_runs(page: Path) -> None:
    page_code.run(page, peers=False)


@pytest.mark.peers
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("page", WITH_PEERS, ids=lambda page: page.name)
def test_code_of_the_guides_runs_with_other_libraries(page: Path) -> None:
    missing = page_code.run(page, peers=True)
    if missing:
        pytest.skip(f"without {', '.join(missing)} the rest ran")


def test_blocks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nx = 1\n```\n\n<!-- needs: json not_there -->\n```python\nx = 2\n```\n")
    assert page_code.blocks(page) == [("x = 1\n", 4, ()), ("x = 2\n", 9, ("json", "not_there"))]
    assert page_code.run(page, peers=True) == ["not_there"]
    page.write_text("```python\nx = 1\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as error:
        page_code.run(page, peers=False)
    assert error.traceback[-1].lineno == 2


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
