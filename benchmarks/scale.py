"""Time to the first batch, peak memory and disk space of `sslmed pretrain` on many images.

    python benchmarks/scale.py [--images 2000 20000] [--side 256] [--threads 1]

Writes as many PNG files of speckle, then runs the command twice in processes of their own, each stopped after its
first steps: the first start decodes and caches all images at their size, the second finds them. Peaks are of the
resident memory above that after the imports (on Linux, which tells them). Results go to benchmarks/results/scale.json;
the table of docs/scaling.md is made of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from measure import RESULTS, report, write

TEMPLATES = 32  # different pictures; noise of its own makes each file another
STEPS = 3
# In the process that is measured: note when the first batch comes to the method, and stop some batches later.
PROGRAM = """
import json, os, sys, time
from sslmed import methods
from sslmed.studies import commands

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

found, imported = {}, peak()
forward, after_step = methods.SimCLR.forward, methods.SimCLR.after_step

def first(self, *batch):
    found.setdefault("first_batch_s", time.time() - float(sys.argv[1]))
    found.setdefault("first_batch_cpu_s", time.process_time())
    return forward(self, *batch)

def counted(self):
    after_step(self)
    found["steps"] = found.get("steps", 0) + 1
    if found["steps"] == int(sys.argv[2]):
        found["peak_bytes"], found["import_bytes"] = peak() - imported, imported
        print("MEASURED", json.dumps(found), flush=True)
        os._exit(0)

methods.SimCLR.forward = first
methods.SimCLR.after_step = counted
commands.pretrain(sys.argv[3:])
"""


def write_images(folder: Path, count: int, side: int) -> None:
    """Write PNG files of smoothed noise, which compress as scans do."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (TEMPLATES, side // 4, side // 4), dtype=np.uint8)
    wide = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)) for one in small]
    for k in range(count):
        noise = rng.integers(0, 24, (side, side), dtype=np.uint8)
        pixels = wide[k % TEMPLATES] // 2 + noise
        Image.fromarray(pixels).save(folder / f"{k:06d}.png", compress_level=1)


def measured(arguments: list[str], threads: int) -> dict[str, Any]:
    """Run the command until its first steps are done."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(time.time()), str(STEPS), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    line = next(line for line in done.stdout.splitlines() if "MEASURED" in line)
    found: dict[str, Any] = json.loads(line.partition("MEASURED")[2])
    return found


def main() -> None:
    """Measure and write results/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    file = RESULTS / "scale.json"
    content = report("cpu", args.threads, 1)
    content["jobs"] = json.loads(file.read_text())["jobs"] if file.exists() else {}
    for count in args.images:
        with tempfile.TemporaryDirectory() as folder:
            scans, run = Path(folder, "scans"), Path(folder, "run")
            write_images(scans, count, args.side)
            command = ["--data", str(scans), "--out", str(run), "--size", str(args.side * 2 // 3)]
            row: dict[str, Any] = {"files_bytes": sum(path.stat().st_size for path in scans.iterdir())}
            for start in ("first", "second"):
                row[start] = measured(command, args.threads)
            row["cache_bytes"] = sum(path.stat().st_size for path in run.glob("cache/**/*") if path.is_file())
        content["jobs"][f"{count} PNG files of {args.side} px"] = row
        print(count, row)
        write("scale", content)


if __name__ == "__main__":
    main()
