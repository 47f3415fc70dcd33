"""Several views of one batch, the frame a view is computed in, and transforms of single patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from .._checks import floating, shaped
from .._compat import without_autocast
from .._tensor import compute_dtype
from ._draws import Params, not_empty
from ._patches import Grid, checked_grid, join_patches, split_patches
from ._source import Seeded, cpu_generator, drawing_from


class _DrawsOnCPU(Seeded, nn.Module):
    """A module whose members draw on the CPU, and as precisely, wherever and to whatever dtype it is moved.

    A kornia augmentation that is moved draws where it then is: from another stream, and with a look at each draw for
    which a GPU has to be waited for.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        drawing: list[tuple[Any, Any]] = [
            (m, m.dtype) for m in self.modules() if hasattr(m, "set_rng_device_and_dtype")
        ]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for member, dtype in drawing:
            member.set_rng_device_and_dtype(torch.device("cpu"), dtype)
        return self


class MultiView(_DrawsOnCPU):
    """Apply several transforms to the same images.

    All draw on the CPU, also after the module was moved: a seed gives the same views on every device. The views of a
    sample depend on the size of its batch. One object may be called from several threads at once.

    Args:
        transforms: one module for each view, each taking (B, C, H, W).
        generator: where the views' randomness comes from. A call draws one seed from it and gives the
            transforms a generator of that seed. Transforms that take none, such as kornia's own, draw from it
            too; torch's global generator is neither used nor changed. A member with a generator of its own keeps
            that one. None uses the global generator; a call compiles to one graph only so.

    Returns (of a call):
        A list with one (B, C, H, W) for each transform, in order; sizes may differ.

    Raises:
        TypeError: a transform is no module, or the generator none.
        ValueError: there is no transform, or the generator is not on the CPU.

    Example:
        >>> import torch
        >>> from sslmed.augment import GrayJitter
        >>> views = MultiView(GrayJitter(), torch.nn.Identity())
        >>> x = torch.rand(2, 1, 8, 8)
        >>> [v.shape for v in views(x)]
        [torch.Size([2, 1, 8, 8]), torch.Size([2, 1, 8, 8])]
        >>> params = views.forward_parameters(x.shape)
        >>> torch.equal(views(x, params=params)[0], views(x, params=params)[0])
        True
    """

    def __init__(self, *transforms: nn.Module, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if not transforms:
            raise ValueError("transforms must hold at least one module, got none")
        for i, transform in enumerate(transforms):
            if not isinstance(transform, nn.Module):
                raise TypeError(f"transforms[{i}] must be a torch.nn.Module, got {type(transform).__name__}")
        self.transforms: nn.ModuleList = nn.ModuleList(transforms)
        self.generator: torch.Generator | None = cpu_generator(generator)

    def forward_parameters(self, batch_shape: Sequence[int]) -> Params:
        """Draw what one call needs to be replayed.

        Args:
            batch_shape: shape of the images, as the other augmentations take it; not used.

        Returns:
            seed: () int64. Under it all draws follow, on every device, for images of one shape.
        """
        return {"seed": torch.randint(2**63 - 1, (), device="cpu", generator=self.source())}

    def forward(self, x: Tensor, params: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Give one batch of images for each transform.

        Args:
            x: images (B, C, H, W).
            params: of `forward_parameters`, to replay a call bit for bit; None draws anew.

        Raises:
            ValueError: `params` hold no seed, or a member draws from a generator of its own, which a seed
                does not replay.
        """
        if params is None and self.generator is None:
            return [transform(x) for transform in self.transforms]
        if params is None:
            params = self.forward_parameters(x.shape)
        else:
            self._replayable(params)
        seeded = torch.Generator().manual_seed(int(params["seed"]))
        with drawing_from(seeded, self.transforms):
            return [transform(x) for transform in self.transforms]

    def _replayable(self, params: Mapping[str, Tensor]) -> None:
        if "seed" not in params:
            raise ValueError(f"params must hold seed, as forward_parameters gives it, got {sorted(params)}")
        for name, member in self.transforms.named_modules():
            if getattr(member, "generator", None) is not None:
                raise ValueError(
                    f"params replay no member with a generator of its own, got transforms.{name}: "
                    "give the generator to MultiView instead"
                )


class View(_DrawsOnCPU, nn.Sequential):
    """Transforms one after another on (B, C, H, W), computed in at least float32 and outside of autocast.

    So half precision is rounded once, at the end, and kornia's filters and matrices keep their precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Give the view, of x's dtype."""
        with without_autocast(x.device):
            y = working(x)
            for member in self:
                y = member(y)
            return y.to(x.dtype)


def working(x: Tensor) -> Tensor:
    """Images in at least float32; raise unless they are (B, C, H, W) of floating point."""
    floating("x", x)
    shaped("x", x, "(B, C, H, W)", ndim=4)
    not_empty("x", x.shape)
    return x.to(compute_dtype(x))


class PatchWise(Seeded, nn.Module):
    """Apply a transform to every patch of a grid independently.

    Args:
        transform: a module on (B * R * S, C, h, w); with per-sample draws each patch gets its own.
        grid: (R, S), rows and columns; they must divide the images' size.

    Raises:
        TypeError: the transform is no module.
        ValueError: the grid is no pair, or does not divide the size.

    Example:
        >>> import torch
        >>> from sslmed.augment import GrayJitter
        >>> PatchWise(GrayJitter(p=1.0), grid=(6, 6))(torch.rand(2, 1, 216, 216)).shape
        torch.Size([2, 1, 216, 216])
    """

    def __init__(self, transform: nn.Module, grid: Grid) -> None:
        super().__init__()
        if not isinstance(transform, nn.Module):
            raise TypeError(f"transform must be a torch.nn.Module, got {type(transform).__name__}")
        self.transform = transform
        self.grid: Grid = checked_grid(grid)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"grid={self.grid}"

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W) patch by patch."""
        shaped("x", x, "(B, C, H, W)", ndim=4)
        patches = split_patches(x, self.grid)
        changed: Tensor = self.transform(patches.flatten(0, 1))
        return join_patches(changed.reshape(*patches.shape[:2], *changed.shape[1:]), self.grid)
