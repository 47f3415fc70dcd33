"""How much of the echo's level is lost behind an obstacle, along the beams of a probe."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._checks import floating, same_device, same_shape, shaped
from ..._compat import moved
from ._beams import Apex, apex_or_none, beams, path_length
from ._levels import apply_gain

_THICKNESS = 0.1  # of the depth: over it a flat obstacle takes its toll
_RIM = 0.8  # of the half width: over it a flat obstacle's shadow fades out to the side


def shadow_profile(
    size: tuple[int, int],
    beam: Tensor,
    depth: Tensor,
    width: Tensor,
    *,
    apex: Apex = None,
    device: torch.device | None = None,
) -> Tensor:
    """Share of a shadow's decibels lost at each pixel, behind an obstacle that lies across the beams.

    None in front of the obstacle and beside it. Behind it, all from 0.1 of the image's depth on, after a linear rise,
    as for a layer of that thickness. Across the beams, all in the inner fifth of the width, from which a smooth step
    (3 t^2 - 2 t^3) leads to none, as an aperture wider than a beam blurs a shadow's edges.

    Args:
        size: (H, W) of the image.
        beam: (B,) the middle beam, as in `beams`: 0 and 1 for those through the lower corners.
        depth: (B,) where the obstacle begins: 0 at the probe's face, 1 at the lower border.
        width: (B,) of the shadow, > 0, in the unit of `beam`; in a sector it widens with depth.
        apex: of a sector, as in `beams`; None for beams straight down.
        device: where the profile is made; None for beam's.

    Returns:
        (B, 1, H, W) float32 in [0, 1].

    Raises:
        TypeError: a tensor is not floating point.
        ValueError: shapes that do not fit.

    Example:
        >>> import torch
        >>> half = torch.tensor([0.5])
        >>> shadow_profile((4, 10), half, half, 2 * half)[0, 0]
        tensor([[0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
                [0.0430, 0.3164, 0.6836, 0.9570, 1.0000, 1.0000, 0.9570, 0.6836, 0.3164, 0.0430],
                [0.0430, 0.3164, 0.6836, 0.9570, 1.0000, 1.0000, 0.9570, 0.6836, 0.3164, 0.0430]])
    """
    for name, value in (("beam", beam), ("depth", depth), ("width", width)):
        floating(name, value)
        shaped(name, value, "(B,)", ndim=1)
        same_shape("beam", beam, name, value)
    device = beam.device if device is None else torch.device(device)
    beam, depth, width = (moved(value.to(torch.float32), device).view(-1, 1, 1, 1) for value in (beam, depth, width))
    deep, across = beams(size, apex=apex, device=device)
    behind = ((deep - depth) / _THICKNESS).clamp(0, 1)
    rim = ((1 - (across - beam).abs() * 2 / width) / _RIM).clamp(0, 1)
    return behind * (rim.square() * (3 - 2 * rim))


def acoustic_shadow(
    x: Tensor, mask: Tensor, strength_db: Tensor, *, apex: Apex = None, dynamic_range_db: float = 60.0
) -> Tensor:
    """Darken what lies behind a mask, as an obstacle of even attenuation does.

    The loss grows with the length of the beam's way through the mask; `strength_db` is that behind the longest way. So
    a round obstacle has a shadow with soft sides, and is itself darker towards its lower border.

    Args:
        x: (B, C, H, W) log-compressed images, floating point, any range. Half precision is computed in float32.
        mask: (B, 1, H, W) bool, True in the obstacle. An empty one casts no shadow.
        strength_db: (B,) loss in decibels; negative for the enhancement behind a cyst.
        apex: of a sector, as in `beams`; None for beams straight down.
        dynamic_range_db: decibels from the image's least value to its greatest, in (0, 200].

    Returns:
        (B, C, H, W) of x's dtype; levels as in `apply_gain`.

    Raises:
        TypeError: `x` or `strength_db` is not floating point, or `mask` not bool.
        ValueError: shapes or devices that do not fit, or a setting out of range.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.0, 60.0]).repeat(1, 1, 5, 1)
        >>> mask = torch.zeros(1, 1, 5, 2, dtype=torch.bool)
        >>> mask[:, :, 1:3] = True
        >>> acoustic_shadow(x, mask, torch.tensor([12.0]))[0, 0, :, 1]
        tensor([60., 54., 48., 48., 48.])
    """
    floating("x", x)
    floating("strength_db", strength_db)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"mask must be a bool tensor, got {getattr(mask, 'dtype', type(mask).__name__)}")
    expected = (x.shape[0], 1, *x.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"mask must have shape {expected}, got {tuple(mask.shape)}")
    if strength_db.shape != x.shape[:1]:
        raise ValueError(f"strength_db must have shape ({x.shape[0]},), got {tuple(strength_db.shape)}")
    same_device(x=x, mask=mask, strength_db=strength_db)
    apex = apex_or_none(apex)
    if x.numel() == 0:
        return x.clone()
    path = path_length(mask.to(torch.float32), apex=apex)
    longest = path.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    loss_db = path * (strength_db.to(torch.float32).view(-1, 1, 1, 1) / longest)
    return apply_gain(x, -loss_db, dynamic_range_db=dynamic_range_db)
