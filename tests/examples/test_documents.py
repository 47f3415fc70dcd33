"""The commands that the documents print are accepted as they stand, where they need no folder."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from sslmed.studies.run import Run

ROOT = Path(__file__).parents[2]
FOLDERS = {"--data", "--pretext-data", "--organs", "--natural", "--merge"}


def commands() -> list[tuple[str, list[str]]]:
    """(program, arguments) of the examples that run on phantoms."""
    found = {}
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^.*\bexamples/\w+\.py .*$", text, re.MULTILINE):
            program, arguments = re.findall(r"examples/(\w+)\.py (.*)", line)[0]
            if line.startswith(("python ", ".venv/", "torchrun ")):
                words = shlex.split(arguments, comments=True)
                if "phantom" in words or not FOLDERS & {*words}:
                    found[f"{program} {shlex.join(words)}"] = (program, words)
    return list(found.values())


@pytest.mark.parametrize(("program", "words"), commands(), ids=lambda part: str(part)[:40])
def test_commands_of_the_documents_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: list[str]
) -> None:
    monkeypatch.setattr(Run, "run", lambda experiment: 0)
    monkeypatch.setattr(sys, "argv", [program, *words, "--preset", "smoke", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(program).main()
    assert stop.value.code == 0
