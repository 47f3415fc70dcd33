"""A sweep: one study with several values of a setting, compared on validation cases and never on test cases."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cells import slug
from .processes import barrier, rank
from .report.sweep import write_page
from .results import Result, results
from .run import Run
from .runs import write_csv

Row = dict[str, Any]
ALL = "all methods"


def folders(out: Path, setting: str, values: Sequence[str]) -> dict[str, Path]:
    """The run folder of each value, inside `out`.

    Raises:
        ValueError: `out` holds a run itself.
    """
    if (out / "config.json").exists():
        raise ValueError(f"--out {out} holds a run; give --sweep a new folder")
    return {value: out / slug(f"{setting}={value}") for value in values}


class Sweep:
    """Runs of one study that differ in one setting.

    Args:
        out: the folder of sweep.csv and sweep.html, which holds the run folders.
        setting: its name.
        runs: by value.

    Raises:
        ValueError: a run has no fine-tuning, and so nothing to compare the values by.
    """

    def __init__(self, out: Path, setting: str, runs: Mapping[str, Run]) -> None:
        self.out: Path = out
        self.setting: str = setting
        self.runs: dict[str, Run] = dict(runs)
        if not all(run.trains for run in runs.values()):
            raise ValueError("--sweep compares values on labelled validation cases, and --data has no labels")

    def run(self) -> int:
        """Carry out every run, then compare them; the exit status is 1 where any of them failed in part."""
        status = 0
        for value, run in self.runs.items():
            print(f"\n{self.setting} = {value}", flush=True)
            status = max(status, run.run())
        self.tabulate()
        return status

    def tabulate(self) -> None:
        """Write sweep.csv and sweep.html, and print the table."""
        if rank() == 0:
            rows = compared({value: results(run.folder.path) for value, run in self.runs.items()})
            names = dict.fromkeys(name for row in rows for name in row)
            write_csv(
                self.out / "sweep.csv", [{"setting": self.setting} | row for row in rows], columns=("setting", *names)
            )
            study = next(iter(self.runs.values())).study
            page = write_page(
                self.out,
                self.setting,
                rows,
                title=study.title,
                display=study.display,
                targets={task.name: task.title for task in study.tasks},
                reports={value: f"{run.folder.path.name}/report.html" for value, run in self.runs.items()},
            )
            print(show(self.setting, rows))
            print(f"\nsweep: {page}")
        barrier()


def compared(runs: Mapping[str, Sequence[Result]]) -> list[Row]:
    """A row for each target, method and value: means over the fine-tunings, each at the epoch that was tested.

    Args:
        runs: value of the setting -> finished cells.

    Returns:
        Rows with `target`, `method`, `value`, `fine_tunings`, `val_loss` and the other validation metrics, and
        `chosen`, which is "yes" for the value with the lowest mean `val_loss` of those that finished the most
        fine-tunings. Where there are several methods, rows of all of them together follow.
    """
    groups: dict[tuple[str, str], dict[str, list[dict[str, float]]]] = {}
    for target in dict.fromkeys(cell.target for cells in runs.values() for cell in cells):
        own = {value: [cell for cell in cells if cell.target == target] for value, cells in runs.items()}
        methods = list(dict.fromkeys(cell.method for cells in own.values() for cell in cells))
        for method in [*methods, *([ALL] if len(methods) > 1 else [])]:
            groups[target, method] = {
                value: [tested_epoch(cell) for cell in cells if method in (ALL, cell.method)]
                for value, cells in own.items()
            }
    rows = []
    for (target, method), values in groups.items():
        most = max(map(len, values.values()))
        means = {
            value: {name: statistics.fmean(epoch[name] for epoch in epochs) for name in epochs[0]}
            for value, epochs in values.items()
            if epochs
        }
        best = min((v for v in means if len(values[v]) == most), key=lambda v: means[v]["val_loss"])
        rows += [
            {"target": target, "method": method, "value": value, "fine_tunings": len(values[value])}
            | mean
            | {"chosen": "yes" if value == best else ""}
            for value, mean in means.items()
        ]
    return rows


def tested_epoch(cell: Result) -> dict[str, float]:
    """The validation columns of a cell's curves at the epoch with the lowest `val_loss`, whose weights were tested."""
    columns = cell.curve().columns
    losses = columns["val_loss"]
    epoch = min(range(len(losses)), key=losses.__getitem__)
    return {name: values[epoch] for name, values in columns.items() if name.startswith("val_")}


def show(setting: str, rows: Sequence[Row]) -> str:
    """The table as text for the terminal."""
    if not rows:
        return "no fine-tuning has finished"
    measured = [name for name in rows[0] if name.startswith("val_")]
    head = ["target", "method", setting, *measured, ""]
    lines = [head] + [
        [row["target"], row["method"], row["value"]]
        + [f"{row[name]:.4f}" if name in row else "" for name in measured]
        + ["chosen" if row["chosen"] else ""]
        for row in rows
    ]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    text = ["  ".join(f"{part:<{width}}" for part, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(["", *text, "chosen: the lowest validation loss; test cases were not used."])
