"""The road from images to a report, for any of the papers: read, check, pretrain, fine-tune, test, tabulate."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import time
from pathlib import Path
from typing import Any

import torch

from . import classification, manifest, segmentation, study, tables, volumes
from .cells import SUPERVISED, Cell, amount
from .cli import unique
from .features import write_features
from .locks import Busy, hold
from .material import Material
from .merge import check_sources, merge
from .plan import Plan
from .processes import barrier, rank
from .report import write_report
from .runs import (
    CONTENTS,
    RunFolder,
    environment,
    first_changed,
    read_csv,
    read_json,
    write_json,
    write_npz,
    write_tensors,
)  # fmt: skip
from .seeding import derived_seed
from .training import fit

GROWING = ("methods", "labels", "seeds")  # lists that a later command may add to
EVALUATE = {
    "segmentation": segmentation.evaluate,
    "classification": classification.evaluate,
    "volumes": volumes.evaluate,
}


class Experiment(Plan):
    """One run, all its input read and checked; `run` does the work. A paper's file says what its plan is.

    Args:
        args: preset, methods, labels, seeds, out, shard, merge, precision, accumulate, and the paper's own.
        preset: phantoms, pretext and finetune (`Fit`), and the paper's own.

    Raises:
        ValueError, OSError: anything in the input that would stop the run later.
    """

    def __init__(self, args: argparse.Namespace, preset: Any) -> None:
        self.args, self.preset = args, _adjusted(preset, args)
        self.began = time.monotonic()
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for name in GROWING:
            unique(f"--{name}", getattr(args, name))
        if args.merge and args.shard != (0, 1):
            raise ValueError("--merge puts all shares together, and --shard does one; give one of them")
        unique("--labels", [amount(labels, self.paper.unit) for labels in args.labels])
        self.check()
        self.folder = RunFolder(args.out)
        try:
            self._prepare()
        except BaseException:
            self.folder.discard()
            raise

    def _prepare(self) -> None:
        """Read and check all input; write config.json, and nothing before."""
        args = self.args
        self.folder.check()
        manifest.check(self.folder.path, option="--out")
        self.materials = {wanted.name: Material(wanted) for wanted in self.wanted()}
        self.notes: list[str] = []
        self._check_targets()
        self.methods = self._usable()
        config = {
            "paper": self.paper.citation,
            "title": self.paper.title,
            "preset": dataclasses.asdict(self.preset),
            "arguments": {"preset": args.preset, **self.arguments()},
            "targets": [dataclasses.asdict(t) | {"metrics": list(t.metrics)} for t in self.targets()],
            "labels_unit": self.paper.unit,
            "display": dict(self.paper.display),
            "words": {name: list(words) for name, words in self.paper.words.items()},
            "proposed": self.paper.proposed,
            "baselines": list(self.paper.baselines),
            **{name: list(getattr(args, name)) for name in GROWING},
        }
        grown = self.folder.join(config, growing=GROWING)
        contents = self._contents()  # before the splits, which follow from them
        check_sources(args.merge, grown, self._splits(), contents, growing=GROWING)
        with hold(self.folder.path, wait=True):
            # Anew, since another command may have grown the run meanwhile.
            self.config = self.folder.join(config, growing=GROWING)
            self._record()
            write_json(self.folder.path / "config.json", self.config)

    def _record(self) -> None:
        """Add this command's cells and pretexts to the manifest."""
        cells = study.sharded(self._cells(), self.args.shard, self.pretext)
        entries = []
        for cell in cells:
            name = self.pretext(cell)
            pretext = None if name is None else f"pretext/{name}"
            entries.append(manifest.CellEntry(f"cells/{cell.name}", cell, self.domain(cell), pretext))
        pretexts = [pretext for cell in cells for pretext in self.pretexts(cell)]
        manifest.record(self.folder.path, entries if self._labelled else (), pretexts)

    @property
    def _labelled(self) -> bool:
        return any(material.labelled for material in self.materials.values())

    def _cells(self) -> list[Cell]:
        """The cells of this command; of images without labels, one for each pretext."""
        if self._labelled:
            return list(self.cells())
        return [Cell(method, 1.0, seed) for method in self.methods for seed in self.args.seeds]

    def run(self) -> int:
        """Do what is not done yet; returns the exit status."""
        with hold(self.folder.path, wait=True):
            self._describe()
        if not self._labelled:
            return self._pretext_only()
        cells, path = self.cells(), self.folder.path
        if self.args.merge:
            with hold(path, wait=True):
                missing = merge(self.args.merge, path, cells) if rank() == 0 else []
                barrier()
            failures = [{"cell": name, "error": "not in the merged folders"} for name in missing]
        else:
            cells = study.sharded(cells, self.args.shard, self.pretext)
            failures = study.run_cells(
                path, cells, unit=self.paper.unit, pretrain=self.pretrain, finetune=self.finetune
            )  # fmt: skip
        with hold(path, wait=True):  # of several shares, the last to come here tabulates all
            failures = study.write_failures(path, failures, cells)
            if self.paper.shows_features and rank() == 0:
                write_features(self, cells)
            self._tabulate()
            self._finish()
        for failure in failures:
            print(f"failed: {failure['cell']}: {failure['error']}")
        return 1 if failures else 0

    def finetune(self, cell: Cell, folder: Path, weights: Path | None) -> dict[str, Any]:
        """Train and evaluate one cell."""
        began = time.monotonic()
        target = next(t for t in self.targets() if t.name == cell.target)
        material = self.materials[self.domain(cell)]
        split, data = material.splits[cell.seed], material.small
        pairs = {"segmentation": data.pairs, "classification": data.classified, "volumes": data.mapped}[
            target.kind
        ]
        # One decoder for all methods of a seed.
        torch.manual_seed(
            derived_seed(
                cell.seed, "segmentation model" if target.kind != "classification" else "classification model"
            )
        )
        module = self.module(cell, weights)
        best = fit(
            module, pairs(split.labelled[cell.labels]), self.preset.finetune, folder=folder, seed=cell.seed,
            title="fine-tuning", val=pairs(split.val),
        )  # fmt: skip
        module.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
        scores = EVALUATE[target.kind](module, data, split.test, folder)
        write_tensors(folder / "model.pt", module.cpu().model.state_dict())
        barrier()
        return {
            "method": cell.method,
            "target": cell.target,
            "labels": cell.labels,
            "seed": cell.seed,
            "labelled_cases": len(split.labelled[cell.labels]),
            "epochs": len(read_csv(folder / "curves.csv")),
            "seconds": round(time.monotonic() - began, 1),
            **scores,
        }

    def _check_targets(self) -> None:
        """Raise where a target needs what its images lack."""
        for target in self.targets():
            data = self.materials[self.domain(Cell(SUPERVISED, 1.0, 0, target.name))].large
            if target.kind == "classification" and (data.labels is None or len(set(data.labels)) < 2):
                raise ValueError(
                    f"--data, read as {data.name}, has no two classes to tell apart, as {target.name} needs"
                )
            # Without masks, images of one domain serve pretext learning alone.
            if target.kind != "classification" and data.masks is None and "" not in self.materials:
                alone = "; --tasks classification needs none" if "tasks" in self.args and data.labels else ""
                raise ValueError(f"--data, read as {data.name}, has no masks, as {target.name} needs{alone}")

    def _usable(self) -> list[str]:
        """The methods asked for that these images serve."""
        if self._labelled:
            return list(self.args.methods)
        methods = [m for m in self.args.methods if m != SUPERVISED]
        if not methods:
            raise ValueError(
                f"--data {self.args.data} has no masks, and --methods names no pretext to learn from it"
            )
        if self.args.merge:
            raise ValueError(
                f"--data {self.args.data} has no masks, and so a run of it has no cells to --merge"
            )
        if methods != self.args.methods:
            self.notes.append("supervised is left out, since these images have no masks")
        return methods

    def _pretext_only(self) -> int:
        busy = False
        for cell in study.sharded(self._cells(), self.args.shard, self.pretext):
            print(f"pretext {cell.method}, seed {cell.seed}", flush=True)
            place = self.folder.path / "pretext" / str(self.pretext(cell))
            try:
                with hold(place):
                    print(f"    encoder: {self.pretrain(cell, place)}")
            except Busy as error:
                busy = True
                print(f"    FAILED: {error}", flush=True)
        with hold(self.folder.path, wait=True):
            self._finish()
        return int(busy)

    def _splits(self) -> dict[str, Any]:
        """The content of splits.json: what is recorded there, and this command's seeds and labels."""
        file = self.folder.path / "splits.json"
        recorded = read_json(file) if file.exists() else {}
        for material in self.materials.values():
            recorded |= material.grown_splits(recorded, self.folder.path)
        return recorded

    def _contents(self) -> dict[str, str]:
        """The content of contents.json: hashes that are recorded there, and of what this command has read."""
        recorded = read_json(file) if (file := self.folder.path / CONTENTS).exists() else {}
        found = {name: value for m in self.materials.values() for name, value in m.contents().items()}
        if changed := first_changed(recorded, found):
            raise ValueError(
                f"--out {self.folder.path} holds a run of other images: {changed} has changed since; choose another "
                "folder"
            )
        return recorded | found

    def _describe(self) -> None:
        """Write what is known before training: data, splits, galleries."""
        path, descriptions = self.folder.path, []
        for name, material in self.materials.items():
            counts = ", ".join(f"{n} {what}" for what, n in material.description()["counts"].items())
            print(f"{name + ': ' if name else ''}{material.large.name}: {counts}")
            for line in (*material.notes, *self.notes, *material.checks):
                print(f"  {line}")
            description = material.description()
            descriptions.append(description | {"domain": name, "notes": [*description["notes"], *self.notes]})
        alone = len(descriptions) == 1
        write_json(
            path / "data.json",
            descriptions[0] if alone else {"sets": descriptions, "notes": self.notes, "checks": []},
        )
        write_json(path / "splits.json", self._splits())
        write_json(path / CONTENTS, self._contents())
        write_npz(path / "galleries.npz", **self.gallery())

    def _tabulate(self) -> None:
        path = self.folder.path
        if rank() == 0:
            methods = read_json(path / "config.json")["methods"]  # others may have been added since the start
            frame = tables.Frame(self.targets(), methods, self.paper.unit, self.paper.baselines)
            tables.collect_cases(path)
            notes = {target.name: self.comparability_note(target.name) for target in self.targets()}
            rows = tables.write_table(path, frame, self.published(), comparability_notes=notes)
            print(tables.show(rows, tables.write_tests(path, frame), frame))
        barrier()

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
        if rank() == 0:
            print(f"\nreport: {write_report(self.folder.path)}")
        barrier()


def _adjusted(preset: Any, args: argparse.Namespace) -> Any:
    """The preset with the precision and accumulation of the command line."""
    changes = {
        name: value
        for name, value in (("precision", args.precision), ("accumulate", args.accumulate))
        if value is not None
    }
    return dataclasses.replace(
        preset,
        pretext=dataclasses.replace(preset.pretext, **changes),
        finetune=dataclasses.replace(preset.finetune, **changes),
    )
