"""A first-in first-out queue of keys: many negatives from recent batches.

He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020, section 3.2. Unlike
the reference code, the queue starts empty and gives out filled rows only (random rows are fake negatives),
takes batches of any size, and can hold an id for each key, so that the loss leaves out keys of the same
patient or image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .. import _checks

_NO_ID = torch.iinfo(torch.int64).min  # of a place without a key


class MomentumQueue(nn.Module):
    """The last `size` keys, oldest overwritten first.

    In a training step compute queries, keys and the loss first, then enqueue, so that no key meets its own
    query:

        loss = info_nce(query, keys, queue.negatives(), ids=ids, negative_ids=queue.ids())
        queue.enqueue(keys, ids)

    The queue starts empty, and `info_nce` refuses no negatives: in the first step contrast within the batch,
    `info_nce(query, keys, ids=ids)`.

    Keys, ids and the running count are persistent buffers: a checkpoint restores the queue in the middle of a
    wrap. Keys are stored as given; `info_nce` normalises them. The number of keys is read from the buffers, also
    after a checkpoint, a copy or a broadcast has changed them. A checkpoint that lacks a part of the queue, or holds it
    in another shape, leaves the queue empty (with `strict=False`; otherwise torch raises).

    On an accelerator, reading the number waits for the work that is queued there. This ends once `2 * size` keys have
    come: the queue then counts as full until `load_state_dict` or `.to`. `enqueue` never waits. `torch.compile` breaks
    its graph, without compiling again, where the number is read.

    Args:
        size: keys held at most.
        dim: features D of a key.
        with_ids: hold an integer for each key.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import torch
        >>> queue = MomentumQueue(8, 4)
        >>> for _ in range(3):
        ...     queue.enqueue(torch.rand(3, 4))
        >>> len(queue), queue.negatives().shape
        (8, torch.Size([8, 4]))
    """

    keys: torch.Tensor
    key_ids: torch.Tensor | None
    count: torch.Tensor

    def __init__(self, size: int, dim: int, *, with_ids: bool = False) -> None:
        super().__init__()
        self.size: int = _checks.integer("size", size, low=1)
        self.register_buffer("keys", torch.zeros(size, _checks.integer("dim", dim, low=1)))
        self.register_buffer("key_ids", torch.full((size,), _NO_ID, dtype=torch.int64) if with_ids else None)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._full = False  # known to be full, for where reading the count has to wait

    def __len__(self) -> int:
        """The number of keys held; on the meta device, which holds no values, that of a full queue."""
        count: Any = self._buffers["count"]
        if count.is_meta:
            return self.size
        if self._full and not _is_at_hand(count):
            return self.size
        total = int(count)
        # A whole lap more than full: no broadcast from a process that is some keys behind brings it below full again.
        self._full = total >= 2 * self.size
        return min(total, self.size)

    def negatives(self) -> torch.Tensor:
        """The keys held, (len, D), in the order of their places.

        They are a view, because a copy of a large queue costs more than the rest of the step. `info_nce`
        needs them no more once it has returned; a loss of your own needs `negatives().clone()`, or its
        backward before the next `enqueue`, else autograd raises an error.
        """
        return self.keys[: len(self)]

    def ids(self) -> torch.Tensor:
        """The ids of the keys held, (len,), in the order of `negatives`.

        Raises:
            ValueError: the queue was made without ids.
        """
        if self.key_ids is None:
            raise ValueError("with_ids must be True for a queue that gives out ids, got False")
        return self.key_ids[: len(self)]

    def enqueue(self, keys: torch.Tensor, ids: torch.Tensor | None = None) -> None:
        """Add keys, overwriting the oldest ones of a full queue.

        Args:
            keys: (N, D), any N; of a batch larger than the queue the last keys stay. No gradient is kept.
            ids: (N,) integers if the queue holds ids, else None.

        Raises:
            TypeError: `keys` is not of floating point, or `ids` not of integers.
            ValueError: shapes or devices that do not fit, or ids given to a queue without them or missing.
        """
        # As attributes, buffers cost a call through Python each, which together take as long as the copy.
        buffers: dict[str, Any] = self._buffers
        rows, row_ids, count = buffers["keys"], buffers["key_ids"], buffers["count"]
        _checks.floating("keys", keys)
        _checks.shaped("keys", keys, "(N, D)", ndim=2)
        if keys.shape[1] != rows.shape[1]:
            raise ValueError(f"keys must have shape (N, {rows.shape[1]}), got {tuple(keys.shape)}")
        _checks.same_device(keys=keys, queue=rows)
        if ids is not None and row_ids is not None:
            _checks.shaped("ids", ids, "(N,)", ndim=1)
            if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
                raise TypeError(f"ids must be a tensor of integers, got {ids.dtype}")
            if len(ids) != len(keys):
                raise ValueError(f"ids must have shape ({len(keys)},) to label keys, got {tuple(ids.shape)}")
            _checks.same_device(ids=ids, queue=row_ids)
        elif ids is not None:
            raise ValueError("ids must be None for a queue made without with_ids=True")
        elif row_ids is not None:
            raise ValueError("ids must be given for a queue made with with_ids=True, got None")
        write = _write if _is_at_hand(count) else _write_unseen
        write(count, rows, keys.detach())
        if ids is not None:
            write(count, row_ids, ids)
        count.add_(keys.shape[0])

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"size={self.size}, dim={self.keys.shape[1]}, with_ids={self.key_ids is not None}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load the queue whole, or leave it empty: rows, ids and count of different queues make no sense together."""
        shapes = {prefix + name: buffer.shape for name, buffer in self.named_buffers()}
        found = {name: state_dict[name].shape for name in shapes if name in state_dict}
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._full = False
        if not found or self.count.is_meta:
            return
        held = len(self) if found == shapes else 0
        # The state may be a queue's own one in part, to which another's count was added: a row that was never written
        # is zero, or has no id.
        written = self.keys[:held].any(dim=1)
        if self.key_ids is not None:
            written &= self.key_ids[:held] != _NO_ID
        filled = int(written.nonzero().max()) + 1 if written.any() else 0
        if filled < held or not held:
            self.count.fill_(filled)

    def _apply(self, *args: Any, **settings: Any) -> MomentumQueue:
        self._full = False  # `to_empty` leaves no values
        super()._apply(*args, **settings)  # type: ignore[no-untyped-call]
        return self


def _is_at_hand(count: torch.Tensor) -> bool:
    """Whether reading the value neither waits for an accelerator nor breaks a graph."""
    return count.device.type == "cpu" and not torch.compiler.is_compiling()


def _write(count: torch.Tensor, ring: torch.Tensor, values: torch.Tensor) -> None:
    """Write key number k to place k modulo the size, in slices."""
    # `shape` and not `len`: on tensors that is a call through Python, and there are four here.
    start, number, size = int(count), values.shape[0], ring.shape[0]
    if number > size:
        start, values, number = start + number - size, values[-size:], size
    start %= size
    room = size - start
    if number <= room:
        ring[start : start + number] = values
    else:
        ring[start:] = values[:room]
        ring[: number - room] = values[room:]


def _write_unseen(count: torch.Tensor, ring: torch.Tensor, values: torch.Tensor) -> None:
    """As `_write`, without a look at the count; on a CPU it takes several times as long."""
    number, size = values.shape[0], ring.shape[0]
    first = max(0, number - size)
    places = (torch.arange(first, number, device=ring.device) + count) % size
    ring.index_copy_(0, places, values[first:].to(ring.dtype))
