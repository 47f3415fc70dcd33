"""The README's code runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_code_runs_and_learns() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    assert all(p.grad is not None for p in names["contrast"].parameters())  # type: ignore[attr-defined]


def test_every_file_the_readme_links_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert "docs/images/overview.png" in links
    assert not [link for link in links if not (README.parent / link).exists()]
