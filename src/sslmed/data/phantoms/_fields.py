"""Smooth random fields and soft edges that the phantoms' tissue is drawn with."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from ..._compat import cached_tensors
from ._bmode import Map, Scanner, product


@cached_tensors(maxsize=32)
def basis(steps: int, extent_mm: float, scale_mm: float, margin_mm: float = 0.0) -> torch.Tensor:
    """Return Gaussian bumps `scale_mm` apart, (steps, bumps), whose sum with unit normals has variance near 1."""
    centres = np.arange(-margin_mm - 2 * scale_mm, extent_mm + margin_mm + 2 * scale_mm, scale_mm)
    step_mm = extent_mm / steps
    extra = round(margin_mm / step_mm)
    at = (np.arange(-extra, steps + extra) + 0.5) * step_mm
    peaks = np.exp(-((at[:, None] - centres) ** 2) / (2 * (0.6 * scale_mm) ** 2))
    return F.normalize(torch.from_numpy(peaks).float(), dim=1)


def bumps(rng: np.random.Generator, steps: int, scanner: Scanner, dz_mm: float, dx_mm: float, margin_mm: float) -> Map:
    """Return a smooth Gaussian field of unit variance whose grain is dz_mm deep and dx_mm wide."""
    z, x = basis(steps, scanner.depth_mm, dz_mm, margin_mm), basis(steps, scanner.width_mm, dx_mm)
    # torch's products: NumPy's would spin up threads of their own in every worker of a DataLoader.
    heights = torch.from_numpy(rng.standard_normal((z.shape[1], x.shape[1]), dtype=np.float32))
    return product(z, heights, x.T).numpy()


def axes_mm(steps: int, scanner: Scanner) -> tuple[Map, Map]:
    """Return the pixel centres' depth (steps, 1) and place across, from the middle (steps,)."""
    centres = (np.arange(steps, dtype=np.float32) + np.float32(0.5)) / np.float32(steps)
    return centres[:, None] * np.float32(scanner.depth_mm), (centres - np.float32(0.5)) * np.float32(scanner.width_mm)


def step(depth_mm: Map, boundary_mm: Map | float, width_mm: float) -> Map:
    """Return 0 above a boundary and 1 below it, over `width_mm`."""
    ramp: Map = np.clip((depth_mm - boundary_mm) / width_mm + 0.5, 0, 1)
    return ramp


def line(distance: Map, width: Map | float) -> Map:
    """Return a ridge of height 1 where `distance` is 0, gone at `width`."""
    ridge: Map = np.maximum(1 - np.square(distance / width), 0)
    return ridge
