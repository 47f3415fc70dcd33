"""Pages in a browser without a window: what went wrong while they loaded, and what a reader could not see or reach."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

WIDTHS = (1300, 500)  # pixels of a window on a desk, and of one on a phone
HEIGHT = 900
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser_path() -> str | None:
    """An installed Chromium or Chrome."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Visit:
    """A page in a window of a width, with all that can be unfolded open.

    Args:
        browser: Playwright's.
        file: of the page.
        width: of the window.
    """

    def __init__(self, browser: Any, file: Path, width: int) -> None:
        self.width, self.errors = width, list[str]()
        self.page = browser.new_page(viewport={"width": width, "height": HEIGHT})
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.errors.append(f"not loaded: {request.url[:200]}"))
        self.page.goto(file.resolve().as_uri(), wait_until="load")
        self.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def too_wide(self) -> list[str]:
        """What reaches beyond the right edge of the window, if the page can be scrolled sideways."""
        return self.page.evaluate(
            """() => {
                const root = document.documentElement;
                if (root.scrollWidth <= root.clientWidth) return [];
                const beyond = e => e.getBoundingClientRect().right > root.clientWidth + 0.5;
                return [...document.body.querySelectorAll('*')].filter(beyond).map(e => e.outerHTML.slice(0, 150));
            }"""
        )

    def broken_images(self) -> list[str]:
        """Images without pixels or without a text that stands for them."""
        return self.page.evaluate(
            """async () => {
                const broken = [];
                for (const image of document.images) {
                    image.loading = 'eager';
                    await image.decode().catch(() => {});
                    if (!image.naturalWidth || !image.hasAttribute('alt')) broken.push(image.outerHTML.slice(0, 150));
                }
                return broken;
            }"""
        )

    def dead_links(self) -> list[str]:
        """Links to files or places in files that are not there; addresses on the web are not asked for."""
        addresses = self.page.evaluate("[...document.querySelectorAll('a[href]')].map(link => link.href)")
        return [address for address in dict.fromkeys(addresses) if _dead(address)]

    def violations(self, axe: Any, *, context: Any = None, **options: Any) -> list[str]:
        """What axe calls a violation, in all of the page or a part of it; options as axe takes them."""
        options |= {"resultTypes": ["violations"], "preload": False}  # the style is inside the page
        found = axe.run(self.page, context=context, options=options).response["violations"]
        return [f"{rule['id']}: {node['html'][:150]}" for rule in found for node in rule["nodes"]]

    def unreached_by_tab(self) -> list[str]:
        """Links and what can be unfolded or scrolled that the Tab key does not reach, or reaches without a mark."""
        count = self.page.evaluate(
            """() => {
                const shown = e => e.checkVisibility() && e.getClientRects().length;
                const all = document.querySelectorAll('a[href], summary, button, input, [tabindex="0"]');
                window.unreached = new Set([...all].filter(shown));
                const scrolls = e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX == 'auto';
                for (const part of document.querySelectorAll('main *')) if (scrolls(part)) unreached.add(part);
                return unreached.size;
            }"""
        )
        for _ in range(count + 1):
            self.page.keyboard.press("Tab")
            self.page.evaluate(
                """() => {
                    const here = document.activeElement;
                    if (getComputedStyle(here).outlineStyle != 'none') unreached.delete(here);
                }"""
            )
        return self.page.evaluate("[...unreached].map(e => e.outerHTML.slice(0, 150))")

    def resize(self, width: int) -> None:
        """Give the window another width."""
        self.width = width
        self.page.set_viewport_size({"width": width, "height": HEIGHT})

    def close(self) -> None:
        """Close the window."""
        self.page.close()


def _dead(address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme != "file":
        return parts.scheme not in ("http", "https", "mailto")
    file = Path(unquote(parts.path))
    if not file.is_file():
        return True
    return bool(parts.fragment) and unquote(parts.fragment) not in _ids(file)


@cache
def _ids(file: Path) -> frozenset[str]:
    return frozenset(re.findall(r'\bid="([^"]*)"', file.read_text(encoding="utf-8")))
