"""Evaluation of slice-wise segmentation by volume: each structure's Dice in three dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..tasks.metrics import metrics_of
from .inputs import ImageSet
from .runs import write_csv
from .segmentation import Segmentation, keep_cases, predict


def evaluate(module: Segmentation, data: ImageSet, index: list[int], folder: Path) -> dict[str, Any]:
    """Score the test volumes; write metrics.csv, and the largest slice of some volumes as cases.npz, into `folder`.

    A volume's Dice is the mean over its structures of the Dice of all its slices together, and its Hausdorff distance
    the mean over structures of the distance in voxels of the slices as the network saw them.

    Returns:
        Mean and SD over volumes, and the counts of volumes with an empty mask.
    """
    if data.label_maps is None:
        raise ValueError(f"{data.name} has no structures to evaluate against")
    volumes: dict[str, list[int]] = {}
    for i in index:
        volumes.setdefault(data.groups[i], []).append(i)
    pred = dict(zip(index, predict(module, data.images[index]), strict=True))
    rows, largest, values = [], [], dict[str, list[float]]()
    for name, slices in volumes.items():
        target = data.label_maps[slices, 0].long()
        found = torch.stack([pred[i] for i in slices])
        row: dict[str, float] = {}
        for m in metrics_of("volumes"):
            each = {
                # The channel says that it is a volume.
                structure: m((found == k)[None, None], (target == k)[None, None]).item()
                for k, structure in enumerate(data.structures, 1)
            }
            row[m.key] = float(np.mean(list(each.values())))
            if m.key == "dice":
                row |= {f"dice_{structure}": value for structure, value in each.items()}
        for key, value in row.items():
            values.setdefault(key, []).append(value)
        empty = {"target_empty": int(not (target > 0).any()), "pred_empty": int(not (found > 0).any())}
        values_of: dict[str, str | int] = {key: f"{v:.6g}" for key, v in row.items()}
        rows.append({"id": name, "group": name, **empty, **values_of})
        largest.append(slices[int((target > 0).flatten(1).sum(1).argmax())])
    write_csv(folder / "metrics.csv", rows, columns=list(rows[0]))
    structures = torch.stack([data.label_maps[i, 0] > 0 for i in largest])
    found = torch.stack([pred[i] > 0 for i in largest])
    dice = np.array(values["dice"])
    keep_cases(
        folder / "cases.npz", data.images[largest], structures, found, dice, [data.ids[i] for i in largest]
    )
    both = [(row["target_empty"], row["pred_empty"]) for row in rows]
    return {
        "mean": {key: float(np.mean(v)) for key, v in values.items()},
        "sd": {key: float(np.std(v, ddof=1)) if len(v) > 1 else None for key, v in values.items()},
        "cases": len(rows),
        "empty": {
            "target": sum(t for t, _ in both),
            "pred": sum(p for _, p in both),
            "both": sum(t and p for t, p in both),
        },
    }
