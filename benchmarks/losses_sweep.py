"""Time of every loss against batch, features, dtype, layout and temperature, beside the usual ways to write it.

    python benchmarks/losses_sweep.py [--rounds 9] [--device cpu] [--threads 1] [--jobs NT-Xent ...] [--axes n ...]

One setting moves at a time; sizes just below and above a switch of the code are among them. Times are of forward and
backward (`grad` 0: forward alone). `x peer` is the time over that of the quickest peer, `x step` the time per pair over
that of the point before on an axis of sizes. Marked are points that are slower than a peer and points that take
more than 1.5 times as long per pair as the one before. Peers that are not installed are left out. Results go to
benchmarks/results/losses-sweep-<device>.json and .png.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import losses_peers as peers
from measure import RESULTS, Contenders, interleaved, report, settle, write
from sslmed import losses
from sweeps import draw

Inputs = list[torch.Tensor]
Job = tuple[dict[str, Callable[..., torch.Tensor]], Inputs, int]  # by name: loss of inputs; inputs; pairs compared

START: dict[str, Any] = {"n": 256, "k": 4096, "dim": 128, "dtype": "float32", "layout": "contiguous", "grad": 1}
SIZES = {"n", "k", "dim", "size"}
KINDS: dict[str, tuple[Any, ...]] = {
    "dtype": ("float32", "float64", "bfloat16", "float16"),
    "layout": ("contiguous", "transposed", "strided", "expanded"),
    "grad": (0, 1),
}
TEMPERATURES = (0.01, 0.02, 0.024, 0.026, 0.07, 0.5)
DIMS = (2, 16, 64, 127, 128, 129, 256, 1024)
ROWS = (2, 3, 8, 16, 32, 63, 64, 65, 127, 128, 129, 192, 256, 400, 512, 1000, 1023, 1024, 1025, 1500)
QUEUES = (1, 2, 16, 63, 64, 65, 256, 1000, 1023, 1024, 1025, 1100, 2048, 4096, 16384, 65536)


def rows(*shape: int, settings: dict[str, Any]) -> torch.Tensor:
    """Random numbers of the dtype and layout that the settings ask for."""
    dtype, layout = getattr(torch, settings["dtype"]), settings["layout"]
    x = torch.randn(*shape, device=settings["device"])
    if layout == "transposed":
        x = x.to(dtype).mT.contiguous().mT
    elif layout == "strided":
        x = x.repeat_interleave(2, dim=-1).to(dtype)[..., ::2]
    elif layout == "expanded":
        x = x[:1].to(dtype).expand_as(x)
    return x.to(dtype).requires_grad_()


def nt_xent(temperature: float, settings: dict[str, Any]) -> Job:
    n, dim = settings["n"], settings["dim"]
    ways = {"sslmed": lambda a, b: losses.nt_xent(a, b, temperature=temperature)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return ways | peers.nt_xent(temperature, n), pair, (2 * n) ** 2


def in_batch(temperature: float, settings: dict[str, Any]) -> Job:
    n, dim = settings["n"], settings["dim"]
    ways = {"sslmed": lambda a, b: losses.info_nce(a, b, temperature=temperature)}
    return ways | peers.in_batch(temperature), [rows(n, dim, settings=settings) for _ in range(2)], n**2


def shared(temperature: float, settings: dict[str, Any], *, with_ids: bool = False) -> Job:
    n, k, dim = (settings[name] for name in ("n", "k", "dim"))
    queue = rows(k, dim, settings=settings).detach()
    ids: dict[str, torch.Tensor] = {}
    if with_ids:
        ids = {
            name: torch.randint(50, (size,), device=queue.device) for name, size in (("ids", n), ("negative_ids", k))
        }
    ways = {"sslmed": lambda q, p: losses.info_nce(q, p, queue, temperature=temperature, **ids)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return ways | peers.shared(temperature, queue, **ids), pair, n * k


def own(temperature: float, settings: dict[str, Any]) -> Job:
    n, k, dim = settings["n"], settings["k"] // 16, settings["dim"]
    negatives = rows(n, k, dim, settings=settings).detach()
    ways = {"sslmed": lambda q, p: losses.info_nce(q, p, negatives, temperature=temperature)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return ways | peers.own(temperature, negatives), pair, n * k


def nce(temperature: float, settings: dict[str, Any]) -> Job:
    n, k, dim = settings["n"], settings["k"] // 16, settings["dim"]
    negatives = rows(n, k, dim, settings=settings).detach()
    ways = {"sslmed": lambda q, p: losses.nce(q, p, negatives, population=9999, temperature=temperature)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return ways | peers.nce(temperature, negatives), pair, n * k


def relation(_: float, settings: dict[str, Any]) -> Job:
    n, k, dim = settings["n"], settings["k"] // 16, settings["dim"]
    loss = losses.RelationContrastive(dim).to(settings["device"])
    inputs = [rows(size, dim, settings=settings) for size in (n, n, k)]
    return {"sslmed": loss} | peers.relation(loss.head), inputs, n * (k + 1)


def local(temperature: float, settings: dict[str, Any]) -> Job:
    size, dim = settings["size"], settings["dim"] // 8
    ways = {"sslmed": lambda a, b: losses.local_contrastive(a, b, temperature=temperature)}
    pair = [rows(settings["n"] // 32, dim, size, size, settings=settings) for _ in range(2)]
    return ways | peers.local(temperature), pair, settings["n"] // 32 * (size // 3) ** 2


def byol(_: float, settings: dict[str, Any]) -> Job:
    pair = [rows(settings["n"], settings["dim"], settings=settings) for _ in range(2)]
    return {"sslmed": losses.byol} | peers.byol(), pair, settings["n"]


def masked_l1(_: float, settings: dict[str, Any]) -> Job:
    n, size = settings["n"] // 16, settings["size"]
    pair = [rows(n, 1, size, size, settings=settings) for _ in range(2)]
    mask = torch.rand(n, 1, size, size, device=settings["device"]) < 0.5
    return {"sslmed": lambda a, b: losses.masked_l1(a, b, mask)} | peers.masked_l1(mask), pair, n * size**2


JOBS: dict[str, tuple[Callable[[float, dict[str, Any]], Job], dict[str, tuple[Any, ...]]]] = {
    "NT-Xent": (nt_xent, {"n": ROWS, "dim": DIMS, "temperature": TEMPERATURES}),
    "InfoNCE in the batch": (in_batch, {"n": ROWS, "dim": DIMS, "temperature": TEMPERATURES}),
    "InfoNCE, queue": (shared, {"n": (1, *ROWS[:-3]), "k": QUEUES, "dim": DIMS, "temperature": TEMPERATURES}),
    "InfoNCE, queue with ids": (
        lambda t, s: shared(t, s, with_ids=True),
        {"n": (1, *ROWS[:-3]), "k": QUEUES, "temperature": TEMPERATURES},
    ),
    "InfoNCE, own negatives": (own, {"n": (1, 2, 16, 64, 256), "dim": DIMS[1:-1], "temperature": TEMPERATURES}),
    "NCE": (nce, {"n": (1, 2, 16, 64, 256), "dim": DIMS[1:-1], "temperature": TEMPERATURES}),
    "relation": (relation, {"n": (1, 2, 16, 64, 256), "k": (16, 64, 1024, 4096), "dim": DIMS[1:-1]}),
    "local": (local, {"size": (9, 12, 24, 48, 49, 50, 51, 96), "temperature": TEMPERATURES}),
    "BYOL": (byol, {"n": (1, *ROWS), "dim": DIMS}),
    "masked L1": (masked_l1, {"n": (16, 64, 256), "size": (1, 8, 63, 64, 65, 224)}),
}


def measured(title: str, point: dict[str, Any], rounds: int) -> tuple[dict[str, dict[str, float]], int]:
    """Times of all contenders at a point, and the pairs that it compares."""
    build, _ = JOBS[title]
    ways, inputs, pairs = build(point["temperature"], point)
    if not point["grad"]:
        inputs = [x.detach() for x in inputs]

    def call(loss: Callable[..., torch.Tensor]) -> Callable[[], object]:
        if point["grad"]:
            return lambda: torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
        return lambda: loss(*inputs)

    contenders: Contenders = {name: call(loss) for name, loss in ways.items()}
    calls = max(1, min(20, 10**6 // pairs))  # of small inputs several at once, which a clock can tell apart
    repeated: Contenders = {name: lambda step=step: [step() for _ in range(calls)] for name, step in contenders.items()}
    return interleaved(repeated, rounds, point["device"], calls=calls, warm_up=2), pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--axes", nargs="+", default=None, help="axes to run alone; the default is all")
    parser.add_argument("--before", type=Path, help="a result with an earlier version, to draw its times too")
    args = parser.parse_args()
    settle(args.threads)
    content = report(args.device, args.threads, args.rounds, *peers.INSTALLED)
    for title in args.jobs:
        sizes = {"size": 48 if title == "local" else 64, "temperature": 0.1}
        for axis, points in (JOBS[title][1] | KINDS).items():
            if args.axes and axis not in args.axes:
                continue
            print(f"{title} against {axis}", flush=True)
            before = math.inf
            for value in points:
                point: dict[str, Any] = {**START, **sizes, axis: value, "device": args.device}
                ways, pairs = measured(title, point, args.rounds)
                ours = ways["sslmed"]["median_ms"]
                peer, best = min((row["median_ms"], name) for name, row in ways.items() if name != "sslmed")
                content["jobs"].setdefault(title, {}).setdefault(axis, {})[value] = {"pairs": pairs, "ways": ways}
                step = ours / pairs / before if axis in SIZES else 0.0
                before = ours / pairs
                mark = ("  SLOWER THAN A PEER" if ours > peer else "") + ("  STEP" if step > 1.5 else "")
                print(
                    f"  {value!s:<11} {ours:9.4f} ms {ours * 1e6 / pairs:10.3f} ns/pair   "
                    f"x peer {ours / peer:5.2f} ({best})   x step {step:5.2f}{mark}",
                    flush=True,
                )
    write(f"losses-sweep-{args.device}", content)
    picture = RESULTS / f"losses-sweep-{args.device}.png"
    draw(content, picture, unit="ns per pair", before=args.before)


if __name__ == "__main__":
    main()
