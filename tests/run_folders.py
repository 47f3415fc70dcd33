"""Run folders as the examples' studies write them, made without training: for tests of what reads them."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sslmed.studies import manifest
from sslmed.studies.cells import Cell

EVIL = '<b>bad</b> & "id" $x_'
OVERLAP = ["dice", "jaccard", "hausdorff", "precision", "recall", "pooled_dice"]
WHOLE = {
    "pooled_dice",
    "pixel_accuracy",
    "mcc",
    "balanced_accuracy",
    "weighted_f1",
    "roc_auc",
    "average_precision",
    "sensitivity",
    "test_loss",
}
ONE_SEED = "one seed: a difference may be that of one training"
CLASSES = ["benign", "malignant", "normal"]


def write_csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_cell(
    folder: Path,
    kind: str,
    method: str,
    labels: float,
    seed: int,
    *,
    target: str = "segmentation",
    cases: int = 9,
    repeat: int = 0,
) -> None:
    """One finished cell; methods later in the alphabet are a little better."""
    cell = Cell(method, labels, seed, target, repeat)
    place = folder / "cells" / cell.name
    manifest.record(folder, [manifest.CellEntry(f"cells/{cell.name}", cell)])
    rng = np.random.default_rng([seed, len(method), cases])
    rows = {"segmentation": _segmented, "classification": _classified, "volumes": _volumes}[kind](rng, cases)
    write_csv(place / "metrics.csv", rows)
    column = "val_balanced_accuracy" if kind == "classification" else "val_dice"
    fall = np.exp(-np.arange(12) / (3 + len(method) % 5))
    write_csv(
        place / "curves.csv",
        [
            {"epoch": e, "train_loss": f, "val_loss": f + 0.2 if e else "", column: 0.8 - f / 2, "lr": 0.1}
            for e, f in enumerate(fall)
        ],
    )
    result: dict[str, Any] = {
        "method": method,
        "target": target,
        "labels": labels,
        "seed": seed,
        "epochs": 12,
    }
    result |= {"labelled_cases": 4, "seconds": 75.0, "cases": len(rows), "mean": {}, "sd": {}}
    if kind != "classification":
        _keep(place, rng, rows)
        result["empty"] = {"target": 2, "pred": 2, "both": 1}
    write_json(place / "result.json", result)


def _segmented(rng: np.random.Generator, count: int) -> list[dict]:
    rows = []
    for k in range(count):
        dice = [0.9, 0, 0, 0.5, 0.6, 0.7, 0.8, 1, 0][k] if k < 9 else round(float(rng.beta(4, 2)), 3)
        name = EVIL if k == 0 else f"case {k}"
        empty, silent = int(k in (7, 8)), int(k in (1, 7))
        rows.append(
            {"id": name, "group": name, "label": CLASSES[k % 2], "target_empty": empty, "pred_empty": silent}
            | {"dice": dice, "jaccard": dice, "precision": dice, "recall": dice, "hausdorff": 4 * (k % 10)}
        )
    return rows


def _classified(rng: np.random.Generator, count: int) -> list[dict]:
    rows = []
    for k in range(count):
        label = k % 3 if k % 2 else k % 2
        p = rng.dirichlet(np.ones(3) + 2 * np.eye(3)[label])
        own = {
            "id": f"case {k}",
            "group": f"case {k}",
            "label": CLASSES[label],
            "predicted": CLASSES[p.argmax()],
        }
        rows.append(
            own | {"correct": int(p.argmax() == label)} | dict(zip((f"p_{c}" for c in CLASSES), p, strict=True))
        )
    return rows


def _volumes(rng: np.random.Generator, count: int) -> list[dict]:
    rows = []
    for k in range(count):
        parts = dict(zip(("dice_anterior", "dice_posterior"), rng.beta(6, 3, 2).round(3), strict=True))
        own = {
            "id": f"hippocampus_{k:03}",
            "group": f"hippocampus_{k:03}",
            "target_empty": 0,
            "pred_empty": 0,
        }
        rows.append(own | {"dice": float(np.mean(list(parts.values())))} | parts | {"hausdorff": 3 + k % 5})
    return rows


def disc(size: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def _keep(place: Path, rng: np.random.Generator, rows: list[dict], size: int = 24) -> None:
    pred = np.stack([disc(size, (11 + k / 2, 12 + k), 5) for k in range(len(rows))]).astype(np.uint8)
    pred[1] = 0
    np.savez_compressed(place / "cases.npz", id=np.array([str(row["id"]) for row in rows]), pred=pred)


def write_pictures(folder: Path, target: str, structures: Sequence[str] = (), seed: int = 0, size: int = 24) -> None:
    """Three test cases to show, of a cell's rows."""
    ids = [f"hippocampus_{k:03}" for k in range(3)] if structures else [EVIL, "case 3", "case 1"]
    numbers = np.stack([disc(size, (11, 12), 4 + k % 3) for k in range(3)]).astype(np.uint8)
    numbers[:, :, 12:] *= max(1, len(structures))
    (folder / "pictures").mkdir(exist_ok=True)
    np.savez_compressed(
        folder / "pictures" / f"{target}.npz",
        seed=np.array(seed),
        id=np.array(ids),
        tier=np.array(["best 20 %", "middle 60 %", "worst 20 %"]),
        label=np.array(["", "", ""] if structures else CLASSES),
        score=np.array([0.9, 0.5, 0.1]),
        image=(np.random.default_rng(0).integers(0, 160, (3, size, size)) + 90 * (numbers > 0)).astype(np.uint8),
        target=numbers,
        structures=np.array(structures, dtype=str),
    )


def write_table(folder: Path, config: dict, *, paper: bool = True) -> None:
    """table.csv and tests.csv of made-up numbers."""
    table, tests = [], []
    for target in config["targets"]:
        for labels in config["labels"]:
            text = f"{labels * 100:g} %" if config["labels_unit"] == "%" else f"{labels:g} volumes"
            for k, method in enumerate(config["methods"]):
                for metric in target["metrics"]:
                    far, printed = "hausdorff" in metric, paper and metric in ("dice", "hausdorff", "mcc")
                    mean = 31.25 - k if far else min(0.95, 0.511 + 0.06 * (k % 7) + 0.05 * np.log2(labels * 5))
                    own = {"target": target["name"], "labels": text, "method": method, "metric": metric}
                    own |= {
                        "mean": f"{mean:.2f}" if far else f"{mean:.3f}",
                        "sd_cases": "" if metric in WHOLE else "0.301",
                    }
                    own |= {
                        "sd_seeds": "0.0123456" if len(config["seeds"]) > 1 else "",
                        "seeds": len(config["seeds"]),
                    }
                    own |= {
                        "cases": 9,
                        "paper": "0.847" if printed else "",
                        "paper_sd": "0.158" if printed else "",
                    }
                    own |= {"paper_set": "BUSI" if printed else ""}
                    own["why_not_comparable"] = "other <images>" if printed else "the paper prints no such number"
                    table.append(own)
                if method not in config["baselines"]:
                    metric = "correct" if target["kind"] == "classification" else target["metric"]
                    own = {
                        "target": target["name"],
                        "labels": text,
                        "method": method,
                        "against": config["baselines"][0],
                    }
                    own |= {
                        "metric": metric,
                        "difference": 0.1221,
                        "ci_low": -0.0514 if k % 2 else 0.051,
                        "ci_high": 0.19,
                    }
                    several = len(config["seeds"]) > 1
                    own |= {"p": 0.0004 * k if several else "", "p_holm": (0.012, 0.3)[k % 2] if several else ""}
                    own |= {"no_p": "" if several else ONE_SEED, "cases": 9}
                    tests.append(own | {"seeds": len(config["seeds"])})
    write_csv(folder / "table.csv", table)
    if tests:
        write_csv(folder / "tests.csv", tests)


def write_facts(folder: Path, config: dict, splits: dict, *, data: dict | None = None) -> None:
    """config.json and what describes machine, data and splits."""
    write_json(folder / "config.json", config)
    times = {
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:10:05+00:00",
        "seconds": 360.5,
    }
    machine = {
        "python": "3.11.9",
        "platform": "Linux",
        "device": "CPU",
        "packages": {"sslmed": "0.1.0", "torch": "2.5.1"},
    }
    write_json(folder / "environment.json", machine | times)
    phantom = {"name": "Phantom", "source": "synthetic", "counts": {"images": 40, "benign": 30, "normal": 10}}
    rest = {"published": None, "groups": None, "notes": ["a note"], "checks": ["a check"]}
    write_json(folder / "data.json", data or phantom | rest)
    write_json(folder / "splits.json", splits)
    write_json(folder / "failures.json", [])


def write_pretext(
    folder: Path, name: str, columns: list[str], *, method: str = "", seed: int = 0, title: str = "",
    features: bool = False,
) -> None:  # fmt: skip
    manifest.record(folder, pretexts=[manifest.PretextEntry(f"pretext/{name}", method, seed, title or name)])
    fall = np.exp(-np.arange(30) / (4 + len(name) % 7))
    rows = [{"epoch": e} | {c: f * (k + 1) + 0.1 for k, c in enumerate(columns)} for e, f in enumerate(fall)]
    write_csv(folder / "pretext" / name / "curves.csv", rows)
    if features:
        rng = np.random.default_rng(len(name))
        label = rng.choice(CLASSES, 60)
        xy = rng.normal(size=(60, 2)) + 2 * (label == "normal")[:, None]
        np.savez_compressed(folder / "pretext" / name / "features.npz", xy=xy, label=label, title=np.array(title))


def parts(count: int = 40) -> dict[str, list[str]]:
    names = [f"case {k}" for k in range(count)]
    return {"pretext": names[:20], "train": names[:20], "val": names[20:25], "test": names[25:]}


METHODS = ["supervised", "cp-jig+freq/rcl+percep"]


def segmentation_run(
    folder: Path, *, methods: list[str] = METHODS, labels: tuple[float, ...] = (0.2,), seeds: tuple[int, ...] = (0, 1),
    cases: int = 9,
) -> Path:  # fmt: skip
    """One target, labels in percent, the galleries of filter and jigsaw."""
    target = {
        "name": "segmentation",
        "title": "Segmentation",
        "kind": "segmentation",
        "metric": "dice",
        "metrics": OVERLAP,
    }
    config = {
        "paper": "Ellis et al.", "title": "A <small> run", "arguments": {"data": "phantom"},
        "preset": {"finetune": {"epochs": 3}}, "methods": list(methods), "labels": list(labels), "seeds": list(seeds),
        "targets": [target], "labels_unit": "%", "baselines": ["supervised"], "proposed": METHODS[1],
        "display": {"supervised": "Supervised only", METHODS[1]: "CP-Jig+Freq · RCL+percep"},
        "words": {
            "supervised": ["Supervised only", "No pretext learning."], "cp-jig": ["CP-Jig", "A cross stays."],
            "rcl": ["RCL", "A relation network judges."], "unused": ["Unused", "Not in this run."],
        },
    }  # fmt: skip
    labelled = {f"{fraction * 100:g} %": [f"case {k}" for k in range(4)] for fraction in labels}
    write_facts(folder, config, {str(seed): parts() | {"labelled": labelled} for seed in seeds})
    write_table(folder, config)
    for method in methods:
        for seed in seeds:
            for fraction in labels:
                write_cell(folder, "segmentation", method, fraction, seed, cases=cases)
            if method != "supervised":
                columns = [
                    "loss",
                    "image_level",
                    "patch_level",
                    *(["perceptual"] if "percep" in method else []),
                    "feature_std",
                ]
                title = config["display"].get(method, method)
                name = f"{method.replace('/', '_')}-s{seed}"
                write_pretext(folder, name, columns, method=method, seed=seed, title=title)
    write_pictures(folder, "segmentation")
    rng = np.random.default_rng(0)
    images = np.stack([0.3 + 0.5 * disc(24, (12, 10), 6) + 0.1 * rng.random((24, 24)) for _ in range(2)]).astype(
        np.float32
    )
    np.savez_compressed(
        folder / "galleries.npz", original=images, filtered=images * 0.8, jigsaw=images[:, ::-1],
        kept=rng.random((2, 24, 13)) > 0.2,
        grid=np.array([3, 3]), focal=np.tile(np.arange(9) % 3 == 0, (2, 1)),
    )  # fmt: skip
    return folder


def targets_run(
    folder: Path, *, methods: Sequence[str] = ("supervised", "simclr", "moco", "byol"),
    domains: Sequence[str] = ("us", "mg"),
    seeds: tuple[int, ...] = (0,), cases: int = 24,
) -> Path:  # fmt: skip
    """Classification and segmentation in two domains, views and features."""
    metrics = ["mcc", "balanced_accuracy", "weighted_f1", "sensitivity", "roc_auc", "average_precision", "test_loss"]
    names = {"us": "Ultrasound", "mg": "Mammography"}
    targets = [
        {"name": f"{kind}-{domain}", "title": f"{kind.capitalize()}, {names[domain].lower()}", "kind": kind,
         "metric": "balanced_accuracy" if kind == "classification" else "pooled_dice",
         "metrics": metrics if kind == "classification" else [*OVERLAP, "pixel_accuracy"]}
        for kind in ("classification", "segmentation") for domain in domains
    ]  # fmt: skip
    config = {
        "paper": "A thesis", "title": "Contrastive pretraining for breast images", "arguments": {},
        "preset": {}, "methods": list(methods),
        "labels": [1.0], "seeds": list(seeds), "targets": targets, "labels_unit": "%",
        "baselines": ["supervised"], "proposed": None,
        "display": {"supervised": "Supervised only", "simclr": "SimCLR", "moco": "MoCo", "byol": "BYOL", **names},
        "words": {"simclr": ["SimCLR", "Two views of an image attract each other."]},
    }  # fmt: skip
    published = {"benign": 437, "malignant": 210, "normal": 133}
    sets = [
        {
            "name": name,
            "source": source,
            "counts": {"images": 780} | published,
            "groups": 700,
            "published": published,
        }
        for name, source in (("BUSI", "busi"), ("INbreast", "inbreast"))
    ]
    splits = {f"{d}/{s}": parts() | {"labelled": {"100 %": parts()["train"]}} for d in domains for s in seeds}
    write_facts(folder, config, splits, data={"sets": sets, "notes": ["two sets"], "checks": ["no shared images"]})
    write_table(folder, config)
    for method in methods:
        for seed in seeds:
            for target in targets:
                write_cell(folder, target["kind"], method, 1.0, seed, target=target["name"], cases=cases)
            for domain in domains if method != "supervised" else ():
                title = f"{config['display'][method]}, {names[domain].lower()}"
                write_pretext(
                    folder,
                    f"{method}-{domain}-s{seed}",
                    ["loss", "feature_std"],
                    method=method,
                    seed=seed,
                    title=title,
                    features=True,
                )
    for target in targets:
        if target["kind"] == "segmentation":
            write_pictures(folder, target["name"])
    rng = np.random.default_rng(0)
    images = np.stack([0.3 + 0.5 * disc(32, (14, 16), 7) + 0.1 * rng.random((32, 32)) for _ in range(3)])
    np.savez_compressed(
        folder / "galleries.npz", original=images, view0=images[:, 4:28, 4:28], view1=images[:, 8:, :24] * 0.7,
        captions=np.array(["original", "first view", "second view"]),
    )  # fmt: skip
    return folder


def volumes_run(folder: Path, *, labels: Sequence[int] = (1, 2, 4, 8), seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Labels counted in volumes, Dice of each structure, no number of the paper."""
    methods = ["supervised", "regression", "global", "global+local"]
    metrics = ["dice", "dice_anterior", "dice_posterior", "hausdorff"]
    config = {
        "paper": "A paper on MR", "title": "Masked regression against contrast on MR", "arguments": {},
        "preset": {}, "methods": methods,
        "labels": list(labels), "seeds": list(seeds), "labels_unit": "volumes",
        "baselines": ["supervised"], "proposed": "regression",
        "targets": [
            {"name": "volumes", "title": "Hippocampus", "kind": "volumes", "metric": "dice", "metrics": metrics}
        ],
        "display": {"supervised": "Supervised only", "regression": "Masked regression", "global": "Global contrast",
                    "global+local": "Global and local contrast"},
        "words": {},
    }  # fmt: skip
    labelled = {
        "1 volume": ["case 0"],
        **{f"{n} volumes": [f"case {k}" for k in range(n)] for n in (2, 4, 8)},
    }
    write_facts(folder, config, {str(s): parts() | {"labelled": labelled} for s in seeds})
    write_table(folder, config, paper=False)
    for method in methods:
        for seed in seeds:
            for amount in labels:
                write_cell(folder, "volumes", method, amount, seed, target="volumes")
            if method != "supervised":
                title = config["display"][method]
                write_pretext(
                    folder,
                    f"{method}-s{seed}",
                    ["loss", "feature_std"],
                    method=method,
                    seed=seed,
                    title=title,
                )
    write_pictures(folder, "volumes", ("anterior", "posterior"))
    return folder


def add_test_set(folder: Path, name: str) -> None:
    """Results of every finished cell and row on an external test set, of two scanners, worse by 0.1; with pictures."""
    for entry in manifest.read(folder).cells:
        place = folder / entry.folder
        with open(place / "metrics.csv", newline="") as file:
            rows = [row | {"origin": f"Scanner {k % 2}"} for k, row in enumerate(csv.DictReader(file))]
        write_csv(place / "test_sets" / "other" / "metrics.csv", rows)
        shutil.copy(place / "cases.npz", place / "test_sets" / "other")
        result = json.loads((place / "result.json").read_text())
        summary = {"cases": len(rows), "mean": {}, "sd": {}}
        write_json(place / "result.json", result | {"test_sets": {name: summary}})
        manifest.record(folder, [dataclasses.replace(entry, test_sets={name: "test_sets/other"})])
    shown = folder / "pictures" / "segmentation" / "test_sets" / "other.npz"
    shown.parent.mkdir(parents=True)
    shutil.copy(folder / "pictures" / "segmentation.npz", shown)
    for file_name in ("table.csv", "tests.csv"):
        with open(folder / file_name, newline="") as file:
            rows = [{"test_set": ""} | row for row in csv.DictReader(file)]
        other = [row | {"test_set": name} for row in rows]
        if file_name == "table.csv":
            printed = {
                "paper": "0.777",
                "paper_sd": "0.111",
                "paper_set": "Table <VI>",
                "why_not_comparable": "other sets",
            }
            other = [
                row | {"mean": f"{float(row['mean']) - 0.1:.3f}"} | (printed if row["paper"] else {}) for row in other
            ]
        write_csv(folder / file_name, rows + other)
    splits = json.loads((folder / "splits.json").read_text())
    ids = {"test_sets": {name: [f"scan {k}" for k in range(9)]}}
    write_json(folder / "splits.json", {key: parts | ids for key, parts in splits.items()})
