"""What do mirror images in testing, and a choice on the validation part, bring in the study of few labels?

The trained networks of runs of benchmarks/few_labels.py are tested again, on images alone and as the mean of an image
and its mirror image, with the same decision. `chosen` is, of each draw of labels, the network with the higher Dice
on the validation part, tested in the same way.

    python benchmarks/few_labels_mirrored.py runs/few_labels_10 runs/few_labels_more --busi Dataset_BUSI_with_GT

Each run needs its folder NAME_inputs beside it, with the test images of BUS-BRA. What was tested is kept as
mirrored.json in the run, and not tested again; the results go to benchmarks/results/NAME.json (`--name`). Gains are
over the baseline that is tested in the same way; their intervals and the first p-value are of a t-test over draws, the
second one of a paired test over patients.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
import torch

from measure import over_draws, report, write
from sslmed.metrics import compare
from sslmed.models import ResUNet
from sslmed.studies import manifest
from sslmed.studies.encoders import make_unet
from sslmed.studies.image_set import ImageSet
from sslmed.studies.reading import read
from sslmed.studies.results import Result, results
from sslmed.studies.runs import read_json, write_json
from sslmed.studies.sources import Source
from sslmed.tasks.segmentation import Segmentation, dice_bce

METHODS = ("supervised", "lesions+teacher")
CHOICE = "chosen"
TESTED = ("BUSI", "BUS-BRA")
FIGURES = ("dice", "decided_dice", "decided_false_alarms")


def network_of(cell: Path, preset: Mapping[str, Any]) -> Callable[[int, Path | None], ResUNet]:
    """What a task builds its network with: that of a cell, or where a file is given that of its pretext."""

    def build(outputs: int, weights: Path | None) -> ResUNet:
        made = make_unet(preset["encoder"], width=preset["width"])
        made.load_state_dict(torch.load(weights or cell / "model.pt", weights_only=True))
        return made

    return build


def tested(
    cell: Result, preset: Mapping[str, Any], busi: ImageSet, bus_bra: ImageSet, split: Any, pretext: Path | None
) -> dict[str, Any]:
    """The results of one network: by `plain` or `mirrored` and by set, its means, and Dice by patient."""
    place = {name: i for i, name in enumerate(busi.ids)}
    val, test = ([place[name] for name in split[part]] for part in ("val", "test"))
    (labelled,) = ([place[name] for name in part] for n, part in split["labelled"].items() if float(n) == cell.labels)
    found: dict[str, Any] = {}
    for how in ("plain", "mirrored"):
        task = Segmentation(
            network=network_of(cell.folder, preset), loss=dice_bce, decides=True, mirrored=how == "mirrored"
        )
        learner = task.learner(busi, None)
        task.calibrate(learner, busi, val, labelled=labelled, weights=pretext)
        found[how] = {"validation": task.evaluate(learner, busi, val).summary["mean"]["dice"]}
        for name, cases, index in ((TESTED[0], busi, test), (TESTED[1], bus_bra, range(len(bus_bra.ids)))):
            evaluation = task.evaluate(learner, cases, index)
            rows = pd.DataFrame(evaluation.rows).astype({"dice": float})
            found[how][name] = {key: evaluation.summary["mean"].get(key) for key in FIGURES} | {
                "patients": rows.groupby("group")["dice"].mean().round(6).to_dict()
            }
    return found


def compared(own: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """Means of both over draws, the gain with its interval, and p-values."""
    mine, theirs = ([float(one[key]) for one in rows] for rows in (own, base))
    gains = [a - b for a, b in zip(mine, theirs, strict=True)]
    row: dict[str, Any] = {"draws": len(gains), "mean": fmean(mine), "sd": stdev(mine), "each": mine}
    if not any(gains):
        return row
    row |= over_draws(gains)
    if key == "dice":  # a patient's mean over the draws that tested both
        pairs = pd.concat(
            pd.DataFrame({"a": a["patients"], "b": b["patients"]}) for a, b in zip(own, base, strict=True)
        )
        means = pairs.groupby(level=0).mean()
        row["p_over_patients"] = compare.paired(*(means[n].to_numpy(np.float32) for n in ("a", "b"))).p_value
    return row


def table(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """By amount of labels, way of testing, set, figure and method."""
    found: dict[str, Any] = {}
    amounts = sorted({one["labels"] for one in networks.values()})
    for labels in amounts:
        own = {(one["method"], one["seed"]): one for one in networks.values() if one["labels"] == labels}
        seeds = [s for s in sorted({seed for _, seed in own}) if all((m, s) in own for m in METHODS)]
        for how in ("plain", "mirrored"):
            for seed in seeds:
                each = [own[m, seed] for m in METHODS]
                own[CHOICE, seed] = max(each, key=lambda one: one["tested"][how]["validation"])
            for name in TESTED:
                for key in FIGURES if name == TESTED[0] else FIGURES[:2]:
                    rows = {m: [own[m, seed]["tested"][how][name] for seed in seeds] for m in (*METHODS, CHOICE)}
                    place = found.setdefault(f"{labels:.0%}", {}).setdefault(how, {}).setdefault(name, {})
                    place[key] = {m: compared(each, rows[METHODS[0]], key) for m, each in rows.items()}
        # of the last way, with mirror images, as the program chooses
        chosen = [own[CHOICE, seed]["method"] for seed in seeds]
        found[f"{labels:.0%}"] |= {"seeds": seeds, "chosen": {m: chosen.count(m) for m in METHODS}}
    holm(found)
    return found


def holm(found: Mapping[str, Any]) -> None:
    """Add the p-values of Dice, mirrored, after Holm's correction over both sets, all amounts and both methods."""
    rows = [
        row
        for by in found.values()
        for sets in by["mirrored"].values()
        for row in sets["dice"].values()
        if "gain" in row
    ]
    for key in ("p_over_draws", "p_over_patients"):
        for row, p in zip(rows, compare.holm([row[key] for row in rows]).tolist(), strict=True):
            row[f"{key}_holm"] = p


def main() -> None:
    """Test the networks of some runs that were not tested yet, then tabulate all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--busi", type=Path, required=True)
    parser.add_argument("--name", default="few_labels_mirrored", help="of the file of results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    content, networks = report("cpu", 1, 1), dict[str, Any]()
    for run in args.runs:
        preset = json.loads((run / "config.json").read_text())["preset"]
        splits = json.loads((run / "splits.json").read_text())
        inputs = run.parent / f"{run.name}_inputs"
        busi, bus_bra = (
            read(Source(option, str(place)), size=preset["size"], cache=run / "cache")
            for option, place in (("--busi", args.busi), ("BUS-BRA", inputs / "bus_bra_test"))
        )
        entries = manifest.read(run).cells
        pretexts = {e.cell: run / e.pretext / "network.pt" if e.pretext else None for e in entries}
        file = run / "mirrored.json"
        own: dict[str, Any] = read_json(file) if file.exists() else {}
        for cell in results(run):
            if cell.method in METHODS and cell.folder.name not in own:
                own[cell.folder.name] = {
                    "method": cell.method,
                    "labels": cell.labels,
                    "seed": cell.seed,
                    "tested": tested(cell, preset, busi, bus_bra, splits[str(cell.seed)], pretexts[cell.cell]),
                }
                print(cell.folder.name, flush=True)
                write_json(file, own)
        networks |= own
    content["jobs"] = table(networks)
    write(args.name, content)
    for labels, by in content["jobs"].items():
        print(f"{labels} of the labels: chosen {by['chosen']}")
        for how in ("plain", "mirrored"):
            for name, figures in by[how].items():
                for key, methods in figures.items():
                    for method, row in methods.items():
                        gain = (
                            f"{row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}), p {row['p_over_draws']:.3f}"
                            if "gain" in row
                            else ""
                        )
                        print(f"  {how:9}{name:8} {key:21}{method:16} {row['mean']:.3f}, {row['sd']:.3f}  {gain}")


if __name__ == "__main__":
    main()
