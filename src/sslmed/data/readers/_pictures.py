"""Pictures in a folder: none left out unseen, in the order of their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from ..formats._scans import scan_kind
from ._cases import shown, visible_files


def pictures(folder: Path, endings: Collection[str]) -> list[Path]:
    """List the visible pictures of a folder in the order of their numbers.

    Hidden files, texts, tables and what systems leave behind (`Thumbs.db`) are skipped: they hold no scan. Whatever
    else may hold one is an error, so that no case is left out unseen.

    Raises:
        ValueError: the folder is missing, a file may hold a scan and has none of the endings, or the names of two
            pictures differ in upper and lower case only.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: the folder is missing")
    found: list[Path] = []
    strange: list[str] = []
    for path in visible_files(folder):
        if path.suffix.lower() in endings:
            found.append(path)
        elif scan_kind(path) is not None:
            strange.append(path.name)
    if strange:
        raise ValueError(
            f"{folder}: {shown(strange)} may hold a scan, but {' or '.join(endings)} was expected; "
            "convert it or move it elsewhere"
        )
    twice = [name for name, count in Counter(path.name.lower() for path in found).items() if count > 1]
    if twice:
        raise ValueError(
            f"{folder}: {shown(twice)} is there more than once, in upper and lower case; move the copies elsewhere"
        )
    return sorted(found, key=lambda path: by_number(path.stem))


def by_number(name: str) -> tuple[int, str]:
    """Sort key: the first number of a name, then the name."""
    digits = re.search(r"\d+", name)
    return (int(digits[0]) if digits else 0, name)
