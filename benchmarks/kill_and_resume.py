"""Does a run that is killed again and again end with the numbers of an unbroken one?

    python benchmarks/kill_and_resume.py [--script examples/ultrasound_relation.py ...] [--kills 10] [--seed 0]

Each script, by default the four that carry a paper, runs with `--preset smoke` once unbroken; then again, killed with
SIGKILL at random moments and resumed by the same command until it ends; where that was not kills enough, once more in
another folder. Moments are seconds of processor time, which other work on the machine does not stretch. They count from
the script's first line, which comes after its imports, and are drawn up to the time that the unbroken run took for its
last cell, or its last plot of features; a start that finds all of them is left to end. After each kill every file under
its final name must parse. At the end the cells' metrics.csv and result.json (but seconds), curves.csv, the weights, the
arrays, the tables and the manifest must equal those of the unbroken run, text to the letter, tensors and arrays to the
bit, and nothing half written may be left. Results go to benchmarks/results/kill_and_resume.json. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measure import report, write

ROOT = Path(__file__).parents[1]
TEXT = ("**/curves.csv", "**/metrics.csv", "table.csv", "tests.csv", "splits.json", "manifest.json")
TENSORS = ("pretext/**/*.pt", "cells/*/model.pt")
FEATURES = "pretext/*/features.npz"
COMPARED = {
    "text": TEXT,
    "tensors": TENSORS,
    "arrays": ("cells/*/cases.npz", "galleries.npz", FEATURES),
    "results": ("cells/*/result.json",),
}
PROGRAMS = ("ultrasound_relation", "multi_organ", "multimodal_breast", "mr_masked_vs_contrastive")


def whole_csv(file: Path) -> None:
    with open(file, newline="") as lines:
        rows = list(csv.reader(lines))
    if not rows or any(len(row) != len(rows[0]) for row in rows) or not file.read_text().endswith("\n"):
        raise ValueError("rows of different lengths, or cut")


def whole_arrays(file: Path) -> None:
    with np.load(file) as arrays:
        for name in arrays.files:
            arrays[name]


PARSERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda file: json.loads(file.read_text()),
    ".csv": whole_csv,
    ".npz": whole_arrays,
    ".npy": np.load,
    ".pt": lambda file: torch.load(file, map_location="cpu", weights_only=True),
    ".ckpt": lambda file: torch.load(file, map_location="cpu", weights_only=True),
}


def damaged(folder: Path) -> tuple[int, list[str]]:
    """Number of files under final names, and those of them that do not parse."""
    files = [
        file for file in folder.rglob("*") if file.suffix in PARSERS and "/." not in f"/{file.relative_to(folder)}"
    ]
    wrong = []
    for file in files:
        try:
            PARSERS[file.suffix](file)
        except (ValueError, OSError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
            wrong.append(f"{file.relative_to(folder)}: {error}")
    return len(files), wrong


def met(folder: Path) -> str:
    """What a kill met, in words."""
    done = len(list(folder.glob("cells/*/result.json")))
    begun = [file.parent for file in folder.glob("*/*/curves.csv") if not _finished(file.parent)]
    words = [f"{done} cells done", *(f"an epoch of {place.name} saved" for place in begun)]
    parts = [file.name.split(".")[1] for file in folder.rglob(".*.part")]
    return ", ".join(words + [f"{name} half written" for name in parts])


def _finished(place: Path) -> bool:
    return any((place / name).exists() for name in ("result.json", "encoder.pt", "network.pt"))


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Processor time that a process has taken; also of one that has ended, until `poll` or `wait` sees that."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime, proc(5)


def start(command: list[str], log: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Start the script; returns it and its processor time at its first line."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    used = cpu_seconds(process)
    while process.poll() is None and log.stat().st_size == 0:
        used = cpu_seconds(process)
        time.sleep(0.005)
    return process, used


def watch(process: subprocess.Popen[bytes], began: float) -> Iterator[float]:
    """Processor time since `began`, again and again until the process ends."""
    while process.returncode is None:
        used = cpu_seconds(process) - began
        if process.poll() is None:
            yield used
            time.sleep(0.005)


def ends(folder: Path) -> list[Path]:
    """What a run makes last: results of cells, and pictures of features."""
    return [*folder.glob("cells/*/result.json"), *folder.glob(FEATURES)]


def differences(one: Path, two: Path) -> tuple[dict[str, int], list[str]]:
    """How many files of each kind were compared, and which differ."""
    counts, wrong = dict.fromkeys(COMPARED, 0), []
    for kind, patterns in COMPARED.items():
        names = [
            sorted(str(file.relative_to(folder)) for pattern in patterns for file in folder.glob(pattern))
            for folder in (one, two)
        ]
        if names[0] != names[1]:
            wrong.append(f"{kind}: other files")
        for name in names[0]:
            counts[kind] += 1
            if not (two / name).exists() or not same(one / name, two / name):
                wrong.append(name)
    return counts, wrong


def same(one: Path, two: Path) -> bool:
    if one.suffix == ".pt":
        a, b = (torch.load(file, map_location="cpu", weights_only=True) for file in (one, two))
        return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())
    if one.name == "result.json":
        a, b = (json.loads(file.read_text()) | {"seconds": None} for file in (one, two))
        return bool(a == b)
    return one.read_bytes() == two.read_bytes()


def trial(script: Path, kills: int, seed: int, place: Path) -> dict[str, Any]:
    """Run unbroken, then killed, in as many folders as it takes to be killed so often; what came of it."""
    command, log = [sys.executable, str(script), "--preset", "smoke", "--out"], place / "log"
    process, began = start([*command, str(place / "whole")], log)
    made, trained, length = 0, 0.0, 0.0
    for length in watch(process, began):
        if (count := len(ends(place / "whole"))) > made:
            made, trained = count, length
    if process.returncode:
        raise SystemExit(log.read_text())
    print(f"unbroken: {trained:.1f} s from its first line to its last result, {length:.1f} s to its end")

    random.seed(seed)
    rows: list[dict[str, Any]] = []
    compared: dict[str, int] = {}
    different: list[str] = []
    run = 0
    while True:
        folder = place / f"broken{run}"
        left = made - len(ends(folder))
        moment = random.uniform(0, trained) if left and len(rows) < kills else float("inf")
        process, began = start([*command, str(folder)], log)
        if any(used >= moment for used in watch(process, began)):
            process.send_signal(signal.SIGKILL)
            process.wait()
            files, wrong = damaged(folder)
            rows.append(
                {
                    "run": run,
                    "after_s": round(moment, 2),
                    "met": met(folder),
                    "files": files,
                    "damaged": wrong,
                }
            )
            print(f"run {run}, killed after {moment:4.1f} s: {files} files, {len(wrong)} damaged; {rows[-1]['met']}")
            continue
        if process.returncode:
            raise SystemExit(f"ended with {process.returncode}:\n{log.read_text()}")
        counts, wrong = differences(place / "whole", folder)
        wrong += [f"{file.relative_to(folder)} was left" for file in folder.rglob(".*.part")]
        compared = {kind: compared.get(kind, 0) + count for kind, count in counts.items()}
        different += [f"run {run}: {name}" for name in wrong]
        print(f"run {run}, at its end: {sum(counts.values())} files compared, {len(wrong)} different")
        if len(rows) == kills:
            break
        run += 1
    return {
        "unbroken_s": round(length, 1),
        "trained_s": round(trained, 1),
        "runs": run + 1,
        "kills": rows,
        "compared": compared,
        "different": different,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--script", type=Path, nargs="+", default=[ROOT / "examples" / f"{name}.py" for name in PROGRAMS]
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))
    content = report("cpu", threads, 1, "lightning")
    for script in args.script:
        print(script.stem)
        with tempfile.TemporaryDirectory() as place:
            outcome = trial(script.resolve(), args.kills, args.seed, Path(place))
        content["jobs"][script.stem] = {"seed": args.seed, **outcome}
        print("identical" if not outcome["different"] else "\n".join(["DIFFERENT:", *outcome["different"]]))
        write("kill_and_resume", content)
    jobs = content["jobs"].values()
    return int(any(job["different"] or any(row["damaged"] for row in job["kills"]) for job in jobs))


if __name__ == "__main__":
    sys.exit(main())
