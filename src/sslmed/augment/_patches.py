"""Patches of an image grid: cut, join, rearrange."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .._checks import integer, shaped
from .._compat import moved

Grid = tuple[int, int]


def split_patches(x: Tensor, grid: Grid) -> Tensor:
    """Cut images into a grid of patches.

    Args:
        x: (B, C, H, W), any dtype.
        grid: (R, S), rows and columns; they must divide H and W.

    Returns:
        (B, R * S, C, H / R, W / S) patches, row by row.

    Raises:
        ValueError: the grid does not divide the size.

    Example:
        >>> import torch
        >>> x = torch.arange(16.0).view(1, 1, 4, 4)
        >>> split_patches(x, (2, 2))[0, 1, 0]
        tensor([[2., 3.],
                [6., 7.]])
    """
    rows, columns = divided(x, grid)
    return rearrange(x, "b c (r h) (s w) -> b (r s) c h w", r=rows, s=columns)


def join_patches(patches: Tensor, grid: Grid) -> Tensor:
    """Put patches together again: the inverse of `split_patches`.

    Args:
        patches: (B, R * S, C, h, w), any dtype.
        grid: (R, S).

    Returns:
        (B, C, R * h, S * w).

    Raises:
        ValueError: there are not R * S patches.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 3, 6, 4)
        >>> torch.equal(join_patches(split_patches(x, (3, 2)), (3, 2)), x)
        True
    """
    rows, columns = checked_grid(grid)
    shaped("patches", patches, "(B, R * S, C, h, w)", ndim=5)
    if patches.shape[1] != rows * columns:
        raise ValueError(f"patches must hold {rows} x {columns} patches, got shape {tuple(patches.shape)}")
    return rearrange(patches, "b (r s) c h w -> b c (r h) (s w)", r=rows, s=columns)


def permute_patches(x: Tensor, order: Tensor, grid: Grid) -> Tensor:
    """Rearrange the patches of images; slot k of the output holds patch order[:, k] of the input.

    Args:
        x: (B, C, H, W), any dtype.
        order: (B, R * S) integers in 0..R * S - 1 (not checked), patches counted row by row; on any device.
        grid: (R, S); it must divide (H, W).

    Returns:
        (B, C, H, W). `order.argsort(1)` undoes a permutation. Differentiable in `x`.

    Raises:
        TypeError: `order` is not an integer tensor.
        ValueError: the shapes do not fit.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
        >>> permute_patches(x, torch.tensor([[2, 0, 1]]), (1, 3))
        tensor([[[[3., 1., 2.]]]])
    """
    grid = divided(x, grid)
    if not isinstance(order, Tensor) or order.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"order must be an integer tensor, got {getattr(order, 'dtype', type(order).__name__)}")
    if tuple(order.shape) != (x.shape[0], grid[0] * grid[1]):
        expected = (x.shape[0], grid[0] * grid[1])
        raise ValueError(f"order must have shape {expected} for x {tuple(x.shape)}, got {tuple(order.shape)}")
    return gather_patches(x, moved(order, x.device), grid)


def gather_patches(x: Tensor, order: Tensor, grid: Grid, flip: Tensor | None = None) -> Tensor:
    """Copy runs of pixels one patch wide, each from where `order` says: far cheaper than by pixel."""
    batch, channels, height, width = x.shape
    rows, columns = grid
    tall, wide = height // rows, width // columns
    source = order.reshape(batch, 1, rows, 1, columns).long()
    line = torch.arange(0, tall * columns, columns, device=x.device)[:, None]  # (h, 1)
    if flip is not None:
        flip = flip.reshape(batch, 1, rows, 1, columns)
        line = torch.where(flip >= 2, (tall - 1) * columns - line, line)
    lines = height * columns  # of a plane
    plane = torch.arange(0, batch * channels * lines, lines, device=x.device)
    first = source.add(source // columns, alpha=(tall - 1) * columns) + plane.view(batch, channels, 1, 1, 1)
    out = x.reshape(-1, wide).index_select(0, (first + line).view(-1))
    if flip is not None:
        out = out.view(batch, channels, rows, tall, columns, wide)
        out = torch.where((flip % 2 == 1)[..., None], out.flip(-1), out)
    return out.view(x.shape)


def checked_grid(grid: Grid) -> Grid:
    if not isinstance(grid, (tuple, list)) or len(grid) != 2:
        raise ValueError(f"grid must be a pair (rows, columns), got {grid!r}")
    return integer("grid[0]", grid[0], low=1), integer("grid[1]", grid[1], low=1)


def divided(x: Tensor, grid: Grid) -> Grid:
    rows, columns = checked_grid(grid)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    if x.shape[2] % rows or x.shape[3] % columns:
        raise ValueError(f"grid must divide the image size {x.shape[2]} x {x.shape[3]}, got {(rows, columns)}")
    return rows, columns
