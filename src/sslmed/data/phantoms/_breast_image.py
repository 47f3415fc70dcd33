"""One image of a breast phantom: the anatomy, its B-mode image, and the measuring crosses some carry."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ._bmode import Map, Scanner, b_mode_db, display
from ._breast import NORMAL, draw_lesion, place, tissue

_FINEST_MM = 0.32  # the grid of the physics; displayed pixels average over it where they are coarser


def render(label: int, size: int, rng: np.random.Generator) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Draw the anatomy first, whose draws do not depend on `size`, then the scatterers."""
    scanner = Scanner()
    fine = max(1, math.ceil(scanner.width_mm / size / _FINEST_MM))
    echo, specular, attenuation = tissue(rng, size * fine, scanner)
    dynamic_range_db, middle_db = rng.uniform(42, 58), rng.uniform(-6, 4)
    mask: npt.NDArray[np.bool_] = np.zeros((size, size), dtype=bool)
    crosses: list[tuple[float, float]] = []
    if label != NORMAL:
        lesion = draw_lesion(label, rng, scanner)
        distance = place(lesion, echo, specular, attenuation, rng, scanner)
        mask = (F.avg_pool2d(torch.from_numpy(distance)[None], fine)[0] < 0).numpy()
        if rng.uniform() < 0.12:
            crosses = _ends(
                lesion.x_mm + scanner.width_mm / 2, lesion.z_mm, lesion.half_width_mm, lesion.half_height_mm
            )
    envelope_db = b_mode_db(echo, specular, attenuation, scanner, rng)
    image = display(envelope_db, size, scanner, dynamic_range_db=dynamic_range_db, middle_db=middle_db)
    for x_mm, z_mm in crosses:
        _cross(image, round(z_mm / scanner.depth_mm * size), round(x_mm / scanner.width_mm * size))
    return np.rint(image * 255) / np.float32(255), mask


def _ends(x_mm: float, z_mm: float, half_width_mm: float, half_height_mm: float) -> list[tuple[float, float]]:
    return [
        (x_mm - half_width_mm, z_mm),
        (x_mm + half_width_mm, z_mm),
        (x_mm, z_mm - half_height_mm),
        (x_mm, z_mm + half_height_mm),
    ]


def _cross(image: Map, row: int, column: int) -> None:
    """Burn a measuring cross of about 1.5 mm into the image, as far as it lies inside."""
    arm = max(1, len(image) // 50)
    image[max(row, 0) : row + 1, max(column - arm, 0) : max(column + arm + 1, 0)] = 0.9
    image[max(row - arm, 0) : max(row + arm + 1, 0), max(column, 0) : column + 1] = 0.9
