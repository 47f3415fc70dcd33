"""Pictures of test cases in the report: the predictions of all methods on the same cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import plots
from . import _report
from ._report import Block, Details, Figure, Finished, FinishedCell, Heading, Text

ACROSS = 5  # methods in a picture


def pictures(finished: Finished, case: str) -> list[Block]:
    """The same test cases for all methods and amounts of labels."""
    z = finished.pictures
    if not z:
        return []
    several = len(z["structures"]) > 1
    word = "fold" if "fold" in finished.trainings else "seed"
    return [
        Heading("Pictures of cases", "overlays"),
        Text(
            f"The same test {case}s for all methods and amounts of labels, of {word} {int(z['seed'])}"
            + (" and its first repeat" if "repeats" in finished.trainings else "")
            + ". They were drawn "
            "at random from the best 20 %, the middle 60 % and the worst 20 % of those with a reference outline, by "
            "the mean of Dice over all methods and amounts of labels"
            + ("; the middle shows a case of each class, from the middle 60 % of that class" if any(z["label"]) else "")
            + (
                ". One slice of each volume, Dice of the whole volume."
                if case == "volume"
                else ". IoU ranks them as Dice does for each method, since IoU = Dice / (2 \N{MINUS SIGN} Dice)."
            )
            + " White: the reference, the outline that came with the data. "
            + (
                "Each structure has a colour."
                if several
                else "Green, red and blue: what was predicted right, too much, and missed."
            )
        ),
        *_by_labels(finished, z, level=4),
    ]


def external_pictures(case: str, finished: Finished, test_set: str) -> list[Block]:
    """The same cases of an external test set for all methods and amounts of labels."""
    z = finished.pictures
    if not z:
        return []
    return [
        Heading(f"Pictures of cases, {test_set}", level=4),
        Text(
            f"The same {case}s of {test_set} for all methods and amounts of labels. They were drawn by the results on "
            "this set in the way that is described under \N{LEFT DOUBLE QUOTATION MARK}Pictures of cases"
            "\N{RIGHT DOUBLE QUOTATION MARK}, and have the same colours."
        ),
        *_by_labels(finished, z, level=5),
    ]


def _by_labels(finished: Finished, z: Mapping[str, Any], *, level: int) -> list[Block]:
    """The pictures with the fewest labels, and folded away those of other methods and amounts of labels."""
    found: list[Block] = []
    for labels in sorted(finished.groups):
        figures = _grids(finished, z, labels)
        title = finished.labels(labels)
        if labels == finished.fewest:
            found += [Heading(title, level=level), *figures[:1]]
            if figures[1:]:
                found.append(Details(f"The same cases by the other methods, {title}", figures[1:]))
        elif figures:
            found.append(Details(f"The same cases, {title}", figures))
    return found


def _grids(finished: Finished, z: Mapping[str, Any], labels: float) -> list[Figure]:
    """Pictures of the methods shown in full, then of the others, a few in each."""
    seed = int(z["seed"])
    cells = {
        method: own
        for method, cells in finished.groups[labels].items()
        if (own := next((cell for cell in cells if cell.seed == seed), None)) is not None
    }
    main = [method for method in finished.main if method in cells]
    others = [method for method in cells if method not in main]
    rows = -(-len(others) // ACROSS)
    parts = [main, *(list(part) for part in np.array_split(np.array(others, dtype=object), rows))] if rows else [main]
    drawn = [_drawn(finished, z, {method: cells[method] for method in part}, labels) for part in parts if part]
    return [figure for figure in drawn if figure is not None]


def _drawn(finished: Finished, z: Mapping[str, Any], cells: Mapping[str, FinishedCell], labels: float) -> Figure | None:
    ids = [str(name) for name in z["id"]]
    preds, scores = dict[str, list[Any]](), dict[str, list[str]]()
    for method, cell in cells.items():
        arrays = cell.arrays
        if not arrays:
            continue
        place = {str(name): k for k, name in enumerate(arrays["id"])}
        rows = {row["id"]: row for row in cell.rows}
        name = finished.display(method)
        preds[name] = [arrays["pred"][place[own]] if own in place else None for own in ids]
        scores[name] = [_score(rows.get(own, {})) for own in ids]
    if not preds:
        return None
    titles = [
        "\n".join(filter(None, (str(tier), str(label), own)))
        for own, tier, label in zip(ids, z["tier"], z["label"], strict=True)
    ]
    structures = [str(name).replace("_", " ") for name in z["structures"]]
    plot = plots.prediction_grid(z["image"], z["target"], preds, titles, scores=scores, structures=structures)
    each = "; ".join(
        f"{own} ({', '.join(filter(None, (str(tier), str(label))))}): "
        + ", ".join(f"{name} {texts[k]}" for name, texts in scores.items() if texts[k])
        for k, (own, tier, label) in enumerate(zip(ids, z["tier"], z["label"], strict=True))
    )
    alt = f"The same {len(ids)} test cases by {', '.join(preds)}, {finished.labels(labels)}. From top: {each}."
    return _report.figure(plot, alt, dpi=100, wide=True)


def _score(row: Mapping[str, str]) -> str:
    """Dice and IoU of a case, where they were measured."""
    values = (("Dice", row.get("dice")), ("IoU", row.get("jaccard")))
    return ", ".join(f"{name} {float(text):.2f}" for name, text in values if text)
