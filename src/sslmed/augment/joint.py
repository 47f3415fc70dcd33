"""Views of images and their masks together, for training a segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from .._checks import integer, same_device, shaped
from .._compat import moved, without_autocast
from ._affine import Affine
from ._base import Geometry, Intensity
from ._draws import Draws, Params
from ._multiview import working
from ._noise import Noise
from ._ranges import interval
from ._source import cpu_generator
from ._strengths import Range, blurring, flips, strengths
from .intensity import GrayJitter


class JointView(Draws, nn.Module):
    """Augmentations one after another, on images and, where they move pixels, on their masks.

    Masks are resampled by nearest neighbour, so labels stay labels. All members are drawn at once: the parameters of
    sample i do not depend on the rest of the batch. A member with `same_on_batch=True` uses the first sample's draw for
    the whole batch.

    Args:
        members: of this library, each changing values or moving pixels by a matrix.
        generator: CPU generator of the draws; None for torch's global one. Members use none of their own.

    Parameters (of `forward_parameters`):
        The members' own, each name after the member's number and a dot.

    Raises:
        TypeError: the generator is not a torch.Generator, or a member neither changes values nor moves pixels by a
            matrix.

    Example:
        >>> import torch
        >>> from sslmed.augment import GrayJitter, Haze
        >>> view = JointView(GrayJitter(), Haze(p=0.3))
        >>> images, masks = view(torch.rand(2, 1, 8, 8), torch.ones(2, 1, 8, 8) > 0)
        >>> sorted(view.forward_parameters(images.shape))[:2]
        ['0.batch_prob', '0.brightness']
    """

    def __init__(self, *members: Geometry | Intensity, generator: torch.Generator | None = None) -> None:
        super().__init__()
        for k, member in enumerate(members):
            if not isinstance(member, Geometry | Intensity):
                raise TypeError(
                    f"members[{k}] must change values or move pixels by a matrix, got {type(member).__name__}"
                )
        self.members: nn.ModuleList = nn.ModuleList(members)
        self.generator: torch.Generator | None = cpu_generator(generator)
        self.names: tuple[str, ...] = tuple(
            f"{k}.{n}" for k, member in enumerate(members) for n in ("batch_prob", *member.names)
        )

    def _each(self) -> Iterator[Geometry | Intensity]:
        return cast("Iterator[Geometry | Intensity]", iter(self.members))

    def _each_with_size(self, size: tuple[int, int]) -> Iterator[tuple[Geometry | Intensity, tuple[int, int]]]:
        """Members with the size (H, W) of the images that each gets."""
        for member in self._each():
            yield member, size
            side = getattr(member, "size", None)
            size = size if side is None else (side, side)

    def draws(self) -> int:
        """What the members draw, with their gates."""
        return sum(1 + member.draws() for member in self._each())

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, K) to the parameters of all members."""
        parts = torch.split(u, [1 + member.draws() for member in self._each()], dim=1)
        params = {}
        for k, (part, (member, own_size)) in enumerate(zip(parts, self._each_with_size(size), strict=True)):
            if member.same_on_batch:
                part = part[:1].expand_as(part)
            params.update({f"{k}.{name}": value for name, value in member.gated(part, own_size).items()})
        return params

    def fields_from(self, params: Params, size: tuple[int, int], device: torch.device) -> Params:
        """Build the members' pixel-sized parameters."""
        fields = {}
        for k, (member, own_size) in enumerate(self._each_with_size(size)):
            own = {name.removeprefix(f"{k}."): x for name, x in params.items() if name.startswith(f"{k}.")}
            fields.update({f"{k}.{name}": x for name, x in member.fields_from(own, own_size, device).items()})
        return fields

    def forward(
        self, images: Tensor, masks: Tensor, params: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augment images and masks together.

        Args:
            images: (B, C, H, W), floating point.
            masks: (B, K, H, W) of any dtype but complex: bool, or whole numbers below 2^24.
            params: of `forward_parameters`, to replay a call bit for bit; None draws anew.

        Returns:
            Images and masks of their own dtypes, in the size of the view.

        Raises:
            TypeError: the images are not of floating point.
            ValueError: shapes or devices do not fit, or `params` lack a name or have another batch size.
        """
        y = working(images)
        shaped("masks", masks, "(B, K, H, W)", ndim=4)
        if (masks.shape[0], *masks.shape[2:]) != (images.shape[0], *images.shape[2:]):
            raise ValueError(
                f"masks must have the images' batch and size, got {tuple(masks.shape)} for {tuple(images.shape)}"
            )
        same_device(images=images, masks=masks)
        drawn = self._drawn(images.shape, images.device) if params is None else self._replayed(params, images)
        z = masks.to(torch.float32)
        with without_autocast(images.device):
            for k, member in enumerate(self._each()):
                own = {name: drawn[f"{k}.{name}"] for name in ("batch_prob", *member.names)}
                y = member(y, params=own)
                if isinstance(member, Geometry):
                    gate = moved(own["batch_prob"] > 0.5, z.device).view(-1, 1, 1, 1)
                    there = member.transform(z, own, mode="nearest")
                    z = torch.where(gate, there, z) if member.p < 1 else there
        return y.to(images.dtype), z.to(masks.dtype)


def segmentation(
    size: int,
    *,
    modality: str = "ultrasound",
    degrees: float = 25.0,
    zoom: Range = (0.65, 1.5),
    hflip: float | None = None,
    brightness: float | None = None,
    contrast: float | None = None,
    gamma: float = 0.5,
    blur: float | None = None,
    sigma: Range | None = None,
    noise: Range = (0.0, 0.2),
    generator: torch.Generator | None = None,
) -> JointView:
    """Strong augmentation of images and masks together, for training with few outlines.

    The view rotates, magnifies and shifts (resampled once, to size x size) and flips; then it changes gamma, contrast
    and brightness (p = 0.8), blurs, and adds noise (p = 0.5). Pixels outside the image get the image's minimum value,
    and 0 in the mask. `degrees=0, zoom=(1, 1), hflip=0` moves no pixel.

    Give it images of about the view's size, as a reader's `size` makes them. Masks are sampled at the nearest pixel: of
    a mask many times larger than the view, a lesion of a few pixels may fall between the samples.

    Args:
        size: side of the result in pixels. Images of other shapes are stretched to a square.
        modality: "ultrasound", "mr" or "mammography"; determines the values of settings that are None.
        degrees: maximum angle in either direction.
        zoom: minimum and maximum magnification, drawn log-uniformly.
        hflip: probability of a flip left to right. There are no vertical flips.
        brightness: as in GrayJitter.
        contrast: as in GrayJitter.
        gamma: as in GrayJitter.
        blur: probability of a Gaussian blur.
        sigma: minimum and maximum standard deviation of the blur, in pixels of the result. None for 0.1 to 2 at size
            224 and in proportion at others.
        noise: minimum and maximum standard deviation of the noise as a share of the image's; (0, 0) for no noise.
        generator: CPU generator of the draws; None for torch's global one.

    Returns:
        A module (images (B, C, H, W), masks (B, K, H, W)) -> (images (B, C, size, size), masks (B, K, size, size)).
        Its `forward_parameters(images.shape)` replay a call: `view(images, masks, params=params)`.

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.

    Example:
        >>> import torch
        >>> images, masks = torch.rand(2, 1, 96, 120), torch.rand(2, 1, 96, 120) > 0.5
        >>> view = segmentation(64)
        >>> views, outlines = view(images, masks)
        >>> views.shape, outlines.shape, outlines.dtype
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 1, 64, 64]), torch.bool)
    """
    chosen = strengths(modality, hflip=hflip, brightness=brightness, contrast=contrast, blur=blur)
    members: list[Geometry | Intensity] = [
        Affine(integer("size", size, low=2), degrees=degrees, zoom=zoom),
        *flips(hflip=chosen.hflip, vflip=0.0),
        GrayJitter(brightness=chosen.brightness, contrast=chosen.contrast, gamma=gamma),
        *blurring(size, probability=chosen.blur, sigma=sigma),
        *([Noise(strength=noise)] if interval("noise", noise) != (0, 0) else []),
    ]
    return JointView(*members, generator=generator)
