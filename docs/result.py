"""Draw docs/images/few_labels.png from the study of few labels: python docs/result.py, with matplotlib."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results" / "few_labels_mirrored.json"
PICTURE = DOCS / "images" / "few_labels.png"
SETS = {"BUSI": "BUSI, test part", "BUS-BRA": "BUS-BRA, other scanners"}
FEWEST = 4  # draws, for an interval that says something
COLOURS = {"10%": "#0072b2", "20%": "#d55e00", "50%": "#009e73", "100%": "#7b4f9d"}


def gains(jobs: dict[str, Any]) -> list[dict[str, Any]]:
    """The networks that were chosen, with their differences from the baseline of the same draw of labels."""
    rows = []
    for labels, tested in jobs.items():
        for name in SETS:
            of_set = tested["mirrored"][name]["dice"]
            chosen, baseline = of_set["chosen"], of_set["supervised"]
            if chosen["draws"] < FEWEST:
                continue
            each = [a - b for a, b in zip(chosen["each"], baseline["each"], strict=True)]
            rows.append({**chosen, "labels": labels, "test_set": name, "each": each})
    return rows


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Gain of each test set and amount of labels: each draw, the mean, and its 95 % interval over draws."""
    figure = Figure(figsize=(7.2, 3.9), dpi=150, layout="constrained")
    axes = figure.subplots()
    order = [list(SETS), list(COLOURS)]
    rows = sorted(rows, key=lambda r: (order[0].index(r["test_set"]), order[1].index(r["labels"])), reverse=True)
    for y, row in enumerate(rows):
        colour = COLOURS[row["labels"]]
        axes.scatter(row["each"], [y - 0.2] * len(row["each"]), s=14, color=colour, alpha=0.45, linewidths=0)
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        axes.plot(row["gain"], y, "o", color=colour, markersize=7)
        axes.annotate(f"{row['gain']:+.3f}", (row["gain"], y), xytext=(0, 7), textcoords="offset points", ha="center")
    axes.axvline(0, color="0.4", linewidth=1)
    names = [f"{SETS[row['test_set']]}\n{row['labels'].replace('%', ' %')} of the outlines" for row in rows]
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
    draw(gains(json.loads(RESULTS.read_text())["jobs"])).savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
