"""The lung between two ribs: pleura, reverberations of the chest wall, comet tails, consolidations.

Air reflects nearly all sound, so what the screen shows below the pleura is not lung but repetition: the chest wall
again at each multiple of the pleura's depth, with A-lines where the pleura repeats. Small fluid-filled gaps at the
pleura ring on and leave B-lines, which run to the bottom without fading and outshine the A-lines: Lichtenstein et al.,
"The comet-tail artifact: an ultrasound sign of alveolar-interstitial syndrome", Am. J. Respir. Crit. Care Med. 1997.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ._bmode import DB, Map, Scanner, b_mode_db
from ._fields import bumps, line, step
from ._sector import Sector, scan_convert

REGULAR, B_LINES, CONSOLIDATION = 0, 1, 2
_FINEST_MM = 0.8
_SECTOR = Sector(radius_mm=40.0, half_angle=0.5, depth_mm=98.0)
_SCANNER = Scanner(
    width_mm=2 * _SECTOR.half_angle * (_SECTOR.radius_mm + 25.0),
    depth_mm=_SECTOR.depth_mm,
    frequency_mhz=4.0,
    f_number=2.5,
    focus_mm=28.0,
    focal_range_mm=35.0,
    tgc_db_per_cm_mhz=0.5,
    noise_db=-62.0,
    smooth_deep_mm=0.3,
    smooth_across_mm=0.5,
)


@dataclass(frozen=True)
class Lung:
    """The pleura's depth by angle, the ribs' angles, B-lines as (angle, half width, dB), and a consolidation.

    Of a consolidation `spread` is the half width in radians, `deep_mm` the depth to which it reaches below the pleura,
    and `waves` the outline's amplitudes and phases.
    """

    pleura_mm: float
    slope_mm: float
    bend_mm: float
    phase: float
    ribs: tuple[float, ...]
    rays: tuple[tuple[float, float, float], ...]
    middle: float = 0.0
    spread: float = 0.0
    deep_mm: float = 0.0
    waves: tuple[tuple[float, float], ...] = ()

    def pleura(self, angle: Map) -> Map:
        """Return the pleura's depth in mm along the beams at `angle`."""
        depth: Map = self.pleura_mm + self.slope_mm * angle + self.bend_mm * np.cos(4 * angle + self.phase)
        return depth

    def consolidation(self, depth: Map, angle: Map) -> Map:
        """Return the signed distance to the consolidation in mm, negative inside."""
        below = depth - self.pleura(angle)
        v, u = below / self.deep_mm, (angle - self.middle) / self.spread
        around = np.arctan2(v, u)
        radius: Map = np.ones((), dtype=np.float32)
        for k, (height, phase) in enumerate(self.waves, start=2):
            radius = radius + height * np.cos(k * around + phase)
        half_mm = self.spread * (_SECTOR.radius_mm + self.pleura_mm)
        outline = (np.hypot(v, u) - radius) * min(half_mm, self.deep_mm)
        distance: Map = np.maximum(outline, 0.5 - below).astype(np.float32)
        return distance


def draw_lung(label: int, rng: np.random.Generator) -> Lung:
    """Draw a lung of a class; a few thin B-lines occur in regular lungs too."""
    u = rng.uniform
    half = _SECTOR.half_angle
    ribs: tuple[float, ...] = ()
    if u() < 0.7:
        shift = u(-0.1, 0.1)
        ribs = (shift - u(0.32, 0.44), shift + u(0.32, 0.44))
    reach = 0.24 if ribs else 0.85 * half
    pleura_mm = u(16.0, 28.0)
    middle, spread, deep_mm = u(-0.4, 0.4) * reach, u(0.12, 0.26), u(10.0, 30.0)
    count = {REGULAR: rng.integers(0, 3), B_LINES: rng.integers(3, 8), CONSOLIDATION: rng.integers(2, 6)}[label]
    rays = []
    for k in range(int(count)):
        strong = label != REGULAR
        width = u(0.012, 0.055) if strong else u(0.008, 0.018)
        if label == CONSOLIDATION and k < 2:
            angle = middle + u(-0.8, 0.8) * spread
        else:
            # One in each of `count` strips, so that several do not merge into one by chance.
            angle = reach * (2 * (k + u(0.15, 0.85)) / int(count) - 1)
        rays.append((angle, width, u(-11, -2) if strong else u(-20, -12)))
    return Lung(
        pleura_mm=pleura_mm,
        slope_mm=u(-7.0, 7.0),
        bend_mm=u(0.0, 1.6),
        phase=u(0, 2 * math.pi),
        ribs=ribs,
        rays=tuple(rays),
        middle=middle,
        spread=spread if label == CONSOLIDATION else 0.0,
        deep_mm=deep_mm,
        waves=tuple((h * rng.normal(), u(0, 2 * math.pi)) for h in (0.1, 0.1, 0.09, 0.08, 0.07, 0.06)),
    )


def tissue(lung: Lung, rng: np.random.Generator, steps: int) -> tuple[Map, Map, Map]:
    """Draw the maps echo_db, specular and attenuation of `b_mode_db`, (steps, steps), rows along the beams."""
    u = rng.uniform
    angle = _SECTOR.beams_mm(steps)[2]
    step_mm = _SECTOR.depth_mm / steps
    depth = (np.arange(steps, dtype=np.float32)[:, None] + 0.5) * step_mm
    streak = bumps(rng, steps, _SCANNER, 1.6, 12.0, 0.0)
    grain = bumps(rng, steps, _SCANNER, 3.0, 4.0, 0.0)
    cloud = bumps(rng, steps, _SCANNER, 14.0, 18.0, 0.0)
    along = cloud[steps // 2]  # a smooth variation across
    pleura = lung.pleura(angle)
    below = depth - pleura

    fat_mm = lung.pleura_mm * u(0.2, 0.6) + along
    fat_db = u(-12, -4) + u(1, 3) * streak + grain
    muscle_db = u(-16, -7) + u(3, 6) * streak
    wall_db = fat_db + (muscle_db - fat_db) * step(depth, fat_mm, 2.0)
    wall_specular = u(0.5, 2) * line(depth - 0.8, 1.0) + u(0.1, 0.8) * line(depth - fat_mm, 0.9)
    # The probe's face sends the pleura's echo back in again: what lies at d returns at d + pleura, and again.
    trips = np.maximum(np.floor(depth / pleura), 0)
    back = np.clip((np.mod(depth, pleura) / step_mm).astype(np.int64), 0, steps - 1)
    lost_db = np.where(below > 0, u(11, 18) + u(5, 9) * (trips - 1), 0)
    echo = np.take_along_axis(wall_db, back, axis=0) - lost_db
    specular = np.take_along_axis(wall_specular, back, axis=0) * np.exp(-DB * lost_db)

    broken = np.clip(1 + u(0.0, 0.25 if len(lung.rays) < 3 else 0.9) * grain[steps // 3], 0.15, 1.8)
    bright, kept = u(3.0, 6.0), 10 ** (-u(7, 13) / 20)
    wet = 1.0 if len(lung.rays) < 3 else u(0.0, 0.5)
    region = lung.consolidation(depth, angle) if lung.spread else None
    covered = step(-region.min(axis=0), 0, 2.0) if region is not None else np.zeros(steps, dtype=np.float32)
    k = np.maximum(np.rint(depth / pleura), 1)
    height = np.where(k == 1, 1 - 0.75 * covered, wet * kept ** (k - 1) * (1 - covered))
    specular += bright * height * broken * line(depth - k * pleura, 1.0 + 0.25 * k)

    start = pleura
    if region is not None:
        inside = step(-region, 0, 1.0)
        air = np.clip(grain + 0.6 * streak - u(1.2, 2.0), 0, 1)
        echo += (u(-26, -13) + 1.5 * grain + 2 * cloud - echo) * inside
        echo += u(8, 18) * air * inside
        specular *= 1 - inside * (below > 1.5)
        shred = line(region, 1.4) * (below > 2)
        specular += u(0.4, 1.6) * shred * np.clip(0.7 + 0.6 * grain, 0, 2)
        start = np.where(covered > 0.5, pleura + lung.deep_mm * covered, pleura)
        under = (region > 0) & (below > 2) & (covered > 0.3)
        echo = np.where(under, np.maximum(echo, u(-22, -12) - 0.12 * below + 2 * grain), echo)
        specular = np.where(under, np.minimum(specular, 3.0 * shred), specular)

    power, ring = np.exp(2 * DB * echo), np.exp(2 * DB * (1.5 * streak + cloud))
    for middle, half_width, level_db in lung.rays:
        beam = np.exp(-(((angle - middle) / half_width) ** 2))
        ray = beam * step(depth, start, 1.5)
        if region is not None:
            ray *= step(region, 0, 1.0)
        power += math.exp(2 * DB * level_db) * ring * ray
        specular *= 1 - ray * (below > 2)

    echo = 10 * np.log10(power)
    attenuation = np.full((steps, steps), u(0.45, 0.58), dtype=np.float32)
    for rib in lung.ribs:
        # Bone: a bright cap, bent, and nothing behind it.
        off_mm = (angle - rib) * (_SECTOR.radius_mm + lung.pleura_mm)
        half_mm = u(7.0, 10.0)
        cap_mm = lung.pleura(angle) - u(7.0, 10.0) + 0.055 * off_mm**2
        covers = step(-np.abs(off_mm), -half_mm, 2.0)
        behind = covers * step(depth, cap_mm, 1.0)
        specular *= 1 - behind
        specular += u(2.0, 5.0) * covers * line(depth - cap_mm, 1.3)
        echo -= 8 * behind
        attenuation += u(5, 9) * behind * (depth < cap_mm + 12)
    return echo.astype(np.float32), specular.astype(np.float32), attenuation.astype(np.float32)


def render(label: int, size: int, rng: np.random.Generator) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Draw the lung, then its echoes along the beams of a convex probe, then the screen."""
    steps = size * max(1, math.ceil(_SECTOR.depth_mm / size / _FINEST_MM))
    lung = draw_lung(label, rng)
    dynamic_range_db, middle_db = rng.uniform(46, 62), rng.uniform(-14, -6)
    echo, specular, attenuation = tissue(lung, rng, steps)
    envelope_db = b_mode_db(echo, specular, attenuation, _SCANNER, rng)
    image = scan_convert(envelope_db, size, _SCANNER, _SECTOR, dynamic_range_db=dynamic_range_db, middle_db=middle_db)
    mask: npt.NDArray[np.bool_] = np.zeros((size, size), dtype=bool)
    if label == CONSOLIDATION:
        fine = max(1, math.ceil(128 / size))
        z, x = _SECTOR.screen_mm(size * fine)
        depth = np.hypot(z + _SECTOR.radius_mm, x) - _SECTOR.radius_mm
        angle = np.arctan2(np.broadcast_to(x, depth.shape), z + _SECTOR.radius_mm)
        distance = np.ascontiguousarray(lung.consolidation(depth, angle), dtype=np.float32)
        mask = (F.avg_pool2d(torch.from_numpy(distance)[None], fine)[0] < 0).numpy()
    return np.rint(image * 255) / 255, mask
