"""The rows of all processes, for losses that mix samples.

Every process computes the same loss of the gathered rows, `nt_xent(gather(z0), gather(z1))`. In backward each
process adds up what all of them ask of its rows; DistributedDataParallel's mean over processes then gives the
parameters exactly the gradient that one process with the whole batch would give them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed as dist
from torch.autograd import Function

from ._tensor import compute_dtype

_MOST_DIMENSIONS = 8
_DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def rank() -> int:
    """The number of this process, 0 where there is no process group."""
    return dist.get_rank() if _in_group() else 0


def world_size() -> int:
    """The number of processes, 1 where there is no process group."""
    return dist.get_world_size() if _in_group() else 1


def gather(x: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows of all processes, in the order of their ranks.

    All processes must call it, and, where a gradient is needed, all must use the result in what they
    differentiate. Without a process group, or in one of a single process, `x` itself is returned.

    Args:
        x: (N, D), or (N, ...); N may differ between processes, and may be 0. Integers, such as ids or
            indices, are gathered too, without a gradient.

    Returns:
        (sum of N over processes, D). Its gradient with regard to `x` is summed over the processes, and so are
        the higher derivatives.

    Raises:
        TypeError: `x` is not a tensor of a supported dtype.
        ValueError: `x` has no dimension, or more than 8; or the processes differ in D, dtype or in whether
            they need a gradient. Every process raises, so that none waits for the others.

    Example:
        >>> import torch
        >>> gather(torch.rand(4, 8)).shape  # no process group: nothing to gather
        torch.Size([4, 8])
    """
    error = _fault(x)
    if world_size() == 1:
        if error is not None:
            raise error
        return x
    needs_gradient = error is None and x.requires_grad and torch.is_grad_enabled()
    everyone = _exchange(_described(x, needs_gradient) if error is None else [0])
    if error is not None:
        raise error
    _agree(everyone)
    counts = [row[3] for row in everyone]
    gathered: torch.Tensor = _Gather.apply(x, counts) if needs_gradient else _collect(x, counts)
    return gathered


def ddp_weight(count: int | torch.Tensor, *, device: torch.device | str | None = None) -> torch.Tensor:
    """Weight of a mean over `count` terms of this process, so that the mean over processes is that over all terms.

    DistributedDataParallel averages gradients with equal weights, while the processes may hold different numbers of
    images. Multiply each process's loss by its weight. All processes must call it.

    Args:
        count: terms of this process's mean: images, or pixels.
        device: of the result; by default that of `count`, or the CPU for an int.

    Returns:
        Processes x count / sum of the counts, a float32 scalar; 1 without a process group.

    Example:
        >>> ddp_weight(8)  # no process group
        tensor(1.)
    """
    if isinstance(count, torch.Tensor):
        own = count.to(device, torch.float64)
    else:  # made there: a copy of a number would wait for the GPU
        own = torch.full((), count, dtype=torch.float64, device=device)
    if world_size() == 1:
        return torch.ones((), dtype=torch.float32, device=own.device)
    total = own.clone()
    dist.all_reduce(total)
    return (world_size() * own / total).float()


def gather_results(x: torch.Tensor | None) -> torch.Tensor:
    """Concatenate what the processes have computed; a process that has nothing yet gives None.

    All processes must call it. It is `gather` without a gradient, for evaluation: a process that has seen no case
    cannot know the shape of the others' rows. Tensors may be on any device, whatever the backend.

    Args:
        x: (N, ...), or None where this process has no rows.

    Returns:
        (sum of N over processes, ...) in the order of the ranks, on the device of `x`; (0,) where no process has rows.

    Raises:
        TypeError: as `gather`.
        ValueError: as `gather`.

    Example:
        >>> import torch
        >>> gather_results(torch.tensor([0.5, 1.0]))
        tensor([0.5000, 1.0000])
        >>> gather_results(None)
        tensor([])
    """
    if world_size() == 1:
        return torch.empty(0) if x is None else gather(x.detach())
    everyone = _exchange([0] if x is None or _fault(x) is not None else _described(x, False))
    if x is not None:
        return gather(x.detach().to(_exchange_device())).to(x.device)
    dimensions, dtype, _, _, *shape = next((row for row in everyone if row[0]), [1, 0, 0, 0])
    return gather(torch.empty(0, *shape[: dimensions - 1], dtype=_DTYPES[dtype], device=_exchange_device()))


class _Gather(Function):
    """The rows of all processes. Its gradient is `_SumOwnRows`, and the gradient of that is `_Gather` again."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, counts: list[int]) -> torch.Tensor:
        ctx.counts = counts
        return _collect(x, counts)

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _SumOwnRows.apply(incoming, ctx.counts), None


class _SumOwnRows(Function):
    """Of a tensor with the rows of all processes: its sum over the processes, of which each keeps its own rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        ctx.counts = counts
        # Half precision is summed in float32. The copy leaves the caller's tensor unchanged.
        total = rows.to(compute_dtype(rows), copy=True).contiguous()
        dist.all_reduce(total)
        own = slice(sum(counts[: rank()]), sum(counts[: rank() + 1]))
        return total[own].to(rows.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Gather.apply(incoming, ctx.counts), None


def _collect(x: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """All processes' rows; those with fewer than the most are padded on the way."""
    most = max(counts)
    sent = x.detach().to(torch.uint8) if x.dtype == torch.bool else x.detach()
    if len(x) < most:
        sent = torch.cat([sent, sent.new_zeros((most - len(x), *x.shape[1:]))])
    received = [torch.empty_like(sent, memory_format=torch.contiguous_format) for _ in counts]
    dist.all_gather(received, sent.contiguous())
    return torch.cat([rows[:n] for rows, n in zip(received, counts, strict=True)]).to(x.dtype)


def _exchange(description: list[int]) -> list[list[int]]:
    """Every process's description, padded with zeros to one length."""
    length = 3 + _MOST_DIMENSIONS + 1
    own = torch.tensor(description + [0] * (length - len(description)), device=_exchange_device())
    everyone = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(everyone, own)
    return [row.tolist() for row in everyone]


def _exchange_device() -> torch.device:
    """Where the processes' backend takes tensors from."""
    on_gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _described(x: torch.Tensor, needs_gradient: bool) -> list[int]:
    """Number of dimensions, dtype, need of a gradient, shape."""
    return [x.ndim, _DTYPES.index(x.dtype), int(needs_gradient), *x.shape]


def _fault(x: torch.Tensor) -> Exception | None:
    if not isinstance(x, torch.Tensor):
        return TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    if x.dtype not in _DTYPES:
        return TypeError(f"x must be of a real floating point, integer or bool dtype, got {x.dtype}")
    if not 1 <= x.ndim <= _MOST_DIMENSIONS:
        return ValueError(f"x must have shape (N, ...) of 1 to {_MOST_DIMENSIONS} dimensions, got {tuple(x.shape)}")
    return None


def _agree(everyone: list[list[int]]) -> None:
    """Raise on every process what is wrong on any."""
    refused = [str(r) for r, row in enumerate(everyone) if row[0] == 0]
    if refused:
        raise ValueError(f"x must be a tensor that can be gathered, but rank {', '.join(refused)} refused its own")
    shapes = [tuple(row[4 : 3 + row[0]]) for row in everyone]
    for what, values in (
        ("shape beyond the first dimension", shapes),
        ("dtype", [str(_DTYPES[row[1]]) for row in everyone]),
        ("requires_grad", [bool(row[2]) for row in everyone]),
    ):
        if len(set(values)) > 1:
            listed = ", ".join(f"{value} on rank {r}" for r, value in enumerate(values))
            raise ValueError(f"x must have the same {what} on all ranks, got {listed}")


def _in_group() -> bool:
    return dist.is_available() and dist.is_initialized()
