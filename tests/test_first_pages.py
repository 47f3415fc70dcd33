"""The code of the pages that a newcomer reads first runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["index.md", "quickstart.md"])
def test_the_code_of_a_first_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        for block in blocks:
            exec(compile(block, name, "exec"), names)
    assert capsys.readouterr().out.strip()
    if name == "quickstart.md":
        assert (tmp_path / "encoder.pt").exists()
        assert names["after"] < names["before"]  # type: ignore[operator]
