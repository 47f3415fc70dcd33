"""A run folder as the report reads it, perhaps unfinished; all files except config.json may be missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...tasks import KINDS
from ...tasks._report import TaskReport
from ...tasks.metrics import metric
from .. import manifest, monitor
from ..cells import Target, amount_as_number, seed_word
from ..choice import tabulated, tabulated_methods
from ..outlook import OUTLOOK
from ..pictures import pictures
from ..results import Curve, Result, arrays, columns, csv_rows

_ENVIRONMENT = dict.fromkeys(("python", "platform", "device", "packages", "started", "finished", "seconds"))
_SET = dict.fromkeys(("name", "source", "counts", "published", "groups", "notes", "checks", "test_sets"))
Rows = dict[float, dict[str, dict[str, dict[str, str]]]]


@dataclass(frozen=True)
class Run:
    """The content of a run folder."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    splits: dict[str, dict[str, Any]]
    table: list[dict[str, str]]
    tests: list[dict[str, str]]
    manifest: manifest.Manifest
    cells: list[Result]
    unfinished: list[str]
    failures: list[dict[str, str]]
    outlook: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read the folder.

        Raises:
            FileNotFoundError: it holds no config.json.
            ValueError: an older version wrote it.
        """
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is not a run folder: it has no config.json")
        config = _json(folder / "config.json", {})
        pretraining = config.get("kind") == "pretraining"
        known = manifest.Manifest() if pretraining else manifest.read(folder)
        cells = [] if pretraining else tabulated(folder, seed_word(_folds(config)))
        done = {cell.cell for cell in cells}
        order = {name: k for k, name in enumerate(tabulated_methods(config))}
        cells.sort(key=lambda c: (-c.amount, order.get(c.method, len(order)), c.method, c.seed, c.repeat))
        return cls(
            folder=folder,
            config=config,
            environment=_ENVIRONMENT | _json(folder / "environment.json", {}),
            data=_json(folder / "data.json", {}),
            splits=_json(folder / "splits.json", {}),
            table=csv_rows(folder / "table.csv"),
            tests=csv_rows(folder / "tests.csv"),
            manifest=known,
            cells=cells,
            unfinished=sorted(entry.cell.name for entry in known.cells if entry.cell not in done),
            failures=_json(folder / "failures.json", []),
            outlook=_json(folder / OUTLOOK, {}),
        )

    @cached_property
    def targets(self) -> list[Target]:
        """In the order of the configuration."""
        return [
            Target(t["name"], t.get("title") or t["name"], t["kind"], t["metric"], tuple(t["metrics"]))
            for t in self.config.get("targets") or ()
        ]

    def task(self, target: Target) -> TaskReport:
        """The report's part for a target's kind of task."""
        if target.kind not in KINDS:
            known = ", ".join(map(repr, KINDS))
            raise ValueError(
                f"{self.folder / 'config.json'}: kind of a target must be one of {known}, got {target.kind!r}"
            )
        return KINDS[target.kind].report

    @property
    def unit(self) -> str:
        """What labels are counted in: "%" or "volumes"."""
        return str(self.config.get("labels_unit") or "%")

    @property
    def folds(self) -> int | None:
        """The number of folds of a cross-validation, which the seeds then number, or None."""
        return _folds(self.config)

    @property
    def seed_word(self) -> str:
        """What a seed is called, "seed" or "fold"."""
        return seed_word(self.folds)

    @property
    def paper(self) -> str:
        """The paper that the run follows; "" for none."""
        return str(self.config.get("paper") or "")

    @property
    def proposal(self) -> str:
        """What the method is called that the study is about."""
        return "the paper's proposal" if self.paper else "the proposed method"

    @property
    def sets(self) -> list[dict[str, Any]]:
        """The descriptions of the data; empty where the folder has none."""
        found = self.data.get("sets") or ([self.data] if self.data.get("name") else [])
        return [_SET | one for one in found]

    @property
    def repeats(self) -> int:
        """Fine-tunings of one seed."""
        return max((result.repeat + 1 for result in self.cells), default=1)

    def baselines(self) -> list[str]:
        """The methods that others are compared with."""
        return list(self.config.get("baselines") or ())

    def display(self, name: str) -> str:
        """The name to print of a method or a part of the data."""
        return str((self.config.get("display") or {}).get(name, name))

    def share(self, labels: float) -> str:
        """An amount of labels in words: "20 % of the labels", "1 labelled volume"."""
        if self.unit == "%":
            return f"{labels:.6g} % of the labels"
        return f"{labels:.6g} labelled {self.unit if labels != 1 else self.unit.removesuffix('s')}"

    def pictures(self, target: Target, test_set: str = "") -> dict[str, Any]:
        """The test cases of a target to show, of the usual test part or an external test set."""
        own = (cell.test_sets for cell in self.cells if cell.target == target.name)
        place = next((places[test_set] for places in own if test_set in places), "")
        return pictures(self.folder, target.name, place) if place or not test_set else {}

    def groups(self, target: Target) -> dict[float, dict[str, list[Result]]]:
        """Amount of labels -> method -> cells (one for each seed and repeat), most labels first."""
        found: dict[float, dict[str, list[Result]]] = {}
        for cell in self.cells:
            if cell.target == target.name:
                found.setdefault(cell.amount, {}).setdefault(cell.method, []).append(cell)
        return found

    def test_sets(self, target: Target) -> list[str]:
        """The external test sets of a target that table.csv has rows of."""
        own = (row.get("test_set") for row in self.table if row.get("target") == target.name)
        return list(dict.fromkeys(name for name in own if name))

    def rows(self, target: Target, test_set: str = "") -> Rows:
        """Rows of table.csv on a test set: amount of labels -> method -> metric -> row, most labels first."""
        found: Rows = {}
        for row in self.table:
            if row.get("target") == target.name and (row.get("test_set") or "") == test_set:
                methods = found.setdefault(amount_as_number(row["labels"], self.unit), {})
                methods.setdefault(row["method"], {})[row["metric"]] = row
        return {labels: found[labels] for labels in sorted(found, reverse=True)}

    def main_methods(self, target: Target) -> list[str]:
        """At most four: first baseline, the proposed method, and the best at the fewest labels."""
        groups, rows = self.groups(target), self.rows(target)
        order = {name: k for k, name in enumerate(tabulated_methods(self.config))}
        methods = sorted({m for by in groups.values() for m in by}, key=lambda m: (order.get(m, len(order)), m))
        if len(methods) <= 4:
            return methods
        there = rows[min(rows)] if rows else {}
        score = {m: float(by[target.metric]["mean"] or "nan") for m, by in there.items() if target.metric in by}
        ranked = [
            *self.baselines()[:1],
            self.config.get("proposed"),
            self.config.get("choice"),
            *metric(target.metric).best_first(methods, score),
            *methods,
        ]
        chosen = list(dict.fromkeys(method for method in ranked if method in methods))[:4]
        return [method for method in methods if method in chosen]

    def pretexts(self) -> list[tuple[str, int, Path]]:
        """Title, seed and folder of every pretext training, in the order of the configuration."""
        order = {name: k for k, name in enumerate(tabulated_methods(self.config))}
        entries = sorted(self.manifest.pretexts, key=lambda e: (order.get(e.method, len(order)), e.title, e.seed))
        return [(entry.title, entry.seed, self.folder / entry.folder) for entry in entries]

    def pretext_curves(self) -> list[Curve]:
        """Of every pretext training."""
        return [Curve(title, f"seed {seed}", columns(place / "curves.csv")) for title, seed, place in self.pretexts()]

    def pretext_monitors(self) -> list[Curve]:
        """What was measured of the encoder of every pretext training, by epochs counted as in its curves."""
        found = []
        for title, seed, place in self.pretexts():
            values = columns(place / monitor.ROWS)
            if values:
                shown = {name: values[name] for name in values if name not in {"epoch", "seconds", "training_seconds"}}
                # A row is of the number of epochs that are done; a curve counts epochs from 0.
                found.append(Curve(title, f"seed {seed}", {"epoch": [e - 1 for e in values["epoch"]]} | shown))
        return found

    def galleries(self) -> dict[str, Any]:
        """Arrays of galleries.npz; empty where the run made none."""
        return arrays(self.folder / "galleries.npz")


def _folds(config: dict[str, Any]) -> int | None:
    found = (config.get("arguments") or {}).get("folds")
    return None if found is None else int(found)


def _json(file: Path, absent: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else absent
