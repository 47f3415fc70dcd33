"""A memory bank: one unit embedding of every image of a data set, refreshed as training goes.

Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018, section 3.1,
with the moving average of Misra and van der Maaten, "PIRL", CVPR 2020, section 2.2; Ellis et al., section III.
"""

from __future__ import annotations

import torch
from torch import nn

from .. import _checks
from .._compat import moved, without_autocast
from .._tensor import compute_dtype

_DRAWN = 2**24  # numbers drawn at a time for negatives


class MemoryBank(nn.Module):
    """One unit row of `dim` features for each of `rows` images.

    Rows start as random unit vectors; encode the data set once with `fill` before contrasting with them. The
    rows are a persistent buffer: they are saved in `state_dict` and follow the module to another device or
    dtype (the arithmetic is float32 or wider in any case).

    Indices are integer tensors (N,). Those on the CPU are checked; keep them there, also when the bank lives
    on an accelerator. Those on an accelerator are checked by its own kernels: looking at their values would
    stall it.

    Args:
        rows: images in the data set.
        dim: features D of an embedding.
        momentum: weight of the old row in `update`, in [0, 1]: 0 replaces it, 1 freezes it.
        generator: source of the first rows; the default is torch's global one.

    Raises:
        ValueError: a size below 1, or a momentum outside [0, 1].

    Example:
        >>> import torch
        >>> bank, index = MemoryBank(10, 4), torch.tensor([7, 2])
        >>> bank.fill(index, torch.tensor([[2.0, 0, 0, 0], [0, 3, 0, 0]]))
        >>> bank[index]
        tensor([[1., 0., 0., 0.],
                [0., 1., 0., 0.]])
        >>> bank.negatives(index).shape, bank.negatives(index, 5).shape
        (torch.Size([2, 9, 4]), torch.Size([2, 5, 4]))
    """

    vectors: torch.Tensor

    def __init__(self, rows: int, dim: int, *, momentum: float = 0.5, generator: torch.Generator | None = None) -> None:
        super().__init__()
        _checks.integer("rows", rows, low=1)
        _checks.integer("dim", dim, low=1)
        self.momentum: float = _checks.number("momentum", momentum, low=0, high=1)
        _checks.generator(generator)
        device = None if generator is None else generator.device
        start = torch.randn(rows, dim, generator=generator, device=device)
        self.register_buffer("vectors", torch.nn.functional.normalize(start, dim=1))

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        """A copy (N, D) of the rows `index`, outside any graph."""
        return self.vectors.index_select(0, self._checked(index))

    @torch.no_grad()
    def update(self, index: torch.Tensor, v: torch.Tensor) -> None:
        """Move rows towards new embeddings: row <- unit(m row + (1 - m) unit(v)).

        Other rows keep their bits. So does a row whose new value has no direction, because v is zero, not
        finite (as in a step that a gradient scaler skips) or cancels the row. Of an index that occurs more
        than once, the last occurrence counts.

        Args:
            index: (N,) integers, the images' rows.
            v: (N, D) embeddings; they need not be normalised, and no gradient is kept.

        Raises:
            TypeError: `index` is not of integers, or `v` not of floating point.
            IndexError: an index outside the bank.
            ValueError: shapes or devices that do not fit.
        """
        self._write(index, v, self.momentum)

    @torch.no_grad()
    def fill(self, index: torch.Tensor, v: torch.Tensor) -> None:
        """Replace rows by new embeddings, as `update` with momentum 0: the encode pass before training."""
        self._write(index, v, 0.0)

    @torch.no_grad()
    def negatives(
        self, index: torch.Tensor, k: int | None = None, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Rows of other images, for each image of a batch; never its own.

        Args:
            index: (N,) integers, the batch's rows.
            k: negatives for each image, drawn uniformly without replacement from the others, anew for each
                (in time proportional to N x rows); None: all others, in the bank's order.
            generator: source of the draw, on its own device; the default is torch's global one on the bank's.

        Returns:
            (N, K, D), a copy outside any graph; K is `k`, or rows - 1.

        Raises:
            TypeError: `index` is not of integers, `k` not an int, or the generator not a torch.Generator.
            IndexError: an index outside the bank.
            ValueError: `k` outside 1..rows - 1, or a bank of one row.
        """
        others = len(self) - 1
        if others < 1:
            raise ValueError("rows must be at least 2 for negatives, got a bank of 1 row")
        index = self._checked(index)
        if k is None:
            slots = torch.arange(others, device=index.device).expand(len(index), others)
        else:
            _checks.integer("k", k, low=1, high=others)
            _checks.generator(generator)
            device = index.device if generator is None else generator.device
            # A draw is a number for each of the others; block by block they take no more memory than the result needs.
            block = max(1, _DRAWN // others)
            parts = [
                torch.rand(
                    min(block, len(index) - start),
                    others,
                    generator=generator,
                    dtype=torch.float32,
                    device=device,
                )
                .topk(k, dim=1)
                .indices
                for start in range(0, len(index), block)
            ]
            slots = moved(torch.cat(parts) if parts else index.new_empty(0, k), index.device)
        chosen = slots + (slots >= index[:, None])  # slot s stands for row s, or s + 1 from the own row on
        return self.vectors.index_select(0, chosen.flatten()).view(*chosen.shape, self.vectors.shape[1])

    def extra_repr(self) -> str:
        """Show the settings."""
        rows, dim = self.vectors.shape
        return f"rows={rows}, dim={dim}, momentum={self.momentum:g}"

    def _checked(self, index: torch.Tensor) -> torch.Tensor:
        """The index on the bank's device, as int64; its values are looked at only where they are at hand."""
        _checks.shaped("index", index, "(N,)", ndim=1)
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise TypeError(f"index must be a tensor of integers, got {index.dtype}")
        index = index.long()  # of unsigned integers torch knows no least value
        if index.device.type == "cpu" and len(index):
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= len(self):
                raise IndexError(f"index must be in 0..{len(self) - 1}, got values from {low} to {high}")
        return moved(index, self.vectors.device)

    def _write(self, index: torch.Tensor, v: torch.Tensor, momentum: float) -> None:
        index = self._checked(index)
        _checks.floating("v", v)
        _checks.shaped("v", v, "(N, D)", ndim=2)
        if v.shape != (len(index), self.vectors.shape[1]):
            raise ValueError(
                f"v must have shape (N, D) = ({len(index)}, {self.vectors.shape[1]}), got {tuple(v.shape)}"
            )
        _checks.same_device(v=v, bank=self.vectors)
        if momentum == 1 or not len(index):
            return
        old = self.vectors.index_select(0, index)
        with without_autocast(v.device):
            wide = compute_dtype(v, old)
            fresh, usable = _unit_rows(v.detach().to(wide))
            if momentum:
                moved = old.to(wide).mul(momentum).add(fresh, alpha=1 - momentum)
                length = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
                usable &= length > 8 * torch.finfo(wide).eps  # below, opposite vectors cancelled to rounding noise
                fresh = moved / length
        new = torch.where(usable, fresh.to(old.dtype), old)
        # Every occurrence of an index writes the last one's row: the order in which a device writes does not
        # matter. Of `last`, one number for each row of the bank, only those of the index are ever touched.
        order = torch.arange(len(index), device=index.device)
        last = order.new_empty(len(self)).index_fill_(0, index, -1).scatter_reduce_(0, index, order, "amax")
        self.vectors.index_copy_(0, index, new.index_select(0, last.index_select(0, index)))


def _unit_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (N, D) of length 1, and (N, 1) whether that was possible."""
    x = x / x.abs().amax(dim=1, keepdim=True)  # so that no square overflows or underflows
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length, length.isfinite()
