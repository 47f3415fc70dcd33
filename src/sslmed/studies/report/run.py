"""A finished (or half finished) run folder as the report reads it; all but config.json may be missing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .cell import Cell, Curve, amount, arrays, columns, csv_rows
from .metrics import Metric, metric

_ENVIRONMENT = dict.fromkeys(("python", "platform", "device", "packages", "started", "finished", "seconds"))
_SET = dict.fromkeys(("name", "source", "counts", "published", "groups", "notes", "checks"))
Rows = dict[float, dict[str, dict[str, dict[str, str]]]]


@dataclass(frozen=True)
class Target:
    """What the networks were tuned to and tested on."""

    name: str
    title: str
    kind: str
    metric: str
    metrics: tuple[str, ...]

    @property
    def main(self) -> Metric:
        """The metric that methods are compared by."""
        return metric(self.metric)

    @property
    def unit(self) -> str:
        """What a test case is."""
        return "volumes" if self.kind == "volumes" else "images"


@dataclass(frozen=True)
class Run:
    """All of a run folder."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    splits: dict[str, dict[str, Any]]
    table: list[dict[str, str]]
    tests: list[dict[str, str]]
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
        places = [place for place in sorted(folder.glob("cells/*")) if place.is_dir()]
        done = [place for place in places if (place / "result.json").is_file()]
        unit = config.get("labels_unit") or "%"
        cells = [Cell(place, _json(place / "result.json", {}), unit) for place in done]
        order = {name: k for k, name in enumerate(config.get("methods") or ())}
        cells.sort(key=lambda c: (-c.amount, order.get(c.method, len(order)), c.method, c.seed))
        return cls(
            folder=folder,
            config=config,
            environment=_ENVIRONMENT | _json(folder / "environment.json", {}),
            data=_json(folder / "data.json", {}),
            splits=_json(folder / "splits.json", {}),
            table=csv_rows(folder / "table.csv"),
            tests=csv_rows(folder / "tests.csv"),
            cells=cells,
            unfinished=[place.name for place in places if place not in done],
            failures=_json(folder / "failures.json", []),
        )

    @cached_property
    def targets(self) -> list[Target]:
        """In the order of the configuration."""
        return [
            Target(t["name"], t.get("title") or t["name"], t["kind"], t["metric"], tuple(t["metrics"]))
            for t in self.config.get("targets") or ()
        ]

    @property
    def unit(self) -> str:
        """What labels are counted in: "%" or "volumes"."""
        return str(self.config.get("labels_unit") or "%")

    @property
    def sets(self) -> list[dict[str, Any]]:
        """The descriptions of the data; empty where the folder has none."""
        found = self.data.get("sets") or ([self.data] if self.data.get("name") else [])
        return [_SET | one for one in found]

    def baselines(self) -> list[str]:
        """The methods that others are held against."""
        return list(self.config.get("baselines") or ())

    def display(self, name: str) -> str:
        """The name to print of a method or a part of the data."""
        return str((self.config.get("display") or {}).get(name, name))

    def share(self, labels: float) -> str:
        """An amount of labels in words: "20 % of the labels", "1 labelled volume"."""
        if self.unit == "%":
            return f"{labels:.6g} % of the labels"
        return f"{labels:.6g} labelled {self.unit if labels != 1 else self.unit.removesuffix('s')}"

    def groups(self, target: Target) -> dict[float, dict[str, list[Cell]]]:
        """Amount of labels -> method -> cells (one for each seed), most labels first."""
        found: dict[float, dict[str, list[Cell]]] = {}
        for cell in self.cells:
            if cell.target == target.name:
                found.setdefault(cell.amount, {}).setdefault(cell.method, []).append(cell)
        return found

    def rows(self, target: Target) -> Rows:
        """Rows of table.csv: amount of labels -> method -> metric -> row, most labels first."""
        found: Rows = {}
        for row in self.table:
            if row.get("target") == target.name:
                methods = found.setdefault(amount(row["labels"], self.unit), {})
                methods.setdefault(row["method"], {})[row["metric"]] = row
        return {labels: found[labels] for labels in sorted(found, reverse=True)}

    def main_methods(self, target: Target) -> list[str]:
        """At most four: first baseline, the paper's proposal, and the best at the fewest labels."""
        groups, rows = self.groups(target), self.rows(target)
        order = {name: k for k, name in enumerate(self.config.get("methods") or ())}
        methods = sorted(
            {m for by in groups.values() for m in by}, key=lambda m: (order.get(m, len(order)), m)
        )
        if len(methods) <= 4:
            return methods
        there = rows[min(rows)] if rows else {}
        score = {
            m: float(by[target.metric]["mean"] or "nan") for m, by in there.items() if target.metric in by
        }
        ranked = [*self.baselines()[:1], self.config.get("proposed"),
                  *target.main.best_first(methods, score), *methods]  # fmt: skip
        chosen = list(dict.fromkeys(method for method in ranked if method in methods))[:4]
        return [method for method in methods if method in chosen]

    def pretexts(self, file: str) -> list[tuple[str, int, Path]]:
        """Name, seed and place of this file of every pretext training, in the order of the configuration."""
        slugs = [name.replace("/", "_").replace(" ", "_") for name in self.config.get("methods") or ()]
        found = []
        for path in self.folder.glob(f"pretext/*/{file}"):
            name, seed = _seed(path.parent.name)
            # A method's own, "simclr-s0", or one of several that it needs, "simclr-us-s0" or "simclr_global-s0".
            fits = [k for k, slug in enumerate(slugs) if re.match(re.escape(slug) + r"([-_]|$)", name)]
            rank = max(fits, key=lambda k: len(slugs[k]), default=len(slugs))
            label = self.display(name)
            if fits:
                rest = name[len(slugs[rank]) + 1 :]
                label = self.display(self.config["methods"][rank]) + (
                    f", {self.display(rest)}" if rest else ""
                )
            found.append((rank, label, seed, path))
        return [(label, seed, path) for _, label, seed, path in sorted(found)]

    def pretext_curves(self) -> list[Curve]:
        """Of every pretext training."""
        return [Curve(name, seed, columns(path)) for name, seed, path in self.pretexts("curves.csv")]

    def galleries(self) -> dict[str, Any]:
        """Arrays of galleries.npz; empty where the run made none."""
        return arrays(self.folder / "galleries.npz")


def _seed(name: str) -> tuple[str, int]:
    """A folder's name without its seed, and the seed."""
    head, _, tail = name.rpartition("-s")
    return (head, int(tail)) if tail.isdigit() else (name, 0)


def _json(file: Path, absent: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else absent
