"""An installed Chromium without a window; without one, or without the extra `browser`, these tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import web_pages


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Playwright's browser."""
    hint = "the extra `browser` is not installed"
    playwright = pytest.importorskip("playwright.sync_api", reason=hint)
    path = web_pages.browser_path()
    if path is None:
        pytest.skip(f"no browser is installed: looked for {', '.join(web_pages.BROWSERS)}")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=path)
        yield found
        found.close()


@pytest.fixture(scope="session")
def axe() -> Any:
    """The rules of accessibility."""
    return pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
