"""Pixel-sized noise as a function of a seed and a place: the same on every device and in every batch.

A generator's stream depends on the device and on what was drawn before. Here a pixel's number is a hash of
its sample's seed, its plane, its row and its column, so a sample replays from two integers, whatever the
batch around it, eager or compiled, on a processor or an accelerator. Planes, rows and columns are hashed
with care and apart; a pixel combines its three and mixes once more, by lowbias32 (C. Wellons, "Prospecting for
hash functions", 2018).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._compat import moved

_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32  # lowbias32's multipliers, the second as a signed number
_STEP = 0x9E3779B9 - 2**32  # the golden ratio's bits: neighbouring numbers land far apart
_BLOCK_PIXELS = 1 << 16  # keys, spare and field of a block take 256 KiB each
_ROWS, _COLUMNS, _PLANES = 0x243F6A88, 0x13198A2E, 0x03707344  # digits of pi: the axes' own starts
SEED_DRAWS = 2  # uniforms that make a seed


def seed_from(u: Tensor) -> Tensor:
    """Turn uniforms (B, 2) in [0, 1) of float32, 24 bits each, into seeds (B, 2) int32."""
    return (u * 2**24).to(torch.int32)


def uniform_field(seed: Tensor, size: tuple[int, int, int], device: torch.device) -> Tensor:
    """Independent uniform numbers.

    Args:
        seed: (B, 2) int32, of `seed_from`.
        size: (C, H, W) of a sample. A pixel's number does not depend on it.
        device: where the field is made.

    Returns:
        (B, C, H, W) float32 in [0, 1), in steps of 2^-24.
    """
    planes, rows, columns = _keys(moved(seed, device), size)
    rows = (planes[:, :, None] ^ rows[:, None]).flatten(0, 1)
    columns = columns.repeat_interleave(size[0], dim=0)
    if torch.compiler.is_compiling() or device.type != "cpu":
        return _mixed(rows[:, :, None] ^ columns[:, None, :]).mul_(2**-24).view(-1, *size)
    # Some planes at a time: they stay in a core's cache, which is three times as fast.
    field = torch.empty(len(rows), *size[1:], dtype=torch.float32, device=device)
    step = max(1, _BLOCK_PIXELS // max(1, size[1] * size[2]))
    spare = torch.empty(min(step, len(rows)), *size[1:], dtype=torch.int32, device=device)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        keys = rows[block, :, None] ^ columns[block, None, :]
        torch.mul(_mixed(keys, spare[: len(keys)]), 2**-24, out=field[block])
    return field.view(-1, *size)


def normal_field(seed: Tensor, size: tuple[int, int, int], device: torch.device) -> Tensor:
    """Independent standard normal numbers, by Box and Muller's transform; none is beyond 5.9.

    Arguments as in `uniform_field`; gives (B, C, H, W) float32. A pixel's number depends on W.
    """
    channels, height, width = size
    half = (width + 1) // 2
    u = uniform_field(seed, (channels, height, 2 * half), device)
    radius = u[..., :half].add_(2**-25).log_().mul_(-2).sqrt_()
    angle = u[..., half:].mul_(2 * math.pi)
    field = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return field[..., :width]


def normal_at(seed: Tensor, size: tuple[int, int, int], place: Tensor) -> Tensor:
    """Give the numbers of `normal_field` at places (n,), indices into the flat (B, C, H, W) field, on the CPU."""
    channels, height, width = size
    half = (width + 1) // 2
    planes, rows, columns = _keys(seed.cpu(), (channels, height, 2 * half))
    row = place // width
    column = place - row * width
    second = (column >= half).to(place.dtype)
    first = column - half * second + row // (channels * height) * (2 * half)
    key = (planes[:, :, None] ^ rows[:, None]).flatten().index_select(0, row)
    columns = columns.flatten()
    radius = _mixed(key ^ columns.index_select(0, first)).mul_(2**-24).add_(2**-25).log_().mul_(-2).sqrt_()
    angle = _mixed(key ^ columns.index_select(0, first + half)).mul_(2 * math.pi * 2**-24)
    return radius.mul_(angle.sub_(second, alpha=math.pi / 2).cos_())


def _keys(seed: Tensor, size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Hash each plane (B, C), row (B, H) and column (B, W) of each sample."""
    if seed.dtype != torch.int32:  # wider integers do not wrap where these do, so they would give another field
        raise TypeError(f"seed must hold int32, got {seed.dtype}")
    first, second = seed[:, :1], seed[:, 1:]
    starts = zip(size, (_PLANES, _ROWS, _COLUMNS), strict=True)
    places = [torch.arange(n, dtype=torch.int32, device=seed.device) * _STEP + start for n, start in starts]
    planes, rows, columns = (_hash(_hash(place + first) ^ second) for place in places)
    return planes, rows, columns


def _hash(x: Tensor) -> Tensor:
    x = x ^ (x >> 16 & 0xFFFF)
    x = x * _FIRST
    x = x ^ (x >> 15 & 0x1FFFF)
    x = x * _SECOND
    return x ^ (x >> 16 & 0xFFFF)


def _mixed(x: Tensor, spare: Tensor | None = None) -> Tensor:
    """The top 24 bits of `_hash` as float32's whole numbers; works in `x`, and in `spare` of its shape."""
    spare = torch.empty_like(x) if spare is None else spare
    for shift, bits, factor in ((16, 0xFFFF, _FIRST), (15, 0x1FFFF, _SECOND)):
        torch.bitwise_right_shift(x, shift, out=spare)
        x ^= spare.bitwise_and_(bits)  # the shift copies the sign bit; a logical one does not
        x *= factor
    return x.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).to(torch.float32)
