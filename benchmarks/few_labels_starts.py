"""Does the recipe gain from a longer pretext, or from PIRL before it? Measured without any test image.

The synthetic lesions train for 52 epochs instead of 26, or from an encoder that PIRL has trained. With each, the recipe
is fine-tuned and taught on the draws of labels of benchmarks/few_labels_tuning.py, and measured on the same parts.

    python benchmarks/few_labels_starts.py --busi Dataset_BUSI_with_GT --lesions runs/few_labels_lesions \
        --pirl runs/few_labels_pirl --draws 20 21 22 23 24 25 --out runs/few_labels_starts

`--lesions` and `--pirl` are runs of benchmarks/few_labels.py with `--methods lesions` and `--methods pirl`, the first
with its folder NAME_inputs beside it, the second of 50 epochs by the command of docs/evidence.md. Rerun the same
command to resume. The result is benchmarks/results/few_labels_starts.json: of each draw and start the last network of
the teacher, and the differences from the recipe as it is, with their intervals over draws.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from few_labels import STUDY
from few_labels_tuning import COLUMNS, TEACHERS, Draw, prepared
from measure import RESULTS, over_draws, report, write
from sslmed.studies.pretext import load_all_but_last, pretrain
from sslmed.studies.seeding import derived_seed
from sslmed.studies.study import Study
from sslmed.studies.study_data import StudyData
from sslmed.tasks import Segmentation

TEACHER = "teacher, 300 steps"
AS_IS = "26 epochs"
STARTS = {"52 epochs": (52, False), "26 epochs, after PIRL": (26, True)}  # epochs, and whether PIRL comes first


def train_lesions(study: Study, data: StudyData, epochs: int, encoder: Path | None, folder: Path) -> Path:
    """Train the pretext of synthetic lesions, from the encoder of another pretext if one is given."""
    recipe = study.methods["lesions"]
    assert recipe is not None
    (stage,), images = recipe.stages, data.pretext(min(data.splits), recipe.mix)
    torch.manual_seed(derived_seed(0, "pretext model"))
    method = stage.build(len(images), None)
    if encoder is not None:
        load_all_but_last(method.trained, encoder)
    fit = dataclasses.replace(stage.fit, epochs=epochs)
    return pretrain(method, images, fit, optimiser=stage.optimiser, folder=folder, seed=0, title=folder.parent.name)


def taught(data: StudyData, task: Segmentation, seed: int, lesions: Path, folder: Path) -> dict[str, float]:
    """The measures of the teacher's last network on one draw of labels."""
    draw = Draw(data, task, seed, lesions, folder)
    epochs = TEACHERS[TEACHER]
    if not draw.curve(TEACHER, epochs):
        draw.teach(TEACHER, epochs, draw.fine_tuned("fine-tuning", STUDY.finetune, lesions))
    return draw.curve(TEACHER, epochs)[-1]


def summary(draws: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """By start, the means over draws, and the differences from the recipe as it is."""
    found: dict[str, Any] = {}
    for name, rows in draws.items():
        found[name] = {key: {"mean": fmean(row[key] for row in rows.values())} for key in COLUMNS}
        if name != AS_IS:
            for key in COLUMNS:
                found[name][key] |= over_draws([row[key] - draws[AS_IS][seed][key] for seed, row in rows.items()])
    return found


def main() -> None:
    """Train what is missing, and write the measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pirl", type=Path, required=True)
    own, study, data, task = prepared(parser)
    pirl = own.pirl / "pretext" / "pirl-s0" / "network.pt"
    before = json.loads((RESULTS / "few_labels_tuning.json").read_text())["jobs"]
    if not pirl.is_file():
        parser.error(f"--pirl {own.pirl} holds no trained PIRL: {pirl} is missing")
    if unknown := [seed for seed in own.draws if str(seed) not in before]:
        parser.error(
            f"--draws {unknown[0]} is not in few_labels_tuning.json: run benchmarks/few_labels_tuning.py first"
        )
    jobs = {AS_IS: {str(seed): before[str(seed)][TEACHER][-1] for seed in own.draws}}
    for name, (epochs, after) in STARTS.items():
        folder = own.out / name
        lesions = train_lesions(study, data, epochs, pirl if after else None, folder / "pretext")
        jobs[name] = {str(seed): taught(data, task, seed, lesions, folder / f"draw {seed}") for seed in own.draws}
    write("few_labels_starts", report("cpu", 1, 1) | {"jobs": jobs, "summary": summary(jobs)})


if __name__ == "__main__":
    main()
