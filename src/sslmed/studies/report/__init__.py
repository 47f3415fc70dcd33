"""report.html: one page that a clinician can read, made from what lies in a run folder and nothing else."""

from __future__ import annotations

from pathlib import Path

from ..runs import write_text
from .environment import environment
from .page import context
from .pretraining import pretrained
from .run import Run

__all__ = ["write_report"]


def write_report(folder: Path) -> Path:
    """Render report.html in a run folder.

    The page is self-contained: style and pictures are inside it; it loads nothing and runs no script. Parts that
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
    templates = environment()
    templates.filters |= {"display": run.display, "share": run.share}
    name, shown = ("page", context) if run.config.get("kind") != "pretraining" else ("pretraining", pretrained)
    page = templates.get_template(f"{name}.html.j2").render(shown(run))
    path = folder / "report.html"
    write_text(path, page)
    return path
