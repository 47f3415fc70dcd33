"""Hiding pixels or patches, to be predicted from the rest: RandomPixelMask and RandomPatchMask.

Umapathy et al. (regression stage) hide single pixels: x~ = (1 - M) x + N M with M Bernoulli, 10 % of the pixels,
and N ~ Normal(0, 0.01), of which 0.01 is read as the standard deviation. Hidden values are thus *replaced* by
noise about 0, not disturbed. He et al. hide an exact share of the patches of a grid.

Both are meant for images about 0 (z-scored), where 0 is the mean. `mask_pixels` fills with anything else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import floating, integer, number, same_device, shaped
from .._compat import moved
from ._base import Intensity
from ._draws import Params
from ._fields import SEED_DRAWS, normal_at, normal_field, seed_from, uniform_field

_FEW = 0.25  # up to this share of hidden pixels, noise made for them alone is faster than a whole field


def mask_pixels(x: Tensor, mask: Tensor, fill: Tensor | float) -> Tensor:
    """Put `fill` where `mask` is True and leave every other value as it is, bit for bit.

    What lies under the mask, nan too, reaches neither the output nor a gradient.

    Args:
        x: (B, C, H, W) images, floating point, any range.
        mask: (B, 1, H, W) bool, True where a pixel is hidden; shared by the channels.
        fill: a number, or a floating point tensor of shape (B or 1, C or 1, H or 1, W or 1), rounded to x's
            dtype. Differentiable.

    Returns:
        (B, C, H, W) of x's dtype.

    Raises:
        TypeError: `x` or `fill` is not floating point, or `mask` not bool.
        ValueError: shapes or devices that do not fit, or a number beyond x's dtype.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[[[True, False]]]])
        >>> mask_pixels(torch.tensor([[[[float("nan"), 3.0]]]]), mask, 0.5)
        tensor([[[[0.5000, 3.0000]]]])
    """
    floating("x", x)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    _masking("mask", mask, x)
    same_device(x=x, mask=mask)
    if not isinstance(fill, Tensor):
        limits = torch.finfo(x.dtype)
        return x.masked_fill(mask, number("fill", fill, low=limits.min, high=limits.max))
    floating("fill", fill)
    if fill.ndim != 4 or any(n not in (1, m) for n, m in zip(fill.shape, x.shape, strict=True)):
        sizes = ", ".join(f"{n} or 1" for n in x.shape)
        raise ValueError(f"fill must be a number or have shape ({sizes}), got {tuple(fill.shape)}")
    same_device(x=x, fill=fill)
    return torch.where(mask, fill.to(x.dtype), x)


class RandomPixelMask(Intensity):
    """Replace random pixels by noise about 0.

    Each pixel is hidden with probability `ratio`, on its own; all channels hide the same pixels and draw their
    own noise.

    Args:
        ratio: probability that a pixel is hidden, in [0, 1].
        sigma: standard deviation of the noise, at least 0, in the image's units.
        p: probability that an image is masked. The mask of a skipped image is False everywhere, so that
            no loss counts pixels that were never hidden.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        mask: (B, 1, H, W) bool, True where a pixel is hidden: what `losses.masked_l1` takes.
        seed: (B, 4) int32, of the mask and of the noise.

    Raises:
        ValueError: a setting out of range.

    Reference:
        Umapathy et al., "Learning to segment with limited annotations: Self-supervised pretraining with
        regression and contrastive loss in MRI", 2022, regression stage.

    Example:
        >>> import torch
        >>> from sslmed.losses import MaskedL1
        >>> augment, x = RandomPixelMask(ratio=0.1), torch.randn(4, 1, 32, 32)
        >>> params = augment.forward_parameters(x.shape)
        >>> y = augment(x, params=params)
        >>> prediction = y  # of a model
        >>> MaskedL1()(prediction, x, params["mask"].to(x.device)).shape
        torch.Size([])
    """

    names: tuple[str, ...] = ("mask", "seed")

    def __init__(
        self,
        *,
        ratio: float = 0.1,
        sigma: float = 0.01,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.ratio: float = number("ratio", ratio, low=0, high=1)
        self.sigma: float = number("sigma", sigma, low=0)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"ratio={self.ratio:g}, sigma={self.sigma:g}, {super().extra_repr()}"

    def draws(self) -> int:
        """A seed of the mask and one of the noise."""
        return 2 * SEED_DRAWS

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 4) to seeds."""
        return {"seed": seed_from(u)}

    def fields_from(self, params: Params, size: tuple[int, int], device: torch.device) -> Params:
        """Draw the mask; a skipped row hides nothing."""
        field = uniform_field(params["seed"][:, :SEED_DRAWS], (1, *size), device)
        ratio = self.ratio * moved(params["batch_prob"], device)
        return {"mask": field < ratio.view(-1, 1, 1, 1)}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Mask every row."""
        mask = moved(_masking("params['mask']", params["mask"], x), x.device)
        if self.sigma == 0:
            return mask_pixels(x, mask, 0.0)
        size, seed = (x.shape[1], x.shape[2], x.shape[3]), params["seed"][:, SEED_DRAWS:]
        if x.device.type != "cpu" or torch.compiler.is_compiling() or self.ratio > _FEW:
            return mask_pixels(x, mask, normal_field(seed, size, x.device) * self.sigma)
        place = mask.expand_as(x).flatten().nonzero().squeeze(1)
        return x.flatten().scatter(0, place, (normal_at(seed, size, place) * self.sigma).to(x)).view_as(x)


class RandomPatchMask(Intensity):
    """Replace a random part of a grid of square patches by 0.

    The grid starts at the upper left corner. Where the size is no multiple of `patch`, the patches at the right
    and lower border are smaller and count like any other. Each image hides exactly round(ratio * patches) of
    them, halves rounded up, all channels the same.

    Args:
        ratio: part of the patches that is hidden, in [0, 1].
        patch: side of a patch in pixels, at least 1; no more than the image's shorter side.
        p: probability that an image is masked. The mask of a skipped image is False everywhere, so that
            no loss counts pixels that were never hidden.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        mask: (B, 1, H, W) bool, True where a pixel is hidden: what `losses.masked_l1` takes.

    Raises:
        TypeError, ValueError: a setting out of range, or an image smaller than a patch.

    Reference:
        He et al., "Masked autoencoders are scalable vision learners", 2022, section 3 (random sampling without
        replacement); there `patch` is 16 and `ratio` 0.75.

    Example:
        >>> import torch
        >>> from sslmed.losses import MaskedL1
        >>> augment, x = RandomPatchMask(ratio=0.75, patch=16), torch.randn(4, 1, 64, 64)
        >>> params = augment.forward_parameters(x.shape)
        >>> y = augment(x, params=params)
        >>> prediction = y  # of a model
        >>> MaskedL1()(prediction, x, params["mask"].to(x.device)).shape
        torch.Size([])
        >>> params["mask"].float().mean((1, 2, 3))
        tensor([0.7500, 0.7500, 0.7500, 0.7500])
    """

    names: tuple[str, ...] = ("mask",)

    def __init__(
        self,
        *,
        ratio: float = 0.5,
        patch: int = 8,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.ratio: float = number("ratio", ratio, low=0, high=1)
        self.patch: int = integer("patch", patch, low=1)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"ratio={self.ratio:g}, patch={self.patch}, {super().extra_repr()}"

    def draws(self) -> int:
        """A seed."""
        return SEED_DRAWS

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, 2) to seeds."""
        if self.patch > min(size):
            raise ValueError(f"patch must fit in the image of {size[0]} x {size[1]}, got {self.patch}")
        return {"seed": seed_from(u)}

    def fields_from(self, params: Params, size: tuple[int, int], device: torch.device) -> Params:
        """Hide where a field over the grid is lowest; a skipped row hides nothing."""
        rows, columns = (-(-n // self.patch) for n in size)
        field = uniform_field(params["seed"], (1, rows, columns), device)
        order = field.flatten(1).argsort(dim=1, stable=True)[:, : int(self.ratio * (rows * columns) + 0.5)]
        hidden = torch.zeros_like(field, dtype=torch.bool).flatten(1).scatter(1, order, True).view_as(field)
        hidden = hidden & moved(params["batch_prob"] > 0.5, device).view(-1, 1, 1, 1)
        cells = hidden[:, :, :, None, :, None].expand(-1, -1, -1, self.patch, -1, self.patch)
        mask = cells.reshape(-1, 1, rows * self.patch, columns * self.patch)
        return {"mask": mask[:, :, : size[0], : size[1]].contiguous()}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Mask every row."""
        return mask_pixels(x, moved(params["mask"], x.device), 0.0)


def _masking(name: str, mask: Tensor, x: Tensor) -> Tensor:
    """Return `mask`; raise unless it is (B, 1, H, W) bool for `x` (B, C, H, W)."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"{name} must be a bool tensor, got {getattr(mask, 'dtype', type(mask).__name__)}")
    expected = (x.shape[0], 1, *x.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"{name} must have shape {expected} for x of {tuple(x.shape)}, got {tuple(mask.shape)}")
    return mask
