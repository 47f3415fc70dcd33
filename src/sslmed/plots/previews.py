"""What an augmentation does to images, seen side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from ._panels import panels
from ._style import styled
from .galleries import _corner, _titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DECIBELS = 80.0
_HEADS = ("original", "result", "difference", "spectrum before", "spectrum after")


@styled
def preview(
    augment: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    *,
    titles: Sequence[str] | None = None,
) -> Figure:
    """One row for each image: original, result, difference, and the spectra of both.

    The result is shown in its original's window, from least to greatest value, and saturates beyond it. The
    difference has its own scale, written in its corner, in the images' units. Spectra are centred and show 80 dB
    below the original's greatest magnitude but for its mean. Images of several channels are shown by their mean.

    Args:
        augment: any augmentation or function that gives (B, C, H, W) for (B, C, H, W); called once, on the whole
            batch, without gradients.
        images: (B, C, H, W), floating point, any range and device.
        titles: B texts beside the rows.

    Returns:
        The figure.

    Raises:
        TypeError: `images`, or what `augment` gives, is no floating point tensor.
        ValueError: wrong shapes or lengths, no image, or values that are not finite.

    Example:
        >>> import torch
        >>> figure = preview(torch.nn.AvgPool2d(3, 1, 1), torch.rand(2, 1, 16, 16))
        >>> len(figure.axes)
        10
    """
    _checks.floating("images", images)
    _checks.shaped("images", images, "(B, C, H, W)", ndim=4)
    if not images.numel():
        raise ValueError(f"images must hold at least one image, got shape {tuple(images.shape)}")
    _titled(titles, len(images))
    with torch.no_grad():
        results = augment(images)
    _checks.floating("what augment gives", results)
    _checks.same_shape("images", images, "what augment gives", results)
    originals, changed = _gray("images", images), _gray("what augment gives", results)
    figure, rows = panels([images.shape[2] / images.shape[3]] * len(images), _HEADS, titles, width=1.9)
    for axes, before, after in zip(rows, originals, changed, strict=True):
        low, high = float(before.min()), float(before.max())
        for panel, picture in zip(axes, (before, after), strict=False):
            panel.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")
        difference = after - before
        scale = float(np.abs(difference).max())
        shown = scale or 1.0  # an empty range has no colours
        axes[2].imshow(difference, cmap="PuOr", vmin=-shown, vmax=shown, interpolation="bilinear")
        _corner(axes[2], f"±{scale:.2g}")
        for panel, level in zip(axes[3:], _spectra(before, after), strict=True):
            panel.imshow(level, cmap="gray", vmin=-_DECIBELS, vmax=0)
    return figure


def _gray(name: str, images: torch.Tensor) -> npt.NDArray[np.float64]:
    values = images.detach().cpu().double().mean(dim=1).numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got nan or infinite values")
    return np.asarray(values)


def _spectra(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Centred magnitudes in dB below the greatest one of `before`, whose mean is taken off both."""
    both = [np.abs(np.fft.fftshift(np.fft.fft2(image - before.mean()))) for image in (before, after)]
    peak = float(both[0].max()) or 1.0
    return tuple(20 * np.log10(np.maximum(magnitude / peak, 10 ** (-_DECIBELS / 20))) for magnitude in both)
