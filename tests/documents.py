"""What the documents print: the commands that run a study, and the index of each paper's page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAPERS = sorted((ROOT / "docs" / "papers").glob("*.md"))
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


def index_of(page: Path) -> tuple[str, list[list[str]]]:
    """The commands of a page's index, and the cells of its rows."""
    text = page.read_text(encoding="utf-8").split("## Index of tables and figures\n")[1].split("\n## ")[0]
    (commands,) = re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return commands, [[cell.strip() for cell in row] for row in rows[1:]]
