"""Local contrastive loss: a region of a map agrees with the same region of another view's map.

Umapathy et al., "Learning to segment with limited annotations: Self-supervised pretraining with regression
and contrastive loss in MRI", 2022, local stage, after Chaitanya et al., "Contrastive learning of global and
local features for medical image segmentation with limited annotations", NeurIPS 2020, section 3.2. Views
differ in intensity only, so that a location means the same in both. Deviations from Chaitanya's code: every
region of the map is an anchor, not 13 fixed ones, and negatives lie at random, as Umapathy et al. say, not at
fixed neighbours.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from .. import _checks
from .._compat import moved, without_autocast
from .._tensor import compute_dtype, unit_rows


def local_contrastive(
    f0: torch.Tensor,
    f1: torch.Tensor,
    *,
    temperature: float = 0.1,
    region: int = 3,
    negatives: int = 5,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Cross-entropy of finding each region's twin in the other map among regions of both maps of the image.

    The maps are cut into regions of region x region positions, each flattened to one vector. For anchor a,
    its twin p in the other map and the K random other regions n, taken from both maps, an anchor costs
    -log(e^{s(a, p) / T} / (e^{s(a, p) / T} + sum_{2K} e^{s(a, n) / T})), s being the cosine. The loss is the
    mean over anchors of both maps. Samples do not mix, so it needs no gathering under distributed training.

    Args:
        f0: (B, D, h, w), a decoder's map of one view.
        f1: (B, D, h, w), that of another view, position by position.
        temperature: T, above 0.
        region: side of a region; rows and columns beyond the last whole region take no part.
        negatives: K, other regions drawn for each anchor without replacement; their twins count too.
        generator: source of the draw, on its own device; the default is torch's global one on the maps'
            device.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        TypeError: a map is not of floating point, or the generator none.
        ValueError: shapes or devices that do not fit, maps too small for K + 1 regions, or a setting that is
            not positive.

    Example:
        With all regions equal the loss is log(2K + 1):

        >>> import torch
        >>> local_contrastive(torch.ones(1, 4, 12, 12), torch.ones(1, 4, 12, 12))  # log 11
        tensor(2.3979)
    """
    temperature, region, negatives = _checked_settings(temperature, region, negatives)
    for name, f in (("f0", f0), ("f1", f1)):
        _checks.floating(name, f)
        _checks.shaped(name, f, "(B, D, h, w)", ndim=4)
    _checks.same_shape("f0", f0, "f1", f1)
    _checks.same_device(f0=f0, f1=f1)
    batch, features, high, wide = f0.shape
    count = (high // region) * (wide // region)
    if not batch or not features:
        raise ValueError(f"f0 must not be empty, got shape {tuple(f0.shape)}")
    if count <= negatives:
        raise ValueError(
            f"f0 must hold more than negatives={negatives} regions of {region} x {region}, "
            f"got {count} in shape {tuple(f0.shape)}"
        )
    with without_autocast(f0.device):
        dtype = compute_dtype(f0, f1)
        r0, r1 = _regions(f0.to(dtype), region), _regions(f1.to(dtype), region)
        others = draw_others(batch, count, negatives, device=f0.device, generator=generator).flatten(1)
        place = torch.arange(batch, device=f0.device)[:, None] * count + others
        drawn = [r.flatten(0, 1).index_select(0, place.flatten()).view(batch, count, negatives, -1) for r in (r0, r1)]
        pool = torch.cat(drawn, dim=2)
        agreement = (r0 * r1).sum(dim=2) / temperature
        losses = [
            F.logsigmoid(agreement - (torch.einsum("bgv,bgkv->bgk", r, pool) / temperature).logsumexp(dim=2)).mean()
            for r in (r0, r1)
        ]
        return -(losses[0] + losses[1]) / 2


def draw_others(
    batch: int, count: int, k: int, *, device: torch.device, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw k others, all distinct, for each of `count` regions of each sample: (B, count, k).

    Floyd's algorithm: uniform over sets, in k steps.
    """
    _checks.generator(generator)
    source = device if generator is None else generator.device
    # The keyword is left out where there is no generator: it would break compiled graphs.
    seeded: dict[str, Any] = {} if generator is None else {"generator": generator}
    chosen = torch.empty(batch, count, 0, dtype=torch.int64, device=source)
    for last in range(count - 1 - k, count - 1):
        drawn = torch.randint(last + 1, (batch, count, 1), device=source, **seeded)
        taken = (chosen == drawn).any(dim=2, keepdim=True)
        chosen = torch.cat([chosen, torch.where(taken, last, drawn)], dim=2)
    own = torch.arange(count, device=source)[:, None]
    # Slot s stands for region s, or s + 1 from the own region on.
    return moved(chosen + (chosen >= own), device)


class LocalContrastive(nn.Module):
    """Contrast of the same place in two feature maps: `local_contrastive` with stored settings.

    Args:
        temperature: as in `local_contrastive`.
        region: as in `local_contrastive`.
        negatives: as in `local_contrastive`.

    Example:
        >>> import torch
        >>> LocalContrastive(region=1)(torch.rand(2, 8, 6, 6), torch.rand(2, 8, 6, 6)).shape
        torch.Size([])
    """

    def __init__(self, *, temperature: float = 0.1, region: int = 3, negatives: int = 5) -> None:
        super().__init__()
        self.temperature: float
        self.region: int
        self.negatives: int
        self.temperature, self.region, self.negatives = _checked_settings(temperature, region, negatives)

    def forward(self, f0: torch.Tensor, f1: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """The loss of maps f0 and f1, both (B, D, h, w)."""
        return local_contrastive(
            f0,
            f1,
            temperature=self.temperature,
            region=self.region,
            negatives=self.negatives,
            generator=generator,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"temperature={self.temperature:g}, region={self.region}, negatives={self.negatives}"


def _regions(f: torch.Tensor, side: int) -> torch.Tensor:
    """Whole regions of a map (B, D, h, w) as unit vectors (B, regions, D side side)."""
    whole = f[:, :, : f.shape[2] // side * side, : f.shape[3] // side * side]
    return unit_rows(rearrange(whole, "b d (h r) (w s) -> b (h w) (d r s)", r=side, s=side))


def _checked_settings(temperature: float, region: int, negatives: int) -> tuple[float, int, int]:
    return (
        _checks.number("temperature", temperature, low=0, low_open=True),
        _checks.integer("region", region, low=1),
        _checks.integer("negatives", negatives, low=1),
    )
