"""Draw docs/images/few_labels.png from the results of the release: python docs/result.py, with matplotlib."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

DOCS = Path(__file__).parent
RESULTS = [DOCS.parent / "benchmarks" / "results" / f"few_labels_{name}.json" for name in ("repeat", "more")]
PICTURE = DOCS / "images" / "few_labels.png"
SETS = {"": "BUSI, test part", "BUS-BRA": "BUS-BRA, other scanners"}
RECIPE = "lesions+teacher"
COLOURS = {0.1: "#0072b2", 0.2: "#d55e00", 0.5: "#009e73", 1.0: "#7b4f9d"}


def gains(draws: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that have a gain, each with its differences from the baseline of the same draw of labels."""
    baseline = {(row["labels"], row["test_set"]): row["dice"] for row in draws if row["method"] == "supervised"}
    return [
        {**row, "each": [dice - baseline[row["labels"], row["test_set"]][k] for k, dice in row["dice"].items()]}
        for row in draws
        if row["method"] == RECIPE
    ]


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Gain of each test set and amount of labels: each draw, the mean, and its 95 % interval over draws."""
    figure = Figure(figsize=(7.2, 3.9), dpi=150, layout="constrained")
    axes = figure.subplots()
    rows = sorted(rows, key=lambda row: (list(SETS).index(row["test_set"]), row["labels"]), reverse=True)
    for y, row in enumerate(rows):
        colour = COLOURS[row["labels"]]
        axes.scatter(row["each"], [y - 0.2] * len(row["each"]), s=14, color=colour, alpha=0.45, linewidths=0)
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        axes.plot(row["gain"], y, "o", color=colour, markersize=7)
        axes.annotate(f"{row['gain']:+.3f}", (row["gain"], y), xytext=(0, 7), textcoords="offset points", ha="center")
    axes.axvline(0, color="0.4", linewidth=1)
    names = [f"{SETS[row['test_set']]}\n{row['labels']:.0%} of the outlines" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(-0.6, len(rows) - 0.3)
    axes.set_xlabel("gain in Dice over fine-tuning from ImageNet weights")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    return figure


def main() -> None:
    """Write the picture."""
    rows = [row for file in RESULTS for row in gains(json.loads(file.read_text())["draws"])]
    draw(rows).savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
