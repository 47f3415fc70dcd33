"""From a map of tissue to a B-mode image: scatterers, point-spread function, envelope, log compression.

The echo of very many unresolved scatterers, demodulated, is a complex Gaussian field: the carrier's phase is random
everywhere. Convolved with the envelope of the pulse it is the demodulated radio-frequency line itself, so the grid
need only resolve the envelope, not the wavelength. Its magnitude is Rayleigh speckle, and Rician where a smooth
reflector (fascia, skin) adds a coherent echo: Wagner et al., "Statistics of speckle in ultrasound B-scans", IEEE
Trans. Sonics and Ultrasonics 1983.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..._compat import cached_tensors

Map = npt.NDArray[np.floating[Any]]  # float32 throughout

SPEED_MM_PER_US = 1.54
FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
DB = math.log(10) / 20  # nepers per decibel


def product(*matrices: torch.Tensor) -> torch.Tensor:
    """Multiply float32 matrices in float64: torch may round others, under autocast or at a lower matmul precision."""
    found = matrices[0].double()
    for matrix in matrices[1:]:
        found = found @ matrix.double()
    return found.float()


@dataclass(frozen=True)
class Scanner:
    """A linear array and its receiver; the frame is `width_mm` x `depth_mm`.

    The pulse is a Gaussian of `cycles` periods at half maximum. The beam is a Gaussian too, f_number wavelengths wide
    (at half maximum) at the focus and sqrt(2) times that at `focal_range_mm` from it. Receive gain compensates
    `tgc_db_per_cm_mhz` of attenuation (one way; the echo goes two), so tissue that attenuates more grows dark with
    depth. The displayed image is smoothed by `smooth_deep_mm` and `smooth_across_mm` (standard deviations).
    """

    width_mm: float = 38.0
    depth_mm: float = 38.0
    frequency_mhz: float = 8.5
    cycles: float = 2.5
    f_number: float = 2.2
    focus_mm: float = 16.0
    focal_range_mm: float = 14.0
    tgc_db_per_cm_mhz: float = 0.7
    noise_db: float = -62.0
    zones: int = 8
    smooth_deep_mm: float = 0.13
    smooth_across_mm: float = 0.25

    def axial(self, steps: int) -> torch.Tensor:
        """Return the pulse as a matrix (steps, steps) over depth."""
        length_mm = self.cycles * SPEED_MM_PER_US / self.frequency_mhz / 2
        return _band(steps, self.depth_mm / steps, length_mm / FWHM)

    def lateral(self, steps: int) -> torch.Tensor:
        """Return the beam as matrices (zones, steps, steps) over width, constant inside a zone of depth."""
        at_focus_mm = self.f_number * SPEED_MM_PER_US / self.frequency_mhz
        depths_mm = (np.arange(self.zones) + 0.5) * self.depth_mm / self.zones
        widths_mm = at_focus_mm * np.hypot(1, (depths_mm - self.focus_mm) / self.focal_range_mm)
        return torch.stack([_band(steps, self.width_mm / steps, width / FWHM) for width in widths_mm])


def _band(steps: int, step_mm: float, sigma_mm: float) -> torch.Tensor:
    """Return a Gaussian as a matrix with unit energy a row, widened by the pixel's own width."""
    place = torch.arange(steps, dtype=torch.float32, device="cpu")
    offsets_mm = (place[:, None] - place) * step_mm
    matrix = torch.exp(-(offsets_mm**2) / (2 * (sigma_mm**2 + step_mm**2 / 12)))
    energy: torch.Tensor = torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
    return matrix / energy


@cached_tensors(maxsize=8)
def _spread(scanner: Scanner, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # Paths to one point cross the whole aperture: shadows blur by a fraction of it.
    aperture = _band(steps, scanner.width_mm / steps, 0.6)
    return (
        scanner.axial(steps),
        scanner.lateral(steps).mT.contiguous(),
        aperture / aperture.sum(dim=1, keepdim=True),
    )


def b_mode_db(echo_db: Map, specular: Map, attenuation: Map, scanner: Scanner, rng: np.random.Generator) -> Map:
    """Image a square map of tissue.

    Args:
        echo_db: (S, S) mean backscatter of the diffuse scatterers, in dB.
        specular: (S, S) amplitude of coherent reflectors, where 1 is that of diffuse scatterers at 0 dB.
        attenuation: (S, S) in dB / (cm MHz), one way.
        scanner: the device.
        rng: draws the scatterers.

    Returns:
        (S, S) envelope in dB; diffuse scatterers at 0 dB on the surface have a mean power of 0 dB.
    """
    steps = len(echo_db)
    axial, lateral, aperture = _spread(scanner, steps)
    two_way = 2 * scanner.frequency_mhz * scanner.depth_mm / 10 / steps
    lost_db = (product(torch.from_numpy(attenuation).cumsum(dim=0), aperture.T) * two_way).numpy()
    rows = np.arange(1, steps + 1, dtype=np.float32)[:, None]
    tgc_db = rows * np.float32(two_way * scanner.tgc_db_per_cm_mhz)
    passed = np.exp((tgc_db - lost_db) * np.float32(DB))
    diffuse = np.exp(echo_db * np.float32(DB)) * passed
    # Independent Gaussians add in power: the receiver's noise is drawn with the scatterers.
    noise = np.exp((tgc_db + np.float32(scanner.noise_db)) * np.float32(DB))
    field = rng.standard_normal((2, steps, steps), dtype=np.float32)
    field *= np.sqrt((diffuse * diffuse + noise * noise) / 2)
    field[0] += specular * passed
    pulsed = product(axial, torch.from_numpy(field))
    zones = [product(zone, beam) for zone, beam in zip(pulsed.tensor_split(scanner.zones, dim=1), lateral, strict=True)]
    real, imaginary = torch.cat(zones, dim=1)
    return (10 * torch.log10(real * real + imaginary * imaginary + 1e-12)).numpy()


@cached_tensors(maxsize=8)
def _screen(scanner: Scanner, steps: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the display's smoothing and its sampling to `size` pixels as matrices (size, steps), deep and across."""
    sides = []
    for extent_mm, smooth_mm in (
        (scanner.depth_mm, scanner.smooth_deep_mm),
        (scanner.width_mm, scanner.smooth_across_mm),
    ):
        fine = _band(steps, extent_mm / steps, smooth_mm)
        pixel = fine.reshape(size, -1, steps).mean(dim=1)
        sides.append(pixel / pixel.sum(dim=1, keepdim=True))
    return sides[0], sides[1]


def display(envelope_db: Map, size: int, scanner: Scanner, *, dynamic_range_db: float, middle_db: float) -> Map:
    """Log-compress, smooth as scanners do against speckle, and sample to (size, size) in [0, 1].

    `dynamic_range_db` fill black to white; `middle_db` is shown as middle gray.
    """
    deep, across = _screen(scanner, len(envelope_db), size)
    gray = np.clip(0.5 + (envelope_db - middle_db) / dynamic_range_db, 0, 1)
    return product(deep, torch.from_numpy(gray), across.T).clamp_(0, 1).numpy()
