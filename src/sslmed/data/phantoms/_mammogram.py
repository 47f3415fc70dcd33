"""One mammogram: outline, glands, muscle, vessels, and a mass of stated class, as X-rays show them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ._bmode import Map
from ._breast import BENIGN, NORMAL
from ._fields import line

SIDE_MM = 120.0
_FINEST_MM = 0.95
_HIGHEST = 48  # cycles a side that the glands' texture has; finer ones drown in quantum noise
_EXPONENT = 3.0


@functools.lru_cache(maxsize=2)
def _amplitude(count: int, exponent: float) -> Map:
    """Return the amplitude of noise with power 1 / f^exponent at frequencies -count..count by 0..count."""
    f = np.hypot(np.arange(-count, count + 1)[:, None], np.arange(count + 1))
    # Waves longer than the breast would be a shade over all of it: density has a draw of its own.
    amplitude = np.maximum(f, 1.5) ** (-exponent / 2) * (f > 0) * (f <= count)
    weight = np.where(np.arange(count + 1) == 0, 1.0, 2.0)
    scaled: Map = (amplitude / math.sqrt((amplitude**2 * weight).sum())).astype(np.float32)
    return scaled


def power_law(rng: np.random.Generator, steps: int) -> Map:
    """Return two fields (2, steps, steps) of near unit variance whose power falls with f^3; alike at every `steps`."""
    waves = rng.standard_normal((2, 2, 2 * _HIGHEST + 1, _HIGHEST + 1), dtype=np.float32)
    waves *= _amplitude(_HIGHEST, _EXPONENT) * (steps**2 / math.sqrt(2))
    kept = min(_HIGHEST, (steps - 1) // 2)
    spectrum = np.zeros((2, steps, steps // 2 + 1), dtype=np.complex64)
    rows = np.arange(-kept, kept + 1)
    spectrum[:, rows, : kept + 1] = (waves[0] + 1j * waves[1])[:, rows + _HIGHEST, : kept + 1]
    # A pixel's centre lies half a pixel off: without the turn, other sizes would show a shifted breast.
    turn = np.exp(1j * np.pi / steps * np.arange(-kept, kept + 1)).astype(np.complex64)
    spectrum[:, rows, : kept + 1] *= turn[:, None] * turn[kept:]
    fields: Map = torch.fft.irfft2(torch.from_numpy(spectrum), s=(steps, steps)).numpy()
    return fields


@dataclass(frozen=True)
class Breast:
    """Outline and nipple: the breast reaches `reach_mm` from the chest wall at `nipple_mm` from the top."""

    reach_mm: float
    nipple_mm: float
    above_mm: float
    below_mm: float
    sag: float

    def inside(self, y: Map, x: Map) -> Map:
        """Return the distance to the outline in mm, positive inside."""
        dy = y - self.nipple_mm
        v = np.where(dy < 0, dy / self.above_mm, dy / self.below_mm)
        u = (x - self.sag * dy * (dy < 0)) / self.reach_mm
        r = (np.maximum(u, 0) ** 2.2 + np.abs(v) ** 2.2 + 1e-6) ** (1 / 2.2)
        outline = (1 - r) * 0.5 * (self.reach_mm + min(self.above_mm, self.below_mm))
        distance: Map = np.maximum(outline, 3.2 - np.hypot(x - self.reach_mm, dy)).astype(np.float32)
        return distance


@dataclass(frozen=True)
class Mass:
    """A mass around (y_mm, x_mm); `waves` are amplitude and phase of the outline, `spicules` angle, length, width."""

    y_mm: float
    x_mm: float
    half_mm: tuple[float, float]
    turn: float
    waves: tuple[tuple[float, float], ...]
    edge_mm: float
    contrast: float
    spicules: tuple[tuple[float, float, float], ...]
    specks: tuple[tuple[float, float, float, float], ...]

    def distance(self, y: Map, x: Map) -> tuple[Map, Map, Map]:
        """Return the signed distance to the outline in mm, negative inside, then radius in mm and angle."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        dy, dx = y - self.y_mm, x - self.x_mm
        u, v = (dx * c + dy * s) / self.half_mm[0], (dy * c - dx * s) / self.half_mm[1]
        around = np.arctan2(v, u)
        radius: Map = np.ones((), dtype=np.float32)
        for k, (height, phase) in enumerate(self.waves, start=2):
            radius = radius + height * np.cos(k * around + phase)
        distance = (np.hypot(u, v) - radius) * math.sqrt(self.half_mm[0] * self.half_mm[1])
        return distance, np.hypot(dy, dx), np.arctan2(dy, dx)


def draw_mass(label: int, rng: np.random.Generator, breast: Breast) -> Mass:
    """Draw a mass with the statistics of its class, inside the breast."""
    u = rng.uniform
    benign = label == BENIGN
    mean_mm = min(max(float(np.exp(rng.normal(math.log(8.0 if benign else 7.5), 0.3))), 4.5), 15.0)
    aspect = math.exp(u(0.0, 0.35))
    lobes = u(0.0, 0.05) if benign else u(0.05, 0.14)
    r, phi = math.sqrt(u(0.02, 0.42)), u(-1.15, 1.15)
    y = breast.nipple_mm + r * math.sin(phi) * (breast.above_mm if phi < 0 else breast.below_mm)
    x = max(r * math.cos(phi) * breast.reach_mm, 1.3 * mean_mm)
    spicules = [
        (u(-math.pi, math.pi), mean_mm * u(1.6, 3.0), u(0.6, 1.3)) for _ in range(0 if benign else int(u(6, 16)))
    ]
    specks = []
    if benign and u() < 0.15:
        specks = [(y + u(-2, 2), x + u(-2, 2), u(1.0, 2.0), u(0.5, 1.0))]
    elif not benign and u() < 0.45:
        specks = [
            (y + 0.4 * mean_mm * rng.normal(), x + 0.4 * mean_mm * rng.normal(), u(0.35, 0.6), u(0.5, 1.1))
            for _ in range(int(u(5, 16)))
        ]
    return Mass(
        y_mm=y,
        x_mm=x,
        half_mm=(mean_mm * math.sqrt(aspect), mean_mm / math.sqrt(aspect)),
        turn=u(0, math.pi),
        waves=tuple((lobes * rng.normal(), u(0, 2 * math.pi)) for _ in range(5)),
        edge_mm=u(1.0, 2.5) if benign else u(2.0, 5.0),
        contrast=u(0.12, 0.28) if benign else u(0.16, 0.36),
        spicules=tuple(spicules),
        specks=tuple(specks),
    )


def _insert(mass: Mass, dense: Map, y: Map, x: Map) -> Map:
    """Add the mass to the map of what absorbs, in place; return the signed distance to its outline."""
    distance, r, angle = mass.distance(y, x)
    body = np.clip(0.5 - distance / mass.edge_mm, 0, 1)
    depth = np.clip(-distance / min(mass.half_mm), 0, 1)
    dense += mass.contrast * body * (0.6 + 0.4 * np.sqrt(depth))
    for towards, length_mm, width_mm in mass.spicules:
        off_mm = r * np.abs(np.sin(angle - towards))
        ray = line(off_mm, width_mm) * (np.cos(angle - towards) > 0) * np.clip(1 - r / length_mm, 0, 1)
        dense += 0.8 * mass.contrast * ray
    for y_mm, x_mm, sigma_mm, height in mass.specks:
        dense += height * np.exp(-((y - y_mm) ** 2 + (x - x_mm) ** 2) / (2 * sigma_mm**2))
    return distance


def render(label: int, size: int, rng: np.random.Generator) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Draw what absorbs, on a grid as fine as the focal spot's blur asks, then the quanta of each pixel."""
    u = rng.uniform
    fine = max(1, math.ceil(SIDE_MM / size / _FINEST_MM))
    steps = size * fine
    centres = (np.arange(steps, dtype=np.float32) + 0.5) * (SIDE_MM / steps)
    y, x = centres[:, None], centres
    breast = Breast(u(58, 96), u(58, 74), u(54, 72), u(34, 46), u(-0.12, 0.05))
    mass = draw_mass(label, rng, breast) if label != NORMAL else None
    muscle = u() < 0.75
    muscle_mm, muscle_slope, muscle_bend = u(20, 42), u(0.4, 0.7), u(-4, 4)
    density, unevenness, disc = u(0.0, 1.0), u(0.7, 1.3), u(0.5, 0.95)
    vessels = [(u(0.3, 0.9), u(-0.9, 0.9), u(-0.3, 0.3), u(0.6, 1.1)) for _ in range(int(u(1, 5)))]
    strands_phase, strands = u(0, 2 * math.pi, size=6), rng.integers(9, 34, size=6)
    mottle, gamma, flipped = u(0.008, 0.025), u(0.85, 1.25), u() < 0.5

    field, second = power_law(rng, steps)
    inside_mm = breast.inside(y, x)
    edge = np.clip(inside_mm / 14.0, 0, 1)
    thickness = np.sqrt(1 - (1 - edge) ** 2)  # a compressed breast bulges: its edge is a half circle
    # Glands fill a disc behind the nipple, in strands that run to it; fat lies around.
    dy, dx = y - breast.nipple_mm, x - breast.reach_mm
    r = np.hypot(dy, dx)
    towards = np.arctan2(dy, -dx) + 0.12 * field
    fan = np.zeros_like(r)
    for k, phase in zip(strands, strands_phase, strict=True):
        fan += np.cos(int(k) * towards + phase + 0.04 * r).astype(np.float32)
    centre_mm = breast.reach_mm * (1 - 0.55 * disc)
    apart = np.hypot((x - centre_mm) / (0.55 * breast.reach_mm), dy / (0.75 * breast.above_mm))
    share = 1.7 * density - 1.1 + unevenness * field + 0.12 * fan + 0.9 * (0.75 - apart)
    glands = 1 / (1 + np.exp(-1.7 * share))
    pectoral = 0.0
    if muscle:
        edge_mm = muscle_mm - muscle_slope * y + muscle_bend * np.sin(y * 0.05) - x
        pectoral = np.clip(edge_mm / 3.0, 0, 1)
    texture = 0.45 * glands * (1 + 0.22 * second) * np.clip(inside_mm / 9.0, 0, 1)
    dense = 0.15 + texture * (1 - pectoral) + (0.42 + 0.02 * second) * pectoral
    for along, start, bend, width_mm in vessels:
        path = breast.nipple_mm + 34 * start + bend * (x - 30) + 4 * np.sin(x / 11 + 9 * along)
        dense += 0.07 * line(y - path, width_mm) * (x < along * breast.reach_mm)
    distance = _insert(mass, dense, y, x) if mass is not None else None
    absorbed = dense * thickness
    absorbed += 0.05 * line(inside_mm - 0.8, 1.2)  # skin, seen edge on
    absorbed *= np.clip(inside_mm / 0.8 + 0.5, 0, 1)

    image: Map = F.avg_pool2d(torch.from_numpy(absorbed.astype(np.float32))[None], fine)[0].numpy()
    # Fewer quanta pass where more is absorbed, and fewer reach a smaller pixel.
    noise = rng.standard_normal((size, size), dtype=np.float32)
    image = image + noise * (mottle * math.sqrt(size / 64)) * (image > 0.02) * np.sqrt(0.4 + 2 * image)
    image = np.clip(image / 0.95, 0, 1) ** gamma
    mask: npt.NDArray[np.bool_] = np.zeros((size, size), dtype=bool)
    if distance is not None:
        mask = (F.avg_pool2d(torch.from_numpy(distance.astype(np.float32))[None], fine)[0] < 0).numpy()
    if flipped:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return (np.rint(image * 255) / 255).astype(np.float32), np.ascontiguousarray(mask)
