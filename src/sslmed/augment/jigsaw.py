"""Patch rearrangement: PatchJigsaw (PIRL) and CrossPatchJigsaw (Ellis et al., Eq. 4 to 6).

Cross-patch jigsaw picks one patch; its row and its column, the focal patches, stay in their cross and all
others are shuffled among themselves. What befalls the focal patches is Eq. (6), P' = Rot180(FlipV(FlipH(P))).
Read patch by patch that is the identity, though the text speaks of flips and of a "weaker augmentation". It
is all true when the flips act on the focal strips as wholes and the final turn sets each patch upright again:
`focal="mirror"`, the default, reverses the row strip left to right and the column strip top to bottom, the
crossing patch staying. `focal="identity"` is the literal reading. `focal="random"` flips each focal patch at
random.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import choice
from .._compat import cached_tensors, moved
from ._base import Rearrangement
from ._draws import Params
from ._patches import Grid, checked_grid, divided, gather_patches, permute_patches


class PatchJigsaw(Rearrangement):
    """Shuffle the patches of each image by a uniformly random permutation.

    Args:
        grid: (R, S), rows and columns of patches.
        remainder: what to do when the grid does not divide the image: "crop" cuts images and masks to the
            largest centred part that it divides, so that what comes back is **smaller** (225 with a grid of 6
            gives 222), skipped images included; "error" raises.
        p: probability that an image is shuffled.
        same_on_batch: one permutation for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        order: (B, R * S) int64; slot k of the output holds patch order[:, k] of the input.

    Raises:
        ValueError: the image is smaller than the grid, or not divisible where `remainder="error"`.

    Reference:
        Misra and van der Maaten, Self-supervised learning of pretext-invariant representations, CVPR 2020,
        section 3.2.

    Example:
        >>> import torch
        >>> from sslmed.augment.functional import permute_patches
        >>> augment = PatchJigsaw(grid=(3, 3))
        >>> x = torch.rand(2, 1, 96, 96)
        >>> params = augment.forward_parameters(x.shape)
        >>> y = augment(x, params=params)
        >>> torch.equal(permute_patches(y, params["order"].argsort(1), (3, 3)), x)
        True
    """

    names: tuple[str, ...] = ("order",)

    def __init__(
        self,
        *,
        grid: Grid = (3, 3),
        remainder: str = "crop",
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim, generator=generator)
        self.grid: Grid = checked_grid(grid)
        self.remainder: str = choice("remainder", remainder, ("crop", "error"))

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"grid={self.grid}, remainder={self.remainder!r}, {super().extra_repr()}"

    def draws(self) -> int:
        """One sort key for each patch."""
        return self.grid[0] * self.grid[1]

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, R * S) to permutations: their ranks."""
        return {"order": u.argsort(dim=1, stable=True), **self._output_size(len(u), size)}

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Shuffle every row."""
        return permute_patches(x, params["order"], self.grid)

    def _unmoved(self, params: Params) -> Params:
        """The identity permutation."""
        order = params["order"]
        return {
            **params,
            "order": torch.arange(order.shape[1], dtype=order.dtype, device=order.device).expand_as(order),
        }

    def fit(self, x: Tensor) -> Tensor:
        """Crop to the grid at the centre, or raise where `remainder="error"`."""
        height, width = self._fitted((x.shape[-2], x.shape[-1]))
        top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
        return x[..., top : top + height, left : left + width]

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        fitted = size[0] // self.grid[0] * self.grid[0], size[1] // self.grid[1] * self.grid[1]
        if 0 in fitted or (fitted != size and self.remainder == "error"):
            raise ValueError(
                f"grid must divide the image size {size[0]} x {size[1]}, got {self.grid}"
                + ("" if 0 in fitted else "; remainder='crop' cuts the image to the grid")
            )
        return fitted

    def _output_size(self, rows: int, size: tuple[int, int]) -> Params:
        """How kornia's containers learn that later members see another size; absent where nothing changes."""
        fitted = self._fitted(size)
        if fitted == size:
            return {}
        return {"output_size": torch.tensor([fitted], dtype=torch.long, device="cpu").expand(rows, 2)}


class CrossPatchJigsaw(PatchJigsaw):
    """Shuffle all patches but a random row and column, which are mirrored or kept.

    One patch is drawn uniformly; the R + S - 1 patches of its row and column are focal, the others are
    permuted among themselves uniformly (fixed points allowed).

    Args:
        grid: (R, S), rows and columns of patches.
        focal: "mirror" reverses the focal row left to right and the focal column top to bottom, the crossing
            patch staying and every patch upright; "identity" leaves focal patches alone, Eq. (6) read
            literally; "random" gives each focal patch a random one of {unchanged, flipped left to right, top
            to bottom, both}, in its place.
        remainder: "crop" cuts images to the grid at the centre, so that what comes back is smaller; "error"
            raises.
        p: probability that an image is changed.
        same_on_batch: one draw for the whole batch.
        keepdim: give (C, H, W) back for (C, H, W).
        generator: CPU generator of the draws; None for torch's global one.

    Parameters (of `forward_parameters`):
        order: (B, R * S) int64; slot k of the output holds patch order[:, k] of the input.
        focal: (B, R * S) bool, the focal slots.
        flip: (B, R * S) int64, with `focal="random"` only: 0 none, 1 left to right, 2 top to bottom, 3 both.

    Raises:
        ValueError: the image is smaller than the grid, or not divisible where `remainder="error"`.

    Reference:
        Ellis et al., cross-patch jigsaw, Eq. (4) to (6), Fig. 3; the module's docstring says why "mirror" is the
        default.

    Example:
        >>> import torch
        >>> augment = CrossPatchJigsaw(grid=(6, 6))
        >>> params = augment.forward_parameters((2, 1, 216, 216))
        >>> params["focal"].sum(1)
        tensor([11, 11])
        >>> augment(torch.rand(2, 1, 216, 216), params=params).shape
        torch.Size([2, 1, 216, 216])
    """

    names: tuple[str, ...] = ("order", "focal")

    def __init__(
        self,
        *,
        grid: Grid = (6, 6),
        focal: str = "mirror",
        remainder: str = "crop",
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            grid=grid,
            remainder=remainder,
            p=p,
            same_on_batch=same_on_batch,
            keepdim=keepdim,
            generator=generator,
        )
        self.focal: str = choice("focal", focal, ("mirror", "identity", "random"))
        if focal == "random":
            self.names = ("order", "focal", "flip")

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"focal={self.focal!r}, {super().extra_repr()}"

    def _others(self) -> int:
        return (self.grid[0] - 1) * (self.grid[1] - 1)

    def draws(self) -> int:
        """The crossing patch, a sort key for each patch off the cross and, for "random", flips."""
        return 1 + self._others() + (self.grid[0] * self.grid[1] if self.focal == "random" else 0)

    def parameters_from(self, u: Tensor, size: tuple[int, int]) -> Params:
        """Map uniforms (B, K) to the cross and the permutation of the rest."""
        others = self._others()
        crossing = (u[:, 0] * (self.grid[0] * self.grid[1])).long()
        order, rest, focal = _crosses(crossing, self.grid, mirror=self.focal == "mirror")
        ranks = u[:, 1 : 1 + others].argsort(dim=1, stable=True)
        params = {"order": order.scatter(1, rest, rest.gather(1, ranks)), "focal": focal}
        if self.focal == "random":
            params["flip"] = (u[:, 1 + others :] * 4).long() * focal
        return {**params, **self._output_size(len(u), size)}

    def _unmoved(self, params: Params) -> Params:
        """The identity permutation, and no flip."""
        unmoved = super()._unmoved(params)
        return {**unmoved, "flip": torch.zeros_like(params["flip"])} if self.focal == "random" else unmoved

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Rearrange every row."""
        if self.focal != "random":
            return super().transform(x, params)
        return gather_patches(
            x, moved(params["order"], x.device), divided(x, self.grid), moved(params["flip"], x.device)
        )


def _cross(crossing: Tensor, grid: Grid, *, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What the crossing patch (N,) settles.

    Returns:
        The order with the rest in place (N, R * S), the slots off the cross (N, (R - 1) * (S - 1)) in order, and
        the focal slots (N, R * S) bool.
    """
    rows, columns = grid
    i, j = crossing[:, None] // columns, crossing[:, None] % columns
    slot = torch.arange(rows * columns, device=crossing.device)
    r, s = slot // columns, slot % columns
    focal = (r == i) | (s == j)
    order = slot.expand(len(crossing), -1)
    if mirror:
        order = torch.where(r == i, r * columns + _mirrored(s, j, columns), order)
        order = torch.where((s == j) & (r != i), _mirrored(r, i, rows) * columns + s, order)
    return order, focal.long().argsort(dim=1, stable=True)[:, : (rows - 1) * (columns - 1)], focal


@cached_tensors(maxsize=8)
def _every_cross(grid: Grid, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
    return _cross(torch.arange(grid[0] * grid[1], device="cpu"), grid, mirror=mirror)


def _crosses(crossing: Tensor, grid: Grid, *, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
    """`_cross`, looked up where the table is small: a megabyte at most."""
    if grid[0] * grid[1] > 256 or torch.compiler.is_compiling():
        return _cross(crossing, grid, mirror=mirror)
    order, rest, focal = _every_cross(grid, mirror)
    return order.index_select(0, crossing), rest.index_select(0, crossing), focal.index_select(0, crossing)


def _mirrored(position: Tensor, centre: Tensor, count: int) -> Tensor:
    """Where the positions of a strip come from when it is reversed around a fixed `centre`."""
    rank = position - (position > centre).long()  # among the positions other than the centre
    mirrored = count - 2 - rank
    return torch.where(position == centre, position, mirrored + (mirrored >= centre).long())
