"""The templates' environment, and how their numbers are printed."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def environment() -> jinja2.Environment:
    """Templates that escape their output and raise an error for undefined values."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "fixed": fixed,
        "exact": exact,
        "plain": plain,
        "moment": moment,
        "sentence": lambda text: text if text.endswith(".") else f"{text}.",
    }
    return found


def fixed(text: Any, digits: int = 3, *, sign: bool = False) -> Markup:
    """A number rounded to `digits` decimals, with its exact text in the page; an empty one becomes a dash."""
    if text is None or str(text) in {"", "nan"}:
        return exact("")
    try:
        shown = f"{float(text):{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")
    except ValueError:
        shown = str(text)
    return Markup('<data value="{}">{}</data>').format(text, shown)


def exact(text: Any) -> Markup:
    """A number as it was printed; an empty one becomes a dash."""
    if text is None or str(text) == "":
        return Markup('<span class="none">&ndash;</span>')
    return Markup('<data value="{}">{}</data>').format(text, str(text).replace("-", "\N{MINUS SIGN}"))


def moment(text: str) -> Markup:
    """An ISO time as a date to read; any other text as it is."""
    try:
        time = datetime.datetime.fromisoformat(text)
        shown = f"{time.day} {time:%B %Y, %H:%M %Z}".strip()
    except ValueError:
        shown = text
    return Markup('<time datetime="{}">{}</time>').format(text, shown)


def plain(value: Any) -> str:
    """A setting as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
