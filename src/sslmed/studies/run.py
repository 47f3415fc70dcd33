"""Carry out a study: read, check, pretrain, fine-tune, test, tabulate."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..tasks import Learner, Task
from . import manifest, outputs, parts, schedule, trial
from .cells import SUPERVISED, Cell, amount, slug, slugs
from .cli import unique
from .engine import fit, weights_of
from .features import write_features
from .image_set import ImageSet
from .locks import Busy, folder_lock
from .merge import check_sources, merge
from .pixels import Numbered
from .pretext import pretrain
from .processes import barrier, rank
from .refinement import refine
from .runs import (
    RunFolder,
    read_csv,
    write_csv,
    write_json,
    write_npz,
    write_tensors,
)
from .sample import sample_size
from .seeding import derived_seed
from .study import Stage, Study
from .study_data import StudyData

GROWING = ("methods", "labels", "seeds")  # lists that a later command may add to


class Run:
    """A study in a run folder, all its input read and checked; `run` does the work.

    Args:
        study: what to do.
        args: preset, methods, labels, seeds, repeats, out, shard, merge and workers of the command line.

    Raises:
        ValueError, OSError: anything in the input that would stop the run later.
    """

    def __init__(self, study: Study, args: argparse.Namespace) -> None:
        self.study: Study = study
        self.args: argparse.Namespace = args
        self.tasks: dict[str, Task] = {task.name: task for task in study.tasks}
        self.began: float = time.monotonic()
        self.started: str = outputs.now()
        for name in GROWING:
            unique(f"--{name}", getattr(args, name))
        if args.merge and args.shard != (0, 1):
            raise ValueError("--merge joins all shares of a study and --shard runs one of them; give one of the two")
        unique("--labels", [amount(labels, study.unit) for labels in args.labels])
        parts.check(study.parts)
        self.folder: RunFolder = RunFolder(args.out)
        try:
            self._prepare()
        except BaseException:
            self.folder.discard()
            raise

    def _prepare(self) -> None:
        """Read and check all input; write config.json, and nothing before."""
        study, args = self.study, self.args
        self.folder.check()
        manifest.check(self.folder.path, option="--out")
        trial.methods(study, args.methods)
        self.data: dict[str, StudyData] = {spec.name: StudyData(spec) for spec in study.data}
        self.notes: list[str] = []
        self.trains: bool = any(data.labelled for data in self.data.values())
        if self.trains or len(self.data) > 1 or "" not in self.data:
            for task in study.tasks:
                self._check(task, self.data[task.domain])
        self.methods: list[str] = self._usable()
        # Images without labels stay at their size: nothing is fine-tuned on them.
        self.images: dict[str, ImageSet] = {
            n: data.at(study.size) if data.labelled else data.data for n, data in self.data.items()
        }
        self.test_sets: dict[str, dict[str, ImageSet]] = {
            name: data.test_sets_at(study.size) for name, data in self.data.items()
        }
        for task in study.tasks if self.trains else ():
            trial.task(study, task, self.data[task.domain], self.images[task.domain])
        config = {
            "paper": study.citation,
            "title": study.title,
            "preset": dataclasses.asdict(study.preset),
            "arguments": {
                "preset": args.preset,
                "leave_out_copies": any(spec.leave_out_copies for spec in study.data),
                **({"folds": study.folds} if study.folds else {}),
                **study.arguments,
                **outputs.sources(self),
            },
            "targets": [task.entry(self.data[task.domain].data) for task in study.tasks],
            "labels_unit": study.unit,
            "display": dict(study.display),
            "words": {name: list(words) for name, words in study.words.items()},
            "proposed": study.proposed,
            "choice": study.choice,
            "baselines": list(study.baselines),
            **{name: list(getattr(args, name)) for name in GROWING},
        }
        grown = self.folder.join(config, growing=GROWING)
        contents = outputs.contents(self)  # before the splits, which follow from them
        check_sources(args.merge, grown, outputs.splits(self), contents, self.cells(), growing=GROWING)
        with folder_lock(self.folder.path, wait=True):
            # Again, since another command may have added to the run meanwhile.
            self.config: dict[str, Any] = self.folder.join(config, growing=GROWING)
            self._record()
            write_json(self.folder.path / "config.json", self.config)

    def _check(self, task: Task, data: StudyData) -> None:
        """Raise ValueError where the images of a task, or the sets to test it on, lack what it needs."""
        task.check(data.data, option=data.spec.labelled.option)
        for source, images in zip(data.spec.test_sets, data.test_sets.values(), strict=True):
            task.check_test_set(images, data.data, option=f"{source.option} {source.place}")

    def _usable(self) -> list[str]:
        """The requested methods that can be run on these images."""
        if self.trains:
            return list(self.args.methods)
        source = self.study.data[0].labelled
        given = f"{source.option} {source.place} has no masks"
        methods = [m for m in self.args.methods if m != SUPERVISED]
        if not methods:
            raise ValueError(f"{given}, and --methods names no pretraining method")
        if self.args.merge:
            raise ValueError(f"{given}, so there are no cells to --merge")
        if methods != self.args.methods:
            self.notes.append("supervised training is left out, since these images have no masks")
        return methods

    def run(self) -> int:
        """Run the cells that are not finished; returns the exit status."""
        with folder_lock(self.folder.path, wait=True):
            outputs.describe(self)
        if not self.trains:
            return self._pretext_only()
        cells, path = self.cells(), self.folder.path
        if self.args.merge:
            with folder_lock(path, wait=True):
                missing = merge(self.args.merge, path, cells) if rank() == 0 else []
                barrier()
            failures = [{"cell": name, "error": "not in the merged folders"} for name in missing]
        else:
            cells = schedule.sharded(cells, self.args.shard, self.pretext)
            failures = schedule.run_cells(
                path,
                cells,
                unit=self.study.unit,
                seed_word=self.study.seed_word,
                pretrain=self.pretrain,
                finetune=self.finetune,
            )
        with folder_lock(path, wait=True):  # the last of several shares to get here tabulates all cells
            failures = schedule.write_failures(path, failures, cells)
            if self.study.embedding is not None and rank() == 0:
                write_features(self, cells)
            outputs.tabulate(self)
            outputs.finish(self)
        for failure in failures:
            print(f"failed: {failure['cell']}: {failure['error']}")
        return 1 if failures else 0

    def cells(self) -> list[Cell]:
        """The cells of this command, in the order of their runs; of images without labels, one for each pretext."""
        args, tasks = self.args, list(self.tasks)
        if not self.trains:
            return [Cell(method, 1.0, seed, tasks[0]) for method in self.methods for seed in args.seeds]
        found = [
            Cell(method, labels, seed, task, repeat)
            for seed in args.seeds
            for repeat in range(args.repeats)
            for task in tasks
            for method in self.methods
            for labels in args.labels
        ]
        for name, task in self.tasks.items():  # all labels, with the baseline, where the data ask for it
            data = self.data[task.domain]
            if data.spec.everything:
                most = {seed: int(max(data.splits[seed].labelled)) for seed in args.seeds}
                methods = dict.fromkeys([SUPERVISED, *self.methods])
                found += [
                    Cell(method, most[seed], seed, name, repeat)
                    for seed in args.seeds
                    for repeat in range(args.repeats)
                    for method in methods
                ]
        return list(dict.fromkeys(found))

    def pretext(self, cell: Cell) -> str | None:
        """Folder of a cell's pretext; cells with the same share it. None for a method without one."""
        recipe = self.study.methods[cell.method]
        return self._place(cell, recipe.stages[-1]) if recipe and recipe.stages else None

    def _place(self, cell: Cell, stage: Stage) -> str:
        """Folder of a stage of a cell's pretext."""
        recipe = self.study.methods[cell.method]
        assert recipe is not None
        name = slug(recipe.pretext or cell.method) + ("" if stage is recipe.stages[-1] else f"_{stage.name}")
        parts = (name, self.tasks[cell.target].domain, f"s{self._pretext_seed(cell)}")
        return "pretext/" + "-".join(filter(None, parts))

    def _pretext_seed(self, cell: Cell) -> int:
        """The seed of a cell's pretext: one for all cells where all seeds share the training images."""
        shared = self.data[self.tasks[cell.target].domain].spec.parts_seed
        return cell.seed if shared is None else shared

    def _test_folders(self, domain: str) -> dict[str, str]:
        """The folder of each test set inside that of a cell."""
        return {name: f"test_sets/{folder}" for name, folder in slugs(self.test_sets[domain]).items()}

    def _record(self) -> None:
        """Add this command's cells and pretexts to manifest.json."""
        cells, display = schedule.sharded(self.cells(), self.args.shard, self.pretext), self.study.display
        entries, pretexts = [], []
        for cell in cells:
            domain, recipe = self.tasks[cell.target].domain, self.study.methods[cell.method]
            tests = self._test_folders(domain)
            entries.append(manifest.CellEntry(f"cells/{cell.name}", cell, domain, self.pretext(cell), tests))
            for stage in recipe.stages if recipe else ():
                method = recipe.pretext or cell.method if recipe else cell.method
                words = (display.get(method, method), display.get(stage.name, stage.name))
                title = ", ".join(filter(None, (*words, display.get(domain, domain))))
                place = self._place(cell, stage)
                pretexts.append(manifest.PretextEntry(place, method, self._pretext_seed(cell), title))
        manifest.record(self.folder.path, entries if self.trains else (), pretexts)

    def pretrain(self, cell: Cell, folder: Path) -> Path:
        """Train a cell's pretext, stage by stage, and return the file of its weights."""
        recipe, seed = self.study.methods[cell.method], self._pretext_seed(cell)
        assert recipe is not None
        data = self.data[self.tasks[cell.target].domain]
        images = data.pretext(cell.seed, recipe.mix)
        validates = recipe.validated and cell.seed in data.splits
        val = Numbered([(data.data, data.splits[cell.seed].val)]) if validates else None
        weights: Path | None = None
        for number, stage in enumerate(recipe.stages, 1):
            # Each stage has its own seed, since a stage that is already trained draws no random numbers.
            words = "pretext model" if number == 1 else f"{stage.name} pretext model"
            torch.manual_seed(derived_seed(seed, words))
            weights = pretrain(
                stage.build(len(images), weights),
                images,
                stage.fit,
                optimiser=stage.optimiser,
                folder=self.folder.path / self._place(cell, stage),
                seed=seed,
                title=f"pretext {cell.method}" + (f", {stage.name}" if stage.name else ""),
                val=val,
                workers=self.args.workers,
                sample=data.sample(cell.seed, sample_size(len(images), stage.fit.epochs)),
            )
        assert weights is not None
        return weights

    def finetune(self, cell: Cell, folder: Path, weights: Path | None) -> dict[str, Any]:
        """Train one cell, and test it on its own test part and on every external test set."""
        began = time.monotonic()
        task, study = self.tasks[cell.target], self.study
        split, images = self.data[task.domain].splits[cell.seed], self.images[task.domain]
        seed = derived_seed(cell.seed, f"repeat {cell.repeat}") if cell.repeat else cell.seed
        torch.manual_seed(derived_seed(seed, f"{task.network_seed} model"))  # one decoder for all methods
        learner = task.learner(images, weights)
        labelled = split.labelled[cell.labels]
        pairs, val = task.pairs(images, labelled), task.pairs(images, split.val)
        recipe = study.methods[cell.method]
        best = fit(
            learner,
            pairs,
            (recipe and recipe.finetune) or study.finetune,
            optimiser=study.tuning,
            folder=folder,
            seed=seed,
            title="fine-tuning",
            val=val,
            workers=self.args.workers,
        )
        learner.load_state_dict(weights_of(best))
        if recipe and recipe.refinement:
            pool = self.data[task.domain].pretext(cell.seed, recipe.refinement.mix)

            def scores() -> list[float]:
                return [float(row[task.metric]) for row in task.evaluate(learner, images, split.val).rows]

            refine(
                learner,
                recipe.refinement,
                pairs,
                pool,
                val=val,
                fine_tuned=folder,
                seed=seed,
                workers=self.args.workers,
                scores=scores,
            )
        task.calibrate(learner, images, split.val, labelled=labelled, weights=weights)
        summary = self._test(task, learner, images, split.test, folder)
        folders = self._test_folders(task.domain)
        others = {
            name: self._test(task, learner, test_set, range(len(test_set)), folder / folders[name])
            for name, test_set in self.test_sets[task.domain].items()
        }
        known = {"train": labelled, "val": split.val}
        on_parts = {part: task.evaluate(learner, images, known[part]).summary for part in study.parts}
        validated = task.evaluate(learner, images, split.val).summary["mean"][task.metric] if study.choice else None
        for name, state in learner.cpu().states().items():
            write_tensors(folder / f"{name}.pt", state)
        barrier()
        return {
            "method": cell.method,
            "target": cell.target,
            "labels": cell.labels,
            "seed": cell.seed,
            "repeat": cell.repeat,
            "labelled_cases": len(labelled),
            "trained_cases": len(pairs),  # type: ignore[arg-type]
            "epochs": len(read_csv(folder / "curves.csv")),
            "seconds": round(time.monotonic() - began, 1),
            **summary,
            **({"validation": validated} if study.choice else {}),
            **({"test_sets": others} if others else {}),
            **({"parts": on_parts} if on_parts else {}),
        }

    def _test(
        self, task: Task, learner: Learner, images: ImageSet, index: Sequence[int], folder: Path
    ) -> dict[str, Any]:
        """Test a network on some cases, write what was measured into a folder, and return the summary."""
        tested = task.evaluate(learner, images, index)
        rows = tested.rows
        if images.origins:  # of an image, or of a whole volume, which is a group
            of_images, of_groups = (
                dict(zip(names, images.origins, strict=True)) for names in (images.ids, images.groups)
            )
            rows = [row | {"origin": of_images.get(row["id"], of_groups[row["group"]])} for row in rows]
        write_csv(folder / "metrics.csv", rows, columns=list(rows[0]))
        if tested.arrays:
            write_npz(folder / "cases.npz", **tested.arrays)
        return tested.summary

    def _pretext_only(self) -> int:
        busy = False
        for cell in schedule.sharded(self.cells(), self.args.shard, self.pretext):
            print(f"pretext {cell.method}, seed {cell.seed}", flush=True)
            place = self.folder.path / str(self.pretext(cell))
            try:
                with folder_lock(place):
                    print(f"    encoder: {self.pretrain(cell, place)}")
            except Busy as error:
                busy = True
                print(f"    FAILED: {error}", flush=True)
        with folder_lock(self.folder.path, wait=True):
            outputs.finish(self)
        return int(busy)
