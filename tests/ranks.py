"""A pool of processes that run a function as the ranks of a gloo group, and the functions that the tests run there."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

import collected
from sslmed.distributed import gather, gather_results, rank, world_size
from sslmed.losses import (
    RelationContrastive,
    byol,
    info_nce,
    local_contrastive,
    masked_l1,
    nce,
    negative_cosine,
    nt_xent,
    perceptual,
)
from sslmed.memory import MemoryBank, MomentumQueue
from sslmed.metrics import stateful

SECONDS = 300  # after which a rank hangs; half of it is a group's own limit


class Ranks:
    """Spawned processes; each call makes a fresh group of the first `world` of them."""

    def __init__(self, most: int) -> None:
        self.most, self.calls = most, 0
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.TemporaryDirectory()
        self.pipes, self.processes = [], []
        for _ in range(self.most):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, world: int, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What `function(*args)` returns on each rank."""
        self.calls += 1
        # The file stays until the processes have ended: they look for it when their group is destroyed.
        file = str(Path(self.folder.name) / f"group-{self.calls}")
        for r, pipe in enumerate(self.pipes[:world]):
            pipe.send((r, world, file, function, args))
        try:
            results = [self._result(r) for r in range(world)]
        except (TimeoutError, EOFError):  # answers that are still to come belong to no later call
            self.close()
            self.start()
            raise
        for failed, value in results:
            if failed:
                raise RuntimeError(value)
        return [value for _, value in results]

    def _result(self, r: int) -> tuple[bool, Any]:
        if not self.pipes[r].poll(SECONDS):
            raise TimeoutError(f"rank {r} hangs")
        result: tuple[bool, Any] = self.pipes[r].recv()
        return result

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.kill()  # it has nothing to finish, and may hang
            process.join()
        self.folder.cleanup()


def _serve(pipe: Connection) -> None:
    import torch._dynamo  # DDP imports it at first use: slowly, while the other ranks' time runs out

    torch.set_num_threads(1)
    while True:
        try:
            r, world, file, function, args = pipe.recv()
        except EOFError:
            return
        dist.init_process_group(
            "gloo",
            init_method=f"file://{file}",
            rank=r,
            world_size=world,
            timeout=timedelta(seconds=SECONDS / 2),
        )
        try:
            pipe.send((False, function(*args)))
        except Exception:
            pipe.send((True, traceback.format_exc()))
        finally:
            dist.destroy_process_group()


def own_rows(x: torch.Tensor, counts: list[int]) -> torch.Tensor:
    return x.split(counts)[rank()]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).double()


def relation_head() -> RelationContrastive:
    torch.manual_seed(1)
    return RelationContrastive(5, hidden=4, input_scale=5.0).double()


def loss_of(kind: str, z0: torch.Tensor, z1: torch.Tensor, head: nn.Module, block_size: int | None) -> torch.Tensor:
    """The loss of all samples' embeddings."""
    n = len(z0)
    if kind == "nt_xent":
        return nt_xent(z0, z1, block_size=block_size)
    if kind == "info_nce":
        return info_nce(z0, z1, block_size=block_size)
    if kind == "info_nce with a queue":
        queue = torch.randn(11, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        return info_nce(z0, z1, queue, block_size=block_size)
    if kind == "info_nce with ids":
        return info_nce(z0, z1, ids=torch.arange(n) // 2, block_size=block_size)
    others = torch.tensor([[j for j in range(n) if j != i] for i in range(n)])
    if kind == "nce":
        return nce(z0, z1, z1[others], population=50)
    return head(z0, z1, z1[others]) if kind == "relation" else share_of_loss(kind, z0, z1, head)


def loss_and_gradients(
    kind: str, x0: torch.Tensor, x1: torch.Tensor, counts: list[int] | None, block_size: int | None = None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A loss and its gradients by all parameters: in one process, or, given `counts`, as a rank under DDP."""
    net, head = network(), relation_head()
    both = nn.ModuleDict({"net": net, "head": head})
    if counts is not None:
        x0, x1 = own_rows(x0, counts), own_rows(x1, counts)
        net = nn.parallel.DistributedDataParallel(net)
    z0, z1 = net(torch.cat([x0, x1])).chunk(2)
    loss = loss_of(kind, gather(z0), gather(z1), head, block_size)
    loss.backward()
    gradients = [p.grad for p in both.parameters() if p.grad is not None]
    return loss.detach(), gradients


def share_of_loss(kind: str, z0: torch.Tensor, z1: torch.Tensor, head: nn.Module) -> torch.Tensor:
    """A loss that does not mix samples, of some of them."""
    queue = torch.randn(11, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    if kind == "info_nce with a queue":
        return info_nce(z0, z1, queue)
    if kind == "relation with a bank":
        return head(z0, z1, queue)
    if kind == "perceptual":
        return perceptual(z0[..., None, None], z1[:, None, :, None, None])
    if kind.startswith("masked_l1"):
        images = z0[:, None, None], z1[:, None, None]
        return masked_l1(*images, images[1] > 0, reduction=kind.removeprefix("masked_l1, "))
    return {"byol": byol, "negative_cosine": negative_cosine, "nt_xent": nt_xent}[kind](z0, z1)


def loss_and_gradients_without_gathering(
    kind: str, x0: torch.Tensor, x1: torch.Tensor, counts: list[int] | None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A loss of own samples and DDP's gradients; or of all samples in one process."""
    net, head = network(), relation_head()
    if counts is not None:
        x0, x1 = own_rows(x0, counts), own_rows(x1, counts)
        net = nn.parallel.DistributedDataParallel(net)
    loss = share_of_loss(kind, *net(torch.cat([x0, x1])).chunk(2), head)
    loss.backward()
    return loss.detach(), [p.grad for p in net.parameters() if p.grad is not None]


def local_loss_and_gradients(
    f0: torch.Tensor, f1: torch.Tensor, counts: list[int] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The local loss does not mix samples: equal shares only need DDP's mean, uneven ones a gather too."""
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 1).double()
    if counts is not None:
        f0, f1 = own_rows(f0, counts), own_rows(f1, counts)
    maps = net(f0), net(f1)
    if counts is not None and len(set(counts)) > 1:
        maps = gather(maps[0]), gather(maps[1])
    loss = local_contrastive(*maps, region=1, negatives=f0.shape[2] * f0.shape[3] - 1)
    loss.backward()
    both = torch.cat([loss.detach()[None], net.weight.grad.flatten()])
    if counts is not None:
        dist.all_reduce(both)
        both /= world_size()
    return both[0], both[1:]


def gathered(x: torch.Tensor, counts: list[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The gathered rows, and the gradient of a sum weighted by place and rank."""
    own = own_rows(x, counts)
    if own.is_floating_point():
        own = own.clone().requires_grad_()
    rows = gather(own)
    if not own.is_floating_point():
        return rows, None
    weight = torch.arange(rows.numel(), dtype=rows.dtype).view_as(rows) * (rank() + 1)
    (rows * weight).sum().backward()
    return rows.detach(), own.grad


def derivatives(x: torch.Tensor, counts: list[int] | None, weight: float = 1.0) -> list[torch.Tensor]:
    """First to third derivatives of a function of all rows, which every rank weighs differently."""
    if counts is not None:
        x, weight = own_rows(x, counts), 1.0 + rank()
    x = x.clone().requires_grad_()
    rows, found = gather(x), []
    value = weight * (rows @ rows.T).sin().sum()
    for _ in range(3):
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        found.append(gradient.detach().clone())
        value = gradient.sin().sum()
    return found


def gradient_penalty(
    x0: torch.Tensor, x1: torch.Tensor, counts: list[int] | None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A loss with a penalty on its gradient by the inputs, and what both give the parameters."""
    net = network()
    if counts is not None:
        x0, x1 = own_rows(x0, counts), own_rows(x1, counts)
        net = nn.parallel.DistributedDataParallel(net)
    x = torch.stack([x0, x1], 1).requires_grad_()
    z = net(x)
    loss = nt_xent(gather(z[:, 0]), gather(z[:, 1]))
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    penalty = gather((gradient / world_size()).square().sum(dim=(1, 2))).sum()
    loss = loss + 100 * penalty
    loss.backward()
    return loss.detach(), [p.grad for p in net.parameters() if p.grad is not None]


def page(blocks: list[str]) -> list[torch.Tensor]:
    """What each block of a page's code leaves as gradients in a network with batch normalisation."""
    found: list[torch.Tensor] = []
    names: dict[str, Any] = {"torch": torch, "nn": nn, "nt_xent": nt_xent}
    for block in blocks:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5), nn.Tanh())
        names |= {"network": network, "model": nn.parallel.DistributedDataParallel(network)}
        names |= {"bank": MemoryBank(16, 5), "queue": MomentumQueue(16, 5, with_ids=True)}
        torch.manual_seed(1 + rank())
        index = rank() + 2 * torch.arange(3 + rank())
        names |= {
            "index": index,
            "ids": index,
            "keys": torch.rand(len(index), 5),
            "v": torch.rand(len(index), 5),
            "view0": torch.rand(len(index), 1, 8, 8),
            "view1": torch.rand(len(index), 1, 8, 8),
        }
        exec(block, names)
        found += [p.grad for p in network.parameters() if p.grad is not None]
        found += [names["bank"].vectors, names["queue"].negatives()]
    return found


def memories(keys: torch.Tensor, counts: list[int] | None) -> list[torch.Tensor]:
    """A queue's rows and ids and a bank's rows after three steps; in one process, or as a rank with its share."""
    queue = MomentumQueue(7, keys.shape[1], with_ids=True)
    bank = MemoryBank(len(keys), keys.shape[1], generator=torch.Generator().manual_seed(0))
    index = torch.arange(len(keys))
    if counts is not None:
        keys, index = own_rows(keys, counts), own_rows(index, counts)
    for step in range(3):
        all_keys, all_index = gather(keys + step), gather(index)
        queue.enqueue(all_keys, all_index)
        bank.update(all_index, all_keys)
    return [queue.negatives(), queue.ids(), bank.vectors]


def broadcast_queue() -> list[tuple[int, list[float], list[int]]]:
    """What a queue in a network under DDP, whose buffers become rank 0's, holds after each of three steps.

    Each rank starts with another number of keys and adds another number.
    """

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.queue = nn.Linear(1, 1), MomentumQueue(6, 1, with_ids=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x)  # type: ignore[no-any-return]

    def enqueue(n: int) -> None:
        net.queue.enqueue(torch.full((n, 1), rank() + 1.0), torch.full((n,), 10 * rank()))

    net, held = Net(), []
    enqueue(2 + 3 * rank())
    wrapped = nn.parallel.DistributedDataParallel(net, broadcast_buffers=True)
    for n in (0, 1 + rank(), 8 - 7 * rank()):
        enqueue(n)
        wrapped(torch.rand(2, 1)).sum().backward()
        held.append((len(net.queue), net.queue.negatives()[:, 0].tolist(), net.queue.ids().tolist()))
    return held


def faults(kind: str) -> tuple[str, torch.Tensor]:
    """What a rank raises when one is at fault, and what it gathers right after."""
    x: Any = torch.zeros(2, 3, requires_grad=True)
    if rank() == 1:
        x = {
            "features": torch.zeros(2, 4, requires_grad=True),
            "dimensions": torch.zeros(2, 3, 1, requires_grad=True),
            "dtype": torch.zeros(2, 3, dtype=torch.float64, requires_grad=True),
            "gradient": torch.zeros(2, 3),
            "type": [1, 2],
            "complex": torch.zeros(2, 3, dtype=torch.complex64),
            "scalar": torch.tensor(1.0),
        }[kind]
    try:
        gather(x)
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}", gather(torch.tensor([rank()]))
    return "nothing", torch.empty(0)


def under_no_grad(x: torch.Tensor, counts: list[int]) -> bool:
    own = own_rows(x, counts).clone().requires_grad_()
    with torch.no_grad():
        return gather(own).requires_grad


def spoiled(kind: str) -> tuple[str, torch.Tensor]:
    """What a rank raises for a loss of rows that do not fit, and what it gathers right after."""
    second = rank() == 1
    z0, z1, ids = torch.rand(3, 4), torch.rand(3, 4), torch.arange(3)
    losses: dict[str, Callable[[], torch.Tensor]] = {
        "rows": lambda: nt_xent(gather(z0), gather(z1[:2] if second else z1)),
        "ids": lambda: info_nce(gather(z0), gather(z1), ids=gather(ids[:2] if second else ids)),
        "width": lambda: nt_xent(gather(z0[:, :3] if second else z0), gather(z1)),
        "integers": lambda: nt_xent(gather(z0.long()), gather(z1.long())),
        "integers on one": lambda: nt_xent(gather(z0.long() if second else z0), gather(z1)),
        "temperature": lambda: nt_xent(gather(z0), gather(z1), temperature=0.0),
        "no rows": lambda: nt_xent(gather(z0[:0]), gather(z1[:0])),
        "no negatives": lambda: info_nce(gather(z0), gather(z1), gather(z1[:0])),
        "keys": lambda: MomentumQueue(8, 5).enqueue(gather(z0)),
    }
    try:
        losses[kind]()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}", gather(torch.tensor([rank()]))
    return "nothing", torch.empty(0)


def an_empty_mask_on_one() -> str:
    """One rank refuses its own data and leaves; the other one waits for it in backward."""
    net = nn.parallel.DistributedDataParallel(nn.Conv2d(1, 1, 1))
    x, mask = torch.rand(2, 1, 4, 4), torch.full((2, 1, 4, 4), rank() == 0)
    try:
        masked_l1(net(x), x, mask).backward()
    except (ValueError, RuntimeError) as error:
        return str(error)
    return "nothing"


def scores(names: list[str], counts: list[int]) -> list[torch.Tensor]:
    """Each metric of own cases, in batches of two, beside a network under DDP."""
    layers = {"net": nn.Linear(1, 1), **{name: collected.make(name) for name in names}}
    ddp = nn.parallel.DistributedDataParallel(nn.ModuleDict(layers))
    values = []
    for name in names:
        metric = ddp.module[name]
        add = metric if isinstance(metric, stateful.PerCase) else metric.update  # neither waits for the others
        pred, target = (own_rows(x, counts) for x in collected.cases(name, sum(counts)))
        for batch in zip(pred.split(2), target.split(2), strict=True):
            if len(batch[0]):
                add(*batch)
        values.append(metric.compute())
        assert torch.equal(metric.compute(), values[-1])  # gathered again, not counted twice
    return values


def scores_that_differ() -> tuple[list[str], torch.Tensor]:
    """What ranks raise where none has a case, and where their rows do not fit; and what they gather right after."""
    metric, messages = stateful.ROCAUC(), []
    for columns in (0, 3 + rank()):
        if columns:
            metric.update(torch.rand(3, columns), torch.arange(3))
        try:
            metric.compute()
        except ValueError as error:
            messages.append(str(error))
    return messages, gather(torch.tensor([rank()]))


def results(x: torch.Tensor, counts: list[int]) -> torch.Tensor:
    own = own_rows(x, counts)
    return gather_results(own.clone().requires_grad_(x.is_floating_point()) if len(own) else None)
