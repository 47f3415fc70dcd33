"""The audit as one page of HTML with its pictures inside."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .names import readable

if TYPE_CHECKING:
    from .audit import Audit, Scan

_GROUPS = 60  # groups of duplicates with pictures; the rest are counted

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Audit</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733 }
:focus-visible { outline: 2px solid #0b5c8f; outline-offset: 2px } .scroll { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem } td, th { padding: .2rem .9rem; text-align: left }
tr { border-bottom: 1px solid #dde3ea } td.n { text-align: right; font-variant-numeric: tabular-nums }
.group { display: flex; flex-wrap: wrap; gap: .6rem; padding: .6rem; margin: .6rem 0; background: #f3f5f8 }
.across { background: #fdeaea } figure { margin: 0; width: 9rem } img { width: 9rem; image-rendering: auto }
figcaption { font-size: 12px; overflow-wrap: anywhere } .warn { color: #b3261e; font-weight: 600 }
</style><main>"""


def page(found: Audit) -> str:
    """Write the page."""
    return "\n".join(
        [
            _HEAD,
            f"<h1>{html.escape(readable(found.root.resolve().name))}</h1>",
            f"<p>{len(found.scans)} scans with {sum(scan.frames for scan in found.scans)} frames, "
            f"{len(found.masks)} masks, {len(found.broken)} unreadable files.</p>",
            *_classes(found),
            *_tiny(found),
            *_leaks(found),
            *_duplicates(found),
            *_broken(found),
            "</main></html>",
        ]
    )


def _classes(found: Audit) -> list[str]:
    rows = []
    for name, count in found.classes.items():
        sizes = {scan.size for scan in found.scans if scan.group == name}
        heights, widths = zip(*sizes, strict=True)
        extent = f"{min(heights)} to {max(heights)} x {min(widths)} to {max(widths)}"
        rows.append((html.escape(name or "(top folder)"), count, len(sizes), extent))
    told = "<p>A class is the folder that a scan lies in; where your folders are patients or dates, read it so.</p>"
    return ["<h2>Classes</h2>", told, *_table("Classes", ("class", "scans", "sizes", "height x width"), rows)]


def _tiny(found: Audit) -> list[str]:
    rows = [(size, len(names), html.escape(", ".join(names[:5]))) for size, names in found.tiny.items() if names]
    told = "<p>The readers keep one pixel of such a lesion; with a larger size it keeps its shape.</p>"
    return (
        ["<h2>Lesions smaller than a pixel</h2>", told, *_table("Lesions", ("size", "masks", "first"), rows)]
        if rows
        else []
    )


def _leaks(found: Audit) -> list[str]:
    if not found.leaks:
        return []
    rows = [
        (
            leak.feature,
            f"{leak.accuracy:.2f}",
            f"{leak.chance:.2f}",
            '<span class="warn">gives the class away</span>' if leak.marked else "",
        )
        for leak in found.leaks
    ]
    return [
        "<h2>What gives the class away</h2>",
        "<p>Balanced accuracy of guessing a scan's class from the scans nearest in one property alone. Resize all "
        "scans alike, and beware of a network that reads it off borders and bars.</p>",
        *_table("What gives the class away", ("property", "accuracy", "by chance", "remark"), rows),
    ]


def _duplicates(found: Audit) -> list[str]:
    lines = [f"<h2>Near duplicates: {len(found.duplicates)} groups</h2>"]
    if found.duplicates:
        lines.append("<p>Keep a group on one side of a split. Groups across classes are red.</p>")
    for group in found.duplicates[:_GROUPS]:
        across = " across" if len({scan.group for scan in group}) > 1 else ""
        lines.append(f'<div class="group{across}">{"".join(_figure(scan) for scan in group)}</div>')
    if len(found.duplicates) > _GROUPS:
        lines.append(f"<p>and {len(found.duplicates) - _GROUPS} more groups.</p>")
    return lines


def _broken(found: Audit) -> list[str]:
    rows = [(html.escape(name), html.escape(reason)) for name, reason in found.broken.items()]
    return ["<h2>Unreadable files</h2>", *_table("Unreadable files", ("file", "reason"), rows)] if rows else []


def _figure(scan: Scan) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((scan.thumbnail[0] * 255).round().byte().numpy()).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    name = html.escape(scan.name)
    return f'<figure><img alt="{name}" src="data:image/png;base64,{picture}"><figcaption>{name}</figcaption></figure>'


def _table(label: str, head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> list[str]:
    def cell(value: object) -> str:
        return f'<td class="n">{value}</td>' if isinstance(value, int) else f"<td>{value}</td>"

    lines = [f"<tr>{''.join(map(cell, row))}</tr>" for row in rows]
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">'
    return [box, "<table>", f"<tr>{names}</tr>", *lines, "</table></div>"]
