"""Is there a lesion? The confidence of the outline alone, against that together with the encoder before fine-tuning.

The trained networks of runs of benchmarks/few_labels.py are tested again with both decisions; the baseline started from
no pretext, so it has the first one only. Beside the test images of BUSI and BUS-BRA, by which nothing was chosen, there
are images that no network has seen with an outline: the training images of BUSI whose outlines the draw left out, and
every fourth scan of BUS-BRA in the pool. The decision was chosen by these.

    python benchmarks/presence.py runs/few_labels_10 runs/few_labels_more --busi Dataset_BUSI_with_GT

Each run needs its folder NAME_inputs beside it. benchmarks/results/presence.json holds, by amount of labels, network
and decision, the means over draws: Dice, Dice with the decision, false alarms with the decision, and the area under the
ROC curve of the confidence; and of the recipe the differences from the baseline and from its own first decision, with
their intervals over draws.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from few_labels_mirrored import network_of
from measure import over_draws, report, write
from sslmed.metrics import roc_auc
from sslmed.studies import manifest
from sslmed.studies.image_set import ImageSet
from sslmed.studies.reading import read
from sslmed.studies.runs import read_json, write_json
from sslmed.studies.sources import Source
from sslmed.tasks.decision import confidence
from sslmed.tasks.segmentation import Segmentation, Segmenter, dice_bce

DONE = "presence.json"  # in a run: what was tested, which is not tested again
LABELS = (0.1, 0.2)
BASELINE, RECIPE = "supervised", "lesions+teacher"
ALONE, TOGETHER = "outline alone", "outline and encoder"
MEASURES = ("dice", "decided_dice", "decided_false_alarms", "auc")
Parts = Mapping[str, tuple[ImageSet, Sequence[int]]]


def confidences(learner: Segmenter, images: ImageSet, index: Sequence[int]) -> Tensor:
    """The confidence (N,) that each image shows a lesion."""
    found = []
    with torch.inference_mode():
        for k in range(0, len(index), 32):
            some = images.images(index[k : k + 32])
            own = confidence(learner.predict_logits(some))
            found.append(own if learner.presence is None else learner.presence(some, own))
    return torch.cat(found)


def measured(task: Segmentation, learner: Segmenter, parts: Parts) -> dict[str, dict[str, float]]:
    """By part, what the decision of a calibrated network does there."""
    found = {}
    for name, (images, index) in parts.items():
        mean = task.evaluate(learner, images, index).summary["mean"]
        found[name] = {key: mean[key] for key in MEASURES if key in mean}
        lesion = torch.tensor([bool(images.outlined[i]) for i in index])
        if not lesion.all():
            found[name]["auc"] = float(roc_auc(confidences(learner, images, index), lesion.long()))
    return found


class Sets:
    """The images of a run."""

    def __init__(self, run: Path, busi: Path) -> None:
        size = json.loads((run / "config.json").read_text())["preset"]["size"]
        inputs = run.parent / f"{run.name}_inputs"
        self.busi, self.pool, self.other = (
            read(Source(option, str(place)), size=size, cache=run / "cache")
            for option, place in (
                ("--busi", busi),
                ("BUS-BRA", inputs / "bus_bra_pool"),
                ("BUS-BRA", inputs / "bus_bra_test"),
            )
        )
        self.place = {name: i for i, name in enumerate(self.busi.ids)}

    def index(self, names: Sequence[str]) -> list[int]:
        """Positions of images of BUSI."""
        return [self.place[name] for name in names]


def tested(run: Path, entry: manifest.CellEntry, sets: Sets) -> dict[str, Any]:
    """The measures of one network, by decision."""
    preset = json.loads((run / "config.json").read_text())["preset"]
    split = json.loads((run / "splits.json").read_text())[str(entry.cell.seed)]
    (own,) = (part for share, part in split["labelled"].items() if float(share) == entry.cell.labels)
    labelled, val = sets.index(own), sets.index(split["val"])
    task = Segmentation(network=network_of(run / entry.folder, preset), loss=dice_bce, decides=True, mirrored=True)
    learner = task.learner(sets.busi, None).eval()
    assert isinstance(learner, Segmenter)
    parts = {
        "BUSI, left out": (sets.busi, sorted(set(sets.index(split["train"])) - set(labelled))),
        "BUS-BRA, pool": (sets.pool, range(0, len(sets.pool), 4)),
        "BUSI, test": (sets.busi, sets.index(split["test"])),
        "BUS-BRA, test": (sets.other, range(len(sets.other))),
    }
    found = {}
    for decision, pretext in ((ALONE, None), (TOGETHER, entry.pretext)):
        if decision == ALONE or pretext is not None:
            weights = None if pretext is None else run / pretext / "network.pt"
            task.calibrate(learner, sets.busi, val, labelled=labelled, weights=weights)
            found[decision] = measured(task, learner, parts)
    return found


def table(networks: Mapping[tuple[str, float, int], Mapping[str, Any]]) -> dict[str, Any]:
    """Means over draws by amount, part and network with decision, and the differences of the recipe."""
    jobs: dict[str, Any] = {}
    for labels in LABELS:
        seeds = sorted({seed for _, share, seed in networks if share == labels})
        if not seeds:
            continue
        found = jobs[f"{labels:.0%}"] = {"draws": len(seeds)}
        rows = {
            "baseline": [networks[BASELINE, labels, seed][ALONE] for seed in seeds],
            "recipe, outline alone": [networks[RECIPE, labels, seed][ALONE] for seed in seeds],
            "recipe": [networks[RECIPE, labels, seed][TOGETHER] for seed in seeds],
        }
        for part in rows["recipe"][0]:
            keys = rows["recipe"][0][part].keys()
            found[part] = {
                name: {key: fmean(row[part][key] for row in own) for key in keys} for name, own in rows.items()
            }
            for other in ("baseline", "recipe, outline alone"):
                found[part][f"recipe - {other}"] = {
                    key: over_draws(gains)
                    for key in keys
                    if any(
                        gains := [a[part][key] - b[part][key] for a, b in zip(rows["recipe"], rows[other], strict=True)]
                    )
                }
    return jobs


def main() -> None:
    """Test the networks that were not tested yet, then tabulate all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--busi", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    networks: dict[tuple[str, float, int], Any] = {}
    for run in args.runs:
        sets = Sets(run, args.busi)
        done = read_json(run / DONE) if (run / DONE).exists() else {}
        for entry in manifest.read(run).cells:
            cell = entry.cell
            if (
                cell.method not in (BASELINE, RECIPE)
                or cell.labels not in LABELS
                or not (run / entry.folder / "result.json").exists()
            ):
                continue
            if cell.name not in done:
                done[cell.name] = tested(run, entry, sets)
                write_json(run / DONE, done)
                print(cell.name, flush=True)
            networks[cell.method, float(cell.labels), cell.seed] = done[cell.name]
    content = report("cpu", 1, 1)
    content["jobs"] = table(networks)
    write("presence", content)


if __name__ == "__main__":
    main()
