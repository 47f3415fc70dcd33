"""One T2-weighted volume of a man's pelvis about the prostate, whose zones are known exactly."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ._bmode import Map, product
from ._fields import basis, line
from ._prostate import HEIGHT_MM, SIDE_MM, Axes, draw_prostate

_FINEST_MM = 2.4
PERIPHERAL, TRANSITION = 1, 2

# Brightness on T2: fluid and fat bright, muscle and stroma dark, cortical bone and gas black.
_LEVELS = {
    "fat": 0.5,
    "muscle": 0.2,
    "marrow": 0.38,
    "cortex": 0.07,
    "fluid": 1.0,
    "vesicle": 0.85,
    "bowel": 0.3,
    "peripheral": 0.82,
    "transition": 0.4,
    "stroma": 0.2,
    "capsule": 0.22,
}


def _field(rng: np.random.Generator, depth: int, steps: int, grain_mm: float, tall_mm: float) -> Map:
    """Return a smooth field (depth, steps, steps) of near unit variance."""
    z, y = basis(depth, HEIGHT_MM, tall_mm), basis(steps, SIDE_MM, grain_mm)
    heights = torch.from_numpy(rng.standard_normal((z.shape[1], y.shape[1], y.shape[1]), dtype=np.float32))
    planes = product(y, heights, y.T)
    field: Map = product(z, planes.flatten(1)).reshape(-1, *planes.shape[1:]).numpy()
    return field


def rician(signal: Map, sigma: float, rng: np.random.Generator) -> Map:
    """Return the magnitude of `signal` with Gaussian noise of `sigma` in both its channels."""
    real, imaginary = rng.standard_normal((2, *signal.shape), dtype=np.float32) * sigma
    magnitude: Map = np.hypot(signal + real, imaginary)
    return magnitude


def _paint(image: Map, distance: Map, level: Map | float, *, soft_mm: float = 1.2) -> None:
    """Cover `image` with `level` where `distance` is negative, in place; a voxel on the border gets its share."""
    inside = np.clip(0.5 - distance / max(soft_mm, SIDE_MM / image.shape[-1]), 0, 1)
    image += (level - image) * inside


def _oval(
    at: Axes, y_mm: Map | float, x_mm: Map | float, tall: Map | float, wide: Map | float, tilt: float = 0.0
) -> Map:
    """Return the distance to an ellipse of every slice, half `tall` and `wide`, turned by `tilt`."""
    c, s = math.cos(tilt), math.sin(tilt)
    dy, dx = at.y - y_mm, at.x - x_mm
    v, u = (dy * c - dx * s) / tall, (dx * c + dy * s) / wide
    narrow = np.minimum(np.float32(tall), np.float32(wide))
    distance: Map = (np.sqrt(v * v + u * u) - 1) * narrow
    return distance


def _around(image: Map, at: Axes, level: dict[str, float], back_mm: float, rng: np.random.Generator) -> None:
    """Paint muscles, bones, bladder, vesicles and rectum, in place; the gland ends `back_mm` behind the middle."""
    u = rng.uniform
    up = at.z - HEIGHT_MM / 2
    spread, thick_mm, low_mm = u(0.92, 1.1), u(6.5, 10.0), u(62.0, 70.0)
    for side in (-1.0, 1.0):
        _paint(
            image,
            _oval(at, -8 + 0.1 * up, side * 72 * spread, 36, 20 + 0.1 * up, 0.1 * side),
            level["cortex"],
        )
        _paint(
            image,
            _oval(at, -8 + 0.1 * up, side * 72 * spread, 34, 18 + 0.1 * up, 0.1 * side),
            level["marrow"],
        )
        _paint(image, _oval(at, 2.0, side * 47 * spread, 35, thick_mm + 0.06 * up, -0.16 * side), level["muscle"])
        _paint(image, _oval(at, low_mm, side * 50 * spread, 17, 40, 0.5 * side), level["muscle"])
    # The pubic bones meet in front, below the bladder.
    low = np.clip(1 - at.z / u(34.0, 44.0), 0.02, 1)
    for side in (-1.0, 1.0):
        bone = _oval(at, -60 + 0.25 * up, side * (17 * spread), 6 + 9 * low, 16, 0.35 * side)
        _paint(image, bone, level["cortex"])
        _paint(image, bone + 1.6, level["marrow"])
    _paint(image, _oval(at, -72.0, 0.0, 8, 60), level["muscle"])
    # Veins in the fat before and beside the gland.
    for _ in range(8):
        vein = _oval(at, u(-34, -20) + 0.2 * up, u(-22, 22) + u(-0.3, 0.3) * up, u(1.2, 2.2), u(1.5, 3.5))
        _paint(image, vein, level["vesicle"])
    sling = _oval(at, 14.0, 0.0, 42 - 0.2 * up, 31 + 0.25 * up)
    image += (level["muscle"] - image) * line(sling, 2.4) * (at.y > -16)
    bone = _oval(at, 67 - 0.1 * up, u(-2, 2), 5, 9)
    _paint(image, bone, level["cortex"])
    _paint(image, bone + 1.5, level["marrow"])
    neck_mm = u(37.0, 43.0)
    full = np.sqrt(np.clip((at.z - neck_mm) / 16, 1e-6, None)).astype(np.float32)
    bladder = _oval(at, -20.0 + u(-3, 3), u(-2, 2), 22 * full, 34 * full)
    _paint(image, bladder - 2.5 * (at.z > neck_mm), level["muscle"])
    _paint(image, bladder, level["fluid"])
    tips = np.clip((at.z - u(36.0, 42.0)) / 5, 0.02, 1)
    for side in (-1.0, 1.0):
        wing = _oval(at, 17.0, side * 15, 5.5 * tips, 15 * tips, -0.25 * side)
        _paint(image, wing, level["vesicle"] - 0.28 * (np.sin(1.1 * at.x + 0.8 * at.y * side) > 0.45))
    swell = u(0.8, 1.25) + 0.005 * up
    rectum_y, rectum_x = back_mm + 1.5 + 11 * swell + 0.1 * up, u(-4, 4) + u(-0.15, 0.15) * up
    rectum = _oval(at, rectum_y, rectum_x, 10 * swell, 15 * swell)
    content = (0.03, 0.45, 0.8)[int(rng.integers(3))]
    _paint(image, rectum, level["bowel"])
    _paint(image, rectum + u(2.5, 4.0), content * level["fluid"])


def render(depth: int, size: int, rng: np.random.Generator) -> tuple[Map, npt.NDArray[np.int64]]:
    """Return the magnitudes (depth, size, size), in no unit, and the zones' numbers."""
    u = rng.uniform
    fine = max(1, math.ceil(SIDE_MM / size / _FINEST_MM))
    steps = size * fine
    at = Axes.of(depth, steps)
    prostate = draw_prostate(rng)
    level = {name: value * math.exp(0.1 * rng.normal()) for name, value in _LEVELS.items()}
    grain, cloud = _field(rng, depth, steps, 3.2, 6.0), _field(rng, depth, steps, 14.0, 18.0)

    image = np.full((depth, steps, steps), level["fat"], dtype=np.float32)
    _around(image, at, level, prostate.centre[1] + prostate.half[1], rng)
    image *= 1 + 0.06 * grain + 0.05 * cloud

    gland, inner = prostate.gland(at), prostate.inner(at)
    _paint(image, gland - 1.4, level["capsule"])
    _paint(image, gland, level["peripheral"] * (1 + u(0.05, 0.12) * grain + u(0.04, 0.12) * cloud))
    if u() < 0.4:  # a focus in the peripheral zone
        side = 1 if u() < 0.5 else -1
        y, x = (
            prostate.centre[1] + 0.62 * prostate.half[1],
            prostate.centre[2] + side * u(0.25, 0.6) * prostate.half[2],
        )
        focus = np.hypot(_oval(at, y, x, 1, 1) + 1, at.z - prostate.centre[0] - u(-6, 6)) - u(2.5, 6.0)
        _paint(image, np.maximum(focus, gland), u(0.3, 0.6) * level["peripheral"], soft_mm=2.5)
    zone = level["transition"] * (1 + u(0.1, 0.22) * grain + 0.1 * cloud)
    for _ in range(int(u(4, 11))):
        r, phi = math.sqrt(u(0.0, 0.7)), u(0, 2 * math.pi)
        y = prostate.inner_centre[1] + r * math.sin(phi) * prostate.inner_half[1]
        x = prostate.inner_centre[2] + r * math.cos(phi) * prostate.inner_half[2]
        z = prostate.inner_centre[0] + u(-0.6, 0.6) * prostate.inner_half[0]
        nodule = np.hypot(_oval(at, y, x, 1, u(0.8, 1.3)) + 1, at.z - z) - u(2.5, 7.0)
        _paint(zone, nodule, level["transition"] * u(0.6, 1.7) * (1 + 0.1 * grain))
        zone -= 0.5 * level["transition"] * line(nodule, 1.2)
    front = at.y - prostate.centre[1] + u(0.5, 0.75) * prostate.half[1]
    _paint(
        zone,
        np.maximum(front, np.abs(at.x - prostate.centre[2]) - 0.5 * prostate.half[2]),
        level["stroma"],
        soft_mm=4.0,
    )
    _paint(image, inner - 1.0, level["capsule"] * 1.2)
    _paint(image, inner, zone)

    # Receive coils lie on the skin, in front and behind.
    shade = u(0.05, 0.25) * _field(rng, depth, steps, 60.0, 60.0) + u(0.0, 0.5) * (at.y / (SIDE_MM / 2)) ** 2
    image = np.maximum(image, 0) * np.exp(shade + u(-0.2, 0.2) * at.x / (SIDE_MM / 2))
    pooled = F.avg_pool2d(torch.from_numpy(np.stack([image, gland, inner]).astype(np.float32)), fine).numpy()
    magnitude = rician(pooled[0], u(0.012, 0.045) * math.sqrt(size / 64), rng)
    zones = np.where(pooled[2] < 0, TRANSITION, np.where(pooled[1] < 0, PERIPHERAL, 0)).astype(np.int64)
    return magnitude, zones
