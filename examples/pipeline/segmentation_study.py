"""The road from images to a report: read, check, pretrain, fine-tune for segmentation, evaluate."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import TensorDataset

from pipeline import downstream, study
from pipeline.cli import unique
from pipeline.material import Material
from pipeline.pretext import pretrain
from pipeline.report import write_report
from pipeline.runs import (
    RunFolder,
    environment,
    read_csv,
    sha256,
    write_json,
    write_npz,
    write_tensors,
)
from pipeline.seeding import derived_seed
from pipeline.training import BEST, LAST, fit
from sslmed.models import ResNetEncoder, ResUNet, load_encoder

GROWING = ("methods", "labels", "seeds")  # lists that a later command may add to


@dataclasses.dataclass(frozen=True)
class Paper:
    """What a paper's own file brings to the study.

    Attributes:
        citation: as in config.json and the report.
        title: heading of the report.
        results: CSV file of the paper's tables.
        pretext: (method, preset, data) -> a LightningModule with an `encoder`.
        gallery: (images (N, 1, H, W), preset) -> arrays of galleries.npz.
        pick_results: name of the data set read -> name of the paper's set to stand beside it.
    """

    citation: str
    title: str
    results: Path
    pretext: Callable[[str, Any, TensorDataset], L.LightningModule]
    gallery: Callable[[torch.Tensor, Any], dict[str, np.ndarray]]
    pick_results: Callable[[str], str]


class SegmentationStudy:
    """One run, all its input read and checked; `run` does the work.

    Args:
        args: data, pretext_data, leave_out_copies, preset, methods, labels, seeds, weights, out.
        preset: size, crop, encoder, width, phantoms, pretext, finetune, finetune_lr, finetune_power.
        paper: the paper's own.

    Raises:
        ValueError, OSError: anything in the input that would stop the run later.
    """

    def __init__(self, args: argparse.Namespace, preset: Any, paper: Paper) -> None:
        self.args, self.preset, self.paper = args, preset, paper
        self.began = time.monotonic()
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for name in GROWING:
            unique(f"--{name}", getattr(args, name))
        unique("--labels", [study.percent(fraction) + " %" for fraction in args.labels])
        if args.leave_out_copies and args.pretext_data is None:
            raise ValueError("--leave-out-copies is about --pretext-data, which was not given")
        if args.weights is not None:
            try:
                load_encoder(ResNetEncoder(preset.encoder, width=preset.width), args.weights)
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"--weights {args.weights} for a {preset.encoder} of width {preset.width}: {error}"
                ) from error
        self.folder = RunFolder(args.out)
        self.folder.check()
        self.material = Material(args, preset)
        self.large, self.small = self.material.large, self.material.small
        self.methods = [m for m in args.methods if m != study.SUPERVISED or self.large.masks is not None]
        if not self.methods:
            raise ValueError(
                f"--data {args.data} has no masks, and --methods names no pretext to learn from it"
            )
        if self.methods != args.methods:
            self.material.notes.append("supervised is left out, since these images have no masks")
        self.config = self.folder.join(
            {
                "paper": paper.citation,
                "title": paper.title,
                "preset": dataclasses.asdict(preset),
                "arguments": {
                    "data": self.large.source,
                    "pretext_data": self.material.external and self.material.external.source,
                    "leave_out_copies": args.leave_out_copies,
                    "preset": args.preset,
                    "weights": args.weights and args.weights.name,
                    "weights_sha256": args.weights and sha256(args.weights),
                },
                **{name: list(getattr(args, name)) for name in GROWING},
            },
            growing=GROWING,
        )
        self.splits_json = self.material.recorded_splits(self.folder.path)
        write_json(self.folder.path / "config.json", self.config)

    def run(self) -> int:
        """Do what is not done yet; returns the exit status."""
        self._describe()
        if self.small.masks is None:
            return self._pretext_only()
        cells = [
            study.Cell(method, labels, seed)
            for seed in self.args.seeds
            for method in self.methods
            for labels in self.args.labels
        ]
        failures = study.run_cells(self.folder.path, cells, pretrain=self.pretrain, finetune=self.finetune)
        study.collect_cases(self.folder.path, downstream.COLUMNS)
        rows = study.table(
            self.folder.path,
            self.config["methods"],
            read_csv(self.paper.results),
            dataset=self.paper.pick_results(self.large.name),
            why=self._why_not_comparable(),
        )
        print("\n" + study.show(rows))
        self._finish()
        for failure in failures:
            print(f"failed: {failure['cell']}: {failure['error']}")
        return 1 if failures else 0

    def pretrain(self, method: str, seed: int) -> Path:
        """The encoder's file of one method and seed."""
        source, index = self.material.pretext[seed]
        data = source.pixels(index)
        torch.manual_seed(derived_seed(seed, "pretext model"))
        module = self.paper.pretext(method, self.preset, data)
        if self.args.weights is not None:
            load_encoder(module.encoder, self.args.weights)
        folder = self.folder.path / "pretext" / f"{study.slug(method)}-s{seed}"
        return pretrain(
            module, data, self.preset.pretext, folder=folder, seed=seed, title=f"pretext {method}"
        )

    def finetune(self, cell: study.Cell, folder: Path, encoder: Path | None) -> dict[str, Any]:
        """Train and evaluate one cell."""
        began = time.monotonic()
        split, preset = self.material.splits[cell.seed], self.preset
        torch.manual_seed(
            derived_seed(cell.seed, "segmentation model")
        )  # one decoder for all methods of a seed
        model = ResUNet(preset.encoder, in_channels=1, classes=2, width=preset.width)
        if (encoder or self.args.weights) is not None:
            load_encoder(model.encoder, encoder or self.args.weights)
        start, end = preset.finetune_lr
        module = downstream.Segmentation(
            model, epochs=preset.finetune.epochs, lr=(start, end), power=preset.finetune_power
        )
        train, val = self.small.pairs(split.labelled[cell.labels]), self.small.pairs(split.val)
        best = fit(
            module, train, preset.finetune, folder=folder, seed=cell.seed, title="fine-tuning", val=val
        )
        module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
        scores = downstream.evaluate(module, self.small, split.test, folder)
        write_tensors(folder / "model.pt", module.cpu().model.state_dict())
        for checkpoint in (BEST, LAST):
            (folder / checkpoint).unlink(missing_ok=True)
        jigsaw, _, loss = cell.method.partition("/")
        return {
            "method": cell.method,
            "jigsaw": jigsaw if loss else None,
            "loss": loss or None,
            "labels": cell.labels,
            "seed": cell.seed,
            "labelled_cases": len(split.labelled[cell.labels]),
            "epochs": len(read_csv(folder / "curves.csv")),
            "seconds": round(time.monotonic() - began, 1),
            **scores,
        }

    def _pretext_only(self) -> int:
        for method in self.methods:
            for seed in self.args.seeds:
                print(f"pretext {method}, seed {seed}", flush=True)
                print(f"    encoder: {self.pretrain(method, seed)}")
        self._finish()
        return 0

    def _describe(self) -> None:
        """Write what is known before training: data, splits, galleries."""
        data, path = self.large, self.folder.path
        print(f"{data.name}: {', '.join(f'{n} {what}' for what, n in data.counts.items())}")
        for line in (*self.material.notes, *self.material.checks):
            print(f"  {line}")
        write_json(path / "data.json", self.material.description())
        write_json(path / "splits.json", self.splits_json)
        shown = np.linspace(0, len(data.ids) - 1, 4).round().astype(int)
        write_npz(path / "galleries.npz", **self.paper.gallery(data.images[shown], self.preset))

    def _why_not_comparable(self) -> str:
        p = self.preset
        reasons = [] if self.large.name == "BUSI" else [f"{self.large.name} instead of the paper's images"]
        if (
            self.large.name == "BUSI"
            and self.large.published
            and len(self.large.ids) != sum(self.large.published.values())
        ):
            reasons.append(
                f"{len(self.large.ids)} of {sum(self.large.published.values())} images, split by near-duplicate group"
            )
        if p.size != 224:
            reasons.append(f"{p.size} px (Hausdorff in these pixels; paper 224)")
        if (p.encoder, p.width) != ("resnet50", 64):
            reasons.append(f"{p.encoder} at width {p.width} (paper resnet50 at 64)")
        if p.pretext.epochs != 2000:
            reasons.append(f"{p.pretext.epochs} pretext epochs (paper 2000)")
        if self.args.weights is None:
            reasons.append("random start (paper ImageNet)")
        # For any mean over images, mean(D - J) >= (m - m^2 - s^2) / 2, which no row of the paper meets.
        reasons.append("the paper's Dice and Jaccard cannot both be means over images, as ours are")
        return "; ".join(reasons)

    def _finish(self) -> None:
        """Write the environment and the report."""
        write_json(
            self.folder.path / "environment.json",
            {
                **environment(),
                "started": self.started,
                "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - self.began, 1),
            },
        )
        print(f"\nreport: {write_report(self.folder.path)}")
