"""Intensity, Rearrangement and Geometry: kornia's 2-D augmentation bases with one randomness contract.

Parameters are drawn and replayed as `_draws` says; `transform` applies them. Noise of every pixel is a function of
a seed that is drawn the same way (`_fields`), computed on the images' device.

This is the only file that touches kornia's bases. It follows the contract of kornia 0.9 and departs from it
where that contract loses something: `generator=` is honoured, an unknown keyword is a TypeError, a caller's
`params` are neither stored nor changed, and in eager mode only the rows that the gate selects are computed (a
rearrangement, which computes nothing, copies the others as they are).

All of it compiles to one graph, except for a draw from a `generator=` of its own, which torch.compile cannot
trace: there draw outside the graph, `params = aug.forward_parameters(x.shape)`, and pass `params=`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from kornia.augmentation import GeometricAugmentationBase2D, IntensityAugmentationBase2D
from torch import Tensor, nn

from .._checks import floating, number, shaped
from .._compat import moved, without_autocast
from .._tensor import compute_dtype
from ._draws import Draws, Params, not_empty
from ._source import cpu_generator


class _OneDraw(Draws):
    """What all bases share: the draw, its gate, and `transform`, which subclasses implement."""

    keepdim: bool

    def __init__(
        self,
        *,
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(p=number("p", p, low=0, high=1), same_on_batch=same_on_batch, keepdim=keepdim)  # type: ignore[call-arg]
        self.generator: torch.Generator | None = cpu_generator(generator)

    def __repr__(self) -> str:
        return nn.Module.__repr__(self)  # type: ignore[arg-type]  # every subclass is a module

    def extra_repr(self) -> str:
        """Settings shared by all augmentations, for `repr`."""
        return f"p={self.p:g}, same_on_batch={self.same_on_batch}"

    def transform(self, x: Tensor, params: Params) -> Tensor:
        """Apply `params`, on whatever device they are, to every row of `x` (B, C, H, W). Draws nothing."""
        raise NotImplementedError

    def fit(self, x: Tensor) -> Tensor:
        """Bring `x` to the shape that comes back, for selected and skipped rows alike. The identity here."""
        return x

    def forward(self, input: Tensor, params: Mapping[str, Tensor] | None = None, *, data_keys: Any = None) -> Tensor:
        """Augment images.

        Args:
            input: images (B, C, H, W), floating point; (C, H, W) comes back as (1, C, H, W) unless `keepdim`.
            params: parameters of an earlier call, to replay it exactly; None draws new ones. The mapping is
                only read.
            data_keys: accepted because kornia's containers pass it; not used.

        Returns:
            Augmented images of input's dtype and device.

        Raises:
            TypeError: `input` is no floating point tensor.
            ValueError: `input` has another number of dimensions, no channel or no pixel (a batch may be
                empty), or `params` lack a name or have another batch size.
        """
        floating("input", input)
        shaped("input", input, "(B, C, H, W) or (C, H, W)", ndim=(2, 3, 4))
        not_empty("input", input.shape)
        with without_autocast(input.device):
            x: Tensor = self.transform_tensor(input)  # type: ignore[attr-defined]
            drawn = self._drawn(x.shape, x.device) if params is None else self._replayed(params, x)
            self._commit_state(params=drawn)  # type: ignore[attr-defined]
            output: Tensor = self.apply_func(x, drawn, self.flags)  # type: ignore[attr-defined]
        return self.transform_output_tensor(output, input.shape) if self.keepdim else output  # type: ignore[attr-defined]

    def transform_inputs(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Apply the gate and, to the rows it selects, the transform (kornia's hook)."""
        # Transforms write channel by channel; with channels last, each of their steps would take several times as long.
        x = self.fit(input).contiguous()
        if self.p == 1.0:
            return self.apply_transform(x, params, flags)
        gate = params["batch_prob"] > 0.5
        if torch.compiler.is_compiling():  # a row count that depends on data would break the graph
            there = gate.to(x.device).view(-1, 1, 1, 1)
            return torch.where(there, self.apply_transform(x, params, flags), x)
        rows = gate.nonzero().flatten()
        if len(rows) == len(gate):
            return self.apply_transform(x, params, flags)
        # Also where there are none: what the transform refuses is refused whatever the draw.
        chosen = {name: params[name].index_select(0, moved(rows, params[name].device)) for name in self.names}
        changed = self.apply_transform(x.index_select(0, moved(rows, x.device)), chosen, flags)
        images = list(x.unbind())
        for row, image in zip(rows.tolist(), changed.unbind(), strict=True):
            images[row] = image
        return torch.stack(images)  # index_copy moves pixel by pixel on a CPU, nearly three times slower

    def apply_transform(
        self,
        input: Tensor,
        params: Params,
        flags: dict[str, Any] | None = None,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Transform every row in at least float32 and give the dtype back (kornia's hook)."""
        work = compute_dtype(input)
        return self.transform(input.to(work), params).to(input.dtype)


class Intensity(_OneDraw, IntensityAugmentationBase2D):  # type: ignore[misc]
    """Base of augmentations that change values only: masks, boxes and keypoints pass unchanged."""

    def transform_masks(
        self,
        input: Tensor,
        params: Params,
        flags: dict[str, Any],
        transform: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the masks as they are (kornia's hook)."""
        return super().transform_masks(input, dict(params), flags, transform, **kwargs)


class Geometry(_OneDraw, GeometricAugmentationBase2D):  # type: ignore[misc]
    """Base of augmentations that move pixels by a matrix, as members of views, which take images alone."""

    _compute_matrix_lazily = True

    def transform(self, x: Tensor, params: Params, *, mode: str = "bilinear") -> Tensor:
        """Move the pixels of every row; `mode` is "nearest" for masks, which have no values in between."""
        raise NotImplementedError

    def matrix(self, params: Params, like: Tensor) -> Tensor:
        """Matrices (B, 3, 3), of like's dtype and device, that take (x, y, 1) in pixels of an image to its view."""
        raise NotImplementedError

    def compute_transformation(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        """Return the matrices of all rows (kornia's hook)."""
        return self.matrix(params, input)

    def transform_masks(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Raise: views are made of images."""
        raise NotImplementedError(f"{type(self).__name__} takes images only, no masks")


class Rearrangement(_OneDraw, GeometricAugmentationBase2D):  # type: ignore[misc]
    """Base of augmentations that move whole pixels; masks go through the very same permutation.

    There is no 3x3 matrix for such a map, so `transform_matrix` is the identity; boxes and keypoints raise.
    """

    _compute_matrix_lazily = True

    def _unmoved(self, params: Params) -> Params:
        """Parameters of the same shapes and devices that leave every pixel in its place."""
        raise NotImplementedError

    def transform_inputs(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Move the pixels of the rows that the gate selects (kornia's hook).

        Skipped rows have to be copied anyway. To copy them unmoved in the same pass is faster than to take the
        selected rows out, move their pixels and put them back.
        """
        if self.p < 1.0:
            gate = params["batch_prob"] > 0.5
            unmoved = self._unmoved(params)
            chosen = {
                name: torch.where(moved(gate, params[name].device).unsqueeze(1), params[name], unmoved[name])
                for name in self.names
            }
            params = {**params, **chosen}
        return self.apply_transform(self.fit(input), params, flags)

    def generate_transformation_matrix(self, input: Tensor, params: Params, flags: dict[str, Any]) -> Tensor:
        """Return identity matrices, whatever the gate says (kornia's hook)."""
        return self.identity_matrix(self.transform_tensor(input))

    def _matrix_matches_params(self, params: Params) -> bool:
        # The identity fits any parameters. kornia would rebuild it, and so break compiled graphs, because the
        # dict that is kept is a copy of the caller's.
        return True

    def apply_transform(
        self,
        input: Tensor,
        params: Params,
        flags: dict[str, Any] | None = None,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Move the pixels of every row; values are copied, so any dtype serves (kornia's hook)."""
        return self.transform(input, params)

    def transform_masks(
        self,
        input: Tensor,
        params: Params,
        flags: dict[str, Any],
        transform: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Send masks through the permutation of their images (kornia's hook)."""
        return super().transform_masks(input, dict(params), flags, transform, **kwargs)

    def apply_transform_mask(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Masks of selected rows (kornia's hook)."""
        return self.transform(self.fit(input), params)

    def apply_non_transform_mask(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Masks of skipped rows (kornia's hook)."""
        return self.fit(input)

    def transform_boxes(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise: a box whose content is scattered is no box."""
        raise NotImplementedError(f"{type(self).__name__} scatters patches, so boxes cannot be transformed; use a mask")

    def transform_keypoints(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise: keypoints are not carried along."""
        raise NotImplementedError(f"{type(self).__name__} does not carry keypoints along; use a mask")

    def inverse_transform(
        self,
        input: Tensor,
        flags: dict[str, Any],
        transform: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Raise: kornia gives the inverse no parameters."""
        raise NotImplementedError(
            f"{type(self).__name__} has no matrix to invert; undo a permutation with "
            "sslmed.augment.functional.permute_patches(y, order.argsort(1), grid)"
        )
