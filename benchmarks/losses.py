"""Losses and memories beside their floors and their peers, interleaved in one run.

    python benchmarks/losses.py [--rounds 15] [--device cpu] [--threads 1] [--jobs nt-xent ...]

Times are medians with quartiles in milliseconds, forward and backward for losses; `measure.py` says how they come
about. Memory (CPU on Linux only) is the peak above the inputs, each contender in a process of its own. A floor is the
arithmetic that cannot be left out, done in the plainest way; it is no loss. lightly is left out where it is not
installed. Results go to benchmarks/results/losses-<device>.json and .png.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import measure
from losses_floors import products
from measure import GIVE_BACK, MALLOC, Contenders, interleaved, report, settle, tells_memory, write
from sslmed.losses import info_nce, nt_xent
from sslmed.memory import MomentumQueue, update_ema

HAS_LIGHTLY = importlib.util.find_spec("lightly") is not None


def backward(loss: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    """Forward and backward of a loss of these inputs."""
    wanted = [x for x in inputs if x.requires_grad]
    return lambda: torch.autograd.grad(loss(*inputs), wanted)


def nt_xent_job(device: str, n: int) -> Contenders:
    z0, z1 = (torch.randn(n, 128, device=device, requires_grad=True) for _ in range(2))
    z = torch.randn(2 * n, 128, device=device)

    def usual(a: Tensor, b: Tensor) -> Tensor:
        rows = F.normalize(torch.cat([a, b]), dim=1)
        logits = (rows @ rows.T / 0.5).fill_diagonal_(-1e9)
        partner = torch.arange(n, device=device)
        return F.cross_entropy(logits, torch.cat([partner + n, partner]))

    contenders = {
        "floor: two products": products(z, z),
        "sslmed": backward(nt_xent, z0, z1),
        "sslmed, block_size = 128": backward(lambda a, b: nt_xent(a, b, block_size=128), z0, z1),
        "sslmed, block_size = 640": backward(lambda a, b: nt_xent(a, b, block_size=640), z0, z1),
        "torch: cross_entropy": backward(usual, z0, z1),
    }
    if HAS_LIGHTLY:
        from lightly.loss import NTXentLoss

        contenders["lightly: NTXentLoss"] = backward(NTXentLoss(temperature=0.5), z0, z1)
    return contenders


def info_nce_job(device: str, k: int) -> Contenders:
    query = torch.randn(256, 128, device=device, requires_grad=True)
    key, queue = (F.normalize(torch.randn(rows, 128, device=device), dim=1) for rows in (256, k))

    def usual(q: Tensor) -> Tensor:
        q = F.normalize(q, dim=1)
        logits = torch.cat([(q * key).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / 0.07
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=device))

    contenders = {
        "floor: two products": products(query.detach(), queue),
        "sslmed": backward(lambda q: info_nce(q, key, queue), query),
        "torch: MoCo's cross_entropy": backward(usual, query),
    }
    if HAS_LIGHTLY:
        from lightly.loss import NTXentLoss

        peer = NTXentLoss(temperature=0.07, memory_bank_size=(k, 128)).to(device)
        contenders["lightly: NTXentLoss with bank"] = backward(lambda q: peer(q, key), query)
    return contenders


def enqueue_job(device: str, size: int) -> Contenders:
    keys, place = torch.randn(256, 128, device=device), torch.empty(256, 128, device=device)
    queue, calls = MomentumQueue(size, 128).to(device), range(100)
    columns, at = torch.zeros(128, size, device=device), torch.zeros(1, dtype=torch.int64)

    def moco() -> None:
        start = int(at)
        columns[:, start : start + 256] = keys.T
        at[0] = (start + 256) % size

    steps: dict[str, Callable[[], object]] = {
        "floor: copy": lambda: place.copy_(keys),
        "sslmed": lambda: queue.enqueue(keys),
        "torch: MoCo's columns": moco,
    }
    if HAS_LIGHTLY:
        from lightly.models.modules.memory_bank import MemoryBankModule

        bank = MemoryBankModule(size=(size, 128)).to(device)
        steps["lightly: MemoryBankModule, clones"] = lambda: bank(keys, update=True)
        bank(keys, update=True)
    return {name: lambda step=step: [step() for _ in calls] for name, step in steps.items()}


def ema_job(device: str, _: int) -> Contenders:
    from torchvision.models import resnet50

    online = resnet50().to(device)
    targets = [copy.deepcopy(online) for _ in range(3)]
    flat = [torch.cat([p.detach().flatten() for p in online.parameters()]) for _ in range(2)]

    @torch.no_grad()
    def usual() -> None:
        for old, new in zip(targets[1].parameters(), online.parameters(), strict=True):
            old.data = old.data * 0.999 + new.data * 0.001

    contenders = {
        "floor: one flat lerp_": lambda: flat[0].lerp_(flat[1], 0.001),
        "sslmed": lambda: update_ema(targets[0], online, decay=0.999),
        "torch: loop over parameters": usual,
    }
    if HAS_LIGHTLY:
        from lightly.models.utils import update_momentum

        contenders["lightly: update_momentum"] = lambda: update_momentum(online, targets[2], 0.999)
    return contenders


JOBS: dict[str, tuple[str, Callable[[str, int], Contenders], int, int]] = {
    "nt-xent": ("NT-Xent, N = 1024, D = 128", nt_xent_job, 1024, 1),
    "nt-xent-large": ("NT-Xent, N = 4096, D = 128", nt_xent_job, 4096, 1),
    "info-nce": ("InfoNCE, N = 256, K = 65536, D = 128", info_nce_job, 65536, 1),
    "enqueue": ("enqueue 256 into 65536 x 128", enqueue_job, 65536, 100),
    "ema": ("moving average of a ResNet-50", ema_job, 0, 1),
}
WITH_MEMORY = ("nt-xent", "nt-xent-large", "info-nce")


def peak_mib(job: str, name: str) -> float:
    """Peak memory of one call in this process."""
    _, build, size, _ = JOBS[job]
    build("cpu", 512)[name]()  # libraries take their own buffers at their first call
    return measure.peak_mib(build("cpu", size)[name])


def in_a_fresh_process(job: str, name: str, threads: int) -> float:
    command = [sys.executable, __file__, "--peak", job, name, "--threads", str(threads)]
    done = subprocess.run(command, env={**os.environ, **GIVE_BACK}, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars of the times over the floor's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.9 * len(report["jobs"])), layout="constrained")
    for axes, (title, rows) in zip(
        figure.subplots(len(report["jobs"]), squeeze=False)[:, 0], report["jobs"].items(), strict=True
    ):
        floor = next(row["median_ms"] for name, row in rows.items() if name.startswith("floor"))
        names = list(rows)[::-1]
        ratios = [rows[name]["median_ms"] / floor for name in names]
        colours = ["#1b6ca8" if n.startswith("sslmed") else "#9aa5b1" for n in names]
        bars = axes.barh(names, ratios, color=colours)
        memory = [f", {rows[n]['peak_mib']:.0f} MiB" if "peak_mib" in rows[n] else "" for n in names]
        axes.bar_label(bars, [f" {r:.2f}x{m}" for r, m in zip(ratios, memory, strict=True)])
        axes.set_title(title, loc="left", fontsize=10)
        axes.margins(x=0.2)
        if max(ratios) > 20:
            axes.set_xscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("median time over the floor's")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--peak", nargs=2, metavar=("JOB", "CONTENDER"), help="print one contender's peak memory")
    args = parser.parse_args()
    if args.peak:
        torch.set_num_threads(args.threads)
        print(peak_mib(*args.peak))
        return
    MALLOC.update(dict.fromkeys(MALLOC, "4000000000"))  # lightly gives back more than the usual 1 GB at once
    settle(args.threads)
    content = report(args.device, args.threads, args.rounds, *(["lightly"] if HAS_LIGHTLY else []))
    for job in args.jobs:
        title, build, size, calls = JOBS[job]
        rows = interleaved(build(args.device, size), args.rounds, args.device, calls=calls)
        if job in WITH_MEMORY and args.device == "cpu" and tells_memory("cpu"):
            for name, row in rows.items():
                row["peak_mib"] = in_a_fresh_process(job, name, args.threads)
        content["jobs"][title] = rows
        print(title)
        for name, row in rows.items():
            memory = f"   peak {row['peak_mib']:7.1f} MiB" if "peak_mib" in row else ""
            print(f"  {name:30s} {row['median_ms']:9.3f} ms   {row['q1_ms']:9.3f} to {row['q3_ms']:9.3f}{memory}")
    draw(content, write(f"losses-{args.device}", content).with_suffix(".png"))


if __name__ == "__main__":
    main()
