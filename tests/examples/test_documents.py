"""The commands that the documents print are accepted as they stand, and the papers' pages name their numbers."""

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

from documents import PAPERS, ROOT, commands_in
from sslmed.models import ResNetEncoder
from sslmed.studies import few_labels, program
from sslmed.studies.run import Run
from sslmed.studies.study import Study
from sslmed.studies.sweep import Sweep

FOLDERS = {"--data", "--pretext-data", "--organs", "--natural", "--unlabelled", "--merge", "--weights", "--test-data"}


def all_commands() -> list[tuple[str, list[str]]]:
    """The commands of all documents, each once."""
    pages = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    every = [command for page in pages for command in commands_in(page.read_text(encoding="utf-8"))]
    return list({f"{name} {shlex.join(words)}": (name, words) for name, words in every}.values())


COMMANDS = all_commands()


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
    monkeypatch.setattr(few_labels, "_finish", lambda folder: None)
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
def test_a_page_names_the_papers_numbers(page: Path) -> None:
    named = set(re.findall(r"`(examples/papers/\w+\.csv)`", page.read_text(encoding="utf-8")))
    files = (ROOT / "examples" / "papers").glob(f"{page.stem}*.csv")
    assert named == {str(file.relative_to(ROOT)) for file in files}
