"""A study: methods x label fractions x seeds. Each pretext is trained once, each cell is run once, then the table."""

from __future__ import annotations

import json
import statistics
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.runs import read_csv, write_bytes, write_csv, write_json

SUPERVISED = "supervised"
TABLE = (
    "labels_percent", "method", "dsc", "dsc_sd_cases", "dsc_sd_seeds", "jc", "hd", "ppv", "rec", "pooled_dsc",
    "seeds", "cases", "paper_dataset", "paper_dsc", "paper_dsc_sd", "paper_hd", "why_not_comparable",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: a method, the share of labels it may use, and a seed."""

    method: str
    labels: float
    seed: int

    @property
    def name(self) -> str:
        """Folder name, as "cp-jig+freq_rcl+percep-l20-s0"."""
        return f"{slug(self.method)}-l{percent(self.labels)}-s{self.seed}"


def slug(method: str) -> str:
    """A method's name as part of a file name."""
    return method.replace("/", "_")


def percent(fraction: float) -> str:
    """A fraction as a percentage without trailing zeros: 0.2 -> "20", 0.125 -> "12.5"."""
    return f"{fraction * 100:.6g}"


def run_cells(
    folder: Path,
    cells: list[Cell],
    *,
    pretrain: Callable[[str, int], Path],
    finetune: Callable[[Cell, Path, Path | None], Mapping[str, Any]],
) -> list[dict[str, str]]:
    """Run every cell that has no result.json yet; one that fails is noted, and the others go on.

    Args:
        folder: the run folder.
        cells: what to run.
        pretrain: (method, seed) -> the encoder's file; called once for each pair, not for the supervised baseline.
        finetune: (cell, its folder, encoder's file or None) -> its result.

    Returns:
        The failures, as {"cell", "error"}; also in failures.json, and each traceback in the cell's error.txt.
    """
    failures: list[dict[str, str]] = []
    broken: dict[tuple[str, int], str] = {}
    for number, cell in enumerate(cells, 1):
        place = folder / "cells" / cell.name
        print(
            f"[{number}/{len(cells)}] {cell.method}, {percent(cell.labels)} % of the labels, seed {cell.seed}",
            flush=True,
        )
        if (place / "result.json").exists():
            print("    done before", flush=True)
            continue
        key = (cell.method, cell.seed)
        try:
            if key in broken:
                raise RuntimeError(f"its pretext failed: {broken[key]}")
            encoder = None if cell.method == SUPERVISED else _guarded(pretrain, key, broken)
            result = finetune(cell, place, encoder)
            write_json(place / "result.json", result)
            (place / "error.txt").unlink(missing_ok=True)
            print(f"    test Dice {result['mean']['dice']:.3f} (SD {result['sd']['dice']:.3f})", flush=True)
        except Exception as error:
            failures.append({"cell": cell.name, "error": f"{type(error).__name__}: {error}"})
            write_bytes(place / "error.txt", traceback.format_exc().encode())
            print(f"    FAILED: {failures[-1]['error']}", flush=True)
    write_json(folder / "failures.json", failures)
    return failures


def _guarded(
    pretrain: Callable[[str, int], Path], key: tuple[str, int], broken: dict[tuple[str, int], str]
) -> Path:
    try:
        return pretrain(*key)
    except Exception as error:
        broken[key] = str(error)
        raise


def results(folder: Path) -> list[dict[str, Any]]:
    """All finished cells of a run folder."""
    files = sorted((folder / "cells").glob("*/result.json"))
    return [json.loads(file.read_text()) | {"folder": file.parent.name} for file in files]


def collect_cases(folder: Path, columns: Iterable[str]) -> None:
    """Write metrics.csv: every test case of every finished cell."""
    rows = [
        {"method": cell["method"], "labels": cell["labels"], "seed": cell["seed"], **row}
        for cell in results(folder)
        for row in read_csv(folder / "cells" / cell["folder"] / "metrics.csv")
    ]
    write_csv(folder / "metrics.csv", rows, columns=("method", "labels", "seed", *columns))


def table(
    folder: Path, methods: list[str], paper: list[dict[str, str]], *, dataset: str, why: str
) -> list[dict[str, Any]]:
    """Ours beside the paper's, a row for each method and label fraction; also written as table.csv.

    The mean is over seeds of the mean over cases. `dsc_sd_cases` is the SD over test cases (mean over the seeds),
    `dsc_sd_seeds` the SD of the seeds' means, empty for one seed: two spreads that must not be mixed.

    Args:
        folder: the run folder.
        methods: in the order of the rows.
        paper: the paper's rows (columns dataset, method, labels_percent, dsc, dsc_sd, hd).
        dataset: the paper's set to stand beside ours.
        why: the reason why the two are not comparable.
    """
    printed = {(r["method"], r["labels_percent"]): r for r in paper if r["dataset"] == dataset}
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for cell in results(folder):
        groups.setdefault((cell["labels"], cell["method"]), []).append(cell)
    rows = []
    for labels, method in sorted(groups, key=lambda key: (-key[0], methods.index(key[1]))):
        cells = groups[labels, method]
        mean = {name: statistics.fmean(c["mean"][name] for c in cells) for name in cells[0]["mean"]}
        theirs = printed.get((method, percent(labels)), {})
        numbers = {
            "dsc": mean["dice"],
            "dsc_sd_cases": statistics.fmean(c["sd"]["dice"] for c in cells),
            "dsc_sd_seeds": statistics.stdev(c["mean"]["dice"] for c in cells) if len(cells) > 1 else None,
            "jc": mean["jaccard"],
            "hd": mean["hausdorff"],
            "ppv": mean["precision"],
            "rec": mean["recall"],
            "pooled_dsc": statistics.fmean(c["pooled"]["dice"] for c in cells),
        }
        rows.append(
            {
                "labels_percent": percent(labels),
                "method": method,
                **{
                    k: None if v is None else f"{v:.2f}" if k == "hd" else f"{v:.3f}"
                    for k, v in numbers.items()
                },
                "seeds": len(cells),
                "cases": cells[0]["cases"],
                "paper_dataset": dataset if theirs else None,
                "paper_dsc": theirs.get("dsc"),
                "paper_dsc_sd": theirs.get("dsc_sd"),
                "paper_hd": theirs.get("hd"),
                "why_not_comparable": why if theirs else "the paper's text has no such row",
            }
        )
    write_csv(folder / "table.csv", rows, columns=TABLE)
    return rows


def show(rows: list[dict[str, Any]]) -> str:
    """The table as text for the terminal."""
    lines = [
        f"{'labels':>6}  {'method':<24} {'Dice ours':>20} {'HD ours':>8}   {'Dice paper':>14} {'HD paper':>8}"
    ]
    for row in rows:
        seeds = f"; {row['dsc_sd_seeds']} seeds" if row["dsc_sd_seeds"] else ""
        ours = f"{row['dsc']} ± {row['dsc_sd_cases']}{seeds}"
        paper = f"{row['paper_dsc']} ± {row['paper_dsc_sd']}" if row["paper_dsc"] else "-"
        lines.append(
            f"{row['labels_percent']:>4} %  {row['method']:<24} {ours:>20} {row['hd']:>8}   "
            f"{paper:>14} {row['paper_hd'] or '-':>8}"
        )
    reasons = sorted({row["why_not_comparable"] for row in rows if row["paper_dsc"]})
    return "\n".join(
        [*lines, "± is the SD over test cases.", *(f"Not comparable: {reason}" for reason in reasons)]
    )
