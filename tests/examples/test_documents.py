"""The commands that the documents print are accepted as they stand, and the papers' indexes name what there is."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import torch

import sslmed
from sslmed.models import ResNetEncoder
from sslmed.studies import program
from sslmed.studies.run import Run
from sslmed.studies.study import Study
from sslmed.studies.sweep import Sweep

ROOT = Path(__file__).parents[2]
PAPERS = sorted((ROOT / "docs" / "papers").glob("*.md"))
FOLDERS = {"--data", "--pretext-data", "--organs", "--natural", "--unlabelled", "--merge", "--weights", "--test-data"}
STUDIES = {page.stem for page in PAPERS} | {"few_labels"}


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """(program, arguments) of the commands in a text that run a study."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        match = re.search(r"(?:examples/(\w+)\.py|^ *sslmed (few-labels)) (.*)", line)
        name = match and (match[1] or match[2].replace("-", "_"))
        if match and name in STUDIES and line.lstrip().startswith(("python ", ".venv/", "torchrun ", "sslmed ")):
            found.append((name, shlex.split(match[3], comments=True)))
    return found


def all_commands() -> list[tuple[str, list[str]]]:
    """The commands of all documents, each once."""
    pages = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    every = [command for page in pages for command in commands_in(page.read_text(encoding="utf-8"))]
    return list({f"{name} {shlex.join(words)}": (name, words) for name, words in every}.values())


COMMANDS = all_commands()


def index_of(page: Path) -> tuple[str, list[list[str]]]:
    """The commands of a page's index, and the cells of its rows."""
    text = page.read_text(encoding="utf-8").split("## Index of tables and figures\n")[1].split("\n## ")[0]
    (commands,) = re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return commands, [[cell.strip() for cell in row] for row in rows[1:]]


def status(monkeypatch: pytest.MonkeyPatch, name: str, words: list[str], folder: Path) -> int:
    """The exit status of a command with the smoke preset."""
    monkeypatch.setattr(sys, "argv", [name, *words, "--preset", "smoke", "--out", str(folder / "run")])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).main()
    return stop.value.code  # type: ignore[return-value]


class Declared:
    """A run that ends once its study is declared."""

    trains = True

    def __init__(self, study: Study, args: argparse.Namespace) -> None:
        assert set(args.methods) <= set(study.methods)

    def run(self) -> int:
        return 0


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=lambda part: str(part)[:40])
def test_options_of_the_commands_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["none" if word == "imagenet" else word for word in words]  # the smoke preset's encoder has no such weights
    if "--weights" in words and "none" not in words:
        weights = ResNetEncoder("resnet18", width=8).state_dict()  # the smoke preset's encoder
        torch.save(weights, tmp_path / words[words.index("--weights") + 1])
    monkeypatch.setattr(program, "Run", Declared)
    monkeypatch.setattr(Sweep, "tabulate", lambda sweep: None)
    assert status(monkeypatch, name, words, tmp_path) == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [(name, words) for name, words in COMMANDS if "phantom" in words or not FOLDERS & {*words}],
    ids=lambda part: str(part)[:40],
)
def test_commands_on_synthetic_images_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    monkeypatch.setattr(Run, "run", lambda run: 0)
    assert status(monkeypatch, name, words, tmp_path) == 0


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_an_index_uses_each_of_its_commands(page: Path) -> None:
    text, rows = index_of(page)
    names = re.findall(r"^# (\w+)", text, flags=re.MULTILINE)
    programs = [name for name, _ in commands_in(text)]
    assert programs == [page.stem] * len(names)
    used = {name for _, command, _ in rows for name in command.split(", ")} - {"", "any"}
    assert used == set(names)
    for item, command, place in rows:
        assert command or place.startswith(("not reproduced", "the paper has none")), item


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_a_page_names_the_papers_numbers(page: Path) -> None:
    named = set(re.findall(r"`(examples/papers/\w+\.csv)`", page.read_text(encoding="utf-8")))
    files = (ROOT / "examples" / "papers").glob(f"{page.stem}*.csv")
    assert named == {str(file.relative_to(ROOT)) for file in files}


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.stem)
def test_an_index_names_headings_of_the_report(page: Path) -> None:
    package = Path(sslmed.__file__).parent
    sources = [
        *package.glob("studies/report/**/*.j2"),
        *package.glob("studies/report/*.py"),
        *package.glob("tasks/*.py"),
    ]
    report = "".join(source.read_text(encoding="utf-8") for source in sources)
    headings = [name for *_, place in index_of(page)[1] for name in re.findall('"(.*?)"', place)]
    assert headings
    assert not [name for name in headings if name not in report]
