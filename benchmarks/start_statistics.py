"""What do batch statistics alone change in the features of an encoder, before it has learned anything?

The encoder of the study of few labels starts from ImageNet weights. It is measured as the monitor of a pretext does:
with its own batch statistics, with those of the measured images, and after one pass over all scans in training mode,
which is what a training does to them before it learns.

    python benchmarks/start_statistics.py --busi Dataset_BUSI_with_GT --run runs/few_labels_pretexts

The run is one of benchmarks/few_labels.py, with its folder NAME_inputs beside it. Its finished pretexts are compared
with each of these starts on the same images: the share classified right by the nearest neighbours, and the p-value of
the exact test of McNemar.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from few_labels import ENCODER, STUDY, of_the_study
from measure import report, write
from sslmed.augment import views
from sslmed.models import UNetFeatures
from sslmed.studies import few_labels
from sslmed.studies.few_labels_networks import make_segmenter
from sslmed.studies.learned import compared
from sslmed.studies.monitor import ARRAYS, adapted, measure
from sslmed.studies.results import arrays

BATCH = 32  # as in the study's pretexts


def starts(encoder: nn.Module, sample: Any, scans: Tensor) -> dict[str, tuple[dict[str, float], Any]]:
    """The measurements of the encoder with each kind of statistics."""
    found = {"own": measure(encoder, sample)}
    with adapted(encoder, sample):
        found["of the measured images"] = measure(encoder, sample)
    size = scans.shape[-1]
    seen = {
        "after a pass over all scans": nn.Identity(),
        "after a pass over views of all scans": lambda x: views.simclr(size)(x)[0],
    }
    for name, change in seen.items():
        now = copy.deepcopy(encoder).train()
        torch.manual_seed(0)
        with torch.no_grad():
            for batch in scans.split(BATCH):
                now(change(batch))
        found[name] = measure(now, sample)
    return found


def main() -> None:
    """Measure the starts, compare the pretexts with them, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busi", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    own = parser.parse_args()
    torch.set_num_threads(1)
    _, data = of_the_study(own.run, own.busi, [0])
    scans, sample = data.pretext(0, few_labels.POOL), data.sample(0, 256)
    encoder = UNetFeatures(make_segmenter(STUDY, own.run.parent / f"{own.run.name}_inputs" / f"{ENCODER}.pt"))
    found = starts(encoder, sample, torch.stack([scans[i][0] for i in range(len(scans))]))
    content = report("cpu", 1, 1)
    content["starts"] = {name: values for name, (values, _) in found.items()}
    content["pretexts"] = {}
    for folder in sorted((own.run / "pretext").iterdir()):
        if (folder / "network.pt").is_file():
            end = arrays(folder / ARRAYS)["end_correct"]
            row: dict[str, Any] = {"knn_accuracy": float(end.mean())}
            row["p over the start"] = {name: compared(kept["correct"], end)[1] for name, (_, kept) in found.items()}
            content["pretexts"][folder.name] = row
    write("start_statistics", content)


if __name__ == "__main__":
    main()
