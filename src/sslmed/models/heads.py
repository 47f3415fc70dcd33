"""Heads on an encoder: projection and prediction MLPs, and the image and patch heads of Ellis et al.

Projection: Chen et al., "SimCLR", ICML 2020, section 2.1. Prediction: Grill et al., "BYOL", NeurIPS 2020, appendix.
Image and patch heads: Ellis et al., section III (f and g); the two-stage patch head is that of Misra and van der
Maaten, "PIRL", CVPR 2020.
"""

from __future__ import annotations

import torch
from torch import nn

from .. import _checks
from .._compat import without_autocast
from .._tensor import compute_dtype, unit_rows


class ProjectionHead(nn.Module):
    """An MLP from encoder features to the space of the contrast.

    Its output is not normalised: the losses do that.

    Args:
        in_dim: features of the encoder.
        hidden: width of the hidden layers.
        out_dim: width of the output.
        layers: number of linear layers, at least 2.
        batch_norm: put a batch norm before every ReLU.

    Raises:
        ValueError: a size below 1, or fewer than two layers.

    Example:
        >>> import torch
        >>> ProjectionHead(512, 256, 128)(torch.rand(4, 512)).shape
        torch.Size([4, 128])
    """

    def __init__(self, in_dim: int, hidden: int, out_dim: int, *, layers: int = 2, batch_norm: bool = False) -> None:
        super().__init__()
        _checks.integer("in_dim", in_dim, low=1)
        _checks.integer("hidden", hidden, low=1)
        _checks.integer("out_dim", out_dim, low=1)
        _checks.integer("layers", layers, low=2)
        self.in_dim = in_dim
        parts: list[nn.Module] = []
        for width in (in_dim, *[hidden] * (layers - 2)):
            parts.append(nn.Linear(width, hidden, bias=not batch_norm))
            parts.extend([nn.BatchNorm1d(hidden)] if batch_norm else [])
            parts.append(nn.ReLU(inplace=True))
        self.mlp: nn.Sequential = nn.Sequential(*parts, nn.Linear(hidden, out_dim))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project features (N, in_dim) to (N, out_dim)."""
        _check_rows(features, self.in_dim)
        return self.mlp(features)  # type: ignore[no-any-return]


class PredictionHead(nn.Module):
    """The predictor of BYOL and SimSiam: linear, batch norm, ReLU, linear.

    Args:
        dim: width of the projection, and of the output.
        hidden: width of the hidden layer.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import torch
        >>> PredictionHead(128, 512)(torch.rand(4, 128)).shape
        torch.Size([4, 128])
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        _checks.integer("dim", dim, low=1)
        _checks.integer("hidden", hidden, low=1)
        self.dim = dim
        self.mlp: nn.Sequential = nn.Sequential(
            nn.Linear(dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dim),
        )

    def forward(self, projection: torch.Tensor) -> torch.Tensor:
        """Predict (N, dim) from a projection (N, dim)."""
        _check_rows(projection, self.dim, name="projection")
        return self.mlp(projection)  # type: ignore[no-any-return]


class ImageHead(nn.Module):
    """Ellis et al.'s head f: pooled image features to a unit vector.

    Args:
        in_dim: features F of the encoder.
        out_dim: width of the output.
        batch_norm: standardise each output feature over the batch, without learned scale and shift, before rows are
            scaled to length 1. It removes what all images share; it is not in the paper.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import torch
        >>> v = ImageHead(512)(torch.rand(4, 512, 7, 7))
        >>> v.shape, bool((v.norm(dim=1) - 1).abs().max() < 1e-6)
        (torch.Size([4, 128]), True)
    """

    def __init__(self, in_dim: int, out_dim: int = 128, *, batch_norm: bool = False) -> None:
        super().__init__()
        _checks.integer("in_dim", in_dim, low=1)
        _checks.integer("out_dim", out_dim, low=1)
        self.in_dim = in_dim
        self.linear: nn.Linear = nn.Linear(in_dim, out_dim)
        self.norm: nn.Module = _standardise(out_dim, batch_norm)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            features: (N, F) pooled features, or a map (N, F, h, w), which is averaged over its positions.

        Returns:
            (N, out_dim) unit rows, float32 or wider.
        """
        expected = f"(N, {self.in_dim}) or (N, {self.in_dim}, h, w)"
        _checks.floating("features", features)
        _checks.shaped("features", features, expected, ndim=(2, 4))
        if features.shape[1] != self.in_dim:
            raise ValueError(f"features must have shape {expected}, got {tuple(features.shape)}")
        pooled = features.mean(dim=(2, 3)) if features.ndim == 4 else features
        return _unit_rows(self.norm(self.linear(pooled)))


class PatchHead(nn.Module):
    """Ellis et al.'s head g: the features of an image's patches, in the order given, to one unit vector.

    Args:
        in_dim: features F of the encoder.
        out_dim: width of the output.
        patches: patches P of an image, 36 for a 6 x 6 grid.
        style: "concat_linear" is the paper's text, one linear map of the P x F concatenated features
            (9 437 312 parameters for F = 2048, P = 36); "two_stage" is PIRL's, a linear map of each patch and
            one of the results (852 224).
        batch_norm: as in `ImageHead`.

    Raises:
        ValueError: a size below 1, or an unknown style.

    Example:
        >>> import torch
        >>> PatchHead(512, patches=9, style="two_stage")(torch.rand(4, 9, 512)).shape
        torch.Size([4, 128])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int = 128,
        *,
        patches: int = 36,
        style: str = "concat_linear",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_dim: int = _checks.integer("in_dim", in_dim, low=1)
        _checks.integer("out_dim", out_dim, low=1)
        self.patches: int = _checks.integer("patches", patches, low=1)
        self.style: str = _checks.choice("style", style, ("concat_linear", "two_stage"))
        self.each: nn.Module = nn.Linear(in_dim, out_dim) if style == "two_stage" else nn.Identity()
        self.all: nn.Linear = nn.Linear(patches * (out_dim if style == "two_stage" else in_dim), out_dim)
        self.norm: nn.Module = _standardise(out_dim, batch_norm)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embed images by their patches.

        Args:
            features: (N, P, F) pooled features.

        Returns:
            (N, out_dim) unit rows, float32 or wider.
        """
        expected = f"(N, {self.patches}, {self.in_dim})"
        _checks.floating("features", features)
        _checks.shaped("features", features, expected, ndim=3)
        if features.shape[1:] != (self.patches, self.in_dim):
            raise ValueError(f"features must have shape {expected}, got {tuple(features.shape)}")
        return _unit_rows(self.norm(self.all(self.each(features).flatten(1))))

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"patches={self.patches}, style={self.style!r}"


def _standardise(dim: int, batch_norm: bool) -> nn.Module:
    """Batch norm without learned scale and shift, or nothing."""
    return nn.BatchNorm1d(dim, affine=False) if batch_norm else nn.Identity()


def _unit_rows(x: torch.Tensor) -> torch.Tensor:
    """Scale each row to length 1 in at least float32; a row of zeros stays zero."""
    with without_autocast(x.device):
        return unit_rows(x.to(compute_dtype(x)))


def _check_rows(features: torch.Tensor, dim: int, *, name: str = "features") -> None:
    _checks.floating(name, features)
    _checks.shaped(name, features, f"(N, {dim})", ndim=2)
    if features.shape[1] != dim:
        raise ValueError(f"{name} must have shape (N, {dim}), got {tuple(features.shape)}")
