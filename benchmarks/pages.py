"""Tables in Markdown, and their places in the pages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the comments `<!-- name -->` and `<!-- end -->` of a page."""
    before, start, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not start or not end:
        raise ValueError(f"{page} has no comments <!-- {name} --> and <!-- end -->")
    page.write_text(f"{before}{start}{text}\n{end}{after}")
