"""The heart seen from its apex: left ventricle, its wall and atrium, and in half of the images the right heart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ._bmode import DB, Map, Scanner, b_mode_db
from ._fields import bumps, line, step
from ._sector import Sector, scan_convert

DIASTOLE, SYSTOLE = 0, 1
_FINEST_MM = 1.25
_APERTURE_MM = 20.0
_HALF_ANGLES = (0.6, 0.65, 0.7)  # few, so that what depends on them can be kept
_HARMONICS = (2, 3, 4)


@dataclass(frozen=True)
class Chamber:
    """An egg around (z_mm, x_mm): its half axes along the heart's axis, to the apex and to the base, and across.

    `tilt` turns its axis; `waves` are amplitude and phase of the outline's harmonics.
    """

    z_mm: float
    x_mm: float
    apical_mm: float
    basal_mm: float
    across_mm: float
    tilt: float
    waves: tuple[tuple[float, float], ...] = ()

    def along(self, z: Map, x: Map) -> tuple[Map, Map]:
        """Return coordinates along the axis, towards the base, and across it."""
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        dz, dx = z - self.z_mm, x - self.x_mm
        return dz * c + dx * s, dx * c - dz * s

    def distance(self, z: Map, x: Map) -> Map:
        """Return the signed distance to the outline in mm, negative inside; near enough close to it."""
        along, across = self.along(z, x)
        a = np.where(along < 0, np.float32(self.apical_mm), np.float32(self.basal_mm))
        v, u = along / a, across / self.across_mm
        radius: Map = np.ones((), dtype=np.float32)
        if self.waves:
            angle = np.arctan2(v, u)
            for k, (height, phase) in zip(_HARMONICS, self.waves, strict=True):
                radius = radius + height * np.cos(k * angle + phase)
        r = np.sqrt(u * u + v * v) + (1e-4)
        # Divided by its gradient the level set has unit slope at the outline, whatever the axes.
        slope = np.sqrt((u / self.across_mm) ** 2 + (v / a) ** 2) / r
        distance: Map = (r - radius) / slope
        return distance


@dataclass(frozen=True)
class Heart:
    """Chambers, the mitral plane `valve_mm` basal of the left ventricle's centre, and the walls' thickness."""

    ventricle: Chamber
    valve_mm: float
    wall_mm: float
    atrium: Chamber
    right: tuple[Chamber, Chamber] | None
    closed: float

    def cavity(self, z: Map, x: Map) -> Map:
        """Return the signed distance to the left ventricle's cavity, which ends at the valve."""
        cavity: Map = np.maximum(self.ventricle.distance(z, x), self.ventricle.along(z, x)[0] - self.valve_mm)
        return cavity


def draw_heart(phase: int, rng: np.random.Generator) -> Heart:
    """Draw a heart, then contract it if `phase` is end systole; small and large hearts overlap."""
    u = rng.uniform
    scale = float(np.exp(rng.normal(0.0, 0.09)))
    length, half_width, wall = 82 * scale, u(21.0, 26.0) * scale, u(8.0, 11.5)
    ejection, shortening, thickening = u(0.15, 0.34), u(0.08, 0.2), u(1.2, 1.6)
    four = u() < 0.5
    apex_mm, apex_x_mm = u(15.0, 25.0) + wall, u(3.0, 14.0) if four else u(-8.0, 8.0)
    tilt = u(0.0, 0.2) if four else u(-0.2, 0.2)
    waves = tuple((h * rng.normal(), u(0, 2 * math.pi)) for h in (0.03, 0.025, 0.015))
    atrium_long, atrium_wide = u(17.0, 24.0) * scale, u(16.0, 22.0) * scale
    if phase == SYSTOLE:
        apex_mm += u(0.0, 3.0)
        length, half_width, wall = length * (1 - shortening), half_width * (1 - ejection), wall * thickening
        atrium_long, atrium_wide = atrium_long * 1.2, atrium_wide * 1.12
    c, s = math.cos(tilt), math.sin(tilt)

    def at(along: float, across: float) -> tuple[float, float]:
        return apex_mm + along * c - across * s, apex_x_mm + along * s + across * c

    z, x = at(0.6 * length, 0.0)
    ventricle = Chamber(z, x, 0.6 * length, 0.78 * length, half_width, tilt, waves)
    z, x = at(length + 0.72 * atrium_long, u(-3.0, 3.0))
    uneven = tuple((h * rng.normal(), u(0, 2 * math.pi)) for h in (0.06, 0.05, 0.04))
    atrium = Chamber(z, x, atrium_long, atrium_long, atrium_wide, tilt + u(-0.15, 0.15), uneven)
    septum = wall * u(0.85, 1.05)
    right_wide = u(13.0, 19.0) * scale
    z, x = at(0.74 * length, -(half_width + septum + 0.95 * right_wide))
    right_ventricle = Chamber(z, x, 0.46 * length, 0.34 * length, right_wide, tilt - u(0.05, 0.25), waves[::-1])
    long, wide = 0.95 * atrium_long, u(15.0, 20.0) * scale
    z, x = at(length + 0.9 * long, -(0.55 * atrium_wide + wide + u(7.0, 10.0)))
    right_atrium = Chamber(z, x, long, long, wide, tilt, uneven[::-1])
    return Heart(
        ventricle=ventricle,
        valve_mm=0.4 * length,
        wall_mm=wall,
        atrium=atrium,
        right=(right_ventricle, right_atrium) if four else None,
        closed=u(0.7, 1.0) if phase == SYSTOLE else u(0.3, 1.0),
    )


def _leaflets(heart: Heart, z: Map, x: Map, thickness_mm: float) -> Map:
    """Return the ridge of the mitral valve's two leaflets, which hang from the annulus and meet if `closed`."""
    along, across = heart.ventricle.along(z, x)
    half = 0.86 * heart.ventricle.across_mm
    inwards = np.clip((half - np.abs(across)) / half, 0, 1)  # 0 at the annulus, 1 in the middle
    # Closed, they tent a little over the plane; open, they point into the ventricle and end before the middle.
    lift_mm = (4.0 + 14.0 * (1 - heart.closed)) * inwards
    tip = 0.45 + 0.55 * heart.closed
    ridge: Map = line(along - heart.valve_mm + lift_mm, thickness_mm)
    return ridge * (inwards < tip) * (np.abs(across) < half)


def tissue(
    heart: Heart, rng: np.random.Generator, steps: int, scanner: Scanner, sector: Sector
) -> tuple[Map, Map, Map]:
    """Draw the maps echo_db, specular and attenuation of `b_mode_db`, (steps, steps), rows along the beams."""
    u = rng.uniform
    z, x, angle = sector.beams_mm(steps)
    fibre = bumps(rng, steps, scanner, 5.0, 9.0, 0.0)
    patch = bumps(rng, steps, scanner, 16.0, 22.0, 0.0)
    cloud = bumps(rng, steps, scanner, 22.0, 40.0, 0.0)
    cavity, outer = heart.cavity(z, x), heart.ventricle.distance(z, x)
    along, across = heart.ventricle.along(z, x)
    atrium = heart.atrium.distance(z, x)
    # Behind the valve the atrium is one with the ventricle; its wall begins there.
    behind = step(along, heart.valve_mm + 2.0, 3.0)
    # The left ventricle's wall ends at the valve; the atria's is thin.
    cut = along - (heart.valve_mm + 2.0)
    wall = np.maximum(outer - heart.wall_mm + np.maximum(cut + 10, 0) ** 2 / 20, cut)
    thin = u(2.0, 3.2)
    solid = np.minimum(wall, atrium - thin + 20 * (1 - behind))
    blood = np.minimum(cavity, np.maximum(atrium, heart.valve_mm - along))
    if heart.right is not None:
        for chamber in heart.right:
            distance = chamber.distance(z, x)
            solid = np.minimum(solid, distance - (thin + 1.0))
            blood = np.minimum(blood, np.maximum(distance, 1.5 - np.minimum(wall, atrium)))
    depth = (np.arange(steps, dtype=np.float32)[:, None] + 0.5) * (sector.depth_mm / steps)

    # Beside the heart lie lung, whose air scatters all sound back, and fat and gut; in front the chest's wall.
    around_db = u(-22, -10) + u(3, 7) * patch + u(1, 3) * fibre - u(0.02, 0.1) * np.maximum(depth - 60, 0)
    muscle_db = u(-7, 0) + u(1.5, 3.0) * fibre + u(1.0, 2.5) * patch
    # Fibres seen along their length scatter less: walls parallel to the beam fade.
    lean = np.abs(np.sin(np.arctan2(across, -along) + heart.ventricle.tilt + angle))
    muscle_db -= u(1.0, 7.0) * lean**2 * np.clip(0.6 + 0.6 * cloud, 0, 2)
    blood_db = u(-44, -27) + u(1.0, 3.0) * cloud
    echo = around_db + (muscle_db - around_db) * step(-solid, 0, 2.5)
    echo += (blood_db - echo) * step(-blood - 0.7 * fibre, 0, 1.6)
    chest = step(-depth, -u(8.0, 15.0), 4.0)
    echo += (u(-3, 4) + 3 * fibre - echo) * chest

    sheen = np.clip(0.55 + 0.6 * patch, 0, 1.6)
    pericardium = line(outer - (heart.wall_mm + 1.0), 2.2)
    pericardium *= step(along, 0, 30.0) * step(-along, -heart.valve_mm, 14.0)
    specular = u(0.2, 1.5) * pericardium * sheen * (across > 0 if heart.right is not None else 1.0)
    end = heart.atrium.along(z, x)[0] / heart.atrium.basal_mm
    specular += u(0.2, 1.3) * line(atrium - thin, 1.8) * sheen * behind * np.clip(end, 0, 1)
    specular += u(0.1, 0.7) * line(cavity, 1.4) * sheen * (1 - lean) * (1 - chest) * (cut < -5)
    specular += u(0.5, 1.8) * _leaflets(heart, z, x, u(1.4, 2.2)) * np.clip(0.8 + 0.3 * fibre, 0.2, 1.6)
    if heart.right is not None:
        right_valve = replace(heart, ventricle=heart.right[0], valve_mm=0.3 * heart.ventricle.basal_mm)
        specular += u(0.3, 1.2) * _leaflets(right_valve, z, x, u(1.2, 1.8))
    # Ribs and lung take whole beams away at the fan's edges.
    attenuation = np.full((steps, steps), u(0.45, 0.6), dtype=np.float32)
    shadow = np.zeros(steps, dtype=np.float32)
    for side in (-1, 1):
        if u() < 0.45:
            edge = u(0.55, 0.95)
            shadow += u(1.0, 6.0) * step(side * angle / sector.half_angle, edge, 0.25)
    attenuation += shadow * (depth < 25)
    # Reverberation between probe and ribs: a haze over the near field, cavity and wall alike.
    haze_db = u(-32, -14) - u(0.25, 0.6) * depth + 3 * cloud
    echo = 10 * np.log10(np.exp(2 * DB * echo) + np.exp(2 * DB * haze_db))
    return echo.astype(np.float32), specular.astype(np.float32), attenuation


def render(label: int, size: int, rng: np.random.Generator) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Draw the heart, then its echoes along the beams of a phased array, then the screen."""
    sector = Sector(0.0, _HALF_ANGLES[int(rng.integers(len(_HALF_ANGLES)))], 155.0)
    focus_mm = 85.0
    scanner = Scanner(
        width_mm=2 * sector.half_angle * focus_mm,
        depth_mm=sector.depth_mm,
        frequency_mhz=2.8,
        cycles=2.5,
        f_number=focus_mm / _APERTURE_MM,
        focus_mm=focus_mm,
        focal_range_mm=110.0,
        tgc_db_per_cm_mhz=0.5,
        noise_db=-66.0,
        smooth_deep_mm=0.45,
        smooth_across_mm=0.9,
    )
    steps = size * max(1, math.ceil(sector.depth_mm / size / _FINEST_MM))
    heart = draw_heart(label, rng)
    dynamic_range_db, middle_db = rng.uniform(44, 62), rng.uniform(-18, -8)
    echo, specular, attenuation = tissue(heart, rng, steps, scanner, sector)
    envelope_db = b_mode_db(echo, specular, attenuation, scanner, rng)
    image = scan_convert(envelope_db, size, scanner, sector, dynamic_range_db=dynamic_range_db, middle_db=middle_db)
    fine = max(1, math.ceil(128 / size))
    distance = heart.cavity(*sector.screen_mm(size * fine)).astype(np.float32)
    mask = F.avg_pool2d(torch.from_numpy(distance)[None], fine)[0] < 0
    return np.rint(image * 255) / 255, mask.numpy()
