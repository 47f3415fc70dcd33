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


class MomentumQueue(nn.Module):
    """The last `size` keys, oldest overwritten first.

    In a training step compute queries, keys and the loss first, then enqueue, so that no key meets its own
    query:

        loss = info_nce(query, keys, queue.negatives(), ids=ids, negative_ids=queue.ids())
        queue.enqueue(keys, ids)

    The queue starts empty, and `info_nce` refuses no negatives: in the first step contrast within the batch,
    `info_nce(query, keys, ids=ids)`.

    Keys, ids and the running count are persistent buffers: a checkpoint restores the queue in the middle of a
    wrap. Keys are stored as given; `info_nce` normalises them. Change the buffers by `enqueue` and
    `load_state_dict` only: the queue does not see a count that is copied into its buffer.

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
        self.size = _checks.integer("size", size, low=1)
        self.register_buffer("keys", torch.zeros(size, _checks.integer("dim", dim, low=1)))
        self.register_buffer("key_ids", torch.full((size,), -1, dtype=torch.int64) if with_ids else None)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        # The buffer's value as a plain int: reading it from an accelerator would stall every step.
        self._count = 0
        self.register_load_state_dict_post_hook(_recount)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """The number of keys held."""
        return min(self._count, self.size)

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
            self._write(row_ids, ids)
        elif ids is not None:
            raise ValueError("ids must be None for a queue made without with_ids=True")
        elif row_ids is not None:
            raise ValueError("ids must be given for a queue made with with_ids=True, got None")
        self._write(rows, keys.detach())
        self._count += keys.shape[0]
        count.fill_(self._count)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"size={self.size}, dim={self.keys.shape[1]}, with_ids={self.key_ids is not None}"

    def _write(self, ring: torch.Tensor, values: torch.Tensor) -> None:
        # `shape` and not `len`: on tensors that is a call through Python, and there are four here.
        start, count, size = self._count, values.shape[0], self.size
        if count > size:
            start, values, count = start + count - size, values[-size:], size
        start %= size
        room = size - start
        if count <= room:
            ring[start : start + count] = values
        else:
            ring[start:] = values[:room]
            ring[: count - room] = values[room:]


def _recount(queue: nn.Module, _: object) -> None:
    """Read the count after a checkpoint was loaded."""
    if isinstance(queue, MomentumQueue):
        queue._count = int(queue.count)
