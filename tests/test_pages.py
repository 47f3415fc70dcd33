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


def test_the_readme_code_runs_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 8
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    assert all(p.grad is not None for p in names["encoder"].parameters())  # type: ignore[attr-defined]
    assert "loss" in capsys.readouterr().out


def test_the_numbers_of_the_readme_are_those_measured() -> None:
    """Of the tables of results, speed and memory."""
    text = README.read_text()
    losses, metrics, filters = (
        json.loads((ROOT / "benchmarks" / "results" / f"{name}-cpu.json").read_text())["jobs"]
        for name in ("losses", "metrics", "augment")
    )
    nt_xent = losses["NT-Xent, N = 4096, D = 128"]
    for who in ("sslmed", "sslmed, block_size = 128", "lightly: NTXentLoss", "torch: cross_entropy"):
        assert f"{nt_xent[who]['median_ms']:.0f} ms, {nt_xent[who]['peak_mib']:.0f} MiB" in text, who
    for job, who, digits in (
        (metrics["HD95, 64 of 224 x 224"], ("sslmed", "MONAI", "medpy"), 0),
        (metrics["Hausdorff, a volume of 128 x 128 x 64"], ("sslmed", "scipy: directed_hausdorff of boundaries"), 1),
        (filters["band-stop 32x1x224x224"], ("sslmed", "floor: rfft2 + irfft2"), 1),
    ):
        for one in who:
            assert f"{job[one]['median_ms']:.{digits}f} ms" in text, one


@pytest.mark.parametrize(("page", "front"), [(README, True), (ROOT / "docs" / "comparison.md", False)])
def test_the_tables_of_other_libraries_are_those_of_the_comparison(
    page: Path, front: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    results = json.loads((ROOT / "benchmarks" / "results" / "comparison.json").read_text())
    made = runpy.run_path(str(ROOT / "benchmarks" / "comparison.py"))["table"](results, front=front)
    assert f"<!-- comparison -->\n{made}\n<!-- end -->" in page.read_text()


def test_every_file_the_readme_links_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert "docs/images/overview.png" in links
    assert not [link for link in links if not (README.parent / link).exists()]


def test_links_have_words_and_files_for_readers_on_a_code_host() -> None:
    wrong = []
    for page in [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        if "generated" in page.parts or "_build" in page.parts:
            continue
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"`[^`]*`", "code", text)
        for words, target in re.findall(r"\[([^\[\]]*)\]\(((?!https?:)[^)\s]*)\)", text):
            file = page.parent / target.partition("#")[0]
            if not words.strip() or not file.exists():
                wrong.append(f"{page.relative_to(ROOT)}: [{words}]({target})")
    assert not wrong


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
        warnings.simplefilter("ignore")  # other libraries warn, for example of loaders without workers
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
