"""Which network of a few-labels training to keep, and how long the teacher trains: measured without any test image.

On draws of 10 % of BUSI's training outlines that the study does not use, the baseline, the fine-tuning of the recipe
and its mean teacher are trained. After each epoch Dice is measured on the validation images, by which a user would have
to choose, and on two sets that a user does not have: training images of BUSI whose outlines the draw left out (every
second one), and scans of BUS-BRA of the pool (every fourth one).

    python benchmarks/few_labels_tuning.py --busi Dataset_BUSI_with_GT --lesions runs/few_labels_lesions \
        --draws 20 21 22 23 24 25 --out runs/few_labels_tuning

`--lesions` is a run of benchmarks/few_labels.py with `--methods lesions`, with its folder NAME_inputs beside it. Rerun
the same command to resume. The result is benchmarks/results/few_labels_tuning.json: of each draw and training its
curves; and the mean over draws of each rule to choose an epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

import depthwise
from few_labels import STUDY, of_the_study
from measure import report, write
from sslmed.metrics import dice
from sslmed.studies import few_labels
from sslmed.studies.engine import Fit, fit, weights_of
from sslmed.studies.few_labels_networks import make_teacher
from sslmed.studies.image_set import ImageSet
from sslmed.studies.runs import read_csv
from sslmed.studies.seeding import derived_seed
from sslmed.studies.study import Study
from sslmed.studies.study_data import StudyData
from sslmed.tasks import Segmentation
from sslmed.tasks.base import BATCH

LABELS = 0.1
TEACHERS = {"teacher, 150 steps": 6, "teacher, 300 steps": 12}  # epochs of 25 steps
BASELINES = {"baseline, 300 steps": 12, "baseline, 1200 steps": 48}  # of the first two draws; that of all has 600 steps
COLUMNS = ("val_loss", "validation", "BUSI", "BUS-BRA")
RULES: dict[str, Callable[[list[dict[str, float]]], dict[str, float]]] = {
    "lowest validation loss": lambda rows: min(rows, key=lambda row: row["val_loss"]),
    "highest validation Dice": lambda rows: max(rows, key=lambda row: row["validation"]),
    "last epoch": lambda rows: rows[-1],
}
Part = tuple[Tensor, Tensor]


def part(images: ImageSet, index: Iterable[int]) -> Part:
    """Images with a lesion, and their masks."""
    chosen = [i for i in index if images.outlined[i]]
    return images.images(chosen), images.masks(chosen)[:, 0]


def mean_dice(network: nn.Module, images: Tensor, masks: Tensor) -> float:
    with torch.no_grad():
        logits = [network(some.contiguous(memory_format=torch.channels_last))[:, 0] for some in images.split(BATCH)]
    return float(dice(torch.cat(logits) > 0, masks).double().mean())


def watched(module: Any, network: Callable[[], nn.Module], parts: Mapping[str, Part]) -> Any:
    """The module, whose validation also measures its network on some parts."""
    validate = module.validate

    def also(batches: Any) -> dict[str, float]:
        return validate(batches) | {name: mean_dice(network(), *one) for name, one in parts.items()}

    module.validate = also
    return module


class Draw:
    """One draw of labels, and its trainings."""

    def __init__(self, data: StudyData, task: Segmentation, seed: int, lesions: Path, folder: Path) -> None:
        self.data, self.task, self.seed, self.lesions, self.folder = data, task, seed, lesions, folder
        images, split = data.data, data.splits[seed]
        labelled = split.labelled[LABELS]
        others = [i for i in split.train if i not in set(labelled) and images.outlined[i]]
        pool = data.pools["scans"]
        self.parts = {
            "validation": part(images, split.val),
            "BUSI": part(images, others[::2]),
            "BUS-BRA": part(pool, range(0, len(pool), 4)),
        }
        self.pairs, self.val = task.pairs(images, labelled), task.pairs(images, split.val)

    def fine_tuned(self, name: str, settings: Fit, weights: Path | None) -> Any:
        """A learner with the best weights of a fine-tuning by its validation loss, as in the study."""
        torch.manual_seed(derived_seed(self.seed, f"{self.task.network_seed} model"))
        learner = self.task.learner(self.data.data, weights)
        watched(learner, lambda: learner.model, self.parts)
        place = {"folder": self.folder / name, "seed": self.seed, "title": f"{name}, draw {self.seed}"}
        best = fit(learner, self.pairs, settings, optimiser=STUDY.tuning, val=self.val, **place)
        learner.load_state_dict(weights_of(best))
        return learner

    def teach(self, name: str, epochs: int, learner: Any) -> None:
        """Train on with a mean teacher."""
        preset = dataclasses.replace(STUDY, teacher=dataclasses.replace(STUDY.teacher, epochs=epochs))
        images, masks = (torch.stack(one) for one in zip(*(self.pairs[i] for i in range(len(self.pairs))), strict=True))
        method = make_teacher(preset, learner.model, images, masks)
        watched(method, lambda: method.trained, self.parts)
        fit(
            method,
            self.data.pretext(self.seed, few_labels.POOL),
            preset.teacher,
            optimiser=dataclasses.replace(STUDY.tuning, lr=STUDY.teacher_lr),
            folder=self.folder / name,
            seed=derived_seed(self.seed, "refinement"),
            title=f"{name}, draw {self.seed}",
            val=self.val,
        )

    def run(self, baselines: Mapping[str, int]) -> None:
        """Do the trainings that are missing, with baselines of other lengths."""
        for name, epochs in baselines.items():
            if not self.curve(name, epochs):
                self.fine_tuned(name, dataclasses.replace(STUDY.baseline, epochs=epochs), None)
        if not self.curve("baseline", STUDY.baseline.epochs):
            self.fine_tuned("baseline", STUDY.baseline, None)
        for name, epochs in TEACHERS.items():
            if not self.curve(name, epochs):
                self.teach(name, epochs, self.fine_tuned("fine-tuning", STUDY.finetune, self.lesions))

    def curve(self, name: str, epochs: int) -> list[dict[str, float]]:
        """The rows of a finished training; none of another."""
        file = self.folder / name / "curves.csv"
        rows = read_csv(file) if file.is_file() else []
        return [{key: float(row[key]) for key in COLUMNS} for row in rows] if len(rows) == epochs else []

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Those of all trainings that are finished."""
        epochs = {"baseline": STUDY.baseline.epochs, "fine-tuning": STUDY.finetune.epochs, **TEACHERS, **BASELINES}
        return {name: rows for name, count in epochs.items() if (rows := self.curve(name, count))}


def summary(draws: Mapping[str, Mapping[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """By training and rule, the mean over draws of Dice in the epoch that the rule chooses."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for curves in draws.values() for name in curves):
        own = [curves[name] for curves in draws.values() if name in curves]
        found[name] = {"draws": len(own)}
        for rule, choose in RULES.items():
            rows = [choose(rows) for rows in own]
            found[name][rule] = {key: fmean(row[key] for row in rows) for key in COLUMNS}
    return found


def prepared(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Study, StudyData, Segmentation]:
    """The arguments, which always name BUSI, a run of lesions, draws and a folder; and the study with its images."""
    parser.add_argument("--busi", type=Path, required=True)
    parser.add_argument("--lesions", type=Path, required=True)
    parser.add_argument("--draws", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    own = parser.parse_args()
    torch.set_num_threads(1)
    depthwise.install()
    study, data = of_the_study(own.lesions, own.busi, own.draws)
    (task,) = study.tasks
    assert isinstance(task, Segmentation)
    return own, study, data, task


def main() -> None:
    """Train what is missing, and write the curves."""
    own, _, data, task = prepared(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    lesions = own.lesions / "pretext" / "lesions-s0" / "network.pt"
    draws = {seed: Draw(data, task, seed, lesions, own.out / f"draw {seed}") for seed in own.draws}
    content = report("cpu", 1, 1)
    for k, draw in enumerate(draws.values()):
        draw.run(BASELINES if k < 2 else {})
        content["jobs"] = {str(seed): one.curves() for seed, one in draws.items()}
        content["summary"] = summary(content["jobs"])
        write("few_labels_tuning", content)


if __name__ == "__main__":
    main()
