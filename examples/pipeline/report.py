"""report.html: one page that a clinician can read, made from what lies in a run folder and nothing else."""

from __future__ import annotations

import datetime
import json
import string
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipeline import report_figures as figures
from pipeline import report_words as words
from pipeline.report_folder import Run, display
from pipeline.runs import write_bytes


def write_report(folder: Path) -> Path:
    """Render report.html in a run folder.

    The page stands alone: style and pictures are inside it; it loads nothing and runs no script. Parts the
    folder lacks are left out, or the page says that they are missing.

    Args:
        folder: a run folder; only its config.json must be there.

    Returns:
        Path of report.html, written whole or not at all.

    Raises:
        FileNotFoundError: the folder holds no config.json.
    """
    folder = Path(folder)
    run = Run.read(folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "display": display, "plain": plain, "moment": moment}
    page = environment.get_template("report.html.j2").render(context(run))
    path = folder / "report.html"
    write_bytes(path, page.encode())
    return path


def context(run: Run) -> dict[str, Any]:
    """All that the template shows."""
    leaks = run.leaks()
    fewest = min(run.groups, key=float, default=None)
    jigsaws, losses = words.methods_in(run)
    return {
        "run": run,
        "title": run.config.get("title") or "Run report",
        "seeds": len(run.config.get("seeds") or ()),
        "leaks": leaks,
        "leaking": [
            f"seed {row['seed']}: {count} in {name}"
            for row in leaks
            for name, count in row["shared"].items()
            if count and name != "pretext and val"
        ],
        "glance": [
            (name, text)
            for name, text in (
                ("Images", words.data(run)),
                ("Labelled cases", words.labelled(run)),
                ("Images without labels", words.unlabelled(run)),
                ("Tested on", words.tested(run)),
            )
            if text
        ],
        "findings": words.findings(run),
        "fewest": fewest,
        "misses": [
            (display(method), text)
            for method in run.main_methods
            if (text := words.misses(run.groups[fewest].get(method, [])))
        ]
        if fewest
        else [],
        "table": [(percent, rows) for percent, rows in _by(run.table, "labels_percent").items()],
        "letters": string.ascii_lowercase,
        "reasons": list(
            dict.fromkeys(row["why_not_comparable"] for row in run.table if row["why_not_comparable"])
        ),
        "best": {
            percent: max((float(row["dsc"]) for row in rows if row["dsc"]), default=None)
            for percent, rows in _by(run.table, "labels_percent").items()
        },
        "percents": list(run.groups),
        "strips": {percent: figures.strips(run, percent) for percent in run.groups},
        "counts": _counts(run),
        "classes": _classes(run, fewest),
        "overlays": _overlays(run, fewest),
        "pretext": figures.pretext(run),
        "tuning": {percent: figures.tuning(run, percent) for percent in run.groups},
        "filters": figures.filters(run),
        "jigsaws": figures.jigsaws(run),
        "plain_jigsaws": jigsaws,
        "plain_losses": losses,
        "metrics": words.METRICS,
        "arguments": _flat(run.config.get("arguments") or {}),
        "preset": _flat(run.config.get("preset") or {}),
        "duration": words.duration,
    }


def number(text: Any, digits: int = 3) -> Markup:
    """A number rounded for reading, with its exact text kept in the page; an empty one becomes a dash."""
    exact = "" if text is None else str(text)
    if not exact:
        return Markup('<span class="none">&ndash;</span>')
    try:
        shown = f"{float(exact):.{digits}f}" if len(exact.partition(".")[2]) > digits else exact
    except ValueError:
        shown = exact
    return Markup('<data value="{}">{}</data>').format(exact, shown)


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


def _by(rows: list[dict[str, str]], key: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def _counts(run: Run) -> list[dict[str, Any]]:
    """Empty masks by share of labels and method, added over the seeds."""
    found = []
    for percent, methods in run.groups.items():
        for method, cells in methods.items():
            counts = [cell.empty() for cell in cells if cell.cases]
            if counts:
                total = {key: sum(count[key] for count in counts) for key in counts[0]}
                found.append({"percent": percent, "method": method, "seeds": len(counts), **total})
    return found


def _classes(run: Run, percent: str | None) -> dict[str, Any] | None:
    """Median and quartiles of Dice by class, for the main methods at the fewest labels."""
    if percent is None:
        return None
    rows = []
    for method in run.main_methods:
        values: dict[str, list[float]] = {}
        for cell in run.groups[percent].get(method, []):
            for case in cell.cases:
                label = case["label"]
                name = f"class {label}" if label.isdigit() else label
                values.setdefault(name, []).append(float(case["dice"]))
        if set(values) - {""}:
            quartiles = {
                name: [len(v), *(f"{q:.3f}" for q in np.quantile(v, [0.5, 0.25, 0.75]))]
                for name, v in values.items()
            }
            rows.append({"method": method, "classes": quartiles})
    names = sorted({name for row in rows for name in row["classes"]})
    return {"names": names, "rows": rows} if rows else None


def _overlays(run: Run, percent: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if percent is None:
        return found
    for method in run.main_methods:
        for cell in run.groups[percent].get(method, [])[:1]:
            pictures = figures.overlays(cell)
            if pictures:
                found.append({"method": method, "seed": cell.seed, "pictures": pictures})
    return found


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as rows: {"finetune": {"epochs": 3}} -> ("finetune.epochs", 3)."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return rows
