"""Several views of one batch, transforms of single patches, and the papers' view recipes."""

from __future__ import annotations

import torch
from kornia.augmentation import RandomHorizontalFlip, RandomResizedCrop, RandomVerticalFlip
from torch import Tensor, nn

from .._checks import choice, integer, shaped
from ._base import cpu_generator
from ._patches import Grid, checked_grid, join_patches, split_patches
from .frequency import FrequencyBandStop
from .intensity import GrayJitter
from .jigsaw import CrossPatchJigsaw, PatchJigsaw


class MultiView(nn.Module):
    """Apply several transforms to the same images.

    Args:
        transforms: one module for each view, each taking (B, C, H, W).
        generator: where the views' randomness comes from. A call draws one seed from it and runs the
            transforms on torch's global CPU generator seeded so, which is put back afterwards: kornia's own
            flips and crops, which take no generator, become reproducible and the global stream stays
            untouched. A member with a generator of its own keeps that one. None uses the global generator as
            it is.

    Returns (of a call):
        A list with one (B, C, H, W) for each transform, in order; sizes may differ.

    Raises:
        TypeError: a transform is no module, or the generator none.
        ValueError: there is no transform, or the generator is not on the CPU.

    Example:
        >>> import torch
        >>> views = MultiView(GrayJitter(), torch.nn.Identity())
        >>> [v.shape for v in views(torch.rand(2, 1, 8, 8))]
        [torch.Size([2, 1, 8, 8]), torch.Size([2, 1, 8, 8])]
    """

    def __init__(self, *transforms: nn.Module, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if not transforms:
            raise ValueError("transforms must hold at least one module, got none")
        for i, transform in enumerate(transforms):
            if not isinstance(transform, nn.Module):
                raise TypeError(f"transforms[{i}] must be a torch.nn.Module, got {type(transform).__name__}")
        self.transforms = nn.ModuleList(transforms)
        self.generator = cpu_generator(generator)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give one batch of images for each transform."""
        if self.generator is None:
            return [transform(x) for transform in self.transforms]
        seed = int(torch.randint(2**63 - 1, (), generator=self.generator))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                seed
            )  # torch.manual_seed would seed CUDA's generators as well
            return [transform(x) for transform in self.transforms]


class PatchWise(nn.Module):
    """Apply a transform to every patch of a grid independently.

    Args:
        transform: a module on (B * R * S, C, h, w); with per-sample draws each patch gets its own.
        grid: (R, S), rows and columns; they must divide the images' size.

    Raises:
        TypeError: the transform is no module.
        ValueError: the grid is no pair, or does not divide the size.

    Example:
        >>> import torch
        >>> PatchWise(GrayJitter(p=1.0), grid=(6, 6))(torch.rand(2, 1, 216, 216)).shape
        torch.Size([2, 1, 216, 216])
    """

    def __init__(self, transform: nn.Module, grid: Grid) -> None:
        super().__init__()
        if not isinstance(transform, nn.Module):
            raise TypeError(f"transform must be a torch.nn.Module, got {type(transform).__name__}")
        self.transform = transform
        self.grid = checked_grid(grid)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"grid={self.grid}"

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W) patch by patch."""
        shaped("x", x, "(B, C, H, W)", ndim=4)
        patches = split_patches(x, self.grid)
        changed: Tensor = self.transform(patches.flatten(0, 1))
        return join_patches(changed.reshape(*patches.shape[:2], *changed.shape[1:]), self.grid)


def pirl(
    size: int = 216,
    *,
    modality: str = "ultrasound",
    grid: Grid = (6, 6),
    frequency: bool = True,
    cross_patch: bool = True,
    focal: str = "mirror",
    radius: tuple[float, float] | None = None,
    unit: str = "bin",
    generator: torch.Generator | None = None,
) -> MultiView:
    """Ellis et al.'s pair of views: the image t1, and t2, which is filtered, rearranged and jittered by patch.

    t1 keeps the image's own size: flips left to right and top to bottom, GrayJitter(0.4, 0.4). t2 is a random
    resized crop (scale 0.6 to 1, ratio 3/4 to 4/3) to `size`, FrequencyBandStop, CrossPatchJigsaw or
    PatchJigsaw, and GrayJitter(0.4, 0.4) drawn for each patch alone.

    Args:
        size: side of t2 in pixels, a multiple of the grid. 216 by default: 6 x 36, near the paper's 224,
            which 6 does not divide, and a size whose Fourier transform is fast (as 48, 60, 72, 96, 120, 144,
            192, 240 are; 222 is not).
        modality: "ultrasound", the paper's.
        grid: (R, S), rows and columns of patches.
        frequency: filter by FrequencyBandStop.
        cross_patch: CrossPatchJigsaw; False gives PatchJigsaw on the same grid.
        focal: as in CrossPatchJigsaw.
        radius: as in FrequencyBandStop, in bins of the crop; None for the paper's 10 to 100.
        unit: "bin" or "nyquist"; "nyquist" where `size` is far from 224.
        generator: as in MultiView.

    Returns:
        MultiView giving [t1 (B, C, H, W), t2 (B, C, size, size)].

    Raises:
        ValueError: the grid does not divide `size`, or another setting is out of range.

    Reference:
        Ellis et al., sections on the pretext task; the crop's scale and ratio are PIRL's, as the paper gives
        none.

    Example:
        >>> import torch
        >>> t1, t2 = pirl(96, unit="nyquist")(torch.rand(2, 1, 128, 128))
        >>> t1.shape, t2.shape
        (torch.Size([2, 1, 128, 128]), torch.Size([2, 1, 96, 96]))
    """
    choice("modality", modality, ("ultrasound",))
    integer("size", size, low=1)
    jigsaw = (
        CrossPatchJigsaw(grid=grid, focal=focal, remainder="error") if cross_patch else PatchJigsaw(grid=grid)
    )
    if size % grid[0] or size % grid[1]:
        raise ValueError(f"size must be a multiple of the grid {tuple(grid)}, got {size}")
    filters = [FrequencyBandStop(radius=radius, unit=unit)] if frequency else []
    t1 = nn.Sequential(RandomHorizontalFlip(), RandomVerticalFlip(), GrayJitter(p=1.0))
    t2 = nn.Sequential(
        RandomResizedCrop((size, size), scale=(0.6, 1.0), ratio=(3 / 4, 4 / 3)),
        *filters,
        jigsaw,
        PatchWise(GrayJitter(p=1.0), jigsaw.grid),
    )
    return MultiView(t1, t2, generator=generator)
