"""Noise of every pixel, in proportion to the image's contrast."""

from __future__ import annotations

import torch
from torch import Tensor

from .._compat import moved
from ._base import Intensity
from ._draws import Params
from ._fields import SEED_DRAWS, normal_field, seed_from
from ._ranges import interval, spread


class Noise(Intensity):
    """Add normal noise, independent from pixel to pixel and the same in all channels.

    Args:
        strength: minimum and maximum standard deviation, as a share of the image's own; drawn uniformly.
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: return (C, H, W) for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        strength: (B,).
        seed: (B, 2) int32.

    Raises:
        ValueError: a setting out of range.

    Example:
        >>> import torch
        >>> x = torch.rand(1, 1, 128, 128)
        >>> noise = Noise(strength=(0.5, 0.5), p=1.0)(x) - x
        >>> print(f"{noise.std() / x.std():.1f}")
        0.5
    """

    names = ("strength", "seed")

    def __init__(
        self,
        *,
        strength: tuple[float, float],
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.strength = interval("strength", strength)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"strength={self.strength}, {super().extra_repr()}"

    def draws(self) -> int:
        """The strength and a seed."""
        return 1 + SEED_DRAWS

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 3) to strengths and seeds."""
        return {"strength": spread(u[:, 0], self.strength), "seed": seed_from(u[:, 1:])}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Change every row."""
        if x.shape[0] == 0:
            return x.clone()
        contrast = x.detach().std(dim=(1, 2, 3), correction=0)
        sigma = (moved(params["strength"], x.device) * contrast).view(-1, 1, 1, 1)
        return x + sigma.to(x.dtype) * normal_field(params["seed"], (1, *x.shape[2:]), x.device).to(x.dtype)
