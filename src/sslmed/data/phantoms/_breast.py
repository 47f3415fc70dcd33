"""Maps of a breast under a linear probe: skin, fat with septa, gland, muscle, and a lesion of stated class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ._bmode import Map, Scanner, product
from ._fields import axes_mm, basis, bumps, line, step

BENIGN, MALIGNANT, NORMAL = 0, 1, 2
_ANGLES = 256


@dataclass(frozen=True)
class Lesion:
    """A lesion around (x_mm, z_mm), z the depth.

    `radius` is the outline in units of the half axes, at equal angles; `rough_mm` is how far the border strays from it,
    `edge_mm` how wide the border is. `echo_db` is the backscatter, `texture_db` its variation inside, `rim_db` that of
    a capsule (benign) or halo (malignant) `rim_mm` wide.
    """

    x_mm: float
    z_mm: float
    half_width_mm: float
    half_height_mm: float
    tilt: float
    radius: npt.NDArray[np.float32]
    echo_db: float
    texture_db: float
    rough_mm: float
    edge_mm: float
    rim_db: float
    rim_mm: float
    attenuation: float
    edge_shadow: float
    specks: int

    def distance(self, x_mm: Map, z_mm: Map) -> tuple[Map, Map]:
        """Return the signed distance to the border in mm, negative inside, and cos² of the angle to its width."""
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        dx, dz = x_mm - self.x_mm, z_mm - self.z_mm
        u = (dx * c + dz * s) / self.half_width_mm
        v = (dz * c - dx * s) / self.half_height_mm
        slot = (np.arctan2(v, u) * (_ANGLES / 2 / math.pi) + _ANGLES).astype(np.int64) % _ANGLES
        square = u * u + v * v
        mean_mm = math.sqrt(self.half_width_mm * self.half_height_mm)
        return (np.sqrt(square) - self.radius[slot]) * mean_mm, u * u / (square + 1e-6)


def draw_lesion(label: int, rng: np.random.Generator, scanner: Scanner) -> Lesion:
    """Draw a lesion with the statistics of its class; the classes overlap, as in patients."""
    u = rng.uniform
    benign = label == BENIGN
    angle = np.arange(_ANGLES, dtype=np.float32) * np.float32(2 * np.pi / _ANGLES)
    lobes = u(0.0, 0.08) if benign else u(0.05, 0.17)
    radius = np.ones(_ANGLES, dtype=np.float32)
    for k in (2, 3, 4, 5):
        radius += np.float32(lobes * rng.normal() / k**0.5) * np.cos(k * angle + np.float32(u(0, 2 * np.pi)))
    radius = np.clip(radius, 0.45, 1.8)
    aspect = float(np.exp(rng.normal(0.42, 0.2) if benign else rng.normal(-0.02, 0.25)))  # width / height
    mean_mm = min(max(float(np.exp(rng.normal(np.log(4.8 if benign else 6.0), 0.5))), 2.0), 11.0)
    half_width, half_height = mean_mm * aspect**0.5, mean_mm / aspect**0.5
    kind = u()
    if benign and kind < 0.25:  # cyst: no scatterers, no loss
        echo, texture, attenuation, rim = u(-45, -32), 0.0, u(0.0, 0.1), u(0, 4)
    elif benign and kind < 0.37:  # lipoma, hamartoma
        echo, texture, attenuation, rim = u(0.0, 5.0), u(0.5, 2.0), u(0.5, 0.8), u(0, 4)
    elif benign:  # fibroadenoma
        echo, texture, attenuation, rim = u(-18, -7), u(0.5, 2.5), u(0.2, 0.85), u(0, 5)
    else:
        echo, texture, attenuation, rim = u(-24, -9), u(1.5, 4.0), u(0.6, 2.2), u(0, 5)
    reach_x, reach_z = 0.9 * half_width, 1.1 * half_height
    return Lesion(
        x_mm=u(reach_x - scanner.width_mm / 2, scanner.width_mm / 2 - reach_x),
        z_mm=u(3.0 + reach_z, max(0.62 * scanner.depth_mm - 0.4 * reach_z, 4.0 + reach_z)),
        half_width_mm=half_width,
        half_height_mm=half_height,
        tilt=rng.normal(0.0, 0.15 if benign else 0.35),
        radius=radius,
        echo_db=echo,
        texture_db=texture,
        rough_mm=u(0.0, 0.15) if benign else u(0.2, 0.9),
        edge_mm=u(0.15, 0.6) if benign else u(0.6, 3.0),
        rim_db=rim,
        rim_mm=u(0.4, 0.8) if benign else u(1.0, 2.5),
        attenuation=attenuation,
        edge_shadow=u(0.0, 2.5) if benign else 0.0,
        specks=0 if benign or u() < 0.6 else int(rng.integers(3, 9)),
    )


def tissue(rng: np.random.Generator, steps: int, scanner: Scanner) -> tuple[Map, Map, Map]:
    """Draw the layers of a breast as the maps echo_db, specular and attenuation, (steps, steps), of `b_mode_db`."""
    u = rng.uniform
    margin_mm = 6.0
    step_mm = scanner.depth_mm / steps
    z, x = axes_mm(steps, scanner)
    across = basis(steps, scanner.width_mm, 8.0)
    # (steps, 7): the fold of all layers, four boundaries' own waves, the sheen of two of them.
    waves = product(across, torch.from_numpy(rng.standard_normal((across.shape[1], 7), dtype=np.float32))).numpy()
    bend_mm = np.clip(waves[:, 0] * u(0.2, 2.0) + x * u(-0.1, 0.1), -5.5, 5.5)
    # Textures live in the layers' own depth, so that streaks follow the folds.
    # A few grains to choose from, so that their bases can be kept.
    grains_mm = (
        ((1.8, 2.6), (5.0, 8.0)),
        ((0.55, 0.75, 1.0), (3.0, 4.5, 6.5)),
        ((1.0, 1.4, 1.9), (1.4, 2.0, 2.8)),
    )
    chosen_mm = [(deep[int(u(0, len(deep)))], wide[int(u(0, len(wide)))]) for deep, wide in grains_mm]
    stack = np.stack([bumps(rng, steps, scanner, deep, wide, margin_mm) for deep, wide in chosen_mm])
    row = np.arange(steps)[:, None] + np.rint((margin_mm - bend_mm) / step_mm).astype(np.int64)
    lobule, streak, grain = stack[:, np.clip(row, 0, stack.shape[1] - 1), np.arange(steps)]

    top = u(0.8, 1.8) + waves[:, 1] * 0.1
    fat_end = np.maximum(top + u(1.0, 10.0) + bend_mm + waves[:, 2] * 0.7, top + 0.3)
    gland_end = np.maximum(fat_end + u(10.0, 26.0) + waves[:, 3] * 1.2, fat_end + 4.0)
    below_top, below_fat, below_gland = step(z, top, 0.4), step(z, fat_end, 0.9), step(z, gland_end, 2.0)
    in_fat, in_gland = below_top * (1 - below_fat), below_fat * (1 - below_gland)

    patchy = np.clip(grain * 0.5 + lobule * 0.5 + u(0.0, 0.6), 0, 1.5)
    septum = line(lobule, u(0.06, 0.16)) * patchy
    fascicle = line(streak - u(1.1, 1.7), 0.5)
    fat_db = u(-8, -1) + u(0.8, 2.5) * streak + u(0.3, 1.2) * grain
    gland_db = u(2.0, 5.5) * streak + u(1.0, 4.0) * lobule
    gland_db -= u(1.0, 10.0) * np.clip(grain - u(0.2, 1.0), 0, 1.6)
    muscle_db = u(-12, -4) + u(2.5, 6.0) * streak - u(0.2, 1.0) * np.maximum(z - gland_end, 0)
    skin_db = u(-6, 1)
    echo = skin_db + (fat_db - skin_db) * below_top
    echo += (gland_db - echo) * below_fat
    echo += (muscle_db - echo) * below_gland

    specular = u(0.4, 2.2) * septum * in_fat
    specular += fascicle * (u(0.1, 2.2) * in_gland + u(0.0, 0.9) * below_gland) * patchy
    specular += u(0.6, 2.0) * line(z - 0.25, 0.35) + u(0.2, 1.5) * line(z - top, 0.35)
    sheen = np.clip(waves[:, 5:].T + 0.2, 0, 1.5)
    specular += u(0.2, 1.4) * sheen[0] * line(z - fat_end, 0.4)
    specular += u(0.0, 1.6) * sheen[1] * line(z - gland_end, 0.5)

    attenuation = u(0.5, 0.8) + u(0.0, 0.45) * in_gland + u(0.1, 0.7) * below_gland
    near = z < 0.25 * scanner.depth_mm
    # Ligaments, and air between probe and skin: shadows that deepen, then stay.
    for _ in range(int(u(0, 4))):
        attenuation += near * min(rng.exponential(0.25), 1.0) * line(x - u(-0.5, 0.5) * scanner.width_mm, u(1.5, 7.0))
    return echo, specular, attenuation


def place(
    lesion: Lesion, echo: Map, specular: Map, attenuation: Map, rng: np.random.Generator, scanner: Scanner
) -> Map:
    """Put a lesion into the maps, in place.

    Returns:
        (steps, steps) signed distance to its border in mm, negative inside.
    """
    steps = len(echo)
    step_mm = scanner.width_mm / steps
    z, x = axes_mm(steps, scanner)
    distance, sideways = lesion.distance(x, z)
    texture = bumps(rng, steps, scanner, 1.6, 2.0, 0.0)
    distance += lesion.rough_mm * bumps(rng, steps, scanner, 1.3, 1.3, 0.0)
    inside = np.clip(0.5 - distance / lesion.edge_mm, 0, 1)
    echo += lesion.rim_db * line(distance - lesion.rim_mm / 2, lesion.rim_mm)
    echo += (lesion.echo_db + lesion.texture_db * texture - echo) * inside
    specular *= 1 - inside
    attenuation += (lesion.attenuation - attenuation) * inside
    # Refraction at a smooth side scatters the beam away: a thin shadow below each edge.
    attenuation += lesion.edge_shadow * line(distance, 0.7) * (sideways > 0.8)
    # Calcifications.
    for _ in range(lesion.specks):
        r, phi = 0.7 * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        row = int((lesion.z_mm + r * lesion.half_height_mm * math.sin(phi)) / step_mm)
        column = int((lesion.x_mm + scanner.width_mm / 2 + r * lesion.half_width_mm * math.cos(phi)) / step_mm)
        # A point's echo does not depend on the grid, so its amplitude in a pixel does.
        echo_of_point = rng.uniform(0.3, 0.9) / step_mm
        specular[min(max(row, 0), steps - 1), min(max(column, 0), steps - 1)] += echo_of_point
    return distance
