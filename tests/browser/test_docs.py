"""The built pages of the docs in a browser; `make docs` builds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from web_pages import WIDTHS, Visit

BUILT = Path(__file__).parents[2] / "docs" / "_build" / "html"
LISTINGS = {"_modules", "_static"}  # sources, which are no pages of ours
ALL = sorted(name for file in BUILT.rglob("*.html") if not LISTINGS & set((name := file.relative_to(BUILT)).parts))
OBJECTS = [
    page for page in ALL if page.parent.name == "generated"
]  # many, made from one template: a tenth of them is opened
PAGES = [page for page in ALL if page not in set(OBJECTS) or page in OBJECTS[::10]]


def middle(folder: Path) -> Path:
    """The page of middle length of a folder."""
    own = sorted((page for page in PAGES if page.parent == folder), key=lambda page: (BUILT / page).stat().st_size)
    return own[len(own) // 2]


EXAMINED = {Path("index.html"), *map(middle, {page.parent for page in PAGES})}  # axe takes seconds

if not PAGES:
    pytest.skip("the docs are not built: run `make docs` first", allow_module_level=True)


@pytest.fixture(scope="module", params=PAGES, ids=str)
def visit(request: pytest.FixtureRequest, browser: Any) -> Iterator[Visit]:
    """A page in a large window."""
    visit = Visit(browser, BUILT / request.param, WIDTHS[0])
    yield visit
    visit.close()


def test_the_page_is_whole_in_windows_of_all_widths(visit: Visit) -> None:
    for width in WIDTHS:
        visit.resize(width)
        assert not visit.too_wide()
    assert not visit.errors
    assert not visit.dead_links()
    assert not visit.broken_images()


@pytest.mark.parametrize("page", sorted(EXAMINED), ids=str)
def test_what_we_wrote_is_accessible(browser: Any, axe: Any, page: Path) -> None:
    ours = {"include": [["article"]], "exclude": [[".caption"], [".sig"]]}  # the rest is Sphinx's and the theme's
    rules = {"scrollable-region-focusable": {"enabled": False}}  # Tab reaches boxes of code without our help
    visit = Visit(browser, BUILT / page, min(WIDTHS))
    assert not visit.violations(axe, context=ours, runOnly=["wcag2a", "wcag2aa", "wcag21aa"], rules=rules)
    visit.close()
