"""Two views of an image with the map from a location in one to the same location in the other.

For local contrastive learning with crops: where Umapathy et al. keep to changes of intensity so that a location
means the same in both views (`views.intensity_only`), the matrices of a pair say where it went.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from kornia.augmentation import GeometricAugmentationBase2D, IntensityAugmentationBase2D
from torch import Tensor, nn

from .._checks import floating, same_device, shaped
from .._compat import moved, without_autocast
from .._tensor import compute_dtype
from ._base import Rearrangement
from ._draws import Params
from ._multiview import MultiView, View, working
from ._sizes import image_size
from ._source import Seeded


class Pair(NamedTuple):
    """Two views and where their pixels come from.

    Attributes:
        view0: (B, C, h0, w0).
        view1: (B, C, h1, w1).
        matrix0: (B, 3, 3) of at least float32; takes (x, y, 1) of the source, in pixels from the centre of the
            upper left one, to view0.
        matrix1: the same to view1.
    """

    view0: Tensor
    view1: Tensor
    matrix0: Tensor
    matrix1: Tensor


def correspond(points0: Tensor, matrix0: Tensor, matrix1: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Take locations of one view to another view of the same image.

    A cell (i, j) of a feature map with stride s is centred on the pixel x = (j + 0.5) s - 0.5,
    y = (i + 0.5) s - 0.5. An identity in place of a matrix stands for the source.

    Args:
        points0: (B, P, 2), (x, y) in pixels of view 0, (0, 0) being the centre of the upper left one.
        matrix0: (B, 3, 3), source to view 0.
        matrix1: (B, 3, 3), source to view 1.
        size: (height, width) of view 1.

    Returns:
        Locations (B, P, 2) in pixels of view 1, of at least float32, and (B, P) of bool, true where a location
        lies between the centres of view 1's outermost pixels, to within 0.001 pixels, and so can be looked up.

    Raises:
        TypeError: points or matrices are not of floating point.
        ValueError: shapes or devices do not fit.

    Example:
        Mirrored images of width 8:

        >>> import torch
        >>> mirror = torch.tensor([[[-1.0, 0.0, 7.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
        >>> correspond(torch.tensor([[[2.0, 5.0]]]), torch.eye(3)[None], mirror, size=(8, 8))
        (tensor([[[5., 5.]]]), tensor([[True]]))
    """
    height, width = image_size(size)
    shaped("points0", points0, "(B, P, 2)", ndim=3)
    batch = points0.shape[0]
    if points0.shape[2] != 2:
        raise ValueError(f"points0 must have shape (B, P, 2), got {tuple(points0.shape)}")
    for name, value in (("points0", points0), ("matrix0", matrix0), ("matrix1", matrix1)):
        floating(name, value)
        if name != "points0" and value.shape != (batch, 3, 3):
            raise ValueError(f"{name} must have shape ({batch}, 3, 3), got {tuple(value.shape)}")
    same_device(points0=points0, matrix0=matrix0, matrix1=matrix1)
    work = compute_dtype(points0, matrix0)
    # inv_ex: inv would wait for the device to tell whether a matrix is singular
    source = _moved(points0.to(work), torch.linalg.inv_ex(matrix0.to(work)).inverse)
    points1 = _moved(source, matrix1.to(work))
    far = moved(torch.tensor([width - 1, height - 1], dtype=work, device="cpu"), points1.device)
    inside = ((points1 >= -1e-3) & (points1 <= far + 1e-3)).all(dim=2)
    return points1, inside


class LocalPair(Seeded, nn.Module):
    """Two views of the same images, and the matrices that take a location of the source to each.

    Args:
        view0: kornia's and this library's 2-D augmentations, applied in order.
        view1: the same for the other view.
        generator: as in MultiView.

    Raises:
        TypeError: a member is no kornia augmentation, whose geometry would not be known.
        ValueError: a member scatters patches, for which there is no matrix.

    Example:
        >>> import torch
        >>> from kornia.augmentation import RandomHorizontalFlip
        >>> from sslmed.augment import GrayJitter
        >>> views = LocalPair([RandomHorizontalFlip(), GrayJitter()], [GrayJitter()])
        >>> pair = views(torch.rand(2, 1, 8, 8))
        >>> pair.view0.shape, pair.matrix0.shape
        (torch.Size([2, 1, 8, 8]), torch.Size([2, 3, 3]))
    """

    def __init__(
        self,
        view0: Iterable[nn.Module],
        view1: Iterable[nn.Module],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.views: MultiView = MultiView(_Located("view0", view0), _Located("view1", view1), generator=generator)

    def forward_parameters(self, batch_shape: Sequence[int]) -> Params:
        """Draw what one call needs to be replayed, as in MultiView."""
        return self.views.forward_parameters(batch_shape)

    def forward(self, x: Tensor, params: Mapping[str, Tensor] | None = None) -> Pair:
        """Give the views of (B, C, H, W) and their matrices; `params` replay a call."""
        (view0, matrix0), (view1, matrix1) = self.views(x, params)
        return Pair(view0, view1, matrix0, matrix1)


class _Located(Seeded, nn.Module):
    """A view, and the product of its members' matrices."""

    def __init__(self, name: str, members: Iterable[nn.Module]) -> None:
        super().__init__()
        members = tuple(members)
        for member in members:
            if not isinstance(member, (GeometricAugmentationBase2D, IntensityAugmentationBase2D)):
                raise TypeError(f"{name} must hold kornia's 2-D augmentations, got {type(member).__name__}")
            if isinstance(member, Rearrangement):
                raise ValueError(f"{name} must move pixels by a matrix, got {type(member).__name__}")
        self.view = View(*members)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with without_autocast(x.device):
            y = working(x)
            matrix = torch.eye(3, dtype=y.dtype, device=x.device).expand(x.shape[0], 3, 3)
            for member in self.view:
                if isinstance(member, GeometricAugmentationBase2D):
                    # A member's own `transform_matrix` may be that of a call in another thread.
                    params = member.forward_parameters(y.shape)
                    step = member.generate_transformation_matrix(y, params, member.flags)
                    matrix = _product(step.to(matrix), matrix)
                    y = member(y, params=params)
                else:
                    y = member(y)
            return y.to(x.dtype), matrix


def _moved(points: Tensor, matrix: Tensor) -> Tensor:
    """Points (B, P, 2) through homographies (B, 3, 3)."""
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=2)
    moved = _product(homogeneous, matrix.transpose(1, 2))
    return moved[..., :2] / moved[..., 2:]


def _product(a: Tensor, b: Tensor) -> Tensor:
    # Not `@`: TF32 and autocast would round coordinates to a tenth of a pixel and worse.
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(dim=2)
