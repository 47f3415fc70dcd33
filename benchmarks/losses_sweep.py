"""Time of every loss against batch, features, dtype, layout and temperature, beside the usual ways to write it.

    python benchmarks/losses_sweep.py [--rounds 9] [--device cpu] [--threads 1] [--jobs NT-Xent ...] [--axes n ...]

One setting moves at a time; sizes just below and above a switch of the code are among them. Times are of forward and
backward (`grad` 0: forward alone). The floor is the matrix products alone, in at least float32; the local loss, BYOL
and masked L1 need none and have no floor. `x peer` is the time over that of the quickest peer, `x step` the time per
pair over that of the point before on an axis of sizes; marked are points that are slower than a peer and steps above
1.5. The peak is of memory beyond the inputs. Peers that are not installed are left out, and so is a peer at a point
where it fails or takes longer than two seconds. Results go to benchmarks/results/losses-sweep-<device>.json and .png.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import losses_peers as peers
from losses_floors import products
from measure import Contenders
from sslmed import losses
from sweeps import Axes, Sweep


@dataclass(frozen=True)
class Job:
    """What is compared at a point.

    Attributes:
        ways: by name, the loss of the inputs.
        inputs: what it takes.
        pairs: how many it compares.
        floor: shapes of the rows and of the others whose products are the floor, or None for no floor.
        both: whether the others have a gradient of their own.
    """

    ways: dict[str, Callable[..., Tensor]]
    inputs: list[Tensor]
    pairs: int
    floor: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    both: bool = False


START: dict[str, Any] = {"n": 256, "k": 4096, "dim": 128, "dtype": "float32", "layout": "contiguous", "grad": 1}
KINDS: dict[str, tuple[Any, ...]] = {
    "dtype": ("float32", "float64", "bfloat16", "float16"),
    "layout": ("contiguous", "transposed", "strided", "expanded"),
    "grad": (0, 1),
}
TEMPERATURES = (0.01, 0.02, 0.024, 0.026, 0.07, 0.5)
DIMS = (2, 16, 64, 127, 128, 129, 256, 1024)
ROWS = (2, 3, 8, 16, 32, 63, 64, 65, 127, 128, 129, 192, 256, 400, 512, 1000, 1023, 1024, 1025, 1500)
QUEUES = (1, 2, 16, 63, 64, 65, 256, 1000, 1023, 1024, 1025, 1100, 2048, 4096, 16384, 65536)


def rows(*shape: int, settings: dict[str, Any]) -> Tensor:
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
    both = 2 * n, dim
    return Job(ways | peers.nt_xent(temperature, n), pair, (2 * n) ** 2, floor=(both, both))


def in_batch(temperature: float, settings: dict[str, Any]) -> Job:
    n, dim = settings["n"], settings["dim"]
    ways = {"sslmed": lambda a, b: losses.info_nce(a, b, temperature=temperature)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return Job(ways | peers.in_batch(temperature), pair, n**2, floor=((n, dim), (n, dim)), both=True)


def shared(temperature: float, settings: dict[str, Any], *, with_ids: bool = False) -> Job:
    n, k, dim = (settings[name] for name in ("n", "k", "dim"))
    queue = rows(k, dim, settings=settings).detach()
    ids: dict[str, Tensor] = {}
    if with_ids:
        ids = {
            name: torch.randint(50, (size,), device=queue.device) for name, size in (("ids", n), ("negative_ids", k))
        }
    ways = {"sslmed": lambda q, p: losses.info_nce(q, p, queue, temperature=temperature, **ids)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return Job(ways | peers.shared(temperature, queue, **ids), pair, n * k, floor=((n, dim), (k, dim)))


def own(temperature: float, settings: dict[str, Any]) -> Job:
    n, k, dim = settings["n"], settings["k"] // 16, settings["dim"]
    negatives = rows(n, k, dim, settings=settings).detach()
    ways = {"sslmed": lambda q, p: losses.info_nce(q, p, negatives, temperature=temperature)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return Job(ways | peers.own(temperature, negatives), pair, n * k, floor=((n, 1, dim), (n, k, dim)))


def nce(temperature: float, settings: dict[str, Any]) -> Job:
    n, k, dim = settings["n"], settings["k"] // 16, settings["dim"]
    negatives = rows(n, k, dim, settings=settings).detach()
    ways = {"sslmed": lambda q, p: losses.nce(q, p, negatives, population=9999, temperature=temperature)}
    pair = [rows(n, dim, settings=settings) for _ in range(2)]
    return Job(ways | peers.nce(temperature, negatives), pair, n * k, floor=((n, 1, dim), (n, k, dim)))


def relation(_: float, settings: dict[str, Any]) -> Job:
    n, k, dim = settings["n"], settings["k"] // 16, settings["dim"]
    loss = losses.RelationContrastive(dim).to(settings["device"])
    inputs = [rows(size, dim, settings=settings) for size in (n, n, k)]
    hidden = loss.head.hidden.out_features
    ways = {"sslmed": loss} | peers.relation(loss.head)
    return Job(ways, inputs, n * (k + 1), floor=((n * (k + 1), dim), (hidden, dim)))


def local(temperature: float, settings: dict[str, Any]) -> Job:
    size, dim = settings["size"], settings["dim"] // 8
    ways = {"sslmed": lambda a, b: losses.local_contrastive(a, b, temperature=temperature)}
    pair = [rows(settings["n"] // 32, dim, size, size, settings=settings) for _ in range(2)]
    return Job(ways | peers.local(temperature), pair, settings["n"] // 32 * (size // 3) ** 2)


def byol(_: float, settings: dict[str, Any]) -> Job:
    pair = [rows(settings["n"], settings["dim"], settings=settings) for _ in range(2)]
    return Job({"sslmed": losses.byol} | peers.byol(), pair, settings["n"])


def masked_l1(_: float, settings: dict[str, Any]) -> Job:
    n, size = settings["n"] // 16, settings["size"]
    pair = [rows(n, 1, size, size, settings=settings) for _ in range(2)]
    mask = torch.rand(n, 1, size, size, device=settings["device"]) < 0.5
    mask[0, 0, 0, 0] = True  # a mask must hide something, at a single pixel too
    return Job({"sslmed": lambda a, b: losses.masked_l1(a, b, mask)} | peers.masked_l1(mask), pair, n * size**2)


JOBS: dict[str, tuple[Callable[[float, dict[str, Any]], Job], Axes]] = {
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


def build(title: str, axis: str, value: Any, device: str) -> tuple[Contenders, int]:
    """The contenders at a point, and the pairs that it compares."""
    sizes = {"size": 48 if title == "local" else 64, "temperature": 0.1}
    point: dict[str, Any] = {**START, **sizes, axis: value, "device": device}
    job = JOBS[title][0](point["temperature"], point)
    backward = bool(point["grad"])
    inputs = job.inputs if backward else [x.detach() for x in job.inputs]
    contenders: Contenders = {}
    if job.floor:
        dtype = torch.promote_types(getattr(torch, point["dtype"]), torch.float32)
        pair = (torch.randn(shape, device=device, dtype=dtype) for shape in job.floor)
        contenders["floor: products"] = products(*pair, backward=backward, both=job.both)

    def call(loss: Callable[..., Tensor]) -> Callable[[], object]:
        if backward:
            return lambda: torch.autograd.grad(loss(*inputs), inputs, allow_unused=True)
        return lambda: loss(*inputs)

    return contenders | {name: call(loss) for name, loss in job.ways.items()}, job.pairs


SWEEP = Sweep(
    name="losses-sweep",
    unit="pair",
    rounds=9,
    jobs={title: {**axes, **KINDS} for title, (_, axes) in JOBS.items()},
    sizes=frozenset({"n", "k", "size"}),
    build=build,
    packages=peers.INSTALLED,
)

if __name__ == "__main__":
    SWEEP.main(__doc__)
