"""From beams that fan out to the picture on the screen: black outside the sector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..._compat import cached_tensors
from ._bmode import Map, Scanner, display


@dataclass(frozen=True)
class Sector:
    """A fan of beams from a probe's face of `radius_mm` (0: a phased array), `half_angle` to each side, in radians.

    The screen shows a square of `side_mm` whose top middle is the middle of the probe's face, `top_mm` down.
    """

    radius_mm: float
    half_angle: float
    depth_mm: float

    @property
    def side_mm(self) -> float:
        """Side of the square that holds the sector."""
        sag = self.radius_mm * (1 - math.cos(self.half_angle))
        width = 2 * (self.radius_mm + self.depth_mm) * math.sin(self.half_angle)
        return 1.03 * max(width, self.depth_mm + sag)

    @property
    def top_mm(self) -> float:
        """Distance of the face's middle from the upper edge."""
        sag = self.radius_mm * (1 - math.cos(self.half_angle))
        return (self.side_mm - self.depth_mm + sag) / 2

    def screen_mm(self, steps: int) -> tuple[Map, Map]:
        """Return the depth below the face's middle (steps, 1) and the place across (steps,) of the square's pixels."""
        centres = (np.arange(steps, dtype=np.float32) + 0.5) * (self.side_mm / steps)
        return centres[:, None] - self.top_mm, centres - (self.side_mm / 2)

    def beams_mm(self, steps: int) -> tuple[Map, Map, Map]:
        """Return depth and place across of the (steps, steps) samples along the beams, and their angles (steps,)."""
        centres = (np.arange(steps, dtype=np.float32) + 0.5) / steps
        angle = (2 * centres - 1) * self.half_angle
        along = centres[:, None] * self.depth_mm + self.radius_mm
        return along * np.cos(angle) - self.radius_mm, along * np.sin(angle), angle


@cached_tensors(maxsize=8)
def _places(sector: Sector, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the screen's (steps, steps) pixels lie among the beams, for `grid_sample`, and which lie inside."""
    z, x = sector.screen_mm(steps)
    from_centre = np.hypot(z + sector.radius_mm, x)
    depth = 2 * (from_centre - sector.radius_mm) / sector.depth_mm - 1
    across = np.arctan2(np.broadcast_to(x, depth.shape), z + sector.radius_mm) / sector.half_angle
    grid = torch.from_numpy(np.stack([across, depth], axis=-1)).float()
    return grid[None], (grid.abs() <= 1).all(dim=-1)


def scan_convert(
    envelope_db: Map,
    size: int,
    scanner: Scanner,
    sector: Sector,
    *,
    dynamic_range_db: float,
    middle_db: float,
) -> Map:
    """Log-compress beams (S, S) as `display` does and lay them out on a screen of (size, size); 0 outside."""
    steps = len(envelope_db)
    beams = torch.from_numpy(
        display(envelope_db, steps, scanner, dynamic_range_db=dynamic_range_db, middle_db=middle_db)
    )
    fine = max(1, math.ceil(steps / size))
    grid, inside = _places(sector, size * fine)
    screen = F.grid_sample(beams[None, None], grid, padding_mode="border", align_corners=False)
    image: Map = F.avg_pool2d(screen * inside, fine)[0, 0].numpy()
    return image
