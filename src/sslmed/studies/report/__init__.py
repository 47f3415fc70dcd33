"""report.html: one page that a clinician can read, made from what lies in a run folder and nothing else."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..runs import write_text
from .page import context
from .pretraining import pretrained
from .run import Run

__all__ = ["write_report"]


def write_report(folder: Path) -> Path:
    """Render report.html in a run folder.

    The page stands alone: style and pictures are inside it; it loads nothing and runs no script. Parts that
    the folder lacks are left out, or named as missing.

    Args:
        folder: a run folder; only its config.json must be there.

    Returns:
        Path of report.html, written atomically.

    Raises:
        FileNotFoundError: the folder holds no config.json.
        ValueError: an older version wrote the folder, or a file in it is damaged.
    """
    folder = Path(folder)
    run = Run.read(folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": fixed,
        "exact": exact,
        "display": run.display,
        "plain": plain,
        "moment": moment,
        "share": run.share,
        "sentence": lambda text: text if text.endswith(".") else f"{text}.",
    }
    name, shown = ("page", context) if run.config.get("kind") != "pretraining" else ("pretraining", pretrained)
    page = environment.get_template(f"{name}.html.j2").render(shown(run))
    path = folder / "report.html"
    write_text(path, page)
    return path


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
