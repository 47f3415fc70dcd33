"""kornia's Gaussian blur under this library's randomness contract.

kornia's RandomGaussianBlur blurs every image and then keeps those that the draw selects; here only those are
blurred, and an image's draw does not depend on its batch.
"""

from __future__ import annotations

import math

import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from .._checks import number
from ._base import Intensity
from ._draws import Params


class Blur(Intensity):
    """Random Gaussian blur, reflected at the border.

    Args:
        sigma: least and greatest standard deviation in pixels; drawn uniformly. The kernel reaches to three times
            the greatest, beyond which lies 0.3 % of a Gaussian.
        p: probability that an image is blurred.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        sigma: (B,).

    Raises:
        ValueError: a setting is out of range, or an image is not larger than the kernel's reach.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 1, 9, 9)
        >>> x[..., 4, 4] = 1.0
        >>> Blur(sigma=(1.0, 1.0), p=1.0)(x)[0, 0, 4, 4]  # 1 / (2 pi)
        tensor(0.1592)
    """

    names = ("sigma",)

    def __init__(
        self,
        *,
        sigma: tuple[float, float],
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        low, high = (number("sigma", bound, low=0, low_open=True) for bound in sigma)
        if low > high:
            raise ValueError(f"sigma must not decrease, got {sigma!r}")
        self.sigma = (low, high)
        self.reach = math.ceil(3 * high)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"sigma=({self.sigma[0]:g}, {self.sigma[1]:g}), {super().extra_repr()}"

    def draws(self) -> int:
        """One, for sigma."""
        return 1

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 1) to standard deviations."""
        low, high = self.sigma
        return {"sigma": low + (high - low) * u[:, 0]}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Blur every row."""
        if min(x.shape[2:]) <= self.reach:
            raise ValueError(
                f"images must be larger than the blur's reach of {self.reach} pixels, got {tuple(x.shape)}"
            )
        if x.shape[0] == 0:
            return x.clone()
        sigma = params["sigma"].unsqueeze(1).expand(-1, 2)
        blurred: Tensor = gaussian_blur2d(x, 2 * self.reach + 1, sigma)
        return blurred
