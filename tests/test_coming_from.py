"""The code of docs/guides/coming_from.md runs in both libraries, and gives the same where it computes the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "coming_from.md"
SECTIONS = {
    part.partition("\n")[0]: re.findall(r"```python\n(.*?)```", part, flags=re.DOTALL)
    for part in PAGE.read_text().split("\n## ")[1:]
}
COMPARED = 10  # sections that compute the same with both


@pytest.mark.peers
@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.filterwarnings("default")  # of the other libraries
def test_both_sides_run_and_agree(section: str) -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for code in SECTIONS[section]:
        exec(compile(code, f"{PAGE.name}: {section}", "exec"), names)
    assert ("theirs" in names) == ("ours" in names)
    if "ours" in names:
        torch.testing.assert_close(names["ours"], names["theirs"], rtol=1e-4, atol=1e-5, check_dtype=False)


def test_every_section_has_both_sides_and_most_compare_values() -> None:
    assert all(len(blocks) >= 2 for blocks in SECTIONS.values())
    compared = [name for name, blocks in SECTIONS.items() if any("theirs =" in code for code in blocks)]
    assert len(compared) == COMPARED
    assert all(any(re.search(r"^ours =", code, re.M) for code in SECTIONS[name]) for name in compared)
