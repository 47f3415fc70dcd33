"""Put the tables of the study of few labels into its pages: python benchmarks/few_labels_tables.py.

They are made from benchmarks/results/few_labels_*.json; nothing is measured here. A test says whether they are current.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from measure import over_draws
from pages import put, table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README, EVIDENCE = ROOT / "README.md", ROOT / "docs" / "evidence.md"
SETS = ("BUSI", "BUS-BRA")
OUTLINES = {"10%": 44, "20%": 87}
FRESH = 8  # the first draw that was made when the recipe, the choice and the mirror images stood
ROWS = {"supervised": "baseline", "lesions+teacher": "recipe", "chosen": "**kept**"}
PRETEXTS = {
    "supervised": "baseline",
    "simclr": "SimCLR",
    "byol": "BYOL",
    "pirl": "PIRL",
    "relation": "relation contrast",
    "masked": "masked patches",
}


def gain(row: Mapping[str, float]) -> str:
    """A gain with its interval."""
    return f"{row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def chance(p: float) -> str:
    """A p-value with two digits."""
    return f"{p:.0e}".replace("e-0", "e-") if p < 0.001 else f"{p:.3f}" if p < 0.05 else f"{p:.2f}"


def kept(jobs: Mapping[str, Any]) -> str:
    """Dice of baseline, recipe and the network that is kept, by amount of labels and test set."""
    head = ["outlines; draws", ""]
    for name in SETS:
        head += [f"Dice on {name}", "gain (95 % interval over draws)", "p over draws; over patients, after Holm"]
    rows = []
    for labels, found in jobs.items():
        first = f"{labels.replace('%', ' %')}; {len(found['seeds'])}"
        for method, words in ROWS.items():
            line = [first, words]
            for name in SETS:
                row = found["mirrored"][name]["dice"][method]
                line.append(f"{row['mean']:.3f}, {row['sd']:.3f}")
                known = "gain" in row
                line.append(gain(row) if known else "")
                both = (chance(row[key]) for key in ("p_over_draws", "p_over_patients_holm") if known)
                line.append("; ".join(both))
            rows.append(line)
            first = ""
    return table(head, rows)


def fresh(jobs: Mapping[str, Any]) -> str:
    """Kept network and baseline with 10 % of the outlines, in the draws before `FRESH` and from it on."""
    rows = []
    for name in SETS:
        of_set = jobs["10%"]["mirrored"][name]["dice"]
        for words, last in (("the first", False), ("the last", True)):
            places = [k for k, seed in enumerate(jobs["10%"]["seeds"]) if (seed >= FRESH) == last]
            own, base = ([of_set[m]["each"][k] for k in places] for m in ("chosen", "supervised"))
            row = over_draws([a - b for a, b in zip(own, base, strict=True)])
            mean = f"{fmean(base):.3f}", f"{fmean(own):.3f}"
            rows.append([name, f"{words} {len(places)}", *mean, gain(row), chance(row["p_over_draws"])])
    return table(["test set", "draws", "baseline", "kept", "gain (95 % interval)", "p over draws"], rows)


def readme(jobs: Mapping[str, Any]) -> str:
    """Baseline and the network that is kept, with few labels."""
    cases = [(name, labels) for name in SETS for labels in OUTLINES]
    found = [jobs[labels]["mirrored"][name]["dice"] for name, labels in cases]
    return table(
        ["Dice, mean over draws of the labels", *(f"{name}, {OUTLINES[labels]} outlines" for name, labels in cases)],
        [
            ["fine-tuning alone", *(f"{one['supervised']['mean']:.3f}" for one in found)],
            ["the network that is kept", *(f"{one['chosen']['mean']:.3f}" for one in found)],
            ["gain, with its 95 % interval over draws", *(gain(one["chosen"]) for one in found)],
        ],
    )


def over_baseline(draws: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> str:
    """Dice of the methods of a run, and their gains over its baseline."""
    found = {(row["method"], row["test_set"]): row for row in draws}
    rows = []
    for method in [method for method in words if (method, "") in found]:
        line = [words[method]]
        for name in ("", "BUS-BRA"):
            row = found[method, name]
            line.append(f"{fmean(row['dice'].values()):.3f}")
            line.append(f"{gain(row)}, p = {chance(row['p_over_draws'])}" if "gain" in row else "")
        rows.append(line)
    return table(
        ["", *(part for name in SETS for part in (f"Dice on {name}", "gain (95 % interval over draws)"))], rows
    )


def tables() -> dict[tuple[Path, str], str]:
    """By page and name of its place, each table."""
    jobs = json.loads((RESULTS / "few_labels_mirrored.json").read_text())["jobs"]
    alone, contrast = (
        json.loads((RESULTS / f"few_labels_{name}.json").read_text())["draws"] for name in ("busi_alone", "contrast")
    )
    found = {
        (README, "few labels"): readme(jobs),
        (EVIDENCE, "kept"): kept(jobs),
        (EVIDENCE, "fresh"): fresh(jobs),
        (EVIDENCE, "busi alone"): over_baseline(alone, ROWS),
        (EVIDENCE, "pretexts"): over_baseline(contrast, PRETEXTS),
    }
    return {place: text.rstrip() for place, text in found.items()}


def main() -> None:
    """Put them into the pages."""
    for (page, name), text in tables().items():
        put(page, name, text)


if __name__ == "__main__":
    main()
