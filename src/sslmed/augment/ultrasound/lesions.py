"""SyntheticLesions: lesions with known outlines, drawn into scans, to learn from images without outlines.

The recipe is a dark oval with a rough outline: most breast lesions in B-mode are darker than the tissue around them,
have a texture of their own, a border between sharp and blurred, and a shadow or an enhancement below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..._checks import floating, number, shaped
from ..._compat import moved, without_autocast
from ..._tensor import compute_dtype
from .._affine import AFFINE_DRAWS, affine_from, resample_over_black
from .._draws import Draws, Params, not_empty
from .._ranges import interval, spread
from .._source import cpu_generator
from ._lesion import band, column, from_centre, level_set, sector_cells

Range = tuple[float, float]

_COARSE, _FINE = 5, 12  # sides of the grids of noise that roughen the outline
_ASPECT = (0.5, 1.1)  # height / width, log-uniform: most lesions are wider than tall
_TILT = 0.6  # radians
_SHARPNESS = (8.0, 40.0)  # log-uniform; a border is about 4 / sharpness radii wide
_TEXTURE_AREA = (0.1, 0.5)  # of the other scan


class SyntheticLesions(Draws, nn.Module):
    """Draw a lesion into every scan, and give its mask.

    The scan is first cropped, rotated and flipped at random; pixels from outside it get its minimum. The lesion is
    centred where the scan shows echoes, and lies within its sector. The sector is estimated on a grid of 32 x 32 cells:
    all between the first and last bright cell of a row and of a column. No pixel outside the sector is changed or
    belongs to the mask, and a scan that is black all over gets no lesion. Lengths are in units of half the shorter side
    of the image.

    Blur, gain and noise are left to a later view, such as `views.segmentation(size, degrees=0, zoom=(1, 1), hflip=0)`,
    which takes the pair and moves no pixel. A blur hides where a lesion was pasted.

    Args:
        area: minimum and maximum share of the scan's area that is seen, at most 1; drawn log-uniformly.
        degrees: maximum rotation of the scan in either direction.
        hflip: probability that the scan is flipped left to right.
        radius: minimum and maximum half axis across, drawn log-uniformly; the one down is 0.5 to 1.1 times as long, and
            both are tilted by up to 0.6 radians.
        roughness: strength of the noise on the outline: two smooth fields, of 5 x 5 and, half as strong, 12 x 12 normal
            numbers.
        level: mean gray inside, as a share of that of the tissue it replaces.
        texture: strength of the texture inside, which is a part of another scan of the batch.
        shadow: natural logarithm of the factor below the lesion: negative for a shadow, positive for an enhancement.
        p: probability that a scan gets a lesion; the mask of the others is empty.
        generator: CPU generator of the draws; None for torch's global one.

    `forward_parameters` returns, besides the gate `batch_prob`:

    - background (B, 2, 3): map of coordinates of the result to those of the scan, from -1 to 1.
    - other (B,) int64: the scan whose texture is used. It is one of those before it in the batch, so that nothing
      depends on those after it; the first uses its own.
    - other_part (B, 2, 3): map of coordinates of the result to those of the other scan.
    - place (B, 2) in [0, 1): shares of the bright area to the left of the centre, and of its column above it.
    - radii (B, 2): half axes across and down.
    - tilt (B,): radians.
    - coarse (B, 1, 5, 5), fine (B, 1, 12, 12): normal numbers.
    - roughness, sharpness, level, texture, shadow: (B,).

    Raises:
        TypeError, ValueError: a setting out of range.

    Reference:
        The recipe's numbers are those of a trial on BUSI and BUS-BRA, see the documentation. It is similar to the
        anomalies of Zhang et al., "DRAEM", ICCV 2021 (texture of another source inside a mask of smooth noise).

    Example:
        >>> import torch
        >>> lesions = SyntheticLesions()
        >>> scans = torch.rand(4, 1, 64, 64)
        >>> images, masks = lesions(scans)
        >>> images.shape, masks.shape, masks.dtype
        (torch.Size([4, 1, 64, 64]), torch.Size([4, 1, 64, 64]), torch.bool)
        >>> params = lesions.forward_parameters(scans.shape)
        >>> torch.equal(lesions(scans, params=params)[0], lesions(scans, params=params)[0])
        True
    """

    names: tuple[str, ...] = (
        "background",
        "other",
        "other_part",
        "place",
        "radii",
        "tilt",
        "coarse",
        "fine",
        "roughness",
        "sharpness",
        "level",
        "texture",
        "shadow",
    )

    def __init__(
        self,
        *,
        area: Range = (0.5, 1.0),
        degrees: float = 15.0,
        hflip: float = 0.5,
        radius: Range = (0.12, 0.8),
        roughness: Range = (0.05, 0.5),
        level: Range = (0.1, 0.6),
        texture: Range = (0.0, 0.6),
        shadow: Range = (-0.7, 0.6),
        p: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.area: tuple[float, float] = interval("area", area, low_open=True, high=1)
        self.degrees: float = number("degrees", degrees, low=0, high=180)
        self.hflip: float = number("hflip", hflip, low=0, high=1)
        self.radius: tuple[float, float] = interval("radius", radius, low_open=True)
        self.roughness: tuple[float, float] = interval("roughness", roughness)
        self.level: tuple[float, float] = interval("level", level)
        self.texture: tuple[float, float] = interval("texture", texture)
        self.shadow: tuple[float, float] = interval("shadow", shadow, low=-math.inf)
        self.p: float = number("p", p, low=0, high=1)
        self.generator: torch.Generator | None = cpu_generator(generator)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        names = ("area", "degrees", "hflip", "radius", "roughness", "level", "texture", "shadow", "p")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def draws(self) -> int:
        """Two maps and a flip, the other scan, the lesion's position, shape, noise and gray values."""
        return 2 * AFFINE_DRAWS + 12 + _COARSE**2 + _FINE**2

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, K) to the parameters."""
        maps, look, noise = torch.split(u, [2 * AFFINE_DRAWS, 12, _COARSE**2 + _FINE**2], dim=1)
        flip, other, across, down, radius, aspect, tilt, roughness, sharpness, level, texture, shadow = look.unbind(1)
        rows = torch.arange(len(u), device="cpu")
        half_axis = _log_uniform(radius, self.radius)
        background = affine_from(maps[:, :AFFINE_DRAWS], size, degrees=self.degrees, zoom=_magnification(self.area))
        background[:, :, 0] = torch.where(flip[:, None] < self.hflip, -background[:, :, 0], background[:, :, 0])
        coarse, fine = torch.split(_normal(noise), [_COARSE**2, _FINE**2], dim=1)
        return {
            "background": background,
            "other": (other * rows).long(),
            "other_part": affine_from(maps[:, AFFINE_DRAWS:], size, degrees=0.0, zoom=_magnification(_TEXTURE_AREA)),
            "place": torch.stack([across, down], dim=1),
            "radii": torch.stack([half_axis, half_axis * _log_uniform(aspect, _ASPECT)], dim=1),
            "tilt": spread(tilt, (-_TILT, _TILT)),
            "coarse": coarse.reshape(-1, 1, _COARSE, _COARSE),
            "fine": fine.reshape(-1, 1, _FINE, _FINE),
            "roughness": spread(roughness, self.roughness),
            "sharpness": _log_uniform(sharpness, _SHARPNESS),
            "level": spread(level, self.level),
            "texture": spread(texture, self.texture),
            "shadow": spread(shadow, self.shadow),
        }

    def forward(self, scans: Tensor, params: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Draw lesions.

        Args:
            scans: (B, 1, H, W) in [0, 1], floating point.
            params: of `forward_parameters`, to replay a call bit for bit; None draws anew.

        Returns:
            Images (B, 1, H, W) in [0, 1] of the scans' dtype, and masks (B, 1, H, W) bool.

        Raises:
            TypeError: `scans` are not of floating point.
            ValueError: another shape, or `params` lack a name or have another batch size.
        """
        floating("scans", scans)
        shaped("scans", scans, "(B, 1, H, W)", ndim=4)
        not_empty("scans", scans.shape)
        if scans.shape[1] != 1:
            raise ValueError(f"scans must have shape (B, 1, H, W), got {tuple(scans.shape)}")
        drawn = self._drawn(scans.shape, scans.device) if params is None else self._replayed(params, scans)
        if scans.shape[0] == 0:
            return scans.clone(), torch.zeros_like(scans, dtype=torch.bool)
        work = compute_dtype(scans)
        here = {name: moved(drawn[name], scans.device) for name in ("batch_prob", *self.names)}
        here = {name: value.to(work) if value.is_floating_point() else value for name, value in here.items()}
        with without_autocast(scans.device):
            images, masks = _with_lesions(scans.to(work), here)
        return images.to(scans.dtype), masks


def _with_lesions(scans: Tensor, params: Params) -> tuple[Tensor, Tensor]:
    size = (scans.shape[2], scans.shape[3])
    tissue = resample_over_black(scans, params["background"], size)
    bright, sector = sector_cells(tissue.detach())
    x, y = from_centre(bright, params["place"], size)
    s = level_set(x, y, params)
    # From 0 at the border of the sector to 1 half a cell within it.
    weight = F.interpolate(sector.to(tissue.dtype), size, mode="bilinear").mul(2).sub(1).clamp(min=0)
    weight = weight * column(params["batch_prob"])
    inside = (s > 0) & (weight > 0)

    count = inside.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    gray = torch.where(inside, tissue, 0.0).sum(dim=(2, 3), keepdim=True) / count
    texture = resample_over_black(scans.index_select(0, params["other"]), params["other_part"], size)
    strength = 2 * gray * column(params["texture"])
    flat = gray * column(params["level"]) - strength * texture.mean(dim=(2, 3), keepdim=True)
    lesion = torch.addcmul(flat, strength, texture)
    below = tissue * (weight * band(x, y, params["radii"], params["shadow"])).exp()
    border = weight * (s * column(params["sharpness"])).sigmoid()
    return torch.lerp(below, lesion, border).clamp(0, 1), inside


def _magnification(area: Range) -> Range:
    """Magnifications at which these parts of the area are seen."""
    return area[1] ** -0.5, area[0] ** -0.5


def _log_uniform(u: Tensor, ends: Range) -> Tensor:
    return spread(u, (math.log(ends[0]), math.log(ends[1]))).exp()


def _normal(u: Tensor) -> Tensor:
    """Map uniforms in [0, 1) of 24 bits to normal numbers; none is beyond 5.4."""
    return math.sqrt(2) * torch.erfinv((2 * u - 1) * (1 - 2**-24))
