"""The prostate: a gland whose transition zone lies in the peripheral zone as in a horseshoe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ._bmode import Map

SIDE_MM, HEIGHT_MM = 150.0, 54.0


@dataclass(frozen=True)
class Axes:
    """Millimetres of the voxels' centres: z from the feet up (D, 1, 1), y to the back (1, N, 1), x (1, 1, N)."""

    z: Map
    y: Map
    x: Map

    @classmethod
    def of(cls, depth: int, steps: int) -> Axes:
        """Return the axes of a volume of `depth` slices of `steps` x `steps`; y and x start from the middle."""
        z = (np.arange(depth, dtype=np.float32) + 0.5) * (HEIGHT_MM / depth)
        y = ((np.arange(steps, dtype=np.float32) + 0.5) / steps - 0.5) * SIDE_MM
        return cls(z[:, None, None], y[None, :, None], y[None, None, :])


@dataclass(frozen=True)
class Prostate:
    """The gland's centre and half axes in mm, its outline's waves, and the transition zone inside.

    A wave is an amplitude, a phase, and the phase's turn per mm of height, so that slices change smoothly.
    """

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    waves: tuple[tuple[float, float, float], ...]
    inner_centre: tuple[float, float, float]
    inner_half: tuple[float, float, float]
    inner_waves: tuple[tuple[float, float, float], ...]
    notch_mm: float

    def gland(self, at: Axes) -> Map:
        """Return the signed distance to the gland's outline in mm, negative inside."""
        dz, dy, dx = at.z - self.centre[0], at.y - self.centre[1], at.x - self.centre[2]
        dy = dy + self.notch_mm * np.exp(-((dx / 7.0) ** 2)) * (dy > 0)  # the back is hollow in the middle
        return _egg(dz, dy, dx, self.half, self.waves, at.z)

    def inner(self, at: Axes) -> Map:
        """Return the signed distance to the transition zone, which reaches the gland's front."""
        dz, dy, dx = (a - c for a, c in zip((at.z, at.y, at.x), self.inner_centre, strict=True))
        dy = np.where(dy < 0, 0.45 * dy, dy)
        inner: Map = np.maximum(_egg(dz, dy, dx, self.inner_half, self.inner_waves, at.z), self.gland(at) + 1.0)
        return inner


def _egg(
    dz: Map,
    dy: Map,
    dx: Map,
    half: tuple[float, float, float],
    waves: tuple[tuple[float, float, float], ...],
    z: Map,
) -> Map:
    v, u = dy / half[1], dx / half[2]
    around = np.arctan2(v, u)
    flat = v * v + u * u
    r = np.sqrt((dz / half[0]) ** 2 + flat)
    wave = sum(h * np.cos(k * around + phase + turn * z) for k, (h, phase, turn) in enumerate(waves, start=2))
    # Towards the poles, where all angles meet, the waves fade.
    distance: Map = (r - 1 - wave * flat / (r * r + 1e-6)) * math.sqrt(half[1] * half[2])
    return distance


def draw_prostate(rng: np.random.Generator) -> Prostate:
    """Draw a gland whose transition zone is small, as in the young, to large, as in hyperplasia."""
    u = rng.uniform
    growth = u(0.0, 1.0)
    half = (u(16.0, 20.0) + 2 * growth, u(13.0, 16.0) + 4 * growth, u(21.0, 25.0) + 4 * growth)
    centre = (25.0 + u(-2.5, 2.5), u(-5.0, 3.0), u(-3.0, 3.0))
    share = 0.56 + 0.24 * growth

    def waves(height: float) -> tuple[tuple[float, float, float], ...]:
        return tuple((height * rng.normal(), u(0, 2 * math.pi), u(-0.03, 0.03)) for _ in range(3))

    return Prostate(
        centre=centre,
        half=half,
        waves=waves(0.03),
        inner_centre=(centre[0] + u(1.0, 4.0), centre[1] - u(0.1, 0.25) * half[1], centre[2] + u(-1.0, 1.0)),
        inner_half=(half[0] * (share + 0.1), half[1] * share, half[2] * share),
        inner_waves=waves(0.05),
        notch_mm=u(0.0, 3.0),
    )
