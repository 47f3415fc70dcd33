"""How well does a network's confidence tell images with a lesion from those without, and what does the decision cost?

The trained networks of a run of benchmarks/few_labels.py are tested again on the validation and test part of BUSI, with
several measures of confidence. The threshold of each is chosen on the validation part, as in a few-labels run.

    python benchmarks/decision.py runs/few_labels_study --busi Dataset_BUSI_with_GT

benchmarks/results/decision.json holds, for each measure, the area under the ROC curve on both parts, and Dice and false
alarms on the test part with the decision. To choose a measure, look at the validation part only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from measure import report, write
from sslmed.metrics import dice, roc_auc
from sslmed.studies import manifest
from sslmed.studies.encoders import make_unet
from sslmed.studies.image_set import ImageSet
from sslmed.studies.reading import read
from sslmed.studies.sources import Source
from sslmed.tasks.decision import confidence, least_confidence


def highest(share: float) -> Callable[[Tensor], Tensor]:
    """The mean of the highest probabilities, of a share of the pixels."""

    def score(logits: Tensor) -> Tensor:
        probability = logits.sigmoid().flatten(1)
        return probability.topk(max(1, int(share * probability.shape[1])), dim=1).values.mean(1)

    return score


def weighted(logits: Tensor) -> Tensor:
    """The mean probability, each pixel weighted by its own."""
    probability = logits.sigmoid().flatten(1)
    return probability.square().sum(1) / probability.sum(1)


def area(logits: Tensor) -> Tensor:
    """The share of an image that is outlined."""
    return (logits > 0).flatten(1).float().mean(1)


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over the outline": confidence,
    "mean weighted by itself": weighted,
    "highest 0.3 %": highest(0.003),
    "highest 1 %": highest(0.01),
    "highest 3 %": highest(0.03),
    "area": area,
}


def measured(network: torch.nn.Module, data: ImageSet, val: list[int], test: list[int]) -> dict[str, Any]:
    """Dice and false alarms of a network, without the decision and with each measure's."""
    logits, scores, lesion = {}, {}, {}
    with torch.inference_mode():
        for part, index in (("val", val), ("test", test)):
            found = [network(data.images(index[k : k + 32])).float() for k in range(0, len(index), 32)]
            logits[part] = torch.cat(found)
            scores[part] = dice(logits[part][:, 0] > 0, data.masks(index)[:, 0]).double()
            lesion[part] = torch.tensor([data.outlined[i] for i in index])
    alarms = (logits["test"] > 0).flatten(1).any(1)
    shown = lesion["test"]
    row: dict[str, Any] = {
        "dice": float(scores["test"][shown].mean()),
        "false_alarms": float(alarms[~shown].double().mean()),
        "measures": {},
    }
    for name, measure in MEASURES.items():
        sure = {part: measure(found) for part, found in logits.items()}
        least = least_confidence(sure["val"], scores["val"], lesion["val"])
        kept = sure["test"] >= least
        row["measures"][name] = {
            **{f"auc_{part}": float(roc_auc(sure[part], lesion[part].long())) for part in sure},
            "decided_dice": float((scores["test"] * kept)[shown].mean()),
            "decided_false_alarms": float((alarms & kept)[~shown].double().mean()),
        }
    return row


def means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The same numbers, averaged over networks."""
    return {
        key: means([row[key] for row in rows]) if isinstance(value, dict) else fmean(row[key] for row in rows)
        for key, value in rows[0].items()
    }


def main() -> None:
    """Test all networks of a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--busi", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    preset = json.loads((args.run / "config.json").read_text())["preset"]
    splits = json.loads((args.run / "splits.json").read_text())
    data = read(Source("--busi", str(args.busi)), size=preset["size"], cache=args.run / "cache")
    place = {name: i for i, name in enumerate(data.ids)}
    content, found = report("cpu", 1, 1), dict[str, list[dict[str, Any]]]()
    for entry in manifest.read(args.run).cells:
        file = args.run / entry.folder / "model.pt"
        if file.exists():
            network = make_unet(preset["encoder"], width=preset["width"]).eval()
            network.load_state_dict(torch.load(file, weights_only=True))
            parts = ([place[name] for name in splits[str(entry.cell.seed)][part]] for part in ("val", "test"))
            row = measured(network, data, *parts)
            found.setdefault(f"{entry.cell.method}, {entry.cell.labels:.0%}", []).append(row)
            print(entry.cell.name, flush=True)
    content["jobs"] = {name: {"networks": len(rows), **means(rows), "each": rows} for name, rows in found.items()}
    write("decision", content)


if __name__ == "__main__":
    main()
