"""Put the tables of the study of few labels into its pages: python benchmarks/few_labels_tables.py.

They are made from benchmarks/results/few_labels_*.json; nothing is measured here. A test says whether they are current.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pages import put, table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README, EVIDENCE = ROOT / "README.md", ROOT / "docs" / "evidence.md"
SETS = ("BUSI", "BUS-BRA")
OUTLINES = {"10%": 37, "20%": 72}  # of 44 and 87 labelled images; the others show no lesion
ROWS = {"supervised": "baseline", "lesions+teacher": "recipe", "chosen": "**kept**"}
PARTS = {"supervised": "baseline", "lesions": "synthetic lesions alone", "teacher": "mean teacher alone"}
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


def tuning(found: Mapping[str, Any]) -> str:
    """Mean Dice of each training, in the epoch that each rule chooses, over the draws of all trainings."""
    rows = []
    for name in [name for name in found if not name.startswith("baseline, ")]:  # those are of `plateau`
        rules = found[name]
        first = f"{name}; {rules['draws']} draws"
        for rule in [rule for rule in rules if rule != "draws"]:
            values = (f"{rules[rule][key]:.3f}" for key in ("val_loss", "validation", *SETS))
            rows.append([first, rule, *values])
            first = ""
    words = "loss, validation", "Dice, validation", "Dice, other images of BUSI", "Dice, other scans of BUS-BRA"
    return table(["training", "epoch", *words], rows)


def plateau(jobs: Mapping[str, Any]) -> str:
    """Of the draws with baselines of all lengths, the means in the epoch of the lowest validation loss."""
    names = {"300": "baseline, 300 steps", "600": "baseline", "1200": "baseline, 1200 steps"}
    draws = [curves for curves in jobs.values() if all(name in curves for name in names.values())]
    rows = []
    for steps, name in names.items():
        best = [min(curves[name], key=lambda row: row["val_loss"]) for curves in draws]
        rows.append([steps, *(f"{fmean(row[key] for row in best):.3f}" for key in ("val_loss", "validation", *SETS))])
    words = "loss, validation", "Dice, validation", "Dice, other images of BUSI", "Dice, other scans of BUS-BRA"
    return table([f"steps of the baseline; {len(draws)} draws", *words], rows)


def starts(found: Mapping[str, Any]) -> str:
    """Mean Dice of the recipe after each start, and how far it is from the first one."""
    rows = []
    for name, one in found.items():
        line = [name]
        for key in ("validation", *SETS):
            line += [f"{one[key]['mean']:.3f}", gain(one[key]) if "gain" in one[key] else ""]
        rows.append(line)
    words = ("Dice, validation", "Dice, other images of BUSI", "Dice, other scans of BUS-BRA")
    return table(["synthetic lesions", *(part for word in words for part in (word, "difference"))], rows)


def readme(jobs: Mapping[str, Any]) -> str:
    """Baseline, recipe and the network that is kept, with few labels."""
    cases = [(name, labels) for name in SETS for labels in OUTLINES]
    found = [jobs[labels]["mirrored"][name]["dice"] for name, labels in cases]
    return table(
        ["Dice, mean over draws of the labels", *(f"{name}, {OUTLINES[labels]} outlines" for name, labels in cases)],
        [
            ["fine-tuning alone", *(f"{one['supervised']['mean']:.3f}" for one in found)],
            ["the recipe", *(f"{one['lesions+teacher']['mean']:.3f}" for one in found)],
            ["its gain, with its 95 % interval over draws", *(gain(one["lesions+teacher"]) for one in found)],
            ["the network that is kept", *(f"{one['chosen']['mean']:.3f}" for one in found)],
            ["its gain", *(gain(one["chosen"]) for one in found)],
        ],
    )


def over_baseline(runs: Sequence[Sequence[Mapping[str, Any]]], words: Mapping[str, str]) -> str:
    """Dice of the methods of some runs, and their gains over the baseline of the same run."""
    rows = []
    for draws in runs:
        found = {(row["method"], row["test_set"]): row for row in draws}
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


def presence(jobs: Mapping[str, Any]) -> str:
    """By amount of labels and set, what each network and decision does with images with and without a lesion."""
    rows = []
    for labels, found in jobs.items():
        for part in [part for part in found if part != "draws"]:
            first = f"{labels.replace('%', ' %')}; {part}"
            for name, one in found[part].items():
                if " - " not in name:
                    keys = ("auc", "decided_false_alarms", "decided_dice")
                    rows.append([first, name, *(f"{one[key]:.3f}" if key in one else "" for key in keys)])
                    first = ""
    return table(["outlines; images", "network", "AUC", "false alarms", "Dice with the decision"], rows)


def tables() -> dict[tuple[Path, str], str]:
    """By page and name of its place, each table."""

    def result(name: str) -> Any:
        return json.loads((RESULTS / f"few_labels_{name}.json").read_text())

    jobs = result("mirrored")["jobs"]
    found = {
        (README, "few labels"): readme(jobs),
        (EVIDENCE, "kept"): kept(jobs),
        (EVIDENCE, "tuning"): tuning(result("tuning")["summary"]),
        (EVIDENCE, "plateau"): plateau(result("tuning")["jobs"]),
        (EVIDENCE, "starts"): starts(result("starts")["summary"]),
        (EVIDENCE, "by loss"): kept(result("by_loss")["jobs"]),
        (EVIDENCE, "busi alone"): kept(result("busi_alone")["jobs"]),
        (EVIDENCE, "half"): kept(result("half")["jobs"]),
        (EVIDENCE, "pretext seeds"): over_baseline([result(f"seed_{seed}")["draws"] for seed in (1, 2)], ROWS),
        (EVIDENCE, "parts"): over_baseline([result("parts")["draws"]], PARTS),
        (EVIDENCE, "presence"): presence(json.loads((RESULTS / "presence.json").read_text())["jobs"]),
        (EVIDENCE, "pretexts"): over_baseline([result(name)["draws"] for name in ("contrast", "pretexts")], PRETEXTS),
    }
    return {place: text.rstrip() for place, text in found.items()}


def main() -> None:
    """Put them into the pages."""
    for (page, name), text in tables().items():
        put(page, name, text)


if __name__ == "__main__":
    main()
