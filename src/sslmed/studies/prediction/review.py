"""What a reader checks first: a page of the most uncertain scans, and a list of those to outline next."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import read_mask, read_nifti
from ..report.review import card, write_page
from ..runs import write_csv
from .ensemble import Ensemble
from .label_next import choose_next
from .outlines import BATCH, batches
from .scan_files import ScanFile, as_square
from .table import Table

SHOWN = 200  # scans of the page
POOL = 500  # most uncertain scans from which those to outline next are chosen
NEXT = 20
REVIEW, LABEL_NEXT = "review.html", "label_next.csv"
_COLUMNS = ("rank", "file", "slice", "uncertainty", "disagreement", "confidence", "lesion")

Row = dict[str, str]


def write_review(
    out: Path, table: Table, files: Sequence[ScanFile], model: Ensemble, *, broken: Mapping[str, str]
) -> dict[str, Path]:
    """Write `review.html` and `label_next.csv`.

    Args:
        out: the folder of the masks.
        table: with a row for each frame of the files.
        files: in the folder now.
        model: the ensemble, on its device.
        broken: the reason for each file that was left out.

    Returns:
        Their paths by what they are.
    """
    known = {scan.name: scan for scan in files}
    rows = _first(table, known, SHOWN, each=max(1, SHOWN // len(files)), key=_unsure)

    def to_outline(row: Row) -> tuple[bool, float]:
        return _shown(row, model), _unsure(row)

    chosen = _chosen(_first(table, known, POOL, each=1, key=to_outline), known, model)
    ranks = {(row["file"], row["slice"]): k for k, row in enumerate(chosen, 1)}
    entries = [{"rank": rank} | {name: row[name] for name in _COLUMNS[1:]} for rank, row in enumerate(chosen, 1)]
    write_csv(out / LABEL_NEXT, entries, columns=_COLUMNS)
    counts = [0, 0]
    for name, found in table.groups():
        if name in known:
            counts[0] += len(found)
            counts[1] += sum(row["lesion"] == "yes" for row in found)
    cards = [
        card(row, known[row["file"]].frames, ranks.get((row["file"], row["slice"])), image[0], mask)
        for row, image, mask in _with_pixels(rows, known, out)
    ]
    cards.sort(key=lambda one: -float(one.row["uncertainty"]))
    page = write_page(
        out / REVIEW,
        cards,
        files=len(files),
        images=counts[0],
        lesions=counts[1],
        least_confidence=model.least_confidence,
        networks=len(model.networks),
        broken=broken,
    )
    return {"review": page, "to outline next": out / LABEL_NEXT}


def _first(
    table: Table, known: Mapping[str, ScanFile], count: int, *, each: int, key: Callable[[Row], Any]
) -> list[Row]:
    """The frames of the greatest keys, at most `each` of a file, the greatest first."""
    of_files = (heapq.nlargest(each, rows, key=key) for name, rows in table.groups() if name in known)
    return heapq.nlargest(count, chain.from_iterable(of_files), key=key)


def _unsure(row: Row) -> float:
    return float(row["uncertainty"])


def _shown(row: Row, model: Ensemble) -> bool:
    """Whether a scan is classified as showing a lesion: without one there is nothing to outline."""
    return float(row["confidence"]) >= model.least_confidence


def _chosen(rows: Sequence[Row], known: Mapping[str, ScanFile], model: Ensemble) -> list[Row]:
    """Those to outline next."""
    about, device = model.description, next(model.parameters()).device
    features = []
    for batch in batches(rows, BATCH):
        squares = [as_square(known[row["file"]].read()[_frame(row)], about.size, about.fit) for row in batch]
        with torch.inference_mode():
            features.append(model.features(torch.stack(squares).to(device)).cpu())
    shown = torch.tensor([_shown(row, model) for row in rows])
    found = choose_next(torch.cat(features), torch.tensor([_unsure(row) for row in rows]), NEXT, preferred=shown)
    return [rows[k] for k in found]


def _with_pixels(rows: Sequence[Row], known: Mapping[str, ScanFile], out: Path) -> Iterator[tuple[Row, Tensor, Tensor]]:
    """Each row with its frame (1, H, W) and the mask (H, W) that lies in the output folder; each file is read once."""
    of_files: dict[str, list[Row]] = {}
    for row in rows:
        of_files.setdefault(row["file"], []).append(row)
    for name, own in of_files.items():
        scan = known[name]
        frames = scan.read()
        volume = read_nifti(out / scan.masks[0]).values.flatten(0, 1) > 0 if scan.kind == "nifti" else None
        for row in own:
            k = _frame(row)
            yield row, frames[k], read_mask(out / scan.mask_of(k))[0] if volume is None else volume[k]


def _frame(row: Row) -> int:
    return int(row["slice"] or 0)
