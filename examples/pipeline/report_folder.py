"""A finished (or half finished) run folder as the report reads it; all but config.json may be missing."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.runs import read_csv

SUPERVISED = "supervised"
_ENVIRONMENT = dict.fromkeys(("python", "platform", "device", "packages", "started", "finished", "seconds"))
_DATA = dict.fromkeys(("name", "source", "counts", "published", "groups", "notes", "checks"))
PROPOSED = "cp-jig+freq/rcl+percep"
_JIGSAWS = {"jig": "Jig", "jig+freq": "Jig+Freq", "cp-jig": "CP-Jig", "cp-jig+freq": "CP-Jig+Freq"}
_LOSSES = {"pirl": "PIRL", "pirl+percep": "PIRL+percep", "rcl": "RCL", "rcl+percep": "RCL+percep"}


def display(method: str) -> str:
    """A method's name as the report prints it: "cp-jig/rcl" -> "CP-Jig · RCL"."""
    if method == SUPERVISED:
        return "Supervised only"
    jigsaw, _, loss = method.partition("/")
    return " · ".join(part for part in (_JIGSAWS.get(jigsaw, jigsaw), _LOSSES.get(loss, loss)) if part)


@dataclass(frozen=True)
class Curve:
    """One curves.csv: the columns as numbers, NaN where a cell is empty."""

    method: str
    seed: int
    columns: dict[str, list[float]]


@dataclass(frozen=True)
class Cell:
    """One finished fine-tuning: method, share of the labels, seed, and what it wrote."""

    folder: Path
    result: dict[str, Any]

    @property
    def method(self) -> str:
        """As in the configuration."""
        return str(self.result["method"])

    @property
    def percent(self) -> str:
        """Share of the labels in percent, as in table.csv: "20"."""
        return f"{float(self.result['labels']) * 100:.6g}"

    @property
    def seed(self) -> int:
        """Seed of split and training."""
        return int(self.result["seed"])

    @cached_property
    def cases(self) -> list[dict[str, str]]:
        """Rows of metrics.csv, one for each test case."""
        return _csv(self.folder / "metrics.csv")

    def values(self, metric: str) -> list[float]:
        """One metric of every test case."""
        return [float(case[metric]) for case in self.cases]

    def empty(self) -> dict[str, int]:
        """Counts of what a reader asks first: lesions missed, and outlines where there is no lesion."""
        lesion = [case for case in self.cases if not int(case["target_empty"])]
        free = [case for case in self.cases if int(case["target_empty"])]
        silent = sum(int(case["pred_empty"]) for case in lesion)
        return {
            "lesion": len(lesion),
            "silent": silent,
            "elsewhere": sum(not int(case["pred_empty"]) and float(case["dice"]) == 0 for case in lesion),
            "free": len(free),
            "alarm": sum(not int(case["pred_empty"]) for case in free),
        }


@dataclass(frozen=True)
class Run:
    """All of a run folder."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    splits: dict[str, dict[str, Any]]
    table: list[dict[str, str]]
    cells: list[Cell]
    unfinished: list[str]
    failures: list[dict[str, str]]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read the folder.

        Raises:
            FileNotFoundError: it holds no config.json.
        """
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is no run folder: it holds no config.json")
        config = _json(folder / "config.json", {})
        order = {name: k for k, name in enumerate(config.get("methods", []))}
        places = [place for place in sorted(folder.glob("cells/*")) if place.is_dir()]
        done = [place for place in places if (place / "result.json").is_file()]
        cells = [Cell(place, _json(place / "result.json", {})) for place in done]
        cells.sort(key=lambda c: (-float(c.percent), order.get(c.method, len(order)), c.method, c.seed))
        return cls(
            folder=folder,
            config=config,
            environment=_ENVIRONMENT | _json(folder / "environment.json", {}),
            data=_DATA | _json(folder / "data.json", {}),
            splits=_json(folder / "splits.json", {}),
            table=_csv(folder / "table.csv"),
            cells=cells,
            unfinished=[place.name for place in places if place not in done],
            failures=_json(folder / "failures.json", []),
        )

    @cached_property
    def groups(self) -> dict[str, dict[str, list[Cell]]]:
        """Percent of the labels -> method -> cells (one for each seed), most labels first."""
        found: dict[str, dict[str, list[Cell]]] = {}
        for cell in self.cells:
            found.setdefault(cell.percent, {}).setdefault(cell.method, []).append(cell)
        return found

    @cached_property
    def main_methods(self) -> list[str]:
        """At most four: the baseline, the paper's proposal, and the best by Dice at the fewest labels."""
        methods = list(dict.fromkeys(cell.method for cell in self.cells))
        if len(methods) <= 4:
            return methods
        fewest = min(self.groups, key=float)
        score = {
            r["method"]: float(r["dsc"]) for r in self.table if r["labels_percent"] == fewest and r["dsc"]
        }
        ranked = [SUPERVISED, PROPOSED, *sorted(methods, key=lambda m: -score.get(m, -1.0))]
        chosen = list(dict.fromkeys(method for method in ranked if method in methods))[:4]
        return [method for method in methods if method in chosen]

    def pretext_curves(self) -> list[Curve]:
        """Of every pretext training, in the order of the configuration."""
        order = {name.replace("/", "_"): name for name in self.config.get("methods", [])}
        ranks = list(order)
        found = []
        for file in sorted(self.folder.glob("pretext/*-s[0-9]*/curves.csv")):
            name, _, seed = file.parent.name.rpartition("-s")
            found.append(Curve(order.get(name, name.replace("_", "/")), int(seed), _columns(file)))
        rank = {order[name]: k for k, name in enumerate(ranks)}
        return sorted(found, key=lambda c: (rank.get(c.method, len(rank)), c.method, c.seed))

    def tuning_curves(self, percent: str) -> list[Curve]:
        """Of every fine-tuning with this share of the labels."""
        cells = [cell for cells in self.groups[percent].values() for cell in cells]
        found = [Curve(cell.method, cell.seed, _columns(cell.folder / "curves.csv")) for cell in cells]
        return [curve for curve in found if curve.columns]

    def galleries(self) -> dict[str, Any]:
        """Arrays of galleries.npz; empty where the run made none."""
        return arrays(self.folder / "galleries.npz")

    def leaks(self) -> list[dict[str, Any]]:
        """For each seed, what parts share: counted here from the ids, whatever the run itself says."""
        rows = []
        for seed, parts in self.splits.items():
            ids = {name: set(parts.get(name) or ()) for name in ("pretext", "train", "val", "test")}
            labelled = {float(f): set(items) for f, items in (parts.get("labelled") or {}).items()}
            shared = {f"{a} and {b}": len(ids[a] & ids[b]) for a, b in itertools.combinations(ids, 2)}
            del shared["pretext and train"]  # learning without labels from the training images is the method
            outside = len(set().union(*labelled.values()) - ids["train"]) if labelled else 0
            rows.append(
                {
                    "seed": seed,
                    "sizes": {name: len(items) for name, items in ids.items()},
                    "labelled": {
                        f"{f * 100:.6g}": len(items) for f, items in sorted(labelled.items(), reverse=True)
                    },
                    "shared": shared | {"labelled, outside train": outside},
                }
            )
        return rows


def arrays(file: Path) -> dict[str, Any]:
    """An .npz as a dict; empty if there is no such file. Pickled objects are refused."""
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as found:
        return dict(found)


def _json(file: Path, absent: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else absent


def _csv(file: Path) -> list[dict[str, str]]:
    return read_csv(file) if file.is_file() else []


def _columns(file: Path) -> dict[str, list[float]]:
    rows = _csv(file)
    return {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else ())}
