"""The Python blocks of a page, to be run in the order of the page."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^>]*?) -->\n)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A block of code, its first line in the page, and the modules without which it cannot run.

    The comment `<!-- needs: timm -->` before a block names modules that only the group `peers` of the tests has.
    """

    code: str
    line: int
    needs: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["code"], text.count("\n", 0, m.start("code")) + 1, tuple((m["needs"] or "").split()))
        for m in _BLOCK.finditer(text)
    ]


def run(page: Path, *, peers: bool) -> list[str]:
    """Run the blocks of a page in one namespace.

    Args:
        page: the page.
        peers: also those that need other modules, if these are installed.

    Returns:
        The modules that are missing, whose blocks were left out.
    """
    names: dict[str, Any] = {"__name__": "__page__"}
    missing: list[str] = []
    for block in blocks(page):
        lacking = [module for module in block.needs if importlib.util.find_spec(module) is None]
        if block.needs and (not peers or lacking):
            missing += lacking
            continue
        # Empty lines before the code give a traceback the lines of the page.
        exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)
    return missing
